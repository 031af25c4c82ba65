//! The command line.

use crate::manifest::{check, images, rewrite};
use crate::{Outcome, completions, diff, drift, explain, import, lint, scan, verify};
use anyhow::Result;
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use imageswap_policy::document;
use imageswap_runtime::manual::ManualArgs;
use imageswap_runtime::text::Escaping;
use std::io::Write;
use std::path::Path;

/// Asks an ImageSwap policy which image should run instead of another, and whether that is approved.
#[derive(Debug, Parser)]
#[command(name = "imageswap", version, about, propagate_version = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Say what the policy makes of images, and why
    Explain(explain::Args),
    /// Say what the policy would do to manifests
    Check(check::Args),
    /// Print manifests with the images that the policy would have run
    Rewrite(rewrite::Args),
    /// List the images of manifests, and where they would go
    Images(images::Args),
    /// Say what the policy would do to what a cluster holds
    Scan(scan::Args),
    /// List what runs in a cluster now and should not, by the word of its agents
    Drift(drift::Args),
    /// Say what a change of the policy changes for a list of images
    Diff(diff::Args),
    /// Check a policy against cases: expected answers, or what must hold of any
    Test(verify::Args),
    /// Say what is wrong with policies, or likely is
    Lint(lint::Args),
    /// Print the JSON schema of ImageSwapPolicy, for editors
    Schema,
    /// Make an ImageSwapPolicy of what another program's policy says
    Import(import::Args),
    /// Print a script that completes this command in a shell
    Completions(completions::Args),
    /// Write manual pages
    #[command(hide = true)]
    Man(ManualArgs),
}

/// Reads the command line; help, version and mistakes end the process here.
pub(crate) fn parse() -> Cli {
    let name = if is_plugin() {
        "kubectl imageswap"
    } else {
        "imageswap"
    };
    let matches = Cli::command().bin_name(name).get_matches();
    Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
}

impl Cli {
    /// Runs the command; what programs and people read goes to `out`.
    pub(crate) fn run(self, out: &mut impl Write) -> Result<Outcome> {
        // Names and images come from others, and may be meant for the terminal that shows them.
        let safe = &mut Escaping::new(&mut *out);
        match self.command {
            Command::Explain(args) => explain::run(&args, safe),
            Command::Check(args) => check::run(&args, safe),
            // The manifest as it is, byte by byte.
            Command::Rewrite(args) => rewrite::run(&args, out),
            Command::Images(args) => images::run(&args, safe),
            Command::Scan(args) => scan::run(&args, &mut Escaping::coloured(out)),
            Command::Drift(args) => drift::run(&args, safe),
            Command::Diff(args) => diff::run(&args, safe),
            Command::Test(args) => verify::run(&args, safe),
            Command::Lint(args) => lint::run(&args, safe),
            Command::Schema => {
                serde_json::to_writer_pretty(&mut *out, &document::schema())?;
                writeln!(out)?;
                out.flush()?;
                Ok(Outcome::Clean)
            }
            Command::Import(args) => import::run(&args, safe),
            Command::Completions(args) => completions::run(args, Cli::command(), out),
            Command::Man(args) => {
                args.write(Cli::command())?;
                Ok(Outcome::Clean)
            }
        }
    }
}

/// Whether kubectl runs this, which finds plugins by their file's name.
fn is_plugin() -> bool {
    let program = std::env::args_os().next().unwrap_or_default();
    Path::new(&program)
        .file_stem()
        .is_some_and(|it| it == "kubectl-imageswap")
}
