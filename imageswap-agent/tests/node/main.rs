//! Node tests: real probes in the running kernel, real containers in real runtimes.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod agent_records;
mod cluster;
mod created;
mod crio;
mod decoys;
mod docker;
mod flood;
mod forged;
mod harness;
mod hidden;
mod hostile;
mod joined;
mod kubelet;
mod lost;
mod missing;
mod put;
mod reports;
mod rootless;
mod routes;
mod sandbox;
mod startup;
mod systemd;
mod trouble;
mod webhook;
