//! Texts in which values are replaced, and nothing else changes.

use super::Image;
use crate::yaml::{Span, Style};
use std::ops::Range;

/// Two images that are written in one place, by way of an anchor, and would become different ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Clash {
    /// Index of the one.
    pub first: usize,
    /// Index of the other.
    pub second: usize,
}

/// The text with each image replaced by the text beside it, as far as that is another one.
///
/// Comments, order, indentation, quotes and line breaks stay as they are, byte for byte. An image without quotes gets
/// them only where YAML would read it as something else without. Images of a text that is not theirs are left out.
///
/// # Errors
/// Images that share an anchor are to become different ones; one that stays beside one that does not is such a pair.
pub fn replace(text: &str, images: &[(&Image, &str)]) -> Result<String, Clash> {
    let mut order: Vec<usize> = (0..images.len()).collect();
    order.sort_by_key(|&it| images[it].0.span.start);
    let mut result = String::with_capacity(text.len());
    let mut done = 0;
    let mut before: Option<usize> = None;
    for at in order {
        let (image, to) = images[at];
        if let Some(first) = before.filter(|&it| images[it].0.span == image.span) {
            if images[first].1 != to {
                return Err(Clash {
                    first: first.min(at),
                    second: first.max(at),
                });
            }
            continue;
        }
        before = Some(at);
        if image.image == to {
            continue;
        }
        let Some((range, written)) = edit(text, image, to) else {
            continue;
        };
        let Some(kept) = text.get(done..range.start) else {
            continue;
        };
        result.push_str(kept);
        result.push_str(&written);
        done = range.end;
    }
    result.push_str(text.get(done..).unwrap_or_default());
    Ok(result)
}

/// What to put where, or nothing if the place is none of this text.
fn edit(text: &str, image: &Image, to: &str) -> Option<(Range<usize>, String)> {
    let Span { start, end, .. } = image.span;
    if start >= end || end > text.len() {
        return None;
    }
    let written = match image.style {
        Style::Plain if is_plain(to) => to.to_owned(),
        Style::SingleQuoted if !to.contains(char::is_control) => {
            format!("'{}'", to.replace('\'', "''"))
        }
        // The header says how the content is read, and goes on saying so.
        Style::Literal | Style::Folded if is_line(to) => to.to_owned(),
        Style::Literal | Style::Folded | Style::Block | Style::Flow => return None,
        Style::Plain | Style::SingleQuoted | Style::DoubleQuoted => {
            serde_json::Value::from(to).to_string()
        }
    };
    Some((start..end, written))
}

/// Whether a text without quotes is that text to every reader of YAML, in flow style too. Says no rather than err.
fn is_plain(text: &str) -> bool {
    let safe = |it: char| it.is_ascii_alphanumeric() || "._/:@-+".contains(it);
    // Words that some version of YAML, and thus kubectl, takes for something else; all numbers lack such a word.
    let looks_like_a_name = text.contains(['/', '.', ':']) || text.len() > "false".len();
    text.starts_with(|it: char| it.is_ascii_alphabetic())
        && text.chars().all(safe)
        && !text.ends_with(':')
        && looks_like_a_name
}

/// Whether a text can be the only line of a block scalar.
fn is_line(text: &str) -> bool {
    !text.is_empty() && !text.starts_with([' ', '\t']) && !text.contains(char::is_control)
}
