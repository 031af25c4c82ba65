//! What is wrong with a maps file, or likely is: one function per check, one message per finding.

use super::Options;
use super::compile::{LIBRARY_KEY, target_prefix};
use super::lines::{Entry, Line, Malformed, Section};
use crate::decision::Scope;
use crate::reference::{DEFAULT_REGISTRY, Reference, is_registry, split_port};
use crate::{Diagnostic, Diagnostics, Policy, Severity};
use std::collections::HashMap;
use std::ops::Range;

/// Collects the findings about one text.
pub(super) struct Checker<'a> {
    source: &'a str,
    /// How bad a line is that can do nothing useful.
    unusable: Severity,
    found: Vec<Diagnostic>,
}

/// Where a finding is.
#[derive(Debug, Clone)]
struct At<'a> {
    line: usize,
    text: &'a str,
    span: Range<usize>,
}

impl<'a> Checker<'a> {
    pub(super) fn new(source: &'a str, options: &Options) -> Self {
        let unusable = if options.tolerate_unusable_lines {
            Severity::Warning
        } else {
            Severity::Error
        };
        Self {
            source,
            unusable,
            found: Vec::new(),
        }
    }

    /// The findings in order of place.
    pub(super) fn finish(mut self) -> Diagnostics {
        self.found.sort_by_key(|it| (it.line, it.column));
        Diagnostics(self.found)
    }

    /// A line that is no key and value.
    pub(super) fn malformed(&mut self, line: &Line<'_>, why: Malformed) {
        let at = At {
            line: line.number,
            text: line.text,
            span: line.body.span(0),
        };
        let body = line.body.text();
        let written: String = line
            .text
            .chars()
            .take(at.span.end)
            .skip(at.span.start)
            .collect();
        let meant = written
            .split_once([';', '='])
            .or_else(|| written.split_once(' '));
        match why {
            Malformed::NoSeparator => self.unusable(
                &at,
                "no-separator",
                "expected `key::value`, found a line without `::`".to_owned(),
                Some(match meant {
                    Some((key, value)) => format!("write `{}::{}`", key.trim(), value.trim()),
                    None => format!(
                        "write `{body}::` to keep what is under it, or begin a comment with `#`"
                    ),
                }),
            ),
            Malformed::ManySeparators => {
                let help = match body.split_once("::") {
                    Some(_) => "only one `::` may stand in a line".to_owned(),
                    None => match body.split_once(':') {
                        // `host:5000:value` reads best with its first number as a port.
                        Some((host, rest)) if rest.starts_with(|it: char| it.is_ascii_digit()) => {
                            let (port, value) = rest.split_once(':').unwrap_or((rest, ""));
                            format!("write `{host}:{port}::{value}`")
                        }
                        Some((key, value)) => format!("write `{key}::{value}`"),
                        None => "write `key::value`".to_owned(),
                    },
                };
                let message = "expected one `::` between key and value, found more than one way to split the line";
                self.unusable(&at, "many-separators", message.to_owned(), Some(help));
            }
        }
    }

    /// One entry by itself.
    pub(super) fn entry(&mut self, entry: &Entry<'_>) {
        self.key(entry);
        if entry.section == Section::NoSwap {
            self.items(entry);
        } else {
            self.value(entry);
        }
    }

    /// What shows only in the text as a whole.
    pub(super) fn whole(&mut self, entries: &[Entry<'_>]) {
        let mut first: HashMap<(u8, &str), &Entry<'_>> = HashMap::new();
        for entry in entries {
            if let Some(earlier) = first.insert((entry.section as u8, &entry.key), entry) {
                let message = format!(
                    "this key stands in line {} already; only this value counts",
                    earlier.line
                );
                self.warn(&At::key(entry), "duplicate-key", message, None);
            }
        }
        let default = entries.iter().rfind(|it| it.section == Section::Default);
        let plain = entries
            .iter()
            .find(|it| it.section == Section::Plain || it.section == Section::NoSwap);
        if let Some(plain) = plain.filter(|_| default.is_none()) {
            self.warn(
                &At::key(plain),
                "missing-default",
                "expected a `default` key: without one ImageSwap applies no registry key"
                    .to_owned(),
                Some(
                    "add `default::` to leave alone what no key names, or give it a registry"
                        .to_owned(),
                ),
            );
        }
        let hub = |it: &Entry<'_>| {
            it.section == Section::Plain && (it.key == DEFAULT_REGISTRY || it.key == LIBRARY_KEY)
        };
        if default.is_some_and(|it| it.value.is_empty()) && !entries.iter().any(hub) {
            let plain = entries
                .iter()
                .filter(|it| it.section == Section::Plain && !it.value.is_empty());
            for entry in plain.filter(|it| is_registry(&it.key) && !it.key.contains(['.', '/'])) {
                let message = "expected a registry with a dot: beside an empty `default`, ImageSwap leaves this one alone";
                self.warn(&At::key(entry), "unused-key", message.to_owned(), None);
            }
        }
    }

    /// A target that the same text moves its images away from.
    pub(super) fn moved_target(&mut self, entry: &Entry<'_>, policy: &Policy) {
        if entry.value.is_empty() || matches!(entry.section, Section::Default | Section::NoSwap) {
            return;
        }
        let prefix = target_prefix(&entry.value);
        let key = entry.key.strip_suffix("/library").unwrap_or(&entry.key);
        let probe = match entry.section {
            Section::Exact => entry.value.clone(),
            _ if prefix.ends_with('-') => format!("{prefix}{}/image", split_port(key).0),
            _ => format!("{prefix}/image"),
        };
        let decision = policy.decide(Scope::Node, &probe);
        if let Some(rule) = decision.rule.filter(|_| decision.swapped()) {
            let message = format!(
                "images that come here move on to `{}`, by rule `{rule}`",
                decision.result
            );
            let help = format!(
                "add `{}::` to keep them here",
                Reference::parse(&probe).map_or(prefix, |it| it.registry())
            );
            self.warn(&At::value(entry), "moved-target", message, Some(help));
        }
    }

    /// `IMAGE_PREFIX`.
    pub(super) fn prefix(&mut self, text: &str) {
        let at = At {
            line: 1,
            text,
            span: 0..text.chars().count(),
        };
        self.prefix_value(&at, text, "x");
    }

    fn key(&mut self, entry: &Entry<'_>) {
        let at = At::key(entry);
        let key = entry.key.as_str();
        if key.is_empty() {
            let message = "expected a key before the separator, found nothing".to_owned();
            return self.unusable(&at, "empty-key", message, None);
        }
        match entry.section {
            Section::Default | Section::NoSwap | Section::Replace => {}
            Section::Exact => {
                if let Err(why) = Reference::parse(key) {
                    self.warn(
                        &at,
                        "unused-key",
                        format!("no image is called `{key}`: {why}"),
                        None,
                    );
                }
            }
            Section::Plain => self.registry_key(&at, key),
        }
    }

    fn registry_key(&mut self, at: &At<'_>, key: &str) {
        let unused = |why: &str| {
            format!("expected a registry, found `{key}`, which {why}; this line is never used")
        };
        if key.starts_with('[') && !key.starts_with("[:") && key.contains(']') && !key.contains(':')
        {
            let message = format!("expected `[EXACT]` or `[REPLACE]`, found `{key}`");
            return self.unusable(at, "unknown-section", message, None);
        }
        let lower = key.to_ascii_lowercase();
        if lower == "default" || lower == "noswap_wildcards" {
            return self.warn(
                at,
                "key-case",
                unused("is not in lower case"),
                Some(format!("write `{lower}`")),
            );
        }
        if key == LIBRARY_KEY {
            return;
        }
        let help = if let Some(registry) = key.strip_suffix("/library") {
            Some(format!(
                "only `{LIBRARY_KEY}` is known; write `[REPLACE]{registry}/library/*::...`"
            ))
        } else {
            key.contains('/')
                .then(|| format!("write `[REPLACE]{}/*::...`", key.trim_end_matches('/')))
        };
        if key.contains('/') {
            self.warn(at, "unused-key", unused("holds a path"), help);
        } else if key.contains('*') {
            self.warn(
                at,
                "unused-key",
                unused("is a pattern"),
                Some(format!("write `[REPLACE]{key}/*::...`")),
            );
        } else if !is_registry(key) {
            self.warn(
                at,
                "unused-key",
                unused("has neither a `.` nor a port"),
                None,
            );
        } else if Reference::parse(&format!("{key}/x")).is_err() {
            self.warn(at, "unused-key", unused("is no host"), None);
        } else if key != lower {
            let message = format!("`{key}` matches only images that are written in this case");
            self.warn(at, "key-case", message, Some(format!("write `{lower}`")));
        }
    }

    fn value(&mut self, entry: &Entry<'_>) {
        let at = At::value(entry);
        match entry.section {
            Section::Exact if entry.value.is_empty() => {
                let message =
                    "expected an image; without one the image is kept as it is".to_owned();
                self.warn(&at, "empty-value", message, None);
            }
            Section::Exact => {
                if let Err(why) = Reference::parse(&entry.value) {
                    let message = format!("expected an image, found `{}`: {why}", entry.value);
                    self.unusable(&at, "unusable-value", message, help_for(&entry.value));
                }
            }
            Section::Replace => self.prefix_value(&at, &entry.value, "/x"),
            Section::Default | Section::Plain | Section::NoSwap => {
                self.prefix_value(&at, &entry.value, "x");
            }
        }
    }

    /// A value that images are appended to; `sample` is what may follow a `-`.
    fn prefix_value(&mut self, at: &At<'_>, value: &str, sample: &str) {
        let prefix = target_prefix(value);
        let joined = if prefix.ends_with('-') {
            format!("{prefix}{sample}")
        } else {
            format!("{prefix}/x")
        };
        if value.is_empty() {
            return;
        }
        if Reference::parse(&joined).is_err() {
            let message = format!(
                "expected `registry[:port][/path]`, found `{value}`, which begins no image reference"
            );
            self.unusable(at, "unusable-value", message, help_for(value));
        } else if prefix != value {
            let message =
                "the `/` at the end is left out; ImageSwap would make `//` of it".to_owned();
            self.warn(
                at,
                "trailing-slash",
                message,
                Some(format!("write `{prefix}`")),
            );
        }
    }

    fn items(&mut self, entry: &Entry<'_>) {
        let at = At::value(entry);
        let mut items = entry.value.split(',').peekable();
        if entry.value.is_empty() {
            return;
        }
        if items.clone().any(str::is_empty) {
            let message =
                "expected a text between commas; ImageSwap would keep every image for an empty one";
            self.warn(&at, "empty-item", message.to_owned(), None);
        }
        for item in items.by_ref().filter(|it| !it.is_empty()) {
            if item.contains(['*', '?']) {
                let message = format!(
                    "`{item}` is no pattern here: it keeps only images that hold it as it stands"
                );
                let help = item.trim_start_matches(['*', '.']);
                self.warn(
                    &at,
                    "pattern-item",
                    message,
                    Some(format!("write `{help}`")),
                );
            } else if !is_registry(item.split('/').next().unwrap_or(item))
                || item.parse::<f64>().is_ok()
            {
                let message =
                    format!("`{item}` keeps every image that holds it anywhere, also in its tag");
                self.warn(
                    &at,
                    "loose-item",
                    message,
                    Some("write a registry, or a path with its registry".to_owned()),
                );
            }
        }
    }

    fn unusable(&mut self, at: &At<'_>, code: &'static str, message: String, help: Option<String>) {
        self.push(self.unusable, at, code, message, help);
    }

    fn warn(&mut self, at: &At<'_>, code: &'static str, message: String, help: Option<String>) {
        self.push(Severity::Warning, at, code, message, help);
    }

    fn push(
        &mut self,
        severity: Severity,
        at: &At<'_>,
        code: &'static str,
        message: String,
        help: Option<String>,
    ) {
        self.found.push(Diagnostic {
            severity,
            code,
            source: self.source.to_owned(),
            line: at.line,
            column: at.span.start + 1,
            length: at.span.len(),
            text: at.text.to_owned(),
            message,
            help,
        });
    }
}

impl<'a> At<'a> {
    fn key(entry: &Entry<'a>) -> Self {
        Self {
            line: entry.line,
            text: entry.text,
            span: entry.key_span.clone(),
        }
    }

    fn value(entry: &Entry<'a>) -> Self {
        Self {
            line: entry.line,
            text: entry.text,
            span: entry.value_span.clone(),
        }
    }
}

/// What was meant by a value that begins no reference, where that can be told.
fn help_for(value: &str) -> Option<String> {
    if let Some((_, rest)) = value.split_once("://") {
        return Some(format!(
            "write `{}`: a reference has no scheme",
            target_prefix(rest)
        ));
    }
    if value.contains('#') {
        return Some("only the last run of `#` begins a comment: leave one".to_owned());
    }
    if let Some(rest) = value.strip_prefix(':') {
        return Some(format!("write `{rest}`: three colons are one too many"));
    }
    None
}
