//! A Rust file taken apart far enough to tell code, strings and comments.

/// What a file holds outside its tests: code without comments, and strings.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Source {
    code: String,
    strings: Vec<String>,
}

impl Source {
    /// Takes `text` apart. A module of tests stands last and is left out.
    pub(crate) fn parse(text: &str) -> Self {
        let end = ["#[cfg(test)]\nmod ", "#[cfg(test)]\npub mod "]
            .iter()
            .filter_map(|mark| text.find(mark))
            .min();
        let text = &text[..end.unwrap_or(text.len())];
        let mut source = Self::default();
        let mut rest = text;
        while let Some(first) = rest.chars().next() {
            let (length, string) = token(rest, source.code.chars().last());
            if let Some(string) = string {
                source.strings.push(string.to_owned());
                source.code.push_str("\"\"");
            }
            if length == 0 {
                source.code.push(first);
            }
            rest = &rest[if length == 0 {
                first.len_utf8()
            } else {
                length
            }..];
        }
        source
    }

    /// Whether the code holds `word` as a whole word.
    pub(crate) fn names(&self, word: &str) -> bool {
        let part = |c: char| c.is_alphanumeric() || c == '_';
        self.code.match_indices(word).any(|(at, _)| {
            !self.code[..at].ends_with(part) && !self.code[at + word.len()..].starts_with(part)
        })
    }

    /// Whether a string holds `text`.
    pub(crate) fn quotes(&self, text: &str) -> bool {
        self.strings.iter().any(|string| string.contains(text))
    }

    /// Whether a string is `text`.
    pub(crate) fn says(&self, text: &str) -> bool {
        self.strings.iter().any(|string| string == text)
    }

    /// Whether a string is the name of a metric of ours.
    pub(crate) fn quotes_metric(&self) -> bool {
        const BEGIN: [&str; 6] = [
            "imageswap_admission_",
            "imageswap_agent_",
            "imageswap_build_",
            "imageswap_policy_info",
            "imageswap_policy_last",
            "imageswap_tls_",
        ];
        BEGIN.iter().any(|begin| self.quotes(begin))
    }
}

/// The length of the comment, string or character that `rest` begins with, and
/// the string's content; 0 for anything else.
fn token(rest: &str, before: Option<char>) -> (usize, Option<&str>) {
    if rest.starts_with("//") {
        return (rest.find('\n').unwrap_or(rest.len()), None);
    }
    if rest.starts_with("/*") {
        return (rest.find("*/").map_or(rest.len(), |end| end + 2), None);
    }
    let in_word = before.is_some_and(|c| c.is_alphanumeric() || c == '_');
    if let Some(raw) = rest.strip_prefix('r').filter(|_| !in_word) {
        let hashes = raw.len() - raw.trim_start_matches('#').len();
        if raw[hashes..].starts_with('"') {
            let close = format!("\"{}", "#".repeat(hashes));
            let content = &raw[hashes + 1..];
            let end = content.find(&close).unwrap_or(content.len());
            return (
                (2 + hashes + end + close.len()).min(rest.len()),
                Some(&content[..end]),
            );
        }
    }
    if let Some(content) = rest.strip_prefix('"') {
        let end = unescaped(content, '"');
        return ((end + 2).min(rest.len()), Some(&content[..end]));
    }
    if let Some(content) = rest.strip_prefix('\'') {
        let mut chars = content.chars();
        let (first, second) = (chars.next(), chars.next());
        // Otherwise it is a lifetime.
        if first == Some('\\') || second == Some('\'') {
            return ((unescaped(content, '\'') + 2).min(rest.len()), None);
        }
    }
    (0, None)
}

/// Where `end` stands without a backslash before it.
fn unescaped(content: &str, end: char) -> usize {
    let mut escaped = false;
    for (at, c) in content.char_indices() {
        if !escaped && c == end {
            return at;
        }
        escaped = !escaped && c == '\\';
    }
    content.len()
}

#[test]
fn comments_and_tests_are_left_out() {
    let source = Source::parse(
        "//! rustls here\nuse aya::Ebpf; /* unsafe */ let c = '\"'; let l: &'static str = \"a \\\" rustls\";\n\
         let r = r#\"imageswap_agent_x \"quoted\" \"#;\n#[cfg(test)]\nmod tests { unsafe {} }\n",
    );
    assert!(source.names("aya") && source.names("Ebpf") && source.names("static"));
    assert!(!source.names("rustls") && !source.names("unsafe") && !source.names("ay"));
    assert_eq!(
        source.strings,
        ["a \\\" rustls", "imageswap_agent_x \"quoted\" "]
    );
    assert!(source.quotes_metric());
}

#[test]
fn a_lint_is_no_unsafe_code() {
    assert!(!Source::parse("#![forbid(unsafe_code)]").names("unsafe"));
    assert!(Source::parse("fn f() { unsafe { g() } }").names("unsafe"));
}
