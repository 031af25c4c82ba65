//! Notes about a maps file that loads: where ImageSwap differs, and what lines mean together.
//!
//! Services do not log these; most apply to any maps file. A note about many lines is reported at
//! the first.

use super::checks::{At, Checker};
use super::compile::{Effective, LIBRARY_KEY};
use super::lines::{Entry, Section};
use crate::maps_engine::Glob;
use crate::maps_engine::{Engine, target_prefix};
use crate::reference::{DEFAULT_REGISTRY, Reference, canonical_registry, is_registry, split_port};
use std::collections::HashMap;

mod places;
mod registries;

/// Adds the notes about a maps file to the messages of loading it.
pub(super) fn maps(checker: &mut Checker<'_>, entries: &[Entry<'_>], engine: &Engine, text: &str) {
    let effective = Effective::of(entries);
    spelling(checker, entries, text);
    registries::check(checker, &effective);
    places::check(checker, &effective, engine);
}

/// Adds the notes about `IMAGE_PREFIX`.
pub(super) fn prefix(checker: &mut Checker<'_>, text: &str) {
    let at = At::whole(text);
    let prefix = target_prefix(text);
    if text.is_empty() || checker.has_errors() {
        return;
    }
    let message = format!(
        "an image that holds `{text}` anywhere stays, and is approved only if it lies under it"
    );
    checker.note(&at, "substring-item", message, None);
    if prefix.ends_with('-') {
        let message = format!(
            "the whole image follows, with its registry: with a port, as in `{prefix}localhost:5000/a`, the result is not a reference and the image stays"
        );
        checker.note(&at, "mirror-port", message, None);
    } else {
        let message = format!(
            "only the last path segment is kept: `quay.io/a/app` and `b/app` both become `{prefix}/app`"
        );
        checker.note(&at, "dropped-path", message, None);
    }
}

/// A note at the first of several lines: its entry, and the text for the others.
struct First<'e, 'a> {
    entry: &'e Entry<'a>,
    more: String,
}

impl<'e, 'a> First<'e, 'a> {
    fn of(entries: impl Iterator<Item = &'e Entry<'a>>) -> Option<Self>
    where
        'a: 'e,
    {
        let mut all: Vec<_> = entries.collect();
        all.sort_by_key(|it| it.line);
        let entry = *all.first()?;
        let more = match all.len() - 1 {
            0 => String::new(),
            1 => " (1 more line like this)".to_owned(),
            more => format!(" ({more} more lines like this)"),
        };
        Some(Self { entry, more })
    }
}

/// How lines are written.
fn spelling(checker: &mut Checker<'_>, entries: &[Entry<'_>], text: &str) {
    if text.starts_with('\u{feff}') {
        let message = "the text begins with a byte order mark, which the Python ImageSwap reads as part of the first key".to_owned();
        checker.note(&At::start(text), "byte-order-mark", message, None);
    }
    if entries.is_empty() && !checker.has_errors() {
        let message = "nothing is said here, so every image stays and is approved".to_owned();
        checker.warn(&At::start(text), "empty-file", message, None);
    }
    if let Some(First { entry, more }) = First::of(entries.iter().filter(|it| it.single_colon)) {
        let message = format!(
            "a single `:` is deprecated; the Python ImageSwap logs a warning for it with every image{more}"
        );
        let help = format!("write `{}::{}`", entry.written_key(), entry.value);
        checker.note(&At::key(entry), "single-colon", message, Some(help));
    }
    let exact = entries
        .iter()
        .filter(|it| it.section == Section::Exact && Reference::parse(&it.key).is_ok());
    if let Some(First { entry, more }) = First::of(exact) {
        let reference = Reference::parse(&entry.key);
        let other = reference.map_or_else(|_| String::new(), |it| other_spelling(&it));
        let message =
            format!("only this very text is meant, not the same image written as `{other}`{more}");
        checker.note(&At::key(entry), "exact-spelling", message, None);
    }
    let patterns = entries
        .iter()
        .filter(|it| it.section == Section::Replace && Glob::new(&it.key).matches_a_reference());
    if let Some(First { entry, more }) = First::of(patterns.filter(|it| !it.value.is_empty())) {
        let message = format!(
            "only the last path segment is kept: among images that match, `a/app` and `b/app` both become `{}/app`{more}",
            target_prefix(&entry.value)
        );
        checker.note(&At::value(entry), "dropped-path", message, None);
    }
}

/// Another way to write the same image.
fn other_spelling(image: &Reference<'_>) -> String {
    let (text, canonical) = (image.as_str(), image.canonical());
    if canonical != text {
        return canonical;
    }
    if let Some(path) = text.strip_prefix("docker.io/") {
        return path.strip_prefix("library/").unwrap_or(path).to_owned();
    }
    match (image.tag(), image.digest()) {
        (None, None) => format!("{text}:latest"),
        (Some(_), None) => format!("{text}@sha256:..."),
        (None, Some(_)) => format!("{}:latest@sha256:...", image.canonical_name()),
        (Some(_), Some(_)) => format!("{}@sha256:...", image.canonical_name()),
    }
}
