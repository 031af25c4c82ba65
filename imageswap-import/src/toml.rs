//! Reads TOML as the tree that YAML is read as, in which every value knows its place.

use ::toml::Spanned;
use ::toml::de::{DeTable, DeValue};
use imageswap_policy::yaml::{Node, Span, Style, Value};
use std::ops::Range;

/// Where a text stops being TOML.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Broken {
    pub(crate) line: usize,
    pub(crate) column: usize,
}

/// Reads a text as a mapping, with keys in the order of the text.
pub(crate) fn parse(text: &str) -> Result<Node, Broken> {
    match DeTable::parse(text) {
        Ok(table) => {
            let span = span(text, table.span());
            Ok(mapping(text, table.into_inner(), span))
        }
        Err(error) => {
            let at = error.span().unwrap_or_default();
            let Span { line, column, .. } = span(text, at);
            Err(Broken { line, column })
        }
    }
}

fn mapping(text: &str, table: DeTable<'_>, span: Span) -> Node {
    let mut entries: Vec<_> = table.into_iter().collect();
    entries.sort_by_key(|it| it.0.span().start);
    let entries = entries.into_iter().map(|(key, value)| {
        let at = self::span(text, key.span());
        let key = Node {
            value: Value::String(key.into_inner().into_owned()),
            span: at,
            style: Style::Plain,
        };
        (key, node(text, value))
    });
    Node {
        value: Value::Mapping(entries.collect()),
        span,
        style: Style::Block,
    }
}

fn node(text: &str, value: Spanned<DeValue<'_>>) -> Node {
    let span = span(text, value.span());
    let scalar = |value| Node {
        value,
        span,
        style: Style::Plain,
    };
    match value.into_inner() {
        DeValue::String(it) => scalar(Value::String(it.into_owned())),
        DeValue::Boolean(it) => scalar(Value::Bool(it)),
        DeValue::Integer(it) => scalar(match i64::from_str_radix(it.as_str(), it.radix()) {
            Ok(number) => Value::Number(number.into()),
            Err(_) => Value::String(it.as_str().to_owned()),
        }),
        // No field that is read is a number with a fraction or a date.
        DeValue::Float(it) => scalar(Value::String(it.as_str().to_owned())),
        DeValue::Datetime(it) => scalar(Value::String(it.to_string())),
        DeValue::Array(items) => Node {
            value: Value::Sequence(items.into_iter().map(|it| node(text, it)).collect()),
            span,
            style: Style::Flow,
        },
        DeValue::Table(table) => mapping(text, table, span),
    }
}

fn span(text: &str, range: Range<usize>) -> Span {
    let before = text.get(..range.start).unwrap_or(text);
    let line = before.rfind('\n').map_or(0, |it| it + 1);
    Span {
        start: range.start,
        end: range.end,
        line: before.matches('\n').count() + 1,
        column: before[line..].chars().count() + 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_keep_their_order_and_their_places() {
        let text = "server = \"https://b\"\n\n[host.\"https://z\"]\n  ca = [\"a\", \"b\"]\n[host.'https://a']\nskip_verify = true\n[[registry]]\nn = 7\n";
        let node = parse(text).unwrap();
        let place = |it: &Node| (it.span.line, it.span.column);
        assert_eq!(node.get("server").map(place), Some((1, 10)));
        let hosts = node.get("host").unwrap().entries();
        let names: Vec<_> = hosts.iter().map(|it| it.0.as_str().unwrap()).collect();
        assert_eq!(names, ["https://z", "https://a"]);
        assert_eq!(place(&hosts[0].0), (3, 7));
        assert_eq!(hosts[0].1.get("ca").unwrap().items().len(), 2);
        assert_eq!(
            hosts[1].1.get("skip_verify").unwrap().value,
            Value::Bool(true)
        );
        let registry = &node.get("registry").unwrap().items()[0];
        assert_eq!(place(registry).0, 7);
        assert_eq!(registry.get("n").unwrap().value, Value::Number(7.into()));
        assert_eq!(
            parse("a = 1\nb = = 2\n"),
            Err(Broken { line: 2, column: 5 })
        );
    }
}
