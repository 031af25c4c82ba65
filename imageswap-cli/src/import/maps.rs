//! `imageswap import maps`: converts a maps file to an ImageSwapPolicy.

use crate::input::{self, Input};
use crate::{Outcome, report};
use anyhow::{Result, bail};
use clap::Args as ClapArgs;
use imageswap_import::write;
use imageswap_policy::maps;
use imageswap_policy::{Diagnostics, Severity};
use std::io::Write;
use std::path::PathBuf;

const EXIT_CODES: &str = "\
Exit codes: 0 with a policy; 1 with a policy that leaves out something of the
file, which the messages name; 2 without one.";

/// Arguments of `imageswap import maps`.
#[derive(Debug, ClapArgs)]
#[command(after_help = EXIT_CODES)]
pub(super) struct Args {
    /// The maps file; `-` is standard input
    #[arg(short, long, value_name = "FILE")]
    file: PathBuf,
    /// Name of the policy
    #[arg(long, default_value = "imageswap")]
    name: String,
}

pub(super) fn run(args: &Args, out: &mut impl Write) -> Result<Outcome> {
    let Input { name, text, .. } = input::read(&args.file)?;
    let imported = match maps::import(&name, &text, &args.name) {
        Ok(imported) => imported,
        Err(errors) => {
            show(&errors);
            bail!("{name} makes no ImageSwapPolicy");
        }
    };
    let head = format!("Imported from {name} by `imageswap import maps`.");
    let written: Vec<_> = text.lines().map(str::trim).collect();
    let comments: Vec<_> = imported
        .lines
        .iter()
        .map(|line| {
            let text = written.get(line - 1).copied().unwrap_or_default();
            format!("line {line}: {text}")
        })
        .collect();
    out.write_all(write::policy(&imported.policy, &head, &comments).as_bytes())?;
    out.flush()?;
    show(&imported.differences);
    let left_out = imported
        .differences
        .iter()
        .any(|it| it.severity > Severity::Note);
    Ok(if left_out {
        Outcome::Findings
    } else {
        Outcome::Clean
    })
}

fn show(diagnostics: &Diagnostics) {
    if !diagnostics.is_empty() {
        report(&format!("{diagnostics}\n"));
    }
}
