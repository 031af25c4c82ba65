//! Metrics: the one place that spells metric and label names.
//!
//! There is no global recorder. An [`Exporter`] owns one, returns typed handles that are registered
//! once and cheap to use, and renders the text that Prometheus scrapes. Label values are bounded:
//! registries that the policy does not name are `other`, Pods and containers are never labels, and
//! of images only the patterns of the policy's exceptions.

mod agent;
mod catalogue;
mod policy;
mod webhook;

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ::metrics::{Counter, Gauge, Histogram, Key, KeyName, Label, Level, Metadata, Recorder as _};
use arc_swap::ArcSwapOption;
use metrics_exporter_prometheus::{
    Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder,
};

pub use agent::{ActivityGauge, AgentMetrics, DriftRow};
pub use catalogue::{Kind, Label as MetricLabel, Metric, Service, catalogue};
pub use policy::PolicyMetrics;
pub use webhook::{Closed, Operation, Outcome, Webhook, WebhookMetrics};

use catalogue::{ADMISSION_DURATION, AGENT_DETECTION, BUILD_INFO, OTLP_EXPORT_FAILURES};
use policy::PolicyInForce;

/// From well below the time of one review up to the API server's longest timeout for a webhook.
const ADMISSION_BUCKETS: [f64; 15] = [
    25e-6, 50e-6, 100e-6, 250e-6, 500e-6, 1e-3, 2.5e-3, 5e-3, 10e-3, 25e-3, 100e-3, 0.5, 1.0, 5.0,
    30.0,
];
/// From an event that is resolved at once to one that waited for a runtime's answer.
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

impl Exporter {
    /// An exporter that knows all names and has no series yet.
    pub fn new() -> Self {
        let recorder = builder().build_recorder();
        for metric in catalogue() {
            let (name, text) = (KeyName::from(metric.name), metric.help.into());
            match metric.kind {
                Kind::Counter => recorder.describe_counter(name, None, text),
                Kind::Gauge => recorder.describe_gauge(name, None, text),
                Kind::Histogram => recorder.describe_histogram(name, None, text),
            }
        }
        Self {
            handle: recorder.handle(),
            recorder: Arc::new(recorder),
            policy: Arc::default(),
        }
    }

    /// The text exposition format, version 0.0.4.
    pub fn render(&self) -> String {
        let mut text = self.handle.render();
        if let Some(policy) = self.policy.load_full() {
            policy.write(&mut text);
        }
        text
    }

    /// Merges histogram samples into their buckets; must be called every few seconds, or they pile
    /// up. The admin server does it.
    pub fn run_upkeep(&self) {
        self.handle.run_upkeep();
    }

    /// Registers the webhook's series.
    pub fn webhook_metrics(&self) -> WebhookMetrics {
        self.build_info("webhook");
        WebhookMetrics::register(self)
    }

    /// Registers the agent's series.
    pub fn agent_metrics(&self) -> AgentMetrics {
        self.build_info("agent");
        AgentMetrics::register(self)
    }

    /// Registers the policy's series.
    pub fn policy_metrics(&self) -> PolicyMetrics {
        PolicyMetrics::register(self)
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

    /// Distinguishes the services in queries.
    fn build_info(&self, component: &'static str) {
        let labels = vec![
            Label::new("version", env!("CARGO_PKG_VERSION")),
            Label::new("component", component),
        ];
        self.gauge(BUILD_INFO, labels).set(1.0);
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

/// Without explicit bounds a histogram would be exported as a summary, which cannot be aggregated.
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

/// Writes the lines before a metric's series.
fn write_head(text: &mut String, name: &str) {
    for metric in catalogue().iter().filter(|metric| metric.name == name) {
        let _infallible = writeln!(
            text,
            "# HELP {name} {}\n# TYPE {name} {}",
            metric.help,
            metric.kind.as_str()
        );
    }
}

#[cfg(test)]
mod tests;
