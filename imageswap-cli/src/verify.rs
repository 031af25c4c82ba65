//! `imageswap test`: tests policies with cases.

use crate::cases::{self, Case};
use crate::input::Input;
use crate::policy::{parse_date, today};
use crate::scope::{NamespaceArgs, undecided_case};
use crate::{Outcome, input, report};
use anyhow::{Error, Result, anyhow};
use clap::Args as ClapArgs;
use imageswap_policy::maps::{self, Options};
use imageswap_policy::{
    Date, Decision, PodScope, Policies, Policy, Reason, Reference, Scope, Selected, document,
};
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};
use std::io::Write;
use std::path::{Path, PathBuf};

/// Extensions of the files that are read in a folder.
const ENDINGS: [&str; 5] = ["yaml", "yml", "json", "jsonl", "ndjson"];

/// Arguments of `imageswap test`.
///
/// A maps text is read as ImageSwap reads it: lines that it would skip are skipped silently.
#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    /// JSON lines or YAML, or folders of these; `-` is standard input
    ///
    /// A case is {maps or policy, mode?, image_prefix?, namespace?,
    /// namespace_labels?, labels?, container?, image, expected?, approved?,
    /// date?}; `id`, `name`, `note` and `tag` are yours. A policy is an
    /// ImageSwapPolicy, its text, or its file beside the cases. Exceptions
    /// end by `date`, or by today. The mode is `maps` or `legacy`.
    /// Without `expected` the test checks that the result is a valid reference
    /// if the image is one, that deciding it again changes nothing, and that
    /// an image under a target stays.
    #[arg(required = true, value_name = "FILE", verbatim_doc_comment)]
    files: Vec<PathBuf>,
    #[command(flatten)]
    namespaces: NamespaceArgs,
}

/// A failed case: the expected and the actual answer.
#[derive(Debug, PartialEq, Eq)]
struct Failure {
    expected: String,
    got: String,
    /// The policy that decided, and its rule.
    by: String,
}

/// Compiled policies by their texts.
#[derive(Debug, Default)]
struct Compiled(HashMap<(Kind, String), Result<Policies, String>>);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    Document,
    Maps,
    Legacy,
}

/// Runs the command: 0 if all cases pass, 1 if one fails, 2 if one cannot be decided.
pub(crate) fn run(args: &Args, out: &mut impl Write) -> Result<Outcome> {
    let mut compiled = Compiled::default();
    let (mut passed, mut failed, mut errors) = (0_usize, 0_usize, 0_usize);
    let (inputs, unread) = read_files(&args.files);
    for error in unread {
        report(&format!("error: {error:#}"));
        errors += 1;
    }
    for Input { name, path, text } in inputs {
        let path = path.as_deref().unwrap_or(Path::new("-"));
        let cases = cases::read(&name, path, &text);
        if cases.is_empty() {
            report(&format!("error: {name}: expected cases, found none"));
            errors += 1;
        }
        for written in cases {
            let line = written.line;
            let place = |why: String| format!("error: {name}:{line}: {why}");
            let case = written.case.map_err(|it| it.to_string());
            let checked = case.and_then(|case| {
                let why = |why: String| place(format!("{}: {why}", case.image));
                let date = case.date.as_deref().map_or_else(|| Ok(today()), parse_date);
                let date = date.map_err(why)?;
                let policies = compiled.of(&case, path).map_err(why)?;
                let checked = check(policies, date, &case, &args.namespaces).map_err(why)?;
                Ok((checked, case.image))
            });
            match checked {
                Ok((None, _)) => passed += 1,
                Ok((Some(failure), image)) => {
                    failed += 1;
                    writeln!(
                        out,
                        "{name}:{line}: {image}\n  expected {}\n  got      {}\n  by       {}",
                        failure.expected, failure.got, failure.by
                    )?;
                }
                Err(why) => {
                    failed += 1;
                    errors += 1;
                    report(&why);
                }
            }
        }
    }
    writeln!(out, "{passed} passed, {failed} failed")?;
    out.flush()?;
    Ok(Outcome::of(errors == 0, failed > 0))
}

impl Compiled {
    /// The policy of a case.
    fn of(&mut self, case: &Case, file: &Path) -> Result<&Policies, String> {
        let maps = || case.maps.clone().unwrap_or_default();
        let prefix = || case.image_prefix.clone().unwrap_or_default();
        let is_maps = |it: &String| it.eq_ignore_ascii_case("maps");
        let key = match (&case.policy, case.mode.as_ref().map(is_maps)) {
            (Some(_), Some(_)) => {
                return Err("expected `policy` or `mode`, found both".to_owned());
            }
            (Some(_), None) if case.maps.is_some() || case.image_prefix.is_some() => {
                return Err("expected `policy`, `maps` or `image_prefix`, found several".to_owned());
            }
            (Some(policy), None) => (Kind::Document, document_text(policy, file)?),
            (None, Some(true)) => (Kind::Maps, maps()),
            (None, Some(false)) => (Kind::Legacy, prefix()),
            (None, None) if case.maps.is_some() => (Kind::Maps, maps()),
            (None, None) if case.image_prefix.is_some() => (Kind::Legacy, prefix()),
            (None, None) => {
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
                Kind::Document => {
                    let loaded = document::load("policy", text);
                    return loaded
                        .map(|it| Policies::new(it.policies))
                        .map_err(|it| it.to_string());
                }
                Kind::Maps => maps::load_with("maps", text, &options),
                Kind::Legacy => maps::load_prefix_with("image_prefix", text, &options),
            };
            loaded
                .map(|it| Policies::one(it.policy))
                .map_err(|it| it.to_string())
        });
        compiled.as_ref().map_err(Clone::clone)
    }
}

/// The case files in `paths`, and errors. Policies next to the cases in a folder are left out.
fn read_files(paths: &[PathBuf]) -> (Vec<Input>, Vec<Error>) {
    let (mut inputs, mut errors) = input::read_all_of(paths, &ENDINGS, &[]);
    let named = |it: &Input| paths.iter().any(|path| Some(path) == it.path.as_ref());
    inputs.retain(|it| it.path.is_none() || named(it) || !cases::is_objects(&it.text));
    if inputs.is_empty() && errors.is_empty() {
        errors.push(anyhow!("expected cases, found none in these folders"));
    }
    (inputs, errors)
}

/// The text of a case's policy; `file` is the case's.
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

/// The failed part of the case, if any.
///
/// # Errors
/// The case does not describe the Pod well enough to decide.
fn check(
    policies: &Policies,
    date: Date,
    case: &Case,
    given: &NamespaceArgs,
) -> Result<Option<Failure>, String> {
    let namespace = case.namespace.as_deref();
    let others = BTreeMap::new();
    let given = || given.labels(namespace.unwrap_or_default(), &others);
    let scope = PodScope {
        namespace,
        namespace_labels: case.namespace_labels.as_ref().or_else(given),
        labels: case.labels.as_ref().map(|it| it as _),
    };
    let selected = policies.select(Scope::Pod(scope), date);
    let selected = match case.container.as_deref() {
        Some(name) => selected.in_container(Some(name)),
        None => selected,
    };
    let decision = selected.decide(&case.image);
    if decision.reason == Reason::ScopeUnknown {
        return Err(undecided_case(&selected));
    }
    Ok(compare(&selected, &decision, case))
}

fn compare(selected: &Selected<'_>, decision: &Decision<'_>, case: &Case) -> Option<Failure> {
    let failure = |expected: String, got: &str| {
        let by = match (selected.policy().map(Policy::name), decision.rule) {
            (Some(policy), Some(rule)) => format!("policy {policy}, rule {rule}"),
            (Some(policy), None) => format!("policy {policy}, no rule"),
            (None, _) => "no policy: none applies".to_owned(),
        };
        Some(Failure {
            expected,
            got: got.to_owned(),
            by,
        })
    };
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
            let target = selected.is_under_target(&case.image);
            if target && result != case.image {
                return failure(
                    format!("{} to stay, because it lies under a target", case.image),
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
