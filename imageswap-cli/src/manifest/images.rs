//! `imageswap images`: every image of manifests and its result, for tools that fill a mirror.

use super::copy::{self, Tool};
use super::finding::report_refused;
use super::{ManifestArgs, report_undecided};
use crate::missing::{Lack, Lacks, MissingArgs, is_mirrored};
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
/// image that stays, both are the same. With --missing, it asks the
/// registries, and prints what they do not have; platforms that an image
/// lacks follow its result.
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
    /// Output format; json is one object per line, the last three are input for the tools that copy images
    #[arg(short, long, value_enum, default_value_t = Output::Table, conflicts_with_all = ["from", "to"])]
    output: Output,
    #[command(flatten)]
    missing: MissingArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    #[value(alias = "text")]
    Table,
    Json,
    Skopeo,
    Crane,
    Regsync,
}

/// One line.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
struct Line<'a> {
    image: &'a str,
    result: &'a str,
    swapped: bool,
    approved: bool,
    /// What the registry of the result lacks, if it was asked: `image` or `platforms`.
    #[serde(skip_serializing_if = "Option::is_none")]
    missing: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    missing_platforms: Option<Vec<String>>,
}

/// Runs the command: 1 if something is not an image reference or is missing, 2 if something cannot be read, decided or
/// asked.
pub(crate) fn run(args: &Args, out: &mut impl Write) -> Result<Outcome> {
    let manifests = args.manifests.read()?;
    let asked = manifests.ask();
    let mut lines = BTreeSet::new();
    let mut findings = false;
    let mut failed = report_undecided(&asked) || manifests.failed;
    let mirrored = asked
        .iter()
        .filter(|it| is_mirrored(it.decision.reason.as_str()));
    let mirrored = mirrored.map(|it| it.decision.result.to_string()).collect();
    let lacks = args
        .missing
        .asks()
        .then(|| args.missing.ask_now(mirrored))
        .transpose()?;
    failed |= lacks.as_ref().is_some_and(report_unknown);
    for it in asked.iter().filter(|it| !it.undecided()) {
        if it.decision.reason == Reason::Unparsable {
            findings = true;
            report_refused(it);
            continue;
        }
        let lack = match &lacks {
            None => None,
            Some(lacks) => match lacks.get(&*it.decision.result) {
                None | Some(Lack::Nothing | Lack::Unknown(_)) => continue,
                some => some,
            },
        };
        findings |= lack.is_some();
        lines.insert(Line {
            image: &it.image.image,
            result: &it.decision.result,
            swapped: it.decision.swapped(),
            approved: it.decision.approved,
            missing: lack.map(Lack::as_str),
            missing_platforms: lack.map(|it| it.platforms().to_vec()),
        });
    }
    if let Some(tool) = args.output.tool() {
        let copies = lines.iter().filter(|it| it.swapped);
        let copies = copies.map(|it| (it.image, it.result)).collect();
        for line in copy::lines(tool, &copies) {
            writeln!(out, "{line}")?;
        }
        for it in lines
            .iter()
            .filter(|it| it.missing.is_some() && !it.swapped)
        {
            report(&format!(
                "warning: {} is missing, and the manifests name it themselves: where to copy it from is not known",
                it.result
            ));
        }
        lines.clear();
    }
    let texts: BTreeSet<String> = match args.output {
        Output::Json => lines
            .iter()
            .map(serde_json::to_string)
            .collect::<Result<_, _>>()?,
        // Written already.
        Output::Skopeo | Output::Crane | Output::Regsync => BTreeSet::new(),
        Output::Table if args.from => lines.iter().map(|it| shown(it.image).into()).collect(),
        Output::Table if args.to => lines.iter().map(|it| shown(it.result).into()).collect(),
        Output::Table => lines.iter().map(Line::text).collect(),
    };
    for text in texts {
        writeln!(out, "{text}")?;
    }
    out.flush()?;
    Ok(Outcome::of(!failed, findings))
}

/// Writes which images are not known to be there; returns whether there are any.
fn report_unknown(lacks: &Lacks) -> bool {
    let mut any = false;
    for (image, lack) in lacks {
        if let Lack::Unknown(why) = lack {
            any = true;
            report(&format!(
                "error: cannot tell whether {image} is there: {why}"
            ));
        }
    }
    any
}

impl Line<'_> {
    fn text(&self) -> String {
        let platforms = self.missing_platforms.as_deref().unwrap_or_default();
        let mut text = format!("{} {}", shown(self.image), shown(self.result));
        if !platforms.is_empty() {
            text.push(' ');
            text.push_str(&platforms.join(","));
        }
        text
    }
}

impl Output {
    fn tool(self) -> Option<Tool> {
        match self {
            Self::Skopeo => Some(Tool::Skopeo),
            Self::Crane => Some(Tool::Crane),
            Self::Regsync => Some(Tool::Regsync),
            Self::Table | Self::Json => None,
        }
    }
}
