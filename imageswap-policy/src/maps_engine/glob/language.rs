//! The texts that a pattern matches, as a set: whether another pattern's are among them, whether an
//! image is.

use super::{Glob, Token};
use regex_automata::nfa::thompson::{self, NFA, State};
use regex_automata::util::primitives::StateID;
use regex_automata::util::syntax;
use std::sync::LazyLock;

/// A piece of a pattern as a regular expression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Piece {
    /// The pattern's meaning.
    pub(crate) any: String,
    /// The same without `/`.
    pub(crate) within: String,
}

/// Includes at least every image reference; lengths are not limited.
static REFERENCES: LazyLock<NFA> = LazyLock::new(|| {
    const LABEL: &str = "[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?";
    const SEGMENT: &str = "[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*";
    let host = format!(r"(?:{LABEL}(?:\.{LABEL})*|\[[A-Fa-f0-9:]+\])(?::[0-9]+)?");
    let pattern = format!(
        r"(?:(?:{host}|{SEGMENT})/)?{SEGMENT}(?:/{SEGMENT})*(?::[A-Za-z0-9_][A-Za-z0-9_.-]*)?(?:@sha256:[0-9a-f]+)?"
    );
    thompson::Compiler::new()
        .syntax(syntax::Config::new().unicode(false).utf8(false))
        .build(&pattern)
        .expect("the pattern is one text with no input")
});

impl Glob {
    /// Whether this matches everything that `other` matches. `true` is certain; `false` may come
    /// from two spellings of one set, such as `*?` and `?*`.
    pub(crate) fn covers(&self, other: &Self) -> bool {
        let (mut token, mut at) = (0, 0);
        let mut retry: Option<(usize, usize)> = None;
        loop {
            let step = match (self.tokens.get(token), other.tokens.get(at)) {
                (None, None) => return true,
                (Some(Token::Run), _) => {
                    retry = Some((token + 1, at));
                    token += 1;
                    continue;
                }
                (Some(one), Some(of)) => one.covers(of),
                _ => false,
            };
            if step {
                token += 1;
                at += 1;
                continue;
            }
            match &mut retry {
                Some((after_run, from)) if *from < other.tokens.len() => {
                    *from += 1;
                    (token, at) = (*after_run, *from);
                }
                _ => return false,
            }
        }
    }

    /// Whether any image reference matches.
    pub(crate) fn matches_a_reference(&self) -> bool {
        let nfa = &*REFERENCES;
        let width = nfa.states().len();
        let mut seen = vec![false; (self.tokens.len() + 1) * width];
        let mut open = vec![(0, nfa.start_anchored())];
        while let Some((token, state)) = open.pop() {
            let mark = &mut seen[token * width + state.as_usize()];
            if std::mem::replace(mark, true) {
                continue;
            }
            let next = self.tokens.get(token);
            if next == Some(&Token::Run) {
                open.push((token + 1, state));
            }
            let mut consume = |low: u8, high: u8, to: StateID| match next {
                Some(Token::Run) => open.push((token, to)),
                Some(one) if (low..=high).any(|it| one.matches(char::from(it))) => {
                    open.push((token + 1, to));
                }
                _ => {}
            };
            match nfa.state(state) {
                State::ByteRange { trans } => consume(trans.start, trans.end, trans.next),
                State::Sparse(sparse) => {
                    for trans in &sparse.transitions {
                        consume(trans.start, trans.end, trans.next);
                    }
                }
                State::Dense(dense) => {
                    for byte in 0..=u8::MAX {
                        if let Some(to) = dense.matches_byte(byte) {
                            consume(byte, byte, to);
                        }
                    }
                }
                State::Union { alternates } => {
                    open.extend(alternates.iter().map(|&it| (token, it)));
                }
                State::BinaryUnion { alt1, alt2 } => open.extend([(token, *alt1), (token, *alt2)]),
                State::Look { next, .. } | State::Capture { next, .. } => {
                    open.push((token, *next));
                }
                State::Match { .. } if next.is_none() => return true,
                State::Match { .. } | State::Fail => {}
            }
        }
        false
    }

    /// The pattern as regular expressions, one for each of its pieces.
    pub(crate) fn to_regexes(&self) -> Vec<Piece> {
        let piece = |any: &str, within: &str| Piece {
            any: any.to_owned(),
            within: within.to_owned(),
        };
        let pieces = self.tokens.iter().map(|token| match token {
            Token::Run => piece(".*", "[^/]*"),
            Token::One => piece(".", "[^/]"),
            Token::Char(it) => {
                let text = regex_syntax::escape(&it.to_string());
                piece(&text, &text)
            }
            Token::Set { negated, ranges } => {
                let escape = |it: &char| regex_syntax::escape(&it.to_string());
                let members: String = ranges
                    .iter()
                    .filter(|(low, high)| low <= high)
                    .map(|(low, high)| {
                        if low == high {
                            escape(low)
                        } else {
                            format!("{}-{}", escape(low), escape(high))
                        }
                    })
                    .collect();
                match (negated, members.is_empty()) {
                    // An empty set, such as `[z-a]`.
                    (false, true) => piece("[a&&b]", "[a&&b]"),
                    (true, true) => piece(".", "[^/]"),
                    (false, false) => {
                        let text = format!("[{members}]");
                        piece(&text, &text)
                    }
                    (true, false) => piece(&format!("[^{members}]"), &format!("[^{members}/]")),
                }
            }
        });
        pieces.collect()
    }

    /// Whether the pattern is a plain text, without a wildcard.
    pub(crate) fn is_literal(&self) -> bool {
        self.tokens.iter().all(|it| matches!(it, Token::Char(_)))
    }

    /// A text that the pattern matches: `run` for each `*`, and `x` or a member of the set for one
    /// character.
    pub(crate) fn sample(&self, run: &str) -> String {
        let mut text = String::new();
        for token in &self.tokens {
            match token {
                Token::Run => text.push_str(run),
                Token::One => text.push('x'),
                Token::Char(it) => text.push(*it),
                Token::Set { .. } => {
                    text.extend(('a'..='z').chain('0'..='9').find(|it| token.matches(*it)));
                }
            }
        }
        text
    }
}

impl Token {
    /// Whether this matches each character that `other` matches.
    fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (_, Self::Run) => false,
            (Self::Run | Self::One, _) => true,
            (_, Self::One) => false,
            (_, Self::Char(it)) => self.matches(*it),
            (_, Self::Set { negated, .. }) => {
                let open = |it: &Self| matches!(it, Self::Set { negated: true, .. });
                (!negated || open(self))
                    && ('\0'..='\u{7f}').all(|it| !other.matches(it) || self.matches(it))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Reference;
    use proptest::prelude::*;

    #[test]
    fn patterns_that_cover_others() {
        for (wide, narrow, expected) in [
            ("*", "", true),
            ("*", "a*b?[cd]", true),
            ("a*", "ab*", true),
            ("ab*", "a*", false),
            ("*x", "a*x", true),
            ("*x*", "a*x", true),
            ("q/*", "q/", true),
            ("?", "a", true),
            ("?", "*", false),
            ("a", "a", true),
            ("a", "[a]", true),
            ("a", "?", false),
            ("[abc]", "[ab]", true),
            ("[ab]", "[abc]", false),
            ("[!a]", "[!ab]", true),
            ("[!a]", "b", true),
            ("[b-z]", "[!a]", false),
            ("*a*b*", "xaxbx", true),
            ("*a*b*", "*b*a*", false),
        ] {
            let covers = Glob::new(wide).covers(&Glob::new(narrow));
            assert_eq!(covers, expected, "{wide} over {narrow}");
        }
    }

    #[test]
    fn patterns_that_no_image_can_match() {
        for (pattern, expected) in [
            ("*", true),
            ("quay.io/*", true),
            ("*nginx:1.?", true),
            ("QUAY.io/*", true),
            ("[[]2001:db8::1]:5000/*", true),
            ("*@sha256:*", true),
            ("nginx:[A-Z]*", true),
            ("localhost:*/x", true),
            ("", false),
            ("https://*", false),
            ("quay.io/Team/*", false),
            ("quay.io//*", false),
            ("*/", false),
            ("/*", false),
            ("*:5000/*:1:*", false),
            ("a\tb*", false),
            ("*@md5:*", false),
            ("nginx:", false),
        ] {
            let matches = Glob::new(pattern).matches_a_reference();
            assert_eq!(matches, expected, "{pattern}");
        }
    }

    proptest! {
        #[test]
        fn what_is_covered_is_matched(wide in "[*?ab]{0,6}", narrow in "[*?ab]{0,6}", text in "[ab]{0,8}") {
            let (wide, narrow) = (Glob::new(&wide), Glob::new(&narrow));
            if wide.covers(&narrow) && narrow.matches(&text) {
                prop_assert!(wide.matches(&text));
            }
            prop_assert!(narrow.matches(&narrow.sample("ab")));
        }

        #[test]
        fn a_pattern_that_matches_an_image_can(pattern in "[*?a-z/.:-]{0,12}", image in crate::testing::reference()) {
            prop_assert!(Reference::parse(&image).is_ok());
            prop_assert!(Glob::new(&image.replace('[', "[[]")).matches_a_reference());
            let glob = Glob::new(&pattern);
            if glob.matches(&image) {
                prop_assert!(glob.matches_a_reference());
            }
        }
    }
}
