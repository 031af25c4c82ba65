//! `imageswap lint`: reports errors and likely mistakes in policies.

use crate::formats::{Case, Entry, Output, Results};
use crate::input::{self, Input};
use crate::policy::{DateArgs, is_document};
use crate::screen::Colour;
use crate::{Outcome, report};
use anyhow::{Error, Result};
use clap::Args as ClapArgs;
use imageswap_policy::{Check, Diagnostic, Diagnostics, Severity, document, maps};
use serde::Serialize;
use std::io::Write;
use std::path::{Path, PathBuf};

const EXIT_CODES: &str = "\
Exit codes: 0 without findings, or with warnings and notes only; 1 with an
error in a policy, and with --deny-warnings also with a warning; 2 when a file
cannot be read. Notes show where the Python ImageSwap differs and what lines
mean together; they never count.";

/// Arguments of `imageswap lint`.
#[derive(Debug, ClapArgs)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct Args {
    /// Maps files, ImageSwapPolicies and folders of these; `-` is standard input
    ///
    /// ImageSwapPolicies are checked as one set, unless two files use one name.
    /// Files called *.yaml, *.yml or *.json are ImageSwapPolicies, and so are
    /// others that begin as one.
    #[arg(
        value_name = "FILE",
        required_unless_present_any = ["maps", "image_prefix", "list"],
        verbatim_doc_comment
    )]
    files: Vec<PathBuf>,
    /// A maps file with any name
    #[arg(long, value_name = "FILE")]
    maps: Vec<PathBuf>,
    /// The Python ImageSwap's legacy mode: the prefix that every image gets
    #[arg(long, value_name = "PREFIX")]
    image_prefix: Option<String>,
    /// Warnings are findings too, for CI
    #[arg(long)]
    deny_warnings: bool,
    /// Leave out messages of this name; may be given more than once
    #[arg(long, value_name = "CODE", value_parser = parse_code)]
    allow: Vec<&'static str>,
    /// Leave out notes
    #[arg(long)]
    no_notes: bool,
    /// List the names of all messages, and end
    #[arg(long)]
    list: bool,
    #[command(flatten)]
    date: DateArgs,
    /// Output format; json is one object per line
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

/// One finding for programs.
#[derive(Debug, Serialize)]
struct Finding<'a> {
    source: &'a str,
    line: usize,
    column: usize,
    length: usize,
    severity: &'a str,
    code: &'a str,
    message: &'a str,
    help: Option<&'a str>,
}

/// How many there were of each severity.
#[derive(Debug, Default)]
struct Count {
    policies: usize,
    errors: usize,
    warnings: usize,
    notes: usize,
    /// For pipelines.
    cases: Vec<Case>,
}

/// Runs the command.
pub(crate) fn run(args: &Args, out: &mut impl Write) -> Result<Outcome> {
    if args.list {
        return list(out);
    }
    let mut count = Count::default();
    let mut unread = false;
    let (inputs, errors) = input::read_all(&args.files);
    for error in errors {
        failed(&error);
        unread = true;
    }
    let (documents, texts): (Vec<_>, Vec<_>) = inputs.into_iter().partition(|it| {
        let path = it.path.as_deref().unwrap_or(Path::new("-"));
        is_document(path, &it.text)
    });
    // Together, because one policy of a set can keep another from ever being chosen.
    let set = documents.iter().map(|it| (&*it.name, &*it.text));
    let linted = document::lint_all(set, args.date.date());
    let names: Vec<_> = documents.iter().map(|it| &*it.name).collect();
    show(args, &linted.found, &names, &mut count, out)?;
    count.policies += linted.policies;
    for Input { name, text, .. } in texts {
        show(args, &maps::lint(&name, &text), &[&name], &mut count, out)?;
        count.policies += 1;
    }
    for path in &args.maps {
        match input::read(path) {
            Ok(Input { name, text, .. }) => {
                show(args, &maps::lint(&name, &text), &[&name], &mut count, out)?;
                count.policies += 1;
            }
            Err(error) => {
                failed(&error);
                unread = true;
            }
        }
    }
    if let Some(prefix) = &args.image_prefix {
        let found = maps::lint_prefix("--image-prefix", prefix);
        show(args, &found, &["--image-prefix"], &mut count, out)?;
        count.policies += 1;
    }
    if let Some(format) = args.output.format() {
        let mut cases = std::mem::take(&mut count.cases);
        cases.sort_by(|a, b| a.file.cmp(&b.file));
        // Some codes are of both formats of policies.
        let mut codes: Vec<_> = checks().map(|it| (it.code, it.meaning)).collect();
        codes.sort_unstable();
        codes.dedup_by_key(|it| it.0);
        let results = Results {
            command: "lint",
            codes,
            cases,
            complete: !unread,
        };
        results.write(format, out)?;
    }
    if args.output == Output::Table && count.policies > 0 {
        writeln!(out, "{}", count.summary())?;
    }
    out.flush()?;
    let findings = count.errors > 0 || (args.deny_warnings && count.warnings > 0);
    Ok(Outcome::of(!unread, findings))
}

fn failed(error: &Error) {
    report(&format!("error: {error:#}"));
}

/// `files` are the names of the files that were checked.
fn show(
    args: &Args,
    found: &Diagnostics,
    files: &[&str],
    count: &mut Count,
    out: &mut impl Write,
) -> Result<()> {
    for file in files {
        if found.iter().all(|it| it.source != *file) {
            count.cases.push(Case {
                file: (*file).to_owned(),
                name: "nothing was found".to_owned(),
                entry: None,
                fails: false,
            });
        }
    }
    let colour = Colour::of_stdout();
    let shown = found.iter().filter(|it| {
        let left_out = args.no_notes && it.severity == Severity::Note;
        !left_out && !args.allow.contains(&it.code)
    });
    for diagnostic in shown {
        match diagnostic.severity {
            Severity::Error => count.errors += 1,
            Severity::Warning => count.warnings += 1,
            Severity::Note => count.notes += 1,
        }
        match args.output {
            Output::Table => writeln!(
                out,
                "{}\n",
                colour.diagnostic(diagnostic.severity, &diagnostic.to_string())
            )?,
            Output::Json => writeln!(out, "{}", json(diagnostic)?)?,
            Output::Sarif | Output::Junit | Output::Github | Output::Gitlab => {
                count.cases.push(case(args, diagnostic));
            }
        }
    }
    Ok(())
}

fn case(args: &Args, diagnostic: &Diagnostic) -> Case {
    let Diagnostic {
        source,
        code,
        line,
        column,
        severity,
        ..
    } = diagnostic;
    Case {
        file: source.clone(),
        name: format!("{code} at {line}:{column}"),
        entry: Some(Entry::of(diagnostic)),
        fails: match severity {
            Severity::Error => true,
            Severity::Warning => args.deny_warnings,
            Severity::Note => false,
        },
    }
}

fn json(diagnostic: &Diagnostic) -> Result<String> {
    let severity = diagnostic.severity.to_string();
    Ok(serde_json::to_string(&Finding {
        source: &diagnostic.source,
        line: diagnostic.line,
        column: diagnostic.column,
        length: diagnostic.length,
        severity: &severity,
        code: diagnostic.code,
        message: &diagnostic.message,
        help: diagnostic.help.as_deref(),
    })?)
}

impl Count {
    fn summary(&self) -> String {
        let of = |count: usize, one: &str, more: &str| {
            let what = if count == 1 { one } else { more };
            (count > 0).then(|| format!("{count} {what}"))
        };
        let found: Vec<_> = [
            of(self.errors, "error", "errors"),
            of(self.warnings, "warning", "warnings"),
            of(self.notes, "note", "notes"),
        ]
        .into_iter()
        .flatten()
        .collect();
        let policies = of(self.policies, "policy", "policies").unwrap_or_default();
        if found.is_empty() {
            return format!("{policies} checked, nothing found");
        }
        format!("{policies} checked: {}", found.join(", "))
    }
}

fn list(out: &mut impl Write) -> Result<Outcome> {
    let checks: Vec<_> = checks().collect();
    let width = checks.iter().map(|it| it.code.len()).max().unwrap_or(0);
    for Check {
        code,
        severity,
        meaning,
    } in checks
    {
        writeln!(out, "{code:width$}  {:7}  {meaning}", severity.to_string())?;
    }
    out.flush()?;
    Ok(Outcome::Clean)
}

fn checks() -> impl Iterator<Item = Check> {
    maps::CHECKS.iter().chain(document::CHECKS).copied()
}

/// The code of a message that may be left out; errors may not.
fn parse_code(text: &str) -> Result<&'static str, String> {
    let same: Vec<_> = checks().filter(|it| it.code == text).collect();
    if let Some(check) = same.iter().find(|it| it.severity < Severity::Error) {
        return Ok(check.code);
    }
    if !same.is_empty() {
        return Err(format!(
            "`{text}` is an error: a policy with it does not load"
        ));
    }
    let mut near: Vec<_> = checks()
        .map(|it| (strsim::jaro_winkler(text, it.code), it.code))
        .filter(|(likeness, _)| *likeness > 0.75)
        .collect();
    near.sort_by(|a, b| b.0.total_cmp(&a.0));
    near.dedup_by_key(|it| it.1);
    let near: Vec<_> = near.iter().take(3).map(|it| it.1).collect();
    Err(if near.is_empty() {
        "no message has this name; --list shows all names".to_owned()
    } else {
        format!("no message has this name; near are {}", near.join(", "))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_messages() {
        assert_eq!(parse_code("old-port"), Ok("old-port"));
        let error = parse_code("oldport").unwrap_err();
        assert!(error.contains("near are old-port"), "{error}");
        assert!(parse_code("xyz").unwrap_err().contains("--list"));
        assert!(
            parse_code("no-separator")
                .unwrap_err()
                .contains("does not load")
        );
    }

    #[test]
    fn the_last_line_counts() {
        let count = |policies, errors, warnings, notes| Count {
            policies,
            errors,
            warnings,
            notes,
            cases: Vec::new(),
        };
        assert_eq!(
            count(1, 0, 0, 0).summary(),
            "1 policy checked, nothing found"
        );
        assert_eq!(
            count(2, 1, 2, 0).summary(),
            "2 policies checked: 1 error, 2 warnings"
        );
    }
}
