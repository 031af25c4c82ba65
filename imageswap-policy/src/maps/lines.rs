//! Splits the lines of a maps file exactly as ImageSwap does, keeping the place of each part.

use std::ops::Range;

/// A line that is neither empty nor a comment.
#[derive(Debug, Clone)]
pub(super) struct Line<'a> {
    /// From 1.
    pub(super) number: usize,
    /// As written, without the line's end.
    pub(super) text: &'a str,
    /// The rest without comment and spaces.
    pub(super) body: Body,
}

/// A text without spaces, and the column of each character.
#[derive(Debug, Clone)]
pub(super) struct Body {
    chars: Vec<(usize, char)>,
}

/// A line that is a key and a value.
#[derive(Debug, Clone)]
pub(super) struct Entry<'a> {
    pub(super) line: usize,
    pub(super) text: &'a str,
    pub(super) section: Section,
    /// Without the section's mark.
    pub(super) key: String,
    pub(super) value: String,
    /// Columns of key (with the mark) and value, from 0, in characters.
    pub(super) key_span: Range<usize>,
    pub(super) value_span: Range<usize>,
    /// Column of each remaining character, of the key with its mark and of the value.
    pub(super) key_columns: Vec<usize>,
    pub(super) value_columns: Vec<usize>,
    /// Whether the line is split at a single `:`.
    pub(super) single_colon: bool,
}

/// One text of `noswap_wildcards`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Item<'a> {
    pub(super) text: &'a str,
    /// Columns from 0, in characters; for an empty item those of the extra comma.
    pub(super) span: Range<usize>,
    /// Whether it contains spaces.
    pub(super) spaced: bool,
}

/// What kind of key a line has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Section {
    Default,
    NoSwap,
    Plain,
    Exact,
    Replace,
}

/// Why a line is not an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Malformed {
    /// It contains neither `::` nor `:`.
    NoSeparator,
    /// Neither splits it in two.
    ManySeparators,
}

/// All lines that are neither empty nor comments.
pub(super) fn lines(text: &str) -> impl Iterator<Item = Line<'_>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    // Python accepts all three line endings; `\r\n` leaves an empty remainder that is trimmed
    // below.
    text.split('\n')
        .enumerate()
        .flat_map(|(at, line)| {
            let line = line.strip_suffix('\r').unwrap_or(line);
            line.split('\r').map(move |part| (at + 1, part))
        })
        .filter_map(|(number, text)| {
            let body = Body::new(text);
            (!body.chars.is_empty()).then_some(Line { number, text, body })
        })
}

impl Body {
    /// Drops the comment, white space at the end, and every space.
    fn new(line: &str) -> Self {
        let kept = without_comment(line).trim_end();
        Self {
            chars: kept
                .chars()
                .enumerate()
                .filter(|(_, it)| *it != ' ')
                .collect(),
        }
    }

    /// Splits at the only `::`, otherwise at the only `:`.
    pub(super) fn split(&self) -> Result<(Body, Body), Malformed> {
        let is_colon = |at: usize| self.chars.get(at).is_some_and(|(_, it)| *it == ':');
        let mut doubles = Vec::new();
        let mut at = 0;
        while at < self.chars.len() {
            if is_colon(at) && is_colon(at + 1) {
                doubles.push(at);
                at += 1;
            }
            at += 1;
        }
        if let [at] = doubles[..] {
            return Ok(self.cut(at, 2));
        }
        let colons: Vec<_> = (0..self.chars.len()).filter(|&at| is_colon(at)).collect();
        match colons[..] {
            [] => Err(Malformed::NoSeparator),
            [at] => Ok(self.cut(at, 1)),
            _ => Err(Malformed::ManySeparators),
        }
    }

    fn cut(&self, at: usize, separator: usize) -> (Self, Self) {
        (
            Self {
                chars: self.chars[..at].to_vec(),
            },
            Self {
                chars: self.chars[at + separator..].to_vec(),
            },
        )
    }

    fn columns(&self) -> Vec<usize> {
        self.chars.iter().map(|(at, _)| *at).collect()
    }

    pub(super) fn text(&self) -> String {
        self.chars.iter().map(|(_, it)| it).collect()
    }

    /// Columns from 0, in characters; an empty range at `or` if the text is empty.
    pub(super) fn span(&self, or: usize) -> Range<usize> {
        match (self.chars.first(), self.chars.last()) {
            (Some((first, _)), Some((last, _))) => *first..last + 1,
            _ => or..or,
        }
    }
}

impl<'a> Line<'a> {
    /// The line as an entry.
    pub(super) fn entry(&self) -> Result<Entry<'a>, Malformed> {
        let (key, value) = self.body.split()?;
        let end = self.body.span(0).end;
        let text = key.text();
        let (section, name) = match text.as_str() {
            "default" => (Section::Default, text.as_str()),
            "noswap_wildcards" => (Section::NoSwap, text.as_str()),
            key => match (key.strip_prefix("[EXACT]"), key.strip_prefix("[REPLACE]")) {
                (Some(name), _) => (Section::Exact, name),
                (_, Some(name)) => (Section::Replace, name),
                _ => (Section::Plain, key),
            },
        };
        Ok(Entry {
            line: self.number,
            text: self.text,
            section,
            key: name.to_owned(),
            value: value.text(),
            key_span: key.span(self.body.span(0).start),
            value_span: value.span(end),
            single_colon: key.chars.len() + value.chars.len() + 1 == self.body.chars.len(),
            key_columns: key.columns(),
            value_columns: value.columns(),
        })
    }
}

impl Entry<'_> {
    /// The texts between the commas of the value, in order; an empty value has none at all.
    pub(super) fn items(&self) -> Vec<Item<'_>> {
        let mut items = Vec::new();
        let columns = &self.value_columns;
        let Some(last) = columns.len().checked_sub(1) else {
            return items;
        };
        let mut at = 0;
        for text in self.value.split(',') {
            let length = text.chars().count();
            let within = match length {
                0 => at.min(last)..at.min(last) + 1,
                _ => at..at + length,
            };
            let span = columns[within.start]..columns[within.end - 1] + 1;
            items.push(Item {
                text,
                spaced: span.len() > within.len(),
                span,
            });
            at += length + 1;
        }
        items
    }

    /// The name as written, with the section's mark.
    pub(super) fn written_key(&self) -> String {
        let mark = match self.section {
            Section::Exact => "[EXACT]",
            Section::Replace => "[REPLACE]",
            Section::Default | Section::NoSwap | Section::Plain => "",
        };
        format!("{mark}{}", self.key)
    }
}

/// The text before the last run of `#`. That is ImageSwap's rule: in `a::b # see #5` the comment is
/// `#5`.
fn without_comment(line: &str) -> &str {
    if line.starts_with('#') {
        return "";
    }
    let Some(last) = line.rfind('#') else {
        return line;
    };
    let before = line[..last].trim_end_matches('#');
    if before.is_empty() { line } else { before }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(text: &str) -> Vec<(usize, String, String)> {
        lines(text)
            .filter_map(|it| it.entry().ok())
            .map(|it| (it.line, it.key, it.value))
            .collect()
    }

    #[test]
    fn lines_split_as_imageswap_splits_them() {
        for (line, key, value) in [
            ("default:d.io", "default", "d.io"),
            ("  default :: d.io  ", "default", "d.io"),
            ("r.io:443::m.io:5000/p", "r.io:443", "m.io:5000/p"),
            ("q:::v", "q", ":v"),
            ("q.io::", "q.io", ""),
            ("q.io:", "q.io", ""),
            ("h.io:h2.io ###### many", "h.io", "h2.io"),
            ("a::b # see issue #5", "a", "b#seeissue"),
            ("a::#", "a", ""),
            ("a:b # c::d", "a", "b"),
            ("\ta::b", "\ta", "b"),
            ("a::b\r", "a", "b"),
            ("\u{feff}default::d.io", "default", "d.io"),
            ("[EXACT]nginx:1::x.io/n:1", "nginx:1", "x.io/n:1"),
        ] {
            assert_eq!(
                entries(line),
                [(1, key.to_owned(), value.to_owned())],
                "{line:?}"
            );
        }
    }

    #[test]
    fn what_is_no_entry() {
        for (line, why) in [
            ("quay.io", Malformed::NoSeparator),
            ("a;b", Malformed::NoSeparator),
            ("a::b::c", Malformed::ManySeparators),
            ("default:d.io:5000", Malformed::ManySeparators),
            ("a::b:::c", Malformed::ManySeparators),
        ] {
            let line = lines(line).next().unwrap();
            assert_eq!(line.entry().unwrap_err(), why, "{}", line.text);
        }
        assert_eq!(lines("# x\n\n   \n  # y\n#a::b\n").count(), 0);
    }

    #[test]
    fn places_are_those_of_the_written_line() {
        let text = "\n  my.io  ::  a b.io  # c\r\nx::\n";
        let all: Vec<_> = lines(text).map(|it| it.entry().unwrap()).collect();
        assert_eq!(
            (
                all[0].line,
                all[0].key_span.clone(),
                all[0].value_span.clone()
            ),
            (2, 2..7, 13..19)
        );
        assert_eq!(
            (
                all[1].line,
                all[1].key_span.clone(),
                all[1].value_span.clone()
            ),
            (3, 0..1, 3..3)
        );
    }
}
