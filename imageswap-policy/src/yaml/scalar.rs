//! Resolves scalars by YAML 1.2's core schema (<https://yaml.org/spec/1.2.2/#103-core-schema>).

use super::{Style, Value};
use granit_parser::Tag;
use serde_json::Number;

/// Resolves a scalar. A tag takes precedence over the style; a tag that the core schema does not
/// know means a string.
pub(super) fn resolve(text: &str, style: Style, tag: Option<&Tag>) -> Value {
    let plain = match tag {
        None => style == Style::Plain,
        Some(tag) => matches!(tag.core_suffix(), Some("null" | "bool" | "int" | "float")),
    };
    let resolved = if plain { special(text) } else { None };
    resolved.unwrap_or_else(|| Value::String(text.to_owned()))
}

fn special(text: &str) -> Option<Value> {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Some(Value::Null),
        "true" | "True" | "TRUE" => Some(Value::Bool(true)),
        "false" | "False" | "FALSE" => Some(Value::Bool(false)),
        _ => number(text).map(Value::Number),
    }
}

fn number(text: &str) -> Option<Number> {
    let radix = |digits: &str, radix| {
        let all = !digits.is_empty() && digits.chars().all(|it| it.is_digit(radix));
        all.then(|| u64::from_str_radix(digits, radix).ok())?
            .map(Number::from)
    };
    if let Some(digits) = text.strip_prefix("0o") {
        return radix(digits, 8);
    }
    if let Some(digits) = text.strip_prefix("0x") {
        return radix(digits, 16);
    }
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let digits = |it: &str| it.bytes().all(|it| it.is_ascii_digit());
    if !unsigned.is_empty() && digits(unsigned) {
        let exact = text.parse::<u64>().map(Number::from);
        if let Ok(exact) = exact.or_else(|_| text.parse::<i64>().map(Number::from)) {
            return Some(exact);
        }
    }
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (unsigned, None),
    };
    let exponent_is_fine = exponent.is_none_or(|it| {
        let it = it.strip_prefix(['-', '+']).unwrap_or(it);
        !it.is_empty() && digits(it)
    });
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let is_float = exponent_is_fine
        && !(whole.is_empty() && fraction.is_empty())
        && digits(whole)
        && digits(fraction);
    is_float
        .then(|| text.parse().ok())?
        .and_then(Number::from_f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn plain_scalars_follow_the_core_schema() {
        let rows = [
            ("", json!(null)),
            ("~", json!(null)),
            ("null", json!(null)),
            ("nUll", json!("nUll")),
            ("True", json!(true)),
            ("FALSE", json!(false)),
            ("yes", json!("yes")),
            ("on", json!("on")),
            ("0", json!(0)),
            ("-19", json!(-19)),
            ("+12", json!(12)),
            ("0o17", json!(15)),
            ("0o8", json!("0o8")),
            ("0x1F", json!(31)),
            ("0x", json!("0x")),
            ("0755", json!(755)),
            ("18446744073709551615", json!(u64::MAX)),
            ("18446744073709551616", json!(18_446_744_073_709_551_616.0)),
            ("1.5", json!(1.5)),
            (".5", json!(0.5)),
            ("5.", json!(5.0)),
            ("1e3", json!(1000.0)),
            ("-1.5E-1", json!(-0.15)),
            ("1e999", json!("1e999")),
            (".", json!(".")),
            ("-", json!("-")),
            ("1e", json!("1e")),
            ("1.2.3", json!("1.2.3")),
            (".inf", json!(".inf")),
            ("inf", json!("inf")),
            ("nan", json!("nan")),
            ("1_000", json!("1_000")),
            ("12:30", json!("12:30")),
        ];
        for (text, expected) in rows {
            let found = match resolve(text, Style::Plain, None) {
                Value::Null => json!(null),
                Value::Bool(it) => json!(it),
                Value::Number(it) => json!(it),
                Value::String(it) => json!(it),
                other => panic!("{other:?}"),
            };
            assert_eq!(found, expected, "{text}");
        }
    }

    #[test]
    fn quotes_and_tags_speak_first() {
        let string = Value::String("1".to_owned());
        let tag = |it: &str| Tag::new("tag:yaml.org,2002:", it);
        assert_eq!(resolve("1", Style::DoubleQuoted, None), string);
        assert_eq!(resolve("1", Style::Plain, Some(&tag("str"))), string);
        assert_eq!(
            resolve("1", Style::SingleQuoted, Some(&tag("int"))),
            Value::Number(1.into())
        );
        assert_eq!(
            resolve("1", Style::Plain, Some(&Tag::new("!", "own"))),
            string
        );
    }
}
