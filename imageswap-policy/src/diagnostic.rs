//! Messages about a policy text: what, where, and what was expected instead.

use std::fmt;

/// Characters of a line that are shown; JSON often has all of its text in one line.
const LINE_MAX: usize = 160;
/// How many of them may precede the span, if the line is longer.
const CONTEXT: usize = 40;
/// Replaces the parts that are not shown.
const ELLIPSIS: &str = "...";

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The text loads and means what it says, but the user should know something about it.
    Note,
    /// The text loads, but likely does not mean what its author thinks.
    Warning,
    /// The text does not load.
    Error,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Error => "error",
        })
    }
}

/// A kind of message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Check {
    /// Stable name, such as `missing-default`.
    pub code: &'static str,
    /// The worst severity that it can have.
    pub severity: Severity,
    /// What it is about, in one sentence without a period.
    pub meaning: &'static str,
}

impl Check {
    pub(crate) const fn error(code: &'static str, meaning: &'static str) -> Self {
        Self::of(Severity::Error, code, meaning)
    }

    pub(crate) const fn warning(code: &'static str, meaning: &'static str) -> Self {
        Self::of(Severity::Warning, code, meaning)
    }

    pub(crate) const fn note(code: &'static str, meaning: &'static str) -> Self {
        Self::of(Severity::Note, code, meaning)
    }

    const fn of(severity: Severity, code: &'static str, meaning: &'static str) -> Self {
        Self {
            code,
            severity,
            meaning,
        }
    }
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
    /// One sentence: what is wrong and what was expected. Without a final period.
    pub message: String,
    /// What to write instead, if known.
    pub help: Option<String>,
    /// The field of the document that it is about, such as `spec.rules[1].to`, if the text is a
    /// document.
    pub field: Option<String>,
}

impl Diagnostic {
    /// The message in one line, for logs: `file:3:1: error[no-separator]: ...`.
    pub fn summary(&self) -> String {
        let Self {
            source,
            line,
            column,
            severity,
            code,
            message,
            ..
        } = self;
        escaped(&format!(
            "{source}:{line}:{column}: {severity}[{code}]: {message}"
        ))
    }

    /// The message in one line with the field that it is about, for a document that the user does
    /// not have as a text: `spec.rules[1].to: error[no-path]: ...; write ...`.
    pub fn at_field(&self) -> String {
        let Self {
            severity,
            code,
            message,
            field,
            help,
            ..
        } = self;
        let place = field
            .as_ref()
            .map(|it| format!("{it}: "))
            .unwrap_or_default();
        let help = help
            .as_ref()
            .map(|it| format!("; {it}"))
            .unwrap_or_default();
        escaped(&format!("{place}{severity}[{code}]: {message}{help}"))
    }

    /// The line as shown, or the part of a long one that holds the span; then where the span begins
    /// in it, and how many of its characters are shown.
    fn shown(&self) -> (String, usize, usize) {
        // Control characters would move the underline, and may do worse to a terminal.
        let shown = |it: char| if it.is_control() { ' ' } else { it };
        let indent = self.column.saturating_sub(1);
        let length = self.length.max(1);
        if self.text.chars().nth(LINE_MAX).is_none() {
            return (self.text.chars().map(shown).collect(), indent, length);
        }
        let skipped = indent.saturating_sub(CONTEXT);
        let mut rest = self.text.chars().skip(skipped);
        let mut text = if skipped > 0 { ELLIPSIS } else { "" }.to_owned();
        let before = text.len();
        text.extend(rest.by_ref().take(LINE_MAX).map(shown));
        if rest.next().is_some() {
            text += ELLIPSIS;
        }
        let indent = before + indent - skipped;
        (text, indent, length.min(LINE_MAX - CONTEXT))
    }
}

/// The message with its line and the underlined span, as compilers show it; plain text.
impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let margin = " ".repeat(self.line.to_string().len());
        let message = escaped(&self.message);
        writeln!(f, "{}[{}]: {message}", self.severity, self.code)?;
        let source = escaped(&self.source);
        writeln!(f, "{margin}--> {source}:{}:{}", self.line, self.column)?;
        writeln!(f, "{margin} |")?;
        let (text, indent, length) = self.shown();
        writeln!(f, "{} | {}", self.line, text.trim_end())?;
        let indent = " ".repeat(indent);
        write!(f, "{margin} | {indent}{}", "^".repeat(length))?;
        if let Some(help) = &self.help {
            write!(f, "\n{margin} = help: {}", escaped(help))?;
        }
        Ok(())
    }
}

/// Messages quote the text, whose control characters must not reach a terminal or a log.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() {
            escaped.extend(c.escape_default());
        } else {
            escaped.push(c);
        }
    }
    escaped
}

/// All messages of one text, in order of place. As an error: at least one has [`Severity::Error`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Diagnostics(pub Vec<Diagnostic>);

impl Diagnostics {
    /// The messages in order of place.
    pub fn iter(&self) -> std::slice::Iter<'_, Diagnostic> {
        self.0.iter()
    }

    /// Whether there are no messages.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<'a> IntoIterator for &'a Diagnostics {
    type Item = &'a Diagnostic;
    type IntoIter = std::slice::Iter<'a, Diagnostic>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// Each message, with an empty line between two.
impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, diagnostic) in self.0.iter().enumerate() {
            let gap = if at == 0 { "" } else { "\n\n" };
            write!(f, "{gap}{diagnostic}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Diagnostics {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_long_line_the_part_with_the_span_is_shown() {
        let diagnostic = |column, length| Diagnostic {
            severity: Severity::Error,
            code: "code",
            source: "a".to_owned(),
            line: 1,
            column,
            length,
            text: format!("{}image{}", "é".repeat(500), "x".repeat(500)),
            message: "message".to_owned(),
            help: None,
            field: None,
        };
        let shown = diagnostic(501, 5).to_string();
        let lines: Vec<_> = shown.lines().skip(3).collect();
        let context = "é".repeat(40);
        let after = "x".repeat(115);
        assert_eq!(lines[0], format!("1 | ...{context}image{after}..."));
        assert_eq!(lines[1], format!("  | {}^^^^^", " ".repeat(43)));
        assert_eq!(diagnostic(1, 900).shown().2, 120);
        assert_eq!(diagnostic(2000, 1).shown().0, "...");
    }

    #[test]
    fn what_the_text_holds_does_not_reach_the_terminal() {
        let diagnostic = Diagnostic {
            severity: Severity::Error,
            code: "code",
            source: "a\nb".to_owned(),
            line: 1,
            column: 1,
            length: 1,
            text: "\u{1b}[2Jx".to_owned(),
            message: "found `\u{1b}[2Jx`".to_owned(),
            help: Some("write\tx".to_owned()),
            field: None,
        };
        assert_eq!(
            diagnostic.summary(),
            "a\\nb:1:1: error[code]: found `\\u{1b}[2Jx`"
        );
        assert_eq!(
            diagnostic.to_string(),
            "error[code]: found `\\u{1b}[2Jx`\n --> a\\nb:1:1\n  |\n1 |  [2Jx\n  | ^\n  = help: write\\tx"
        );
    }
}
