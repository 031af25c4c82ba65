//! When each node was watched, by the records of its agents about themselves.

use super::containers::Nodes;
use super::record::{AgentEvent, AgentRecord};
use crate::moment::Moment;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Set revision if no policy is in force.
const NO_POLICY: &str = "none";

/// How long an agent has to be at work to have found everything that runs.
const SETTLED: Duration = Duration::from_secs(30);

/// Silence of so many intervals means that nobody watched.
const SILENT: u32 = 2;

/// All nodes.
#[derive(Debug, Default)]
pub(super) struct Watches {
    by_node: BTreeMap<String, Watch>,
}

/// What is known of a node.
#[derive(Debug, Default)]
struct Watch {
    records: Vec<AgentRecord>,
    /// Times of findings about containers, which show that an agent was at work.
    findings: Vec<Moment>,
    last: Option<Moment>,
}

/// A time in which nobody watched a node, or in which nothing was judged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Gap {
    pub(super) node: String,
    pub(super) from: Moment,
    pub(super) to: Moment,
    pub(super) seconds: u64,
    pub(super) cause: GapCause,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum GapCause {
    /// The agent stopped, and the next one had to attach new probes.
    Stopped,
    /// The agent ended without a word, or the node did.
    Ended,
    /// The node restarted.
    Restarted,
    /// The agent should have written, but did not.
    Silent,
    /// The files have no record of this time.
    NoRecord,
    /// An agent without a policy: everything runs, and nothing is judged.
    NoPolicy,
}

impl GapCause {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Stopped => "the agent was stopped",
            Self::Ended => "the agent ended without a record",
            Self::Restarted => "the node restarted",
            Self::Silent => "the agent wrote nothing",
            Self::NoRecord => "the files have no record",
            Self::NoPolicy => "no policy was in force",
        }
    }
}

/// Events that an agent lost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Loss {
    pub(super) node: String,
    pub(super) time: Moment,
    pub(super) cause: String,
    pub(super) events: u64,
}

/// A change of the policies in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct PolicyChange {
    /// On the first node.
    pub(super) time: Moment,
    pub(super) from: Option<String>,
    pub(super) to: String,
    /// Number of nodes.
    pub(super) nodes: usize,
}

impl Watches {
    pub(super) fn add(&mut self, record: AgentRecord) {
        let watch = self.by_node.entry(record.node.clone()).or_default();
        watch.last = watch.last.max(Some(record.time));
        watch.records.push(record);
    }

    /// Notes that the agent of a node wrote a finding.
    pub(super) fn finding(&mut self, node: &str, time: Moment) {
        if let Some(watch) = self.by_node.get_mut(node) {
            watch.last = watch.last.max(Some(time));
            watch.findings.push(time);
        } else {
            let watch = Watch {
                findings: vec![time],
                last: Some(time),
                ..Watch::default()
            };
            self.by_node.insert(node.to_owned(), watch);
        }
    }

    /// Expects records of a node.
    pub(super) fn expect(&mut self, node: &str) {
        self.by_node.entry(node.to_owned()).or_default();
    }

    /// Puts everything in order, after the last record.
    pub(super) fn sort(&mut self) {
        for watch in self.by_node.values_mut() {
            watch.records.sort_by_key(|it| (it.time, it.event));
            watch.records.dedup();
            watch.findings.sort_unstable();
        }
    }

    /// Number of nodes.
    pub(super) fn nodes(&self) -> usize {
        self.by_node.len()
    }

    /// The first and last record of any node.
    pub(super) fn extent(&self) -> Option<(Moment, Moment)> {
        let firsts = self.by_node.values().flat_map(|watch| {
            let record = watch.records.first().map(|it| it.time);
            record.into_iter().chain(watch.findings.first().copied())
        });
        let lasts = self.by_node.values().filter_map(|watch| watch.last);
        Some((firsts.min()?, lasts.max()?))
    }

    /// When nobody watched, from `since` to `until`.
    pub(super) fn gaps(&self, since: Moment, until: Moment) -> Vec<Gap> {
        let mut gaps = Vec::new();
        for (node, watch) in &self.by_node {
            let mut add = |from: Moment, to: Moment, cause| {
                let (from, to) = (from.max(since), to.min(until));
                if from < to {
                    gaps.push(Gap {
                        node: node.clone(),
                        from,
                        to,
                        seconds: to.since(from).as_secs(),
                        cause,
                    });
                }
            };
            watch.unwatched(since, until, &mut add);
            watch.without_policy(until, &mut add);
        }
        gaps.sort_by(|a, b| (a.from, &a.node).cmp(&(b.from, &b.node)));
        gaps
    }

    /// Lost events from `since` to `until`.
    pub(super) fn losses(&self, since: Moment, until: Moment) -> Vec<Loss> {
        let records = self.by_node.values().flat_map(|watch| &watch.records);
        let inside = records.filter(|it| it.time >= since && it.time < until);
        let mut losses: Vec<_> = inside
            .filter_map(|record| {
                let lost = record.lost.as_ref()?;
                Some(Loss {
                    node: record.node.clone(),
                    time: record.time,
                    cause: lost.cause.clone(),
                    events: lost.events,
                })
            })
            .collect();
        losses.sort_by(|a, b| (a.time, &a.node, &a.cause).cmp(&(b.time, &b.node, &b.cause)));
        losses
    }

    /// Changes of policies from `since` to `until`, each once for all nodes.
    pub(super) fn policy_changes(&self, since: Moment, until: Moment) -> Vec<PolicyChange> {
        // When the first node changed from one set of policies to another, and which nodes did.
        type FromTo<'a> = (Option<&'a str>, &'a str);
        let mut changes: BTreeMap<FromTo<'_>, (Moment, BTreeSet<&str>)> = BTreeMap::new();
        let records = self.by_node.values().flat_map(|watch| &watch.records);
        for record in records {
            let is_change = record.event == AgentEvent::PolicyChanged;
            if is_change && record.time >= since && record.time < until {
                let key = (
                    record.previous_set_revision.as_deref(),
                    &*record.policies.set_revision,
                );
                let entry = changes.entry(key).or_insert((record.time, BTreeSet::new()));
                entry.0 = entry.0.min(record.time);
                entry.1.insert(&record.node);
            }
        }
        let mut changes: Vec<_> = changes
            .into_iter()
            .map(|((from, to), (time, nodes))| PolicyChange {
                time,
                from: from.map(str::to_owned),
                to: to.to_owned(),
                nodes: nodes.len(),
            })
            .collect();
        changes.sort_by(|a, b| (a.time, &a.to).cmp(&(b.time, &b.to)));
        changes
    }
}

/// The last sign of life of a node's agent.
struct Seen {
    at: Moment,
    stopped: bool,
    boot: Option<String>,
    limit: Duration,
}

impl Watch {
    fn unwatched(
        &self,
        since: Moment,
        until: Moment,
        add: &mut impl FnMut(Moment, Moment, GapCause),
    ) {
        let mut seen: Option<Seen> = None;
        let mut findings = self.findings.iter().copied().peekable();
        for record in &self.records {
            while let Some(at) = findings.next_if(|at| *at < record.time) {
                // Findings of an agent without records about itself say nothing about the time
                // between them.
                if let Some(seen) = &mut seen {
                    seen.found(at, add);
                }
            }
            let limit = Duration::from_secs(record.interval).saturating_mul(SILENT);
            match (&seen, record.event) {
                (None, _) => add(since, record.time, GapCause::NoRecord),
                (Some(before), AgentEvent::AgentStarted) => {
                    let rebooted = before.boot.as_ref().is_some_and(|it| *it != record.boot_id);
                    let cause = match before.stopped {
                        _ if rebooted => GapCause::Restarted,
                        true => GapCause::Stopped,
                        false => GapCause::Ended,
                    };
                    // Probes that stayed in the kernel saw everything.
                    if rebooted || record.resumed != Some(true) {
                        add(before.at, record.time, cause);
                    }
                }
                (Some(before), _) => before.silence(record.time, add),
            }
            seen = Some(Seen {
                at: record.time,
                stopped: record.event == AgentEvent::AgentStopped,
                boot: Some(record.boot_id.clone()),
                limit,
            });
        }
        let Some(mut seen) = seen else {
            return add(since, until, GapCause::NoRecord);
        };
        for at in findings {
            seen.found(at, add);
        }
        if seen.stopped {
            add(seen.at, until, GapCause::Stopped);
        } else if until.since(seen.at) > seen.limit {
            add(seen.at, until, GapCause::NoRecord);
        }
    }

    fn without_policy(&self, until: Moment, add: &mut impl FnMut(Moment, Moment, GapCause)) {
        let mut since: Option<Moment> = None;
        for record in &self.records {
            let is_without = record.policies.set_revision == NO_POLICY;
            let stops = record.event == AgentEvent::AgentStopped;
            match since {
                None if is_without && !stops => since = Some(record.time),
                Some(from) if !is_without || stops => {
                    add(from, record.time, GapCause::NoPolicy);
                    since = None;
                }
                _ => {}
            }
        }
        if let Some(from) = since {
            add(
                from,
                self.last.map_or(until, |last| last.min(until)),
                GapCause::NoPolicy,
            );
        }
    }
}

impl Seen {
    fn found(&mut self, at: Moment, add: &mut impl FnMut(Moment, Moment, GapCause)) {
        if !self.stopped {
            self.silence(at, add);
            self.at = self.at.max(at);
        }
    }

    /// Adds the time up to the next sign of life if it is too long.
    fn silence(&self, next: Moment, add: &mut impl FnMut(Moment, Moment, GapCause)) {
        if self.stopped {
            add(self.at, next, GapCause::NoRecord);
        } else if next.since(self.at) > self.limit {
            add(self.at, next, GapCause::Silent);
        }
    }
}

impl Nodes for Watches {
    fn next_agent(&self, node: &str, last: Moment) -> Option<Moment> {
        let watch = self.by_node.get(node)?;
        let end = watch.last?;
        let mut starts = watch
            .records
            .iter()
            .filter(|it| it.event == AgentEvent::AgentStarted)
            .map(|it| it.time)
            .skip_while(|at| *at <= last)
            .peekable();
        while let Some(start) = starts.next() {
            // An agent that was only there for a moment may not have found everything that ran.
            let until = starts.peek().copied().unwrap_or(end);
            if until.since(start) >= SETTLED {
                return Some(start);
            }
        }
        None
    }

    fn last_record(&self, node: &str) -> Option<Moment> {
        self.by_node.get(node)?.last
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::record::{Lost, PolicySet};

    fn at(minute: u64) -> Moment {
        let start = Moment::parse("2026-11-28T10:00:00Z").unwrap();
        start.plus(Duration::from_secs(60 * minute))
    }

    fn record(event: AgentEvent, minute: u64) -> AgentRecord {
        AgentRecord {
            event,
            time: at(minute),
            node: "n1".to_owned(),
            boot_id: "b".to_owned(),
            policies: PolicySet {
                set_revision: "r".to_owned(),
            },
            previous_set_revision: None,
            resumed: None,
            interval: 300,
            lost: None,
        }
    }

    fn watches(records: Vec<AgentRecord>, findings: &[u64]) -> Watches {
        let mut watches = Watches::default();
        for record in records {
            watches.add(record);
        }
        for minute in findings {
            watches.finding("n1", at(*minute));
        }
        watches.sort();
        watches
    }

    type Row<'a> = (
        &'a str,
        Vec<AgentRecord>,
        &'a [u64],
        Vec<(u64, u64, GapCause)>,
    );

    #[test]
    fn gaps_are_the_times_without_a_sign_of_an_agent() {
        use AgentEvent::{AgentStarted, AgentStopped, AgentWatching};
        use GapCause::{Ended, NoPolicy, NoRecord, Restarted, Silent, Stopped};
        let start = |minute| record(AgentStarted, minute);
        let sign = |minute| record(AgentWatching, minute);
        let stop = |minute| record(AgentStopped, minute);
        let resumed = |minute| AgentRecord {
            resumed: Some(true),
            ..start(minute)
        };
        let rebooted = |minute| AgentRecord {
            boot_id: "c".to_owned(),
            ..resumed(minute)
        };
        let bare = |mut record: AgentRecord| {
            record.policies.set_revision = "none".to_owned();
            record
        };
        #[rustfmt::skip]
        let table: Vec<Row<'_>> = vec![
            ("all the time", vec![start(0), sign(5), sign(10), sign(15), sign(20)], &[], vec![]),
            ("in any order", vec![sign(20), sign(10), start(0), sign(15), sign(5), sign(5)], &[], vec![]),
            ("nothing", vec![], &[7], vec![(0, 20, NoRecord)]),
            ("later than the window", vec![start(4), sign(10), sign(20)], &[], vec![(0, 4, NoRecord)]),
            ("earlier than the window", vec![start(0), sign(5)], &[], vec![(5, 20, NoRecord)]),
            ("stopped and started", vec![start(0), stop(5), start(7), sign(12), sign(20)], &[], vec![(5, 7, Stopped)]),
            ("stopped, probes stayed", vec![start(0), stop(5), resumed(17), sign(20)], &[], vec![]),
            ("stopped for good", vec![start(0), stop(5)], &[], vec![(5, 20, Stopped)]),
            ("killed", vec![start(0), sign(5), start(12), sign(20)], &[], vec![(5, 12, Ended)]),
            ("killed, with findings until then", vec![start(0), sign(5), start(12), sign(20)], &[8], vec![(8, 12, Ended)]),
            ("the node restarted", vec![start(0), stop(5), rebooted(9), sign(18)], &[], vec![(5, 9, Restarted)]),
            ("silent", vec![start(0), sign(11), sign(20)], &[], vec![(0, 11, Silent)]),
            ("silent but for findings", vec![start(0), sign(11), sign(20)], &[6], vec![]),
            ("a part of the file is missing", vec![start(0), stop(5), sign(9), sign(15)], &[], vec![(5, 9, NoRecord)]),
            ("without a policy", vec![bare(start(0)), bare(sign(5)), sign(9), sign(18)], &[], vec![(0, 9, NoPolicy)]),
            ("without a policy to the end", vec![start(0), bare(sign(9)), bare(sign(18))], &[], vec![(9, 18, NoPolicy)]),
        ];
        for (what, records, findings, expected) in table {
            let gaps = watches(records, findings).gaps(at(0), at(20));
            let found: Vec<_> = gaps.iter().map(|it| (it.from, it.to, it.cause)).collect();
            let expected: Vec<_> = expected
                .into_iter()
                .map(|(from, to, cause)| (at(from), at(to), cause))
                .collect();
            assert_eq!(found, expected, "{what}");
        }
    }

    #[test]
    fn an_expected_node_without_records_is_a_gap() {
        let mut watches = Watches::default();
        watches.expect("n2");
        let gaps = watches.gaps(at(0), at(20));
        assert_eq!(gaps.len(), 1);
        assert_eq!((&*gaps[0].node, gaps[0].cause), ("n2", GapCause::NoRecord));
    }

    #[test]
    fn the_next_agent_has_to_be_there_long_enough_to_have_looked() {
        let started = |minute| record(AgentEvent::AgentStarted, minute);
        let watch = watches(
            vec![started(0), started(5), record(AgentEvent::AgentWatching, 9)],
            &[],
        );
        assert_eq!(watch.next_agent("n1", at(1)), Some(at(5)));
        assert_eq!(watch.next_agent("n1", at(5)), None);
        let watch = watches(vec![started(0), started(5)], &[]);
        assert_eq!(
            watch.next_agent("n1", at(1)),
            None,
            "its first record is its last"
        );
    }

    #[test]
    fn losses_and_policies_of_the_window_are_listed() {
        let lost = AgentRecord {
            lost: Some(Lost {
                cause: "ring-full-exec".to_owned(),
                events: 7,
            }),
            ..record(AgentEvent::EventsLost, 3)
        };
        let changed = |node: &str, minute| AgentRecord {
            previous_set_revision: Some("q".to_owned()),
            node: node.to_owned(),
            ..record(AgentEvent::PolicyChanged, minute)
        };
        let watches = watches(vec![lost, changed("n1", 5), changed("n2", 4)], &[]);
        let losses = watches.losses(at(0), at(20));
        assert_eq!((losses.len(), losses[0].events), (1, 7));
        assert_eq!(watches.losses(at(4), at(20)), []);
        let policies = watches.policy_changes(at(0), at(20));
        assert_eq!(policies.len(), 1);
        assert_eq!((policies[0].time, policies[0].nodes), (at(4), 2));
    }
}
