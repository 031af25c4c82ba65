//! Fair turns: whose questions the sources are asked.
//!
//! A process in a container can make thousands of pid namespaces, each of which may be a container and
//! is asked about. So few starts of one container are asked about at a time, and the others wait for
//! these, not other containers' starts. A container can have containers of its own below its cgroup:
//! there the cgroups take turns, so that none waits for all starts of another one.
//!
//! After a time without an agent there can be thousands of starts to ask about. So few questions are
//! in memory at a time, and those about new containers do not wait for the others. A queue is only of
//! ids: a start that waits is kept by the table, and its question is made when its turn comes.

use crate::facts::StartId;
use std::collections::{HashMap, VecDeque};

/// Starts in one container that are asked about at a time.
const AT_ONCE: usize = 4;

/// New containers that are asked about at a time: more than one source that does not answer holds up
/// until it is known to hang.
const NEW_AT_ONCE: usize = 128;

/// Starts from before the agent, and further ones in the same container, that are asked about at a
/// time.
const EARLIER_AT_ONCE: usize = 8;

/// Starts that are asked about again at a time.
const AGAIN_AT_ONCE: usize = 4;

/// Containers above a start that count: a container can make cgroups of any depth.
pub(super) const MOST_ABOVE: usize = 8;

/// Why a start is asked about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Occasion {
    /// It began now.
    New,
    /// It began before this agent.
    Earlier,
    /// It has been asked about before.
    Again,
}

impl Occasion {
    const ALL: [Self; 3] = [Self::New, Self::Earlier, Self::Again];
}

/// Starts that are asked about, and those that wait for it.
#[derive(Debug)]
pub(super) struct Turns {
    /// Each start that waits or is asked about.
    starts: HashMap<StartId, Place>,
    lanes: HashMap<u64, Lane>,
    /// By occasion.
    lines: [Line; 3],
}

/// The lane of a start, and the line that its turn counts in; before its turn, its occasion.
#[derive(Debug, Clone, Copy)]
struct Place {
    lane: u64,
    turn: Occasion,
}

/// The starts in one container, or in one cgroup that is not in a container.
#[derive(Debug, Default)]
struct Lane {
    asking: usize,
    waiting: Queue,
    /// Which lines it stands in.
    stands_in: [bool; 3],
}

impl Lane {
    /// Whether a start waits and the container has not had its share.
    fn may_ask(&self) -> bool {
        self.asking < AT_ONCE && !self.waiting.is_empty()
    }

    fn is_done(&self) -> bool {
        self.asking == 0 && self.waiting.is_empty() && self.stands_in == [false; 3]
    }
}

/// Lanes that wait for a turn.
#[derive(Debug)]
struct Line {
    at_once: usize,
    asking: usize,
    lanes: VecDeque<u64>,
    /// Whether the last one was the newest.
    was_newest: bool,
}

impl Line {
    const fn new(at_once: usize) -> Self {
        Self {
            at_once,
            asking: 0,
            lanes: VecDeque::new(),
            was_newest: false,
        }
    }

    /// The newest lane and the oldest take turns, so that a new one waits for few others and an old
    /// one does not wait for all new ones.
    fn pop(&mut self) -> Option<u64> {
        if self.asking >= self.at_once || self.lanes.is_empty() {
            return None;
        }
        self.was_newest ^= true;
        if self.was_newest {
            self.lanes.pop_back()
        } else {
            self.lanes.pop_front()
        }
    }
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

    fn is_empty(&self) -> bool {
        self.order.is_empty()
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
            let is_empty = below.is_empty();
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

impl Default for Turns {
    fn default() -> Self {
        Self {
            starts: HashMap::new(),
            lanes: HashMap::new(),
            lines: [NEW_AT_ONCE, EARLIER_AT_ONCE, AGAIN_AT_ONCE].map(Line::new),
        }
    }
}

impl Turns {
    /// Queues a start; nothing if it waits already. `above` has the cgroups of the containers that it
    /// is in, the outermost first.
    pub(super) fn queue(&mut self, start: StartId, above: &[u64], occasion: Occasion) {
        if self.starts.contains_key(&start) {
            return;
        }
        let lane = above.first().copied().unwrap_or(start.cgroup);
        let place = Place {
            lane,
            turn: occasion,
        };
        self.starts.insert(start, place);
        let of = self.lanes.entry(lane).or_default();
        let below = above.iter().copied().chain([start.cgroup]).skip(1);
        let queue = below.fold(&mut of.waiting, Queue::below);
        queue.push(start, occasion == Occasion::Again);
        self.line_up(lane, occasion);
    }

    /// The next start whose turn it is, until its turn [ends](Self::end).
    pub(super) fn next(&mut self) -> Option<StartId> {
        for turn in Occasion::ALL {
            while let Some(lane) = self.lines[turn as usize].pop() {
                let Some(of) = self.lanes.get_mut(&lane) else {
                    continue;
                };
                of.stands_in[turn as usize] = false;
                // Its starts may have had their turns in another line.
                let next = of.may_ask().then(|| of.waiting.pop()).flatten();
                let Some(start) = next else {
                    self.forget_if_done(lane);
                    continue;
                };
                of.asking += 1;
                self.lines[turn as usize].asking += 1;
                self.starts.insert(start, Place { lane, turn });
                self.line_up(lane, Occasion::Earlier);
                return Some(start);
            }
        }
        None
    }

    /// Ends the turn of a start.
    pub(super) fn end(&mut self, start: StartId) {
        let Some(Place { lane, turn }) = self.starts.remove(&start) else {
            return;
        };
        self.lines[turn as usize].asking -= 1;
        if let Some(of) = self.lanes.get_mut(&lane) {
            of.asking -= 1;
        }
        self.line_up(lane, Occasion::Earlier);
        self.forget_if_done(lane);
    }

    /// Puts a lane in a line, unless it stands there or has had its share.
    fn line_up(&mut self, lane: u64, turn: Occasion) {
        if let Some(of) = self.lanes.get_mut(&lane).filter(|of| of.may_ask())
            && !std::mem::replace(&mut of.stands_in[turn as usize], true)
        {
            self.lines[turn as usize].lanes.push_back(lane);
        }
    }

    fn forget_if_done(&mut self, lane: u64) {
        if self.lanes.get(&lane).is_some_and(Lane::is_done) {
            self.lanes.remove(&lane);
        }
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

    /// Queues a start; returns those whose turn it is.
    fn queue(turns: &mut Turns, start: StartId, above: &[u64], occasion: Occasion) -> Vec<StartId> {
        turns.queue(start, above, occasion);
        std::iter::from_fn(|| turns.next()).collect()
    }

    /// Ends a turn; returns the start whose turn it is then.
    fn after(turns: &mut Turns, end: StartId) -> StartId {
        turns.end(end);
        let next = turns.next().expect("there is room for one");
        assert_eq!(turns.next(), None, "and for no other one");
        next
    }

    #[test]
    fn others_do_not_wait_for_the_starts_of_one_container() {
        let mut turns = Turns::default();
        let flood = (0..4000).map(|pid| {
            let occasion = [Occasion::Again, Occasion::New][pid as usize % 2];
            queue(&mut turns, put(1, pid), &[], occasion).len()
        });
        assert_eq!(flood.sum::<usize>(), AT_ONCE);
        let [own, another] = [1, 2].map(StartId::of);
        assert_eq!(queue(&mut turns, another, &[], Occasion::New), [another]);
        assert!(queue(&mut turns, own, &[], Occasion::Again).is_empty());
        assert_eq!(after(&mut turns, put(1, 0)), own, "its own start");
        assert_eq!(
            after(&mut turns, put(1, 1)),
            put(1, 5),
            "the first question"
        );
    }

    #[test]
    fn containers_in_one_container_take_turns() {
        let mut turns = Turns::default();
        let mut asked: VecDeque<_> = (0..4000)
            .flat_map(|pid| queue(&mut turns, put(1, pid), &[], Occasion::New))
            .collect();
        // A container below it makes many cgroups, and then another one begins.
        let many: Vec<_> = (100..1100).map(StartId::of).collect();
        let [below, last] = [10, 11].map(StartId::of);
        assert!(queue(&mut turns, below, &[1], Occasion::New).is_empty());
        for start in &many {
            assert!(queue(&mut turns, *start, &[1, 10], Occasion::New).is_empty());
        }
        assert!(queue(&mut turns, last, &[1], Occasion::Again).is_empty());
        let expected = [
            put(1, 4),
            below,
            last,
            put(1, 5),
            many[0],
            put(1, 6),
            many[1],
        ];
        let next = expected.map(|_| {
            let next = after(&mut turns, asked.pop_front().unwrap());
            asked.push_back(next);
            next
        });
        assert_eq!(next, expected);
    }

    #[test]
    fn new_containers_do_not_wait_for_those_from_before() {
        let mut turns = Turns::default();
        let mut count = |ids: std::ops::Range<u64>, occasion| {
            let starts = ids.map(StartId::of);
            let asked = starts.map(|start| queue(&mut turns, start, &[], occasion).len());
            asked.sum::<usize>()
        };
        assert_eq!(count(0..3000, Occasion::Earlier), EARLIER_AT_ONCE);
        assert_eq!(count(3000..5000, Occasion::Again), AGAIN_AT_ONCE);
        assert_eq!(count(5000..6000, Occasion::New), NEW_AT_ONCE);
        let waiting = 5000 + NEW_AT_ONCE as u64;
        for (at, expected) in [5999, waiting, 5998, waiting + 1].into_iter().enumerate() {
            let next = after(&mut turns, StartId::of(5000 + at as u64));
            assert_eq!(
                next,
                StartId::of(expected),
                "the newest and the oldest in turn"
            );
        }
        let (earlier, again) = (EARLIER_AT_ONCE as u64, 3000 + AGAIN_AT_ONCE as u64);
        for (first, expected) in [(0, [2999, earlier, 2998]), (3000, [4999, again, 4998])] {
            for (at, expected) in expected.into_iter().enumerate() {
                let next = after(&mut turns, StartId::of(first + at as u64));
                assert_eq!(next, StartId::of(expected), "the others go on");
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { rng_seed: proptest::test_runner::RngSeed::Fixed(11), ..ProptestConfig::default() })]

        /// Each queued start gets exactly one turn, and nothing is left in the end.
        #[test]
        fn nothing_is_lost(starts in prop::collection::vec((0u64..6, prop::collection::vec(6u64..9, 0..3), 0u32..50, 0usize..3), 0..200), ends in prop::collection::vec(0usize..16, 0..400)) {
            let mut turns = Turns::default();
            let mut asked: Vec<StartId> = Vec::new();
            let mut queued = HashSet::new();
            let mut lanes = HashMap::new();
            let mut ends = ends.into_iter();
            for (lane, below, pid, occasion) in starts {
                // The last one is the start's own cgroup.
                let mut above = [vec![lane], below].concat();
                let own = above.pop().unwrap();
                let start = put(own, 1000 * u32::try_from(lane).unwrap() + pid);
                queued.insert(start);
                lanes.insert(start, lane);
                let occasion = Occasion::ALL[occasion];
                asked.extend(queue(&mut turns, start, &above, occasion));
                if let Some(at) = ends.next() && at < asked.len() {
                    turns.end(asked[at]);
                    prop_assert!(queued.remove(&asked.remove(at)));
                    asked.extend(std::iter::from_fn(|| turns.next()));
                }
                let of = |lane: u64| asked.iter().filter(|start| lanes[start] == lane).count();
                prop_assert!((0..6).all(|lane| of(lane) <= AT_ONCE));
                for occasion in Occasion::ALL {
                    let of = asked.iter().filter(|start| turns.starts[start].turn == occasion).count();
                    let turns = &turns.lines[occasion as usize];
                    prop_assert!(of == turns.asking && of <= turns.at_once);
                }
                prop_assert_eq!(asked.iter().collect::<HashSet<_>>().len(), asked.len());
            }
            while let Some(start) = asked.pop() {
                prop_assert!(queued.remove(&start));
                turns.end(start);
                asked.extend(std::iter::from_fn(|| turns.next()));
            }
            prop_assert!(queued.is_empty() && turns.lanes.is_empty() && turns.starts.is_empty());
            prop_assert!(turns.lines.iter().all(|line| line.asking == 0 && line.lanes.is_empty()));
        }
    }
}
