//! Label selectors: conditions that are not complete, and labels that no object can have.

use super::{LabelSelector, Operator, Requirement};
use crate::scope::NAMESPACE_NAME;
use crate::yaml::places::{Messages, Step};

/// Longest name and value of a label.
const MAX_LENGTH: usize = 63;
/// Longest prefix of a label's key.
const MAX_PREFIX: usize = 253;

const KEY_HELP: &str = "a key is `name` or `prefix/name`: the name has at most 63 letters, digits, `-`, `_` and `.`, and begins and ends with a letter or digit; the prefix is a DNS name in lower case";
const VALUE_HELP: &str = "a value has at most 63 letters, digits, `-`, `_` and `.`, and begins and ends with a letter or digit";

/// Reports mistakes in the selector at `path`.
pub(super) fn check(path: &[Step<'_>], selector: &LabelSelector, messages: &mut Messages<'_>) {
    let below = |steps: &[Step<'static>]| [path, steps].concat();
    for (key, text) in &selector.match_labels {
        let path = [path, &[Step::Key("matchLabels"), Step::Key(key)]].concat();
        check_key(&path, key, messages);
        check_value(&path, key, text, messages);
    }
    for (at, it) in selector.match_expressions.iter().enumerate() {
        let here = [Step::Key("matchExpressions"), Step::Index(at)];
        check_count(&below(&here), it, messages);
        check_key(
            &below(&[here[0], here[1], Step::Key("key")]),
            &it.key,
            messages,
        );
        for (value, text) in it.values.iter().enumerate() {
            let path = below(&[here[0], here[1], Step::Key("values"), Step::Index(value)]);
            check_value(&path, &it.key, text, messages);
        }
    }
}

/// `In` and `NotIn` have values, and the other operators have none.
fn check_count(path: &[Step<'_>], requirement: &Requirement, messages: &mut Messages<'_>) {
    let listed = matches!(requirement.operator, Operator::In | Operator::NotIn);
    if listed != requirement.values.is_empty() {
        return;
    }
    let (message, help) = if listed {
        (
            "expected values for `In` and `NotIn`",
            "add `values: [a, b]`",
        )
    } else {
        (
            "expected no values for `Exists` and `DoesNotExist`",
            "remove `values`, or write `operator: In`",
        )
    };
    messages.error(path, "field", message).help = Some(help.to_owned());
}

fn check_key(path: &[Step<'_>], key: &str, messages: &mut Messages<'_>) {
    let (prefix, name) = match key.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, key),
    };
    let is_part = |it: &str| {
        let inner = |it: char| it.is_ascii_lowercase() || it.is_ascii_digit() || it == '-';
        !it.is_empty() && it.chars().all(inner) && !it.starts_with('-') && !it.ends_with('-')
    };
    let sound = !name.is_empty()
        && is_word(name)
        && prefix.is_none_or(|it| it.len() <= MAX_PREFIX && it.split('.').all(is_part));
    if !sound {
        let message = format!("`{key}` cannot be the key of a label");
        messages.error(path, "label", message).help = Some(KEY_HELP.to_owned());
    }
}

fn check_value(path: &[Step<'_>], key: &str, value: &str, messages: &mut Messages<'_>) {
    if value.contains(['*', '?']) {
        let message =
            format!("`{value}` matches no label: values are compared literally, without wildcards");
        let help = if key == NAMESPACE_NAME {
            format!(
                "write `namespaces: [\"{value}\"]` or `excludeNamespaces: [\"{value}\"]` under `match`"
            )
        } else {
            format!(
                "list the values: `{{key: {key}, operator: In, values: [a, b]}}` in `matchExpressions`"
            )
        };
        messages.error(path, "label-wildcard", message).help = Some(help);
    } else if !is_word(value) {
        let message = format!("`{value}` cannot be the value of a label, so it matches none");
        messages.error(path, "label", message).help = Some(VALUE_HELP.to_owned());
    }
}

/// Whether a text can be the value of a label, which may be empty.
fn is_word(text: &str) -> bool {
    let inner = |it: char| it.is_ascii_alphanumeric() || "-_.".contains(it);
    let edges = [text.chars().next(), text.chars().next_back()];
    text.len() <= MAX_LENGTH
        && text.chars().all(inner)
        && edges.iter().flatten().all(char::is_ascii_alphanumeric)
}
