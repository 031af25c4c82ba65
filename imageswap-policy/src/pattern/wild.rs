//! One segment, label, tag or digest with `*` in it.

/// Represents a match of `*`: a character that no reference contains, so that only a wildcard
/// matches it.
pub(super) const RUN: &str = "\u{1}";

/// A text with wildcards. `*` matches any run of characters, also an empty one. The text never
/// contains the character that ends its segment, so the wildcard cannot cross it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wild {
    text: String,
    /// Whether there is no wildcard.
    literal: bool,
}

impl Wild {
    pub(crate) fn new(text: &str) -> Self {
        Self {
            text: text.to_owned(),
            literal: !text.contains('*'),
        }
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    /// The text, if it has no wildcard.
    pub(crate) fn literal(&self) -> Option<&str> {
        self.literal.then_some(self.text.as_str())
    }

    /// Whether it is `*` alone.
    pub(crate) fn is_any(&self) -> bool {
        self.text == "*"
    }

    /// Whether this one matches everything that `other` matches. May return false in doubt.
    pub(crate) fn covers(&self, other: &Self) -> bool {
        self.matches(&other.text.replace('*', RUN))
    }

    pub(crate) fn matches(&self, text: &str) -> bool {
        if self.literal {
            return self.text == text;
        }
        let mut pieces = self.text.split('*');
        // `split` yields the text before the first `*` even if that is empty.
        let (Some(first), Some(last)) = (pieces.next(), pieces.next_back()) else {
            return false;
        };
        let Some(mut rest) = text
            .strip_prefix(first)
            .and_then(|it| it.strip_suffix(last))
        else {
            return false;
        };
        for piece in pieces {
            match rest.find(piece) {
                Some(at) => rest = &rest[at + piece.len()..],
                None => return false,
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::maps_engine::Glob;
    use proptest::prelude::*;

    #[test]
    fn runs() {
        for (wild, text, expected) in [
            ("a", "a", true),
            ("a", "ab", false),
            ("*", "", true),
            ("*", "abc", true),
            ("a*", "a", true),
            ("*a", "ba", true),
            ("a*a", "a", false),
            ("a*a", "aa", true),
            ("*ab*b", "xabb", true),
            ("*ab*b", "xab", false),
            ("v1.*", "v1.2", true),
            ("v1.*", "v11", false),
        ] {
            assert_eq!(Wild::new(wild).matches(text), expected, "{wild} {text}");
        }
    }

    proptest! {
        #[test]
        fn a_run_matches_as_in_a_shell_pattern(wild in "[*ab]{0,7}", text in "[ab]{0,9}") {
            prop_assert_eq!(Wild::new(&wild).matches(&text), Glob::new(&wild).matches(&text));
        }
    }
}
