//! The command line.

use crate::manifest::{check, images, rewrite};
use crate::screen::Colour;
use crate::{
    Outcome, completions, diff, drift, explain, export, import, init, lint, report, scan, verify,
};
use anyhow::Result;
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use imageswap_policy::document;
use imageswap_runtime::manual::ManualArgs;
use imageswap_runtime::text::{Escaping, WIDTH};
use std::io::Write;
use std::path::Path;

#[cfg(test)]
mod documented;
mod examples;

/// Asks an ImageSwap policy which image should run instead of another, and whether that is approved.
#[derive(Debug, Parser)]
#[command(name = "imageswap", version, about, propagate_version = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Explain the policy's decision about images
    Explain(explain::Args),
    /// Check manifests against the policy
    Check(check::Args),
    /// Print manifests with their images replaced by the policy's results
    Rewrite(rewrite::Args),
    /// List the images of manifests, with the policy's results
    Images(images::Args),
    /// Check a running cluster against the policy
    Scan(scan::Args),
    /// List containers that run in a cluster now and should not, as its agents report
    Drift(drift::Args),
    /// Report what ran without approval and when nobody watched, by the agents' findings
    Report(report::Args),
    /// Compare two policies for a list of images
    Diff(diff::Args),
    /// Test a policy with cases: expected answers, or general properties
    Test(verify::Args),
    /// Report errors and likely mistakes in policies
    Lint(lint::Args),
    /// Print the JSON schema of ImageSwapPolicy, for editors
    Schema,
    /// Write a first policy for the images of manifests
    Init(init::Args),
    /// Convert another program's policies to ImageSwapPolicies
    Import(import::Args),
    /// Write policies in the languages of other programs
    Export(export::Args),
    /// Print the version
    Version,
    /// Print a script that completes this command in a shell
    Completions(completions::Args),
    /// Write manual pages
    #[command(hide = true)]
    Man(ManualArgs),
}

/// The command line with its help, for terminals of any width.
pub(crate) fn command() -> clap::Command {
    examples::add(Cli::command().max_term_width(WIDTH))
}

/// Reads the command line; help, version and mistakes end the process here.
pub(crate) fn parse() -> Cli {
    let name = if is_plugin() {
        "kubectl imageswap"
    } else {
        "imageswap"
    };
    let matches = command().bin_name(name).get_matches();
    Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
}

impl Cli {
    /// Runs the command; its output goes to `out`.
    pub(crate) fn run(self, out: &mut impl Write) -> Result<Outcome> {
        // Names and images come from others, and may attack the terminal that shows them.
        let safe = &mut match Colour::of_stdout() {
            Colour(true) => Escaping::coloured(&mut *out),
            Colour(false) => Escaping::new(&mut *out),
        };
        match self.command {
            Command::Explain(args) => explain::run(&args, safe),
            Command::Check(args) => check::run(&args, safe),
            // The manifest unchanged, byte by byte.
            Command::Rewrite(args) => rewrite::run(&args, out),
            Command::Images(args) => images::run(&args, safe),
            Command::Scan(args) => scan::run(&args, safe),
            Command::Drift(args) => drift::run(&args, safe),
            // Spreadsheets and browsers get their own escapes.
            Command::Report(args) => report::run(&args, out),
            Command::Diff(args) => diff::run(&args, safe),
            Command::Test(args) => verify::run(&args, safe),
            Command::Lint(args) => lint::run(&args, safe),
            Command::Schema => {
                serde_json::to_writer_pretty(&mut *out, &document::schema())?;
                writeln!(out)?;
                out.flush()?;
                Ok(Outcome::Clean)
            }
            Command::Init(args) => init::run(&args, safe),
            Command::Version => {
                write!(out, "{}", command().render_version())?;
                Ok(Outcome::Clean)
            }
            Command::Import(args) => import::run(&args, safe),
            Command::Export(args) => export::run(&args, safe),
            Command::Completions(args) => completions::run(args, command(), out),
            Command::Man(args) => {
                args.write(command())?;
                Ok(Outcome::Clean)
            }
        }
    }
}

/// Whether kubectl runs this as a plugin, by the file's name.
fn is_plugin() -> bool {
    let program = std::env::args_os().next().unwrap_or_default();
    Path::new(&program)
        .file_stem()
        .is_some_and(|it| it == "kubectl-imageswap")
}
