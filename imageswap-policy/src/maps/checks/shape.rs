//! How a line is written: its separator, and characters that should not be in it.

use super::{At, Checker};
use crate::maps::lines::{Entry, Line, Malformed, Section};

/// A line that is not a key and a value.
pub(super) fn malformed(checker: &mut Checker<'_>, line: &Line<'_>, why: Malformed) {
    let at = At {
        line: line.number,
        text: line.text,
        span: line.body.span(0),
    };
    let body = line.body.text();
    let written: String = line
        .text
        .chars()
        .take(at.span.end)
        .skip(at.span.start)
        .collect();
    match why {
        Malformed::NoSeparator => checker.unusable(
            &at,
            "no-separator",
            "expected `key::value`, found a line without `::`".to_owned(),
            Some(separator(&written, &body)),
        ),
        Malformed::ManySeparators => checker.unusable(
            &at,
            "many-separators",
            "expected one `::` between key and value, found more than one way to split the line"
                .to_owned(),
            Some(one_separator(&written, &body)),
        ),
    }
}

/// Spaces within a key, a value or an item: ImageSwap removes them and joins the parts.
pub(super) fn inner_spaces(checker: &mut Checker<'_>, entry: &Entry<'_>) {
    let mark = entry.written_key().chars().count() - entry.key.chars().count();
    let key = &entry.key_columns[mark.min(entry.key_columns.len())..];
    let spaced = |columns: &[usize]| columns.windows(2).any(|it| it[1] > it[0] + 1);
    if let [first, .., last] = key
        && spaced(key)
    {
        let message = format!("the spaces are left out; this key is `{}`", entry.key);
        let at = At::columns(entry, *first..last + 1);
        checker.warn(&at, "inner-space", message, None);
    }
    if entry.section == Section::NoSwap {
        for item in entry.items().into_iter().filter(|it| it.spaced) {
            let message = format!("the spaces are left out; this is one text, `{}`", item.text);
            let help = "write `,` between two texts".to_owned();
            let at = At::columns(entry, item.span);
            checker.warn(&at, "inner-space", message, Some(help));
        }
    } else if spaced(&entry.value_columns) {
        let message = format!("the spaces are left out; this value is `{}`", entry.value);
        checker.warn(&At::value(entry), "inner-space", message, None);
    }
}

/// What to write instead of a line without a separator.
fn separator(written: &str, body: &str) -> String {
    if body.starts_with('#') {
        return "only the last run of `#` begins a comment: leave one, or begin the line with it"
            .to_owned();
    }
    let meant = written
        .split_once([';', '='])
        .or_else(|| written.split_once(' '));
    match meant {
        Some((key, value)) => format!("write `{}::{}`", key.trim(), value.trim()),
        None => {
            format!("write `{body}::` to keep what is under it, or begin a comment with `#`")
        }
    }
}

/// What to write instead of a line with more than one separator.
fn one_separator(written: &str, body: &str) -> String {
    if body.starts_with('#') {
        return separator(written, body);
    }
    if let Some((scheme, rest)) = body.split_once("://").filter(|it| !it.0.contains(':')) {
        let (key, value) = rest.split_once(':').unwrap_or((rest, ""));
        let key = format!("{key}::{}", value.trim_start_matches(':'));
        return format!("write `{key}`: a reference has no `{scheme}://`");
    }
    if body.contains("::") {
        return "a line may contain only one `::`".to_owned();
    }
    match body.split_once(':') {
        // `host:5000:value` reads best with its first number as a port.
        Some((host, rest)) if rest.starts_with(|it: char| it.is_ascii_digit()) => {
            let (port, value) = rest.split_once(':').unwrap_or((rest, ""));
            format!("write `{host}:{port}::{value}`")
        }
        Some((key, value)) => match value.split_once("://") {
            Some((_, value)) => format!("write `{key}::{value}`: a reference has no scheme"),
            None => format!("write `{key}::{value}`"),
        },
        None => "write `key::value`".to_owned(),
    }
}
