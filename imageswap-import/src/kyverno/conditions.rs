//! Conditions: `key`, `operator` and `value`, in `any` and `all`.

use super::context::{Context, lists_in, template_texts};
use super::jmespath;
use crate::intent::{Lists, Vocabulary};
use crate::scope::{Formula, Literal};
use crate::text::glob;
use imageswap_policy::document::{Operator as LabelOperator, Requirement};
use imageswap_policy::yaml::Node;
use serde_json::Value;

/// Conditions of which all, or one, must be true.
#[derive(Debug, Clone)]
pub(super) enum Conditions {
    All(Vec<Conditions>),
    Any(Vec<Conditions>),
    One(Condition),
}

#[derive(Debug, Clone)]
pub(super) struct Condition {
    pub(super) key: Value,
    operator: String,
    value: Value,
}

/// Reads `{any, all}`, or a list in which all must be true.
pub(super) fn read(node: &Node) -> Result<Conditions, String> {
    if !node.items().is_empty() {
        let all: Result<Vec<_>, _> = node
            .items()
            .iter()
            .map(|it| {
                if it.get("key").is_some() {
                    one(it)
                } else {
                    read(it)
                }
            })
            .collect();
        return Ok(Conditions::All(all?));
    }
    let mut parts = Vec::new();
    for (key, value) in node.entries() {
        let inner: Result<Vec<_>, String> = value.items().iter().map(one).collect();
        match key.as_str() {
            // An empty list is as good as none.
            _ if value.items().is_empty() => {}
            Some("all") => parts.push(Conditions::All(inner?)),
            Some("any") => parts.push(Conditions::Any(inner?)),
            other => {
                return Err(format!(
                    "`{}` in conditions is not understood",
                    other.unwrap_or("?")
                ));
            }
        }
    }
    Ok(Conditions::All(parts))
}

fn one(node: &Node) -> Result<Conditions, String> {
    for (key, _) in node.entries() {
        let known = ["key", "operator", "value", "message"];
        if !key.as_str().is_some_and(|it| known.contains(&it)) {
            return Err(format!(
                "`{}` in a condition is not understood",
                key.as_str().unwrap_or("?")
            ));
        }
    }
    let key = node.get("key").ok_or("a condition has no `key`")?;
    let operator = node.get("operator").and_then(Node::as_str);
    Ok(Conditions::One(Condition {
        key: key.to_json(),
        operator: operator.ok_or("a condition has no `operator`")?.to_owned(),
        value: node.get("value").map_or(Value::Null, Node::to_json),
    }))
}

impl Conditions {
    /// Whether they are true.
    pub(super) fn hold(&self, context: &Context) -> Result<bool, String> {
        match self {
            Self::All(parts) => {
                let mut all = true;
                for part in parts {
                    all &= part.hold(context)?;
                }
                Ok(all)
            }
            Self::Any(parts) => {
                let mut any = false;
                for part in parts {
                    any |= part.hold(context)?;
                }
                Ok(any)
            }
            Self::One(it) => it.holds(context),
        }
    }

    pub(super) fn texts(&self, into: &mut Vocabulary) {
        match self {
            Self::All(parts) | Self::Any(parts) => parts.iter().for_each(|it| it.texts(into)),
            Self::One(it) => {
                for value in [&it.key, &it.value] {
                    let mut texts = Vec::new();
                    jmespath::strings(value, &mut texts);
                    for it in &texts {
                        template_texts(it, into);
                    }
                    into.wildcards
                        .extend(texts.into_iter().filter(|it| !it.contains("{{")));
                }
            }
        }
    }

    /// The same as a condition on Pods, if no condition is about an image.
    ///
    /// # Errors
    /// A condition is about something else; the text says what.
    pub(super) fn scope(&self, lists: Lists) -> Result<Formula, String> {
        match self {
            Self::All(parts) => Ok(Formula::All(
                parts
                    .iter()
                    .map(|it| it.scope(lists))
                    .collect::<Result<_, _>>()?,
            )),
            Self::Any(parts) => Ok(Formula::Any(
                parts
                    .iter()
                    .map(|it| it.scope(lists))
                    .collect::<Result<_, _>>()?,
            )),
            Self::One(it) => it.scope(lists),
        }
    }

    /// Refusing the whole Pod under these conditions equals refusing each image for which they are
    /// true.
    pub(super) fn is_for_each(&self) -> Result<Lists, String> {
        match self {
            Self::All(parts) if parts.len() == 1 => parts[0].is_for_each(),
            Self::Any(parts) if !parts.is_empty() => {
                let mut lists = Lists::default();
                for part in parts {
                    lists = lists.or(part.is_for_each()?);
                }
                Ok(lists)
            }
            Self::One(it) => it.is_for_each(),
            Self::All(_) | Self::Any(_) => {
                Err("several conditions on all images of a Pod together".to_owned())
            }
        }
    }
}

impl Condition {
    fn holds(&self, context: &Context) -> Result<bool, String> {
        let key = context.value(&self.key)?;
        let value = context.value(&self.value)?;
        if key.is_null() {
            return Err("a key that is not defined for every image".to_owned());
        }
        let keys: Vec<&Value> = match &key {
            Value::Array(items) => items.iter().collect(),
            one => vec![one],
        };
        let listed = key.is_array();
        let among = |key: &Value| among(key, &value);
        Ok(match self.operator.as_str() {
            "Equals" | "Equal" if !listed => equal(&key, &value)?,
            "NotEquals" | "NotEqual" if !listed => !equal(&key, &value)?,
            "AnyIn" => any(&keys, among)?,
            "AllIn" => all(&keys, among)?,
            "AnyNotIn" => !all(&keys, among)?,
            "AllNotIn" => !any(&keys, among)?,
            "In" if !listed => among(&key)?,
            "NotIn" if !listed => !among(&key)?,
            "GreaterThan" | "GreaterThanOrEquals" | "LessThan" | "LessThanOrEquals" => {
                let (Some(left), Some(right)) = (number(&key), number(&value)) else {
                    return Err("a comparison of something else than numbers".to_owned());
                };
                match self.operator.as_str() {
                    "GreaterThan" => left > right,
                    "GreaterThanOrEquals" => left >= right,
                    "LessThan" => left < right,
                    _ => left <= right,
                }
            }
            other => return Err(format!("the operator `{other}` is not understood here")),
        })
    }

    fn expression(&self) -> Option<&str> {
        let text = self.key.as_str()?.trim();
        let inner = text.strip_prefix("{{")?.strip_suffix("}}")?;
        (!inner.contains("{{")).then(|| inner.trim())
    }

    fn scope(&self, lists: Lists) -> Result<Formula, String> {
        let shown = self.key.as_str().unwrap_or("?").trim();
        let unknown = || format!("the condition on `{shown}` is not understood");
        let text = self.expression().ok_or_else(unknown)?;
        let compact: String = text.chars().filter(|it| !it.is_whitespace()).collect();
        let (path, default) = match compact.split_once("||") {
            Some((path, default)) => (path, Some(default.trim_matches(['\'', '`', '"']))),
            None => (compact.as_str(), None),
        };
        let mut values = Vec::new();
        match &self.value {
            Value::String(it) => values.push(it.clone()),
            Value::Array(items) => {
                for item in items {
                    values.push(item.as_str().ok_or_else(unknown)?.to_owned());
                }
            }
            _ => {}
        }
        let plain = values.iter().all(|it| !it.contains("{{"));
        let (positive, operator) = match self.operator.as_str() {
            "Equals" | "Equal" | "In" | "AnyIn" | "AllIn" => (true, true),
            "NotEquals" | "NotEqual" | "NotIn" | "AnyNotIn" | "AllNotIn" => (false, true),
            _ => (false, false),
        };
        let signed = |it: Formula| if positive { it } else { it.not() };
        match path {
            "request.operation" if operator && plain => {
                let listed = |it: &str| values.iter().any(|value| value == it);
                // Only these two operations bring images in.
                match (listed("CREATE") == positive, listed("UPDATE") == positive) {
                    (true, true) => Ok(Formula::always()),
                    (false, false) => Ok(Formula::never()),
                    _ => Err(format!(
                        "`{shown}` tells a CREATE from an UPDATE, which no policy here does"
                    )),
                }
            }
            "request.namespace" | "request.object.metadata.namespace"
                if operator && plain && !values.is_empty() =>
            {
                Ok(signed(Formula::Is(Literal::InNamespaces(values))))
            }
            _ if operator && plain && path.starts_with("request.object.metadata.labels.") => {
                let key = path["request.object.metadata.labels.".len()..]
                    .trim_matches('"')
                    .to_owned();
                let wild = values.iter().any(|it| it.contains(['*', '?']));
                let name = key
                    .chars()
                    .all(|it| it.is_ascii_alphanumeric() || "._-/".contains(it));
                if wild
                    || !name
                    || values.is_empty()
                    || (self.value.is_array() && self.operator.starts_with("Equal"))
                {
                    return Err(unknown());
                }
                let requirement = Requirement {
                    key,
                    operator: LabelOperator::In,
                    values: values.clone(),
                };
                // A missing label has the default as its value.
                let missing_is_among = match default {
                    Some(default) => values.iter().any(|it| it == default),
                    None if positive => false,
                    None => return Err(format!("`{shown}` is not defined without the label")),
                };
                let label = Formula::Is(Literal::ObjectLabel(requirement.clone()));
                if !missing_is_among {
                    return Ok(signed(label));
                }
                let absent = Requirement {
                    operator: LabelOperator::DoesNotExist,
                    values: Vec::new(),
                    ..requirement
                };
                Ok(signed(Formula::Any(vec![
                    label,
                    Formula::Is(Literal::ObjectLabel(absent)),
                ])))
            }
            _ if self.is_length_of(lists) => Ok(Formula::always()),
            _ => Err(unknown()),
        }
    }

    /// `length(list) >= 1` in one of its forms, for a list that the rule goes through anyway.
    fn is_length_of(&self, lists: Lists) -> bool {
        let counted = self.counted();
        let of = lists_in(counted.unwrap_or_default());
        counted.is_some()
            && self.is_positive_count()
            && of != Lists::default()
            && lists.includes(of)
            && of.includes(lists)
            && !counted.is_some_and(|it| it.contains('?'))
    }

    /// The list whose length is asked for.
    fn counted(&self) -> Option<&str> {
        let key = self.key.as_str()?.trim();
        let text = match key.strip_prefix("{{") {
            // `{{ list[] | length(@) }}`
            Some(rest) => rest.strip_suffix("}}")?,
            None => key,
        };
        let text = text.trim();
        if let Some((list, length)) = text.rsplit_once('|')
            && length.split_whitespace().collect::<String>() == "length(@)"
        {
            return Some(list.trim());
        }
        text.strip_prefix("length(")?.strip_suffix(')')
    }

    fn is_positive_count(&self) -> bool {
        let number = number(&self.value);
        let is = |it: f64| number.is_some_and(|number| (number - it).abs() < f64::EPSILON);
        match self.operator.as_str() {
            "GreaterThan" | "NotEquals" | "NotEqual" => is(0.0),
            "GreaterThanOrEquals" => is(1.0),
            _ => false,
        }
    }

    fn is_for_each(&self) -> Result<Lists, String> {
        let text = self.key.as_str().unwrap_or_default();
        let lists = if text.contains("images.*") || text.contains("images.[*") {
            Lists::ALL
        } else {
            lists_in(text)
        };
        let each = matches!(self.operator.as_str(), "AnyIn" | "AnyNotIn");
        let filtered =
            self.counted().is_some_and(|it| it.contains("[?")) && self.is_positive_count();
        // The key has to be a list with an entry for each image, not a value made from them.
        let plain = !text.contains("length(")
            && !text.contains("join(")
            && !text.contains('!')
            && !text.contains("[0]");
        if lists == Lists::default() || !((each && plain) || filtered) {
            return Err(format!(
                "the condition on `{}` is about a Pod's images together",
                text.trim()
            ));
        }
        Ok(lists)
    }
}

fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Number(it) => it.as_f64(),
        Value::String(it) => it.trim().parse().ok(),
        _ => None,
    }
}

fn any(keys: &[&Value], holds: impl Fn(&Value) -> Result<bool, String>) -> Result<bool, String> {
    keys.iter().try_fold(false, |any, it| Ok(any | holds(it)?))
}

fn all(keys: &[&Value], holds: impl Fn(&Value) -> Result<bool, String>) -> Result<bool, String> {
    keys.iter().try_fold(true, |all, it| Ok(all & holds(it)?))
}

fn equal(key: &Value, value: &Value) -> Result<bool, String> {
    Ok(match (key, value) {
        (Value::String(key), Value::String(pattern)) => glob(pattern, key),
        (Value::Bool(a), Value::Bool(b)) => a == b,
        (Value::Bool(a), Value::String(b)) | (Value::String(b), Value::Bool(a)) => {
            // A text is not a boolean, whatever it says; Kyverno versions disagree, so this is not decided here.
            return Err(format!("`{a}` is compared with the text `{b}`"));
        }
        (Value::Number(_), Value::Number(_) | Value::String(_))
        | (Value::String(_), Value::Number(_)) => match (number(key), number(value)) {
            (Some(a), Some(b)) => a.to_bits() == b.to_bits(),
            _ => false,
        },
        _ => return Err("a comparison of values of different types".to_owned()),
    })
}

/// Whether a key is one of the values: wildcards may be on either side.
fn among(key: &Value, values: &Value) -> Result<bool, String> {
    let key = match key {
        Value::String(it) => it.clone(),
        Value::Number(it) => it.to_string(),
        Value::Bool(it) => it.to_string(),
        _ => return Err("a key that is not a text".to_owned()),
    };
    let matches = |value: &Value| match value {
        Value::String(it) => Ok(glob(it, &key) || glob(&key, it)),
        Value::Number(it) => Ok(it.to_string() == key),
        Value::Bool(it) => Ok(it.to_string() == key),
        _ => Err("a value that is not a text".to_owned()),
    };
    match values {
        Value::Array(items) => items
            .iter()
            .try_fold(false, |any, it| Ok(any | matches(it)?)),
        Value::String(it) if it.trim_start().starts_with('[') => {
            Err(format!("the list `{it}` is written as a text"))
        }
        one => matches(one),
    }
}
