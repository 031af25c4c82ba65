//! Replaces values in a text without changing anything else.

use super::Image;
use crate::yaml::{Span, Style};
use std::ops::Range;

/// Two images that share one place in the text, through an anchor, and would need different
/// results.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Clash {
    /// Index of the first.
    pub first: usize,
    /// Index of the second.
    pub second: usize,
}

/// The text with each image replaced by its new reference, if that differs.
///
/// Comments, order, indentation, quotes and line breaks stay unchanged, byte for byte. An image
/// without quotes gets them only if YAML would otherwise read it differently. Images that do not
/// belong to the text are ignored, and so are those that [`Image::can_become`] refuses.
///
/// # Errors
/// Images that share an anchor need different references, or one of them stays.
pub fn replace(text: &str, images: &[(&Image, &str)]) -> Result<String, Clash> {
    let mut edits: Vec<Edit> = images
        .iter()
        .enumerate()
        .flat_map(|(index, (image, to))| edits(index, image, to))
        .collect();
    edits.sort_by_key(|it| it.span.start);
    let mut result = String::with_capacity(text.len());
    let mut done = 0;
    let mut before: Option<&Edit> = None;
    for edit in &edits {
        if let Some(first) = before.filter(|it| it.span == edit.span) {
            if first.to != edit.to {
                return Err(Clash {
                    first: first.index.min(edit.index),
                    second: first.index.max(edit.index),
                });
            }
            continue;
        }
        before = Some(edit);
        if edit.is_same {
            continue;
        }
        let Some((range, written)) = write(text, edit) else {
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

/// A place and its new text.
struct Edit {
    /// Index of the image.
    index: usize,
    span: Span,
    style: Style,
    to: String,
    /// Whether the text is already there.
    is_same: bool,
}

/// The places of one image.
fn edits(index: usize, image: &Image, to: &str) -> Vec<Edit> {
    let edit = |span, style, from: &str, to: String| Edit {
        index,
        span,
        style,
        is_same: from == to,
        to,
    };
    let Some(parts) = &image.parts else {
        return vec![edit(image.span, image.style, &image.image, to.to_owned())];
    };
    let fields = if to == image.image {
        Err(String::new())
    } else {
        parts.distribute(to)
    };
    match fields {
        Ok(fields) => fields
            .into_iter()
            .map(|(part, to)| edit(part.span, part.style, &part.text, to))
            .collect(),
        // It stays.
        Err(_) => parts
            .iter()
            .map(|it| edit(it.span, it.style, &it.text, it.text.clone()))
            .collect(),
    }
}

/// The replacement and its place; `None` if the place does not belong to the text.
fn write(text: &str, edit: &Edit) -> Option<(Range<usize>, String)> {
    let Span { start, end, .. } = edit.span;
    if start >= end || end > text.len() {
        return None;
    }
    let to = edit.to.as_str();
    let written = match edit.style {
        Style::Plain if is_plain(to) => to.to_owned(),
        Style::SingleQuoted if !to.contains(char::is_control) => {
            format!("'{}'", to.replace('\'', "''"))
        }
        // The header that defines how the content is read stays.
        Style::Literal | Style::Folded if is_line(to) => to.to_owned(),
        Style::Literal | Style::Folded | Style::Block | Style::Flow => return None,
        Style::Plain | Style::SingleQuoted | Style::DoubleQuoted => {
            serde_json::Value::from(to).to_string()
        }
    };
    Some((start..end, written))
}

/// Whether every YAML reader reads this text without quotes as itself, even in flow style. May
/// return false in doubt.
fn is_plain(text: &str) -> bool {
    let safe = |it: char| it.is_ascii_alphanumeric() || "._/:@-+".contains(it);
    // Words that some version of YAML, and so kubectl, reads as another type; numbers do not look
    // like names.
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
