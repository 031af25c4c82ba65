//! Shell patterns as Python's `fnmatch` reads them: `*` any run (also of `/`), `?` one character, `[ab]`, `[!a-z]`.

mod language;

/// A compiled pattern; matches whole texts, by case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Glob {
    pattern: String,
    tokens: Vec<Token>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Run,
    One,
    Char(char),
    Set {
        negated: bool,
        ranges: Vec<(char, char)>,
    },
}

impl Glob {
    pub(crate) fn new(pattern: &str) -> Self {
        let chars: Vec<char> = pattern.chars().collect();
        let mut tokens = Vec::new();
        let mut at = 0;
        while at < chars.len() {
            let (token, length) = match chars[at] {
                '*' => (Token::Run, 1),
                '?' => (Token::One, 1),
                '[' => set(&chars[at..]).unwrap_or((Token::Char('['), 1)),
                other => (Token::Char(other), 1),
            };
            tokens.push(token);
            at += length;
        }
        Self {
            pattern: pattern.to_owned(),
            tokens,
        }
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.pattern
    }

    /// Backtracks to the last `*` only, which is enough and bounds the work by the product of the
    /// lengths.
    pub(crate) fn matches(&self, text: &str) -> bool {
        let mut rest = text.chars();
        let mut token = 0;
        let mut retry: Option<(usize, std::str::Chars<'_>)> = None;
        loop {
            let mut after = rest.clone();
            let step = match (self.tokens.get(token), after.next()) {
                (None, None) => return true,
                (Some(Token::Run), _) => {
                    retry = Some((token + 1, rest.clone()));
                    token += 1;
                    continue;
                }
                (Some(one), Some(char)) => one.matches(char),
                _ => false,
            };
            if step {
                token += 1;
                rest = after;
                continue;
            }
            let Some((after_run, from)) = &mut retry else {
                return false;
            };
            if from.next().is_none() {
                return false;
            }
            token = *after_run;
            rest = from.clone();
        }
    }
}

impl Token {
    fn matches(&self, char: char) -> bool {
        match self {
            Self::Run | Self::One => true,
            Self::Char(it) => *it == char,
            Self::Set { negated, ranges } => {
                ranges
                    .iter()
                    .any(|(low, high)| (low..=high).contains(&&char))
                    != *negated
            }
        }
    }
}

/// The set at the beginning of `chars`, and its length; `None` if no `]` closes it. A `]` that
/// comes first is a member.
fn set(chars: &[char]) -> Option<(Token, usize)> {
    let negated = chars.get(1) == Some(&'!');
    let start = 1 + usize::from(negated);
    let close = chars.iter().skip(start + 1).position(|&it| it == ']')? + start + 1;
    let members = &chars[start..close];
    let mut ranges = Vec::new();
    let mut at = 0;
    while at < members.len() {
        if at + 2 < members.len() && members[at + 1] == '-' {
            ranges.push((members[at], members[at + 2]));
            at += 3;
        } else {
            ranges.push((members[at], members[at]));
            at += 1;
        }
    }
    Some((Token::Set { negated, ranges }, close + 1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn patterns_match_as_in_python() {
        for (pattern, text, expected) in [
            ("", "", true),
            ("*", "", true),
            ("*", "a/b:c", true),
            ("quay.io/*", "quay.io/a/b:1", true),
            ("quay.io/*", "quay.io", false),
            ("n*", "nginx", true),
            ("*x", "nginx", true),
            ("*a*b*", "xxaxxbxx", true),
            ("*a*b", "xxaxxbx", false),
            ("hello:v1.?", "hello:v1.1", true),
            ("hello:v1.?", "hello:v1.12", false),
            ("q/[ab]*", "q/apple", true),
            ("q/[ab]*", "q/cherry", false),
            ("q/[!ab]*", "q/cherry", true),
            ("[a-c]x", "bx", true),
            ("[a-c]x", "dx", false),
            ("[]]", "]", true),
            ("[!]]", "]", false),
            ("[a-]", "-", true),
            ("[z-a]", "m", false),
            ("[ab", "[ab", true),
            ("[!", "[!", true),
            ("[", "[", true),
            ("[]", "[]", true),
            ("A", "a", false),
        ] {
            assert_eq!(
                Glob::new(pattern).matches(text),
                expected,
                "{pattern} on {text}"
            );
        }
    }

    proptest! {
        #[test]
        fn no_pattern_panics(pattern in "[*?\\[\\]!a-c-]{0,12}", text in "[a-c\\[\\]!-]{0,12}") {
            let _ = Glob::new(&pattern).matches(&text);
        }

        #[test]
        fn runs_match_as_a_naive_matcher_does(pattern in "[*?ab]{0,8}", text in "[ab]{0,10}") {
            fn naive(pattern: &[u8], text: &[u8]) -> bool {
                match pattern.split_first() {
                    None => text.is_empty(),
                    Some((b'*', rest)) => (0..=text.len()).any(|it| naive(rest, &text[it..])),
                    Some((b'?', rest)) => !text.is_empty() && naive(rest, &text[1..]),
                    Some((it, rest)) => text.first() == Some(it) && naive(rest, &text[1..]),
                }
            }
            prop_assert_eq!(Glob::new(&pattern).matches(&text), naive(pattern.as_bytes(), text.as_bytes()));
        }
    }
}
