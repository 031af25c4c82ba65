//! Lists for people, in a log line and an audit annotation.

use std::borrow::Cow;
use std::fmt::{Display, Write as _};

use imageswap_runtime::text::shorten;

/// Size in bytes after which items are only counted.
const MAX_BYTES: usize = 4 << 10;
/// Initial size for an ordinary Pod, to avoid reallocations.
const ROOM: usize = 512;
/// Characters of one name or image; a reference has at most 500.
const MAX_TEXT: usize = 512;

/// A list of bounded length that counts the omitted items.
#[derive(Debug, Default)]
pub(super) struct Listed {
    text: String,
    left_out: usize,
}

impl Listed {
    /// Adds `name: item`.
    pub(super) fn add(&mut self, name: &str, item: impl Display) {
        if self.text.len() > MAX_BYTES {
            self.left_out += 1;
            return;
        }
        if self.text.is_empty() {
            self.text.reserve(ROOM);
        } else {
            self.text.push_str(", ");
        }
        let _infallible = write!(self.text, "{}: {item}", short(name));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    /// The text of the whole list.
    pub(super) fn finish(mut self) -> String {
        if self.left_out > 0 {
            let _infallible = write!(self.text, ", and {} more", self.left_out);
        }
        self.text
    }
}

/// Foreign text, shortened for logs and annotations.
pub(super) fn short(text: &str) -> Cow<'_, str> {
    shorten(text, MAX_TEXT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lists_end_with_a_count() {
        let mut listed = Listed::default();
        assert!(listed.is_empty());
        listed.add("web", "nginx");
        listed.add("", short(&"x".repeat(1 << 20)));
        for at in 0..10_000 {
            listed.add(&format!("c{at}"), "busybox");
        }
        let text = listed.finish();
        assert!(text.starts_with("web: nginx, : xxx"), "{text}");
        assert!(text.len() < MAX_BYTES + 3 * MAX_TEXT, "{}", text.len());
        let (_, left_out) = text.rsplit_once("and ").unwrap();
        let listed = text.matches(": busybox").count();
        assert_eq!(left_out, format!("{} more", 10_000 - listed));
    }
}
