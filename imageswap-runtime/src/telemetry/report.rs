//! Logs when exporting fails, and when it works again, without filling the log.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use ::metrics::Counter;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::logs::{LogBatch, LogExporter};
use opentelemetry_sdk::trace::{SpanData, SpanExporter};

/// While exporting keeps failing, it is logged this often.
const REMINDER: Duration = Duration::from_mins(5);

/// An exporter whose failures are counted and logged at a bounded rate.
#[derive(Debug)]
pub(super) struct Reporting<E> {
    exporter: E,
    report: Report,
}

/// The state of a signal's failures.
pub(super) struct Report {
    signal: &'static str,
    endpoint: String,
    failures: Counter,
    failing: Mutex<Option<Failing>>,
}

#[derive(Debug)]
struct Failing {
    /// Items lost since exporting last worked.
    lost: usize,
    said: Instant,
}

/// A message to log.
#[derive(Debug, PartialEq, Eq)]
enum News {
    None,
    Fails { lost: usize },
    WorksAgain { lost: usize },
}

impl<E> Reporting<E> {
    pub(super) fn new(
        exporter: E,
        signal: &'static str,
        endpoint: &str,
        failures: Counter,
    ) -> Self {
        Self {
            exporter,
            report: Report {
                signal,
                endpoint: endpoint.to_owned(),
                failures,
                failing: Mutex::new(None),
            },
        }
    }
}

impl<E: SpanExporter> SpanExporter for Reporting<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let items = batch.len();
        let result = self.exporter.export(batch).await;
        self.report.exported(items, &result);
        result
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

impl<E: LogExporter> LogExporter for Reporting<E> {
    async fn export(&self, batch: LogBatch<'_>) -> OTelSdkResult {
        let items = batch.iter().count();
        let result = self.exporter.export(batch).await;
        self.report.exported(items, &result);
        result
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

impl Report {
    /// A batch of this many items was sent, or given up after the exporter's own retries.
    fn exported(&self, items: usize, result: &OTelSdkResult) {
        let (signal, endpoint) = (self.signal, &self.endpoint);
        let news = self.note(items, result.is_ok(), Instant::now());
        match (news, result) {
            (News::Fails { lost }, Err(error)) => {
                tracing::warn!(signal, %endpoint, lost, %error, "cannot export to the collector");
            }
            (News::WorksAgain { lost }, _) => {
                tracing::info!(signal, %endpoint, lost, "exporting to the collector works again");
            }
            _ => {}
        }
    }

    fn note(&self, items: usize, exported: bool, now: Instant) -> News {
        let mut state = self.failing.lock().unwrap_or_else(PoisonError::into_inner);
        if exported {
            return match state.take() {
                None => News::None,
                Some(Failing { lost, .. }) => News::WorksAgain { lost },
            };
        }
        self.failures.increment(1);
        match &mut *state {
            None => {
                *state = Some(Failing {
                    lost: items,
                    said: now,
                });
                News::Fails { lost: items }
            }
            Some(failing) => {
                failing.lost += items;
                if now.duration_since(failing.said) < REMINDER {
                    return News::None;
                }
                failing.said = now;
                News::Fails { lost: failing.lost }
            }
        }
    }
}

impl std::fmt::Debug for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Report")
            .field("signal", &self.signal)
            .field("endpoint", &self.endpoint)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Exporter;

    #[test]
    fn failures_are_said_once_and_then_now_and_again() {
        let exporter = Exporter::new();
        let reporting = Reporting::new(
            (),
            "traces",
            "http://c:4317",
            exporter.otlp_failures("traces"),
        );
        let note = |items, ok, seconds| {
            reporting
                .report
                .note(items, ok, seconds_after_start(seconds))
        };
        assert_eq!(note(5, true, 0), News::None);
        assert_eq!(note(5, false, 1), News::Fails { lost: 5 });
        assert_eq!(note(5, false, 2), News::None);
        assert_eq!(note(5, false, 300), News::None);
        assert_eq!(note(5, false, 301), News::Fails { lost: 20 });
        assert_eq!(note(5, false, 302), News::None);
        assert_eq!(note(5, true, 303), News::WorksAgain { lost: 25 });
        assert_eq!(note(5, true, 304), News::None);
        assert!(
            exporter
                .render()
                .contains("imageswap_otlp_export_failures_total{signal=\"traces\"} 5\n")
        );
    }

    fn seconds_after_start(seconds: u64) -> Instant {
        static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
        *START.get_or_init(Instant::now) + Duration::from_secs(seconds)
    }
}
