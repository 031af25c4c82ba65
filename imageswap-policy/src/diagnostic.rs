//! Messages about a policy text: what, where, and what was expected instead.

use std::fmt;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The text loads, and likely does not mean what its author thinks.
    Warning,
    /// The text does not load.
    Error,
}

/// One message with its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// Stable name of the check, such as `missing-default`.
    pub code: &'static str,
    /// File, or another name of the source.
    pub source: String,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// Length of the span in characters.
    pub length: usize,
    /// The line's text, for people.
    pub text: String,
    /// One sentence: what is wrong and what was expected. No period at its end.
    pub message: String,
    /// What to write instead, where that is known.
    pub help: Option<String>,
}

/// All messages of one text, in order of place. As an error: at least one has [`Severity::Error`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Diagnostics(pub Vec<Diagnostic>);

impl fmt::Display for Diagnostics {
    fn fmt(&self, _f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Ok(())
    }
}

impl std::error::Error for Diagnostics {}
