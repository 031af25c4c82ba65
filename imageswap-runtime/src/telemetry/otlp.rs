//! The collector's address, and the exporters.

use std::io;
use std::path::PathBuf;

use http::Uri;
use opentelemetry::KeyValue;
use opentelemetry_otlp::tonic_types::transport::{Certificate, ClientTlsConfig};
use opentelemetry_otlp::{LogExporter, SpanExporter, WithExportConfig, WithTonicConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::logs::SdkLoggerProvider;
use opentelemetry_sdk::resource::EnvResourceDetector;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};

use super::logs::Logs;
use super::report::Reporting;
use super::spans::Traces;
use crate::metrics::Exporter;

/// Where to send OpenTelemetry signals; flatten it into a command's arguments.
///
/// Further variables of the OpenTelemetry specification are honoured, among them `OTEL_RESOURCE_ATTRIBUTES`,
/// `OTEL_SERVICE_NAME`, `OTEL_EXPORTER_OTLP_HEADERS`, `OTEL_EXPORTER_OTLP_TIMEOUT` and the queue's `OTEL_BSP_*`.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "OpenTelemetry")]
pub struct OtlpArgs {
    /// Collector that accepts OTLP over gRPC, such as http://collector:4317; without it nothing is
    /// sent
    #[arg(
        long,
        value_name = "URL",
        env = "OTEL_EXPORTER_OTLP_ENDPOINT",
        hide_env_values = true
    )]
    pub otlp_endpoint: Option<String>,
    /// CA certificates in PEM to verify an https collector [default: the system's]
    #[arg(long, value_name = "FILE", env = "OTEL_EXPORTER_OTLP_CERTIFICATE")]
    pub otlp_ca: Option<PathBuf>,
    /// Share of requests that are traced, 0 to 1, unless the caller's trace context decides
    #[arg(long, value_name = "RATIO", default_value_t = 1.0, value_parser = ratio)]
    pub otlp_sample_ratio: f64,
}

/// A collector, and the attributes of the sender.
#[derive(Debug, Clone)]
pub struct Otlp {
    endpoint: String,
    tls: Option<ClientTlsConfig>,
    sample_ratio: f64,
    resource: Resource,
}

/// Why nothing can be sent to a collector.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The endpoint is not the URL of a gRPC server.
    #[error(
        "--otlp-endpoint {0:?} must be an http(s) URL without a path, such as http://localhost:4317"
    )]
    Endpoint(String),
    /// The CA file cannot be read.
    #[error("--otlp-ca: cannot read {}: {source}", path.display())]
    Ca {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The exporter cannot be built from these arguments.
    #[error("cannot export by OTLP: {0}")]
    Exporter(#[from] opentelemetry_otlp::ExporterBuildError),
}

impl OtlpArgs {
    /// Checks the arguments; `None` without an endpoint. `service` is the `service.name`, unless
    /// the environment sets another.
    pub fn load(self, service: &'static str) -> Result<Option<Otlp>, TelemetryError> {
        let Some(endpoint) = self.otlp_endpoint.filter(|text| !text.is_empty()) else {
            return Ok(None);
        };
        let secure =
            is_secure(&endpoint).ok_or_else(|| TelemetryError::Endpoint(endpoint.clone()))?;
        let tls = match self.otlp_ca.filter(|_| secure) {
            None => secure.then(|| ClientTlsConfig::new().with_enabled_roots()),
            Some(path) => {
                let pem =
                    std::fs::read(&path).map_err(|source| TelemetryError::Ca { path, source })?;
                Some(ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem)))
            }
        };
        Ok(Some(Otlp {
            endpoint,
            tls,
            sample_ratio: self.otlp_sample_ratio,
            resource: resource(service),
        }))
    }
}

impl Otlp {
    /// Sends spans from now on. Must be called within the tokio runtime of the connection.
    pub fn traces(&self, metrics: &Exporter) -> Result<Traces, TelemetryError> {
        let exporter = self.to_collector(SpanExporter::builder().with_tonic());
        let exporter = Reporting::new(
            exporter.build()?,
            "traces",
            &self.endpoint,
            metrics.otlp_failures("traces"),
        );
        // A caller's decision is kept, so that traces are whole.
        let sampler = Sampler::parent_based(Sampler::TraceIdRatioBased(self.sample_ratio));
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_sampler(sampler)
            .with_resource(self.resource.clone())
            .build();
        Ok(Traces::new(provider))
    }

    /// Sends log records from now on. Must be called within the tokio runtime of the connection.
    pub fn logs(&self, metrics: &Exporter) -> Result<Logs, TelemetryError> {
        let exporter = self.to_collector(LogExporter::builder().with_tonic());
        let exporter = Reporting::new(
            exporter.build()?,
            "logs",
            &self.endpoint,
            metrics.otlp_failures("logs"),
        );
        let provider = SdkLoggerProvider::builder()
            .with_batch_exporter(exporter)
            .with_resource(self.resource.clone())
            .build();
        Ok(Logs::new(provider))
    }

    /// Configures any signal's exporter for the collector.
    fn to_collector<B: WithExportConfig + WithTonicConfig>(&self, builder: B) -> B {
        let builder = builder.with_endpoint(&self.endpoint);
        match &self.tls {
            Some(tls) => builder.with_tls_config(tls.clone()),
            None => builder,
        }
    }
}

/// The attributes of the sender. The environment comes last, because it takes precedence.
fn resource(service: &'static str) -> Resource {
    let builder = Resource::builder_empty().with_attributes([
        KeyValue::new("service.name", service),
        KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
        KeyValue::new("service.instance.id", instance()),
    ]);
    let builder = builder.with_detector(Box::new(EnvResourceDetector::new()));
    match std::env::var("OTEL_SERVICE_NAME") {
        Ok(name) if !name.is_empty() => builder.with_service_name(name).build(),
        _ => builder.build(),
    }
}

/// In a cluster the host's name is the Pod's, by which people look for an instance.
fn instance() -> String {
    rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned()
}

/// Whether a gRPC endpoint uses TLS; `None` if the text is not an endpoint.
///
/// A scheme is required, because gRPC libraries disagree about its absence.
fn is_secure(endpoint: &str) -> Option<bool> {
    let uri: Uri = endpoint.parse().ok()?;
    uri.host().filter(|host| !host.is_empty())?;
    if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
        return None;
    }
    match uri.scheme_str()? {
        "http" => Some(false),
        "https" => Some(true),
        _ => None,
    }
}

fn ratio(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|ratio| (0.0..=1.0).contains(ratio))
        .ok_or_else(|| "expected a number from 0 to 1".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_have_a_scheme_and_no_path() {
        for (endpoint, secure) in [
            ("http://localhost:4317", Some(false)),
            ("http://[::1]:4317/", Some(false)),
            ("https://otel.example.com", Some(true)),
            ("localhost:4317", None),
            ("otel.example.com", None),
            ("grpc://localhost:4317", None),
            ("http://localhost:4318/v1/traces", None),
            ("http://", None),
            ("http://a b", None),
        ] {
            assert_eq!(is_secure(endpoint), secure, "{endpoint}");
        }
    }

    #[test]
    fn ratios_lie_between_0_and_1() {
        assert_eq!(ratio("0.25"), Ok(0.25));
        for bad in ["-0.1", "1.1", "NaN", "half", ""] {
            assert!(ratio(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        let with = |endpoint: &str, ca: Option<&str>| {
            OtlpArgs {
                otlp_endpoint: Some(endpoint.to_owned()),
                otlp_ca: ca.map(PathBuf::from),
                otlp_sample_ratio: 1.0,
            }
            .load("test")
        };
        assert!(with("", None).unwrap().is_none());
        let error = with("collector:4317", None).unwrap_err().to_string();
        assert!(
            error.starts_with("--otlp-endpoint \"collector:4317\" must be an http"),
            "{error}"
        );
        let error = with("https://c:4317", Some("/no/such/file"))
            .unwrap_err()
            .to_string();
        assert!(
            error.starts_with("--otlp-ca: cannot read /no/such/file: "),
            "{error}"
        );
    }
}
