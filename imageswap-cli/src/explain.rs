//! `imageswap explain`: what the policy makes of images, and why.

use crate::policy::{DateArgs, PolicyArgs};
use crate::{Outcome, input};
use anyhow::{Result, bail};
use clap::{Args as ClapArgs, ValueEnum};
use imageswap_policy::{Decision, PodScope, Policies, Policy, Scope, Selected};
use imageswap_runtime::text::{WIDTH, shown, wrap};
use serde::Serialize;
use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

/// How many lines of names of rules are worth reading; `-o json` has all.
const TRIED_LINES: usize = 4;
/// Where the values of a paragraph begin.
const MARGIN: usize = 12;

/// Arguments of `imageswap explain`.
#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    /// Images as a Pod or a command would name them; `-` reads them from standard input, one a line
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
    #[command(flatten)]
    policy: PolicyArgs,
    #[command(flatten)]
    scope: ScopeArgs,
    #[command(flatten)]
    date: DateArgs,
    /// How to answer; json is one object a line
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

/// Who asks. What is not given is unknown, and what is unknown excludes nothing.
#[derive(Debug, ClapArgs)]
pub(crate) struct ScopeArgs {
    /// Namespace of the Pod
    #[arg(long, value_name = "NAME")]
    namespace: Option<String>,
    /// Labels of the namespace
    #[arg(long, value_name = "KEY=VALUE,...", value_parser = parse_labels)]
    namespace_labels: Option<BTreeMap<String, String>>,
    /// Labels of the Pod
    #[arg(long, value_name = "KEY=VALUE,...", value_parser = parse_labels)]
    labels: Option<BTreeMap<String, String>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    Table,
    Json,
}

/// One answer for programs.
#[derive(Debug, Serialize)]
struct Answer<'a> {
    image: &'a str,
    result: &'a str,
    swapped: bool,
    approved: bool,
    /// `None`, as the policy's name, where no policy applies.
    enforcement: Option<&'a str>,
    policy: Option<&'a str>,
    rule: Option<&'a str>,
    reason: &'a str,
    revision: &'a str,
    /// Rules that were tried before the one that decided, and spoke of other images.
    tried: Vec<&'a str>,
    /// Each rule that moves the image, and where to.
    steps: Vec<Moved<'a>>,
}

#[derive(Debug, Serialize)]
struct Moved<'a> {
    rule: &'a str,
    to: String,
}

impl ScopeArgs {
    /// The Pod that was described.
    pub(crate) fn scope(&self) -> Scope<'_> {
        Scope::Pod(PodScope {
            namespace: self.namespace.as_deref(),
            namespace_labels: self.namespace_labels.as_ref(),
            labels: self.labels.as_ref(),
        })
    }
}

/// The images of a text: one a line, without those that are empty or begin with `#`.
pub(crate) fn images(text: &str) -> impl Iterator<Item = &str> {
    text.lines()
        .map(str::trim)
        .filter(|it| !it.is_empty() && !it.starts_with('#'))
}

/// Runs the command.
pub(crate) fn run(args: &Args, out: &mut impl Write) -> Result<Outcome> {
    let policies = args.policy.load()?;
    let selected = policies.select(args.scope.scope(), args.date.date());
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
    match args.output {
        Output::Json => json(&policies, selected, &decisions, out)?,
        Output::Table => text(&policies, selected, &decisions, out)?,
    }
    out.flush()?;
    Ok(Outcome::Clean)
}

fn json(
    policies: &Policies,
    selected: Selected<'_>,
    decisions: &[(&str, Decision<'_>)],
    out: &mut impl Write,
) -> Result<()> {
    let policy = selected.policy();
    for (image, decision) in decisions {
        let steps = selected.steps(image).into_iter();
        let answer = Answer {
            image,
            result: &decision.result,
            swapped: decision.swapped(),
            approved: decision.approved,
            enforcement: policy.map(|it| it.enforcement().as_str()),
            policy: policy.map(Policy::name),
            rule: decision.rule,
            reason: decision.reason.as_str(),
            revision: policies.revision(),
            tried: selected.tried(image),
            steps: steps.map(|(rule, to)| Moved { rule, to }).collect(),
        };
        writeln!(out, "{}", serde_json::to_string(&answer)?)?;
    }
    Ok(())
}

/// A table of several images where it fits, else a paragraph for each.
fn text(
    policies: &Policies,
    selected: Selected<'_>,
    decisions: &[(&str, Decision<'_>)],
    out: &mut impl Write,
) -> Result<()> {
    let rows: Vec<_> = decisions
        .iter()
        .map(|(image, decision)| row(image, decision))
        .collect();
    let table = if rows.len() > 1 {
        table(&["IMAGE", "RESULT", "APPROVED", "RULE"], &rows)
    } else {
        None
    };
    if let Some(lines) = table {
        for line in lines {
            writeln!(out, "{line}")?;
        }
    } else {
        for (image, decision) in decisions {
            paragraph(selected, image, decision, out)?;
        }
    }
    let revision = policies.revision();
    match selected.policy() {
        Some(policy) => {
            let (name, enforcement) = (policy.name(), policy.enforcement());
            writeln!(out, "\npolicy {name} ({enforcement}), revision {revision}")?;
        }
        None => writeln!(out, "\nno policy applies, revision {revision}")?,
    }
    Ok(())
}

fn paragraph(
    selected: Selected<'_>,
    image: &str,
    decision: &Decision<'_>,
    out: &mut impl Write,
) -> Result<()> {
    writeln!(out, "{}", shown(image))?;
    writeln!(out, "  result    {}", shown(&decision.result))?;
    writeln!(out, "  approved  {}", yes(decision.approved))?;
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
    let message = selected.policy().and_then(Policy::message);
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

fn row<'a>(image: &'a str, decision: &'a Decision<'_>) -> [&'a str; 4] {
    let result = if decision.swapped() {
        decision.result.as_ref()
    } else {
        "(stays)"
    };
    [
        image,
        result,
        yes(decision.approved),
        decision.rule.unwrap_or(decision.reason.as_str()),
    ]
}

/// The lines of a table, unless one would be wider than a terminal.
fn table(head: &[&str; 4], rows: &[[&str; 4]]) -> Option<Vec<String>> {
    let all = || std::iter::once(head).chain(rows);
    let widths: Vec<usize> = (0..head.len())
        .map(|at| all().map(|it| it[at].chars().count()).max().unwrap_or(0))
        .collect();
    if widths.iter().sum::<usize>() + 2 * (head.len() - 1) > WIDTH {
        return None;
    }
    let line = |cells: &[&str; 4]| {
        let cells = cells
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    Some(all().map(line).collect())
}

fn yes(value: bool) -> &'static str {
    if value { "yes" } else { "no" }
}

/// `a=b,c=d`; an empty text is no label at all, which is not the same as unknown labels.
fn parse_labels(text: &str) -> Result<BTreeMap<String, String>, String> {
    let pairs = text.split(',').map(str::trim).filter(|it| !it.is_empty());
    pairs
        .map(|pair| match pair.split_once('=') {
            Some((key, value)) if !key.trim().is_empty() => {
                Ok((key.trim().to_owned(), value.trim().to_owned()))
            }
            _ => Err(format!("expected `key=value`, found `{pair}`")),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels() {
        let parsed = parse_labels("a=b, k8s.twr.io/imageswap=disabled,c=").unwrap();
        assert_eq!(
            parsed
                .into_iter()
                .map(|(key, value)| format!("{key}:{value}"))
                .collect::<Vec<_>>(),
            ["a:b", "c:", "k8s.twr.io/imageswap:disabled"]
        );
        assert_eq!(parse_labels("").unwrap().len(), 0);
        assert!(parse_labels("a").unwrap_err().contains("`a`"));
        assert!(parse_labels("=b").is_err());
    }

    #[test]
    fn a_table_is_no_wider_than_a_terminal() {
        let head = ["A", "B", "C", "D"];
        let lines = table(&head, &[["aa", "b", "c", "d"], ["a", "bbb", "c", ""]]).unwrap();
        assert_eq!(lines, ["A   B    C  D", "aa  b    c  d", "a   bbb  c"]);
        let wide = "x".repeat(WIDTH - 8);
        assert!(table(&head, &[[wide.as_str(), "b", "c", "d"]]).is_none());
    }
}
