//! `imageswap import`: ImageSwapPolicies from the policies of other programs.

use crate::Outcome;
use anyhow::Result;
use clap::{Args as ClapArgs, Subcommand};
use std::io::Write;

mod kyverno;
mod maps;
mod write;

/// Arguments of `imageswap import`.
#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    #[command(subcommand)]
    from: From,
}

#[derive(Debug, Subcommand)]
enum From {
    /// From Kyverno's policies about registries
    Kyverno(kyverno::Args),
    /// From a maps file of the Python ImageSwap
    Maps(maps::Args),
}

/// Runs the command: the policy goes to `out`, and what it does otherwise to standard error.
pub(crate) fn run(args: &Args, out: &mut impl Write) -> Result<Outcome> {
    match &args.from {
        From::Kyverno(args) => kyverno::run(args, out),
        From::Maps(args) => maps::run(args, out),
    }
}
