//! Open brackets and quotes at a place of a text, and the extent of a value. Approximate: it only
//! serves help.

/// Brackets and quotes that are open at a place.
#[derive(Debug, Default)]
pub(super) struct Open {
    /// Byte and character of each bracket, the innermost last.
    pub(super) brackets: Vec<(usize, char)>,
    /// Byte of the quote, if inside one.
    pub(super) quote: Option<usize>,
    /// Byte of the last quote that was closed.
    closed: Option<usize>,
}

/// The brackets and quotes open before the byte `at`, from the start of its document.
pub(super) fn open_at(text: &str, at: usize) -> Open {
    let at = text.floor_char_boundary(at.min(text.len()));
    let begin = text[..at].rfind("\n---").map_or(0, |it| it + 1);
    let mut open = Open::default();
    let mut chars = text[begin..at].char_indices().peekable();
    let mut comment = false;
    // The last character of the line that is not a space.
    let mut last = '\n';
    let mut before = '\n';
    while let Some((offset, char)) = chars.next() {
        let here = begin + offset;
        if char == '\n' {
            (comment, last, before) = (false, '\n', '\n');
            continue;
        }
        if let Some(start) = open.quote {
            let double = text[start..].starts_with('"');
            let escaped = (double && char == '\\')
                || (!double && char == '\'' && chars.peek().is_some_and(|it| it.1 == '\''));
            if escaped {
                chars.next();
            } else if text[start..].starts_with(char) {
                (open.quote, open.closed) = (None, open.quote);
            }
            last = char;
            continue;
        }
        comment |= char == '#' && before.is_whitespace();
        before = char;
        if comment || char.is_whitespace() {
            continue;
        }
        let begins = matches!(last, '\n' | ':' | ',' | '[' | '{' | '?' | '-');
        match char {
            '"' | '\'' if begins => open.quote = Some(here),
            '[' | '{' if begins || !open.brackets.is_empty() => open.brackets.push((here, char)),
            ']' | '}' => drop(open.brackets.pop()),
            _ => {}
        }
        last = char;
    }
    open
}

/// The quote that opened the text that ends before `at`.
pub(super) fn quote_before(text: &str, at: usize) -> Option<usize> {
    open_at(text, at).closed
}

/// The value that begins at `at`: within brackets up to the next `,` or bracket, otherwise the rest
/// of the line without a comment.
pub(super) fn token(text: &str, at: usize) -> &str {
    let rest = text.get(at..).unwrap_or_default();
    let line = rest.split(['\n', '\r']).next().unwrap_or_default();
    let in_brackets = !open_at(text, at).brackets.is_empty();
    let end = if in_brackets {
        line.find([',', ']', '}'])
    } else {
        line.find(" #")
    };
    line[..end.unwrap_or(line.len())].trim_end()
}

/// The beginning of the value around `at`: after the preceding `: `, `,` or bracket.
pub(super) fn value_before(text: &str, at: usize) -> usize {
    let line = &text[text[..at].rfind('\n').map_or(0, |it| it + 1)..at];
    let start = [": ", ", ", "{"]
        .iter()
        .filter_map(|it| line.rfind(it).map(|found| found + it.len()))
        .max();
    at - line.len() + start.unwrap_or(0)
}

/// From `at` to the next field of the line, or to the bracket that ends it.
pub(super) fn to_field_end(text: &str, at: usize) -> &str {
    let rest = text.get(at..).unwrap_or_default();
    let line = rest
        .split(['\n', '\r'])
        .next()
        .unwrap_or_default()
        .trim_end();
    match line.find(", ") {
        Some(end) => &line[..end],
        None => line.trim_end_matches(['}', ']']),
    }
}

/// The text in quotes that keep it unchanged, in backticks for a message.
pub(super) fn quoted(text: &str) -> String {
    let text = text.trim();
    if text.contains(['"', '\\']) {
        format!("`'{}'`", text.replace('\'', "''"))
    } else {
        format!("`\"{text}\"`")
    }
}
