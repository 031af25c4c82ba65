//! Fair turns: whose questions the sources are asked.
//!
//! A process in a container can make thousands of pid namespaces, each of which may be a container and
//! is asked about. So few starts of one container are asked about at a time, and the others wait for
//! these, not other containers' starts. A container can have containers of its own below its cgroup:
//! there the cgroups take turns, so that none waits for all starts of another one. A queue is only of
//! ids: a start that waits is kept by the table, and its question is made when its turn comes.

use crate::facts::StartId;
use std::collections::{HashMap, VecDeque};

/// Starts in one container that are asked about at a time.
const AT_ONCE: usize = 4;

/// Containers above a start that count: a container can make cgroups of any depth.
pub(super) const MOST_ABOVE: usize = 8;

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
    waiting: Queue,
}

/// The starts that wait in a cgroup, and in the containers below it.
#[derive(Debug, Default)]
struct Queue {
    own: VecDeque<StartId>,
    /// Starts that have been asked about before.
    again: VecDeque<StartId>,
    below: HashMap<u64, Queue>,
    /// Whose turn is next: the cgroup's own starts (`None`), or those of a container below it. Only
    /// those in which a start waits, each one once.
    order: VecDeque<Option<u64>>,
}

impl Queue {
    fn below(&mut self, cgroup: u64) -> &mut Self {
        let order = &mut self.order;
        self.below.entry(cgroup).or_insert_with(|| {
            order.push_back(Some(cgroup));
            Self::default()
        })
    }

    /// The cgroup's own start comes first, and those that have been asked about before come last.
    fn push(&mut self, start: StartId, is_again: bool) {
        if self.own.is_empty() && self.again.is_empty() {
            self.order.push_back(None);
        }
        if start.process.is_none() {
            self.own.push_front(start);
        } else if is_again {
            self.again.push_back(start);
        } else {
            self.own.push_back(start);
        }
    }

    fn pop(&mut self) -> Option<StartId> {
        let turn = self.order.pop_front()?;
        let (next, is_empty) = if let Some(cgroup) = turn {
            let below = self.below.get_mut(&cgroup)?;
            let next = below.pop();
            let is_empty = below.order.is_empty();
            if is_empty {
                self.below.remove(&cgroup);
            }
            (next, is_empty)
        } else {
            let next = self.own.pop_front().or_else(|| self.again.pop_front());
            (next, self.own.is_empty() && self.again.is_empty())
        };
        if !is_empty {
            self.order.push_back(turn);
        }
        next
    }
}

impl Turns {
    /// Whether a start waits or is asked about.
    pub(super) fn has(&self, start: StartId) -> bool {
        self.lanes_of.contains_key(&start)
    }

    /// Queues a start; nothing if it waits already. `above` has the cgroups of the containers that it
    /// is in, the outermost first. Returns whether it is its turn.
    pub(super) fn queue(&mut self, start: StartId, above: &[u64], is_again: bool) -> bool {
        if self.has(start) {
            return false;
        }
        let lane = above.first().copied().unwrap_or(start.cgroup);
        self.lanes_of.insert(start, lane);
        let of = self.lanes.entry(lane).or_default();
        if of.asking < AT_ONCE {
            of.asking += 1;
            return true;
        }
        let below = above.iter().copied().chain([start.cgroup]).skip(1);
        let queue = below.fold(&mut of.waiting, Queue::below);
        queue.push(start, is_again);
        false
    }

    /// Ends the turn of a start. Returns the next one of its lane, whose turn it is then.
    pub(super) fn end(&mut self, start: StartId) -> Option<StartId> {
        let lane = self.lanes_of.remove(&start)?;
        let of = self.lanes.get_mut(&lane)?;
        let next = of.waiting.pop();
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
            process: Some(Subject { pid, started: None }),
        }
    }

    #[test]
    fn others_do_not_wait_for_the_starts_of_one_container() {
        let mut turns = Turns::default();
        let now = (0..4000)
            .filter(|pid| turns.queue(put(1, *pid), &[], pid % 2 == 0))
            .count();
        assert_eq!(now, AT_ONCE);
        assert!(turns.queue(StartId::of(2), &[], false), "another container");
        assert!(!turns.queue(StartId::of(1), &[], true));
        assert_eq!(turns.end(put(1, 0)), Some(StartId::of(1)), "its own start");
        assert_eq!(turns.end(put(1, 1)), Some(put(1, 5)), "the first question");
    }

    #[test]
    fn containers_in_one_container_take_turns() {
        let mut turns = Turns::default();
        let mut asked: VecDeque<_> = (0..4000).map(|pid| put(1, pid)).collect();
        asked.retain(|start| turns.queue(*start, &[], false));
        // A container below it makes many cgroups, and then another one begins.
        let many: Vec<_> = (100..1100).map(StartId::of).collect();
        for start in [StartId::of(10)].iter().chain(&many) {
            let above = [1, 10];
            let above = if *start == StartId::of(10) {
                &above[..1]
            } else {
                &above
            };
            assert!(!turns.queue(*start, above, false));
        }
        assert!(!turns.queue(StartId::of(11), &[1], true));
        let mut next = || {
            let next = turns.end(asked.pop_front().unwrap()).unwrap();
            asked.push_back(next);
            next
        };
        let expected = [
            put(1, 4),
            StartId::of(10),
            StartId::of(11),
            put(1, 5),
            many[0],
            put(1, 6),
            many[1],
        ];
        assert_eq!(expected.map(|_| next()), expected);
    }

    proptest! {
        #![proptest_config(ProptestConfig { rng_seed: proptest::test_runner::RngSeed::Fixed(11), ..ProptestConfig::default() })]

        /// Each queued start gets exactly one turn, and nothing is left in the end.
        #[test]
        fn nothing_is_lost(starts in prop::collection::vec((0u64..3, prop::collection::vec(3u64..6, 0..3), 0u32..50, any::<bool>()), 0..200), ends in prop::collection::vec(0usize..8, 0..400)) {
            let mut turns = Turns::default();
            let mut asked: Vec<StartId> = Vec::new();
            let mut queued = HashSet::new();
            let mut lanes = HashMap::new();
            let mut ends = ends.into_iter();
            for (lane, below, pid, is_again) in starts {
                // The last one is the start's own cgroup.
                let mut above = [vec![lane], below].concat();
                let own = above.pop().unwrap();
                let start = put(own, 1000 * u32::try_from(lane).unwrap() + pid);
                let is_new = queued.insert(start);
                prop_assert_eq!(is_new, !turns.has(start));
                lanes.insert(start, lane);
                if turns.queue(start, &above, is_again) {
                    prop_assert!(is_new);
                    asked.push(start);
                }
                if let Some(at) = ends.next() && at < asked.len() {
                    asked.extend(turns.end(asked[at]));
                    queued.remove(&asked.remove(at));
                }
                let of = |lane: u64| asked.iter().filter(|start| lanes[start] == lane).count();
                prop_assert!((0..3).all(|lane| of(lane) <= AT_ONCE));
            }
            while let Some(start) = asked.pop() {
                prop_assert!(queued.remove(&start));
                asked.extend(turns.end(start));
            }
            prop_assert!(queued.is_empty() && turns.lanes.is_empty() && turns.lanes_of.is_empty());
        }
    }
}
