//! `imageswap images`: every image of manifests and its result, for tools that fill a mirror.

use super::finding::{Cause, Finding};
use super::{ManifestArgs, report_undecided};
use crate::{Outcome, report};
use anyhow::Result;
use clap::{Args as ClapArgs, ValueEnum};
use imageswap_policy::Reason;
use imageswap_runtime::text::shown;
use serde::Serialize;
use std::collections::BTreeSet;
use std::io::Write;

/// Arguments of `imageswap images`.
///
/// Prints `IMAGE RESULT` for every image, sorted, each pair once. For an
/// image that stays, both are the same.
#[derive(Debug, ClapArgs)]
#[command(verbatim_doc_comment)]
pub(crate) struct Args {
    #[command(flatten)]
    manifests: ManifestArgs,
    /// Print the images only
    #[arg(long, conflicts_with = "to")]
    from: bool,
    /// Print the results only
    #[arg(long)]
    to: bool,
    /// Output format; json is one object per line
    #[arg(short, long, value_enum, default_value_t = Output::Text, conflicts_with_all = ["from", "to"])]
    output: Output,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    Text,
    Json,
}

/// One line.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
struct Line<'a> {
    image: &'a str,
    result: &'a str,
    swapped: bool,
    approved: bool,
}

/// Runs the command: 1 if something is not an image reference, 2 if something cannot be read or
/// decided.
pub(crate) fn run(args: &Args, out: &mut impl Write) -> Result<Outcome> {
    let manifests = args.manifests.read()?;
    let asked = manifests.ask();
    let mut lines = BTreeSet::new();
    let mut findings = false;
    let failed = report_undecided(&asked) || manifests.failed;
    for it in asked.iter().filter(|it| !it.undecided()) {
        if it.decision.reason == Reason::Unparsable {
            findings = true;
            let cause = if it.is_variable() {
                Cause::Variable
            } else {
                Cause::NotApproved
            };
            let finding = Finding {
                asked: it,
                cause,
                verdict: None,
            };
            report(&format!("{finding}\n"));
            continue;
        }
        lines.insert(Line {
            image: &it.image.image,
            result: &it.decision.result,
            swapped: it.decision.swapped(),
            approved: it.decision.approved,
        });
    }
    let texts: BTreeSet<String> = match args.output {
        Output::Json => lines
            .iter()
            .map(serde_json::to_string)
            .collect::<Result<_, _>>()?,
        Output::Text if args.from => lines.iter().map(|it| shown(it.image).into()).collect(),
        Output::Text if args.to => lines.iter().map(|it| shown(it.result).into()).collect(),
        Output::Text => lines
            .iter()
            .map(|it| format!("{} {}", shown(it.image), shown(it.result)))
            .collect(),
    };
    for text in texts {
        writeln!(out, "{text}")?;
    }
    out.flush()?;
    Ok(match (failed, findings) {
        (true, _) => Outcome::Failed,
        (false, true) => Outcome::Findings,
        (false, false) => Outcome::Clean,
    })
}
