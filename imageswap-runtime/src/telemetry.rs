//! OpenTelemetry over OTLP and gRPC: off unless an endpoint is given.
//!
//! One set of arguments says where a collector is ([`OtlpArgs`]); [`Otlp`] builds what sends to it, a part for each
//! signal. There is no global provider. A service asks [`Traces`] for a span per request, and code below that asks
//! [`span`] for the steps, which costs a look at a thread-local variable where nobody records.
//!
//! The SDK's batch processors have a thread of their own and a bounded queue: a collector that is slow or gone costs
//! spans and never a request.

mod logs;
mod otlp;
mod report;
mod spans;

pub use logs::{Entry, Logs, Value};
pub use otlp::{Otlp, OtlpArgs, TelemetryError};
pub use spans::{RequestSpan, Traces, span, trace_id};
