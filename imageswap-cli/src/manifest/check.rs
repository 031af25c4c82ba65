//! `imageswap check`: checks manifests against the policy.

use super::finding::{Cause, Finding};
use super::summary::Summary;
use super::{Asked, ManifestArgs, Manifests, report_undecided};
use crate::Outcome;
use crate::formats::{Case, Entry, Output, Results};
use crate::screen::{Colour, Tone};
use crate::verdict::{FailOn, VerdictArgs};
use anyhow::Result;
use clap::Args as ClapArgs;
use imageswap_policy::{Policy, Severity};
use imageswap_runtime::text::{WIDTH, shown};
use serde::Serialize;
use std::io::Write;

/// Codes of problems with manifests, and their meanings.
const PROBLEMS: [(&str, &str); 5] = [
    (
        "manifest-type",
        "A value that should be an image has another type",
    ),
    ("yaml-syntax", "The text is not YAML or JSON"),
    (
        "image-elsewhere",
        "Something looks like an image and was not read",
    ),
    ("image-path", "A path matches no image"),
    (
        "helm-registry",
        "A value replaces the registries of other values",
    ),
];

/// Arguments of `imageswap check`.
#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    #[command(flatten)]
    manifests: ManifestArgs,
    #[command(flatten)]
    verdict: VerdictArgs,
    /// Print the counts only, by registry too
    #[arg(long)]
    summary: bool,
    /// Output format; json is one object per line, for every image
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
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

/// Runs the command: 0 if everything is approved, 1 if something is not, 2 if something cannot be
/// read or decided.
pub(crate) fn run(args: &Args, out: &mut impl Write) -> Result<Outcome> {
    let manifests = args.manifests.read()?;
    let asked = manifests.ask();
    let verdict = &args.verdict;
    let findings = asked.iter().filter(|it| fails(it, verdict)).count();
    let undecided = asked.iter().any(Asked::undecided);
    let complete = !(manifests.failed || undecided);
    let problems = manifests.problems().iter();
    let warnings = problems.filter(|it| it.severity == Severity::Warning);
    let summary = Summary::of(&asked, manifests.others(), warnings.count(), findings);
    match (args.output, args.output.format()) {
        (_, Some(format)) => {
            results(&manifests, &asked, verdict, complete).write(format, out)?;
        }
        (Output::Json, None) if args.summary => {
            writeln!(out, "{}", serde_json::to_string(&summary)?)?;
        }
        (Output::Json, None) => json(&asked, verdict, out)?,
        (_, None) => {
            if args.summary {
                summary.table(out)?;
            } else {
                text(&asked, verdict, out)?;
            }
            summary.end(out)?;
        }
    }
    out.flush()?;
    report_undecided(&asked);
    let warned = manifests.warned && verdict.fails(FailOn::Warning);
    Ok(Outcome::of(complete, findings > 0 || warned))
}

/// The message about an image.
fn cause(asked: &Asked<'_>) -> Option<Cause> {
    if asked.undecided() {
        Some(Cause::Undecided)
    } else if asked.is_variable() {
        Some(Cause::Variable)
    } else if asked.refused() {
        Some(Cause::NotApproved)
    } else if asked.decision.swapped() {
        Some(Cause::Swapped)
    } else {
        None
    }
}

/// Whether an image causes exit code 1.
fn fails(asked: &Asked<'_>, verdict: &VerdictArgs) -> bool {
    match cause(asked) {
        None | Some(Cause::Undecided) => false,
        Some(Cause::Variable) => verdict.fails(FailOn::Variable),
        Some(Cause::Swapped) => verdict.fails(FailOn::Swap),
        Some(Cause::NotApproved) => {
            let own = asked.policy.map(Policy::enforcement);
            verdict.fails_unapproved(own.unwrap_or_default())
        }
    }
}

/// Everything for a pipeline: problems of texts first, then images, file by file.
fn results(
    manifests: &Manifests<'_>,
    asked: &[Asked<'_>],
    verdict: &VerdictArgs,
    complete: bool,
) -> Results {
    let problems = manifests.problems().iter().map(|it| Case {
        file: it.source.clone(),
        name: format!("{} at {}:{}", it.code, it.line, it.column),
        entry: Some(Entry::of(it)),
        fails: it.severity == Severity::Error || verdict.fails(FailOn::Warning),
    });
    let images = asked.iter().map(|it| {
        let fails = fails(it, verdict);
        let finding = |cause| Finding {
            asked: it,
            cause,
            verdict: Some(verdict),
        };
        Case {
            file: it.file.name.clone(),
            name: format!(
                "{} is approved ({}, {})",
                it.image.image,
                it.pod.title(it.namespace),
                it.image.title()
            ),
            entry: cause(it).map(|cause| finding(cause).entry(fails)),
            fails: fails || it.undecided(),
        }
    });
    let mut cases: Vec<_> = problems.chain(images).collect();
    cases.sort_by(|a, b| a.file.cmp(&b.file));
    let codes = Cause::MEANINGS.iter().chain(&PROBLEMS).copied().collect();
    Results {
        command: "check",
        codes,
        cases,
        complete,
    }
}

/// Swaps first, then a paragraph for each finding.
fn text(asked: &[Asked<'_>], verdict: &VerdictArgs, out: &mut impl Write) -> Result<()> {
    let is_swap = |it: &Asked<'_>| cause(it) == Some(Cause::Swapped) && !fails(it, verdict);
    let colour = Colour::of_stdout();
    let mut swaps = false;
    for it in asked.iter().filter(|it| is_swap(it)) {
        swaps = true;
        swap(it, colour, out)?;
    }
    if swaps {
        writeln!(out)?;
    }
    for it in asked.iter().filter(|it| !is_swap(it)) {
        if let Some(cause) = cause(it) {
            let finding = Finding {
                asked: it,
                cause,
                verdict: Some(verdict),
            };
            let text = colour.diagnostic(finding.severity(), &finding.to_string());
            writeln!(out, "{text}\n")?;
        }
    }
    Ok(())
}

/// One line if it fits.
fn swap(asked: &Asked<'_>, colour: Colour, out: &mut impl Write) -> Result<()> {
    let place = asked.place();
    let (place, image) = (shown(&place), shown(&asked.image.image));
    let result = shown(&asked.decision.result);
    let fits = format!("{place}: {image} -> {result}").chars().count() <= WIDTH;
    let gap = if fits { " " } else { "\n  " };
    let result = colour.paint(Tone::Changed, &result);
    writeln!(out, "{place}: {image}{gap}-> {result}")?;
    Ok(())
}

fn json(asked: &[Asked<'_>], verdict: &VerdictArgs, out: &mut impl Write) -> Result<()> {
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
            finding: cause(it)
                .filter(|cause| *cause != Cause::Swapped || fails(it, verdict))
                .map(Cause::as_str),
            policy: policy.map(Policy::name),
            enforcement: policy.map(|it| verdict.effective(it.enforcement()).as_str()),
            message: it.message(),
            denied: decision.denied.map(|it| it.rule),
            rule: decision.rule,
            reason: decision.reason.as_str(),
        };
        writeln!(out, "{}", serde_json::to_string(&answer)?)?;
    }
    Ok(())
}
