//! Conditions on the Pod, as a scope.

use super::{Condition, Conditions};
use crate::intent::Lists;
use crate::kyverno::context::lists_in;
use crate::kyverno::jmespath::{self, Expr};
use crate::scope::{Formula, Literal};
use crate::text::glob;
use imageswap_policy::document::{Operator, Requirement};
use serde_json::Value as Json;

impl Conditions {
    /// The same as a condition on Pods, if no condition is about an image.
    ///
    /// # Errors
    /// A condition is about something else; the text says what.
    pub(in crate::kyverno) fn scope(&self, lists: Lists) -> Result<Formula, String> {
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
}

impl Condition {
    /// The field of the key, and its value if it is missing or empty.
    fn subject(&self) -> Option<(Vec<String>, Option<String>)> {
        let text = self.key.as_str()?.trim();
        let inner = text.strip_prefix("{{")?.strip_suffix("}}")?;
        match jmespath::parse(inner).ok()? {
            Expr::Or(field, default) => match *default {
                Expr::Literal(Json::String(default)) => Some((names(&field)?, Some(default))),
                _ => None,
            },
            field => Some((names(&field)?, None)),
        }
    }

    fn scope(&self, lists: Lists) -> Result<Formula, String> {
        if self.is_length_of(lists) {
            return Ok(Formula::always());
        }
        let shown = self.key.as_str().unwrap_or("?").trim();
        let unknown = || format!("the condition on `{shown}` is not understood");
        let (path, default) = self.subject().ok_or_else(unknown)?;
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        let positive = match self.operator.as_str() {
            "Equals" | "Equal" | "In" | "AnyIn" | "AllIn" => true,
            "NotEquals" | "NotEqual" | "NotIn" | "AnyNotIn" | "AllNotIn" => false,
            _ => return Err(unknown()),
        };
        let values = match &self.value {
            Json::Array(_) if self.operator.contains("Equal") => {
                return Err(format!(
                    "`{}` never finds `{shown}` equal to a list; use `AnyIn` or `AnyNotIn`",
                    self.operator
                ));
            }
            Json::Array(items) => items.clone(),
            one => vec![one.clone()],
        };
        // A text may also be a list, or have expressions in it.
        let text = |it: &Json| {
            let text = it.as_str().filter(|it| !it.contains("{{"))?;
            (!text.trim_start().starts_with('[')).then(|| text.to_owned())
        };
        let values: Option<Vec<String>> = values.iter().map(text).collect();
        let values = values.ok_or_else(unknown)?;
        let signed = |it: Formula| if positive { it } else { it.not() };
        match path.as_slice() {
            ["request", "operation"] => {
                let listed = |it: &str| values.iter().any(|value| glob(value, it));
                // Only these two operations bring images in.
                match (listed("CREATE") == positive, listed("UPDATE") == positive) {
                    (true, true) => Ok(Formula::always()),
                    (false, false) => Ok(Formula::never()),
                    _ => Err(format!(
                        "`{shown}` tells a CREATE from an UPDATE, which no policy here does"
                    )),
                }
            }
            ["request", "namespace"] | ["request", "object", "metadata", "namespace"]
                if !values.is_empty() =>
            {
                Ok(signed(Formula::Is(Literal::InNamespaces(values))))
            }
            ["request", "object", "metadata", "labels", key] => {
                label(key, values, default.as_deref(), positive)
                    .map(signed)
                    .ok_or_else(unknown)
            }
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
}

/// A path of names alone.
fn names(expr: &Expr) -> Option<Vec<String>> {
    match expr {
        Expr::Field(name) => Some(vec![name.clone()]),
        Expr::Sub(left, right) => {
            let mut path = names(left)?;
            path.extend(names(right)?);
            Some(path)
        }
        _ => None,
    }
}

/// Pods whose label is one of the values, where a missing or empty one has the default as its value.
fn label(
    key: &str,
    mut values: Vec<String>,
    default: Option<&str>,
    positive: bool,
) -> Option<Formula> {
    let name = key
        .chars()
        .all(|it| it.is_ascii_alphanumeric() || "._-/".contains(it));
    let wild = values.iter().any(|it| it.contains(['*', '?']));
    // Without a default, the condition fails without the label.
    if !name || wild || values.is_empty() || (default.is_none() && !positive) {
        return None;
    }
    let requirement = |operator, values| {
        let key = key.to_owned();
        Formula::Is(Literal::ObjectLabel(Requirement {
            key,
            operator,
            values,
        }))
    };
    let Some(default) = default else {
        return Some(requirement(Operator::In, values));
    };
    if !values.iter().any(|it| it == default) {
        values.retain(|it| !it.is_empty());
        return Some(if values.is_empty() {
            Formula::never()
        } else {
            requirement(Operator::In, values)
        });
    }
    values.push(String::new());
    Some(Formula::Any(vec![
        requirement(Operator::In, values),
        requirement(Operator::DoesNotExist, Vec::new()),
    ]))
}
