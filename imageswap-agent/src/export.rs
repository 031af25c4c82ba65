//! Writes findings as JSON lines, and counts them as metrics.

use crate::agent_record::{AgentRecord, AgentRecords, StopReason};
use crate::finding::{Event, Finding};
use crate::metrics::{AgentMetrics, DriftRow};
use crate::node::Origin;
use crate::probe::{Cost, Losses};
use crate::respond::Responder;
use crate::verdict::{LEGAL, Route, Verdict, is_legal};
use clap::ValueEnum;
use imageswap_ebpf::Lost;
use imageswap_policy::Policies;
use imageswap_runtime::source::Namespaces;
use imageswap_runtime::telemetry::Logs;
use imageswap_runtime::text;
use pod_events::PodEvents;
use policy_reports::PolicyReports;
use serde::Serialize;
use shown::Shown;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::Path;
use std::time::{Duration, SystemTime};

mod otlp;
pub mod pod_events;
pub mod policy_reports;
pub mod shown;

/// Reasons why a start was found late, as metric labels.
pub const RECONCILE_CAUSES: &[&str] = &[
    CAUSE_PERIODIC,
    CAUSE_LOST,
    CAUSE_OVERFLOW,
    CAUSE_RUNTIME_BACK,
    CAUSE_LATE_ANSWER,
];
/// Found by the periodic walk over the cgroup tree.
pub const CAUSE_PERIODIC: &str = "periodic";
/// Found by the walk after a lost event.
pub const CAUSE_LOST: &str = "event-lost";
/// Kept in the kernel while the ring buffer is full.
pub const CAUSE_OVERFLOW: &str = "overflow";
/// Found in the list of a runtime whose events were not received for a while.
pub const CAUSE_RUNTIME_BACK: &str = "runtime-back";
/// A runtime answered late.
pub const CAUSE_LATE_ANSWER: &str = "late-answer";

/// A container process began in a cgroup about which nothing else was seen; a label of the lost
/// events.
const UNPLACED: &str = "unplaced-exec";

/// A process began in a cgroup, which was gone before a source could answer whether it was a
/// container's.
const UNANSWERED: &str = "unanswered";

/// containerd reported starts faster than the agent could ask about them, and its list, which would
/// have them too, did not come.
const UNLISTED: &str = "unlisted-task";

/// Which findings are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum FindingsLevel {
    /// Only drift, and what could not be resolved.
    Drift,
    /// Everything.
    All,
}

impl FindingsLevel {
    /// The level as the command line spells it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Drift => "drift",
            Self::All => "all",
        }
    }
}

/// The exports of one agent.
pub struct Exports {
    lines: Box<dyn Write + Send>,
    level: FindingsLevel,
    own_records: AgentRecords,
    metrics: AgentMetrics,
    write_failed: bool,
    pod_events: Option<PodEvents>,
    policy_reports: Option<PolicyReports>,
    responder: Option<Responder>,
    logs: Option<Logs>,
    shown: Shown,
}

impl Exports {
    /// Opens the file of findings (`-` is standard output) and puts the series that alerts use at
    /// zero. The agent at `origin` writes a record about itself at least once per `interval`.
    pub fn open(
        path: &Path,
        level: FindingsLevel,
        origin: Origin,
        interval: Duration,
        metrics: AgentMetrics,
    ) -> io::Result<Self> {
        let lines: Box<dyn Write + Send> = if path == Path::new("-") {
            Box::new(io::stdout())
        } else {
            Box::new(OpenOptions::new().create(true).append(true).open(path)?)
        };
        metrics.declare_lost(&Lost::ALL.map(Lost::as_str));
        metrics.declare_lost(&[UNPLACED, UNANSWERED, UNLISTED]);
        metrics.declare_reconciled(RECONCILE_CAUSES);
        for (verdict, reason) in LEGAL {
            for route in Route::ALL {
                if !is_legal(*verdict, *route, *reason) {
                    continue;
                }
                metrics.declare_starts(verdict.as_str(), route.as_str(), reason.as_str());
                if *verdict == Verdict::Drift {
                    metrics.declare_drift_stopped(route.as_str(), reason.as_str());
                }
            }
        }
        Ok(Self {
            lines,
            level,
            own_records: AgentRecords::new(origin, level.as_str(), interval),
            metrics,
            write_failed: false,
            pod_events: None,
            policy_reports: None,
            responder: None,
            logs: None,
            shown: Shown::default(),
        })
    }

    /// Also sends findings to a collector.
    pub fn to_collector(&mut self, logs: Logs) {
        self.logs = Some(logs);
    }

    /// Reports that the agent has watched since `time`.
    pub fn started(&mut self, time: SystemTime, policies: &Policies, resumed: bool) {
        let record = self.own_records.started(time, policies, resumed);
        self.records(&[record]);
    }

    /// Reports the policies that are in force now, if they are others.
    pub fn policy_changed(&mut self, policies: &Policies) {
        let record = self.own_records.policy_changed(SystemTime::now(), policies);
        self.records(record.as_slice());
    }

    /// Reports events that were lost since the last call, and that the agent still watches; called
    /// once a second.
    pub fn tick(&mut self) {
        let records = self.own_records.due(SystemTime::now());
        self.records(&records);
    }

    /// Reports the end of this agent, and sends what is queued. Blocks for a few seconds at most.
    pub fn shutdown(&mut self, reason: StopReason) {
        self.tick();
        let record = self.own_records.stopped(SystemTime::now(), reason);
        self.records(&[record]);
        if let Some(logs) = &self.logs {
            logs.shutdown();
        }
    }

    /// Also reports to the cluster: Events on Pods, and evictions.
    pub fn to_cluster(&mut self, pod_events: PodEvents, responder: Option<Responder>) {
        self.pod_events = Some(pod_events);
        self.responder = responder;
    }

    /// Also writes reports about what drifts into the cluster.
    pub fn to_policy_reports(&mut self, reports: PolicyReports) {
        self.policy_reports = Some(reports);
    }

    /// The page with what drifts or is unresolved.
    pub fn page(&self) -> Shown {
        self.shown.clone()
    }

    /// Shows what drifts or is unresolved now, all of it: on the page, as a gauge, and in the
    /// cluster, whose namespaces are known. Clients of a runtime could name any number of others.
    pub fn unapproved(&self, unapproved: &[Finding], known: &Namespaces) {
        self.shown.set(unapproved);
        let drift = unapproved
            .iter()
            .filter(|it| it.verdict == Verdict::Drift)
            .map(|finding| {
                let named = finding.pod.as_ref().map(|pod| &pod.namespace);
                let named = named.filter(|name| known.labels(name).is_some());
                DriftRow {
                    workload_namespace: named.cloned().unwrap_or_default(),
                    route: finding.route.as_str(),
                    reason: finding.reason.as_str(),
                    containers: 1,
                }
            });
        self.metrics.set_drift(&drift.collect::<Vec<_>>());
        if let Some(reports) = &self.policy_reports {
            reports.set(unapproved);
        }
    }

    /// Writes findings and counts the starts among them. Containers from before the agent and
    /// repeated judgements do not count as starts.
    pub fn findings(&mut self, findings: &[Finding]) {
        let mut lines = String::new();
        for finding in findings {
            if let Some(events) = &self.pod_events {
                events.report(finding);
            }
            if let Some(responder) = &self.responder {
                responder.report(finding);
            }
            if let Some(logs) = &self.logs {
                logs.emit(otlp::record(finding));
            }
            if matches!(finding.event, Event::Start | Event::Reconciled) {
                let (verdict, route, reason) = (finding.verdict, finding.route, finding.reason);
                self.metrics
                    .container_started(verdict.as_str(), route.as_str(), reason.as_str());
            }
            if finding.event == Event::Stopped && finding.verdict == Verdict::Drift {
                let (route, reason) = (finding.route, finding.reason);
                self.metrics.drift_stopped(route.as_str(), reason.as_str());
            }
            if let Some(detect_us) = finding.detect_us {
                self.metrics.detection(Duration::from_micros(detect_us));
            }
            let wanted = self.level == FindingsLevel::All
                || matches!(finding.verdict, Verdict::Drift | Verdict::Unresolved);
            if wanted {
                lines.push_str(&json_line(finding));
            }
        }
        self.write(&lines);
    }

    /// Writes the agent's records about itself, at any level.
    fn records(&mut self, records: &[AgentRecord]) {
        let mut lines = String::new();
        for record in records {
            if let Some(logs) = &self.logs {
                logs.emit(otlp::agent_record(record));
            }
            lines.push_str(&json_line(record));
        }
        self.write(&lines);
    }

    fn write(&mut self, text: &str) {
        if text.is_empty() {
            return;
        }
        // A closed pipe must not end the agent: metrics still count.
        match self
            .lines
            .write_all(text.as_bytes())
            .and_then(|()| self.lines.flush())
        {
            Ok(()) => self.write_failed = false,
            Err(error) if !self.write_failed => {
                tracing::error!(%error, "cannot write findings");
                self.write_failed = true;
            }
            Err(_) => {}
        }
    }

    /// Exports events that the probes have lost; true if there are any.
    pub fn lost(&mut self, lost: &Losses) -> bool {
        let mut any = false;
        for (cause, events) in lost.iter().filter(|(_, events)| *events > 0) {
            let cause = cause.as_str();
            self.missed(cause, *events);
            tracing::warn!(cause, events, "events were lost; looking at the whole tree");
            any = true;
        }
        any
    }

    /// Exports the cost of the programs in the kernel; nothing while the kernel does not count it.
    pub fn costs(&self, costs: &[Cost]) {
        for cost in costs.iter().filter(|cost| cost.runs > 0) {
            self.metrics.probe_cost(cost.program, cost.runs, cost.time);
        }
    }

    /// Counts a start of which only the exec, or only its task, is known.
    pub fn unplaced(&mut self) {
        self.missed(UNPLACED, 1);
    }

    /// Counts starts about which no source has answered.
    pub fn unanswered(&mut self, starts: u64) {
        self.missed(UNANSWERED, starts);
    }

    /// Counts starts that containerd reported, and that were neither asked about nor listed.
    pub fn unlisted(&mut self, starts: u64) {
        self.missed(UNLISTED, starts);
    }

    fn missed(&mut self, cause: &'static str, starts: u64) {
        if starts > 0 {
            self.metrics.events_lost(cause, starts);
            self.own_records.lost(cause, starts);
        }
    }

    /// Counts starts that were found late.
    pub fn reconciled(&self, cause: &'static str, starts: u64) {
        if starts > 0 {
            self.metrics.reconciled(cause, starts);
        }
    }
}

/// A value as a line of JSON. What JSON may leave as it is and a terminal acts on, such as C1 controls,
/// is escaped, too: people read these lines in a terminal.
fn json_line(value: &impl Serialize) -> String {
    let json = serde_json::to_string(value).unwrap_or_default();
    let line = text::shown(&json);
    if line.is_empty() {
        String::new()
    } else {
        format!("{line}\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::{Container, KIND, Pod, PolicyName, SCHEMA};
    use crate::judge::Confidence;
    use crate::verdict::Reason;
    use imageswap_runtime::metrics::Exporter;
    use std::collections::BTreeMap;

    #[test]
    fn the_pages_name_each_cause_of_a_late_find() {
        let metrics = include_str!("../../docs/metrics.md");
        let mut rows = metrics.lines();
        let row =
            rows.find(|row| row.starts_with("| `imageswap_agent_reconciled_total` | `cause` |"));
        let agent = include_str!("../../docs/agent.md");
        for cause in RECONCILE_CAUSES {
            let cause = format!("`{cause}`");
            assert!(row.unwrap().contains(&cause), "{cause}");
            assert!(agent.contains(&format!("\n| {cause} | ")), "{cause}");
        }
    }

    fn finding(event: Event, verdict: Verdict, reason: Reason) -> Finding {
        Finding {
            schema: SCHEMA,
            kind: KIND,
            start_id: "boot/1".to_owned(),
            event,
            time: SystemTime::UNIX_EPOCH,
            started: None,
            node: "n1".to_owned(),
            verdict,
            route: Route::Containerd,
            reason,
            rule: None,
            policy: PolicyName {
                name: None,
                revision: "none".to_owned(),
                set_revision: "r".to_owned(),
            },
            image: None,
            names: Vec::new(),
            expected_image: None,
            digest: None,
            provenance: None,
            confidence: Confidence::High,
            container: Container {
                id: None,
                name: None,
                kind: "container",
            },
            pod: None,
            runtime: "containerd".to_owned(),
            runtime_namespace: None,
            process: None,
            cgroup: "/default/x".to_owned(),
            detect_us: None,
        }
    }

    fn exports(path: &Path, level: FindingsLevel, metrics: AgentMetrics) -> Exports {
        let origin = Origin {
            node: "n1".to_owned(),
            boot_id: "boot".to_owned(),
        };
        let interval = Duration::from_hours(1);
        Exports::open(path, level, origin, interval, metrics).unwrap()
    }

    #[test]
    fn agent_records_are_written_at_every_level_around_the_findings() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("findings.jsonl");
        let metrics = AgentMetrics::new(&Exporter::new());
        let mut exports = exports(&path, FindingsLevel::Drift, metrics);
        exports.started(SystemTime::UNIX_EPOCH, &Policies::none(), true);
        exports.findings(&[
            finding(Event::Start, Verdict::Approved, Reason::Ok),
            finding(Event::Start, Verdict::Drift, Reason::NotAdmitted),
        ]);
        exports.unplaced();
        exports.shutdown(StopReason::Error);
        let text = std::fs::read_to_string(&path).unwrap();
        let written: Vec<_> = text
            .lines()
            .map(|line| {
                let line: serde_json::Value = serde_json::from_str(line).unwrap();
                ["kind", "event"].map(|field| line[field].as_str().unwrap().to_owned())
            })
            .collect();
        let expected = [
            ["agent", "agent-started"],
            ["container", "start"],
            ["agent", "events-lost"],
            ["agent", "agent-stopped"],
        ];
        assert_eq!(written, expected);
    }

    #[test]
    fn a_line_does_nothing_to_a_terminal() {
        let image = "registry.example.com/a\u{9b}31m\u{202e}gnp\u{7f}\u{1b}]0;x\u{7}\u{2066}é";
        let line = json_line(&[image]);
        let is_unsafe = |c: char| c != '\n' && text::shown(&c.to_string()) != c.to_string();
        assert!(!line.contains(is_unsafe), "{line:?}");
        assert_eq!(serde_json::from_str::<[String; 1]>(&line).unwrap(), [image]);
    }

    /// Alerts look for an increase: a series that begins at 1 does not show one.
    #[test]
    fn drift_that_comes_and_goes_raises_two_counters_from_0() {
        let exporter = Exporter::new();
        let metrics = AgentMetrics::new(&exporter);
        let nowhere = Path::new("/dev/null");
        let mut exports = exports(nowhere, FindingsLevel::All, metrics);
        let labels = "route=\"containerd\",reason=\"not-admitted\"}";
        let shows = |starts: u64, stopped: u64| {
            let text = exporter.render();
            for line in [
                format!(
                    "imageswap_agent_container_starts_total{{verdict=\"drift\",{labels} {starts}"
                ),
                format!("imageswap_agent_drift_stopped_total{{{labels} {stopped}"),
            ] {
                assert!(text.lines().any(|it| it == line), "{line}\n{text}");
            }
        };
        shows(0, 0);
        exports.findings(&[finding(Event::Start, Verdict::Drift, Reason::NotAdmitted)]);
        shows(1, 0);
        exports.findings(&[finding(Event::Stopped, Verdict::Drift, Reason::NotAdmitted)]);
        shows(1, 1);
        // A container that did not drift when it ended, or that was only judged again, is not
        // counted.
        exports.findings(&[
            finding(Event::Stopped, Verdict::Unresolved, Reason::NotAdmitted),
            finding(Event::Rejudged, Verdict::Drift, Reason::NotAdmitted),
        ]);
        shows(1, 1);
    }

    #[test]
    fn the_page_says_how_many_findings_it_leaves_out() {
        let drift = finding(Event::Start, Verdict::Drift, Reason::NotAdmitted);
        let line = json_line(&drift);
        let all = [drift.clone(), drift.clone(), drift];
        assert_eq!(shown::page(&all, 3 * line.len()), line.repeat(3));
        let cut = shown::page(&all, 3 * line.len() - 1);
        assert_eq!(cut, line.repeat(2) + "{\"left_out\":1}\n");
    }

    /// Clients of the CRI can name any number of namespaces.
    #[test]
    fn the_gauge_has_the_namespaces_of_the_cluster_and_no_other() {
        let exporter = Exporter::new();
        let metrics = AgentMetrics::new(&exporter);
        let exports = exports(Path::new("/dev/null"), FindingsLevel::All, metrics);
        let unapproved = ["team-a", "made-up"].map(|namespace| Finding {
            pod: Some(Pod {
                namespace: namespace.to_owned(),
                name: "x".to_owned(),
                uid: "u".to_owned(),
                owner: None,
            }),
            ..finding(Event::Start, Verdict::Drift, Reason::NotAdmitted)
        });
        let unresolved = finding(Event::Start, Verdict::Unresolved, Reason::NotAdmitted);
        let unapproved = [&unapproved[..], &[unresolved]].concat();
        let cluster = Namespaces::fixed([("team-a".to_owned(), BTreeMap::new())]);
        for (known, expected) in [(cluster, [1, 1]), (Namespaces::unknown(), [0, 2])] {
            exports.unapproved(&unapproved, &known);
            let text = exporter.render();
            for (namespace, containers) in ["team-a", ""].into_iter().zip(expected) {
                let line = format!(
                    "imageswap_agent_drift_containers{{workload_namespace=\"{namespace}\",\
                     route=\"containerd\",reason=\"not-admitted\"}} {containers}"
                );
                assert!(text.lines().any(|it| it == line), "{line}\n{text}");
            }
            assert!(!text.contains("made-up"), "{text}");
        }
    }
}
