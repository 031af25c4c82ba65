//! Conditions: `key`, `operator` and `value`, in `any` and `all`.

use super::context::{Context, lists_in, template_texts};
use super::jmespath;
use super::value::{Stop, Value, others};
use crate::intent::{Lists, Vocabulary};
use crate::text::glob;
use imageswap_policy::yaml::Node;
use serde_json::Value as Json;

mod scope;

/// Conditions of which all, or one, must be true.
#[derive(Debug, Clone)]
pub(super) enum Conditions {
    All(Vec<Conditions>),
    Any(Vec<Conditions>),
    One(Condition),
}

#[derive(Debug, Clone)]
pub(super) struct Condition {
    key: Json,
    operator: String,
    value: Json,
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
        value: node.get("value").map_or(Json::Null, Node::to_json),
    }))
}

impl Conditions {
    /// Whether they are true. Every condition is evaluated, because the images that are tried may
    /// not get to those that depend on what is not known.
    pub(super) fn hold(&self, context: &Context) -> Result<bool, Stop> {
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
    fn holds(&self, context: &Context) -> Result<bool, Stop> {
        // Of a list of the Pod's containers, the image with its container is one entry.
        if context.is_of_pod()
            && self.is_positive_count()
            && let Some(list) = self.counted()
        {
            let list = context.template(&format!("{{{{{list}}}}}"))?;
            return match list {
                Value::Array(items) | Value::Partial(items) => Ok(!items.is_empty()),
                _ => Err(others()),
            };
        }
        let key = context.value(&self.key)?;
        let value = context.value(&self.value)?.whole()?;
        let keys = match &key {
            Value::Null => {
                let why = "a key that is not defined for every image";
                return Err(Stop::Error(why.to_owned()));
            }
            Value::Array(items) => items
                .iter()
                .map(Value::whole)
                .collect::<Result<Vec<_>, _>>()?,
            Value::Partial(items) if context.is_of_pod() && self.operator.starts_with("Any") => {
                items.iter().map(Value::whole).collect::<Result<_, _>>()?
            }
            one => vec![one.whole()?],
        };
        let listed = matches!(key, Value::Array(_) | Value::Partial(_));
        let among = |key: &Json| among(key, &value);
        Ok(match (self.operator.as_str(), keys.as_slice()) {
            ("Equals" | "Equal", [key]) if !listed => equal(key, &value)?,
            ("NotEquals" | "NotEqual", [key]) if !listed => !equal(key, &value)?,
            ("In", [key]) if !listed => among(key)?,
            ("NotIn", [key]) if !listed => !among(key)?,
            ("AnyIn", keys) => any(keys, among)?,
            ("AllIn", keys) => all(keys, among)?,
            ("AnyNotIn", keys) => !all(keys, among)?,
            ("AllNotIn", keys) => !any(keys, among)?,
            ("GreaterThan" | "GreaterThanOrEquals" | "LessThan" | "LessThanOrEquals", [key]) => {
                let (Some(left), Some(right)) = (number(key), number(&value)) else {
                    return Err("a comparison of something else than numbers".into());
                };
                match self.operator.as_str() {
                    "GreaterThan" => left > right,
                    "GreaterThanOrEquals" => left >= right,
                    "LessThan" => left < right,
                    _ => left <= right,
                }
            }
            (other, _) => {
                return Err(format!("the operator `{other}` is not understood here").into());
            }
        })
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

fn number(value: &Json) -> Option<f64> {
    match value {
        Json::Number(it) => it.as_f64(),
        Json::String(it) => it.trim().parse().ok(),
        _ => None,
    }
}

fn any(keys: &[Json], holds: impl Fn(&Json) -> Result<bool, String>) -> Result<bool, String> {
    keys.iter().try_fold(false, |any, it| Ok(any | holds(it)?))
}

fn all(keys: &[Json], holds: impl Fn(&Json) -> Result<bool, String>) -> Result<bool, String> {
    keys.iter().try_fold(true, |all, it| Ok(all & holds(it)?))
}

fn equal(key: &Json, value: &Json) -> Result<bool, String> {
    Ok(match (key, value) {
        (Json::String(text), Json::String(pattern)) => {
            let same = glob(pattern, text);
            // Kyverno compares a tag such as `1.10` as a number, and never with a wildcard.
            let digits = number(key);
            if text != pattern && digits.is_some() && (same || digits == number(value)) {
                return Err(format!("`{text}` is compared with `{pattern}` as a number"));
            }
            same
        }
        (Json::Bool(a), Json::Bool(b)) => a == b,
        (Json::Bool(a), Json::String(b)) | (Json::String(b), Json::Bool(a)) => {
            // A text is not a boolean, whatever it says; Kyverno versions disagree, so this is not decided here.
            return Err(format!("`{a}` is compared with the text `{b}`"));
        }
        (Json::Number(_), Json::Number(_) | Json::String(_))
        | (Json::String(_), Json::Number(_)) => match (number(key), number(value)) {
            (Some(a), Some(b)) => a.to_bits() == b.to_bits(),
            _ => false,
        },
        _ => return Err("a comparison of values of different types".to_owned()),
    })
}

/// Whether a key is one of the values: wildcards may be on either side.
fn among(key: &Json, values: &Json) -> Result<bool, String> {
    let key = match key {
        Json::String(it) => it.clone(),
        Json::Number(it) => it.to_string(),
        Json::Bool(it) => it.to_string(),
        _ => return Err("a key that is not a text".to_owned()),
    };
    let matches = |value: &Json| match value {
        Json::String(it) => Ok(glob(it, &key) || glob(&key, it)),
        Json::Number(it) => Ok(it.to_string() == key),
        Json::Bool(it) => Ok(it.to_string() == key),
        _ => Err("a value that is not a text".to_owned()),
    };
    match values {
        Json::Array(items) => items
            .iter()
            .try_fold(false, |any, it| Ok(any | matches(it)?)),
        Json::String(it) if it.trim_start().starts_with('[') => {
            Err(format!("the list `{it}` is written as a text"))
        }
        one => matches(one),
    }
}
