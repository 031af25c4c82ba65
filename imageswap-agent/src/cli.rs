//! The command line.

use crate::doctor::DoctorArgs;
use crate::export::FindingsLevel;
use crate::places::NodeArgs;
use crate::respond::RespondArgs;
use clap::{Parser, Subcommand};
use imageswap_runtime::cluster::ClusterArgs;
use imageswap_runtime::log::LogArgs;
use imageswap_runtime::manual::ManualArgs;
use imageswap_runtime::source::PolicyArgs;
use imageswap_runtime::telemetry::OtlpArgs;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Sees every container start on this node and judges the image that it runs.
#[derive(Debug, Parser)]
#[command(name = "imageswap-agent", version, max_term_width = 80)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Watch this node until stopped by a signal.
    Run(Box<RunArgs>),
    /// Check what this node offers and lacks.
    Doctor(DoctorArgs),
    /// Write manual pages.
    #[command(hide = true)]
    Man(ManualArgs),
}

/// Arguments of `run`.
#[derive(Debug, clap::Args)]
pub struct RunArgs {
    /// Address for /livez, /readyz, /metrics and /drift
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9465")]
    pub admin: SocketAddr,
    /// Name of this node in findings [default: the host name]
    #[arg(long, value_name = "NAME", env = "NODE_NAME")]
    pub node_name: Option<String>,
    /// Places on the node.
    #[command(flatten)]
    pub node: NodeArgs,
    /// Ask the API server about this node's Pods, as the service account of the agent's own Pod;
    /// --kubeconfig and --context imply it
    #[arg(long)]
    pub in_cluster: bool,
    /// File for findings, one JSON object per line; - is standard output
    #[arg(long, value_name = "FILE", default_value = "-")]
    pub findings: PathBuf,
    /// Which findings to write; drift includes unresolved ones
    #[arg(long, value_enum, default_value_t = FindingsLevel::All)]
    pub findings_level: FindingsLevel,
    /// Longest time in seconds between two records in the findings, so that silence shows that
    /// nobody watched
    #[arg(long, value_name = "SECONDS", default_value_t = 300, value_parser = clap::value_parser!(u64).range(1..=86400))]
    pub findings_heartbeat: u64,
    /// Also write what drifts as policy reports into the cluster, one object per namespace and node,
    /// if it has the reports of openreports.io or wgpolicyk8s.io
    #[arg(long)]
    pub policy_reports: bool,
    /// Seconds between two walks over the whole cgroup tree
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub reconcile_interval: u64,
    /// Bytes of the ring buffer, a power of two; for tests
    #[arg(long, value_name = "BYTES", hide = true)]
    pub ring_bytes: Option<u32>,
    /// What to do about drift.
    #[command(flatten)]
    pub respond: RespondArgs,
    /// The policy.
    #[command(flatten)]
    pub policy: PolicyArgs,
    /// How to reach the cluster.
    #[command(flatten)]
    pub cluster: ClusterArgs,
    /// OpenTelemetry.
    #[command(flatten)]
    pub otlp: OtlpArgs,
    /// The log.
    #[command(flatten)]
    pub log: LogArgs,
}

impl RunArgs {
    /// Where the policy comes from. Only the webhook writes statuses; an agent on every node would
    /// be too many writers.
    pub fn policy(&self) -> PolicyArgs {
        PolicyArgs {
            only_follow: true,
            ..self.policy.clone()
        }
    }

    /// Whether there is a cluster to talk to.
    pub fn wants_cluster(&self) -> bool {
        self.in_cluster
            || self.cluster.kubeconfig.is_some()
            || self.cluster.context.is_some()
            || self.policy.needs_cluster()
            || self.respond.respond.is_some()
            || self.policy_reports
    }
}
