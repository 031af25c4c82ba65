//! `imageswap test`: holds policies to cases.

use crate::cases::{self, Case};
use crate::policy::{parse_date, today};
use crate::{Outcome, input, report};
use anyhow::Result;
use clap::Args as ClapArgs;
use imageswap_policy::maps::{self, Options};
use imageswap_policy::{Date, PodScope, Policies, Reference, Scope, document};
use serde_json::Value;
use std::collections::HashMap;
use std::io::Write;
use std::path::{Path, PathBuf};

/// Arguments of `imageswap test`.
///
/// A maps text is read as ImageSwap reads it: lines that it would skip are skipped, without a word.
#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    /// JSON lines or YAML; `-` is standard input
    ///
    /// A case is {maps or policy, mode?, image_prefix?, image, expected?,
    /// approved?, date?}. A policy is an ImageSwapPolicy, its text, or its file
    /// beside the cases. Exceptions end by `date`, or by today.
    /// Without `expected` it is checked that the result is a valid reference
    /// if the image is one, that deciding it again changes nothing, and that
    /// an image under a target stays. A mode other than `maps` is ImageSwap's
    /// legacy mode.
    #[arg(required = true, value_name = "FILE", verbatim_doc_comment)]
    files: Vec<PathBuf>,
}

/// A case that does not hold: what was expected, and what came.
#[derive(Debug, PartialEq, Eq)]
struct Failure {
    expected: String,
    got: String,
}

/// Compiled policies by the text that they come from.
#[derive(Debug, Default)]
struct Compiled(HashMap<(Mode, String), Result<Policies, String>>);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Mode {
    Document,
    Maps,
    Legacy,
}

/// Runs the command: 0 when all cases hold, 1 when one does not, 2 when one cannot be decided.
pub(crate) fn run(args: &Args, out: &mut impl Write) -> Result<Outcome> {
    let mut compiled = Compiled::default();
    let (mut passed, mut failed, mut errors) = (0_usize, 0_usize, 0_usize);
    for path in &args.files {
        let name = path.display();
        let text = match input::read(path) {
            Ok(input) => input.text,
            Err(error) => {
                report(&format!("error: {error:#}"));
                errors += 1;
                continue;
            }
        };
        let cases = cases::read(path, &text);
        if cases.is_empty() {
            report(&format!("error: {name}: expected cases, found none"));
            errors += 1;
        }
        for written in cases {
            let line = written.line;
            let checked = written.case.and_then(|case| {
                let why = |why: String| format!("{}: {why}", case.image);
                let date = case.date.as_deref().map_or_else(|| Ok(today()), parse_date);
                let date = date.map_err(why)?;
                let policies = compiled.of(&case, path).map_err(why)?;
                Ok((check(policies, date, &case), case.image))
            });
            match checked {
                Ok((None, _)) => passed += 1,
                Ok((Some(failure), image)) => {
                    failed += 1;
                    writeln!(
                        out,
                        "{name}:{line}: {image}\n  expected {}\n  got      {}",
                        failure.expected, failure.got
                    )?;
                }
                Err(why) => {
                    failed += 1;
                    errors += 1;
                    report(&format!("error: {name}:{line}: {why}"));
                }
            }
        }
    }
    writeln!(out, "{passed} passed, {failed} failed")?;
    out.flush()?;
    Ok(match (errors, failed) {
        (0, 0) => Outcome::Clean,
        (0, _) => Outcome::Findings,
        _ => Outcome::Failed,
    })
}

impl Compiled {
    /// The policy that a case names.
    fn of(&mut self, case: &Case, file: &Path) -> Result<&Policies, String> {
        let document = case.policy.as_ref().map(|it| document_text(it, file));
        let key = match (&case.mode, &case.maps, &case.image_prefix) {
            _ if document.is_some() => (
                Mode::Document,
                document.unwrap_or_else(|| Ok(String::new()))?,
            ),
            (Some(mode), maps, _) if mode.eq_ignore_ascii_case("maps") => {
                (Mode::Maps, maps.clone().unwrap_or_default())
            }
            (Some(_), _, prefix) => (Mode::Legacy, prefix.clone().unwrap_or_default()),
            (None, Some(maps), _) => (Mode::Maps, maps.clone()),
            (None, None, Some(prefix)) => (Mode::Legacy, prefix.clone()),
            (None, None, None) => {
                return Err(
                    "expected `policy`, `maps` or `image_prefix`, found none of them".to_owned(),
                );
            }
        };
        let compiled = self.0.entry(key).or_insert_with_key(|(mode, text)| {
            let options = Options {
                tolerate_unusable_lines: true,
                ..Options::default()
            };
            let loaded = match mode {
                Mode::Document => {
                    let loaded = document::load("policy", text);
                    return loaded
                        .map(|it| Policies::new(it.policies))
                        .map_err(|it| it.to_string());
                }
                Mode::Maps => maps::load_with("maps", text, &options),
                Mode::Legacy => maps::load_prefix_with("image_prefix", text, &options),
            };
            loaded
                .map(|it| Policies::one(it.policy))
                .map_err(|it| it.to_string())
        });
        compiled.as_ref().map_err(Clone::clone)
    }
}

/// The text of a policy that a case of `file` names.
fn document_text(policy: &Value, file: &Path) -> Result<String, String> {
    match policy {
        Value::String(text) if text.contains('\n') => Ok(text.clone()),
        Value::String(name) => {
            let path = file.parent().unwrap_or(Path::new("")).join(name);
            let read = input::read(&path).map_err(|it| format!("{it:#}"));
            read.map(|it| it.text)
        }
        other => serde_json::to_string_pretty(other).map_err(|it| it.to_string()),
    }
}

/// What of the case does not hold, if anything.
fn check(policies: &Policies, date: Date, case: &Case) -> Option<Failure> {
    let failure = |expected: String, got: &str| {
        Some(Failure {
            expected,
            got: got.to_owned(),
        })
    };
    let selected = policies.select(Scope::Pod(PodScope::default()), date);
    let decision = selected.decide(&case.image);
    let result = decision.result.as_ref();
    match &case.expected {
        Some(expected) if expected != result => return failure(expected.clone(), result),
        Some(_) => {}
        None => {
            if Reference::parse(&case.image).is_ok() && Reference::parse(result).is_err() {
                return failure("a valid reference".to_owned(), result);
            }
            let again = selected.decide(result).result;
            if again != result {
                return failure(format!("{result} to stay when decided again"), &again);
            }
            let target = selected
                .policy()
                .is_some_and(|it| it.is_under_target(&case.image));
            if target && result != case.image {
                return failure(
                    format!("{} to stay, for it lies under a target", case.image),
                    result,
                );
            }
        }
    }
    let approval = |it: bool| if it { "approved" } else { "not approved" };
    match case.approved {
        Some(approved) if approved != decision.approved => failure(
            format!("{result} to be {}", approval(approved)),
            approval(decision.approved),
        ),
        _ => None,
    }
}
