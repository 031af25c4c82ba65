//! The part of JMESPath that registry policies use, with Kyverno's own functions, evaluated over JSON.
//!
//! Whatever is not implemented is an error when the text is parsed or evaluated, never a guess.

use super::value::{Stop, Value, others};
use serde_json::Value as Json;

mod call;
mod parse;

pub(crate) use parse::parse;

/// A parsed expression.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Expr {
    /// `@`, or the root at the beginning of a path.
    Current,
    Field(String),
    Literal(Json),
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
    /// An expression that is not implemented, that fails for the value, or that reads what is not
    /// known of it.
    pub(crate) fn evaluate(&self, current: &Value) -> Result<Value, Stop> {
        Ok(match self {
            Self::Current => current.clone(),
            Self::Field(name) => current.field(name)?,
            Self::Literal(value) => value.into(),
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
                Value::Partial(_) => return Err(others()),
                _ => Value::Null,
            },
            Self::Project(left, right) => each(left.evaluate(current)?, |it| right.evaluate(it))?,
            Self::Values(left, right) => {
                let values = match left.evaluate(current)? {
                    Value::Object(fields) => Value::Array(fields.into_values().collect()),
                    Value::Open(_, fields) => Value::Partial(fields.into_values().collect()),
                    _ => Value::Null,
                };
                each(values, |it| right.evaluate(it))?
            }
            Self::Flatten(inner) => flat(inner.evaluate(current)?),
            Self::Filter(left, condition, right) => each(left.evaluate(current)?, |it| {
                if condition.evaluate(it)?.truthy()? {
                    right.evaluate(it)
                } else {
                    Ok(Value::Null)
                }
            })?,
            Self::List(items) => Value::Array(
                items
                    .iter()
                    .map(|it| it.evaluate(current))
                    .collect::<Result<_, _>>()?,
            ),
            Self::Or(left, right) => {
                let left = left.evaluate(current)?;
                let right = known(right.evaluate(current))?;
                match left.truthy() {
                    Ok(true) => left,
                    Ok(false) => right?,
                    // Nothing, or another list without a known entry, does not make a difference.
                    Err(why) => match right? {
                        Value::Null => left,
                        Value::Array(it) | Value::Partial(it) if it.is_empty() => left,
                        _ => return Err(why),
                    },
                }
            }
            Self::And(left, right) => {
                let left = left.evaluate(current)?;
                let right = known(right.evaluate(current))?;
                if left.truthy()? { right? } else { left }
            }
            Self::Not(inner) => Value::Bool(!inner.evaluate(current)?.truthy()?),
            Self::Compare(left, by, right) => {
                let left = left.evaluate(current)?.whole()?;
                let right = right.evaluate(current)?.whole()?;
                (&compare(&left, *by, &right)).into()
            }
            Self::Call(name, arguments) => {
                let values: Vec<Json> = arguments
                    .iter()
                    .map(|it| it.evaluate(current)?.whole())
                    .collect::<Result<_, _>>()?;
                (&call::call(name, &values)?).into()
            }
        })
    }

    /// The value of the expression for data of which all is known.
    pub(crate) fn of_json(&self, current: &Json) -> Result<Json, String> {
        Ok(self.evaluate(&current.into())?.whole()?)
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
pub(crate) fn strings(value: &Json, into: &mut Vec<String>) {
    match value {
        Json::String(text) => into.push(text.clone()),
        Json::Array(items) => items.iter().for_each(|it| strings(it, into)),
        Json::Object(fields) => fields.values().for_each(|it| strings(it, into)),
        _ => {}
    }
}

/// The results for the entries of a list, without nulls.
fn each(list: Value, of: impl Fn(&Value) -> Result<Value, Stop>) -> Result<Value, Stop> {
    let results = |items: Vec<Value>| -> Result<Vec<Value>, Stop> {
        let all: Result<Vec<_>, _> = items.iter().map(of).collect();
        Ok(all?.into_iter().filter(|it| *it != Value::Null).collect())
    };
    Ok(match list {
        Value::Array(items) => Value::Array(results(items)?),
        Value::Partial(items) => Value::Partial(results(items)?),
        _ => Value::Null,
    })
}

/// A list with the entries of the lists in it.
fn flat(list: Value) -> Value {
    let (items, mut whole) = match list {
        Value::Array(items) => (items, true),
        Value::Partial(items) => (items, false),
        _ => return Value::Null,
    };
    let mut flat = Vec::new();
    for item in items {
        match item {
            Value::Array(inner) => flat.extend(inner),
            Value::Partial(inner) => {
                whole = false;
                flat.extend(inner);
            }
            other => flat.push(other),
        }
    }
    if whole {
        Value::Array(flat)
    } else {
        Value::Partial(flat)
    }
}

/// The result of a part that may not be needed: only what is not known counts in any case, because
/// the images that are tried may never need it.
pub(super) fn known<T>(result: Result<T, Stop>) -> Result<Result<T, Stop>, Stop> {
    match result {
        Err(it @ Stop::Unknown(_)) => Err(it),
        other => Ok(other),
    }
}

fn compare(left: &Json, by: Comparison, right: &Json) -> Json {
    let equal = match (left.as_f64(), right.as_f64()) {
        (Some(left), Some(right)) => left.to_bits() == right.to_bits(),
        _ => left == right,
    };
    let order = left.as_f64().zip(right.as_f64());
    let ordered = |holds: fn(f64, f64) -> bool| {
        order.map_or(Json::Null, |(left, right)| Json::Bool(holds(left, right)))
    };
    match by {
        Comparison::Equal => Json::Bool(equal),
        Comparison::NotEqual => Json::Bool(!equal),
        Comparison::Less => ordered(|a, b| a < b),
        Comparison::LessOrEqual => ordered(|a, b| a <= b),
        Comparison::Greater => ordered(|a, b| a > b),
        Comparison::GreaterOrEqual => ordered(|a, b| a >= b),
    }
}
