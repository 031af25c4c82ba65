//! Metrics: the one place that spells metric and label names.
//!
//! There is no global recorder. An [`Exporter`] owns one, hands out typed handles that are registered once and
//! cheap to use, and renders the text that Prometheus scrapes. Label values are bounded: registries that the policy
//! does not name are `other`, and no pod, container or full image ever becomes a label.

mod agent;
mod webhook;

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ::metrics::{Counter, Gauge, Histogram, Key, KeyName, Label, Level, Metadata, Recorder as _};
use arc_swap::ArcSwapOption;
use metrics_exporter_prometheus::{
    Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder,
};

pub use agent::{AgentMetrics, DriftRow};
pub use webhook::{Closed, Operation, Outcome, Webhook, WebhookMetrics};

const BUILD_INFO: &str = "imageswap_build_info";
const POLICY_INFO: &str = "imageswap_policy_info";
const POLICY_LAST_LOAD: &str = "imageswap_policy_last_load_timestamp_seconds";
const POLICY_RELOAD_FAILURES: &str = "imageswap_policy_reload_failures_total";
const TLS_NOT_AFTER: &str = "imageswap_tls_not_after_timestamp_seconds";

const OTLP_EXPORT_FAILURES: &str = "imageswap_otlp_export_failures_total";

const ADMISSION_REQUESTS: &str = "imageswap_admission_requests_total";
const ADMISSION_DURATION: &str = "imageswap_admission_duration_seconds";
const ADMISSION_CONNECTIONS: &str = "imageswap_admission_connections";
const ADMISSION_IN_FLIGHT: &str = "imageswap_admission_requests_in_flight";
const ADMISSION_CLOSED: &str = "imageswap_admission_connections_closed_total";
const ADMISSION_IMAGES: &str = "imageswap_admission_images_total";

const AGENT_STARTS: &str = "imageswap_agent_container_starts_total";
const AGENT_DRIFT: &str = "imageswap_agent_drift_containers";
const AGENT_DETECTION: &str = "imageswap_agent_detection_seconds";
const AGENT_EVENTS_LOST: &str = "imageswap_agent_events_lost_total";
const AGENT_PROBE_RUNS: &str = "imageswap_agent_probe_runs_total";
const AGENT_PROBE_TIME: &str = "imageswap_agent_probe_run_nanoseconds_total";
const AGENT_RECONCILED: &str = "imageswap_agent_reconciled_total";
const AGENT_POD_EVENTS: &str = "imageswap_agent_pod_events_total";
const AGENT_RESPONSES: &str = "imageswap_agent_responses_total";

/// From well under what one review takes to the API server's longest patience with a webhook.
const ADMISSION_BUCKETS: [f64; 15] = [
    25e-6, 50e-6, 100e-6, 250e-6, 500e-6, 1e-3, 2.5e-3, 5e-3, 10e-3, 25e-3, 100e-3, 0.5, 1.0, 5.0,
    30.0,
];
/// From an event that is resolved at once to one that waited for a runtime to answer.
const DETECTION_BUCKETS: [f64; 13] = [
    100e-6, 250e-6, 500e-6, 1e-3, 2.5e-3, 5e-3, 10e-3, 25e-3, 50e-3, 100e-3, 0.5, 1.0, 5.0,
];

const METADATA: Metadata<'static> = Metadata::new("imageswap", Level::INFO, None);

/// Owns all series of a process and renders them. Clones share the series.
#[derive(Clone)]
pub struct Exporter {
    recorder: Arc<PrometheusRecorder>,
    handle: PrometheusHandle,
    policy: Arc<ArcSwapOption<PolicyInForce>>,
}

/// The policy metrics that both services have. Clones share the series.
#[derive(Clone)]
pub struct PolicyMetrics {
    in_force: Arc<ArcSwapOption<PolicyInForce>>,
    last_load: Gauge,
    reload_failures: Counter,
}

/// Labels of the policy's info series.
struct PolicyInForce {
    revision: String,
    source: &'static str,
}

impl Exporter {
    /// An exporter that knows all names and has no series yet but the build's.
    pub fn new() -> Self {
        let recorder = builder().build_recorder();
        let exporter = Self {
            handle: recorder.handle(),
            recorder: Arc::new(recorder),
            policy: Arc::default(),
        };
        exporter.describe();
        exporter
            .gauge(
                BUILD_INFO,
                vec![Label::new("version", env!("CARGO_PKG_VERSION"))],
            )
            .set(1.0);
        exporter
    }

    /// The text exposition format, version 0.0.4.
    pub fn render(&self) -> String {
        let mut text = self.handle.render();
        // An info series has to vanish with the revision that it names, which a recorder's gauge cannot do.
        if let Some(policy) = self.policy.load_full() {
            use std::fmt::Write as _;
            let _infallible = write!(
                text,
                "# HELP {POLICY_INFO} The policy in force, as labels\n# TYPE {POLICY_INFO} gauge\n\
                 {POLICY_INFO}{{revision=\"{}\",source=\"{}\"}} 1\n\n",
                escape(&policy.revision),
                policy.source,
            );
        }
        text
    }

    /// Folds histogram samples into their buckets; to be called every few seconds, or they pile up. The admin
    /// server does it.
    pub fn run_upkeep(&self) {
        self.handle.run_upkeep();
    }

    /// Registers the webhook's series.
    pub fn webhook_metrics(&self) -> WebhookMetrics {
        WebhookMetrics::register(self)
    }

    /// Registers the agent's series.
    pub fn agent_metrics(&self) -> AgentMetrics {
        AgentMetrics::register(self)
    }

    /// Registers the policy's series.
    pub fn policy_metrics(&self) -> PolicyMetrics {
        let reload_failures = self.counter(POLICY_RELOAD_FAILURES, vec![]);
        reload_failures.absolute(0);
        PolicyMetrics {
            in_force: Arc::clone(&self.policy),
            last_load: self.gauge(POLICY_LAST_LOAD, vec![]),
            reload_failures,
        }
    }

    /// Batches of an OpenTelemetry signal that never reached the collector.
    pub(crate) fn otlp_failures(&self, signal: &'static str) -> Counter {
        let failures = self.counter(OTLP_EXPORT_FAILURES, vec![Label::new("signal", signal)]);
        failures.absolute(0);
        failures
    }

    fn counter(&self, name: &'static str, labels: Vec<Label>) -> Counter {
        self.recorder
            .register_counter(&Key::from_parts(name, labels), &METADATA)
    }

    fn gauge(&self, name: &'static str, labels: Vec<Label>) -> Gauge {
        self.recorder
            .register_gauge(&Key::from_parts(name, labels), &METADATA)
    }

    fn histogram(&self, name: &'static str) -> Histogram {
        self.recorder
            .register_histogram(&Key::from_static_name(name), &METADATA)
    }

    fn describe(&self) {
        let counters = [
            (
                POLICY_RELOAD_FAILURES,
                "Changes of the policy's source that could not be read or do not load",
            ),
            (
                OTLP_EXPORT_FAILURES,
                "Batches that could not be sent to the OpenTelemetry collector",
            ),
            (ADMISSION_REQUESTS, "Admission reviews answered"),
            (ADMISSION_IMAGES, "Images decided in admission reviews"),
            (
                ADMISSION_CLOSED,
                "Connections that the webhook closed before their client did",
            ),
            (AGENT_STARTS, "Container starts judged"),
            (
                AGENT_EVENTS_LOST,
                "Kernel events that never reached user space",
            ),
            (
                AGENT_PROBE_RUNS,
                "Runs of a program in the kernel while its statistics are on",
            ),
            (
                AGENT_PROBE_TIME,
                "Time in a program in the kernel while its statistics are on",
            ),
            (
                AGENT_RECONCILED,
                "Containers found other than by their start event",
            ),
            (
                AGENT_POD_EVENTS,
                "Kubernetes Events on Pods whose containers drift or are unresolved",
            ),
            (AGENT_RESPONSES, "What was done about Pods that drift"),
        ];
        let gauges = [
            (BUILD_INFO, "The build, as labels"),
            (POLICY_LAST_LOAD, "Time when the policy in force was loaded"),
            (ADMISSION_CONNECTIONS, "Open connections to the webhook"),
            (
                ADMISSION_IN_FLIGHT,
                "Requests that the webhook is reading or answering",
            ),
            (TLS_NOT_AFTER, "Time when the serving certificate expires"),
            (
                AGENT_DRIFT,
                "Running containers whose image the policy would not leave as it is",
            ),
        ];
        let histograms = [
            (
                ADMISSION_DURATION,
                "Time from a review's request head to its answer",
            ),
            (
                AGENT_DETECTION,
                "Time from a container's start to its verdict",
            ),
        ];
        for (name, text) in counters {
            self.recorder
                .describe_counter(KeyName::from(name), None, text.into());
        }
        for (name, text) in gauges {
            self.recorder
                .describe_gauge(KeyName::from(name), None, text.into());
        }
        for (name, text) in histograms {
            self.recorder
                .describe_histogram(KeyName::from(name), None, text.into());
        }
    }
}

impl Default for Exporter {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for Exporter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Exporter").finish_non_exhaustive()
    }
}

impl PolicyMetrics {
    /// A policy came into force. `source` is the kind of place that it came from, such as `maps`.
    pub fn loaded(&self, revision: &str, source: &'static str) {
        self.in_force.store(Some(Arc::new(PolicyInForce {
            revision: revision.to_owned(),
            source,
        })));
        self.last_load.set(unix_seconds(SystemTime::now()));
    }

    /// The source changed and what it holds now is of no use.
    pub fn reload_failed(&self) {
        self.reload_failures.increment(1);
    }
}

impl std::fmt::Debug for PolicyMetrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PolicyMetrics").finish_non_exhaustive()
    }
}

/// Without bounds of its own a histogram would be exported as a summary, which cannot be added up.
fn builder() -> PrometheusBuilder {
    [
        (ADMISSION_DURATION, &ADMISSION_BUCKETS[..]),
        (AGENT_DETECTION, &DETECTION_BUCKETS[..]),
    ]
    .into_iter()
    .try_fold(PrometheusBuilder::new(), |builder, (name, bounds)| {
        builder.set_buckets_for_metric(Matcher::Full(name.to_owned()), bounds)
    })
    .expect("bucket bounds are never empty")
}

fn unix_seconds(time: SystemTime) -> f64 {
    time.duration_since(UNIX_EPOCH)
        .unwrap_or(Duration::ZERO)
        .as_secs_f64()
}

/// Escapes a label value for the exposition format.
fn escape(value: &str) -> String {
    value
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_revision_in_force_is_shown() {
        let exporter = Exporter::new();
        let policy = exporter.policy_metrics();
        assert!(!exporter.render().contains(POLICY_INFO));
        policy.loaded("r1", "maps");
        policy.loaded("r2", "maps");
        let text = exporter.render();
        assert!(
            text.contains("\nimageswap_policy_info{revision=\"r2\",source=\"maps\"} 1\n"),
            "{text}"
        );
        assert!(!text.contains("r1"), "{text}");
    }

    #[test]
    fn reload_failures_exist_from_the_start() {
        let exporter = Exporter::new();
        let policy = exporter.policy_metrics();
        assert!(
            exporter
                .render()
                .contains("\nimageswap_policy_reload_failures_total 0\n")
        );
        policy.reload_failed();
        assert!(
            exporter
                .render()
                .contains("\nimageswap_policy_reload_failures_total 1\n")
        );
    }

    #[test]
    fn exporters_do_not_share_series() {
        let (one, two) = (Exporter::new(), Exporter::new());
        one.policy_metrics().reload_failed();
        two.policy_metrics();
        assert!(
            two.render()
                .contains("\nimageswap_policy_reload_failures_total 0\n")
        );
    }

    #[test]
    fn label_values_are_escaped() {
        assert_eq!(escape("a\"b\\c\nd"), "a\\\"b\\\\c\\nd");
    }
}
