//! Functions and operators whose arguments are all evaluated.

use super::value::{Stop, Value, opaque};
use crate::text::regex;
use cel::common::ast::operators;
use regex_automata::meta::Regex;

/// Longer texts and lists are refused.
const MAX_LENGTH: usize = 16 * 1024;

/// Calls a function; the first argument of a method is its target.
///
/// # Errors
/// The function is not known, or it fails.
pub(super) fn call(name: &str, args: &[Value]) -> Result<Value, Stop> {
    let compared = matches!(
        name,
        operators::EQUALS | operators::NOT_EQUALS | operators::IN
    );
    let in_list =
        matches!(name, operators::ADD) && matches!(args, [Value::List(_), Value::List(_)]);
    if !compared && !in_list && args.iter().any(|it| matches!(it, Value::Opaque(_))) {
        return Err(opaque());
    }
    let value = match args {
        [Value::Text(text), rest @ ..] => texts(name, text, rest),
        [Value::List(list), rest @ ..] => lists(name, list, rest),
        _ => None,
    };
    if let Some(value) = value {
        return limited(value?);
    }
    let failed = |what: &str| Err(Stop::Error(what.to_owned()));
    match (name, args) {
        (operators::EQUALS, [a, b]) => a.equals(b).map(Value::Bool),
        (operators::NOT_EQUALS, [a, b]) => a.equals(b).map(|it| Value::Bool(!it)),
        (operators::LOGICAL_NOT, [Value::Bool(it)]) => Ok(Value::Bool(!it)),
        (operators::LOGICAL_NOT, [_]) => failed("`!` of something that is not a truth value"),
        (operators::IN, [item, Value::List(list)]) => {
            let mut unknown = None;
            for it in list.iter() {
                match it.equals(item) {
                    Ok(true) => return Ok(Value::Bool(true)),
                    Ok(false) => {}
                    Err(why) => unknown = Some(why),
                }
            }
            unknown.map_or(Ok(Value::Bool(false)), Err)
        }
        (operators::IN, [Value::Text(key), map]) => Ok(Value::Bool(map.get(key)?.is_some())),
        (operators::INDEX, [Value::Map(_) | Value::Object(_), _]) => {
            failed("a key of another type")
        }
        ("size", [Value::Map(map)]) => Ok(Value::Int(length(map.len()))),
        ("string", [Value::Int(it)]) => Ok(Value::Text(it.to_string())),
        ("string", [Value::Bool(it)]) => Ok(Value::Text(it.to_string())),
        (operators::NEGATE, [Value::Int(it)]) => number(it.checked_neg()),
        (_, [Value::Int(a), Value::Int(b)]) => integers(name, *a, *b),
        _ => Err(not_known(name)),
    }
}

fn not_known(name: &str) -> Stop {
    let shown = name.trim_matches(['_', '@']);
    Stop::Unknown(format!("`{shown}` is not understood with these arguments"))
}

fn length(it: usize) -> i64 {
    i64::try_from(it).unwrap_or(i64::MAX)
}

fn number(it: Option<i64>) -> Result<Value, Stop> {
    it.map(Value::Int)
        .ok_or_else(|| Stop::Error("a number that is too large".to_owned()))
}

fn limited(value: Value) -> Result<Value, Stop> {
    let length = match &value {
        Value::Text(it) => it.len(),
        Value::List(it) => it.len(),
        _ => 0,
    };
    if length > MAX_LENGTH {
        return Err(Stop::Unknown("a result is too long".to_owned()));
    }
    Ok(value)
}

fn integers(name: &str, a: i64, b: i64) -> Result<Value, Stop> {
    match name {
        operators::ADD => number(a.checked_add(b)),
        operators::SUBSTRACT => number(a.checked_sub(b)),
        operators::MULTIPLY => number(a.checked_mul(b)),
        operators::DIVIDE => number(a.checked_div(b)),
        operators::MODULO => number(a.checked_rem(b)),
        operators::LESS => Ok(Value::Bool(a < b)),
        operators::LESS_EQUALS => Ok(Value::Bool(a <= b)),
        operators::GREATER => Ok(Value::Bool(a > b)),
        operators::GREATER_EQUALS => Ok(Value::Bool(a >= b)),
        _ => Err(not_known(name)),
    }
}

fn lists(name: &str, list: &[Value], rest: &[Value]) -> Option<Result<Value, Stop>> {
    let failed = |what: &str| Err(Stop::Error(what.to_owned()));
    let texts = || {
        list.iter().map(|it| match it {
            Value::Text(text) => Some(text.as_str()),
            _ => None,
        })
    };
    Some(match (name, rest) {
        ("size", []) => Ok(Value::Int(length(list.len()))),
        (operators::ADD, [Value::List(other)]) => Ok(Value::list([list, other].concat())),
        (operators::INDEX, [Value::Int(at)]) => {
            let found = usize::try_from(*at)
                .ok()
                .and_then(|at| list.get(at).cloned());
            found.ok_or_else(|| Stop::Error("an index that a list does not have".to_owned()))
        }
        ("indexOf", [item]) => {
            for (at, it) in list.iter().enumerate() {
                match it.equals(item) {
                    Ok(true) => return Some(Ok(Value::Int(length(at)))),
                    Ok(false) => {}
                    Err(why) => return Some(Err(why)),
                }
            }
            Ok(Value::Int(-1))
        }
        ("join", [] | [Value::Text(_)]) => match texts().collect::<Option<Vec<_>>>() {
            Some(texts) => {
                let between = match rest {
                    [Value::Text(it)] => it.as_str(),
                    _ => "",
                };
                Ok(Value::Text(texts.join(between)))
            }
            None => failed("`join` of a list that has more than texts"),
        },
        _ => return None,
    })
}

fn texts(name: &str, text: &str, rest: &[Value]) -> Option<Result<Value, Stop>> {
    let truth = |it| Ok(Value::Bool(it));
    let made = |it: String| Ok(Value::Text(it));
    Some(match (name, rest) {
        ("startsWith", [Value::Text(it)]) => truth(text.starts_with(it.as_str())),
        ("endsWith", [Value::Text(it)]) => truth(text.ends_with(it.as_str())),
        ("contains", [Value::Text(it)]) => truth(text.contains(it.as_str())),
        ("matches", [Value::Text(it)]) => expression(it).map(|it| Value::Bool(it.is_match(text))),
        (operators::LESS, [Value::Text(it)]) => truth(text < it.as_str()),
        (operators::GREATER, [Value::Text(it)]) => truth(text > it.as_str()),
        (operators::ADD, [Value::Text(it)]) => made(format!("{text}{it}")),
        ("size", []) => Ok(Value::Int(length(text.chars().count()))),
        ("string", []) => made(text.to_owned()),
        ("trim", []) => made(text.trim().to_owned()),
        ("lowerAscii", []) => made(text.to_ascii_lowercase()),
        ("upperAscii", []) => made(text.to_ascii_uppercase()),
        ("replace", [Value::Text(from), Value::Text(to)]) => replaced(text, from, to, -1),
        ("replace", [Value::Text(from), Value::Text(to), Value::Int(count)]) => {
            replaced(text, from, to, *count)
        }
        ("split", [Value::Text(between)]) => split(text, between, -1),
        ("split", [Value::Text(between), Value::Int(count)]) => split(text, between, *count),
        ("substring", [Value::Int(from)]) => substring(text, *from, length(text.chars().count())),
        ("substring", [Value::Int(from), Value::Int(to)]) => substring(text, *from, *to),
        ("charAt", [Value::Int(at)]) if *at == length(text.chars().count()) => made(String::new()),
        ("charAt", [Value::Int(at)]) => substring(text, *at, at.saturating_add(1)),
        ("indexOf", [Value::Text(it)]) => Ok(position(text, text.find(it.as_str()))),
        ("lastIndexOf", [Value::Text(it)]) => Ok(position(text, text.rfind(it.as_str()))),
        ("find", [Value::Text(it)]) => expression(it)
            .map(|it| Value::text(it.find(text).map_or("", |found| &text[found.range()]))),
        ("findAll", [Value::Text(it)]) => expression(it).map(|it| {
            let found = it.find_iter(text);
            Value::list(
                found
                    .map(|found| Value::text(&text[found.range()]))
                    .collect(),
            )
        }),
        _ => return None,
    })
}

fn expression(pattern: &str) -> Result<Regex, Stop> {
    regex(pattern).ok_or_else(|| {
        Stop::Unknown(format!(
            "the regular expression `{pattern}` is not understood"
        ))
    })
}

fn replaced(text: &str, from: &str, to: &str, count: i64) -> Result<Value, Stop> {
    if from.len() + to.len() > MAX_LENGTH / 8 {
        return Err(Stop::Unknown("a replacement is too long".to_owned()));
    }
    Ok(Value::Text(match usize::try_from(count) {
        Ok(count) => text.replacen(from, to, count),
        Err(_) => text.replace(from, to),
    }))
}

fn split(text: &str, between: &str, count: i64) -> Result<Value, Stop> {
    if between.is_empty() {
        return Err(not_known("split"));
    }
    let parts: Vec<&str> = match usize::try_from(count) {
        Ok(count) => text.splitn(count, between).collect(),
        Err(_) => text.split(between).collect(),
    };
    Ok(Value::list(parts.into_iter().map(Value::text).collect()))
}

fn substring(text: &str, from: i64, to: i64) -> Result<Value, Stop> {
    let end = length(text.chars().count());
    if from < 0 || to < from || to > end {
        return Err(Stop::Error("a place that a text does not have".to_owned()));
    }
    let place = |it: i64| usize::try_from(it).unwrap_or(0);
    let part = text.chars().skip(place(from)).take(place(to - from));
    Ok(Value::Text(part.collect()))
}

fn position(text: &str, found: Option<usize>) -> Value {
    Value::Int(found.map_or(-1, |at| length(text[..at].chars().count())))
}
