//! Text for people: messages on standard error, and colours.
//!
//! Colours change no character of the text, and foreign text cannot add other escape sequences: see
//! [`Escaping`].

use anstream::{AutoStream, ColorChoice};
use anstyle::{AnsiColor, Style};
use clap::ValueEnum;
use imageswap_policy::Severity;
use imageswap_runtime::text::{Escaping, WIDTH, wrap};
use std::io::{self, Write as _};

/// Writes a message to standard error, if it is open.
pub(crate) fn report(message: &str) {
    drop(writeln!(Escaping::new(io::stderr()), "{message}"));
}

/// [`report`] for a long message: its further lines are indented.
pub(crate) fn report_wrapped(message: &str) {
    for (at, line) in wrap(message, WIDTH - 4).iter().enumerate() {
        report(&format!("{}{line}", if at == 0 { "" } else { "    " }));
    }
}

/// For people, or for programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    #[value(alias = "text")]
    Table,
    Json,
}

/// Whether to colour the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Colour(pub(crate) bool);

/// What a colour stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tone {
    Bad,
    Doubtful,
    Changed,
    Good,
    /// What the following lines are about.
    Title,
    Plain,
}

impl Tone {
    fn style(self) -> Style {
        let colour = match self {
            Self::Bad => AnsiColor::Red,
            Self::Doubtful => AnsiColor::Yellow,
            Self::Changed => AnsiColor::Cyan,
            Self::Good => AnsiColor::Green,
            Self::Title => return Style::new().bold(),
            Self::Plain => return Style::new(),
        };
        Style::new().fg_color(Some(colour.into()))
    }

    /// Whether an image is approved.
    pub(crate) fn of_approval(approved: bool) -> Self {
        if approved { Self::Good } else { Self::Bad }
    }
}

impl Colour {
    /// If standard output is a terminal and colours are not disabled (`NO_COLOR`, `CLICOLOR`,
    /// `TERM=dumb`), or if they are demanded (`CLICOLOR_FORCE`).
    pub(crate) fn of_stdout() -> Self {
        Self(AutoStream::choice(&io::stdout()) != ColorChoice::Never)
    }

    pub(crate) fn paint(self, tone: Tone, text: &str) -> String {
        self.styled(tone.style(), text)
    }

    fn styled(self, style: Style, text: &str) -> String {
        if self.0 && !text.is_empty() {
            format!("{style}{text}{style:#}")
        } else {
            text.to_owned()
        }
    }

    /// Colours the parts of a shown diagnostic: its head, its margin and the underline.
    pub(crate) fn diagnostic(self, severity: Severity, plain: &str) -> String {
        if !self.0 {
            return plain.to_owned();
        }
        let bold = Style::new().bold();
        let margin = bold.fg_color(Some(AnsiColor::Blue.into()));
        let mark = bold.fg_color(Some(
            match severity {
                Severity::Error => AnsiColor::Red,
                Severity::Warning => AnsiColor::Yellow,
                Severity::Note => AnsiColor::Cyan,
            }
            .into(),
        ));
        let lines = plain.lines().enumerate().map(|(at, line)| match at {
            0 => {
                let (head, message) = line.split_once(": ").unwrap_or((line, ""));
                let message = self.styled(bold, message);
                format!("{}: {message}", self.styled(mark, head))
            }
            1 => {
                let (arrow, place) = line.split_at(line.find("--> ").map_or(0, |it| it + 4));
                format!("{}{place}", self.styled(margin, arrow))
            }
            _ => {
                let end = line.find(" | ").map_or(0, |it| it + 3);
                let end = if line.ends_with(" |") {
                    line.len()
                } else {
                    end
                };
                let (left, text) = line.split_at(end);
                let is_mark = at == 4 && text.trim_start().starts_with('^');
                let text = if is_mark {
                    self.styled(mark, text)
                } else {
                    text.to_owned()
                };
                format!("{}{text}", self.styled(margin, left))
            }
        });
        lines.collect::<Vec<_>>().join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colour_changes_no_character() {
        let text = "default::https://d.io/\nquay.io/team::\nnoswap_wildcards::*.b.io,\n";
        for diagnostic in &imageswap_policy::maps::lint("a | b", text) {
            let plain = diagnostic.to_string();
            let coloured = Colour(true).diagnostic(diagnostic.severity, &plain);
            assert!(coloured.contains("\u{1b}["), "{coloured}");
            assert_eq!(anstream::adapter::strip_str(&coloured).to_string(), plain);
            assert_eq!(Colour(false).diagnostic(diagnostic.severity, &plain), plain);
        }
        for tone in [
            Tone::Bad,
            Tone::Doubtful,
            Tone::Changed,
            Tone::Good,
            Tone::Title,
        ] {
            let coloured = Colour(true).paint(tone, "a b");
            assert!(coloured.starts_with("\u{1b}[") && coloured.ends_with("\u{1b}[0m"));
            assert_eq!(anstream::adapter::strip_str(&coloured).to_string(), "a b");
        }
    }
}
