//! Reads PromQL far enough to know which metrics and labels a query names.

use std::collections::BTreeSet;

/// The names in a query.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Query {
    /// Metrics, and for each mention the matchers of its labels.
    pub(crate) selectors: Vec<Selector>,
    /// Labels of `by`, `without`, `on`, `ignoring`, `group_left` and `group_right`.
    pub(crate) labels: BTreeSet<String>,
}

/// One mention of a metric.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Selector {
    pub(crate) metric: String,
    /// Label, operator, value.
    pub(crate) matchers: Vec<(String, String, String)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    /// A name, with letters, digits, `_` and `:`.
    Word(String),
    /// What a string holds.
    Text(String),
    /// Anything else, a character at a time; numbers and durations are left out.
    Sign(char),
}

const OPERATORS: [&str; 6] = ["and", "or", "unless", "offset", "bool", "atan2"];
const GROUPINGS: [&str; 6] = [
    "by",
    "without",
    "on",
    "ignoring",
    "group_left",
    "group_right",
];

impl Query {
    /// Reads a query. Grafana's variables count as text or numbers, depending on their place.
    pub(crate) fn parse(text: &str) -> Self {
        let tokens = tokens(text);
        let mut query = Self::default();
        let mut at = 0;
        while let Some(token) = tokens.get(at) {
            at += 1;
            let Token::Word(word) = token else { continue };
            let opens = |sign| tokens.get(at) == Some(&Token::Sign(sign));
            if GROUPINGS.contains(&word.as_str()) {
                if opens('(') {
                    let end = closing(&tokens, at, ')');
                    let words = tokens[at..end].iter().filter_map(|it| match it {
                        Token::Word(word) => Some(word.clone()),
                        _ => None,
                    });
                    query.labels.extend(words);
                    at = end;
                }
            } else if !OPERATORS.contains(&word.as_str()) && !opens('(') && !is_call(&tokens, at) {
                let mut selector = Selector {
                    metric: word.clone(),
                    ..Selector::default()
                };
                if opens('{') {
                    let end = closing(&tokens, at, '}');
                    selector.matchers = matchers(&tokens[at + 1..end]);
                    at = end;
                }
                query.selectors.push(selector);
            }
        }
        query
    }
}

/// Whether an aggregation's grouping comes between its name and its arguments: `sum by (a) (...)`.
fn is_call(tokens: &[Token], at: usize) -> bool {
    matches!(tokens.get(at), Some(Token::Word(word)) if word == "by" || word == "without")
}

fn closing(tokens: &[Token], from: usize, sign: char) -> usize {
    let rest = tokens[from..].iter();
    from + rest.take_while(|it| **it != Token::Sign(sign)).count()
}

fn matchers(tokens: &[Token]) -> Vec<(String, String, String)> {
    tokens
        .split(|it| *it == Token::Sign(','))
        .filter_map(|matcher| match matcher {
            [Token::Word(label), operator @ .., Token::Text(value)] => {
                let operator = operator.iter().filter_map(|it| match it {
                    Token::Sign(sign) => Some(*sign),
                    _ => None,
                });
                Some((label.clone(), operator.collect(), value.clone()))
            }
            _ => None,
        })
        .collect()
}

fn tokens(text: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let word = |it: &str| {
            it.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':'))
                .unwrap_or(it.len())
        };
        if first == '"' {
            let end = rest[1..].find('"').expect("a string ends") + 1;
            tokens.push(Token::Text(rest[1..end].to_owned()));
            rest = &rest[end + 1..];
        } else if first.is_ascii_digit() || first == '$' {
            rest = &rest[1 + word(&rest[1..])..];
        } else if first.is_ascii_alphabetic() || first == '_' {
            let end = word(rest);
            tokens.push(Token::Word(rest[..end].to_owned()));
            rest = &rest[end..];
        } else {
            if !first.is_whitespace() {
                tokens.push(Token::Sign(first));
            }
            rest = &rest[first.len_utf8()..];
        }
    }
    tokens
}

#[test]
fn metrics_and_labels_are_told_from_functions() {
    let query = Query::parse(
        "sum by (job, le) (rate(a_total{x=\"1\",y!~\"u|v\"}[5m])) / 2.5 > 0 and on (instance) \
         (b unless b offset 10m) * on (job) group_left (node) c{node=~\"$node\"}[$__range]",
    );
    let matcher = |label: &str, operator: &str, value: &str| {
        (label.to_owned(), operator.to_owned(), value.to_owned())
    };
    let selector = |metric: &str, matchers| Selector {
        metric: metric.to_owned(),
        matchers,
    };
    assert_eq!(
        query.selectors,
        [
            selector(
                "a_total",
                vec![matcher("x", "=", "1"), matcher("y", "!~", "u|v")]
            ),
            selector("b", vec![]),
            selector("b", vec![]),
            selector("c", vec![matcher("node", "=~", "$node")]),
        ]
    );
    let labels: Vec<_> = query.labels.iter().map(String::as_str).collect();
    assert_eq!(labels, ["instance", "job", "le", "node"]);
}
