//! Converts a maps file to an ImageSwapPolicy that decides alike, as far as patterns can.
//!
//! Maps files match images as written, policies match their canonical form. So `nginx`,
//! `library/nginx` and `docker.io/library/nginx` are treated alike in a policy, and where a file
//! distinguishes spellings, the difference is reported.

use super::LABEL;
use super::compile::Effective;
use super::lines::{self, Entry};
use crate::document::{
    self, Enforcement, ImageSwapPolicy, LabelSelector, Match, Rule as Written, Spec,
};
use crate::{Diagnostic, Diagnostics, Policy, Severity};
use rules::Importer;
use std::collections::BTreeMap;

mod differences;
mod patterns;
mod rules;
mod settle;

/// A maps file as an ImageSwapPolicy.
#[derive(Debug, Clone)]
pub struct Imported {
    /// The policy; it loads.
    pub policy: ImageSwapPolicy,
    /// For each rule of the policy, the line of the maps file that it comes from.
    pub lines: Vec<usize>,
    /// Decisions that differ from the file's: notes, and warnings about lines that are left out.
    pub differences: Diagnostics,
}

/// Converts the text of a maps file to an ImageSwapPolicy called `name`.
///
/// The policy applies to the same Pods (those of namespaces with the label, except those that opt
/// out) and warns about images that are not approved, because ImageSwap denies nothing.
///
/// # Errors
/// All diagnostics of the text if it, or the rules made from it, do not load.
pub fn import(source: &str, text: &str, name: &str) -> Result<Imported, Diagnostics> {
    let policy = super::load(source, text)?.policy;
    let entries: Vec<_> = lines::lines(text)
        .filter_map(|it| it.entry().ok())
        .collect();
    let effective = Effective::of(&entries);
    let importer = Importer::new(source, &effective, entries.last(), &policy);
    let (rules, lines, differences) = importer.finish();
    let policy = ImageSwapPolicy::new(name, spec(rules));
    check(source, text, &policy)?;
    Ok(Imported {
        policy,
        lines,
        differences,
    })
}

fn spec(rules: Vec<Written>) -> Spec {
    let label = BTreeMap::from([(LABEL.to_owned(), "enabled".to_owned())]);
    Spec {
        r#match: Match {
            // A maps file selects namespaces by the label alone.
            namespaces: Some(vec!["*".to_owned()]),
            namespace_selector: Some(LabelSelector {
                match_labels: label,
                ..LabelSelector::default()
            }),
            allow_opt_out: true,
            ..Match::default()
        },
        rules,
        enforcement: Enforcement::Warn,
        ..Spec::default()
    }
}

/// Loads the policy; mistakes are reported at the maps file's lines.
fn check(source: &str, text: &str, policy: &ImageSwapPolicy) -> Result<(), Diagnostics> {
    let json = serde_json::to_string(policy).expect("the document's types are plain data");
    let Err(errors) = document::load(source, &json) else {
        return Ok(());
    };
    let errors = errors
        .0
        .into_iter()
        .filter(|it| it.severity == Severity::Error);
    let errors = errors.map(|it| {
        let line = it.message.split("maps:").nth(1).and_then(|it| {
            let digits = it.split(|it: char| !it.is_ascii_digit()).next();
            digits.and_then(|it| it.parse().ok())
        });
        let line = line.unwrap_or(1_usize);
        let written = text.lines().nth(line - 1).unwrap_or_default();
        Diagnostic {
            field: None,
            line,
            column: 1,
            length: written.trim_end().chars().count().max(1),
            text: written.to_owned(),
            ..it
        }
    });
    Err(Diagnostics(errors.collect()))
}
