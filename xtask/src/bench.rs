//! Runs the benchmarks and prints their figures beside the project's own limits.

mod admission;
mod agent;
mod growth;
mod hostile;
mod server;
mod webhook;

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Subcommand, ValueEnum};
use serde::Deserialize;

use crate::process::{Workspace, cargo, output};
use crate::ui;

/// Which benchmark to run.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Options {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Clone, Subcommand)]
enum What {
    /// Decisions and loading, compared with other ways to decide
    Policy(Show),
    /// Probes, verdicts and processor time on this node, compared with a design that sends every
    /// exec to user space
    Agent(Show),
    /// Reviews over HTTPS, compared with a bare server
    Webhook(webhook::Options),
    /// Creation of Pods through a real API server, compared with webhooks that answer a constant
    Admission(Show),
    /// Attacks on the webhook under its memory limit, with an API server's reviews and a kubelet's
    /// probes
    Hostile(hostile::Options),
    /// How cost grows with the number of rules, policies, namespaces, containers, Pods and agents
    Growth(growth::Options),
}

#[derive(Debug, Clone, Copy, clap::Args)]
struct Show {
    /// Exit with code 1 when a figure is over its limit
    #[arg(long)]
    check: bool,
    /// How the figures are printed
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    output: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people
    Table,
    /// For programs; times in nanoseconds
    Json,
}

/// What a benchmark prints.
#[derive(Debug, Deserialize)]
struct Report {
    rows: Vec<Row>,
}

#[derive(Debug, Deserialize)]
struct Row {
    what: String,
    /// 0 where the number of rules does not matter.
    rules: usize,
    nanoseconds: Spread,
    allocations: f64,
    limits: Vec<Limit>,
}

/// The median, and the range that holds nine of ten batches.
#[derive(Debug, Deserialize)]
struct Spread {
    median: f64,
    low: f64,
    high: f64,
}

#[derive(Debug, Deserialize)]
struct Limit {
    text: String,
    met: bool,
}

/// Builds for release, measures and prints.
pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<ExitCode> {
    let show = match &options.what {
        What::Policy(show) => *show,
        What::Growth(options) => return growth::run_all(workspace, options),
        What::Agent(show) => return agent::run_all(workspace, *show),
        What::Webhook(options) => return webhook::run_all(workspace, options),
        What::Admission(show) => return admission::run_all(workspace, *show),
        What::Hostile(options) => return hostile::run_all(workspace, options),
    };
    ui::step("building for release, then measuring (some seconds)");
    let printed = policy(workspace, &[])?;
    let report: Report = serde_json::from_str(&printed).context("what the benchmark printed")?;
    match show.output {
        Format::Json => print!("{printed}"),
        Format::Table => table(&report),
    }
    let missed = report.rows.iter().any(|row| !row.is_met());
    Ok(ExitCode::from(u8::from(missed && show.check)))
}

/// What the benchmark of decisions prints.
fn policy(workspace: &Workspace, arguments: &[&str]) -> Result<String> {
    let mut command = cargo();
    command.current_dir(&workspace.root).args([
        "bench",
        "--quiet",
        "--package",
        "imageswap-policy",
        "--bench",
        "policy",
        "--",
    ]);
    output(command.args(arguments))
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| path.display().to_string())
}

fn table(report: &Report) {
    let mut rows =
        vec![["", "rules", "median", "90 % within", "allocs", "at most"].map(str::to_owned)];
    rows.extend(report.rows.iter().map(Row::cells));
    ui::table(&rows);
    println!();
    let limits: Vec<_> = report.rows.iter().flat_map(|row| &row.limits).collect();
    let missed: Vec<_> = report.rows.iter().filter(|row| !row.is_met()).collect();
    if missed.is_empty() {
        ui::good(format_args!("all {} limits are met", limits.len()));
    }
    for row in missed {
        for limit in row.limits.iter().filter(|limit| !limit.met) {
            ui::bad(format_args!(
                "{}, {} rules: {}",
                row.what, row.rules, limit.text
            ));
        }
    }
}

impl Row {
    fn is_met(&self) -> bool {
        self.limits.iter().all(|limit| limit.met)
    }

    fn cells(&self) -> [String; 6] {
        let Spread { median, low, high } = self.nanoseconds;
        let rules = match self.rules {
            0 => "-".to_owned(),
            rules => rules.to_string(),
        };
        let limits: Vec<_> = self
            .limits
            .iter()
            .map(|limit| limit.text.as_str())
            .collect();
        let mark = if self.is_met() { "" } else { "! " };
        [
            self.what.clone(),
            rules,
            time(median),
            format!(
                "{}-{}",
                digits(low, unit(median).0),
                time_in(high, unit(median))
            ),
            digits(self.allocations, 1.0),
            format!("{mark}{}", limits.join(", ")),
        ]
    }
}

fn time(nanoseconds: f64) -> String {
    time_in(nanoseconds, unit(nanoseconds))
}

fn time_in(nanoseconds: f64, (size, name): (f64, &str)) -> String {
    format!("{} {name}", digits(nanoseconds, size))
}

/// Nanoseconds of the unit that is read most easily, and its name.
fn unit(nanoseconds: f64) -> (f64, &'static str) {
    match nanoseconds {
        ..1e3 => (1.0, "ns"),
        1e3..1e6 => (1e3, "us"),
        _ => (1e6, "ms"),
    }
}

/// About three digits; more would be noise.
fn digits(value: f64, unit: f64) -> String {
    let value = value / unit;
    let places = usize::from(value < 100.0 && value.fract() != 0.0);
    format!("{value:.places$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(median: f64, met: bool) -> Row {
        Row {
            what: "x".to_owned(),
            rules: 50,
            nanoseconds: Spread {
                median,
                low: median * 0.9,
                high: median * 1.1,
            },
            allocations: 0.0,
            limits: vec![Limit {
                text: "1 us".to_owned(),
                met,
            }],
        }
    }

    #[test]
    fn figures_have_a_unit_that_is_read_easily() {
        let cells = row(283.4, true).cells();
        assert_eq!(cells, ["x", "50", "283 ns", "255-312 ns", "0", "1 us"]);
        assert_eq!(row(1845.4, true).cells()[2..4], ["1.8 us", "1.7-2.0 us"]);
        assert_eq!(time(6_622_802.0), "6.6 ms");
    }

    #[test]
    fn a_limit_that_is_missed_is_marked() {
        assert_eq!(row(1845.4, false).cells()[5], "! 1 us");
        assert!(!row(1845.4, false).is_met());
    }
}
