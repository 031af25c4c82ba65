//! Kyverno's `{{ }}` expressions, as far as they speak of images: read into a tree that gives, for an image, what
//! Kyverno would make of it.

use super::image::{self, Field};
use imageswap_policy::yaml::Node;
use regex_automata::meta;
use std::collections::HashMap;

/// Deeper nesting is nothing that a person wrote.
const DEPTH: usize = 24;
/// Size of a compiled expression; Kyverno knows no limit, and nothing that is written by hand comes near.
const REGEX_SIZE: usize = 1 << 20;

/// An expression, or a text with expressions in it.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Expression {
    /// A text, as it stands.
    Text(String),
    /// The image of the container that is looked at, as written.
    Image,
    /// A part of that image.
    Field(Field),
    /// Several, one after the other.
    Join(Vec<Expression>),
    /// A function of Kyverno or JMESPath that gives a text.
    Call(Function, Vec<Expression>),
    /// Something that holds of the image, or not.
    Test(Test, Vec<Expression>),
    /// Anything else, as written.
    Unknown(String),
}

/// Functions whose result is a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Function {
    /// `regex_replace_all(pattern, subject, replacement)`, where `$1` is a group.
    RegexReplaceAll,
    /// The same with a replacement that is taken as it stands.
    RegexReplaceAllLiteral,
    /// `replace_all(subject, old, new)`.
    ReplaceAll,
    /// `image_normalize(subject)`.
    Normalize,
    /// `trim_prefix(subject, prefix)`.
    TrimPrefix,
}

/// Functions whose result is true or false.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Test {
    /// `starts_with(subject, prefix)`.
    StartsWith,
    /// `contains(subject, part)`.
    Contains,
    /// `regex_match(pattern, subject)`.
    RegexMatch,
}

/// The variables that a rule defines under `context`.
#[derive(Debug, Clone, Default)]
pub(super) struct Variables(HashMap<String, Variable>);

#[derive(Debug, Clone)]
enum Variable {
    /// Data fetched from the registry about the image that is looked at.
    Fetched,
    Value(Expression),
    Unknown,
}

impl Variables {
    /// These variables and those of a `context` list. Later ones may use earlier ones.
    pub(super) fn with(&self, context: Option<&Node>) -> Self {
        let mut all = self.clone();
        for entry in context.map_or(&[][..], Node::items) {
            let Some(name) = entry.get("name").and_then(Node::as_str) else {
                continue;
            };
            let variable = all.read(entry);
            all.0.insert(name.to_owned(), variable);
        }
        all
    }

    fn read(&self, entry: &Node) -> Variable {
        if let Some(fetched) = entry.get("imageRegistry") {
            let reference = fetched.get("reference").and_then(Node::as_str);
            let of_image = reference.is_some_and(|it| self.read_text(it) == Expression::Image);
            return if of_image && fetched.get("jmesPath").is_none() {
                Variable::Fetched
            } else {
                Variable::Unknown
            };
        }
        let Some(variable) = entry.get("variable") else {
            return Variable::Unknown;
        };
        match (variable.get("value"), variable.get("jmesPath")) {
            (Some(value), None) => value
                .as_str()
                .map_or(Variable::Unknown, |it| Variable::Value(self.read_text(it))),
            (None, Some(path)) => path.as_str().map_or(Variable::Unknown, |it| {
                Variable::Value(self.read_inner(it, None, DEPTH))
            }),
            _ => Variable::Unknown,
        }
    }

    /// Reads a text with `{{ }}` in it.
    pub(super) fn read_text(&self, text: &str) -> Expression {
        self.template(text, DEPTH)
    }

    fn template(&self, text: &str, depth: usize) -> Expression {
        if depth == 0 {
            return Expression::Unknown(text.to_owned());
        }
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some(open) = rest.find("{{") {
            let Some(length) = closing(&rest[open..]) else {
                break;
            };
            if open > 0 {
                parts.push(Expression::Text(rest[..open].to_owned()));
            }
            let inner = &rest[open + 2..open + length - 2];
            parts.push(self.read_inner(inner, None, depth - 1));
            rest = &rest[open + length..];
        }
        if !rest.is_empty() || parts.is_empty() {
            parts.push(Expression::Text(rest.to_owned()));
        }
        join(parts)
    }

    /// Reads what stands between `{{` and `}}`; `piped` is what `@` means after a `|`.
    fn read_inner(&self, text: &str, piped: Option<&Expression>, depth: usize) -> Expression {
        let unknown = || Expression::Unknown(text.trim().to_owned());
        if depth == 0 {
            return unknown();
        }
        let text = without_default(text).trim();
        if let Some((before, after)) = split_last(text, "|") {
            // `| [0]` picks of several images the first, and every image is looked at anyway.
            let before = self.read_inner(before, piped, depth - 1);
            return match after.trim() {
                "[0]" | "to_string(@)" => before,
                after => self.read_inner(after, Some(&before), depth - 1),
            };
        }
        if text == "@" {
            return piped.cloned().unwrap_or(Expression::Image);
        }
        if let Some(quoted) = quoted(text) {
            return self.template(&quoted, depth - 1);
        }
        if let Some((name, arguments, rest)) = call(text) {
            let arguments: Vec<_> = arguments
                .iter()
                .map(|it| self.read_inner(it, piped, depth - 1))
                .collect();
            return function(name, arguments, rest).unwrap_or_else(unknown);
        }
        self.path(text).unwrap_or_else(unknown)
    }

    /// A path into what Kyverno knows: the image, a part of it, or a variable.
    fn path(&self, text: &str) -> Option<Expression> {
        let compact: String = text.chars().filter(|it| !it.is_whitespace()).collect();
        let trimmed = compact.trim_end_matches("[]").trim_end_matches("[0]");
        if matches!(trimmed, "element.image" | "element0.image") {
            return Some(Expression::Image);
        }
        if let Some(rest) = trimmed.strip_prefix("request.object.spec.") {
            let of_containers =
                rest.contains("ontainers") && rest.rsplit('.').next() == Some("image");
            return of_containers.then_some(Expression::Image);
        }
        if trimmed.starts_with("images.") {
            let (_, last) = trimmed.rsplit_once('.')?;
            return Field::of_images(last).map(Expression::Field);
        }
        let (name, field) = match trimmed.split_once('.') {
            Some((name, field)) => (name, Some(field)),
            None => (trimmed, None),
        };
        match (self.0.get(name)?, field) {
            (Variable::Fetched, Some("image")) => Some(Expression::Image),
            (Variable::Fetched, Some(field)) => Field::of_fetched(field).map(Expression::Field),
            (Variable::Value(value), None) => Some(value.clone()),
            _ => None,
        }
    }
}

impl Expression {
    /// The text that Kyverno would put here for this image; `None` where that cannot be said.
    pub(super) fn evaluate(&self, image: &str) -> Option<String> {
        match self {
            Self::Text(text) => Some(text.clone()),
            Self::Image => Some(image.to_owned()),
            Self::Field(field) => Some(field.of(image)),
            Self::Join(parts) => parts.iter().map(|it| it.evaluate(image)).collect(),
            Self::Call(function, arguments) => {
                let arguments: Option<Vec<_>> =
                    arguments.iter().map(|it| it.evaluate(image)).collect();
                function.apply(&arguments?)
            }
            Self::Test(..) | Self::Unknown(_) => None,
        }
    }

    /// The text, where it has no expression in it.
    pub(super) fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The first part of it that was not understood, as written.
    pub(super) fn unknown(&self) -> Option<&str> {
        match self {
            Self::Unknown(text) => Some(text),
            Self::Join(parts) | Self::Call(_, parts) | Self::Test(_, parts) => {
                parts.iter().find_map(Self::unknown)
            }
            Self::Text(_) | Self::Image | Self::Field(_) => None,
        }
    }

    /// Whether the image, or a part of it, goes into the result.
    pub(super) fn uses_image(&self) -> bool {
        match self {
            Self::Image | Self::Field(_) => true,
            Self::Join(parts) | Self::Call(_, parts) | Self::Test(_, parts) => {
                parts.iter().any(Self::uses_image)
            }
            Self::Text(_) | Self::Unknown(_) => false,
        }
    }

    /// Every text in it, patterns and replacements too.
    pub(super) fn texts<'a>(&'a self, into: &mut Vec<&'a str>) {
        match self {
            Self::Text(text) => into.push(text),
            Self::Join(parts) | Self::Call(_, parts) | Self::Test(_, parts) => {
                for part in parts {
                    part.texts(into);
                }
            }
            Self::Image | Self::Field(_) | Self::Unknown(_) => {}
        }
    }
}

impl Function {
    fn apply(self, arguments: &[String]) -> Option<String> {
        Some(match (self, arguments) {
            (Self::RegexReplaceAll, [pattern, subject, to]) => {
                replace(&regex(pattern)?, subject, to, true)
            }
            (Self::RegexReplaceAllLiteral, [pattern, subject, to]) => {
                replace(&regex(pattern)?, subject, to, false)
            }
            (Self::ReplaceAll, [subject, old, new]) => subject.replace(old.as_str(), new),
            (Self::Normalize, [subject]) => image::normalize(subject),
            (Self::TrimPrefix, [subject, prefix]) => subject
                .strip_prefix(prefix.as_str())
                .unwrap_or(subject)
                .to_owned(),
            _ => return None,
        })
    }
}

/// Compiles a regular expression; Go's syntax and this one agree in all that policies use.
pub(super) fn regex(pattern: &str) -> Option<meta::Regex> {
    meta::Regex::builder()
        .configure(meta::Config::new().nfa_size_limit(Some(REGEX_SIZE)))
        .build(pattern)
        .ok()
}

fn replace(regex: &meta::Regex, subject: &str, to: &str, groups: bool) -> String {
    let mut result = String::new();
    let mut end = 0;
    for captures in regex.captures_iter(subject) {
        let Some(found) = captures.get_match() else {
            continue;
        };
        result.push_str(&subject[end..found.start()]);
        if groups {
            captures.interpolate_string_into(subject, to, &mut result);
        } else {
            result.push_str(to);
        }
        end = found.end();
    }
    result.push_str(&subject[end..]);
    result
}

/// `rest` is what follows the closing parenthesis.
fn function(name: &str, mut arguments: Vec<Expression>, rest: &str) -> Option<Expression> {
    let gives = |function, count| (count, Ok(function));
    let test = |test| (2, Err(test));
    let (count, function) = match name {
        "regex_replace_all" => gives(Function::RegexReplaceAll, 3),
        "regex_replace_all_literal" => gives(Function::RegexReplaceAllLiteral, 3),
        "replace_all" => gives(Function::ReplaceAll, 3),
        "image_normalize" => gives(Function::Normalize, 1),
        "trim_prefix" => gives(Function::TrimPrefix, 2),
        "starts_with" => test(Test::StartsWith),
        "contains" => test(Test::Contains),
        "regex_match" => test(Test::RegexMatch),
        "to_string" if arguments.len() == 1 && rest.is_empty() => return arguments.pop(),
        // What stands before the first `/` is how people spell the registry.
        "split" if rest == "[0]" => {
            let by_slash =
                matches!(&arguments[..], [Expression::Image, by] if by.as_text() == Some("/"));
            return by_slash.then_some(Expression::Field(Field::Registry));
        }
        _ => return None,
    };
    if arguments.len() != count || !rest.is_empty() {
        return None;
    }
    Some(match function {
        Ok(function) => Expression::Call(function, arguments),
        Err(test) => Expression::Test(test, arguments),
    })
}

fn join(mut parts: Vec<Expression>) -> Expression {
    // Texts that variables stand for become one with their neighbours.
    let mut all: Vec<Expression> = Vec::new();
    for part in parts.drain(..) {
        let inner = match part {
            Expression::Join(inner) => inner,
            part => vec![part],
        };
        for part in inner {
            match (all.last_mut(), part) {
                (Some(Expression::Text(before)), Expression::Text(text)) => before.push_str(&text),
                (_, part) => all.push(part),
            }
        }
    }
    if all.len() == 1 {
        all.remove(0)
    } else {
        Expression::Join(all)
    }
}

/// The length of the `{{ }}` that `text` begins with, those inside it included.
fn closing(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut depth = 0_usize;
    let mut at = 0;
    while at < bytes.len() {
        match &bytes[at..] {
            [b'{', b'{', ..] => (depth, at) = (depth + 1, at + 2),
            [b'}', b'}', ..] => {
                at += 2;
                depth = depth.checked_sub(1)?;
                if depth == 0 {
                    return Some(at);
                }
            }
            _ => at += 1,
        }
    }
    None
}

/// The positions in `text` that lie in no quotes, parentheses, brackets or braces.
fn outside(text: &str) -> impl Iterator<Item = usize> {
    let mut quote = None;
    let mut depth = 0_i32;
    let mut escaped = false;
    text.char_indices().filter_map(move |(at, it)| {
        if std::mem::take(&mut escaped) {
            return None;
        }
        match (quote, it) {
            (Some(_), '\\') => escaped = true,
            (Some(open), it) if open == it => quote = None,
            (Some(_), _) => {}
            (None, '\'' | '"' | '`') => quote = Some(it),
            (None, '(' | '[' | '{') => depth += 1,
            (None, ')' | ']' | '}') => depth -= 1,
            (None, _) => return (depth == 0).then_some(at),
        }
        None
    })
}

/// What stands before ` || `, which is for what is missing; images are not.
fn without_default(text: &str) -> &str {
    let mut places = outside(text).filter(|&at| text[at..].starts_with("||"));
    places.next().map_or(text, |at| &text[..at])
}

fn split_last<'a>(text: &'a str, separator: &str) -> Option<(&'a str, &'a str)> {
    let at = outside(text)
        .filter(|&at| text[at..].starts_with(separator))
        .last()?;
    Some((&text[..at], &text[at + separator.len()..]))
}

/// The text of a literal: `'raw'`, or JSON between backticks.
fn quoted(text: &str) -> Option<String> {
    let within = |by: char| -> Option<&str> {
        let inner = text.strip_prefix(by)?.strip_suffix(by)?;
        // Two literals with something between them are not one.
        let mut escaped = false;
        let whole = inner.chars().all(|it| {
            let ends = it == by && !escaped;
            escaped = it == '\\' && !escaped;
            !ends
        });
        whole.then_some(inner)
    };
    if let Some(raw) = within('\'') {
        return Some(raw.replace("\\'", "'"));
    }
    match serde_json::from_str(within('`')?) {
        Ok(serde_json::Value::String(text)) => Some(text),
        _ => None,
    }
}

/// `name(arguments)rest`, the arguments split at their commas.
fn call(text: &str) -> Option<(&str, Vec<&str>, &str)> {
    let open = text.find('(')?;
    let name = &text[..open];
    let is_name = |it: char| it.is_ascii_alphanumeric() || it == '_';
    if name.is_empty() || !name.chars().all(is_name) {
        return None;
    }
    let inner = &text[open + 1..];
    let mut quote = None;
    let mut depth = 0_usize;
    let mut escaped = false;
    let close = inner.char_indices().find_map(|(at, it)| {
        if std::mem::take(&mut escaped) {
            return None;
        }
        match (quote, it) {
            (Some(_), '\\') => escaped = true,
            (Some(open), it) if open == it => quote = None,
            (None, '\'' | '"' | '`') => quote = Some(it),
            (None, '(') => depth += 1,
            (None, ')') if depth == 0 => return Some(at),
            (None, ')') => depth -= 1,
            _ => {}
        }
        None
    })?;
    let within = &inner[..close];
    let mut arguments = Vec::new();
    let mut begin = 0;
    for at in outside(within).filter(|&at| within[at..].starts_with(',')) {
        arguments.push(within[begin..at].trim());
        begin = at + 1;
    }
    arguments.push(within[begin..].trim());
    Some((name, arguments, inner[close + 1..].trim()))
}
