//! Label selectors whose conditions exclude each other.

use super::{BTreeSet, LabelSelector, Messages, Operator, SPEC, Step};

/// Reports conditions of `spec.match.<field>` that can never be true.
pub(super) fn check(field: &str, selector: &LabelSelector, messages: &mut Messages<'_>) {
    let here = [SPEC, Step::Key("match"), Step::Key(field)];
    if let Some(key) = contradiction(selector) {
        let message =
            format!("the conditions on the label `{key}` exclude each other: nothing can match");
        messages.warn(&here, "never-selects", message).help =
            Some("remove one of the conditions, or make two policies".to_owned());
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
