//! Fields of objects that several sources have: kind and place, lists of texts, label selectors.

use crate::intent::Origin;
use crate::scope::{Formula, Literal};
use imageswap_policy::document::{Operator, Requirement};
use imageswap_policy::yaml::Node;
use serde_json::{Map, Value};

/// API group without its version, and kind.
pub(crate) fn kind(node: &Node) -> (&str, &str) {
    let text = |key| node.get(key).and_then(Node::as_str).unwrap_or_default();
    let group = text("apiVersion").rsplit_once('/').map_or("", |it| it.0);
    (group, text("kind"))
}

/// Where a document is.
pub(crate) fn origin(source: &str, node: &Node) -> Origin {
    let name = node
        .get("metadata")
        .and_then(|it| it.get("name"))
        .and_then(Node::as_str);
    Origin {
        source: source.to_owned(),
        line: node.span.line,
        column: node.span.column,
        kind: kind(node).1.to_owned(),
        document: name.unwrap_or("unnamed").to_owned(),
        rule: String::new(),
    }
}

/// Refuses fields that are not known.
pub(crate) fn only(node: &Node, known: &[&str]) -> Result<(), String> {
    let unknown = node
        .entries()
        .iter()
        .filter_map(|(key, _)| key.as_str())
        .find(|it| !known.contains(it));
    match unknown {
        Some(key) => Err(format!("`{key}` is not understood")),
        None => Ok(()),
    }
}

/// The texts of a list.
pub(crate) fn texts(node: Option<&Node>) -> Result<Vec<String>, String> {
    let items = node.map_or(&[][..], Node::items).iter();
    let texts: Option<Vec<_>> = items.map(|it| it.as_str().map(str::to_owned)).collect();
    texts.ok_or_else(|| "a list has something else than texts".to_owned())
}

/// A label selector as a formula.
pub(crate) fn selector(
    node: &Node,
    literal: fn(Requirement) -> Literal,
) -> Result<Formula, String> {
    let mut parts = Vec::new();
    let checked = |text: &str| {
        let wild = text.contains(['*', '?']) || text.contains("{{");
        (!wild)
            .then(|| text.to_owned())
            .ok_or_else(|| format!("the label `{text}` is a pattern, which no selector here has"))
    };
    for (key, value) in node.entries() {
        match key.as_str() {
            Some("matchLabels") => {
                for (key, value) in value.entries() {
                    let (Some(key), Some(value)) = (key.as_str(), value.as_str()) else {
                        return Err("a label is not a text".to_owned());
                    };
                    parts.push(Formula::Is(literal(Requirement {
                        key: checked(key)?,
                        operator: Operator::In,
                        values: vec![checked(value)?],
                    })));
                }
            }
            Some("matchExpressions") => {
                for it in value.items() {
                    let text = |name| it.get(name).and_then(Node::as_str);
                    let (Some(key), Some(operator)) = (text("key"), text("operator")) else {
                        return Err("a label selector is not understood".to_owned());
                    };
                    let values = it.get("values").map_or(&[][..], Node::items).iter();
                    let values: Result<Vec<_>, _> = values
                        .map(|it| checked(it.as_str().unwrap_or("?")))
                        .collect();
                    parts.push(Formula::Is(literal(Requirement {
                        key: checked(key)?,
                        operator: match operator {
                            "In" => Operator::In,
                            "NotIn" => Operator::NotIn,
                            "Exists" => Operator::Exists,
                            "DoesNotExist" => Operator::DoesNotExist,
                            other => {
                                return Err(format!("the operator `{other}` is not understood"));
                            }
                        },
                        values: values?,
                    })));
                }
            }
            other => {
                return Err(format!(
                    "`{}` in a label selector is not understood",
                    other.unwrap_or("?")
                ));
            }
        }
    }
    Ok(Formula::All(parts))
}

/// An object of these fields.
pub(crate) fn object<const N: usize>(fields: [(&str, Value); N]) -> Value {
    let fields = fields
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value));
    Value::Object(fields.collect::<Map<_, _>>())
}
