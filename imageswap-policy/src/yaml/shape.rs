//! Reads values by the schema of a type, and reports every mismatch.
//!
//! Editors use the same schema, so an editor and the reader accept the same texts. Reading
//! continues after a mistake: a value of the wrong shape is replaced by an empty one, so that other
//! mistakes are found as well.

use super::places::{Messages, Step};
use super::{Node, Value};
use crate::Diagnostics;
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde_json::{Value as Json, json};

mod help;
mod strict;
mod wanted;

pub(crate) use strict::strict;
use wanted::{choices, wanted};

/// Similarity from which a name counts as a misspelling.
const NEAR: f64 = 0.75;

/// The format of a text: the schema of a type.
#[derive(Debug, Clone)]
pub struct Format {
    schema: Json,
}

impl Format {
    /// The format of a type; unknown fields and `null` are refused.
    pub fn of<T: JsonSchema>() -> Self {
        Self::new(strict(schemars::schema_for!(T).to_value()))
    }

    /// The format of a schema that [`strict`] made.
    pub(crate) fn new(schema: Json) -> Self {
        Self { schema }
    }

    /// Reads a value of the format's type. `text` is the text of the node, and `source` names it.
    ///
    /// # Errors
    /// Every place at which the value has another shape.
    pub fn read<T: DeserializeOwned>(
        &self,
        source: &str,
        text: &str,
        node: &Node,
    ) -> Result<T, Diagnostics> {
        let mut messages = Messages::new(source, text, node);
        let value = self.value(&mut messages);
        match value.filter(|_| messages.found.is_empty()) {
            Some(value) => Ok(value),
            None => Err(messages.finish()),
        }
    }

    /// Like [`Self::read`], for the root of `messages`, which collects the mistakes. Wrong values
    /// are empty in the result.
    pub(crate) fn value<T: DeserializeOwned>(&self, messages: &mut Messages<'_>) -> Option<T> {
        let root = messages.root();
        let mut reader = Reader {
            schema: &self.schema,
            messages,
            path: Vec::new(),
        };
        let json = reader.read(root, &self.schema);
        let value = serde_json::from_value(json).ok();
        if value.is_none() && messages.found.is_empty() {
            messages.error(&[], "field", "the values do not go together here");
        }
        value
    }
}

struct Reader<'f, 'm, 'a> {
    schema: &'f Json,
    messages: &'m mut Messages<'a>,
    path: Vec<Step<'a>>,
}

impl<'f, 'a> Reader<'f, '_, 'a> {
    fn read(&mut self, node: &'a Node, schema: &'f Json) -> Json {
        let shape = resolve(self.schema, schema);
        if let Some(alternatives) = shape["anyOf"].as_array() {
            let fits = alternatives
                .iter()
                .find(|it| fits(node, resolve(self.schema, it)));
            return match fits {
                Some(it) => self.read(node, it),
                None => self.wrong(node, schema),
            };
        }
        if let Some(choices) = choices(shape) {
            let known = node.as_str().is_some_and(|it| choices.contains(&it));
            return if known {
                node.to_json()
            } else {
                self.wrong(node, schema)
            };
        }
        if !fits(node, shape) {
            return self.wrong(node, schema);
        }
        match &node.value {
            Value::Mapping(entries) if shape["properties"].is_object() => {
                self.fields(node, entries, shape)
            }
            Value::Mapping(entries) if shape["additionalProperties"].is_object() => {
                let values = &shape["additionalProperties"];
                let entries = entries.iter().map(|(key, value)| {
                    let value = self.step(key, |it| it.read(value, values));
                    (key.key_text().unwrap_or_default(), value)
                });
                Json::Object(entries.collect())
            }
            Value::Sequence(items) => {
                let items = items.iter().enumerate().map(|(at, item)| {
                    self.path.push(Step::Index(at));
                    let value = self.read(item, &shape["items"]);
                    self.path.pop();
                    value
                });
                items.collect()
            }
            _ => node.to_json(),
        }
    }

    fn fields(&mut self, node: &'a Node, entries: &'a [(Node, Node)], shape: &'f Json) -> Json {
        let properties = &shape["properties"];
        let mut object = serde_json::Map::new();
        for (key, value) in entries {
            let name = key.key_text().unwrap_or_default();
            match properties.get(&name) {
                // Its items lack the space after `-` and became fields, which is reported.
                Some(schema) if value.is_null() && entries.iter().any(|it| is_dashed(&it.0)) => {
                    object.insert(name, self.empty(schema));
                }
                Some(schema) => {
                    let value = self.step(key, |it| it.read(value, schema));
                    object.insert(name, value);
                }
                None => self.unknown(key, &name, value, shape),
            }
        }
        for name in shape["required"].as_array().into_iter().flatten() {
            let name = name.as_str().unwrap_or_default();
            if !object.contains_key(name) {
                self.missing(node, name, &properties[name]);
                object.insert(name.to_owned(), self.empty(&properties[name]));
            }
        }
        object.into()
    }

    /// Does something at the value of a key.
    fn step<R>(&mut self, key: &'a Node, body: impl FnOnce(&mut Self) -> R) -> R {
        self.path.extend(key.as_str().map(Step::Key));
        let result = body(self);
        if key.as_str().is_some() {
            self.path.pop();
        }
        result
    }

    /// Reports a value that does not fit `schema`.
    fn wrong(&mut self, node: &'a Node, schema: &'f Json) -> Json {
        let wants = wanted(self.schema, schema);
        let message = match &node.value {
            Value::Null => format!("expected {wants}, found nothing"),
            Value::String(text) if choices(resolve(self.schema, schema)).is_some() => {
                format!("expected {wants}, found `{text}`")
            }
            _ => format!("expected {wants}, found {}", node.kind()),
        };
        let help = help::mend(
            self.schema,
            schema,
            node,
            self.messages.text(),
            self.path.last(),
        );
        let found = self.messages.at(&self.path, node.span, "field", message);
        found.help = help;
        self.empty(schema)
    }

    fn unknown(&mut self, key: &'a Node, name: &str, value: &'a Node, shape: &'f Json) {
        let help = help::known(self.schema, shape, name, value, &self.path);
        let message = format!("there is no field `{name}` here");
        self.step(key, |it| {
            let code = "unknown-field";
            it.messages.at(&it.path, key.span, code, message).help = help;
        });
    }

    fn missing(&mut self, node: &'a Node, name: &'f str, schema: &'f Json) {
        let first = node.entries().first();
        let span = first.map_or(node.span, |(key, _)| key.span);
        let message = format!("the field `{name}` is missing");
        let sample = wanted::sample(self.schema, schema);
        let path = [&self.path[..], &[Step::Key(name)]].concat();
        let found = self.messages.at(&path, span, "field", message);
        found.help = Some(format!("add `{name}: {}`", help::flow(&sample)));
    }

    /// An empty value of a schema, to replace a wrong or missing one.
    fn empty(&self, schema: &Json) -> Json {
        let shape = resolve(self.schema, schema);
        if let Some(alternatives) = shape["anyOf"].as_array() {
            return alternatives.first().map_or(Json::Null, |it| self.empty(it));
        }
        if let Some(choices) = choices(shape) {
            return json!(choices.first());
        }
        match shape["type"].as_str() {
            Some("string") => json!(""),
            Some("integer" | "number") => json!(0),
            Some("boolean") => json!(false),
            Some("array") => json!([]),
            Some("object") => {
                let required = shape["required"].as_array().into_iter().flatten();
                let fields = required.filter_map(Json::as_str);
                fields
                    .map(|it| (it.to_owned(), self.empty(&shape["properties"][it])))
                    .collect()
            }
            _ => Json::Null,
        }
    }
}

fn is_dashed(key: &Node) -> bool {
    key.as_str().is_some_and(|it| it.starts_with('-'))
}

/// The schema that `schema` refers to, or itself.
fn resolve<'f>(root: &'f Json, schema: &'f Json) -> &'f Json {
    let mut schema = schema;
    while let Some(name) = schema["$ref"].as_str() {
        schema = &root["$defs"][name.trim_start_matches("#/$defs/")];
    }
    schema
}

/// Whether a value has the type that a schema requires; its content is not checked.
fn fits(node: &Node, shape: &Json) -> bool {
    match (shape["type"].as_str(), &node.value) {
        (None, _)
        | (Some("string"), Value::String(_))
        | (Some("boolean"), Value::Bool(_))
        | (Some("number"), Value::Number(_))
        | (Some("array"), Value::Sequence(_))
        | (Some("object"), Value::Mapping(_)) => true,
        (Some("integer"), Value::Number(it)) => it
            .as_i64()
            .is_some_and(|it| shape["format"] != "int32" || i32::try_from(it).is_ok()),
        _ => false,
    }
}
