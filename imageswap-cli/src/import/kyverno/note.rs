//! What an import has to say about a policy, each with its place.

use imageswap_policy::yaml::Span;
use serde::Serialize;

/// What it means for whoever imports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Severity {
    /// The result does not do quite what Kyverno does.
    Note,
    /// The text was taken for what its author likely meant, which is not what it says.
    Warning,
    /// Something is not carried over.
    Lost,
}

/// One sentence with its place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Note {
    /// What it means.
    pub(crate) severity: Severity,
    /// Stable name of the kind of note, such as `scheme`.
    pub(crate) code: &'static str,
    /// Line of the input, from 1.
    pub(crate) line: usize,
    /// Column in characters, from 1.
    pub(crate) column: usize,
    /// What there is to say. No period at its end.
    pub(crate) message: String,
}

/// The notes about one policy, in the order of their discovery, none twice.
#[derive(Debug, Clone, Default)]
pub(super) struct Notes(Vec<Note>);

impl Notes {
    /// The result differs from what Kyverno does.
    pub(super) fn note(&mut self, at: Span, code: &'static str, message: impl Into<String>) {
        self.add(Severity::Note, at, code, message.into());
    }

    /// The author's intention was taken for the text.
    pub(super) fn warning(&mut self, at: Span, code: &'static str, message: impl Into<String>) {
        self.add(Severity::Warning, at, code, message.into());
    }

    /// Something is not carried over.
    pub(super) fn lost(&mut self, at: Span, code: &'static str, message: impl Into<String>) {
        self.add(Severity::Lost, at, code, message.into());
    }

    /// The notes in order of place.
    pub(super) fn finish(mut self) -> Vec<Note> {
        self.0
            .sort_by_key(|it| (it.line, it.column, std::cmp::Reverse(it.severity)));
        self.0
    }

    fn add(&mut self, severity: Severity, at: Span, code: &'static str, message: String) {
        let note = Note {
            severity,
            code,
            line: at.line,
            column: at.column,
            message,
        };
        if !self.0.contains(&note) {
            self.0.push(note);
        }
    }
}
