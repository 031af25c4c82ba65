//! Output for pipelines: the same results in the formats that hosts of code and of reports read.

use anyhow::Result;
use clap::ValueEnum;
use imageswap_policy::{Diagnostic, Severity};
use std::io::Write;

mod github;
mod gitlab;
mod junit;
mod sarif;
#[cfg(test)]
mod tests;

/// What a check prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    #[value(alias = "text")]
    Table,
    Json,
    /// SARIF 2.1.0
    Sarif,
    /// JUnit's XML
    Junit,
    /// Commands of GitHub Actions, which become annotations
    Github,
    /// GitLab's code quality report
    Gitlab,
}

/// A format for pipelines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Sarif,
    Junit,
    Github,
    Gitlab,
}

impl Output {
    /// The format, if it is one for pipelines.
    pub(crate) fn format(self) -> Option<Format> {
        match self {
            Self::Table | Self::Json => None,
            Self::Sarif => Some(Format::Sarif),
            Self::Junit => Some(Format::Junit),
            Self::Github => Some(Format::Github),
            Self::Gitlab => Some(Format::Gitlab),
        }
    }
}

/// The result of a command.
#[derive(Debug)]
pub(crate) struct Results {
    /// The command, such as `check`.
    pub(crate) command: &'static str,
    /// Codes of the entries, and their meanings.
    pub(crate) codes: Vec<(&'static str, &'static str)>,
    /// Everything that was checked, in the order of files and text.
    pub(crate) cases: Vec<Case>,
    /// Whether everything could be read and decided.
    pub(crate) complete: bool,
}

/// One thing that was checked.
#[derive(Debug)]
pub(crate) struct Case {
    /// The file as it was given.
    pub(crate) file: String,
    /// What was checked.
    pub(crate) name: String,
    /// What was found.
    pub(crate) entry: Option<Entry>,
    /// Whether that causes exit code 1.
    pub(crate) fails: bool,
}

/// Something that was found.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) severity: Severity,
    pub(crate) code: &'static str,
    pub(crate) line: usize,
    /// In characters, from 1.
    pub(crate) column: usize,
    /// In characters.
    pub(crate) length: usize,
    /// One sentence.
    pub(crate) message: String,
    /// Further sentences.
    pub(crate) notes: Vec<String>,
}

impl Entry {
    /// What a message says.
    pub(crate) fn of(diagnostic: &Diagnostic) -> Self {
        Self {
            severity: diagnostic.severity,
            code: diagnostic.code,
            line: diagnostic.line,
            column: diagnostic.column,
            length: diagnostic.length,
            message: diagnostic.message.clone(),
            notes: diagnostic.help.iter().cloned().collect(),
        }
    }

    /// All sentences, one a line.
    fn text(&self) -> String {
        let mut lines = vec![self.message.as_str()];
        lines.extend(self.notes.iter().map(String::as_str));
        let lines: Vec<_> = lines
            .iter()
            .map(|it| imageswap_runtime::text::shown(it))
            .collect();
        lines.join("\n")
    }

    /// The column behind the last character.
    fn end(&self) -> usize {
        self.column + self.length.max(1)
    }
}

impl Results {
    /// Writes the results.
    pub(crate) fn write(&self, format: Format, out: &mut impl Write) -> Result<()> {
        match format {
            Format::Sarif => sarif::write(self, out),
            Format::Junit => junit::write(self, out),
            Format::Github => github::write(self, out),
            Format::Gitlab => gitlab::write(self, out),
        }
    }

    /// What was found, with its file.
    fn entries(&self) -> impl Iterator<Item = (&str, &Entry)> {
        let all = self.cases.iter();
        all.filter_map(|it| Some((path(&it.file), it.entry.as_ref()?)))
    }
}

/// A file as reports name it: relative to the folder of the repository, in which pipelines run.
fn path(file: &str) -> &str {
    file.trim_start_matches("./")
}
