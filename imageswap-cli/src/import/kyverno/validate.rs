//! `validate`: which images a rule lets in.

use super::conditions;
use super::expression::Variables;
use super::formula::Images;
use super::note::Notes;
use super::wildcard;
use imageswap_policy::yaml::{Node, Value};

/// What each part of the rule demands of images.
pub(super) fn read(
    rule: &Node,
    validate: &Node,
    variables: &Variables,
    notes: &mut Notes,
) -> Vec<Images> {
    if let Some(preconditions) = rule.get("preconditions") {
        conditions::harmless_or_lost(preconditions, variables, notes);
    }
    let mut demands = Vec::new();
    for (key, value) in validate.entries() {
        match key.as_str().unwrap_or_default() {
            "pattern" => demands.extend(pattern(value, notes)),
            "anyPattern" => {
                let sets: Vec<_> = value
                    .items()
                    .iter()
                    .filter_map(|it| pattern(it, notes))
                    .collect();
                if !sets.is_empty() {
                    demands.push(Images::any(sets));
                }
            }
            "deny" => demands.extend(denied(value, variables, notes)),
            "foreach" => {
                for each in value.items() {
                    let variables = variables.with(each.get("context"));
                    if let Some(preconditions) = each.get("preconditions") {
                        conditions::harmless_or_lost(preconditions, &variables, notes);
                    }
                    demands.extend(each.get("pattern").and_then(|it| pattern(it, notes)));
                    let any = each.get("anyPattern").map(Node::items).unwrap_or_default();
                    let sets: Vec<_> = any.iter().filter_map(|it| pattern(it, notes)).collect();
                    if !sets.is_empty() {
                        demands.push(Images::any(sets));
                    }
                    demands.extend(
                        each.get("deny")
                            .and_then(|it| denied(it, &variables, notes)),
                    );
                }
            }
            "message" | "failureAction" | "allowExistingViolations" => {}
            other => notes.lost(value.span, "validate", format!("`{other}` is not read")),
        }
    }
    demands
}

/// Everything but what the conditions refuse.
fn denied(deny: &Node, variables: &Variables, notes: &mut Notes) -> Option<Images> {
    let conditions = deny.get("conditions")?;
    Some(conditions::read(conditions, variables, notes).not())
}

/// What the images in a pattern are to be; `None` where it has none.
fn pattern(node: &Node, notes: &mut Notes) -> Option<Images> {
    let mut found = Vec::new();
    walk(node, &mut found, notes);
    (!found.is_empty()).then(|| Images::all(found))
}

fn walk(node: &Node, found: &mut Vec<Images>, notes: &mut Notes) {
    match &node.value {
        Value::Mapping(entries) => {
            for (key, value) in entries {
                let written = key.as_str().unwrap_or_default();
                let (anchor, name) = anchored(written);
                match (name, &value.value) {
                    ("image" | "reference", Value::String(text)) if anchor == "X" => {
                        let message = format!("`{written}: {text}` demands that there is no image");
                        notes.lost(value.span, "anchor", message);
                    }
                    ("image" | "reference", Value::String(text)) => {
                        let images = wildcard::images(text, value.span, notes);
                        if !found.contains(&images) {
                            found.push(images);
                        }
                    }
                    (_, Value::Mapping(_) | Value::Sequence(_)) => walk(value, found, notes),
                    ("name", Value::String(text)) if matches!(text.as_str(), "*" | "?*") => {}
                    _ => {
                        let message = format!("`{written}` is not about images");
                        notes.lost(value.span, "field", message);
                    }
                }
            }
        }
        Value::Sequence(items) => items.iter().for_each(|it| walk(it, found, notes)),
        _ => {}
    }
}

/// `=(initContainers)` is the anchor `=` around `initContainers`.
pub(super) fn anchored(key: &str) -> (&str, &str) {
    match key.split_once('(') {
        Some((anchor, name)) if name.ends_with(')') && anchor.len() <= 1 => {
            (anchor, name.trim_end_matches(')'))
        }
        _ => ("", key),
    }
}
