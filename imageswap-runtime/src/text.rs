//! Text for people.

use std::borrow::Cow;

/// Columns of a terminal that nobody has widened.
pub const WIDTH: usize = 80;

/// Breaks a sentence between words; a longer word has a line of its own. `width` is in characters.
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

/// The text, or its beginning with an ellipsis if it has more characters.
#[must_use]
pub fn shorten(text: &str, characters: usize) -> Cow<'_, str> {
    const ELLIPSIS: &str = "...";
    if text.chars().nth(characters).is_none() {
        return text.into();
    }
    let mut short: String = text.chars().take(characters - ELLIPSIS.len()).collect();
    short.push_str(ELLIPSIS);
    short.into()
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
    fn sentences_break_between_words() {
        assert_eq!(
            wrap("ab cd ef longest g", 5),
            ["ab cd", "ef", "longest", "g"]
        );
    }
}
