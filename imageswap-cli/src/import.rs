//! `imageswap import`: converts policies of other programs to ImageSwapPolicies.

use crate::Outcome;
use anyhow::{Result, bail};
use clap::{Args as ClapArgs, Subcommand};
use std::io::Write;

mod maps;
mod policies;

const EXIT_CODES: &str = "\
Exit codes: 0 if every rule was carried over exactly; 1 if a rule differs or was
left out, which the report says; 2 if there is no policy to write.";

/// Arguments of `imageswap import`.
#[derive(Debug, ClapArgs)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true, after_help = EXIT_CODES)]
pub(crate) struct Args {
    #[command(subcommand)]
    from: Option<From>,
    #[command(flatten)]
    any: Option<policies::PolicyFiles>,
}

#[derive(Debug, Subcommand)]
enum From {
    /// From Kyverno's policies about registries
    #[command(after_help = EXIT_CODES)]
    Kyverno(policies::PolicyFiles),
    /// From a maps file of the Python ImageSwap
    Maps(maps::Args),
}

/// Runs the command: the policy goes to `out`, the differences to standard error.
pub(crate) fn run(args: &Args, out: &mut impl Write) -> Result<Outcome> {
    match (&args.from, &args.any) {
        (Some(From::Kyverno(args)), _) | (None, Some(args)) => policies::run(args, out),
        (Some(From::Maps(args)), _) => maps::run(args, out),
        (None, None) => bail!("expected `--file PATH`"),
    }
}
