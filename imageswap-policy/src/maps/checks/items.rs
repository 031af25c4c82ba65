//! `noswap_wildcards`: which of its items do not keep what they seem to keep.

use super::{At, Checker};
use crate::maps::compile::Effective;
use crate::maps::lines::{Entry, Item};
use crate::reference::{DEFAULT_REGISTRY, Reference, canonical_registry, is_registry, split_port};

/// Checks of single items.
pub(super) fn check(checker: &mut Checker<'_>, entry: &Entry<'_>) {
    let items = entry.items();
    let empty = items.iter().find(|it| it.text.is_empty());
    if let Some(item) = empty {
        let message = "expected a text between commas; every image holds an empty one, so all stay that no key names";
        let help = Some("remove the comma".to_owned());
        let at = At::columns(entry, item.span.clone());
        checker.warn(&at, "empty-item", message.to_owned(), help);
    }
    for item in items.iter().filter(|it| !it.text.is_empty()) {
        let at = At::columns(entry, item.span.clone());
        if let Some((code, message, help)) = trap(item) {
            checker.warn(&at, code, message, help);
        }
    }
}

/// Checks of items together with keys and `default`.
pub(super) fn whole(checker: &mut Checker<'_>, effective: &Effective<'_>) {
    let (Some(noswap), Some(default)) = (effective.noswap, effective.default) else {
        return;
    };
    if noswap.value.is_empty() {
        return;
    }
    if default.value.is_empty() {
        let message =
            "this keeps nothing more: `default` is empty, so what no key names stays".to_owned();
        checker.warn(&At::key(noswap), "unused-noswap", message, None);
        return;
    }
    for item in noswap.items() {
        let first = item.text.split('/').next().unwrap_or(item.text);
        let at = At::columns(noswap, item.span.clone());
        let key = [first, split_port(first).0]
            .into_iter()
            .find_map(|it| effective.plain.get(it));
        if let Some(key) = key.filter(|it| !it.value.is_empty() && is_registry(first)) {
            let message = format!(
                "the key `{}` in line {} goes before this: its images are swapped",
                key.key, key.line
            );
            let help = format!("write `{}::` there to keep them", key.key);
            checker.warn(&at, "shadowed-item", message, Some(help));
        } else if key.is_none()
            && is_registry(first)
            && canonical_registry(first) == DEFAULT_REGISTRY
        {
            let message = format!(
                "only images that spell `{}` out are kept: `nginx` does not hold it",
                item.text
            );
            let help = format!("add `{DEFAULT_REGISTRY}::` to keep them all");
            checker.warn(&at, "implicit-registry", message, Some(help));
        }
    }
}

/// The mistake in one item: code, message, help.
fn trap(item: &Item<'_>) -> Option<(&'static str, String, Option<String>)> {
    let text = item.text;
    let host = text.split('/').next().unwrap_or(text);
    if text.contains('\t') {
        let message = "a tab is part of this text, so no image holds it".to_owned();
        let help = format!("write `{}` without tabs", text.replace('\t', ""));
        return Some(("tab", message, Some(help)));
    }
    if text.contains('#') {
        let message = "the `#` is part of this text, so no image holds it: only the last run of `#` begins a comment";
        let help = "leave one `#`".to_owned();
        return Some(("second-hash", message.to_owned(), Some(help)));
    }
    if let Some((scheme, rest)) = text.split_once("://") {
        let message = format!("no image holds `{scheme}://`, so this keeps nothing");
        return Some(("scheme", message, Some(format!("write `{rest}`"))));
    }
    if text.contains(['*', '?']) {
        let message = format!(
            "`{text}` is not a pattern here: it keeps only images that contain it literally"
        );
        let help = format!("write `{}`", text.trim_start_matches(['*', '.']));
        return Some(("pattern-item", message, Some(help)));
    }
    if text.chars().all(|it| !it.is_alphanumeric()) {
        let message = format!("`{text}` is part of nearly every image, and keeps all of these");
        let help = "write a registry, or a path with its registry".to_owned();
        return Some(("loose-item", message, Some(help)));
    }
    let is_place = is_registry(host)
        && text.parse::<f64>().is_err()
        && Reference::parse(&format!("{}/x", text.trim_end_matches('/'))).is_ok();
    if !is_place {
        let message = format!("`{text}` keeps every image that holds it anywhere, also in its tag");
        let help = "write a registry, or a path with its registry".to_owned();
        return Some(("loose-item", message, Some(help)));
    }
    let lower = text.to_ascii_lowercase();
    if text != lower {
        let message = format!("`{text}` keeps only images that are written in this case");
        return Some(("key-case", message, Some(format!("write `{lower}`"))));
    }
    None
}
