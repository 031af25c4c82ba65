//! Describes what a schema requires, in words and as a sample.

use super::resolve;
use serde_json::{Map, Value, json};

/// The texts that a schema allows, if it lists them.
pub(super) fn choices(shape: &Value) -> Option<Vec<&str>> {
    let listed = |key: &str| shape[key].as_array();
    if let Some(values) = listed("enum") {
        return values.iter().map(Value::as_str).collect();
    }
    if shape["const"].is_string() {
        return shape["const"].as_str().map(|it| vec![it]);
    }
    listed("oneOf")?
        .iter()
        .map(|it| it["const"].as_str())
        .collect()
}

/// `a list`, `one of ...`.
pub(super) fn wanted(root: &Value, schema: &Value) -> String {
    let shape = resolve(root, schema);
    if let Some(alternatives) = shape["anyOf"].as_array() {
        let alternatives: Vec<_> = alternatives.iter().map(|it| wanted(root, it)).collect();
        return alternatives.join(" or ");
    }
    if let Some(choices) = choices(shape) {
        return match &choices[..] {
            [only] => format!("`{only}`"),
            several => format!("one of {}", in_backticks(several)),
        };
    }
    match shape["type"].as_str() {
        Some("string") => "a string".to_owned(),
        Some("integer") => "a whole number".to_owned(),
        Some("number") => "a number".to_owned(),
        Some("boolean") => "`true` or `false`".to_owned(),
        Some("array") => "a list".to_owned(),
        Some("object") => match required(shape) {
            names if names.is_empty() => "a mapping".to_owned(),
            names => format!("a mapping with {}", in_backticks(&names)),
        },
        _ => "a value".to_owned(),
    }
}

/// A value that a schema allows: its own example, or one made from the examples of its parts.
pub(super) fn sample(root: &Value, schema: &Value) -> Value {
    let shape = resolve(root, schema);
    if let Some(example) = [schema, shape].iter().find_map(|it| it["examples"].get(0)) {
        return example.clone();
    }
    if let Some(alternative) = shape["anyOf"].get(0) {
        return sample(root, alternative);
    }
    if let Some(choices) = choices(shape) {
        return json!(choices.first());
    }
    match shape["type"].as_str() {
        Some("integer" | "number") => json!(10),
        Some("boolean") => json!(true),
        Some("array") => json!([sample(root, &shape["items"])]),
        Some("object") => {
            let fields = required(shape)
                .into_iter()
                .map(|it| (it.to_owned(), sample(root, &shape["properties"][it])));
            Value::Object(fields.collect::<Map<_, _>>())
        }
        _ => json!("text"),
    }
}

fn required(shape: &Value) -> Vec<&str> {
    let names = shape["required"].as_array().into_iter().flatten();
    names.filter_map(Value::as_str).collect()
}

pub(super) fn in_backticks(names: &[&str]) -> String {
    let names: Vec<_> = names.iter().map(|it| format!("`{it}`")).collect();
    names.join(", ")
}
