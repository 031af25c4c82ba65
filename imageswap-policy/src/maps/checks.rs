//! Errors and likely mistakes in a maps file: one function per check, one message per finding.

use super::Options;
use super::compile::{Effective, LIBRARY_KEY};
use super::lines::{Entry, Line, Malformed, Section};
use crate::reference::{DEFAULT_REGISTRY, is_registry};
use crate::{Diagnostic, Diagnostics, Severity};
use std::collections::HashMap;
use std::ops::Range;

mod items;
mod keys;
mod reach;
mod shape;
mod values;

pub(super) use keys::{instead, unused_key};

/// Collects the findings about one text.
pub(super) struct Checker<'a> {
    source: &'a str,
    /// Severity of a useless line.
    unusable: Severity,
    found: Vec<Diagnostic>,
}

/// The place of a finding.
#[derive(Debug, Clone)]
pub(super) struct At<'a> {
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

    /// A line that is not a key and a value.
    pub(super) fn malformed(&mut self, line: &Line<'_>, why: Malformed) {
        shape::malformed(self, line, why);
    }

    /// One entry by itself.
    pub(super) fn entry(&mut self, entry: &Entry<'_>) {
        keys::check(self, entry);
        if entry.section == Section::NoSwap {
            items::check(self, entry);
        } else {
            values::check(self, entry);
        }
        shape::inner_spaces(self, entry);
    }

    /// Mistakes that show only in the text as a whole.
    pub(super) fn whole(&mut self, entries: &[Entry<'_>]) {
        self.duplicates(entries);
        let effective = Effective::of(entries);
        self.default(entries, &effective);
        reach::check(self, &effective);
        items::whole(self, &effective);
    }

    /// `IMAGE_PREFIX`.
    pub(super) fn prefix(&mut self, text: &str) {
        values::prefix(self, &At::whole(text), text, "x");
    }

    pub(super) fn note(
        &mut self,
        at: &At<'_>,
        code: &'static str,
        message: String,
        help: Option<String>,
    ) {
        self.push(Severity::Note, at, code, message, help);
    }

    pub(super) fn warn(
        &mut self,
        at: &At<'_>,
        code: &'static str,
        message: String,
        help: Option<String>,
    ) {
        self.push(Severity::Warning, at, code, message, help);
    }

    /// Whether the text does not load.
    pub(super) fn has_errors(&self) -> bool {
        self.found.iter().any(|it| it.severity == Severity::Error)
    }

    fn unusable(&mut self, at: &At<'_>, code: &'static str, message: String, help: Option<String>) {
        self.push(self.unusable, at, code, message, help);
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
            field: None,
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

    fn duplicates(&mut self, entries: &[Entry<'_>]) {
        let mut first: HashMap<(u8, &str), &Entry<'_>> = HashMap::new();
        for entry in entries {
            if let Some(earlier) = first.insert((entry.section as u8, &entry.key), entry) {
                let message = format!(
                    "this key is in line {} already; only this value counts",
                    earlier.line
                );
                self.warn(&At::key(entry), "duplicate-key", message, None);
            }
        }
    }

    /// A missing or empty `default`, and its effect on other keys.
    fn default(&mut self, entries: &[Entry<'_>], effective: &Effective<'_>) {
        let plain = entries
            .iter()
            .find(|it| it.section == Section::Plain || it.section == Section::NoSwap);
        let Some(default) = effective.default else {
            if let Some(plain) = plain {
                self.warn(
                    &At::key(plain),
                    "missing-default",
                    "expected a `default` key: without one the Python ImageSwap applies no registry key"
                        .to_owned(),
                    Some(
                        "add `default::` to leave alone what no key names, or give it a registry"
                            .to_owned(),
                    ),
                );
            }
            return;
        };
        let hub = [DEFAULT_REGISTRY, LIBRARY_KEY]
            .iter()
            .any(|it| effective.plain.contains_key(it));
        if default.value.is_empty() && !hub {
            let plain = entries
                .iter()
                .filter(|it| it.section == Section::Plain && !it.value.is_empty());
            for entry in plain.filter(|it| is_registry(&it.key) && !it.key.contains(['.', '/'])) {
                let message = "expected a registry with a dot: beside an empty `default`, the Python ImageSwap leaves this one alone";
                self.warn(&At::key(entry), "unused-key", message.to_owned(), None);
            }
        }
    }
}

impl<'a> At<'a> {
    /// The line, from 1.
    pub(super) fn line(&self) -> usize {
        self.line
    }

    pub(super) fn key(entry: &Entry<'a>) -> Self {
        Self::columns(entry, entry.key_span.clone())
    }

    pub(super) fn value(entry: &Entry<'a>) -> Self {
        Self::columns(entry, entry.value_span.clone())
    }

    /// Columns of the entry's line, from 0.
    pub(super) fn columns(entry: &Entry<'a>, span: Range<usize>) -> Self {
        Self {
            line: entry.line,
            text: entry.text,
            span,
        }
    }

    /// The beginning of a text.
    pub(super) fn start(text: &'a str) -> Self {
        Self {
            line: 1,
            text: text.lines().next().unwrap_or_default(),
            span: 0..1,
        }
    }

    /// A text of one line.
    pub(super) fn whole(text: &'a str) -> Self {
        Self {
            line: 1,
            text,
            span: 0..text.chars().count(),
        }
    }
}
