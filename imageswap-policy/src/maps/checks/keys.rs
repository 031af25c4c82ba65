//! Keys: what they name, and whether an image can match.

use super::{At, Checker};
use crate::maps::compile::LIBRARY_KEY;
use crate::maps::lines::{Entry, Section};
use crate::maps_engine::Glob;
use crate::maps_engine::target_prefix;
use crate::pattern::Pattern;
use crate::reference::{Reference, is_registry};

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
        Section::Plain => registry(checker, &at, entry),
    }
}

/// Mistakes in any kind of key: tabs, a `#` that was meant as a comment, a scheme.
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

fn registry(checker: &mut Checker<'_>, at: &At<'_>, entry: &Entry<'_>) {
    let (key, value) = (entry.key.as_str(), entry.value.as_str());
    if key.starts_with('[') && !key.starts_with("[:") && key.contains(']') && !key.contains(':') {
        let message = format!("expected `[EXACT]` or `[REPLACE]`, found `{key}`");
        return checker.unusable(at, "unknown-section", message, None);
    }
    let lower = key.to_ascii_lowercase();
    if lower == "default" || lower == "noswap_wildcards" {
        let message = format!(
            "expected a registry, found `{key}`, which is not in lower case; this line is never used"
        );
        let help = format!("write `{lower}`");
        return checker.warn(at, "key-case", message, Some(help));
    }
    if let Some(why) = unused_key(key) {
        let message =
            format!("expected a registry, found `{key}`, which {why}; this line is never used");
        return checker.warn(at, "unused-key", message, instead(key, value));
    }
    if key != LIBRARY_KEY && key != lower {
        let message = format!("`{key}` matches only images that are written in this case");
        checker.warn(at, "key-case", message, Some(format!("write `{lower}`")));
    }
}

/// Why no image can match a plain key.
pub(in crate::maps) fn unused_key(key: &str) -> Option<&'static str> {
    if key == LIBRARY_KEY {
        None
    } else if key.contains('/') {
        Some("holds a path")
    } else if key.contains('*') {
        Some("is a pattern")
    } else if !is_registry(key) {
        Some("has neither a `.` nor a port")
    } else if Reference::parse(&format!("{key}/x")).is_err() {
        Some("is not a host")
    } else {
        None
    }
}

/// What to write instead of a key that no image can match. Only a policy can keep a path below its
/// target.
pub(in crate::maps) fn instead(key: &str, value: &str) -> Option<String> {
    let plain = key.trim_matches(['"', '\'']).trim_end_matches('/');
    if is_registry(plain) && unused_key(plain).is_none() {
        return Some(format!("write `{plain}`"));
    }
    let below = Some(format!("{plain}/**")).filter(|it| Pattern::parse(it).is_ok())?;
    let value = target_prefix(value);
    if value.is_empty() && Pattern::parse(plain).is_ok() {
        return Some(format!(
            "write `[EXACT]{plain}:TAG::` for each tag that is to stay, or use an ImageSwapPolicy with `keep: \"{plain}\"`"
        ));
    }
    Some(if value.is_empty() {
        format!("use an ImageSwapPolicy with `keep: \"{below}\"`")
    } else {
        format!("use an ImageSwapPolicy with `from: \"{below}\"` and `to: {value}`")
    })
}
