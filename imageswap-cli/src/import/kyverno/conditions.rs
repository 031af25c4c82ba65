//! Conditions of Kyverno, as sets of images.

use super::expression::{Expression, Test, Variables};
use super::formula::Images;
use super::image::Field;
use super::note::Notes;
use super::wildcard;
use imageswap_policy::yaml::{Node, Span};

/// The images that fulfil the conditions: `any`, `all`, or a list of which all have to hold.
pub(super) fn read(node: &Node, variables: &Variables, notes: &mut Notes) -> Images {
    let mut list = |items: &[Node]| -> Vec<Images> {
        items.iter().map(|it| one(it, variables, notes)).collect()
    };
    if !node.items().is_empty() {
        // A list may hold blocks of `any` and `all` as well.
        let sets = node.items().iter().map(|it| {
            if it.get("any").is_some() || it.get("all").is_some() {
                read(it, variables, notes)
            } else {
                one(it, variables, notes)
            }
        });
        return Images::all(sets.collect::<Vec<_>>());
    }
    let mut sets = Vec::new();
    if let Some(any) = node.get("any") {
        let any = list(any.items());
        sets.push(Images::any(any));
    }
    if let Some(all) = node.get("all") {
        let all = list(all.items());
        sets.push(Images::all(all));
    }
    if sets.is_empty() {
        return Images::unknown(node.span, "condition", "conditions without `any` and `all`");
    }
    Images::all(sets)
}

/// Tells of conditions that narrow what is checked: here everything is.
pub(super) fn harmless_or_lost(node: &Node, variables: &Variables, notes: &mut Notes) {
    match read(node, variables, notes) {
        Images::Everything => {}
        _ => notes.note(
            node.span,
            "preconditions",
            "preconditions are left out: every image is checked",
        ),
    }
}

fn one(node: &Node, variables: &Variables, notes: &mut Notes) -> Images {
    let at = node.span;
    let Some(key) = node.get("key").and_then(Node::as_str) else {
        return Images::unknown(at, "condition", "a condition without a key");
    };
    let operator = node
        .get("operator")
        .and_then(Node::as_str)
        .unwrap_or("Equals");
    let values: Vec<&Node> = match node.get("value") {
        Some(value) if value.items().is_empty() => vec![value],
        Some(value) => value.items().iter().collect(),
        None => Vec::new(),
    };
    if key.contains("request.operation") {
        return if holds_on_create(operator, &values) {
            Images::Everything
        } else {
            Images::Everything.not()
        };
    }
    let subject = variables.read_text(key);
    let sets: Vec<_> = values
        .iter()
        .map(|value| of_value(&subject, value, notes))
        .collect();
    let unknown = |message: String| Images::unknown(at, "condition", message);
    if sets.is_empty() {
        return unknown(format!("`{key}` is compared with nothing"));
    }
    let truth = |it: &&Node| matches!(it.as_str(), Some("true")) || it.to_json() == true;
    let inside = match &subject {
        Expression::Test(test, arguments) => match tested(*test, arguments, at, notes) {
            Some(set) if values.iter().all(truth) => set,
            Some(set) => set.not(),
            None => return unknown(format!("`{key}` is not understood")),
        },
        _ => Images::any(sets),
    };
    match operator {
        "Equals" | "Equal" | "In" | "AnyIn" | "AllIn" => inside,
        "NotEquals" | "NotEqual" | "NotIn" | "AnyNotIn" | "AllNotIn" => inside.not(),
        other => unknown(format!("the operator `{other}` says nothing of images")),
    }
}

/// Whether a condition on the operation holds when a Pod is made, which is when images are looked at here.
fn holds_on_create(operator: &str, values: &[&Node]) -> bool {
    let named = values
        .iter()
        .filter_map(|it| it.as_str())
        .any(|it| matches!(it, "CREATE" | "*"));
    named != operator.contains("Not")
}

/// The images whose part `subject` is this value.
fn of_value(subject: &Expression, value: &Node, notes: &mut Notes) -> Images {
    let Some(text) = value.as_str() else {
        return Images::unknown(value.span, "condition", "expected a text to compare with");
    };
    let at = value.span;
    match subject {
        Expression::Image | Expression::Field(Field::Reference) => {
            wildcard::wildcard(text, at, notes)
        }
        Expression::Field(Field::Registry | Field::FetchedRegistry) => {
            wildcard::registry(text, at, notes)
        }
        Expression::Field(Field::Path | Field::FetchedRepository) => {
            wildcard::path(text, at, notes)
        }
        Expression::Field(Field::Name) => wildcard::name(text, at, notes),
        _ => Images::unknown(
            at,
            "condition",
            "a condition that is not about the registry or path of an image",
        ),
    }
}

fn tested(test: Test, arguments: &[Expression], at: Span, notes: &mut Notes) -> Option<Images> {
    let [Expression::Image, by] = arguments else {
        return None;
    };
    let prefix = by.as_text()?;
    match test {
        Test::StartsWith => Some(wildcard::wildcard(&format!("{prefix}*"), at, notes)),
        Test::Contains | Test::RegexMatch => None,
    }
}
