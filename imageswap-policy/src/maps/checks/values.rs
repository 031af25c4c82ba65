//! Values: the targets of images.

use super::{At, Checker};
use crate::maps::lines::{Entry, Section};
use crate::maps_engine::target_prefix;
use crate::reference::Reference;

pub(super) fn check(checker: &mut Checker<'_>, entry: &Entry<'_>) {
    let at = At::value(entry);
    match entry.section {
        Section::Exact if entry.value.is_empty() => {
            let message = "expected an image; without one the image is kept unchanged".to_owned();
            checker.warn(&at, "empty-value", message, None);
        }
        Section::Exact => {
            if let Err(why) = Reference::parse(&entry.value) {
                let message = format!("expected an image, found `{}`: {why}", entry.value);
                checker.unusable(&at, "unusable-value", message, help_for(&entry.value));
            }
        }
        Section::Replace if entry.value.is_empty() => {
            let message = "expected a prefix; without one only the last path segment is left of the image, on docker.io";
            let help = "to leave images alone, use an ImageSwapPolicy with `keep`".to_owned();
            checker.warn(&at, "empty-value", message.to_owned(), Some(help));
        }
        Section::Replace => prefix(checker, &at, &entry.value, "/x"),
        Section::Default | Section::Plain | Section::NoSwap => {
            prefix(checker, &at, &entry.value, "x");
        }
    }
}

/// A value that images are appended to; `sample` is an example of the text after a `-`.
pub(super) fn prefix(checker: &mut Checker<'_>, at: &At<'_>, value: &str, sample: &str) {
    let prefix = target_prefix(value);
    let joined = if prefix.ends_with('-') {
        format!("{prefix}{sample}")
    } else {
        format!("{prefix}/x")
    };
    if value.is_empty() {
        return;
    }
    if Reference::parse(&joined).is_err() {
        let message = format!(
            "expected `registry[:port][/path]`, found `{value}`, which begins no image reference"
        );
        checker.unusable(at, "unusable-value", message, help_for(value));
    } else if prefix != value {
        let message =
            "the `/` at the end is left out; the Python ImageSwap would write `//`".to_owned();
        let help = format!("write `{prefix}`");
        checker.warn(at, "trailing-slash", message, Some(help));
    }
}

/// The likely meaning of a value that begins no reference, if there is one.
fn help_for(value: &str) -> Option<String> {
    if let Some((_, rest)) = value.split_once("://") {
        return Some(format!(
            "write `{}`: a reference has no scheme",
            target_prefix(rest)
        ));
    }
    if value.contains('#') {
        return Some("only the last run of `#` begins a comment: leave one".to_owned());
    }
    if value.contains('\t') {
        return Some("leave out the tab, which is part of the value".to_owned());
    }
    if let Some(rest) = value.strip_prefix(':') {
        return Some(format!("write `{rest}`: three colons are one too many"));
    }
    if value.contains('*') {
        return Some("a value is not a pattern: write the registry".to_owned());
    }
    None
}
