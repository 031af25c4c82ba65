//! Fair turns: whose questions the sources are asked.
//!
//! A process in a container can make thousands of pid namespaces, each of which may be a container and
//! is asked about. So few starts of one container are asked about at a time, and the others wait for
//! these, not other containers' starts. A container can have containers of its own below its cgroup:
//! there the cgroups take turns, so that none waits for all starts of another one.
//!
//! After a time without an agent there can be thousands of starts to ask about. So few questions are
//! in memory at a time, and those about new containers do not wait for the others. A queue is only of
//! ids: the table notes that a start waits, and its question is made when its turn comes. The turn goes
//! with the question and the answer, so it ends even if the start is gone.

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
pub const MOST_ABOVE: usize = 8;

/// Why a start is asked about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Occasion {
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

/// How many starts are asked about, and those that wait for it.
#[derive(Debug)]
pub struct Turns {
    lanes: HashMap<u64, Lane>,
    /// By occasion.
    lines: [Line; 3],
}

/// The turn of a start: its lane, and the occasion in whose line it counts.
#[derive(Debug, PartialEq, Eq)]
pub struct Turn {
    lane: u64,
    occasion: Occasion,
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

    fn retain(&mut self, is_there: &impl Fn(StartId) -> bool) {
        let Self {
            own,
            again,
            below,
            order,
        } = self;
        own.retain(|start| is_there(*start));
        again.retain(|start| is_there(*start));
        below.retain(|_, queue| {
            queue.retain(is_there);
            !queue.is_empty()
        });
        order.retain(|turn| match turn {
            Some(cgroup) => below.contains_key(cgroup),
            None => !own.is_empty() || !again.is_empty(),
        });
    }
}

impl Default for Turns {
    fn default() -> Self {
        Self {
            lanes: HashMap::new(),
            lines: [NEW_AT_ONCE, EARLIER_AT_ONCE, AGAIN_AT_ONCE].map(Line::new),
        }
    }
}

impl Turns {
    /// Queues a start. `above` has the cgroups of the containers that it is in, the outermost first.
    pub fn queue(&mut self, start: StartId, above: &[u64], occasion: Occasion) {
        let lane = above.first().copied().unwrap_or(start.cgroup);
        let of = self.lanes.entry(lane).or_default();
        let below = above.iter().copied().chain([start.cgroup]).skip(1);
        let queue = below.fold(&mut of.waiting, Queue::below);
        queue.push(start, occasion == Occasion::Again);
        self.line_up(lane, occasion);
    }

    /// The next start whose turn it is, until that [ends](Self::end).
    pub fn take(&mut self) -> Option<(StartId, Turn)> {
        for occasion in Occasion::ALL {
            while let Some(lane) = self.lines[occasion as usize].pop() {
                let Some(of) = self.lanes.get_mut(&lane) else {
                    continue;
                };
                of.stands_in[occasion as usize] = false;
                // Its starts may have had their turns in another line.
                let next = of.may_ask().then(|| of.waiting.pop()).flatten();
                let Some(start) = next else {
                    self.forget_if_done(lane);
                    continue;
                };
                of.asking += 1;
                self.lines[occasion as usize].asking += 1;
                self.line_up(lane, Occasion::Earlier);
                return Some((start, Turn { lane, occasion }));
            }
        }
        None
    }

    /// Ends a turn.
    pub fn end(&mut self, Turn { lane, occasion }: Turn) {
        self.lines[occasion as usize].asking -= 1;
        if let Some(of) = self.lanes.get_mut(&lane) {
            of.asking -= 1;
        }
        self.line_up(lane, Occasion::Earlier);
        self.forget_if_done(lane);
    }

    /// Forgets the starts that wait and are not there any longer. Otherwise they would take memory until
    /// their turns come, which may be never.
    pub fn retain(&mut self, is_there: impl Fn(StartId) -> bool) {
        self.lanes.retain(|_, lane| {
            lane.waiting.retain(&is_there);
            lane.asking > 0 || !lane.waiting.is_empty()
        });
        for line in &mut self.lines {
            line.lanes.retain(|lane| self.lanes.contains_key(lane));
        }
    }

    /// Puts a lane in a line, unless it stands there or has had its share.
    fn line_up(&mut self, lane: u64, occasion: Occasion) {
        if let Some(of) = self.lanes.get_mut(&lane).filter(|of| of.may_ask())
            && !std::mem::replace(&mut of.stands_in[occasion as usize], true)
        {
            self.lines[occasion as usize].lanes.push_back(lane);
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

    /// The starts that are asked about, as the agent keeps them.
    #[derive(Default)]
    struct Asking {
        turns: Turns,
        asked: HashMap<StartId, Turn>,
    }

    impl Asking {
        /// Queues a start; returns those whose turn it is.
        fn queue(&mut self, start: StartId, above: &[u64], occasion: Occasion) -> Vec<StartId> {
            self.turns.queue(start, above, occasion);
            self.next()
        }

        fn next(&mut self) -> Vec<StartId> {
            let next: Vec<_> = std::iter::from_fn(|| self.turns.take()).collect();
            let starts = next.iter().map(|(start, _)| *start).collect();
            self.asked.extend(next);
            starts
        }

        /// Ends a turn; returns the starts whose turn it is then.
        fn end(&mut self, start: StartId) -> Vec<StartId> {
            self.turns.end(self.asked.remove(&start).unwrap());
            self.next()
        }

        /// The same if there is room for one, and for no other one.
        fn after(&mut self, start: StartId) -> StartId {
            let next = self.end(start);
            assert_eq!(next.len(), 1);
            next[0]
        }
    }

    #[test]
    fn others_do_not_wait_for_the_starts_of_one_container() {
        let mut turns = Asking::default();
        let flood = (0..4000).map(|pid| {
            let occasion = [Occasion::Again, Occasion::New][pid as usize % 2];
            turns.queue(put(1, pid), &[], occasion).len()
        });
        assert_eq!(flood.sum::<usize>(), AT_ONCE);
        let [own, another] = [1, 2].map(StartId::of);
        assert_eq!(turns.queue(another, &[], Occasion::New), [another]);
        assert!(turns.queue(own, &[], Occasion::Again).is_empty());
        assert_eq!(turns.after(put(1, 0)), own, "its own start");
        assert_eq!(turns.after(put(1, 1)), put(1, 5), "the first question");
    }

    #[test]
    fn starts_that_were_forgotten_take_no_memory_and_no_turn() {
        let mut turns = Asking::default();
        let above: [&[u64]; 3] = [&[], &[9], &[9, 10]];
        let mut asked = Vec::new();
        for pid in 0..3000 {
            let cgroup = [1, 2, 100 + u64::from(pid)][pid as usize % 3];
            let occasion = Occasion::ALL[pid as usize % 2];
            asked.extend(turns.queue(put(cgroup, pid), above[pid as usize % 3], occasion));
        }
        let last = put(2, 2998);
        turns.turns.retain(|start| start == last);
        let lanes: Vec<_> = turns.turns.lanes.values().collect();
        assert!(
            lanes.iter().all(|lane| lane.asking > 0 || !lane.is_done()),
            "{lanes:?}"
        );
        let waiting: Vec<_> = lanes
            .iter()
            .filter(|lane| !lane.waiting.is_empty())
            .collect();
        assert!(matches!(waiting[..], [lane] if lane.waiting.below.len() == 1));
        let mut next = Vec::new();
        while let Some(start) = asked.pop() {
            next.extend(turns.end(start));
        }
        assert_eq!(next, [last]);
        turns.end(last);
        assert!(turns.turns.lanes.is_empty(), "{:?}", turns.turns);
    }

    #[test]
    fn containers_in_one_container_take_turns() {
        let mut turns = Asking::default();
        let mut asked: VecDeque<_> = (0..4000)
            .flat_map(|pid| turns.queue(put(1, pid), &[], Occasion::New))
            .collect();
        // A container below it makes many cgroups, and then another one begins.
        let many: Vec<_> = (100..1100).map(StartId::of).collect();
        let [below, last] = [10, 11].map(StartId::of);
        assert!(turns.queue(below, &[1], Occasion::New).is_empty());
        for start in &many {
            assert!(turns.queue(*start, &[1, 10], Occasion::New).is_empty());
        }
        assert!(turns.queue(last, &[1], Occasion::Again).is_empty());
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
            let next = turns.after(asked.pop_front().unwrap());
            asked.push_back(next);
            next
        });
        assert_eq!(next, expected);
    }

    #[test]
    fn new_containers_do_not_wait_for_those_from_before() {
        let mut turns = Asking::default();
        let mut count = |ids: std::ops::Range<u64>, occasion| {
            let starts = ids.map(StartId::of);
            let asked = starts.map(|start| turns.queue(start, &[], occasion).len());
            asked.sum::<usize>()
        };
        assert_eq!(count(0..3000, Occasion::Earlier), EARLIER_AT_ONCE);
        assert_eq!(count(3000..5000, Occasion::Again), AGAIN_AT_ONCE);
        assert_eq!(count(5000..6000, Occasion::New), NEW_AT_ONCE);
        let waiting = 5000 + NEW_AT_ONCE as u64;
        for (at, expected) in [5999, waiting, 5998, waiting + 1].into_iter().enumerate() {
            let next = turns.after(StartId::of(5000 + at as u64));
            assert_eq!(
                next,
                StartId::of(expected),
                "the newest and the oldest in turn"
            );
        }
        let (earlier, again) = (EARLIER_AT_ONCE as u64, 3000 + AGAIN_AT_ONCE as u64);
        for (first, expected) in [(0, [2999, earlier, 2998]), (3000, [4999, again, 4998])] {
            for (at, expected) in expected.into_iter().enumerate() {
                let next = turns.after(StartId::of(first + at as u64));
                assert_eq!(next, StartId::of(expected), "the others go on");
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { rng_seed: proptest::test_runner::RngSeed::Fixed(11), ..ProptestConfig::default() })]

        /// Each queued start gets exactly one turn, and nothing is left in the end.
        #[test]
        fn nothing_is_lost(starts in prop::collection::vec((0u64..6, prop::collection::vec(6u64..9, 0..3), 0u32..50, 0usize..3), 0..200), ends in prop::collection::vec(0usize..16, 0..400)) {
            let mut turns = Asking::default();
            let mut asked = Vec::new();
            let mut queued = HashSet::new();
            let mut lanes = HashMap::new();
            let mut ends = ends.into_iter();
            for (lane, below, pid, occasion) in starts {
                // The last one is the start's own cgroup.
                let mut above = [vec![lane], below].concat();
                let own = above.pop().unwrap();
                let start = put(own, 1000 * u32::try_from(lane).unwrap() + pid);
                // The table notes which ones wait or are asked about.
                if queued.insert(start) {
                    lanes.insert(start, lane);
                    asked.extend(turns.queue(start, &above, Occasion::ALL[occasion]));
                }
                if let Some(at) = ends.next() && at < asked.len() {
                    let start = asked.remove(at);
                    prop_assert!(queued.remove(&start));
                    asked.extend(turns.end(start));
                }
                let of = |lane: u64| asked.iter().filter(|start| lanes[start] == lane).count();
                prop_assert!((0..6).all(|lane| of(lane) <= AT_ONCE));
                for occasion in Occasion::ALL {
                    let of = turns.asked.values().filter(|turn| turn.occasion == occasion).count();
                    let line = &turns.turns.lines[occasion as usize];
                    prop_assert!(of == line.asking && of <= line.at_once);
                }
                prop_assert_eq!(turns.asked.len(), asked.len());
            }
            while let Some(start) = asked.pop() {
                prop_assert!(queued.remove(&start));
                asked.extend(turns.end(start));
            }
            let turns = turns.turns;
            prop_assert!(queued.is_empty() && turns.lanes.is_empty());
            prop_assert!(turns.lines.iter().all(|line| line.asking == 0 && line.lanes.is_empty()));
        }
    }
}
