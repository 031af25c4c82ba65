//! `imageswap import kyverno`: ImageSwapPolicies from Kyverno's registry policies.

use super::write;
use crate::input;
use crate::{Outcome, report};
use anyhow::{Result, bail};
use clap::{Args as ClapArgs, ValueEnum};
use imageswap_policy::document::{self, ImageSwapPolicy};
use imageswap_policy::yaml;
use imageswap_runtime::text::{WIDTH, wrap};
use note::{Note, Severity};
use serde::Serialize;
use std::io::Write;
use std::path::PathBuf;

mod conditions;
mod expression;
mod formula;
mod image;
mod mutate;
mod note;
mod policy;
mod sound;
mod together;
mod validate;
mod wildcard;

const EXIT_CODES: &str = "\
Exit codes: 0 when all was carried over; 1 when something was not, which the
report names; 2 when there is no policy to write.";

/// Arguments of `imageswap import kyverno`.
#[derive(Debug, ClapArgs)]
#[command(after_help = EXIT_CODES)]
pub(super) struct Args {
    /// Kyverno's policies: files, folders, or `-`
    #[arg(short, long = "file", value_name = "PATH", required = true)]
    files: Vec<PathBuf>,
    /// Write one policy of all, also where they would refuse each other's results
    #[arg(long, conflicts_with = "no_merge")]
    merge: bool,
    /// Write a policy for each, also where they would work together
    #[arg(long)]
    no_merge: bool,
    /// What to write; json is one object a line, policy and report together
    #[arg(short, long, value_enum, default_value_t = Output::Yaml)]
    output: Output,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    Yaml,
    Json,
}

/// What became of one of Kyverno's policies.
#[derive(Debug)]
struct Imported {
    /// The file that it is from.
    source: String,
    name: String,
    policy: Option<ImageSwapPolicy>,
    notes: Vec<Note>,
}

#[derive(Debug, Serialize)]
struct Answer<'a> {
    policy: &'a str,
    imported: bool,
    documents: Vec<&'a ImageSwapPolicy>,
    notes: &'a [Note],
}

/// Runs the command: policies go to `out`, the report to standard error.
pub(super) fn run(args: &Args, out: &mut impl Write) -> Result<Outcome> {
    let (inputs, errors) = input::read_all(&args.files);
    if let Some(error) = errors.into_iter().next() {
        return Err(error);
    }
    let mut all = Vec::new();
    for input in &inputs {
        all.extend(read(&input.name, &input.text)?);
    }
    if all.is_empty() {
        bail!("expected Kyverno's policies, found none");
    }
    let join = match (args.merge, args.no_merge) {
        (true, _) => together::Join::Always,
        (_, true) => together::Join::Never,
        _ => together::Join::WhereTheyAgree,
    };
    let (policies, remarks) = joined(&mut all, join)?;
    match args.output {
        Output::Yaml => {
            for (at, policy) in policies.iter().enumerate() {
                let gap = if at == 0 { "" } else { "---\n" };
                let head = "Imported by `imageswap import kyverno`.";
                write!(out, "{gap}{}", write::policy(policy, head, &[]))?;
            }
        }
        Output::Json => {
            for it in &all {
                let answer = Answer {
                    policy: &it.name,
                    imported: it.policy.is_some(),
                    documents: it.policy.iter().collect(),
                    notes: &it.notes,
                };
                writeln!(out, "{}", serde_json::to_string(&answer)?)?;
            }
        }
    }
    out.flush()?;
    let lost = tell(&all, &remarks);
    Ok(match (policies.is_empty(), lost) {
        (true, _) => Outcome::Failed,
        (false, true) => Outcome::Findings,
        (false, false) => Outcome::Clean,
    })
}

/// What became of each policy in a text.
fn read(source: &str, text: &str) -> Result<Vec<Imported>> {
    let nodes = match yaml::parse(source, text) {
        Ok(nodes) => nodes,
        Err(error) => bail!("{error}"),
    };
    let documents = nodes.iter().flat_map(policy::documents);
    let imported = documents.map(|node| {
        let (name, policy, said) = policy::read(node);
        Imported {
            source: source.to_owned(),
            name,
            policy,
            notes: said,
        }
    });
    Ok(imported.collect())
}

/// The policies to write, none twice, and what is to be said about them together.
///
/// # Errors
/// What was made of them does not load.
fn joined(
    all: &mut [Imported],
    join: together::Join,
) -> Result<(Vec<ImageSwapPolicy>, Vec<String>)> {
    let mut policies: Vec<ImageSwapPolicy> = Vec::new();
    for policy in all.iter_mut().filter_map(|it| it.policy.as_mut()) {
        if policies.contains(policy) {
            continue;
        }
        // Policies of two namespaces can have one name; ours have none.
        let base = policy.metadata.name.clone();
        let mut count = 1;
        while policies
            .iter()
            .any(|it| it.metadata.name == policy.metadata.name)
        {
            count += 1;
            policy.metadata.name = format!("{base}-{count}");
        }
        policies.push(policy.clone());
    }
    let (policies, remarks) = together::join(policies, join);
    let mut texts = Vec::new();
    for policy in &policies {
        texts.push((
            policy.metadata.name.as_str(),
            serde_json::to_string_pretty(policy)?,
        ));
    }
    let texts = texts.iter().map(|(name, text)| (*name, text.as_str()));
    if let Err(error) = document::load_all(texts) {
        bail!("what was made of them does not load, which is a fault of this program:\n{error}");
    }
    Ok((policies, remarks))
}

/// The report. True where something was not carried over.
fn tell(all: &[Imported], remarks: &[String]) -> bool {
    let mut lost = false;
    for it in all {
        let became = if it.policy.is_some() {
            "imported"
        } else {
            "not imported"
        };
        report(&format!("{}: {}", it.name, became));
        for note in &it.notes {
            lost |= note.severity == Severity::Lost;
            let word = match note.severity {
                Severity::Note => "note",
                Severity::Warning => "mended",
                Severity::Lost => "not carried over",
            };
            let text = format!(
                "{}:{}:{}: {word}: {}",
                it.source, note.line, note.column, note.message
            );
            for (at, line) in wrap(&text, WIDTH - 4).iter().enumerate() {
                report(&format!("{}{line}", if at == 0 { "  " } else { "    " }));
            }
        }
    }
    for remark in remarks {
        report("");
        for line in wrap(remark, WIDTH) {
            report(&line);
        }
    }
    lost
}

#[cfg(test)]
mod tests;
