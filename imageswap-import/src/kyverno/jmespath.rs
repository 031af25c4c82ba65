//! The part of JMESPath that registry policies use, with Kyverno's own functions, evaluated over JSON.
//!
//! Whatever is not implemented is an error when the text is parsed or evaluated, never a guess.

use super::image;
use crate::text;
use regex_automata::meta;
use serde_json::Value;

mod parse;

pub(crate) use parse::parse;

/// A parsed expression.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Expr {
    /// `@`, or the root at the beginning of a path.
    Current,
    Field(String),
    Literal(Value),
    /// Left, then right on each of its results.
    Pipe(Box<Expr>, Box<Expr>),
    /// The same, as `.` writes it.
    Sub(Box<Expr>, Box<Expr>),
    Index(Box<Expr>, i64),
    /// `left[*].right`, `left[].right`: the right side on every element.
    Project(Box<Expr>, Box<Expr>),
    /// `left.*.right`.
    Values(Box<Expr>, Box<Expr>),
    Flatten(Box<Expr>),
    /// `left[?condition].right`.
    Filter(Box<Expr>, Box<Expr>, Box<Expr>),
    List(Vec<Expr>),
    Or(Box<Expr>, Box<Expr>),
    And(Box<Expr>, Box<Expr>),
    Not(Box<Expr>),
    Compare(Box<Expr>, Comparison, Box<Expr>),
    Call(String, Vec<Expr>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Expr {
    /// The value of the expression for `current`. The root is the same value.
    ///
    /// # Errors
    /// An expression that is not implemented, or not defined for the values.
    pub(crate) fn evaluate(&self, current: &Value) -> Result<Value, String> {
        Ok(match self {
            Self::Current => current.clone(),
            Self::Field(name) => current.get(name).cloned().unwrap_or(Value::Null),
            Self::Literal(value) => value.clone(),
            Self::Pipe(left, right) => right.evaluate(&left.evaluate(current)?)?,
            Self::Sub(left, right) => match left.evaluate(current)? {
                Value::Null => Value::Null,
                value => right.evaluate(&value)?,
            },
            Self::Index(left, at) => match left.evaluate(current)? {
                Value::Array(items) => {
                    let length = i64::try_from(items.len()).unwrap_or(i64::MAX);
                    let at = if *at < 0 { *at + length } else { *at };
                    let at = usize::try_from(at).ok();
                    at.and_then(|at| items.get(at))
                        .cloned()
                        .unwrap_or(Value::Null)
                }
                _ => Value::Null,
            },
            Self::Project(left, right) => match left.evaluate(current)? {
                Value::Array(items) => project(&items, right)?,
                _ => Value::Null,
            },
            Self::Values(left, right) => match left.evaluate(current)? {
                Value::Object(fields) => project(
                    &fields.into_iter().map(|it| it.1).collect::<Vec<_>>(),
                    right,
                )?,
                _ => Value::Null,
            },
            Self::Flatten(inner) => match inner.evaluate(current)? {
                Value::Array(items) => {
                    let mut flat = Vec::new();
                    for item in items {
                        match item {
                            Value::Array(inner) => flat.extend(inner),
                            other => flat.push(other),
                        }
                    }
                    Value::Array(flat)
                }
                _ => Value::Null,
            },
            Self::Filter(left, condition, right) => match left.evaluate(current)? {
                Value::Array(items) => {
                    let mut kept = Vec::new();
                    for item in items {
                        if truthy(&condition.evaluate(&item)?) {
                            kept.push(item);
                        }
                    }
                    project(&kept, right)?
                }
                _ => Value::Null,
            },
            Self::List(items) => Value::Array(
                items
                    .iter()
                    .map(|it| it.evaluate(current))
                    .collect::<Result<_, _>>()?,
            ),
            Self::Or(left, right) => {
                let value = left.evaluate(current)?;
                if truthy(&value) {
                    value
                } else {
                    right.evaluate(current)?
                }
            }
            Self::And(left, right) => {
                let value = left.evaluate(current)?;
                if truthy(&value) {
                    right.evaluate(current)?
                } else {
                    value
                }
            }
            Self::Not(inner) => Value::Bool(!truthy(&inner.evaluate(current)?)),
            Self::Compare(left, by, right) => {
                compare(&left.evaluate(current)?, *by, &right.evaluate(current)?)
            }
            Self::Call(name, arguments) => {
                let values: Vec<Value> = arguments
                    .iter()
                    .map(|it| it.evaluate(current))
                    .collect::<Result<_, _>>()?;
                call(name, &values)?
            }
        })
    }

    /// The fields that the expression reads from its root, each as a path of names up to the first that is not fixed.
    pub(crate) fn roots(&self) -> Vec<Vec<String>> {
        let mut found = Vec::new();
        self.collect_roots(&mut found);
        found
    }

    /// Follows the path that the expression starts with.
    fn collect_roots(&self, found: &mut Vec<Vec<String>>) {
        match self.fixed_path() {
            Some(path) => found.push(path),
            None => match self {
                Self::Literal(_) => {}
                Self::Current | Self::Field(_) => found.push(Vec::new()),
                Self::Sub(left, _)
                | Self::Pipe(left, _)
                | Self::Project(left, _)
                | Self::Values(left, _)
                | Self::Filter(left, _, _)
                | Self::Index(left, _)
                | Self::Flatten(left)
                | Self::Not(left) => left.collect_roots(found),
                Self::Or(left, right) | Self::And(left, right) | Self::Compare(left, _, right) => {
                    left.collect_roots(found);
                    right.collect_roots(found);
                }
                Self::List(items) | Self::Call(_, items) => {
                    for item in items {
                        item.collect_roots(found);
                    }
                }
            },
        }
    }

    /// `a.b.c` as names.
    fn fixed_path(&self) -> Option<Vec<String>> {
        match self {
            Self::Field(name) => Some(vec![name.clone()]),
            Self::Sub(left, right) => {
                let mut path = left.fixed_path()?;
                // `a.[b, c]` reads `a.b` and `a.c`; the first part is enough to classify it.
                if let Some(rest) = right.fixed_path() {
                    path.extend(rest);
                }
                Some(path)
            }
            _ => None,
        }
    }

    /// Adds every text that is written in the expression.
    pub(crate) fn texts(&self, into: &mut Vec<String>) {
        match self {
            Self::Literal(value) => strings(value, into),
            Self::Current | Self::Field(_) => {}
            Self::Flatten(inner) | Self::Not(inner) | Self::Index(inner, _) => inner.texts(into),
            Self::Pipe(left, right)
            | Self::Sub(left, right)
            | Self::Project(left, right)
            | Self::Values(left, right)
            | Self::Or(left, right)
            | Self::And(left, right)
            | Self::Compare(left, _, right) => {
                left.texts(into);
                right.texts(into);
            }
            Self::Filter(left, condition, right) => {
                left.texts(into);
                condition.texts(into);
                right.texts(into);
            }
            Self::List(items) | Self::Call(_, items) => {
                for item in items {
                    item.texts(into);
                }
            }
        }
    }
}

/// Adds every text within a value.
pub(crate) fn strings(value: &Value, into: &mut Vec<String>) {
    match value {
        Value::String(text) => into.push(text.clone()),
        Value::Array(items) => items.iter().for_each(|it| strings(it, into)),
        Value::Object(fields) => fields.values().for_each(|it| strings(it, into)),
        _ => {}
    }
}

fn project(items: &[Value], right: &Expr) -> Result<Value, String> {
    let mut all = Vec::new();
    for item in items {
        let value = right.evaluate(item)?;
        if !value.is_null() {
            all.push(value);
        }
    }
    Ok(Value::Array(all))
}

fn truthy(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(it) => *it,
        Value::String(it) => !it.is_empty(),
        Value::Array(it) => !it.is_empty(),
        Value::Object(it) => !it.is_empty(),
        Value::Number(_) => true,
    }
}

fn compare(left: &Value, by: Comparison, right: &Value) -> Value {
    let equal = match (left.as_f64(), right.as_f64()) {
        (Some(left), Some(right)) => left.to_bits() == right.to_bits(),
        _ => left == right,
    };
    let order = left.as_f64().zip(right.as_f64());
    let ordered = |holds: fn(f64, f64) -> bool| {
        order.map_or(Value::Null, |(left, right)| Value::Bool(holds(left, right)))
    };
    match by {
        Comparison::Equal => Value::Bool(equal),
        Comparison::NotEqual => Value::Bool(!equal),
        Comparison::Less => ordered(|a, b| a < b),
        Comparison::LessOrEqual => ordered(|a, b| a <= b),
        Comparison::Greater => ordered(|a, b| a > b),
        Comparison::GreaterOrEqual => ordered(|a, b| a >= b),
    }
}

fn call(name: &str, values: &[Value]) -> Result<Value, String> {
    let text = |at: usize| -> Result<&str, String> {
        match values.get(at) {
            Some(Value::String(it)) => Ok(it),
            _ => Err(format!("`{name}` needs texts")),
        }
    };
    let arguments = |count: usize| {
        (values.len() == count)
            .then_some(())
            .ok_or_else(|| format!("`{name}` takes {count} arguments"))
    };
    Ok(match name {
        "regex_replace_all" | "regex_replace_all_literal" => {
            arguments(3)?;
            let regex = regex(text(0)?)?;
            let groups = name == "regex_replace_all";
            Value::String(text::replace_all(&regex, text(1)?, text(2)?, groups))
        }
        "regex_match" => {
            arguments(2)?;
            let subject = scalar_text(&values[1]).ok_or("`regex_match` needs texts")?;
            Value::Bool(regex(text(0)?)?.is_match(&subject))
        }
        "replace_all" => {
            arguments(3)?;
            Value::String(text(0)?.replace(text(1)?, text(2)?))
        }
        "replace" => {
            arguments(4)?;
            let count = values[3].as_i64().ok_or("`replace` needs a number")?;
            Value::String(match usize::try_from(count) {
                Ok(count) => text(0)?.replacen(text(1)?, text(2)?, count),
                Err(_) => text(0)?.replace(text(1)?, text(2)?),
            })
        }
        "starts_with" => {
            arguments(2)?;
            Value::Bool(text(0)?.starts_with(text(1)?))
        }
        "ends_with" => {
            arguments(2)?;
            Value::Bool(text(0)?.ends_with(text(1)?))
        }
        "contains" => {
            arguments(2)?;
            Value::Bool(match &values[0] {
                Value::Array(items) => items.contains(&values[1]),
                Value::String(it) => it.contains(text(1)?),
                _ => return Err("`contains` needs a text or a list".to_owned()),
            })
        }
        "split" => {
            arguments(2)?;
            let by = text(1)?;
            if by.is_empty() {
                return Err("`split` needs a separator".to_owned());
            }
            text(0)?.split(by).map(Value::from).collect()
        }
        "join" => {
            arguments(2)?;
            let items = values[1].as_array().ok_or("`join` needs a list")?;
            let items: Option<Vec<&str>> = items.iter().map(Value::as_str).collect();
            Value::String(items.ok_or("`join` needs texts")?.join(text(0)?))
        }
        "to_string" => {
            arguments(1)?;
            Value::String(match &values[0] {
                Value::String(it) => it.clone(),
                other => other.to_string(),
            })
        }
        "to_lower" | "to_upper" => {
            arguments(1)?;
            let it = text(0)?;
            Value::String(if name == "to_lower" {
                it.to_lowercase()
            } else {
                it.to_uppercase()
            })
        }
        "trim" => {
            arguments(2)?;
            let cut: Vec<char> = text(1)?.chars().collect();
            Value::String(text(0)?.trim_matches(&cut[..]).to_owned())
        }
        "trim_prefix" => {
            arguments(2)?;
            let it = text(0)?;
            Value::String(it.strip_prefix(text(1)?).unwrap_or(it).to_owned())
        }
        "truncate" => return Err("`truncate` is not read".to_owned()),
        "length" => {
            arguments(1)?;
            Value::from(match &values[0] {
                Value::Array(it) => it.len(),
                Value::Object(it) => it.len(),
                Value::String(it) => it.chars().count(),
                _ => return Err("`length` needs a list or a text".to_owned()),
            })
        }
        "pattern_match" => {
            arguments(2)?;
            let subject = scalar_text(&values[1]).ok_or("`pattern_match` needs texts")?;
            Value::Bool(text::glob(text(0)?, &subject))
        }
        "equal_fold" => {
            arguments(2)?;
            Value::Bool(text(0)?.to_lowercase() == text(1)?.to_lowercase())
        }
        "keys" => {
            arguments(1)?;
            let fields = values[0].as_object().ok_or("`keys` needs an object")?;
            fields.keys().map(|it| Value::from(it.as_str())).collect()
        }
        "not_null" => values
            .iter()
            .find(|it| !it.is_null())
            .cloned()
            .unwrap_or(Value::Null),
        "image_normalize" => {
            arguments(1)?;
            Value::String(image::normalize(text(0)?))
        }
        "parse_image" | "image_reference" => return Err(format!("`{name}` is not read")),
        other => return Err(format!("the function `{other}` is not read")),
    })
}

fn scalar_text(value: &Value) -> Option<String> {
    match value {
        Value::String(it) => Some(it.clone()),
        Value::Number(it) => Some(it.to_string()),
        _ => None,
    }
}

fn regex(pattern: &str) -> Result<meta::Regex, String> {
    text::regex(pattern).ok_or_else(|| format!("the expression `{pattern}` is not understood"))
}
