//! OpenTelemetry over OTLP and gRPC: off unless an endpoint is given.
//!
//! One set of arguments names the collector ([`OtlpArgs`]); [`Otlp`] builds the exporters, one for
//! each signal. There is no global provider. A service asks [`Traces`] for a span per request, and
//! code below it calls [`span`] for the steps, which costs one read of a thread-local variable if
//! nothing is recorded.
//!
//! The SDK's batch processors have their own thread and a bounded queue: a slow or missing
//! collector costs spans and never a request.

mod logs;
mod otlp;
mod report;
mod spans;

pub use logs::{Entry, Logs, Value};
pub use otlp::{Otlp, OtlpArgs, TelemetryError};
pub use spans::{RequestSpan, Traces, span, trace_id};
