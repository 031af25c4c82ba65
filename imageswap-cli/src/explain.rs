//! `imageswap explain`: explains the policy's decision about images.

use crate::policy::{DateArgs, PolicyArgs};
use crate::scope::{ScopeArgs, Undecided};
use crate::screen::{Colour, Output, Tone};
use crate::{Outcome, input, report};
use anyhow::{Result, bail};
use clap::Args as ClapArgs;
use imageswap_policy::{Decision, Policies, Policy, Reason, Selected};
use imageswap_runtime::text::{WIDTH, columns, shown, wrap};
use serde::Serialize;
use std::io::Write;
use std::path::Path;

/// How many lines of rule names to show; `-o json` has all.
const TRIED_LINES: usize = 4;
/// Column of the values in a paragraph.
const MARGIN: usize = 12;

/// Arguments of `imageswap explain`.
#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    /// Images as in a Pod or a command; `-` reads them from standard input, one per line
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
    #[command(flatten)]
    policy: PolicyArgs,
    #[command(flatten)]
    scope: ScopeArgs,
    #[command(flatten)]
    date: DateArgs,
    /// Output format; json is one object per line
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

/// One answer for programs.
#[derive(Debug, Serialize)]
struct Answer<'a> {
    image: &'a str,
    /// `None` if it depends on what is not known.
    result: Option<&'a str>,
    swapped: bool,
    approved: bool,
    /// `None`, like the policy's name, if no policy applies, or if several may and agree.
    enforcement: Option<&'a str>,
    policy: Option<&'a str>,
    /// If it is not known which policy decides: those that may.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    candidates: Vec<&'a str>,
    /// What has to be known to decide, such as `the labels of the namespace`.
    #[serde(skip_serializing_if = "Option::is_none")]
    missing: Option<String>,
    /// The entry of `denied` that the result matches.
    #[serde(skip_serializing_if = "Option::is_none")]
    denied: Option<&'a str>,
    rule: Option<&'a str>,
    reason: &'a str,
    /// Of the policy; `None` as its name.
    revision: Option<&'a str>,
    /// Of all policies that were given.
    set_revision: &'a str,
    /// Rules that were tried before the one that decided, and did not match.
    tried: Vec<&'a str>,
    /// Each rule that moves the image, with the result.
    steps: Vec<Moved<'a>>,
}

#[derive(Debug, Serialize)]
struct Moved<'a> {
    rule: &'a str,
    to: String,
}

/// The images of a text: one per line, without empty lines and lines that begin with `#`.
pub(crate) fn images(text: &str) -> impl Iterator<Item = &str> {
    text.lines()
        .map(str::trim)
        .filter(|it| !it.is_empty() && !it.starts_with('#'))
}

/// Runs the command.
pub(crate) fn run(args: &Args, out: &mut impl Write) -> Result<Outcome> {
    let policies = args.policy.load()?;
    let selected = args.scope.select(&policies, args.date.date());
    let mut names = Vec::new();
    for image in &args.images {
        if image == "-" {
            let text = input::read(Path::new("-"))?.text;
            names.extend(images(&text).map(str::to_owned));
        } else {
            names.push(image.clone());
        }
    }
    if names.is_empty() {
        bail!("expected images, one a line, found none");
    }
    let decisions: Vec<_> = names
        .iter()
        .map(|it| (it.as_str(), selected.decide(it)))
        .collect();
    if args.output == Output::Json {
        json(&policies, &selected, &decisions, out)?;
    }
    let (decided, undecided): (Vec<_>, Vec<_>) = decisions
        .into_iter()
        .partition(|it| it.1.reason != Reason::ScopeUnknown);
    if !undecided.is_empty() {
        let mut message = Undecided::default();
        message.add(&selected, None, None);
        message.report();
        for (image, _) in &undecided {
            report(&format!("not decided: {image}"));
        }
    }
    if args.output == Output::Table && !decided.is_empty() {
        let colour = Colour::of_stdout();
        text(&policies, &selected, &decided, colour, out)?;
    }
    out.flush()?;
    Ok(Outcome::of(undecided.is_empty(), false))
}

fn json(
    policies: &Policies,
    selected: &Selected<'_>,
    decisions: &[(&str, Decision<'_>)],
    out: &mut impl Write,
) -> Result<()> {
    let policy = selected.policy();
    for (image, decision) in decisions {
        let decided = decision.reason != Reason::ScopeUnknown;
        let (mut tried, mut steps, mut candidates) = (Vec::new(), Vec::new(), Vec::new());
        if decided {
            tried = selected.tried(image);
            steps = selected.steps(image);
        } else {
            candidates.extend(selected.candidates().map(Policy::name));
        }
        let steps = steps.into_iter();
        let answer = Answer {
            image,
            result: decided.then_some(&decision.result),
            swapped: decision.swapped(),
            approved: decision.approved,
            enforcement: policy.map(|it| it.enforcement().as_str()),
            policy: policy.map(Policy::name),
            candidates,
            missing: (!decided).then(|| selected.missing().to_string()),
            denied: decision.denied.map(|it| it.rule),
            rule: decision.rule,
            reason: decision.reason.as_str(),
            revision: policy.map(Policy::revision),
            set_revision: policies.set_revision(),
            tried,
            steps: steps.map(|(rule, to)| Moved { rule, to }).collect(),
        };
        writeln!(out, "{}", serde_json::to_string(&answer)?)?;
    }
    Ok(())
}

/// A table of several images if it fits, otherwise a paragraph for each.
fn text(
    policies: &Policies,
    selected: &Selected<'_>,
    decisions: &[(&str, Decision<'_>)],
    colour: Colour,
    out: &mut impl Write,
) -> Result<()> {
    let head = ["IMAGE", "RESULT", "APPROVED", "RULE"].map(str::to_owned);
    let rows = decisions
        .iter()
        .map(|(image, decision)| row(image, decision));
    let rows: Vec<_> = std::iter::once(head).chain(rows).collect();
    let several = decisions.len() > 1;
    if let Some(lines) = several.then(|| table(&rows, colour)).flatten() {
        for line in lines {
            writeln!(out, "{line}")?;
        }
    } else {
        for (image, decision) in decisions {
            paragraph(selected, image, decision, colour, out)?;
        }
    }
    match selected.policy() {
        Some(policy) => {
            let (name, enforcement) = (policy.name(), policy.enforcement());
            let revision = policy.revision();
            writeln!(out, "\npolicy {name} ({enforcement}), revision {revision}")?;
        }
        None if !selected.is_certain() => {
            let version = |it: &Policy| format!("{} (revision {})", it.name(), it.revision());
            let names: Vec<_> = selected.candidates().map(version).collect();
            let names = names.join(" or ");
            writeln!(out, "\npolicy {names}, which agree here")?;
        }
        None => writeln!(out, "\nno policy applies")?,
    }
    let count = policies.iter().len();
    if count > 1 {
        let set_revision = policies.set_revision();
        writeln!(out, "set of {count} policies, set revision {set_revision}")?;
    }
    Ok(())
}

fn paragraph(
    selected: &Selected<'_>,
    image: &str,
    decision: &Decision<'_>,
    colour: Colour,
    out: &mut impl Write,
) -> Result<()> {
    let approved = colour.paint(Tone::of_approval(decision.approved), yes(decision.approved));
    writeln!(out, "{}", colour.paint(Tone::Title, &shown(image)))?;
    writeln!(out, "  result    {}", shown(&decision.result))?;
    writeln!(out, "  approved  {approved}")?;
    for (at, line) in wrap(&decision.explain(), WIDTH - MARGIN).iter().enumerate() {
        writeln!(out, "{:MARGIN$}{line}", if at == 0 { "  why" } else { "" })?;
    }
    let tried = selected.tried(image);
    if !tried.is_empty() {
        let text = tried.join(", ");
        for (at, line) in wrap(&text, WIDTH - MARGIN)
            .iter()
            .take(TRIED_LINES)
            .enumerate()
        {
            let head = if at == 0 { "  tried" } else { "" };
            writeln!(out, "{head:MARGIN$}{line}")?;
        }
    }
    let own = decision.denied.and_then(|it| it.message);
    let message = own.or_else(|| selected.policy().and_then(Policy::message));
    if let Some(message) = message.filter(|_| decision.in_scope && !decision.approved) {
        writeln!(out, "  message   {message}")?;
    }
    let steps = selected.steps(image);
    if steps.len() > 1 {
        for (rule, to) in steps {
            writeln!(out, "  step      {rule}: {to}")?;
        }
    }
    Ok(())
}

fn row(image: &str, decision: &Decision<'_>) -> [String; 4] {
    let result = if decision.swapped() {
        shown(&decision.result)
    } else {
        "(stays)".into()
    };
    [
        shown(image).into_owned(),
        result.into_owned(),
        yes(decision.approved).to_owned(),
        decision.rule.unwrap_or(decision.reason.as_str()).to_owned(),
    ]
}

/// The lines of a table; `None` if one would be wider than a terminal.
fn table(rows: &[[String; 4]], colour: Colour) -> Option<Vec<String>> {
    let plain = columns(rows, |_, _, padded| padded);
    let fits = plain.iter().all(|it| it.chars().count() <= WIDTH);
    fits.then(|| {
        columns(rows, |at, cell, padded| match (at, cell) {
            (2, "yes" | "no") => colour.paint(Tone::of_approval(cell == "yes"), &padded),
            _ => padded,
        })
    })
}

fn yes(value: bool) -> &'static str {
    if value { "yes" } else { "no" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_no_wider_than_a_terminal() {
        let rows = [
            ["A", "B", "C", "D"],
            ["aa", "b", "c", "d"],
            ["a", "bbb", "c", ""],
        ];
        let mut rows = rows.map(|it| it.map(str::to_owned));
        let lines = table(&rows, Colour(false)).unwrap();
        assert_eq!(lines, ["A   B    C  D", "aa  b    c  d", "a   bbb  c"]);
        rows[1][0] = "x".repeat(WIDTH - 8);
        assert!(table(&rows, Colour(false)).is_none());
    }
}
