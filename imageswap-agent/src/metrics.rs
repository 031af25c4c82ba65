//! The agent's series.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use imageswap_runtime::metrics::catalogue::{
    AGENT_DETECTION, AGENT_DRIFT, AGENT_DRIFT_STOPPED, AGENT_EVENTS_LOST, AGENT_FINISHED,
    AGENT_INFO, AGENT_LIMIT, AGENT_POD_EVENTS, AGENT_POLICY_REPORTS, AGENT_PROBE_RUNS,
    AGENT_PROBE_TIME, AGENT_RECONCILED, AGENT_RESPONSES, AGENT_STARTS,
};
use imageswap_runtime::metrics::{Exporter, Gauge, Histogram, Metric, SharedString};

/// The agent's handles. Clones share the series.
#[derive(Debug, Clone)]
pub struct AgentMetrics {
    exporter: Exporter,
    detection: Histogram,
    drift: Arc<Mutex<HashSet<DriftKey>>>,
}

/// Running drifting containers, counted by the gauge's labels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DriftRow {
    /// Namespace of the workload: the Pod's, or the runtime's if the container has no Pod.
    pub workload_namespace: String,
    /// How the container was started.
    pub route: &'static str,
    /// Why it is drift.
    pub reason: &'static str,
    /// The number.
    pub containers: u64,
}

/// Labels of one drift series: namespace, route, reason.
type DriftKey = (String, &'static str, &'static str);

/// When an activity last finished.
#[derive(Clone)]
pub struct ActivityGauge(Gauge);

impl ActivityGauge {
    /// Records that the activity has finished once more.
    pub fn finished(&self) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        self.0.set(now.unwrap_or_default().as_secs_f64());
    }
}

impl AgentMetrics {
    /// Registers the series that need no values.
    pub fn new(exporter: &Exporter) -> Self {
        exporter.build_info("agent");
        Self {
            exporter: exporter.clone(),
            detection: exporter.histogram(&AGENT_DETECTION),
            drift: Arc::default(),
        }
    }

    /// Sets the node's name.
    pub fn set_node(&self, name: &str) {
        self.exporter.gauge(&AGENT_INFO, [name.to_owned()]).set(1.0);
    }

    /// A container started and was judged.
    pub fn container_started(
        &self,
        verdict: &'static str,
        route: &'static str,
        reason: &'static str,
    ) {
        let values = [verdict, route, reason];
        self.exporter.counter(&AGENT_STARTS, values).increment(1);
    }

    /// Shows starts of this kind as 0 before the first.
    pub fn declare_starts(&self, verdict: &'static str, route: &'static str, reason: &'static str) {
        let values = [verdict, route, reason];
        self.exporter.declare(&AGENT_STARTS, values);
    }

    /// Replaces the drift gauge: `rows` are complete, and every other known series becomes 0. Rows
    /// with equal labels add up.
    pub fn set_drift(&self, rows: &[DriftRow]) {
        let mut shown = self.drift.lock().unwrap_or_else(PoisonError::into_inner);
        let mut now: std::collections::HashMap<DriftKey, u64> =
            shown.iter().map(|key| (key.clone(), 0)).collect();
        for row in rows {
            *now.entry((row.workload_namespace.clone(), row.route, row.reason))
                .or_default() += row.containers;
        }
        for (key, containers) in now {
            #[expect(clippy::cast_precision_loss, reason = "no node runs 2^52 containers")]
            let containers = containers as f64;
            let (namespace, route, reason) = &key;
            let values: [SharedString; 3] =
                [namespace.clone().into(), (*route).into(), (*reason).into()];
            self.exporter.gauge(&AGENT_DRIFT, values).set(containers);
            shown.insert(key);
        }
    }

    /// A container that was drift has stopped.
    pub fn drift_stopped(&self, route: &'static str, reason: &'static str) {
        let stopped = self.exporter.counter(&AGENT_DRIFT_STOPPED, [route, reason]);
        stopped.increment(1);
    }

    /// Shows stopped drift of this kind as 0 before the first.
    pub fn declare_drift_stopped(&self, route: &'static str, reason: &'static str) {
        self.exporter.declare(&AGENT_DRIFT_STOPPED, [route, reason]);
    }

    /// Records the time from a start to its verdict.
    pub fn detection(&self, duration: Duration) {
        self.detection.record(duration.as_secs_f64());
    }

    /// The kernel dropped `n` events.
    pub fn events_lost(&self, cause: &'static str, n: u64) {
        self.counted(&AGENT_EVENTS_LOST, cause, n);
    }

    /// Shows lost events as 0 for the caller's causes.
    pub fn declare_lost(&self, causes: &[&'static str]) {
        self.declare(&AGENT_EVENTS_LOST, causes);
    }

    /// Sets how often a program in the kernel has run, and for how long in total.
    pub fn probe_cost(&self, program: &'static str, runs: u64, time: Duration) {
        let time = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        for (metric, value) in [(&AGENT_PROBE_RUNS, runs), (&AGENT_PROBE_TIME, time)] {
            self.exporter.counter(metric, [program]).absolute(value);
        }
    }

    /// `n` containers were found by other means than their start event.
    pub fn reconciled(&self, cause: &'static str, n: u64) {
        self.counted(&AGENT_RECONCILED, cause, n);
    }

    /// Shows reconciled containers as 0 for the caller's causes.
    pub fn declare_reconciled(&self, causes: &[&'static str]) {
        self.declare(&AGENT_RECONCILED, causes);
    }

    /// Adds an activity that must finish at least once per `limit`, as if it had just finished.
    pub fn activity(&self, name: &'static str, limit: Duration) -> ActivityGauge {
        self.exporter
            .gauge(&AGENT_LIMIT, [name])
            .set(limit.as_secs_f64());
        let activity = ActivityGauge(self.exporter.gauge(&AGENT_FINISHED, [name]));
        activity.finished();
        activity
    }

    /// Counts a Kubernetes Event on a Pod.
    pub fn pod_event(&self, outcome: &'static str) {
        self.counted(&AGENT_POD_EVENTS, outcome, 1);
    }

    /// Shows Events as 0 for the caller's outcomes.
    pub fn declare_pod_events(&self, outcomes: &[&'static str]) {
        self.declare(&AGENT_POD_EVENTS, outcomes);
    }

    /// Counts a write of a policy report.
    pub fn policy_report(&self, outcome: &'static str) {
        self.counted(&AGENT_POLICY_REPORTS, outcome, 1);
    }

    /// Shows writes of policy reports as 0 for the caller's outcomes.
    pub fn declare_policy_reports(&self, outcomes: &[&'static str]) {
        self.declare(&AGENT_POLICY_REPORTS, outcomes);
    }

    /// Counts an action, or a decision against it, about a drifting Pod.
    pub fn response(&self, action: &'static str, outcome: &'static str) {
        let responses = self.exporter.counter(&AGENT_RESPONSES, [action, outcome]);
        responses.increment(1);
    }

    /// Shows responses as 0 for the caller's outcomes.
    pub fn declare_responses(&self, action: &'static str, outcomes: &[&'static str]) {
        for outcome in outcomes {
            self.exporter.declare(&AGENT_RESPONSES, [action, outcome]);
        }
    }

    /// Adds to a counter with one label.
    fn counted(&self, metric: &Metric, value: &'static str, n: u64) {
        self.exporter.counter(metric, [value]).increment(n);
    }

    /// Registers a counter with one label for each value.
    fn declare(&self, metric: &Metric, values: &[&'static str]) {
        for &value in values {
            self.exporter.declare(metric, [value]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use imageswap_runtime::metrics::catalogue;

    #[test]
    fn every_metric_of_the_agent_has_a_series() {
        let exporter = Exporter::new();
        let agent = AgentMetrics::new(&exporter);
        agent.set_node("n1");
        agent.declare_starts("drift", "containerd", "not-admitted");
        agent.declare_drift_stopped("containerd", "not-admitted");
        agent.set_drift(&[row("a", 1)]);
        agent.declare_lost(&["ring-full-exec"]);
        agent.declare_reconciled(&["periodic"]);
        agent.activity("walk", Duration::from_secs(90)).finished();
        agent.declare_pod_events(&["failed"]);
        agent.declare_responses("evict", &["evicted"]);
        agent.declare_policy_reports(&["applied"]);
        agent.probe_cost("exec", 1, Duration::from_nanos(1));
        // Without a sample a histogram has no lines.
        agent.detection(Duration::ZERO);
        exporter.run_upkeep();
        let text = exporter.render();
        let its = |it: &&Metric| it.name.starts_with("imageswap_agent_");
        for metric in catalogue().iter().filter(its) {
            let of = |line: &&str| line.starts_with(metric.name) && line.contains(' ');
            let line = text
                .lines()
                .find(of)
                .unwrap_or_else(|| panic!("{metric:?}\n{text}"));
            for label in metric.labels {
                assert!(line.contains(&format!("{}=\"", label.name)), "{line}");
            }
        }
    }

    fn row(namespace: &str, containers: u64) -> DriftRow {
        DriftRow {
            workload_namespace: namespace.to_owned(),
            route: "pod",
            reason: "webhook-skipped",
            containers,
        }
    }

    fn drift_line(namespace: &str, containers: u64) -> String {
        format!(
            "imageswap_agent_drift_containers{{workload_namespace=\"{namespace}\",route=\"pod\",\
             reason=\"webhook-skipped\"}} {containers}\n"
        )
    }

    #[test]
    fn drift_that_vanished_is_zero() {
        let exporter = Exporter::new();
        let metrics = AgentMetrics::new(&exporter);
        metrics.set_drift(&[row("a", 1), row("b", 2), row("a", 3)]);
        let text = exporter.render();
        assert!(
            text.contains(&drift_line("a", 4)) && text.contains(&drift_line("b", 2)),
            "{text}"
        );
        metrics.clone().set_drift(&[row("b", 1)]);
        let text = exporter.render();
        assert!(
            text.contains(&drift_line("a", 0)) && text.contains(&drift_line("b", 1)),
            "{text}"
        );
    }

    #[test]
    fn declared_series_are_zero_and_keep_their_counts() {
        let exporter = Exporter::new();
        let metrics = AgentMetrics::new(&exporter);
        metrics.declare_lost(&["stack"]);
        metrics.declare_reconciled(&["restart"]);
        metrics.declare_starts("drift", "cri", "retagged");
        metrics.container_started("drift", "cri", "retagged");
        metrics.declare_starts("drift", "cri", "retagged");
        metrics.events_lost("overflow", 3);
        let text = exporter.render();
        for line in [
            r#"imageswap_agent_events_lost_total{cause="overflow"} 3"#,
            r#"imageswap_agent_events_lost_total{cause="stack"} 0"#,
            r#"imageswap_agent_reconciled_total{cause="restart"} 0"#,
            r#"imageswap_agent_container_starts_total{verdict="drift",route="cri",reason="retagged"} 1"#,
        ] {
            assert!(text.lines().any(|l| l == line), "{line}\n{text}");
        }
    }

    #[test]
    fn an_activity_has_its_time_and_its_limit() {
        let exporter = Exporter::new();
        let before = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let activity = AgentMetrics::new(&exporter).activity("walk", Duration::from_secs(90));
        activity.finished();
        let text = exporter.render();
        let sample = |metric: &str| {
            let series = format!("{metric}{{activity=\"walk\"}} ");
            let value = text.lines().find_map(|line| line.strip_prefix(&series));
            value
                .unwrap_or_else(|| panic!("{text}"))
                .parse::<f64>()
                .unwrap()
        };
        assert!(sample("imageswap_agent_activity_limit_seconds") > 89.0);
        let finished = sample("imageswap_agent_activity_finished_timestamp_seconds");
        assert!(finished >= before.as_secs_f64(), "{finished}");
    }

    #[test]
    fn the_service_says_which_it_is() {
        let exporter = Exporter::new();
        AgentMetrics::new(&exporter);
        let version = env!("CARGO_PKG_VERSION");
        let line = format!("imageswap_build_info{{version=\"{version}\",component=\"agent\"}} 1");
        let text = exporter.render();
        assert!(text.lines().any(|it| it == line), "{text}");
        assert_eq!(text.matches("\nimageswap_build_info{").count(), 1, "{text}");
    }

    #[test]
    fn detection_is_a_histogram() {
        let exporter = Exporter::new();
        let metrics = AgentMetrics::new(&exporter);
        metrics.detection(Duration::from_millis(2));
        exporter.run_upkeep();
        let text = exporter.render();
        assert!(
            text.contains("imageswap_agent_detection_seconds_bucket{le=\"0.001\"} 0\n"),
            "{text}"
        );
        assert!(
            text.contains("imageswap_agent_detection_seconds_bucket{le=\"0.0025\"} 1\n"),
            "{text}"
        );
        assert!(
            text.contains("imageswap_agent_detection_seconds_count 1\n"),
            "{text}"
        );
    }
}
