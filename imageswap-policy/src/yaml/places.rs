//! Finds the place of a field in a document's text, for messages.

use crate::pattern::PatternError;
use crate::rules::RegexError;
use crate::yaml::{Node, Span};
use crate::{Diagnostic, Diagnostics, Severity};
use std::fmt::Write as _;
use std::ops::Range;

/// One step of a path into a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step<'a> {
    Key(&'a str),
    Index(usize),
}

/// Collects the messages about one document.
#[derive(Debug)]
pub(crate) struct Messages<'a> {
    source: &'a str,
    text: &'a str,
    root: &'a Node,
    pub(crate) found: Vec<Diagnostic>,
}

impl<'a> Messages<'a> {
    pub(crate) fn new(source: &'a str, text: &'a str, root: &'a Node) -> Self {
        Self {
            source,
            text,
            root,
            found: Vec::new(),
        }
    }

    /// The document.
    pub(crate) fn root(&self) -> &'a Node {
        self.root
    }

    /// The text of the document.
    pub(crate) fn text(&self) -> &'a str {
        self.text
    }

    /// An error about `path`, which is written at `span`.
    pub(crate) fn at(
        &mut self,
        path: &[Step<'_>],
        span: Span,
        code: &'static str,
        message: impl Into<String>,
    ) -> &mut Diagnostic {
        self.push(path, span, Severity::Error, code, message.into())
    }

    /// An error about the value at `path`, or about its nearest existing parent.
    pub(crate) fn error(
        &mut self,
        path: &[Step<'_>],
        code: &'static str,
        message: impl Into<String>,
    ) -> &mut Diagnostic {
        let span = self.place(path);
        self.push(path, span, Severity::Error, code, message.into())
    }

    /// A warning about the value at `path`, or about its nearest existing parent.
    pub(crate) fn warn(
        &mut self,
        path: &[Step<'_>],
        code: &'static str,
        message: impl Into<String>,
    ) -> &mut Diagnostic {
        let span = self.place(path);
        self.push(path, span, Severity::Warning, code, message.into())
    }

    /// Adds the mistake in the pattern at `path`.
    pub(crate) fn pattern(&mut self, path: &[Step<'_>], text: &str, why: PatternError) {
        let span = self.part(path, text, &why.span);
        self.push(path, span, Severity::Error, why.code, why.message)
            .help = why.help;
    }

    /// Adds the mistake in the regular expression or template at `path`.
    pub(crate) fn regex(&mut self, path: &[Step<'_>], text: &str, why: RegexError) {
        let span = self.part(path, text, &why.span);
        self.push(path, span, Severity::Error, "regex", why.message)
            .help = why.help;
    }

    fn push(
        &mut self,
        path: &[Step<'_>],
        span: Span,
        severity: Severity,
        code: &'static str,
        message: String,
    ) -> &mut Diagnostic {
        let found = span.diagnostic(self.source, self.text, severity, code, message);
        self.found.push(Diagnostic {
            field: Some(field(path)).filter(|it| !it.is_empty()),
            ..found
        });
        let last = self.found.len() - 1;
        &mut self.found[last]
    }

    /// The messages in order of place.
    pub(crate) fn finish(mut self) -> Diagnostics {
        self.found.sort_by_key(|it| (it.line, it.column));
        Diagnostics(self.found)
    }

    fn place(&self, path: &[Step<'_>]) -> Span {
        let node = self.follow(path).unwrap_or_else(|nearest| nearest);
        // For a mapping, even one that lacks the field, the first key represents all of it.
        let first = node.entries().first();
        first.map_or(node.span, |(key, _)| key.span)
    }

    /// Whether the document has a value at `path`.
    pub(crate) fn has(&self, path: &[Step<'_>]) -> bool {
        self.follow(path).is_ok()
    }

    /// The value at `path`; the error is its nearest existing parent.
    fn follow(&self, path: &[Step<'_>]) -> Result<&'a Node, &'a Node> {
        path.iter().try_fold(self.root, |node, step| {
            let next = match step {
                Step::Key(key) => node.get(key),
                Step::Index(at) => node.items().get(*at),
            };
            next.ok_or(node)
        })
    }

    /// The place of a part of the text at `path`, if it is written literally.
    fn part(&self, path: &[Step<'_>], text: &str, part: &Range<usize>) -> Span {
        let span = self.place(path);
        let written = span.of(self.text);
        let Some(at) = written.find(text).filter(|_| !text.is_empty()) else {
            return span;
        };
        let before = &written[..at + part.start];
        if before.contains('\n') {
            return span;
        }
        Span {
            start: span.start + at + part.start,
            end: span.start + at + part.end,
            column: span.column + before.chars().count(),
            ..span
        }
    }
}

/// The path as people write it: `spec.rules[1].to`.
fn field(path: &[Step<'_>]) -> String {
    let mut text = String::new();
    for step in path {
        match step {
            Step::Key(key) if text.is_empty() => text.push_str(key),
            Step::Key(key) => {
                text.push('.');
                text.push_str(key);
            }
            Step::Index(at) => _ = write!(text, "[{at}]"),
        }
    }
    text
}
