//! Code shared by webhook and agent: logs, drain, admin server, metric names, TLS and the policy
//! source.
//!
//! Nothing here knows AdmissionReviews or containers. The parts are plain values that a service
//! connects: a [`drain::Drain`] says when to stop, a [`source::PolicySource`] holds the policy in
//! force, a [`metrics::Exporter`] counts, and an [`admin::Admin`] serves all of it to probes and to
//! Prometheus.
#![forbid(unsafe_code)]

pub mod admin;
pub mod cluster;
pub mod connections;
pub mod drain;
pub mod log;
pub mod manual;
pub mod metrics;
pub mod net;
pub mod policy_report;
mod settle;
pub mod source;
pub mod telemetry;
pub mod text;
pub mod tls;
