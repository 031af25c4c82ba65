//! Metrics: the one place that spells metric and label names.
//!
//! There is no global recorder. An [`Exporter`] owns one, registers series of the metrics in the
//! [`catalogue`](catalogue()), and renders the text that Prometheus scrapes. A handle of a series is
//! cheap to use. Label values are bounded: registries that the policy does not name are `other`, Pods
//! and containers are never labels, and of images only the patterns of the policy's exceptions.

pub mod catalogue;
mod policy;

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ::metrics::{Key, KeyName, Label, Level, Metadata, Recorder as _};
use arc_swap::ArcSwapOption;
use metrics_exporter_prometheus::{
    Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder,
};

pub use ::metrics::{Counter, Gauge, Histogram, SharedString};
pub use catalogue::{Kind, Label as MetricLabel, Metric, Service, catalogue};
pub use policy::PolicyMetrics;

use catalogue::{BUILD_INFO, OTLP_EXPORT_FAILURES, TLS_NOT_AFTER, TLS_NOT_BEFORE};
use policy::PolicyInForce;

/// The values of a metric without labels.
pub const NONE: [&str; 0] = [];

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

    /// Registers the policy's series.
    pub fn policy_metrics(&self) -> PolicyMetrics {
        PolicyMetrics::register(self)
    }

    /// Batches of an OpenTelemetry signal that never reached the collector.
    pub(crate) fn otlp_failures(&self, signal: &'static str) -> Counter {
        self.counter(&OTLP_EXPORT_FAILURES, [signal])
    }

    /// Sets the serving certificate's validity. Without a certificate these series do not exist.
    pub(crate) fn set_tls_validity(&self, not_before: SystemTime, not_after: SystemTime) {
        let show = |metric, time| self.gauge(metric, NONE).set(unix_seconds(time));
        show(&TLS_NOT_BEFORE, not_before);
        show(&TLS_NOT_AFTER, not_after);
    }

    /// Registers a counter, at 0 if it is new, with the values of its labels in their order.
    pub fn counter<const N: usize>(
        &self,
        metric: &Metric,
        values: [impl Into<SharedString>; N],
    ) -> Counter {
        self.recorder
            .register_counter(&key(metric, values), &METADATA)
    }

    /// Shows a counter as 0 before it is first raised.
    pub fn declare<const N: usize>(&self, metric: &Metric, values: [&'static str; N]) {
        drop(self.counter(metric, values));
    }

    /// Registers a gauge, at 0 if it is new, with the values of its labels in their order.
    pub fn gauge<const N: usize>(
        &self,
        metric: &Metric,
        values: [impl Into<SharedString>; N],
    ) -> Gauge {
        self.recorder
            .register_gauge(&key(metric, values), &METADATA)
    }

    /// Registers a histogram; none has labels.
    pub fn histogram(&self, metric: &Metric) -> Histogram {
        self.recorder
            .register_histogram(&key(metric, NONE), &METADATA)
    }

    /// Names the service in the metrics, so that queries can distinguish them.
    pub fn build_info(&self, component: &'static str) {
        let values = [env!("CARGO_PKG_VERSION"), component];
        self.gauge(&BUILD_INFO, values).set(1.0);
    }
}

fn key<const N: usize>(metric: &Metric, values: [impl Into<SharedString>; N]) -> Key {
    debug_assert_eq!(metric.labels.len(), N, "labels of {}", metric.name);
    let names = metric.labels.iter().map(|label| label.name);
    let labels: Vec<_> = names
        .zip(values)
        .map(|(name, it)| Label::new(name, it))
        .collect();
    Key::from_parts(metric.name, labels)
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
    let histograms = catalogue()
        .iter()
        .filter(|metric| metric.kind == Kind::Histogram);
    histograms.fold(PrometheusBuilder::new(), |builder, metric| {
        let name = Matcher::Full(metric.name.to_owned());
        let builder = builder.set_buckets_for_metric(name, metric.buckets);
        builder.expect("bucket bounds are never empty")
    })
}

fn unix_seconds(time: SystemTime) -> f64 {
    time.duration_since(UNIX_EPOCH)
        .unwrap_or(Duration::ZERO)
        .as_secs_f64()
}

/// Writes the lines before a metric's series.
fn write_head(
    text: &mut String,
    Metric {
        name, help, kind, ..
    }: &Metric,
) {
    let kind = kind.as_str();
    let _infallible = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

#[cfg(test)]
mod tests;
