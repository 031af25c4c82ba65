//! Asks the sources about starts, and takes their answers.

use super::Agent;
use crate::cgroup_path;
use crate::claim::Attempt;
use crate::facts::{Evidence, Facts, StartId};
use crate::resolve::{Answer, Question};
use crate::starts::Start;
use crate::turns::{self, Occasion, Turn};
use std::sync::Arc;

impl Agent {
    /// Handles the answers of the sources.
    pub fn answer(&mut self, answer: Answer) {
        let Answer {
            question,
            claims,
            pod,
            unreachable,
        } = answer;
        let Question {
            start,
            turn,
            process,
            attempt,
            ..
        } = question;
        let facts = self.starts.facts(start);
        let known = facts.and_then(|facts| facts.process.as_ref());
        if known.is_some_and(|known| !known.subject().may_be(process))
            || facts.is_some_and(|facts| facts.has_begun() && !attempt.has_begun)
        {
            // Meanwhile another process turned out to be the container's first, or its program began.
            self.end_turn(start, turn);
            self.ask(start);
            return;
        }
        if let Some(pod) = pod {
            self.observe(start, Evidence::Pod(pod));
        }
        for claim in claims {
            self.observe(start, Evidence::Claim(Box::new(claim)));
        }
        let settled = Evidence::Settled {
            attempt,
            unreachable,
        };
        self.observe(start, settled);
        let facts = self.starts.facts(start);
        let about = facts.and_then(|facts| {
            let process = facts.process.as_ref()?;
            Some((Arc::clone(&facts.cgroup), process.subject()))
        });
        if facts.is_some_and(|it| !it.is_container() && !it.may_be_container()) {
            self.starts.forget(start);
        }
        self.end_turn(start, turn);
        self.answered(start.cgroup, about);
    }

    /// Asks every source about a start when its turn comes, unless that is already in progress.
    pub(super) fn ask(&mut self, start: StartId) {
        let unasked = self.starts.get(start).filter(|row| !row.is_asked);
        let Some(facts) = unasked.map(Start::facts) else {
            return;
        };
        let Some(process) = &facts.process else {
            return;
        };
        let occasion = if facts.settled.is_some() {
            Occasion::Again
        } else if self.ran_before(process) {
            Occasion::Earlier
        } else {
            Occasion::New
        };
        let above = self.containers_above(facts);
        self.set_asked(start, true);
        self.turns.queue(start, &above, occasion);
        self.ask_next();
    }

    /// The cgroups of the containers above a start, the outermost first. Where the paths of containers
    /// begin, root can put a process of its own, which is not a container above all of them.
    fn containers_above(&self, facts: &Facts) -> Vec<u64> {
        let above = cgroup_path::above(&facts.cgroup);
        let starts = above.filter_map(|path| self.starts.at(path));
        let is_named = facts.identity.container_id.is_some();
        let is_above = |start: &StartId| {
            let above = self.starts.facts(*start);
            !is_named || above.is_some_and(|above| above.identity.container_id.is_some())
        };
        let above = starts.filter(is_above).map(|start| start.cgroup);
        above.take(turns::MOST_ABOVE).collect()
    }

    /// Asks about the starts whose turn it is, unless they were forgotten while they waited.
    fn ask_next(&mut self) {
        while let Some((start, turn)) = self.turns.take() {
            let row = self.starts.get(start);
            let of = row.and_then(|row| Some((row, row.facts().process.as_ref()?)));
            let Some((row, process)) = of else {
                self.turns.end(turn);
                continue;
            };
            self.attempts += 1;
            self.resolver.ask(Question {
                start,
                turn,
                identity: row.facts().identity.clone(),
                cgroup: self.hierarchy.directory(&row.facts().cgroup),
                process: process.subject(),
                is_first: process.is_first,
                named: row.named.clone(),
                attempt: Attempt {
                    has_begun: row.facts().has_begun(),
                    number: self.attempts,
                },
            });
        }
    }

    fn end_turn(&mut self, start: StartId, turn: Turn) {
        self.set_asked(start, false);
        self.turns.end(turn);
        self.ask_next();
    }

    fn set_asked(&mut self, start: StartId, is_asked: bool) {
        if let Some(row) = self.starts.get_mut(start) {
            row.is_asked = is_asked;
        }
    }
}
