//! Parses a pattern, or reports the mistake and its place.

use super::wild::Wild;
use super::{Host, Pattern, Segment};
use crate::reference::{
    DEFAULT_REGISTRY, Reference, ReferenceError, canonical_registry, is_registry, split_port,
};
use std::ops::Range;

/// Longest text that is read: a reference has a registry, a path of 255, a tag of 128 and a digest.
const MAX_LENGTH: usize = 1024;

/// Why a text is not a pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct PatternError {
    /// Stable name of the mistake.
    pub(crate) code: &'static str,
    /// Where, in bytes of the text.
    pub(crate) span: Range<usize>,
    /// What was expected.
    pub(crate) message: String,
    /// What to write instead, if known.
    pub(crate) help: Option<String>,
}

impl Pattern {
    /// Parses a pattern.
    ///
    /// # Errors
    /// The first mistake; also if no reference at all could match.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        check_text(text)?;
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest)),
            None => (text, None),
        };
        if let Some(slash) = digest.and_then(|it| it.find('/')) {
            let span = 0..rest.len() + 1 + slash;
            let message = "expected a digest after `@`, and nothing after that: an image reference names no user";
            return Err(error("pattern-syntax", span, message)
                .with_help("remove what is before the `@`, and the `@`"));
        }
        let last = rest.rfind('/').map_or(0, |it| it + 1);
        let (name, tag) = match rest[last..].find(':') {
            Some(colon) => (&rest[..last + colon], Some(&rest[last + colon + 1..])),
            None => (rest, None),
        };
        check_name(name, tag)?;
        let (host, path) = parse_name(name)?;
        let pattern = Self {
            text: text.to_owned(),
            host,
            path,
            tag: tag.map(Wild::new),
            digest: digest.map(Wild::new),
        };
        pattern.check_that_something_matches()?;
        Ok(pattern)
    }

    /// Tries the pattern on texts made from it: a pattern that no legal reference can match is a
    /// mistake.
    fn check_that_something_matches(&self) -> Result<(), PatternError> {
        let first = match self.try_sample("a") {
            Ok(()) => return Ok(()),
            Err(why) => why,
        };
        if self.try_sample("").is_ok() {
            return Ok(());
        }
        let mut found = error(
            "never-matches",
            0..self.text.len(),
            &format!("no image reference can match `{}`: {first}", self.text),
        );
        found.help = Some(if first == ReferenceError::Uppercase {
            format!("write `{}`", self.text.to_lowercase())
        } else {
            "write `registry/path`, with `:tag` or `@digest` if one is meant".to_owned()
        });
        Err(found)
    }

    fn try_sample(&self, filler: &str) -> Result<(), ReferenceError> {
        let sample = self.sample(filler);
        let reference = Reference::parse(&sample)?;
        if self.matches(&reference) {
            Ok(())
        } else {
            Err(ReferenceError::InvalidFormat)
        }
    }

    /// A text that matches the pattern, with `filler` for each wildcard.
    pub(super) fn sample(&self, filler: &str) -> String {
        let fill = |wild: &Wild, filler: &str| wild.as_str().replace('*', filler);
        let part = |it: &Segment| match it {
            Segment::Many => "a".to_owned(),
            Segment::One(wild) if wild.is_any() => "a".to_owned(),
            Segment::One(wild) => fill(wild, filler),
        };
        let mut text = match &self.host {
            Host::Everything | Host::Any => "a.a".to_owned(),
            Host::Exact(host) => host.clone(),
            Host::Labels { labels, port } => {
                let labels: Vec<_> = labels.iter().map(part).collect();
                let number = port.as_ref().map(|it| format!(":{}", fill(it, "1")));
                format!("{}{}", labels.join("."), number.unwrap_or_default())
            }
        };
        for segment in &self.path {
            text = format!("{text}/{}", part(segment));
        }
        if self.path.is_empty() {
            text.push_str("/a");
        }
        if let Some(tag) = &self.tag {
            let tag = if tag.is_any() {
                "a".to_owned()
            } else {
                fill(tag, filler)
            };
            text = format!("{text}:{tag}");
        }
        if let Some(digest) = &self.digest {
            text = format!("{text}@{}", sample_digest(digest.as_str()));
        }
        text
    }
}

/// A digest that matches `pattern`, if any: the first `*` is replaced by all missing digits.
fn sample_digest(pattern: &str) -> String {
    const ALGORITHM: &str = "sha256:";
    let known = pattern.strip_prefix(ALGORITHM).unwrap_or(pattern);
    let known = if known == pattern && pattern.starts_with('*') {
        &pattern[1..]
    } else {
        known
    };
    let literal = known.len() - known.matches('*').count();
    let digits = "a".repeat(64_usize.saturating_sub(literal));
    let text = if pattern.starts_with(ALGORITHM) {
        pattern.to_owned()
    } else {
        pattern.replacen('*', "sha256:*", 1)
    };
    text.replacen('*', &digits, 1).replace('*', "")
}

/// Mistakes independent of the parts.
fn check_text(text: &str) -> Result<(), PatternError> {
    if text.is_empty() {
        return Err(
            error("pattern-syntax", 0..0, "expected a pattern, found nothing").with_help(
                "write `**` for every image, or a pattern such as `registry.example.com/**`",
            ),
        );
    }
    if text.len() > MAX_LENGTH {
        let message = format!("expected at most {MAX_LENGTH} characters");
        return Err(
            error("pattern-syntax", 0..text.len(), &message).with_help("shorten it with `**`")
        );
    }
    if let Some((scheme, rest)) = text.split_once("://") {
        let message = "an image reference has no scheme, so nothing can match";
        let rest = rest.trim_end_matches('/');
        let help = match rest.strip_suffix("/*") {
            Some(host) => format!("write `{host}/**`"),
            None if rest.contains('/') => format!("write `{rest}`"),
            None => format!("write `{rest}/**`"),
        };
        return Err(error("scheme", 0..scheme.len() + 3, message).with_help(help));
    }
    let odd = |it: char| !(it.is_ascii_alphanumeric() || "-._/:@*[]".contains(it));
    if let Some((at, char)) = text.char_indices().find(|(_, it)| odd(*it)) {
        let span = at..at + char.len_utf8();
        let (message, help) = match char {
            '!' if at == 0 => (
                "`!` does not negate a pattern".to_owned(),
                Some(format!(
                    "list `{}` under `denied` to refuse its images",
                    &text[1..]
                )),
            ),
            '?' | '{' | '}' | '!' | '|' | '^' | '$' | '(' | ')' | '+' | ',' | '\\' => (
                format!("`{char}` is not a wildcard here: there are `*` and `**`"),
                Some("write one pattern for each case, or a rule with `regex`".to_owned()),
            ),
            _ if char.is_whitespace() => (
                "expected no white space: a pattern is one text".to_owned(),
                Some(if text.trim().contains(char::is_whitespace) {
                    "write one pattern for each item of the list".to_owned()
                } else {
                    format!("write `{}`", text.trim())
                }),
            ),
            _ if !char.is_ascii() => (
                format!(
                    "no image reference holds `{char}` (U+{:04X})",
                    u32::from(char)
                ),
                Some("type it again with letters from a to z".to_owned()),
            ),
            _ => (
                format!("no image reference holds `{}`", char.escape_debug()),
                Some("remove it, or write `*` for any characters".to_owned()),
            ),
        };
        let mut found = error("pattern-syntax", span, &message);
        found.help = help;
        return Err(found);
    }
    Ok(())
}

/// Bare names that people write when they mean something else.
fn check_name(name: &str, tag: Option<&str>) -> Result<(), PatternError> {
    let whole = 0..name.len();
    if name == "*" {
        let message = "`*` alone would be an official image of docker.io with any name";
        let tag = tag.map(|it| format!(":{it}")).unwrap_or_default();
        let help =
            format!("write `**{tag}` for everything, `docker.io/library/*{tag}` for those images");
        return Err(error("pattern-syntax", whole, message).with_help(help));
    }
    let is_port = tag.is_some_and(|it| it.bytes().all(|it| it.is_ascii_digit()) && it.len() > 2);
    if !name.contains('/') && name != "**" && (name.contains('.') || name == "localhost" && is_port)
    {
        let message = format!("`{name}` without a path is an image of docker.io, not a registry");
        let host = match tag {
            Some(port) if is_port => format!("{name}:{port}"),
            _ => name.to_owned(),
        };
        let help = format!(
            "write `{host}/**` for all of the registry, or `docker.io/library/{name}` for the image"
        );
        return Err(error("no-path", whole, &message).with_help(help));
    }
    Ok(())
}

fn parse_name(name: &str) -> Result<(Host, Vec<Segment>), PatternError> {
    let first = name.split('/').next().unwrap_or(name);
    let after = name.get(first.len() + 1..);
    let (host, path) = match (first, after) {
        ("**", None) => return Ok((Host::Everything, Vec::new())),
        ("**", Some(path)) => (Host::Everything, path),
        ("*", Some(path)) => (Host::Any, path),
        (_, Some(path)) if is_registry(first) => (parse_host(first)?, path),
        _ => (Host::Exact(DEFAULT_REGISTRY.to_owned()), name),
    };
    let mut at = name.len() - path.len();
    let mut segments = Vec::new();
    for text in path.split('/') {
        segments.push(parse_segment(name, text, at)?);
        at += text.len() + 1;
    }
    // As in references, a bare name on docker.io is an official image.
    if host == Host::Exact(DEFAULT_REGISTRY.to_owned()) && matches!(segments[..], [Segment::One(_)])
    {
        segments.insert(0, Segment::One(Wild::new("library")));
    }
    Ok((host, segments))
}

fn parse_host(text: &str) -> Result<Host, PatternError> {
    if !text.contains('*') {
        return Ok(Host::Exact(canonical_registry(text).to_owned()));
    }
    let (host, port) = split_port(text);
    let mut at = 0;
    let mut labels = Vec::new();
    for label in host.split('.') {
        let segment = parse_segment(text, label, at)?;
        at += label.len() + 1;
        // In the middle `**` may span nothing, but a label must not be empty.
        if segment == Segment::Many && at <= host.len() {
            labels.push(Segment::One(Wild::new("*")));
        }
        labels.push(segment);
    }
    Ok(Host::Labels {
        labels,
        port: port.map(Wild::new),
    })
}

/// A path segment or host label, which begins at `at` of `whole`.
fn parse_segment(whole: &str, text: &str, at: usize) -> Result<Segment, PatternError> {
    if text == "**" {
        return Ok(Segment::Many);
    }
    let span = at..at + text.len();
    if text.contains("**") {
        let message = "`**` has to be alone between two `/` (or `.` of a host)";
        return Err(error("pattern-syntax", span, message)
            .with_help(format!("write `{}`", text.replace("**", "*"))));
    }
    if text.is_empty() {
        let mut found = error(
            "pattern-syntax",
            at.saturating_sub(1)..at.min(whole.len()).max(1),
            "expected something between two `/` (or `.` of a host)",
        )
        .with_help("remove one of the two");
        if let Some(start) = whole.strip_suffix('/').filter(|it| !it.ends_with('/')) {
            "expected something after the last `/`".clone_into(&mut found.message);
            found.help = Some(if start.ends_with('*') {
                format!("write `{start}`")
            } else {
                format!("write `{start}/**` for all that lies there")
            });
        }
        return Err(found);
    }
    Ok(Segment::One(Wild::new(text)))
}

fn error(code: &'static str, span: Range<usize>, message: &str) -> PatternError {
    PatternError {
        code,
        span,
        message: message.to_owned(),
        help: None,
    }
}

impl PatternError {
    fn with_help(self, help: impl Into<String>) -> Self {
        Self {
            help: Some(help.into()),
            ..self
        }
    }
}
