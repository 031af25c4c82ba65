//! Keys: what they name, and whether an image can be called so.

use super::{At, Checker};
use crate::maps::compile::LIBRARY_KEY;
use crate::maps::lines::{Entry, Section};
use crate::reference::{Reference, is_registry};
use crate::rules::Glob;

pub(super) fn check(checker: &mut Checker<'_>, entry: &Entry<'_>) {
    let at = At::key(entry);
    let key = entry.key.as_str();
    if key.is_empty() {
        let message = "expected a key before the separator, found nothing".to_owned();
        return checker.unusable(&at, "empty-key", message, None);
    }
    if written_wrong(checker, &at, entry) {
        return;
    }
    match entry.section {
        Section::Default | Section::NoSwap => {}
        Section::Replace => pattern(checker, &at, key),
        Section::Exact => {
            if let Err(why) = Reference::parse(key) {
                let message = format!("no image is called `{key}`: {why}");
                checker.warn(&at, "unused-key", message, None);
            }
        }
        Section::Plain => registry(checker, &at, key),
    }
}

/// What no key of any kind may hold: tabs, a `#` that was to be a comment, a scheme.
fn written_wrong(checker: &mut Checker<'_>, at: &At<'_>, entry: &Entry<'_>) -> bool {
    let key = entry.written_key();
    let (code, message, help) = if key.contains('\t') {
        (
            "tab",
            "a tab is part of this key; only spaces are left out".to_owned(),
            format!("write `{}` without tabs", key.replace('\t', "")),
        )
    } else if key.contains('#') {
        (
            "second-hash",
            "the `#` is part of this key: only the last run of `#` begins a comment".to_owned(),
            "leave one `#`, or begin the line with it".to_owned(),
        )
    } else if let Some((scheme, _)) = key.split_once("://") {
        let scheme = scheme.rsplit(']').next().unwrap_or(scheme);
        (
            "scheme",
            format!("no image begins with `{scheme}://`; this line is never used"),
            format!("write `{}`", key.replacen(&format!("{scheme}://"), "", 1)),
        )
    } else {
        return false;
    };
    checker.warn(at, code, message, Some(help));
    true
}

fn pattern(checker: &mut Checker<'_>, at: &At<'_>, key: &str) {
    if !Glob::new(key).matches_a_reference() {
        let message = format!("no image reference can match `{key}`");
        let path = key.split_once('/').map_or(key, |(_, path)| path);
        let help = path
            .contains(|it: char| it.is_ascii_uppercase())
            .then(|| "write paths in lower case".to_owned());
        checker.warn(at, "impossible-pattern", message, help);
    }
}

fn registry(checker: &mut Checker<'_>, at: &At<'_>, key: &str) {
    let unused = |why: &str| {
        format!("expected a registry, found `{key}`, which {why}; this line is never used")
    };
    if key.starts_with('[') && !key.starts_with("[:") && key.contains(']') && !key.contains(':') {
        let message = format!("expected `[EXACT]` or `[REPLACE]`, found `{key}`");
        return checker.unusable(at, "unknown-section", message, None);
    }
    let lower = key.to_ascii_lowercase();
    if lower == "default" || lower == "noswap_wildcards" {
        let message = unused("is not in lower case");
        let help = format!("write `{lower}`");
        return checker.warn(at, "key-case", message, Some(help));
    }
    if key == LIBRARY_KEY {
        return;
    }
    let trimmed = key.trim_end_matches('/');
    let (why, help) = if let Some(registry) = key.strip_suffix("/library") {
        let help =
            format!("only `{LIBRARY_KEY}` is known; write `[REPLACE]{registry}/library/*::...`");
        ("holds a path", Some(help))
    } else if key.contains('/') {
        // `quay.io/` is a registry with a slash too many; a path needs a pattern.
        let help = if is_registry(trimmed) && !trimmed.contains('/') {
            format!("write `{trimmed}`")
        } else {
            format!("write `[REPLACE]{trimmed}/*::...`")
        };
        ("holds a path", Some(help))
    } else if key.contains('*') {
        (
            "is a pattern",
            Some(format!("write `[REPLACE]{key}/*::...`")),
        )
    } else if !is_registry(key) {
        ("has neither a `.` nor a port", None)
    } else if Reference::parse(&format!("{key}/x")).is_err() {
        ("is no host", None)
    } else {
        if key != lower {
            let message = format!("`{key}` matches only images that are written in this case");
            checker.warn(at, "key-case", message, Some(format!("write `{lower}`")));
        }
        return;
    };
    checker.warn(at, "unused-key", unused(why), help);
}
