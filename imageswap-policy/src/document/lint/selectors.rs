//! Label selectors that can match no labels.

use super::{BTreeSet, LabelSelector, Messages, NAMESPACE_NAME, Operator, SPEC, Step};

/// Longest value of a label.
const VALUE_MAX: usize = 63;

/// Reports conditions of `spec.match.<field>` that can never be true.
pub(super) fn check(field: &str, selector: &LabelSelector, messages: &mut Messages<'_>) {
    let here = [SPEC, Step::Key("match"), Step::Key(field)];
    let labels = [&here[..], &[Step::Key("matchLabels")]].concat();
    for (key, value) in &selector.match_labels {
        let path = [&labels[..], &[Step::Key(key)]].concat();
        value_of(&path, key, value, messages);
    }
    for (at, it) in selector.match_expressions.iter().enumerate() {
        let path = |value| {
            let steps = [
                Step::Key("matchExpressions"),
                Step::Index(at),
                Step::Key("values"),
                Step::Index(value),
            ];
            [&here[..], &steps].concat()
        };
        if it.operator == Operator::In {
            for (value, text) in it.values.iter().enumerate() {
                value_of(&path(value), &it.key, text, messages);
            }
        }
    }
    if let Some(key) = contradiction(selector) {
        let message =
            format!("the conditions on the label `{key}` exclude each other: nothing can match");
        messages.warn(&here, "never-selects", message).help =
            Some("remove one of the conditions, or make two policies".to_owned());
    }
}

/// A value that no label can have.
fn value_of(path: &[Step<'_>], key: &str, value: &str, messages: &mut Messages<'_>) {
    if value.contains(['*', '?']) {
        let message = format!(
            "`{value}` matches no label: values are compared as they are, without wildcards"
        );
        let help = if key == NAMESPACE_NAME {
            format!("write `namespaces: [\"{value}\"]` under `match`")
        } else {
            format!(
                "list the values: `{{key: {key}, operator: In, values: [a, b]}}` in `matchExpressions`"
            )
        };
        messages.warn(path, "label-wildcard", message).help = Some(help);
        return;
    }
    let inner = |it: char| it.is_ascii_alphanumeric() || "-_.".contains(it);
    let edges = [value.chars().next(), value.chars().next_back()];
    let sound = value.len() <= VALUE_MAX
        && value.chars().all(inner)
        && edges.iter().flatten().all(char::is_ascii_alphanumeric);
    if !sound {
        let message = format!("`{value}` cannot be the value of a label, so nothing can match");
        messages.warn(path, "never-selects", message).help = Some(
            "a value has at most 63 letters, digits, `-`, `_` and `.`, and begins and ends with a letter or digit"
                .to_owned(),
        );
    }
}

/// The label on which conditions exclude each other.
fn contradiction(selector: &LabelSelector) -> Option<&str> {
    let labels = selector.match_labels.keys();
    let expressions = selector.match_expressions.iter().map(|it| &it.key);
    let keys: BTreeSet<_> = labels.chain(expressions).collect();
    keys.into_iter().map(String::as_str).find(|key| {
        let equal = selector.match_labels.get(*key);
        let on_key = || {
            selector
                .match_expressions
                .iter()
                .filter(|it| it.key == *key)
        };
        let has = |operator| on_key().any(|it| it.operator == operator);
        let demands = equal.is_some() || has(Operator::In) || has(Operator::Exists);
        if demands && has(Operator::DoesNotExist) {
            return true;
        }
        // The remaining values, if they are listed at all.
        let mut left: Option<BTreeSet<&str>> = equal.map(|it| BTreeSet::from([it.as_str()]));
        for it in on_key() {
            let values: BTreeSet<_> = it.values.iter().map(String::as_str).collect();
            match it.operator {
                Operator::In => {
                    left = Some(match left {
                        Some(left) => left.intersection(&values).copied().collect(),
                        None => values,
                    });
                }
                Operator::NotIn | Operator::Exists | Operator::DoesNotExist => {}
            }
        }
        for it in on_key().filter(|it| it.operator == Operator::NotIn) {
            if let Some(left) = &mut left {
                left.retain(|value| !it.values.iter().any(|it| it == value));
            }
        }
        left.is_some_and(|it| it.is_empty())
    })
}
