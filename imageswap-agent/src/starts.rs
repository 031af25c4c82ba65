//! The table of starts: every input ends in one idempotent `observe`, and a finding comes out when the verdict changes.

use crate::claim::Attempt;
use crate::facts::{Confirmation, Evidence, Facts, Process, Sight, StartId};
use crate::finding::{Event, Finding, Occasion, finding};
use crate::judge::{Criteria, Judgement, judge};
use crate::node::{self, Now, Origin};
use crate::process::{Subject, since_boot};
use crate::verdict::Verdict;
use room::Room;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

mod room;

/// How long a removed start is kept, because a runtime's event about it may still arrive.
const KEPT_AFTER_REMOVAL: Duration = Duration::from_secs(30);

/// Represents the sources that had not answered about a start when it was forgotten.
const NO_ANSWER: &str = "no answer in time";

/// All starts of this boot that run, or ended a moment ago.
#[derive(Debug)]
pub struct Starts {
    origin: Origin,
    /// In the order of their cgroups, so that those of one cgroup are next to each other.
    by_id: BTreeMap<StartId, Start>,
    by_path: HashMap<Arc<str>, u64>,
    /// Those whose first process has this pid.
    by_pid: HashMap<u32, BTreeSet<StartId>>,
    room: Room,
}

/// A row of the table: all that is kept about one start.
#[derive(Debug)]
pub struct Start {
    facts: Facts,
    /// Whether it waits to be asked about, or the sources are being asked.
    pub is_asked: bool,
    /// Whether its cgroup had other processes before.
    pub is_shared: bool,
    /// Why it was found late, until that is reported.
    pub late: Option<&'static str>,
    /// Namespace and id that a containerd gave for it: where to ask first.
    pub named: Option<Box<(String, String)>>,
    reported: Option<Judgement>,
    /// When `reported` became the judgement.
    reported_at: SystemTime,
    /// When its first process began, by the clock at the first finding.
    started: Option<SystemTime>,
    stopped: bool,
    removed_ns: Option<u64>,
}

impl Starts {
    /// An empty table.
    pub fn new(origin: Origin) -> Self {
        Self {
            origin,
            by_id: BTreeMap::new(),
            by_path: HashMap::new(),
            by_pid: HashMap::new(),
            room: Room::default(),
        }
    }

    /// Registers a start in the cgroup at `path`; a second call changes nothing. If there are too many,
    /// others give way, which the next [`purge`](Self::purge) counts.
    pub fn begin(&mut self, id: StartId, path: &str) {
        if self.is_full() {
            self.make_room();
        }
        let mut here = self.by_id.range(StartId::of(id.cgroup)..);
        let path = match here.next() {
            Some((other, start)) if other.cgroup == id.cgroup && *start.facts.cgroup == *path => {
                Arc::clone(&start.facts.cgroup)
            }
            _ => path.into(),
        };
        let Entry::Vacant(row) = self.by_id.entry(id) else {
            return;
        };
        row.insert(Start {
            facts: match id.process {
                Some(_) => Facts::put_into(Arc::clone(&path)),
                None => Facts::new(Arc::clone(&path)),
            },
            is_asked: false,
            is_shared: false,
            late: None,
            named: None,
            reported: None,
            reported_at: SystemTime::UNIX_EPOCH,
            started: None,
            stopped: false,
            removed_ns: None,
        });
        if id.process.is_none() {
            self.by_path.insert(path, id.cgroup);
        }
    }

    /// Adds evidence and judges again. Evidence about an unregistered start is ignored.
    pub fn observe(
        &mut self,
        id: StartId,
        evidence: Evidence,
        criteria: &Criteria,
        now: Now,
    ) -> Vec<Finding> {
        let Some(start) = self.by_id.get_mut(&id) else {
            return Vec::new();
        };
        if evidence == Evidence::Removed {
            start.removed_ns.get_or_insert(now.boot_ns);
        }
        let before = start.pid();
        start.facts.observe(evidence);
        let pid = start.pid();
        let findings = start.report(&self.origin, id, criteria, now);
        if before != pid {
            self.forget_pid(before, id);
            let of_pid = pid.map(|pid| self.by_pid.entry(pid).or_default());
            of_pid.map(|starts| starts.insert(id));
        }
        findings
    }

    /// Judges everything that runs again, after a change of policy.
    pub fn rejudge(&mut self, criteria: &Criteria, now: Now) -> Vec<Finding> {
        let origin = &self.origin;
        let starts = self
            .by_id
            .iter_mut()
            .filter(|(_, start)| !start.facts.removed);
        starts
            .flat_map(|(id, start)| start.report(origin, *id, criteria, now))
            .collect()
    }

    /// Reports and drops starts that were removed long enough ago, one after the other; a start without a
    /// process never started. Returns how many that were not reported may have been containers, since
    /// the last call: a source that may know has not answered.
    pub fn purge(
        &mut self,
        criteria: &Criteria,
        now: Now,
        mut report: impl FnMut(&[Finding]),
    ) -> u64 {
        let kept = node::nanos(KEPT_AFTER_REMOVAL);
        let is_kept = |at| now.boot_ns.saturating_sub(at) < kept;
        let mut unanswered = std::mem::take(&mut self.room.unanswered);
        let mut over = Vec::new();
        for (id, start) in &mut self.by_id {
            if start.removed_ns.is_none_or(is_kept) {
                continue;
            }
            report(&start.settle(&self.origin, *id, criteria, now));
            unanswered += u64::from(start.is_unanswered());
            over.push(*id);
        }
        for id in over {
            self.forget(id);
        }
        self.make_room();
        unanswered
    }

    /// Reports every start that waits for a source as if the source had no answer.
    pub fn settle_all(
        &mut self,
        criteria: &Criteria,
        now: Now,
        mut report: impl FnMut(&[Finding]),
    ) {
        for (id, start) in &mut self.by_id {
            report(&start.settle(&self.origin, *id, criteria, now));
        }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.by_id.len()
    }

    /// Forgets a start, such as one that turned out not to be a container.
    pub fn forget(&mut self, id: StartId) {
        let Some(start) = self.by_id.remove(&id) else {
            return;
        };
        self.forget_pid(start.pid(), id);
        // Another cgroup may have this path by now.
        if id.process.is_none() && self.by_path.get(&start.facts.cgroup) == Some(&id.cgroup) {
            self.by_path.remove(&start.facts.cgroup);
        }
    }

    fn forget_pid(&mut self, pid: Option<u32>, id: StartId) {
        if let Some(pid) = pid
            && let Some(starts) = self.by_pid.get_mut(&pid)
        {
            starts.remove(&id);
            if starts.is_empty() {
                self.by_pid.remove(&pid);
            }
        }
    }

    /// The row of a start.
    pub fn get(&self, id: StartId) -> Option<&Start> {
        self.by_id.get(&id)
    }

    /// The row of a start, to note something in it.
    pub fn get_mut(&mut self, id: StartId) -> Option<&mut Start> {
        self.by_id.get_mut(&id)
    }

    /// What is known of a start.
    pub fn facts(&self, id: StartId) -> Option<&Facts> {
        self.by_id.get(&id).map(|start| &start.facts)
    }

    /// Starts that may have this process, also those that have ended.
    pub fn of_process(&self, process: Subject) -> impl Iterator<Item = (StartId, &Facts)> {
        let of_pid = self.by_pid.get(&process.pid).into_iter().flatten();
        let all = of_pid.filter_map(|id| Some((*id, self.facts(*id)?)));
        all.filter(move |(_, facts)| {
            let known = facts.process.as_ref();
            known.is_some_and(|known| known.subject().may_be(process))
        })
    }

    /// The start whose cgroup is at `path` now.
    pub fn at(&self, path: &str) -> Option<StartId> {
        self.by_path.get(path).copied().map(StartId::of)
    }

    /// All starts in a cgroup; several if a container was put into another one's cgroup.
    pub fn within(&self, cgroup: u64) -> Vec<StartId> {
        let from = self.by_id.range(StartId::of(cgroup)..);
        let ids = from.map(|(id, _)| *id);
        ids.take_while(|id| id.cgroup == cgroup).collect()
    }

    /// Starts that are not known to have been removed.
    pub fn alive(&self) -> impl Iterator<Item = (StartId, &Start)> {
        let alive = self.by_id.iter().filter(|(_, start)| !start.facts.removed);
        alive.map(|(id, start)| (*id, start))
    }

    /// Running containers that drift or are unresolved, as last reported and with that time.
    pub fn unapproved(&self, criteria: &Criteria) -> Vec<Finding> {
        let running = self.alive().filter(|(_, start)| !start.stopped);
        let mut unapproved: Vec<_> = running
            .filter_map(|(id, start)| {
                let reported = start.reported.as_ref()?;
                let occasion = Occasion {
                    event: start.facts.first_event(),
                    time: start.reported_at,
                    started: start.started,
                    detect_us: None,
                };
                matches!(reported.verdict, Verdict::Drift | Verdict::Unresolved).then(|| {
                    let set_revision = criteria.policies.set_revision();
                    finding(
                        &self.origin,
                        id,
                        occasion,
                        &start.facts,
                        reported,
                        set_revision,
                    )
                })
            })
            .collect();
        unapproved.sort_by(|a, b| a.cgroup.cmp(&b.cgroup));
        unapproved
    }
}

impl Start {
    /// What is known of it.
    pub const fn facts(&self) -> &Facts {
        &self.facts
    }

    fn pid(&self) -> Option<u32> {
        self.facts.process.as_ref().map(|process| process.pid)
    }

    /// Whether the last finding about it was unresolved.
    pub fn is_unresolved(&self) -> bool {
        let reported = self.reported.as_ref();
        reported.is_some_and(|judgement| judgement.verdict == Verdict::Unresolved)
    }

    /// Whether a runtime knows the container. What a walk found alone may be another program that waits in
    /// its cgroup.
    pub fn is_known(&self) -> bool {
        let by = self.facts.process.as_ref().map(|process| process.by);
        self.facts.trusted().next().is_some()
            || matches!(by, Some(Confirmation::Runtime | Confirmation::Reported))
    }

    /// Whether it may have been a container and was not reported.
    fn is_unanswered(&self) -> bool {
        self.reported.is_none() && self.facts.process.is_some() && self.facts.may_be_container()
    }

    /// Reports a start that has not been reported yet, without waiting for sources any longer.
    fn settle(
        &mut self,
        origin: &Origin,
        id: StartId,
        criteria: &Criteria,
        now: Now,
    ) -> Vec<Finding> {
        if self.reported.is_some() || self.facts.settled.is_some() {
            return Vec::new();
        }
        self.facts.observe(Evidence::Settled {
            attempt: Attempt {
                has_begun: true,
                number: u32::MAX,
            },
            unreachable: BTreeSet::from([NO_ANSWER.to_owned()]),
        });
        self.report(origin, id, criteria, now)
    }

    /// Reports what has changed since the last finding, if anything.
    fn report(
        &mut self,
        origin: &Origin,
        id: StartId,
        criteria: &Criteria,
        now: Now,
    ) -> Vec<Finding> {
        let facts = &self.facts;
        // An entrypoint that does not exist is never confirmed, and a cgroup of the host is not a
        // container. A verdict before every source was asked might be corrected a moment later.
        if self.stopped
            || facts.process.is_none()
            || facts.settled.is_none()
            || !facts.is_container()
        {
            return Vec::new();
        }
        let judgement = judge(facts, criteria, now.today());
        if self.started.is_none() {
            self.started = facts.process.as_ref().and_then(|it| began(it, now));
        }
        let started = self.started;
        let mut findings = Vec::new();
        let mut say = |event: Event, judgement: &Judgement, detect_us: Option<u64>| {
            let occasion = Occasion {
                event,
                time: now.wall,
                started,
                detect_us,
            };
            let set_revision = criteria.policies.set_revision();
            findings.push(finding(
                origin,
                id,
                occasion,
                facts,
                judgement,
                set_revision,
            ));
        };
        match &self.reported {
            None => {
                let event = facts.first_event();
                let process = facts.process.as_ref().filter(|process| is_exec(process.by));
                let detect_us = process
                    .filter(|_| event == Event::Start)
                    .map(|process| now.boot_ns.saturating_sub(process.time_ns) / 1000);
                say(event, &judgement, detect_us);
            }
            // After the removal nothing relevant is learned; only the end remains to be reported.
            Some(reported) if !facts.removed && differs(reported, &judgement) => {
                say(Event::Rejudged, &judgement, None);
            }
            Some(_) => {}
        }
        if facts.removed {
            let last = self.reported.take().unwrap_or(judgement);
            say(Event::Stopped, &last, None);
            self.reported = Some(last);
            self.stopped = true;
        } else {
            self.reported = Some(judgement);
        }
        if !findings.is_empty() {
            self.reported_at = now.wall;
        }
        findings
    }
}

/// Whether an exec confirms the container, and shows when it began.
fn is_exec(by: Confirmation) -> bool {
    matches!(by, Confirmation::Exec | Confirmation::ByAnother)
}

/// When the container began, as far as its process shows: its exec, or when the process was made.
fn began(process: &Process, now: Now) -> Option<SystemTime> {
    let since_boot = match process.by {
        by if is_exec(by) => Duration::from_nanos(process.time_ns),
        _ if process.is_first => since_boot(process.started?),
        _ => return None,
    };
    let age = Duration::from_nanos(now.boot_ns).saturating_sub(since_boot);
    now.wall.checked_sub(age)
}

impl Facts {
    /// The event of the first finding about a start.
    fn first_event(&self) -> Event {
        match self.sight {
            Some(Sight::Initial) => Event::Initial,
            Some(Sight::Reconciled) => Event::Reconciled,
            Some(Sight::Event) | None => Event::Start,
        }
    }
}

/// Whether a second finding would be news to an operator.
fn differs(reported: &Judgement, new: &Judgement) -> bool {
    (
        reported.verdict,
        reported.route,
        reported.reason,
        &reported.image,
        &reported.expected_image,
    ) != (
        new.verdict,
        new.route,
        new.reason,
        &new.image,
        &new.expected_image,
    )
}

#[cfg(test)]
mod tests;
