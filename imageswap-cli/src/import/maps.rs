//! `imageswap import maps`: converts a maps file to an ImageSwapPolicy.

use crate::input::{self, Input};
use crate::{Outcome, report};
use anyhow::{Result, bail};
use clap::Args as ClapArgs;
use imageswap_import::{Source, Status, import_maps, write};
use imageswap_policy::Diagnostics;
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
    #[arg(short, long, alias = "filename", value_name = "PATH")]
    file: PathBuf,
    /// Name of the policy
    #[arg(long, default_value = "imageswap")]
    name: String,
}

pub(super) fn run(args: &Args, out: &mut impl Write) -> Result<Outcome> {
    let Input { name, text, .. } = input::read(&args.file)?;
    let source = Source {
        name: &name,
        text: &text,
    };
    let imported = match import_maps(source, &args.name) {
        Ok(imported) => imported,
        Err(errors) => {
            show(&errors);
            bail!("{name} makes no ImageSwapPolicy");
        }
    };
    let head = format!("Imported from {name} by `imageswap import maps`.");
    for (policy, comments) in imported.policies.iter().zip(&imported.comments) {
        out.write_all(write::policy(policy, &head, comments).as_bytes())?;
    }
    out.flush()?;
    show(&imported.diagnostics);
    Ok(if imported.report.count(Status::LeftOut) > 0 {
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
