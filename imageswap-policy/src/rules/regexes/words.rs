//! Explains a mistake in a regular expression in our own words.

use super::RegexError;
use regex_syntax::Error;
use regex_syntax::ast::ErrorKind as Syntax;
use regex_syntax::hir::ErrorKind as Meaning;

/// The parser's error, in our own words.
pub(super) fn explain(source: &str, why: &Error) -> RegexError {
    let (span, (message, help)) = match why {
        Error::Parse(it) => (it.span(), syntax(it.kind())),
        Error::Translate(it) => (it.span(), meaning(it.kind())),
        _ => {
            return RegexError {
                span: 0..source.len(),
                message: "this is not a regular expression".to_owned(),
                help: None,
            };
        }
    };
    RegexError {
        span: span.start.offset..span.end.offset,
        message: message.to_owned(),
        help: Some(help.to_owned()),
    }
}

fn syntax(kind: &Syntax) -> (&'static str, &'static str) {
    match kind {
        Syntax::GroupUnclosed => (
            "the `(` that opens here is not closed",
            r"add `)`, or write `\(` for the character",
        ),
        Syntax::GroupUnopened => (
            "this `)` closes nothing",
            r"remove it, or write `\)` for the character",
        ),
        Syntax::ClassUnclosed => (
            "the `[` that opens here is not closed",
            r"add `]`, or write `\[` for the character",
        ),
        Syntax::RepetitionMissing => (
            "there is nothing before this that could be repeated",
            "write `.*` for any text",
        ),
        Syntax::RepetitionCountInvalid
        | Syntax::RepetitionCountDecimalEmpty
        | Syntax::RepetitionCountUnclosed
        | Syntax::DecimalEmpty
        | Syntax::DecimalInvalid => (
            "this is not a number of repetitions",
            r"write `{2}` or `{2,5}`, or `\{` for the character",
        ),
        Syntax::EscapeUnrecognized
        | Syntax::EscapeUnexpectedEof
        | Syntax::EscapeHexEmpty
        | Syntax::EscapeHexInvalid
        | Syntax::EscapeHexInvalidDigit
        | Syntax::ClassEscapeInvalid => (
            r"`\` is followed by something that has no meaning after it",
            r"remove the `\`; a `/` or `:` needs none",
        ),
        Syntax::ClassRangeInvalid | Syntax::ClassRangeLiteral => (
            "this range of characters ends before it begins",
            "write it as in `[a-z]`",
        ),
        Syntax::UnsupportedBackreference => (
            "an expression cannot repeat what one of its groups has matched",
            "groups such as `$1` are for `to`",
        ),
        Syntax::UnsupportedLookAround => (
            "an expression cannot look ahead or behind",
            "write a rule with `keep` before this one for images that it should leave out",
        ),
        Syntax::GroupNameDuplicate { .. } => (
            "two groups have this name",
            "give each group a name of its own",
        ),
        Syntax::GroupNameEmpty | Syntax::GroupNameInvalid | Syntax::GroupNameUnexpectedEof => (
            "this is not the name of a group",
            "write it as in `(?<name>.*)`",
        ),
        Syntax::FlagDanglingNegation
        | Syntax::FlagDuplicate { .. }
        | Syntax::FlagRepeatedNegation { .. }
        | Syntax::FlagUnexpectedEof
        | Syntax::FlagUnrecognized => (
            "`(?` begins a flag or a named group, and this is neither",
            "write a group as in `(.*)` or `(?<name>.*)`",
        ),
        _ => (
            "this part of the regular expression is too large or has no meaning",
            "write a simpler expression",
        ),
    }
}

fn meaning(kind: &Meaning) -> (&'static str, &'static str) {
    match kind {
        Meaning::UnicodeNotAllowed
        | Meaning::UnicodePropertyNotFound
        | Meaning::UnicodePropertyValueNotFound
        | Meaning::UnicodePerlClassNotFound
        | Meaning::UnicodeCaseUnavailable => (
            "classes of Unicode are not supported: image references are ASCII",
            "write the characters, as in `[a-z0-9]`",
        ),
        _ => (
            "this part of the regular expression can match no image reference",
            "write the characters, as in `[a-z0-9]`",
        ),
    }
}
