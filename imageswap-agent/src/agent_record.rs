//! What the agent reports about itself in the stream of findings: when it starts, stops, changes
//! policy or loses events, and that it still watches. Without these records a quiet node would look
//! like one that nobody watched.

use crate::finding::{SCHEMA, rfc3339};
use crate::node::Origin;
use crate::words::words;
use imageswap_policy::Policies;
use schemars::JsonSchema;
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime};

/// The kind of record that is about the agent.
pub const KIND: &str = "agent";

words! {
    /// What happened to the agent.
    pub enum AgentEvent {
        /// It began to watch; `resumed` says whether the probes watched before.
        AgentStarted = "agent-started",
        /// It still watches.
        AgentWatching = "agent-watching",
        /// Another set of policies is in force.
        PolicyChanged = "policy-changed",
        /// Events of the kernel were lost, so that a short container may have gone unseen.
        EventsLost = "events-lost",
        /// It stopped watching. An agent that is killed does not write this.
        AgentStopped = "agent-stopped",
    }
}

/// A record of the agent about itself. Field order is the order in the JSON.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct AgentRecord {
    /// Always `imageswap.io/finding/v1`.
    #[schemars(extend("const" = SCHEMA))]
    pub schema: &'static str,
    /// Always `agent`.
    #[schemars(extend("const" = KIND))]
    pub kind: &'static str,
    /// What happened.
    pub event: AgentEvent,
    /// When, RFC 3339 in UTC.
    #[serde(serialize_with = "rfc3339")]
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub time: SystemTime,
    /// The node's name.
    pub node: String,
    /// The node's boot id: the first part of every `start_id` of this boot.
    pub boot_id: String,
    /// The agent's version.
    pub version: &'static str,
    /// The policies in force.
    pub policies: PolicySet,
    /// Set revision of the policies that were in force before; only of `policy-changed`.
    pub previous_set_revision: Option<String>,
    /// Whether the probes watched while no agent ran; only of `agent-started`.
    pub resumed: Option<bool>,
    /// Which findings are written: `all` or `drift`.
    pub level: &'static str,
    /// Longest time between two records in seconds, while the agent works.
    pub interval: u64,
    /// The events that were lost; only of `events-lost`.
    pub lost: Option<LostEvents>,
    /// Why it stopped: `signal`, or `error`; only of `agent-stopped`.
    #[schemars(extend("enum" = ["signal", "error", null]))]
    pub reason: Option<&'static str>,
}

/// The policies in force.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct PolicySet {
    /// Short hash of all policies in force; `none` if there are none.
    pub set_revision: String,
    /// Their names.
    pub names: Vec<String>,
}

/// Events that were lost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct LostEvents {
    /// The cause, as the metric of lost events has it.
    pub cause: &'static str,
    /// How many.
    pub events: u64,
}

/// Why an agent stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopReason {
    /// It received a signal.
    Signal,
    /// It cannot continue.
    Error,
}

/// Writes the agent's records.
#[derive(Debug)]
pub struct AgentRecords {
    origin: Origin,
    level: &'static str,
    interval: Duration,
    policies: PolicySet,
    lost: BTreeMap<&'static str, u64>,
    written: Instant,
}

impl AgentRecords {
    /// Writes at least one record per `interval`; `level` names the findings that are written.
    pub fn new(origin: Origin, level: &'static str, interval: Duration) -> Self {
        Self {
            origin,
            level,
            interval,
            policies: PolicySet::default(),
            lost: BTreeMap::new(),
            written: Instant::now(),
        }
    }

    /// The agent has watched since `time`.
    pub fn started(&mut self, time: SystemTime, policies: &Policies, resumed: bool) -> AgentRecord {
        self.policies = PolicySet::of(policies);
        AgentRecord {
            resumed: Some(resumed),
            ..self.record(AgentEvent::AgentStarted, time)
        }
    }

    /// Other policies are in force; `None` if they are the same.
    pub fn policy_changed(&mut self, time: SystemTime, policies: &Policies) -> Option<AgentRecord> {
        let policies = PolicySet::of(policies);
        if policies.set_revision == self.policies.set_revision {
            return None;
        }
        let before = std::mem::replace(&mut self.policies, policies);
        Some(AgentRecord {
            previous_set_revision: Some(before.set_revision),
            ..self.record(AgentEvent::PolicyChanged, time)
        })
    }

    /// Counts lost events, which [`Self::due`] reports.
    pub fn lost(&mut self, cause: &'static str, events: u64) {
        if events > 0 {
            *self.lost.entry(cause).or_default() += events;
        }
    }

    /// Records that are due: one for each cause of lost events, otherwise one per interval.
    pub fn due(&mut self, time: SystemTime) -> Vec<AgentRecord> {
        let lost = std::mem::take(&mut self.lost);
        let mut records: Vec<_> = lost
            .into_iter()
            .map(|(cause, events)| AgentRecord {
                lost: Some(LostEvents { cause, events }),
                ..self.record(AgentEvent::EventsLost, time)
            })
            .collect();
        if records.is_empty() && self.written.elapsed() >= self.interval {
            records.push(self.record(AgentEvent::AgentWatching, time));
        }
        records
    }

    /// The agent stops now.
    pub fn stopped(&mut self, time: SystemTime, reason: StopReason) -> AgentRecord {
        let reason = match reason {
            StopReason::Signal => "signal",
            StopReason::Error => "error",
        };
        AgentRecord {
            reason: Some(reason),
            ..self.record(AgentEvent::AgentStopped, time)
        }
    }

    fn record(&mut self, event: AgentEvent, time: SystemTime) -> AgentRecord {
        self.written = Instant::now();
        AgentRecord {
            schema: SCHEMA,
            kind: KIND,
            event,
            time,
            node: self.origin.node.clone(),
            boot_id: self.origin.boot_id.clone(),
            version: env!("CARGO_PKG_VERSION"),
            policies: self.policies.clone(),
            previous_set_revision: None,
            resumed: None,
            level: self.level,
            interval: self.interval.as_secs(),
            lost: None,
            reason: None,
        }
    }
}

impl PolicySet {
    fn of(policies: &Policies) -> Self {
        Self {
            set_revision: policies.set_revision().to_owned(),
            names: policies.iter().map(|it| it.name().to_owned()).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use imageswap_policy::maps;

    const HOUR: Duration = Duration::from_hours(1);

    fn records(interval: Duration) -> AgentRecords {
        let origin = Origin {
            node: "n1".to_owned(),
            boot_id: "b".to_owned(),
        };
        AgentRecords::new(origin, "all", interval)
    }

    fn policies(text: &str) -> Policies {
        Policies::one(maps::load("test", text).unwrap().policy)
    }

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn only_another_set_of_policies_is_a_change() {
        let mut records = records(HOUR);
        let (one, other) = (policies("default:a.example"), policies("default:b.example"));
        let started = records.started(at(1), &one, true);
        assert_eq!(started.resumed, Some(true));
        assert_eq!(started.policies.names, ["maps"]);
        assert_eq!(records.policy_changed(at(2), &one), None);
        let changed = records.policy_changed(at(3), &other).unwrap();
        assert_eq!(changed.policies.set_revision, other.set_revision());
        assert_eq!(
            changed.previous_set_revision.as_deref(),
            Some(one.set_revision())
        );
        assert_eq!(records.policy_changed(at(4), &other), None);
    }

    #[test]
    fn lost_events_are_reported_once_by_cause() {
        let mut records = records(HOUR);
        records.started(at(1), &Policies::none(), false);
        for (cause, events) in [
            ("unplaced-exec", 1),
            ("ring-full-exec", 7),
            ("unplaced-exec", 2),
            ("x", 0),
        ] {
            records.lost(cause, events);
        }
        let lost: Vec<_> = records
            .due(at(2))
            .into_iter()
            .filter_map(|it| it.lost)
            .collect();
        let expected = [("ring-full-exec", 7), ("unplaced-exec", 3)];
        assert_eq!(
            lost,
            expected.map(|(cause, events)| LostEvents { cause, events })
        );
        assert_eq!(records.due(at(3)), [], "the interval has not passed");
    }

    #[test]
    fn a_quiet_agent_says_that_it_watches() {
        let mut records = records(Duration::ZERO);
        let due = records.due(at(9));
        assert_eq!(due.len(), 1);
        assert_eq!(
            (due[0].event, due[0].time),
            (AgentEvent::AgentWatching, at(9))
        );
        let stopped = serde_json::to_value(records.stopped(at(10), StopReason::Signal)).unwrap();
        assert_eq!(
            (&stopped["event"], &stopped["reason"]),
            (&"agent-stopped".into(), &"signal".into())
        );
    }
}
