//! Reads a YAML or JSON text as a tree in which every value knows its place.
//!
//! Plain scalars are resolved by YAML 1.2's core schema; quoted ones are strings: `"1"` is a
//! string, and so are `yes` and `on`. Aliases and merge keys (`<<`) are resolved; a value from an
//! anchor has the place of the anchored text. What JSON cannot represent (a key that is not a
//! scalar, a repeated key) is an error, because Kubernetes turns every text into JSON first.
//!
//! JSON is read by the same parser, because it is YAML in flow style; several objects may follow
//! each other without separators.

use crate::diagnostic::{Diagnostic, Diagnostics, Severity};
use serde_json::{Map, Number};
use std::ops::Range;

mod build;
pub(crate) mod places;
mod scalar;
mod shape;
mod syntax;
#[cfg(test)]
mod tests;

pub use shape::Format;
pub(crate) use shape::strict;

/// Code of the diagnostic for a text that is not YAML.
pub const SYNTAX: &str = "yaml-syntax";

/// A value and its place.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// What it is.
    pub value: Value,
    /// Where it is written; for an alias, where its anchor is.
    pub span: Span,
    /// How it is written.
    pub style: Style,
}

/// What a value is.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// `null`, `~`, or nothing at all.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number that JSON can represent; infinities and NaN are strings.
    Number(Number),
    /// Any other scalar, with quotes and escapes resolved.
    String(String),
    /// A list.
    Sequence(Vec<Node>),
    /// Keys, all different scalars, and values, in the order of the text; those from `<<` come
    /// last.
    Mapping(Vec<(Node, Node)>),
}

/// How a value is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Style {
    /// A scalar without quotes.
    Plain,
    /// A scalar in `'`.
    SingleQuoted,
    /// A scalar in `"`.
    DoubleQuoted,
    /// A scalar after `|`.
    Literal,
    /// A scalar after `>`.
    Folded,
    /// A sequence or mapping by indentation.
    Block,
    /// A sequence or mapping in `[]` or `{}`.
    Flow,
}

/// A place in a text.
///
/// The bytes from `start` to `end` are the value as written, with quotes and brackets but without
/// tags and anchors. For a block scalar (`|`, `>`) they are its content, without the line breaks at
/// its end. A value that is not written at all (`key:`) is empty, and follows its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Span {
    /// First byte.
    pub start: usize,
    /// Byte after the last.
    pub end: usize,
    /// Line of the first byte, from 1.
    pub line: usize,
    /// Column of the first byte in characters, from 1.
    pub column: usize,
}

/// The content of a text.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Parsed {
    /// One node for each valid document, in the order of the text.
    pub documents: Vec<Node>,
    /// The errors in the others, at most 20.
    pub errors: Vec<Diagnostic>,
}

/// Reads a text: one node for each of its documents. `source` names it in the errors.
///
/// # Errors
/// The errors of each document: not YAML, nested deeper than 128 values, more than 4 million
/// values, aliases that copy more than 16 MiB, a repeated key, or a key that is not a scalar.
pub fn parse(source: &str, text: &str) -> Result<Vec<Node>, Diagnostics> {
    let Parsed { documents, errors } = read(source, text);
    if errors.is_empty() {
        Ok(documents)
    } else {
        Err(Diagnostics(errors))
    }
}

/// Like [`parse`], but returns the valid documents in addition to the errors.
pub fn read(source: &str, text: &str) -> Parsed {
    read_part(source, text, 0..text.len())
}

/// [`read`] of a part of a text, such as one line of a file of JSON lines. The part begins at the start of a line.
pub fn read_part(source: &str, text: &str, part: Range<usize>) -> Parsed {
    let mut parsed = build::documents(source, text, part);
    parsed.errors.sort_by_key(|it| (it.line, it.column));
    parsed
}

impl Node {
    /// The value of a key, if this is a mapping that has it.
    pub fn get(&self, key: &str) -> Option<&Self> {
        let mut entries = self.entries().iter();
        entries
            .find(|(it, _)| it.as_str() == Some(key))
            .map(|(_, value)| value)
    }

    /// The text of a string; `None` for other scalars.
    pub fn as_str(&self) -> Option<&str> {
        match &self.value {
            Value::String(text) => Some(text),
            _ => None,
        }
    }

    /// The items of a sequence; empty for anything else.
    pub fn items(&self) -> &[Self] {
        match &self.value {
            Value::Sequence(items) => items,
            _ => &[],
        }
    }

    /// The keys and values of a mapping; empty for anything else.
    pub fn entries(&self) -> &[(Self, Self)] {
        match &self.value {
            Value::Mapping(entries) => entries,
            _ => &[],
        }
    }

    /// Whether it is null, written or not.
    pub fn is_null(&self) -> bool {
        self.value == Value::Null
    }

    /// Its type for messages: `a string`, `a list`.
    pub fn kind(&self) -> &'static str {
        match &self.value {
            Value::Null => "null",
            Value::Bool(_) => "a boolean",
            Value::Number(_) => "a number",
            Value::String(_) => "a string",
            Value::Sequence(_) => "a list",
            Value::Mapping(_) => "a mapping",
        }
    }

    /// The value as JSON; keys that are not strings become their text, as in Kubernetes.
    pub fn to_json(&self) -> serde_json::Value {
        match &self.value {
            Value::Null => serde_json::Value::Null,
            Value::Bool(it) => (*it).into(),
            Value::Number(it) => it.clone().into(),
            Value::String(it) => it.as_str().into(),
            Value::Sequence(items) => items.iter().map(Self::to_json).collect(),
            Value::Mapping(entries) => {
                let entries = entries
                    .iter()
                    .map(|(key, value)| (key.key_text().unwrap_or_default(), value.to_json()));
                entries.collect::<Map<_, _>>().into()
            }
        }
    }

    /// The JSON key for this scalar; `None` for sequences and mappings.
    fn key_text(&self) -> Option<String> {
        match &self.value {
            Value::Null => Some("null".to_owned()),
            Value::Bool(it) => Some(it.to_string()),
            Value::Number(it) => Some(it.to_string()),
            Value::String(it) => Some(it.clone()),
            Value::Sequence(_) | Value::Mapping(_) => None,
        }
    }
}

/// The beginning of a text.
impl Default for Span {
    fn default() -> Self {
        Self {
            start: 0,
            end: 0,
            line: 1,
            column: 1,
        }
    }
}

impl Span {
    /// The text at this place; empty if it does not belong to the text.
    pub fn of<'t>(&self, text: &'t str) -> &'t str {
        text.get(self.start..self.end).unwrap_or_default()
    }

    /// An error about this place of `text`, which `source` names.
    pub fn error(
        &self,
        source: &str,
        text: &str,
        code: &'static str,
        message: impl Into<String>,
    ) -> Diagnostic {
        self.diagnostic(source, text, Severity::Error, code, message)
    }

    /// A message about this place of `text`, which `source` names; if the place spans lines, about
    /// its first.
    pub fn diagnostic(
        &self,
        source: &str,
        text: &str,
        severity: Severity,
        code: &'static str,
        message: impl Into<String>,
    ) -> Diagnostic {
        let (before, after) = text.split_at_checked(self.start).unwrap_or((text, ""));
        let begin = before.rfind(is_break).map_or(0, |it| it + 1);
        let rest = after.find(is_break).unwrap_or(after.len());
        let length = rest.min(self.end.saturating_sub(self.start));
        Diagnostic {
            field: None,
            severity,
            code,
            source: source.to_owned(),
            line: self.line,
            column: self.column,
            length: after
                .get(..length)
                .map_or(1, |it| it.chars().count())
                .max(1),
            text: format!(
                "{}{}",
                before[begin..].trim_start_matches('\u{feff}'),
                &after[..rest]
            ),
            message: message.into(),
            help: None,
        }
    }
}

/// YAML's line breaks; for `\r\n` this gives an extra empty line, which is never shown.
fn is_break(it: char) -> bool {
    matches!(it, '\n' | '\r')
}
