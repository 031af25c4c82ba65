//! Text for people.

use std::borrow::Cow;
use std::fmt::{Display, Write as _};
use std::io::{self, Write};

/// Columns of a default terminal.
pub const WIDTH: usize = 80;

/// Breaks a sentence between words; a longer word gets a line of its own. `width` is in characters.
#[must_use]
pub fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

/// Rows in columns as wide as their longest cell. `paint` gets a cell's column, its text, and that text padded; what
/// it adds must take no column of a terminal.
#[must_use]
pub fn columns<const N: usize>(
    rows: &[[String; N]],
    paint: impl Fn(usize, &str, String) -> String,
) -> Vec<String> {
    let mut widths = [0; N];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let line = |row: &[String; N]| {
        let cells = row.iter().zip(widths).enumerate();
        let cells = cells.map(|(at, (cell, width))| paint(at, cell, format!("{cell:width$}")));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

/// A number with its noun: `1 image`, `3 images`.
#[must_use]
pub fn counted(number: impl Display, noun: &str) -> String {
    let number = number.to_string();
    let plural = if number == "1" { "" } else { "s" };
    format!("{number} {noun}{plural}")
}

/// The text, or its beginning with an ellipsis if it is longer.
#[must_use]
pub fn shorten(text: &str, characters: usize) -> Cow<'_, str> {
    const ELLIPSIS: &str = "...";
    // A text has no more characters than bytes, which need no counting.
    if text.len() <= characters || text.chars().nth(characters).is_none() {
        return text.into();
    }
    let mut short: String = text.chars().take(characters - ELLIPSIS.len()).collect();
    short.push_str(ELLIPSIS);
    short.into()
}

/// The text made safe for a terminal: control characters, and characters that change the order or
/// the number of visible ones, are written as `\u001b`, which JSON reads as the same character.
#[must_use]
pub fn shown(text: &str) -> Cow<'_, str> {
    escape(text, |_| false)
}

pub(crate) fn escape(text: &str, keep: impl Fn(char) -> bool) -> Cow<'_, str> {
    let is_escaped = |c: char| !keep(c) && is_unsafe(c);
    let keeps_lines = keep('\n');
    let is_plain = |it: u8| (b' '..=b'~').contains(&it) || (keeps_lines && it == b'\n');
    // Most texts are of such bytes alone.
    if every_byte(text, is_plain) || !text.contains(is_escaped) {
        return text.into();
    }
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        if is_escaped(c) {
            // Writing to a string does not fail.
            let _written = write!(safe, "\\u{:04x}", u32::from(c));
        } else {
            safe.push(c);
        }
    }
    safe.into()
}

/// Like `text.bytes().all(is)`, without an end in between: compilers then look at many bytes at a time.
pub(crate) fn every_byte(text: &str, is: impl Fn(u8) -> bool) -> bool {
    text.bytes().fold(true, |all, byte| all & is(byte))
}

/// Whether a terminal does anything else with a character than show it.
fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{061c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}'
        )
}

/// The escape sequences of text for people: no style, bold, dim, italic, and
/// foregrounds that are seen on any background. Others could hide text.
const COLOURS: [&str; 10] = [
    "\x1b[0m", "\x1b[1m", "\x1b[2m", "\x1b[3m", "\x1b[31m", "\x1b[32m", "\x1b[33m", "\x1b[34m",
    "\x1b[35m", "\x1b[36m",
];

/// Passes on text, with the characters that [`shown`] escapes escaped, except line ends.
#[derive(Debug)]
pub struct Escaping<W> {
    out: W,
    /// Whether [`COLOURS`] are passed on.
    coloured: bool,
}

impl<W: Write> Escaping<W> {
    /// Passes the text on to `out`.
    pub fn new(out: W) -> Self {
        Self {
            out,
            coloured: false,
        }
    }

    /// The same for text in bold and in the usual colours. Foreign text can colour itself then, and
    /// nothing else.
    pub fn coloured(out: W) -> Self {
        Self {
            out,
            coloured: true,
        }
    }
}

impl<W: Write> Escaping<W> {
    /// The first colour of a text that stays, and how many bytes precede it.
    fn colour(&self, text: &str) -> Option<(usize, &'static str)> {
        if !self.coloured {
            return None;
        }
        text.match_indices('\x1b').find_map(|(at, _)| {
            let colour = COLOURS.iter().find(|it| text[at..].starts_with(**it));
            Some((at, *colour?))
        })
    }

    fn escape(&mut self, text: &str) -> io::Result<()> {
        let safe = escape(text, |c| c == '\n');
        self.out.write_all(safe.as_bytes())
    }
}

impl<W: Write> Write for Escaping<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(bytes);
        let mut rest = &*text;
        while let Some((before, colour)) = self.colour(rest) {
            self.escape(&rest[..before])?;
            self.out.write_all(colour.as_bytes())?;
            rest = &rest[before + colour.len()..];
        }
        self.escape(rest)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_end_with_an_ellipsis() {
        for (text, short) in [("", ""), ("äöü!", "äöü!"), ("äöü!?", "ä...")] {
            assert_eq!(shorten(text, 4), short);
        }
    }

    #[test]
    fn a_terminal_obeys_nothing_of_what_is_shown() {
        let evil = "a\n\x1b[31mRED\x1b]0;t\x07\u{202e}\u{9b}31m\r\u{200b}b";
        let safe = "a\\u000a\\u001b[31mRED\\u001b]0;t\\u0007\\u202e\\u009b31m\\u000d\\u200bb";
        assert_eq!(shown(evil), safe);
        assert_eq!(
            shown("quay.io/ä/b:1 -> \u{1f600}"),
            "quay.io/ä/b:1 -> \u{1f600}"
        );
        let written = |mut out: Escaping<Vec<u8>>| {
            out.write_all(evil.as_bytes()).unwrap();
            String::from_utf8(out.out).unwrap()
        };
        let of_lines = safe.replace("\\u000a", "\n");
        assert_eq!(written(Escaping::new(Vec::new())), of_lines);
        // The colour of the text, and nothing else that it demands.
        let with_colours = of_lines.replace("\\u001b[31m", "\x1b[31m");
        assert_eq!(written(Escaping::coloured(Vec::new())), with_colours);
        let mut out = Escaping::coloured(Vec::new());
        out.write_all(b"\x1b[8mhidden\x1b[0m\x1b[1\x1b[30m\x1b[1m")
            .unwrap();
        let shown = "\\u001b[8mhidden\x1b[0m\\u001b[1\\u001b[30m\x1b[1m";
        assert_eq!(String::from_utf8(out.out).unwrap(), shown);
        // In JSON an escaped character is the same one.
        let json = serde_json::to_string(evil).unwrap();
        let mut out = Escaping::new(Vec::new());
        out.write_all(json.as_bytes()).unwrap();
        assert_eq!(serde_json::from_slice::<String>(&out.out).unwrap(), evil);
    }

    #[test]
    fn sentences_break_between_words() {
        assert_eq!(
            wrap("ab cd ef longest g", 5),
            ["ab cd", "ef", "longest", "g"]
        );
    }
}
