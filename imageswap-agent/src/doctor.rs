//! `imageswap-agent doctor`: checks what this node offers and lacks, one line per check, with
//! the consequences.

use crate::doctor::node::Facts;
use crate::places::NodeArgs;
use anyhow::Context as _;
use clap::ValueEnum;
use imageswap_runtime::cluster::ClusterArgs;
use imageswap_runtime::text::{WIDTH, wrap};
use serde::Serialize;
use std::io::{self, Write};
use std::process::ExitCode;

mod cluster;
mod node;
mod runtimes;

/// Arguments of `doctor`: those of `run` that name places.
#[derive(Debug, clap::Args)]
pub struct DoctorArgs {
    /// Places on the node.
    #[command(flatten)]
    pub node: NodeArgs,
    /// Ask the API server, too, as the service account of the agent's own Pod
    #[arg(long)]
    pub in_cluster: bool,
    /// How to print it
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    pub output: Output,
    /// How to reach the cluster.
    #[command(flatten)]
    pub cluster: ClusterArgs,
}

/// How to print it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// Lines for people.
    Text,
    /// One JSON object per line.
    Json,
}

/// The result of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Available.
    Ok,
    /// Not available; the agent works without it, at the cost that is named.
    Lacking,
    /// Not available, and the agent cannot run.
    Missing,
}

/// One check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// The checked item.
    pub name: &'static str,
    /// The result.
    pub status: Status,
    /// What was found.
    pub found: String,
    /// The cost if it is missing.
    pub cost: Option<&'static str>,
}

impl Check {
    fn ok(name: &'static str, found: impl Into<String>) -> Self {
        Self {
            name,
            status: Status::Ok,
            found: found.into(),
            cost: None,
        }
    }

    fn lacking(name: &'static str, found: impl Into<String>, cost: &'static str) -> Self {
        Self {
            status: Status::Lacking,
            cost: Some(cost),
            ..Self::ok(name, found)
        }
    }

    fn missing(name: &'static str, found: impl Into<String>) -> Self {
        Self {
            status: Status::Missing,
            cost: Some("the agent cannot run"),
            ..Self::ok(name, found)
        }
    }
}

/// What no privilege makes visible.
const UNSEEN: &str = "a container that shares its parent's pid namespace, in a cgroup that was there \
    before, unless a runtime that is asked, or runc's or crun's state in a usual folder, knows its process \
    (docs/detection.md)";

/// Runs all checks and prints them; 1 if the agent could not run.
pub fn examine(args: DoctorArgs) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let examined = runtime.map_err(anyhow::Error::new);
    examined
        .and_then(|runtime| runtime.block_on(doctor(args)))
        .unwrap_or_else(|error| {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        })
}

async fn doctor(args: DoctorArgs) -> anyhow::Result<ExitCode> {
    let mut checks = node::checks(&Facts::of_this_node(&args.node.host_root), &args.node);
    checks.extend(runtimes::checks(&args.node).await);
    checks.push(Check::ok("unseen", UNSEEN));
    if args.in_cluster || args.cluster.kubeconfig.is_some() || args.cluster.context.is_some() {
        checks.extend(cluster::checks(&args.cluster).await);
    }
    print(&checks, args.output, &mut io::stdout().lock()).context("cannot print")?;
    let runs = checks.iter().all(|check| check.status != Status::Missing);
    Ok(if runs {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Columns before what was found.
const INDENT: usize = 22;

fn print(checks: &[Check], output: Output, to: &mut impl Write) -> io::Result<()> {
    for check in checks {
        if output == Output::Json {
            serde_json::to_writer(&mut *to, check)?;
            writeln!(to)?;
            continue;
        }
        let status = match check.status {
            Status::Ok => "ok",
            Status::Lacking => "lacking",
            Status::Missing => "MISSING",
        };
        let text = match check.cost {
            Some(cost) => format!("{}: {cost}", check.found),
            None => check.found.clone(),
        };
        let mut head = format!("{status:<8} {:<12} ", check.name);
        for line in wrap(&text, WIDTH - INDENT) {
            writeln!(to, "{head}{line}")?;
            head = " ".repeat(INDENT);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_read_fits_their_terminal_and_programs_get_objects() {
        let checks = [
            Check::ok("kernel", "6.1.0"),
            Check::lacking(
                "pinning",
                "no BPF file system at /sys/fs/bpf/imageswap",
                "what starts while no agent runs is not seen",
            ),
            Check::missing("privileges", "no CAP_BPF"),
        ];
        let mut text = Vec::new();
        print(&checks, Output::Text, &mut text).unwrap();
        let text = String::from_utf8(text).unwrap();
        let expected = "\
ok       kernel       6.1.0
lacking  pinning      no BPF file system at /sys/fs/bpf/imageswap: what starts
                      while no agent runs is not seen
MISSING  privileges   no CAP_BPF: the agent cannot run
";
        assert_eq!(text, expected);
        let mut lines = Vec::new();
        print(&checks[..1], Output::Json, &mut lines).unwrap();
        let line = r#"{"name":"kernel","status":"ok","found":"6.1.0","cost":null}"#;
        assert_eq!(String::from_utf8(lines).unwrap(), format!("{line}\n"));
    }
}
