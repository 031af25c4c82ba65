//! ImageSwap's maps file, and its legacy prefix mode.
//!
//! A line is `key::value` (or `key:value`, if neither holds a `:`); spaces are ignored, and the
//! last run of `#` begins a comment. Keys, in the order in which they are tried:
//!
//! | key | value | what it does |
//! |---|---|---|
//! | `[EXACT]image` | image | this very text becomes the value |
//! | `[REPLACE]pattern` | prefix | what the shell pattern matches becomes `prefix/` and its last path segment |
//! | `registry[:port]` | prefix | `prefix/` takes the registry's place; empty: it stays; ending with `-`: `prefix-registry/` |
//! | `docker.io/library` | prefix | the same for a name alone, such as `nginx` |
//! | `noswap_wildcards` | texts, with `,` between | an image that holds one of them stays |
//! | `default` | prefix | everything else; without this key no registry key applies either |
//!
//! The answer is that of ImageSwap 1.5.3's first pass, if it is a valid reference that stays. An
//! image under a target (a place that any value names) stays, so answers are final. If
//! ImageSwap's answer is not a reference or would not stay, the same line is applied by the grammar
//! of references: a registry with a port counts as one, and only the registry is replaced. If that
//! gives nothing valid, the image stays and is not approved.
//!
//! Two kinds of line are errors, because they have no effect: a line that is not a key and a value,
//! and a value that cannot begin a reference. ImageSwap skips the first and makes broken references
//! with the second, both silently; [`Options::tolerate_unusable_lines`] turns them into warnings,
//! and then an image that would get such a value stays. A line that does something its author
//! likely did not intend gets a warning.
//!
//! Approved are images under a target, images that an empty value keeps, images that an item of
//! `noswap_wildcards` keeps by its whole host (with any port) or a path prefix (`example.com` is
//! not `sub.example.com`), and, if `default` is empty or missing, images that no key names.
//!
//! Rules are named `maps:3 gitlab.com`: the line number and its key.

use crate::maps_engine::Engine;
use crate::{Diagnostics, Policy, Severity};

mod checks;
mod codes;
mod compile;
mod import;
mod lines;
mod lint;

pub use crate::scope::LABEL;
pub use codes::CHECKS;
pub use import::{Imported, import};

/// Options for reading a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Label that takes an object out of scope when it is `disabled` (ImageSwap's `IMAGESWAP_DISABLE_LABEL`).
    pub disable_label: String,
    /// Label that a namespace must have, as `enabled`, to be in scope.
    pub namespace_label: String,
    /// Whether useless lines are warnings, as for ImageSwap, instead of errors: lines that are not
    /// `key::value`, and values that cannot begin a reference. For comparisons with ImageSwap; in a
    /// service such a line means that an image is not swapped although someone wanted it.
    pub tolerate_unusable_lines: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            disable_label: LABEL.to_owned(),
            namespace_label: LABEL.to_owned(),
            tolerate_unusable_lines: false,
        }
    }
}

/// A policy that loaded, with the warnings about its text.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The compiled policy.
    pub policy: Policy,
    /// Warnings only.
    pub warnings: Diagnostics,
}

/// Compiles the text of a maps file. `source` names it in diagnostics (a path, usually).
///
/// # Errors
/// All diagnostics of the text, at least one of them an error.
pub fn load(source: &str, text: &str) -> Result<Loaded, Diagnostics> {
    load_with(source, text, &Options::default())
}

/// [`load`] with options.
///
/// # Errors
/// As [`load`].
pub fn load_with(source: &str, text: &str, options: &Options) -> Result<Loaded, Diagnostics> {
    let (policy, diagnostics) = read(source, text, options, |_, _, _| {});
    finish(policy, diagnostics)
}

/// All messages about the text of a maps file: those of loading, errors included, and notes.
pub fn lint(source: &str, text: &str) -> Diagnostics {
    read(
        source,
        text,
        &Options::default(),
        |checker, entries, engine| {
            lint::maps(checker, entries, engine, text);
        },
    )
    .1
}

/// Compiles ImageSwap's legacy mode: every image gets `prefix` (`IMAGE_PREFIX`).
///
/// # Errors
/// A diagnostic if the prefix cannot begin a reference.
pub fn load_prefix(source: &str, prefix: &str) -> Result<Loaded, Diagnostics> {
    load_prefix_with(source, prefix, &Options::default())
}

/// [`load_prefix`] with options.
///
/// # Errors
/// As [`load_prefix`].
pub fn load_prefix_with(
    source: &str,
    prefix: &str,
    options: &Options,
) -> Result<Loaded, Diagnostics> {
    let mut checker = checks::Checker::new(source, options);
    checker.prefix(prefix);
    let (head, engine) = compile::prefix(prefix, options);
    finish(Policy::maps(head, engine), checker.finish())
}

/// [`lint()`] for ImageSwap's legacy mode.
pub fn lint_prefix(source: &str, prefix: &str) -> Diagnostics {
    let mut checker = checks::Checker::new(source, &Options::default());
    checker.prefix(prefix);
    lint::prefix(&mut checker, prefix);
    checker.finish()
}

/// The policy of a text, and the messages about it, including those of `more`.
fn read(
    source: &str,
    text: &str,
    options: &Options,
    more: impl FnOnce(&mut checks::Checker<'_>, &[lines::Entry<'_>], &Engine),
) -> (Policy, Diagnostics) {
    let mut checker = checks::Checker::new(source, options);
    let mut entries = Vec::new();
    for line in lines::lines(text) {
        match line.entry() {
            Ok(entry) => entries.push(entry),
            Err(why) => checker.malformed(&line, why),
        }
    }
    for entry in &entries {
        checker.entry(entry);
    }
    checker.whole(&entries);
    let effective = compile::Effective::of(&entries);
    let (head, engine) = compile::maps(&effective, options);
    more(&mut checker, &entries, &engine);
    (Policy::maps(head, engine), checker.finish())
}

fn finish(policy: Policy, diagnostics: Diagnostics) -> Result<Loaded, Diagnostics> {
    if diagnostics
        .0
        .iter()
        .any(|it| it.severity == Severity::Error)
    {
        return Err(diagnostics);
    }
    Ok(Loaded {
        policy,
        warnings: diagnostics,
    })
}

#[cfg(test)]
mod tests;
