//! Fair turns: whose questions the sources are asked.
//!
//! A process in a container can make thousands of pid namespaces, each of which may be a container and
//! is asked about. So few starts of one container are asked about at a time, and the others wait for
//! these, not other containers' starts. A queue is only of ids: a start that waits is kept by the
//! table, and its question is made when its turn comes.

use crate::facts::StartId;
use std::collections::{HashMap, VecDeque};

/// Starts in one container that are asked about at a time.
const AT_ONCE: usize = 4;

/// Starts that are asked about, and those that wait for it.
#[derive(Debug, Default)]
pub(super) struct Turns {
    /// The lane of each start that waits or is asked about.
    lanes_of: HashMap<StartId, u64>,
    lanes: HashMap<u64, Lane>,
}

/// The starts in one container, or in one cgroup that is not in a container.
#[derive(Debug, Default)]
struct Lane {
    asking: usize,
    waiting: VecDeque<StartId>,
    /// Starts that have been asked about before.
    again: VecDeque<StartId>,
}

impl Turns {
    /// Whether a start waits or is asked about.
    pub(super) fn has(&self, start: StartId) -> bool {
        self.lanes_of.contains_key(&start)
    }

    /// Queues a start in the lane of a cgroup; nothing if it waits already. Returns whether it is its
    /// turn. The cgroup's own start comes first, and those that have been asked about before come
    /// last.
    pub(super) fn queue(&mut self, start: StartId, lane: u64, is_again: bool) -> bool {
        if self.has(start) {
            return false;
        }
        self.lanes_of.insert(start, lane);
        let of = self.lanes.entry(lane).or_default();
        if of.asking < AT_ONCE {
            of.asking += 1;
            return true;
        }
        if start == StartId::of(lane) {
            of.waiting.push_front(start);
        } else if is_again {
            of.again.push_back(start);
        } else {
            of.waiting.push_back(start);
        }
        false
    }

    /// Ends the turn of a start. Returns the next one of its lane, whose turn it is then.
    pub(super) fn end(&mut self, start: StartId) -> Option<StartId> {
        let lane = self.lanes_of.remove(&start)?;
        let of = self.lanes.get_mut(&lane)?;
        let next = of.waiting.pop_front().or_else(|| of.again.pop_front());
        if next.is_none() {
            of.asking -= 1;
            if of.asking == 0 {
                self.lanes.remove(&lane);
            }
        }
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::Subject;
    use proptest::prelude::*;
    use std::collections::HashSet;

    fn put(cgroup: u64, pid: u32) -> StartId {
        StartId {
            cgroup,
            put: Some(Subject { pid, started: None }),
        }
    }

    #[test]
    fn others_do_not_wait_for_the_starts_of_one_container() {
        let mut turns = Turns::default();
        let now = (0..4000)
            .filter(|pid| turns.queue(put(1, *pid), 1, pid % 2 == 0))
            .count();
        assert_eq!(now, AT_ONCE);
        assert!(turns.queue(StartId::of(2), 2, false), "another container");
        assert!(
            !turns.queue(StartId::of(3), 1, false),
            "a cgroup in the first one"
        );
        assert!(!turns.queue(StartId::of(1), 1, true));
        assert_eq!(turns.end(put(1, 0)), Some(StartId::of(1)), "its own start");
        assert_eq!(turns.end(put(1, 1)), Some(put(1, 5)), "the first question");
    }

    proptest! {
        #![proptest_config(ProptestConfig { rng_seed: proptest::test_runner::RngSeed::Fixed(11), ..ProptestConfig::default() })]

        /// Each queued start gets exactly one turn, in order, and nothing is left in the end.
        #[test]
        fn nothing_is_lost(starts in prop::collection::vec((0u64..3, 0u32..50, any::<bool>()), 0..200), ends in prop::collection::vec(0usize..8, 0..400)) {
            let mut turns = Turns::default();
            let mut asked: Vec<StartId> = Vec::new();
            let mut queued = HashSet::new();
            let mut served = 0;
            let mut ends = ends.into_iter();
            for (lane, pid, is_again) in starts {
                let start = put(lane, pid);
                if turns.has(start) {
                    prop_assert!(!turns.queue(start, lane, is_again));
                } else {
                    queued.insert(start);
                    served += 1;
                    if turns.queue(start, lane, is_again) {
                        asked.push(start);
                    }
                }
                if let Some(at) = ends.next() && at < asked.len() {
                    asked.extend(turns.end(asked[at]));
                    queued.remove(&asked.remove(at));
                    served -= 1;
                }
                let of = |lane: u64| asked.iter().filter(|start| start.cgroup == lane).count();
                prop_assert!((0..3).all(|lane| of(lane) <= AT_ONCE));
            }
            while let Some(start) = asked.pop() {
                prop_assert!(queued.remove(&start));
                asked.extend(turns.end(start));
                served -= 1;
            }
            prop_assert_eq!(served, 0);
            prop_assert!(queued.is_empty() && turns.lanes.is_empty() && turns.lanes_of.is_empty());
        }
    }
}
