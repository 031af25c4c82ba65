//! `imageswap test`: holds policies to cases.

use crate::cases::{self, Case};
use crate::{Outcome, report};
use anyhow::{Context, Result};
use clap::Args as ClapArgs;
use imageswap_policy::maps::{self, Options};
use imageswap_policy::{PodScope, Policy, Reference, Scope};
use std::collections::HashMap;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

/// Arguments of `imageswap test`.
///
/// A maps text is read as ImageSwap reads it: lines that it would skip are skipped, without a word.
#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    /// JSON lines or YAML; `-` is standard input
    ///
    /// A case is {maps, mode?, image_prefix?, image, expected?, approved?}.
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
struct Policies(HashMap<(Mode, String), Result<Policy, String>>);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Mode {
    Maps,
    Legacy,
}

/// Runs the command: 0 when all cases hold, 1 when one does not, 2 when one cannot be decided.
pub(crate) fn run(args: &Args, out: &mut impl Write) -> Result<Outcome> {
    let mut policies = Policies::default();
    let (mut passed, mut failed, mut errors) = (0_usize, 0_usize, 0_usize);
    for path in &args.files {
        let name = path.display();
        let text = match read(path) {
            Ok(text) => text,
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
                let policy = policies
                    .of(&case)
                    .map_err(|why| format!("{}: {why}", case.image))?;
                Ok((check(policy, &case), case.image))
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

fn read(path: &Path) -> Result<String> {
    let mut bytes = Vec::new();
    if path.as_os_str() == "-" {
        std::io::stdin()
            .read_to_end(&mut bytes)
            .context("cannot read standard input")?;
    } else {
        bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    }
    String::from_utf8(bytes).with_context(|| format!("{} is not UTF-8", path.display()))
}

impl Policies {
    /// The policy that a case names.
    fn of(&mut self, case: &Case) -> Result<&Policy, String> {
        if case.policy.is_some() {
            return Err(
                "`policy` is not supported yet: only `maps` and `image_prefix` can be tested"
                    .to_owned(),
            );
        }
        let key = match (&case.mode, &case.maps, &case.image_prefix) {
            (Some(mode), maps, _) if mode.eq_ignore_ascii_case("maps") => {
                (Mode::Maps, maps.clone().unwrap_or_default())
            }
            (Some(_), _, prefix) => (Mode::Legacy, prefix.clone().unwrap_or_default()),
            (None, Some(maps), _) => (Mode::Maps, maps.clone()),
            (None, None, Some(prefix)) => (Mode::Legacy, prefix.clone()),
            (None, None, None) => {
                return Err("expected `maps` or `image_prefix`, found neither".to_owned());
            }
        };
        let compiled = self.0.entry(key).or_insert_with_key(|(mode, text)| {
            let options = Options {
                tolerate_unusable_lines: true,
                ..Options::default()
            };
            let loaded = match mode {
                Mode::Maps => maps::load_with("maps", text, &options),
                Mode::Legacy => maps::load_prefix_with("image_prefix", text, &options),
            };
            loaded.map(|it| it.policy).map_err(|it| it.to_string())
        });
        compiled.as_ref().map_err(Clone::clone)
    }
}

/// What of the case does not hold, if anything.
fn check(policy: &Policy, case: &Case) -> Option<Failure> {
    let failure = |expected: String, got: &str| {
        Some(Failure {
            expected,
            got: got.to_owned(),
        })
    };
    let scope = Scope::Pod(PodScope::default());
    let decision = policy.decide(scope, &case.image);
    let result = decision.result.as_ref();
    match &case.expected {
        Some(expected) if expected != result => return failure(expected.clone(), result),
        Some(_) => {}
        None => {
            if Reference::parse(&case.image).is_ok() && Reference::parse(result).is_err() {
                return failure("a valid reference".to_owned(), result);
            }
            let again = policy.decide(scope, result).result;
            if again != result {
                return failure(format!("{result} to stay when decided again"), &again);
            }
            if policy.is_under_target(&case.image) && result != case.image {
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
