//! Regular expressions of a policy in the syntax of RE2, which CEL has.
//!
//! The texts are canonical references: ASCII without spaces and line breaks. So a class is written
//! by the characters that a reference can have, and the end of a line is the end of the text.

use regex_syntax::hir::{Class, Hir, HirKind, Look, Repetition};

/// Characters of references.
const ALPHABET: &str = "-./0123456789:@ABCDEFGHIJKLMNOPQRSTUVWXYZ[]_abcdefghijklmnopqrstuvwxyz";
/// RE2 repeats at most this often, nested repetitions multiplied.
const MAX_REPEAT: u32 = 1000;
/// A class of which fewer characters are missing is written by these.
const FEW: usize = 8;

/// An expression for whole texts, or `None` if RE2 cannot say it.
pub(super) fn re2(hir: &Hir) -> Option<String> {
    let mut text = String::from("^");
    for part in parts(hir) {
        write(part, &mut text, Place::Concat, 1)?;
    }
    text.push('$');
    Some(text)
}

/// The parts of an expression in a row, without the looks at its beginning and end.
pub(super) fn parts(hir: &Hir) -> Vec<&Hir> {
    let mut parts = match hir.kind() {
        HirKind::Concat(parts) => parts.iter().collect(),
        _ => vec![hir],
    };
    let is = |part: &Hir, looks: [Look; 3]| matches!(part.kind(), HirKind::Look(it) if looks.contains(it));
    while let [first, ..] = parts[..]
        && is(first, [Look::Start, Look::StartLF, Look::StartCRLF])
    {
        parts.remove(0);
    }
    while let [.., last] = parts[..]
        && is(last, [Look::End, Look::EndLF, Look::EndCRLF])
    {
        parts.pop();
    }
    parts
}

/// The characters of references that a class contains.
pub(super) fn characters(class: &Class) -> String {
    let contains = |it: &char| match class {
        Class::Bytes(class) => {
            let byte = u8::try_from(*it).unwrap_or(u8::MAX);
            class
                .iter()
                .any(|it| (it.start()..=it.end()).contains(&byte))
        }
        Class::Unicode(class) => class
            .iter()
            .any(|range| (range.start()..=range.end()).contains(it)),
    };
    ALPHABET.chars().filter(contains).collect()
}

/// What surrounds a part.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Concat,
    Repeated,
}

fn write(hir: &Hir, text: &mut String, place: Place, repeated: u32) -> Option<()> {
    match hir.kind() {
        HirKind::Empty => {
            if place == Place::Repeated {
                text.push_str("(?:)");
            }
        }
        HirKind::Literal(literal) => {
            let literal = str::from_utf8(&literal.0).ok();
            let literal = literal.filter(|it| it.chars().all(|it| ALPHABET.contains(it)));
            match literal {
                None => text.push_str(NOTHING),
                Some(literal) if place == Place::Repeated && literal.len() > 1 => {
                    text.push_str("(?:");
                    regex_syntax::escape_into(literal, text);
                    text.push(')');
                }
                Some(literal) => regex_syntax::escape_into(literal, text),
            }
        }
        HirKind::Class(class) => text.push_str(&written(&characters(class))),
        HirKind::Look(look) => text.push_str(match look {
            Look::Start | Look::StartLF | Look::StartCRLF => "^",
            Look::End | Look::EndLF | Look::EndCRLF => "$",
            Look::WordAscii => r"\b",
            Look::WordAsciiNegate => r"\B",
            _ => return None,
        }),
        HirKind::Repetition(repetition) => {
            if place == Place::Repeated {
                text.push_str("(?:");
            }
            repeat(repetition, text, repeated)?;
            if place == Place::Repeated {
                text.push(')');
            }
        }
        HirKind::Capture(capture) => {
            text.push_str("(?:");
            write(&capture.sub, text, Place::Concat, repeated)?;
            text.push(')');
        }
        HirKind::Concat(parts) => {
            text.push_str("(?:");
            for part in parts {
                write(part, text, Place::Concat, repeated)?;
            }
            text.push(')');
        }
        HirKind::Alternation(cases) => {
            text.push_str("(?:");
            for (at, case) in cases.iter().enumerate() {
                if at > 0 {
                    text.push('|');
                }
                write(case, text, Place::Concat, repeated)?;
            }
            text.push(')');
        }
    }
    Some(())
}

fn repeat(repetition: &Repetition, text: &mut String, repeated: u32) -> Option<()> {
    let times = repetition.max.unwrap_or(repetition.min).max(1);
    let counted = !matches!(
        (repetition.min, repetition.max),
        (0 | 1, None) | (0, Some(1))
    );
    let repeated = if counted {
        repeated.checked_mul(times)?
    } else {
        repeated
    };
    if repeated > MAX_REPEAT {
        return None;
    }
    write(&repetition.sub, text, Place::Repeated, repeated)?;
    let count = match (repetition.min, repetition.max) {
        (0, None) => "*".to_owned(),
        (1, None) => "+".to_owned(),
        (0, Some(1)) => "?".to_owned(),
        (min, None) => format!("{{{min},}}"),
        (min, Some(max)) if min == max => format!("{{{min}}}"),
        (min, Some(max)) => format!("{{{min},{max}}}"),
    };
    text.push_str(&count);
    Some(())
}

/// A class that contains no character.
const NOTHING: &str = r"[^\x00-\x{10FFFF}]";

/// A class of these characters of [`ALPHABET`].
fn written(characters: &str) -> String {
    let missing: String = ALPHABET
        .chars()
        .filter(|it| !characters.contains(*it))
        .collect();
    if characters.is_empty() {
        return NOTHING.to_owned();
    }
    if missing.is_empty() {
        return ".".to_owned();
    }
    if missing.len() < FEW {
        return format!("[^{}]", ranges(&missing));
    }
    match characters.len() {
        1 => regex_syntax::escape(characters),
        _ => format!("[{}]", ranges(characters)),
    }
}

/// Characters in ascending order as ranges.
fn ranges(characters: &str) -> String {
    let bytes = characters.as_bytes();
    let mut text = String::new();
    let mut at = 0;
    let push = |byte: u8, text: &mut String| {
        if matches!(byte, b'-' | b'[' | b']') {
            text.push('\\');
        }
        text.push(char::from(byte));
    };
    while at < bytes.len() {
        let mut end = at;
        while end + 1 < bytes.len() && bytes[end + 1] == bytes[end] + 1 {
            end += 1;
        }
        if end > at + 1 {
            push(bytes[at], &mut text);
            text.push('-');
            push(bytes[end], &mut text);
        } else {
            for &byte in &bytes[at..=end] {
                push(byte, &mut text);
            }
        }
        at = end + 1;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use regex_syntax::ParserBuilder;

    fn hir(source: &str) -> Option<Hir> {
        let mut parser = ParserBuilder::new().unicode(false).utf8(false).build();
        parser.parse(source).ok()
    }

    #[test]
    fn expressions_in_the_syntax_of_re2() {
        for (source, expected) in [
            (r"^quay\.io/(.*)$", Some(r"^quay\.io/(?:.*)$")),
            (
                r"(?<host>[a-z.]+)/(?<rest>.+)",
                Some("^(?:[.a-z]+)/(?:.+)$"),
            ),
            ("a|b", Some("^[ab]$")),
            ("ab|cd", Some("^(?:ab|cd)$")),
            (r"[^/]{2,3}", Some("^[^/]{2,3}$")),
            (r"(?:ab)+", Some("^(?:ab)+$")),
            (r"(?i)ab", Some("^[Aa][Bb]$")),
            (r"[a-z&&[^c]]x", Some("^[abd-z]x$")),
            (r"\w\d", Some(r"^[^\--/:@\[\]][0-9]$")),
            (r"é", Some(r"^[^\x00-\x{10FFFF}]$")),
            (r"(?:a{50}){50}", None),
            (r"\b{start}a", None),
        ] {
            assert_eq!(
                hir(source).and_then(|it| re2(&it)).as_deref(),
                expected,
                "{source}"
            );
        }
    }

    proptest! {
        #[test]
        fn the_same_texts_match(
            source in "(\\^)?([a-c./@]|\\[\\^?[a-c/]{1,3}\\]|\\.|\\((\\?:)?[a-c.|]{0,4}\\)|[.\\w\\d]|[*+?]|\\{[0-3],[3-5]\\}){1,6}(\\$)?",
            texts in prop::collection::vec("[a-c./@0]{0,6}", 20),
        ) {
            let Some(hir) = hir(&source) else { return Ok(()) };
            let Some(written) = re2(&hir) else { return Ok(()) };
            let ours = regex::Regex::new(&written).unwrap();
            let theirs = regex::bytes::RegexBuilder::new(&format!("^(?:{source})$")).unicode(false).build().unwrap();
            for text in texts {
                prop_assert_eq!(ours.is_match(&text), theirs.is_match(text.as_bytes()), "{} {} {}", source, written, text);
            }
        }
    }
}
