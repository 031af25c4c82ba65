//! `imageswap export`: writes policies in the languages of other programs.

use crate::screen::report_wrapped;
use crate::{Outcome, report};
use anyhow::Result;
use clap::{Args as ClapArgs, Subcommand};
use imageswap_export::{Report, Status};
use serde::Serialize;
use std::io::Write;

mod admission;
mod mirrors;

const EXIT_CODES: &str = "\
Exit codes: 0 if everything was exported exactly; 1 if something differs or was
left out, which the report says; 2 if there is nothing to write.";

/// Arguments of `imageswap export`.
#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    #[command(subcommand)]
    to: To,
}

#[derive(Debug, Subcommand)]
enum To {
    /// To admission policies of Kubernetes, which need no webhook
    #[command(after_help = EXIT_CODES)]
    AdmissionPolicy(admission::Args),
    /// To mirrors of containerd: a folder for each registry
    #[command(after_help = EXIT_CODES)]
    HostsToml(mirrors::HostsArgs),
    /// To mirrors of podman and CRI-O
    #[command(name = "registries.conf", after_help = EXIT_CODES)]
    RegistriesConf(mirrors::RegistriesArgs),
}

/// Counts of the report.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Summary {
    exported: usize,
    differs: usize,
    left_out: usize,
}

/// Runs the command: the output goes to `out`, the report to standard error.
pub(crate) fn run(args: &Args, out: &mut impl Write) -> Result<Outcome> {
    match &args.to {
        To::AdmissionPolicy(args) => admission::run(args, out),
        To::HostsToml(args) => mirrors::hosts(args, out),
        To::RegistriesConf(args) => mirrors::registries(args, out),
    }
}

impl Summary {
    fn of(report: &Report) -> Self {
        Self {
            exported: report.count(Status::Exported),
            differs: report.count(Status::Differs),
            left_out: report.count(Status::LeftOut),
        }
    }
}

/// Writes the report for people.
fn print_report(of: &Report) {
    for it in &of.items {
        report_wrapped(&it.to_string());
    }
    let Summary {
        exported,
        differs,
        left_out,
    } = Summary::of(of);
    report(&format!(
        "{exported} parts exported, {differs} exported with differences, {left_out} left out"
    ));
}

fn outcome(of: &Report, is_empty: bool) -> Outcome {
    Outcome::of(!is_empty, !of.is_exact())
}
