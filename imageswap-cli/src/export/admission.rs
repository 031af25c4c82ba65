//! `imageswap export admission-policy`.

use super::{Summary, outcome, print_report};
use crate::policy::{DateArgs, PolicyArgs};
use crate::{Outcome, input, report};
use anyhow::{Result, bail};
use clap::{Args as ClapArgs, ValueEnum};
use imageswap_export::admission::{self, Object};
use imageswap_export::{Item, Report, Status};
use imageswap_policy::{Diagnostics, Policies, document, maps};
use serde::Serialize;
use std::io::Write;
use std::path::Path;

/// Arguments of `imageswap export admission-policy`.
#[derive(Debug, ClapArgs)]
pub(super) struct Args {
    #[command(flatten)]
    policy: PolicyArgs,
    /// Output format; json is one object with the objects and the report
    #[arg(short, long, value_enum, default_value_t = Output::Yaml)]
    output: Output,
    #[command(flatten)]
    date: DateArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    Yaml,
    Json,
}

#[derive(Debug, Serialize)]
struct Answer<'a> {
    objects: &'a [Object],
    report: &'a Report,
    summary: Summary,
}

/// Runs the command: objects go to `out`, the report to standard error.
pub(super) fn run(args: &Args, out: &mut impl Write) -> Result<Outcome> {
    let mut report = Report::default();
    let policies = match args.policy.maps() {
        Some(path) => imported(path, &mut report)?,
        None => args.policy.load()?,
    };
    let export = admission::export(&policies, args.date.date());
    report.items.extend(export.report.items);
    match args.output {
        Output::Yaml => {
            for (at, object) in export.objects.iter().enumerate() {
                let head = if at == 0 {
                    "# Exported by `imageswap export admission-policy`.\n"
                } else {
                    "---\n"
                };
                write!(out, "{head}{}", serde_saphyr::to_string(object)?)?;
            }
        }
        Output::Json => {
            let answer = Answer {
                objects: &export.objects,
                report: &report,
                summary: Summary::of(&report),
            };
            writeln!(out, "{}", serde_json::to_string(&answer)?)?;
        }
    }
    out.flush()?;
    print_report(&report);
    Ok(outcome(&report, export.objects.is_empty()))
}

/// A maps file as an ImageSwapPolicy, and how that differs.
fn imported(path: &Path, into: &mut Report) -> Result<Policies> {
    const NAME: &str = "imageswap";
    let input = input::read(path)?;
    let show = |it: &Diagnostics| report(&format!("{it}\n"));
    let imported = match maps::import(&input.name, &input.text, NAME) {
        Ok(imported) => imported,
        Err(errors) => {
            show(&errors);
            bail!("{} makes no ImageSwapPolicy", input.name);
        }
    };
    let mut differs = |part: String, reason: String| {
        into.items.push(Item {
            policy: NAME.to_owned(),
            part,
            status: Status::Differs,
            reason: Some(reason),
        });
    };
    for it in &imported.differences.0 {
        differs(format!("line {}", it.line), it.message.clone());
    }
    differs(
        "enforcement".to_owned(),
        "images that are not approved get a warning, also in Pods that opt out of the swap; a maps file only logs them"
            .to_owned(),
    );
    let text = serde_json::to_string(&imported.policy)?;
    match document::load(&input.name, &text) {
        Ok(loaded) => Ok(Policies::new(loaded.policies)),
        Err(errors) => {
            show(&errors);
            bail!("{} makes no ImageSwapPolicy", input.name)
        }
    }
}
