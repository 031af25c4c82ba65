//! `imageswap check`: checks manifests against the policy.

use super::finding::{Cause, Finding};
use super::{Asked, ManifestArgs, Manifests, report_undecided};
use crate::Outcome;
use anyhow::Result;
use clap::{Args as ClapArgs, ValueEnum};
use imageswap_policy::Policy;
use imageswap_runtime::text::{WIDTH, shown};
use serde::Serialize;
use std::io::Write;

/// Arguments of `imageswap check`.
#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    #[command(flatten)]
    manifests: ManifestArgs,
    /// Images that would be swapped are findings too
    #[arg(long)]
    deny_swaps: bool,
    /// Output format; json is one object per line, for every image
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    Table,
    Json,
}

/// One answer for programs.
#[derive(Debug, Serialize)]
struct Answer<'a> {
    file: &'a str,
    line: usize,
    column: usize,
    kind: &'a str,
    namespace: &'a str,
    name: Option<&'a str>,
    container: Option<&'a str>,
    path: &'a str,
    image: &'a str,
    result: &'a str,
    swapped: bool,
    approved: bool,
    in_scope: bool,
    finding: Option<&'a str>,
    policy: Option<&'a str>,
    enforcement: Option<&'a str>,
    message: Option<&'a str>,
    rule: Option<&'a str>,
    reason: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    denied: Option<&'a str>,
}

/// The number of images, each counted once.
#[derive(Debug, Default)]
struct Count {
    stay: usize,
    swapped: usize,
    refused: usize,
    undecided: usize,
}

/// Runs the command: 0 if everything is approved, 1 if something is not, 2 if something cannot be
/// read or decided.
pub(crate) fn run(args: &Args, out: &mut impl Write) -> Result<Outcome> {
    let manifests = args.manifests.read()?;
    let asked = manifests.ask();
    let findings = asked
        .iter()
        .filter(|it| cause(it, args.deny_swaps).is_some());
    let any = findings.count() > 0;
    match args.output {
        Output::Json => json(&asked, args.deny_swaps, out)?,
        Output::Table => text(&manifests, &asked, args.deny_swaps, out)?,
    }
    out.flush()?;
    let undecided = report_undecided(&asked);
    Ok(match (manifests.failed || undecided, any) {
        (true, _) => Outcome::Failed,
        (false, true) => Outcome::Findings,
        (false, false) => Outcome::Clean,
    })
}

fn cause(asked: &Asked<'_>, deny_swaps: bool) -> Option<Cause> {
    if asked.undecided() {
        Some(Cause::Undecided)
    } else if asked.refused() {
        Some(Cause::NotApproved)
    } else if deny_swaps && asked.decision.swapped() {
        Some(Cause::Swapped)
    } else {
        None
    }
}

/// Swaps first, then a paragraph for each finding, then the counts.
fn text(
    manifests: &Manifests<'_>,
    asked: &[Asked<'_>],
    deny_swaps: bool,
    out: &mut impl Write,
) -> Result<()> {
    let mut count = Count::default();
    let mut swaps = false;
    for it in asked {
        if it.decision.swapped() && cause(it, deny_swaps).is_none() {
            swaps = true;
            swap(it, out)?;
        }
        count.add(it);
    }
    if swaps {
        writeln!(out)?;
    }
    for it in asked {
        if let Some(cause) = cause(it, deny_swaps) {
            writeln!(out, "{}\n", Finding { asked: it, cause })?;
        }
    }
    match manifests.others() {
        0 => {}
        1 => writeln!(out, "1 document has no images")?,
        others => writeln!(out, "{others} documents have no images")?,
    }
    writeln!(out, "{}", count.summary())?;
    Ok(())
}

/// One line if it fits.
fn swap(asked: &Asked<'_>, out: &mut impl Write) -> Result<()> {
    let place = asked.place();
    let (place, image) = (shown(&place), shown(&asked.image.image));
    let result = shown(&asked.decision.result);
    let line = format!("{place}: {image} -> {result}");
    if line.chars().count() <= WIDTH {
        writeln!(out, "{line}")?;
    } else {
        writeln!(out, "{place}: {image}\n  -> {result}")?;
    }
    Ok(())
}

fn json(asked: &[Asked<'_>], deny_swaps: bool, out: &mut impl Write) -> Result<()> {
    for it in asked {
        let Asked {
            file,
            pod,
            image,
            namespace,
            policy,
            decision,
            ..
        } = it;
        let answer = Answer {
            file: &file.name,
            line: image.span.line,
            column: image.span.column,
            kind: &pod.kind,
            namespace,
            name: pod.name.as_deref(),
            container: image.field.name.as_deref(),
            path: &image.path,
            image: &image.image,
            result: &decision.result,
            swapped: decision.swapped(),
            approved: decision.approved,
            in_scope: decision.in_scope,
            finding: cause(it, deny_swaps).map(Cause::as_str),
            policy: policy.map(Policy::name),
            enforcement: policy.map(|it| it.enforcement().as_str()),
            message: it.message(),
            denied: decision.denied.map(|it| it.rule),
            rule: decision.rule,
            reason: decision.reason.as_str(),
        };
        writeln!(out, "{}", serde_json::to_string(&answer)?)?;
    }
    Ok(())
}

impl Count {
    fn add(&mut self, asked: &Asked<'_>) {
        let group = match asked {
            it if it.undecided() => &mut self.undecided,
            it if it.refused() => &mut self.refused,
            it if it.decision.swapped() => &mut self.swapped,
            _ => &mut self.stay,
        };
        *group += 1;
    }

    fn summary(&self) -> String {
        let Self {
            stay,
            swapped,
            refused,
            undecided,
        } = self;
        let all = stay + swapped + refused + undecided;
        let images = if all == 1 { "image" } else { "images" };
        let stay = if *stay == 1 {
            "1 stays".to_owned()
        } else {
            format!("{stay} stay")
        };
        let undecided = match undecided {
            0 => String::new(),
            some => format!(", {some} not decided"),
        };
        format!(
            "{all} {images}: {stay}, {swapped} would be swapped, {refused} not approved{undecided}"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn summaries() {
        let count = |stay, swapped, refused| {
            Count {
                stay,
                swapped,
                refused,
                undecided: 0,
            }
            .summary()
        };
        assert_eq!(
            count(1, 0, 0),
            "1 image: 1 stays, 0 would be swapped, 0 not approved"
        );
        assert_eq!(
            count(2, 3, 4),
            "9 images: 2 stay, 3 would be swapped, 4 not approved"
        );
    }
}
