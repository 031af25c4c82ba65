//! `imageswap explain`: what the policy makes of images, and why.

use crate::Outcome;
use crate::policy::PolicyArgs;
use anyhow::Result;
use clap::{Args as ClapArgs, ValueEnum};
use imageswap_policy::{Decision, PodScope, Policy, Scope};
use serde::Serialize;
use std::collections::BTreeMap;
use std::io::Write;

/// ImageSwap never denies, so under its files nothing else is done about what stays unapproved.
const ENFORCEMENT: &str = "audit";
/// Columns of a terminal that nobody has widened.
const WIDTH: usize = 80;
/// Where the values of a paragraph begin.
const MARGIN: usize = 12;

/// Arguments of `imageswap explain`.
#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    /// Images as a Pod or a command would name them
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
    #[command(flatten)]
    policy: PolicyArgs,
    #[command(flatten)]
    scope: ScopeArgs,
    /// How to answer; json is one object a line
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

/// Who asks. What is not given is unknown, and what is unknown excludes nothing.
#[derive(Debug, ClapArgs)]
struct ScopeArgs {
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
    enforcement: &'a str,
    policy: &'a str,
    rule: Option<&'a str>,
    reason: &'a str,
    revision: &'a str,
}

/// Runs the command.
pub(crate) fn run(args: &Args, out: &mut impl Write) -> Result<Outcome> {
    let policy = args.policy.load()?;
    let scope = Scope::Pod(PodScope {
        namespace: args.scope.namespace.as_deref(),
        namespace_labels: args.scope.namespace_labels.as_ref(),
        labels: args.scope.labels.as_ref(),
    });
    let decisions: Vec<_> = args
        .images
        .iter()
        .map(|it| (it.as_str(), policy.decide(scope, it)))
        .collect();
    match args.output {
        Output::Json => json(&policy, &decisions, out)?,
        Output::Table => text(&policy, scope, &decisions, out)?,
    }
    out.flush()?;
    Ok(Outcome::Clean)
}

fn json(policy: &Policy, decisions: &[(&str, Decision<'_>)], out: &mut impl Write) -> Result<()> {
    for (image, decision) in decisions {
        let answer = Answer {
            image,
            result: &decision.result,
            swapped: decision.swapped(),
            approved: decision.approved,
            enforcement: ENFORCEMENT,
            policy: policy.name(),
            rule: decision.rule,
            reason: decision.reason.as_str(),
            revision: policy.revision(),
        };
        writeln!(out, "{}", serde_json::to_string(&answer)?)?;
    }
    Ok(())
}

/// A table of several images where it fits, else a paragraph for each.
fn text(
    policy: &Policy,
    scope: Scope<'_>,
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
            paragraph(policy, scope, image, decision, out)?;
        }
    }
    writeln!(
        out,
        "\npolicy {}, revision {}",
        policy.name(),
        policy.revision()
    )?;
    Ok(())
}

fn paragraph(
    policy: &Policy,
    scope: Scope<'_>,
    image: &str,
    decision: &Decision<'_>,
    out: &mut impl Write,
) -> Result<()> {
    writeln!(out, "{image}")?;
    writeln!(out, "  result    {}", decision.result)?;
    writeln!(out, "  approved  {}", yes(decision.approved))?;
    for (at, line) in wrap(&decision.explain(), WIDTH - MARGIN).iter().enumerate() {
        writeln!(out, "{:MARGIN$}{line}", if at == 0 { "  why" } else { "" })?;
    }
    let steps = policy.steps(scope, image);
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

/// Breaks a sentence between words; a longer word has a line of its own.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
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
    fn sentences_break_between_words() {
        assert_eq!(
            wrap("ab cd ef longest g", 5),
            ["ab cd", "ef", "longest", "g"]
        );
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
