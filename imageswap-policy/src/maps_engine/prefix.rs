//! ImageSwap's legacy mode: every image gets one prefix.

use super::{Answer, Rule, last_segment, target_prefix};
use crate::reference::Reference;

/// ImageSwap's answer for `image`.
pub(super) fn first_pass<'a>(rules: &[Rule], image: &'a str) -> Answer<'a> {
    let Some(prefix) = rules.first().map(|it| it.value.as_str()) else {
        return Answer::stays(None, image);
    };
    if image.contains(prefix) {
        return Answer::stays(Some(0), image);
    }
    Answer::new(0, joined(prefix, image))
}

/// The same without a `/` at the end of the prefix.
pub(super) fn mended<'a>(rules: &[Rule], reference: &Reference<'a>) -> Answer<'a> {
    match rules.first() {
        Some(rule) => Answer::new(0, joined(target_prefix(&rule.value), reference.as_str())),
        None => Answer::stays(None, reference.as_str()),
    }
}

fn joined(prefix: &str, image: &str) -> String {
    if prefix.ends_with('-') {
        format!("{prefix}{image}")
    } else {
        format!("{prefix}/{}", last_segment(image))
    }
}
