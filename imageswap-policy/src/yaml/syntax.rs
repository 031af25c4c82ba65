//! Explains a YAML syntax error to the author of the text.
//!
//! The parser reports what its grammar lacked. This module looks at the text around the place,
//! finds the mistake that people make there, and suggests what to write instead.

use super::{SYNTAX, Span};
use crate::diagnostic::Diagnostic;
use granit_parser::ErrorKind;

mod context;
mod lines;

use context::{open_at, quoted, token};
use lines::Line;
pub(super) use lines::breaks;

/// An explanation: the message, the help, and the byte that it is about, if it differs from the
/// parser's.
struct Found {
    message: String,
    help: Option<String>,
    at: Option<usize>,
}

/// The diagnostic for an error of the parser at `place`.
pub(super) fn explain(source: &str, text: &str, kind: &ErrorKind, place: Span) -> Diagnostic {
    let found = explanation(text, kind, place.start);
    let place = found.at.map_or(place, |at| span(text, at));
    Diagnostic {
        help: found.help,
        ..place.error(source, text, SYNTAX, found.message)
    }
}

/// The diagnostic for a tag such as `!x` without a value, which was meant as text.
pub(super) fn lone_tag(source: &str, text: &str, place: Span) -> Diagnostic {
    let line = Line::at(text, place.start);
    let at = text[line.start..place.start].rfind('!');
    let at = at.map_or(place.start, |it| line.start + it);
    let found = indicator(text, at);
    Diagnostic {
        help: found.help,
        ..span(text, at).error(source, text, SYNTAX, found.message)
    }
}

fn explanation(text: &str, kind: &ErrorKind, at: usize) -> Found {
    use ErrorKind as E;
    match kind {
        E::UnknownAnchor
        | E::MissingAnchorOrAliasName
        | E::UnexpectedCharacter { .. }
        | E::MappingKeyNotAllowed
        | E::ExpectedTagBang
        | E::InvalidTagTerminator
        | E::InvalidTagEscape
        | E::InvalidTagUtf8
        | E::InvalidTagUtf8LeadingByte
        | E::InvalidTagUtf8TrailingByte
        | E::MissingTagUri
        | E::UnclosedVerbatimTag
        | E::UndeclaredTagHandle
        | E::PlainScalarStartsWithDashFlowIndicator => indicator(text, at),
        E::MappingValueNotAllowed
        | E::InvalidColonPlacement
        | E::InvalidMappingValueWhitespace
        | E::FlowMappingValueAdjacentCollection => colon(text, at),
        E::ExpectedBlockMappingKey | E::InvalidIndentation => misaligned(text, at),
        E::ExpectedBlockSequenceEntry => not_an_item(text, at),
        E::SimpleKeyExpected | E::InvalidSimpleKey => not_a_field(text, at),
        E::TabNotAllowed
        | E::TabInBlockIndentation
        | E::TabInIndentation
        | E::TabInPlainScalar
        | E::TabAtBlockScalarStart
        | E::InvalidBlockEntryWhitespace => tab(text, at),
        E::UnclosedQuotedScalar
        | E::DocumentIndicatorInQuotedScalar
        | E::InvalidQuotedScalarIndent => unclosed_quote(text, at),
        E::InvalidTrailingSingleQuotedScalar | E::InvalidTrailingDoubleQuotedScalar => {
            after_quote(text, at)
        }
        E::UnknownQuotedScalarEscape
        | E::InvalidQuotedScalarHexEscape
        | E::InvalidLowSurrogateHexEscape
        | E::InvalidLowSurrogate
        | E::MissingLowSurrogate
        | E::UnpairedLowSurrogate
        | E::InvalidUnicodeEscape => escape(text, at),
        E::UnclosedFlowCollection { .. }
        | E::UnexpectedEofFlowSequence
        | E::UnexpectedEofFlowMapping
        | E::UnexpectedEofImplicitFlowMapping
        | E::ExpectedFlowMappingSeparator
        | E::ExpectedFlowSequenceSeparator
        | E::InvalidFlowScalarIndent
        | E::BlockEntryInFlowCollection => in_brackets(text, at),
        E::MismatchedFlowCollectionEnd { open, close } => found(
            format!("`{open}` opens here, and `{close}` closes it"),
            format!("end it with `{}`", closing(*open)),
        ),
        E::MisplacedFlowCollectionEnd => found(
            format!("`{}` closes nothing", character(text, at)),
            "remove it, or put the text in quotes",
        ),
        E::ExpectedDocumentStart | E::MissingDocumentEndBeforeDirective => new_document(text, at),
        E::BlockSequenceEntryNotAllowed => item_beside_key(text, at),
        E::CommentInterceptedScalar | E::CommentNotSeparated => found(
            "the text goes on after a comment",
            "put the text in quotes, or move the comment to a line of its own",
        ),
        E::InvalidBlockScalarHeader | E::ZeroBlockScalarIndent | E::InvalidBlockScalarIndent => {
            block_text(text, at)
        }
        E::BomInsideDocument => found(
            "an invisible byte order mark is within the text",
            "remove it",
        ),
        E::DuplicateVersionDirective
        | E::UnsupportedYamlMajorVersion
        | E::DuplicateTagDirective
        | E::DirectiveDisallowed
        | E::InvalidDirectiveTerminator
        | E::MissingYamlVersionSeparator
        | E::MissingDirectiveName
        | E::InvalidDirectiveName
        | E::YamlVersionTooLong
        | E::MissingYamlVersion
        | E::InvalidTagDirectiveTerminator
        | E::InvalidGlobalTagCharacter
        | E::ExpectedTagDirectiveBang => found(
            "a line that begins with `%` is an instruction to YAML, and this one is not valid",
            "remove the line, or put the text in quotes",
        ),
        _ => general(),
    }
}

fn found(message: impl Into<String>, help: impl Into<String>) -> Found {
    Found {
        message: message.into(),
        help: Some(help.into()),
        at: None,
    }
}

fn general() -> Found {
    found(
        "the text is not valid YAML here",
        "check indentation, quotes and brackets of this line and the one above",
    )
}

/// A text without quotes that begins with a character that has a meaning in YAML.
fn indicator(text: &str, at: usize) -> Found {
    let first = character(text, at);
    if first.is_control() || first == '\u{feff}' {
        return found(
            format!(
                "the character {} is not allowed here",
                first.escape_unicode()
            ),
            "remove it",
        );
    }
    let written = token(text, at);
    let name = |it: &str| {
        !it.is_empty()
            && it
                .chars()
                .all(|it| it.is_ascii_alphanumeric() || "-_".contains(it))
    };
    if let Some(anchor) = written.strip_prefix('*').filter(|it| name(it)) {
        return found(
            format!(
                "`*{anchor}` repeats a value that is marked `&{anchor}`, but there is none before it"
            ),
            format!(
                "mark the value with `&{anchor}`, or write {} if it is text",
                quoted(written)
            ),
        );
    }
    let means = match first {
        '*' | '&' => "takes it for a reference to another value",
        '!' => "takes it for a type",
        '%' => "takes it for an instruction",
        '?' => "takes it for a key",
        _ => "reserves this character",
    };
    found(
        format!("text that begins with `{first}` needs quotes: YAML {means}"),
        format!("write {}", quoted(written)),
    )
}

/// A `:` in a place where a field cannot begin.
fn colon(text: &str, at: usize) -> Found {
    let line = Line::at(text, at);
    let open = open_at(text, at);
    if let Some((bracket, char)) = open.brackets.last().copied()
        && bracket < line.start
    {
        return unclosed_bracket(text, bracket, char);
    }
    if let Some((key, value)) = line.field().filter(|it| line.offset(it.1) < at) {
        let start = line.offset(value);
        return found(
            "a second `: ` in one line: the text before it cannot be both value and field",
            format!("write `{key}: {}`", inline(&quoted(token(text, start)))),
        );
    }
    let Some(above) = line.above(text) else {
        return general();
    };
    let number = above.number(text);
    if let Some(help) = above.spaced() {
        return found(
            format!("a space is missing in line {number}, so it has no field"),
            format!("write `{help}` there"),
        );
    }
    match above.field() {
        Some((key, _)) if line.column() > above.column() => found(
            format!(
                "this line is indented deeper than `{key}` in line {number}, so it would continue the text there"
            ),
            format!(
                "start `{}` in column {}, below `{key}`",
                line.name(),
                above.column()
            ),
        ),
        Some(_) => general(),
        None => found(
            format!("line {number} has no `:`, so this line cannot belong to it"),
            format!("write `{}:` in line {number}", above.name()),
        ),
    }
}

/// A line that is not aligned with any line above it.
fn misaligned(text: &str, at: usize) -> Found {
    let line = Line::at(text, at);
    let begin = Some(line.content_start());
    if line.is_item() {
        let earlier = std::iter::successors(line.above(text), |it| it.above(text));
        let item = earlier.take(100).find(Line::is_item);
        let help = match item {
            Some(item) => format!(
                "start `-` in column {}, as in line {}",
                item.indent + 1,
                item.number(text)
            ),
            None => "give the field above it either a value or a list".to_owned(),
        };
        return Found {
            at: begin,
            ..found("an item of a list is in the place of a field", help)
        };
    }
    let mut near: Option<Line<'_>> = None;
    for above in std::iter::successors(line.above(text), |it| it.above(text)).take(100) {
        let distance = |it: &Line<'_>| it.column().abs_diff(line.column());
        if above.field().is_some()
            && near
                .as_ref()
                .is_none_or(|it| distance(&above) < distance(it))
        {
            near = Some(above);
        }
    }
    let help = match near {
        Some(near) => format!(
            "start `{}` in column {}, as `{}` in line {}",
            line.name(),
            near.column(),
            near.name(),
            near.number(text)
        ),
        None => "indent it like the line above".to_owned(),
    };
    Found {
        at: begin,
        ..found("this line is not aligned with any line above it", help)
    }
}

/// A field where a list item is expected.
fn not_an_item(text: &str, at: usize) -> Found {
    let line = Line::at(text, at);
    let earlier = std::iter::successors(line.above(text), |it| it.above(text));
    let help = match earlier.take(100).find(Line::is_item) {
        Some(item) if item.field().is_some() => format!(
            "start `{}` in column {} if it belongs to the item of line {}",
            line.name(),
            item.column(),
            item.number(text)
        ),
        _ => "begin it with `- `, or put it before the list".to_owned(),
    };
    found(
        "expected another item of the list, which begins with `- `",
        help,
    )
}

/// A line that is neither a field nor an item.
fn not_a_field(text: &str, at: usize) -> Found {
    let line = Line::at(text, at);
    let help = line.spaced().unwrap_or_else(|| format!("{}:", line.name()));
    found(
        "expected a field, which is a name, a `:` and a space",
        format!("write `{help}`, or put text of several lines in quotes"),
    )
}

fn tab(text: &str, at: usize) -> Found {
    let start = Line::at(text, at).start;
    let at = text[start..].find('\t').map(|it| start + it);
    Found {
        at,
        ..found(
            "a tab is in a place where YAML allows only spaces",
            "replace the tab with spaces",
        )
    }
}

fn unclosed_quote(text: &str, at: usize) -> Found {
    let at = open_at(text, at + 1).quote.unwrap_or(at);
    let mark = character(text, at);
    let line = Line::at(text, at);
    let rest = text[at + mark.len_utf8()..line.end].trim_end();
    Found {
        at: Some(at),
        ..found(
            format!("the quote `{mark}` that opens here is not closed"),
            format!("write {}", quoted(rest.trim_end_matches([',', ']', '}']))),
        )
    }
}

/// Text after a closing quote.
fn after_quote(text: &str, at: usize) -> Found {
    let line = Line::at(text, at);
    let Some(start) = context::quote_before(text, at) else {
        return general();
    };
    if start < line.start {
        let opened = Line::at(text, start);
        return found(
            format!(
                "the quote that opens in line {} is closed here: one is missing before",
                opened.number(text)
            ),
            format!(
                "write {} in line {}",
                quoted(text[start + 1..opened.end].trim_end()),
                opened.number(text)
            ),
        );
    }
    let written = token(text, start);
    let mark = character(text, start);
    let inner = written
        .strip_prefix(mark)
        .and_then(|it| it.strip_suffix(mark))
        .unwrap_or(written);
    found(
        format!("text follows the quote `{mark}` that closes the value"),
        format!("write {}", quoted(inner)),
    )
}

fn escape(text: &str, at: usize) -> Found {
    let line = Line::at(text, at);
    let rest = &text[at..line.end];
    let inner = rest.strip_prefix('"').unwrap_or(rest);
    let help = match inner.split_once('"') {
        Some((inner, _)) => format!("write {}", quoted(inner)),
        None => "put the text in single quotes".to_owned(),
    };
    found(
        "`\\` begins an escape in double quotes, and this is not one that YAML has",
        help,
    )
}

/// A mistake between brackets, or brackets that are not closed.
fn in_brackets(text: &str, at: usize) -> Found {
    let open = open_at(text, at);
    let line = Line::at(text, at);
    let here = character(text, at);
    match open.brackets.last().copied() {
        // The parser reports an unclosed bracket at the bracket itself.
        None if matches!(here, '[' | '{') => unclosed_bracket(text, at, here),
        Some((bracket, char)) if bracket < line.start => unclosed_bracket(text, bracket, char),
        Some((_, char)) if line.begins_value(at) || !matches!(here, '[' | '{' | ':') => found(
            format!(
                "expected `,` between two values, or `{}` at the end",
                closing(char)
            ),
            "put text that holds one of `[ ] { } , :` in quotes",
        ),
        _ => {
            let start = context::value_before(text, at);
            let whole = context::to_field_end(text, start);
            found(
                format!("text within brackets that holds `{here}` needs quotes"),
                format!("write {}", quoted(whole)),
            )
        }
    }
}

fn unclosed_bracket(text: &str, at: usize, char: char) -> Found {
    let line = Line::at(text, at);
    let written = text[at..line.end].trim_end();
    let help = if written.len() > 1 && !written.ends_with(',') {
        format!("write `{written}{}`", closing(char))
    } else {
        format!("end it with `{}`", closing(char))
    };
    Found {
        at: Some(at),
        ..found(
            format!("the bracket `{char}` that opens here is not closed"),
            help,
        )
    }
}

fn new_document(text: &str, at: usize) -> Found {
    let line = Line::at(text, at);
    if let Some(above) = line.above(text) {
        if above.text.starts_with('%') {
            return found(
                "a line that begins with `%` is an instruction to YAML, and `---` has to follow it",
                "remove the line, or write `---` in a line of its own below it",
            );
        }
        if above.indent > line.indent {
            let first = std::iter::successors(Some(above), |it| it.above(text))
                .take_while(|it| !it.text.starts_with("---"))
                .last();
            let column = first.map_or(1, |it| it.indent + 1);
            return found(
                "this line is indented less than the first line of the document",
                format!("start all fields of one level in one column: here in column {column}"),
            );
        }
    }
    found(
        "the document has ended before this line",
        "write `---` in a line of its own between two documents",
    )
}

/// `key: - item`.
fn item_beside_key(text: &str, at: usize) -> Found {
    let line = Line::at(text, at);
    let item = text[at..line.end].trim_start_matches(['-', ' ']).trim_end();
    let help = match line.field() {
        Some((key, _)) if !item.contains(": ") => format!("write `{key}: [{item}]`"),
        _ => "put `-` and what follows in the next line".to_owned(),
    };
    found("a list with `-` begins in a line of its own", help)
}

/// `key: >text`.
fn block_text(text: &str, at: usize) -> Found {
    let line = Line::at(text, at);
    let written = line
        .field()
        .map(|it| it.1)
        .filter(|it| it.starts_with(['|', '>']));
    match written {
        Some(written) => found(
            format!("after `{}` the text begins in the next line", &written[..1]),
            format!("write {}, or begin a new line", quoted(written)),
        ),
        None => found(
            "text after `|` or `>` has to be indented deeper than its field, by spaces",
            "indent all its lines alike",
        ),
    }
}

fn closing(open: char) -> char {
    if open == '[' { ']' } else { '}' }
}

fn character(text: &str, at: usize) -> char {
    text[at..].chars().next().unwrap_or(' ')
}

/// A text without the backticks of its message.
fn inline(text: &str) -> String {
    text.trim_matches('`').to_owned()
}

/// The place of the character at `at`.
fn span(text: &str, at: usize) -> Span {
    let line = Line::at(text, at);
    let before = text[line.start..at].trim_start_matches('\u{feff}');
    Span {
        start: at,
        end: at + text[at..].chars().next().map_or(0, char::len_utf8),
        line: line.number(text),
        column: before.chars().count() + 1,
    }
}
