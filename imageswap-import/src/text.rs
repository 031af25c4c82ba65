//! Wildcards and regular expressions as other programs apply them to the text of an image.

use regex_automata::meta;
use std::cell::RefCell;
use std::collections::HashMap;

/// Size limit of a compiled expression, in bytes.
const REGEX_SIZE: usize = 1 << 20;
/// Compiled expressions that are kept.
const CACHED: usize = 256;

thread_local! {
    static REGEXES: RefCell<HashMap<String, Option<meta::Regex>>> = RefCell::default();
}

/// Whether the whole text matches: `*` is any run of characters, `?` is one character.
pub(crate) fn glob(pattern: &str, text: &str) -> bool {
    let pattern: Vec<char> = pattern.chars().collect();
    let text: Vec<char> = text.chars().collect();
    let (mut at, mut position) = (0, 0);
    let mut retry = None;
    while position < text.len() {
        match pattern.get(at) {
            Some('*') => {
                at += 1;
                retry = Some((at, position));
            }
            Some(&it) if it == '?' || it == text[position] => {
                at += 1;
                position += 1;
            }
            _ => {
                let Some((resume, from)) = &mut retry else {
                    return false;
                };
                *from += 1;
                at = *resume;
                position = *from;
            }
        }
    }
    pattern[at..].iter().all(|&it| it == '*')
}

/// Compiles an expression as Go's RE2 reads it, which is how all sources do; `None` if it is not understood.
pub(crate) fn regex(pattern: &str) -> Option<meta::Regex> {
    REGEXES.with_borrow_mut(|cache| {
        if let Some(found) = cache.get(pattern) {
            return found.clone();
        }
        if cache.len() >= CACHED {
            cache.clear();
        }
        if !is_read_alike(pattern) {
            return None;
        }
        let config = meta::Config::new().nfa_size_limit(Some(REGEX_SIZE));
        let built = meta::Regex::builder().configure(config).build(pattern).ok();
        cache.insert(pattern.to_owned(), built.clone());
        built
    })
}

/// Whether both RE2 and the library here read an expression in the same way, if both accept it.
fn is_read_alike(pattern: &str) -> bool {
    let mut rest = pattern.chars().peekable();
    let mut class = false;
    let mut first = false;
    while let Some(it) = rest.next() {
        let next = rest.peek().copied();
        let began = std::mem::take(&mut first);
        match it {
            '\\' => {
                rest.next();
                // Classes of Unicode, words' ends and numbered characters have other names there.
                if next.is_some_and(|it| "pPuU<>".contains(it)) {
                    return false;
                }
                if next == Some('b') && rest.peek() == Some(&'{') {
                    return false;
                }
            }
            // Sets within sets and their operators are characters to RE2.
            '[' if class => {
                if next != Some(':') {
                    return false;
                }
                while rest.next().is_some_and(|it| it != ']') {}
            }
            '&' | '-' | '~' if class && next == Some(it) => return false,
            ']' if class && !began => class = false,
            '[' => {
                class = true;
                first = true;
                if next == Some('^') {
                    rest.next();
                }
            }
            '{' if !class && next == Some(',') => return false,
            '(' if next == Some('?') => {
                rest.next();
                let named = matches!(rest.peek(), Some('P' | '<'));
                while !named && let Some(flag) = rest.next_if(|it| !matches!(it, ':' | ')')) {
                    if !"imsU-".contains(flag) {
                        return false;
                    }
                }
            }
            _ => {}
        }
    }
    true
}

/// Replaces every match. `groups` says whether `$1` in `to` is a group.
pub(crate) fn replace_all(regex: &meta::Regex, subject: &str, to: &str, groups: bool) -> String {
    let mut result = String::new();
    let mut end = 0;
    for captures in regex.captures_iter(subject) {
        let Some(found) = captures.get_match() else {
            continue;
        };
        result.push_str(&subject[end..found.start()]);
        if groups {
            captures.interpolate_string_into(subject, to, &mut result);
        } else {
            result.push_str(to);
        }
        end = found.end();
    }
    result.push_str(&subject[end..]);
    result
}

/// The literal text in an expression, to find hosts and paths in it.
pub(crate) fn unescaped(pattern: &str) -> String {
    let mut text = String::new();
    let mut escaped = false;
    for it in pattern.replace("[.]", ".").chars() {
        match it {
            '\\' if !escaped => {
                escaped = true;
                continue;
            }
            '^' | '$' | '(' | ')' | '[' | ']' | '|' | '+' | '?' | '{' | '}' if !escaped => {
                text.push(' ');
            }
            _ => text.push(it),
        }
        escaped = false;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_that_two_readers_read_differently_are_refused() {
        for pattern in [
            "^[a-z&&[^b]]x",
            "[a--c]",
            "[~~]",
            "[a[b]]",
            "(?x)a b",
            "(?u:a)",
            r"\p{Greek}",
            r"\u0041",
            r"a\b{start}b",
            r"\<a",
            "a{,3}",
        ] {
            assert!(regex(pattern).is_none(), "{pattern}");
        }
        for pattern in [
            r"^(?:[a-z0-9-]+\.)+[a-z]+/",
            "^[]a]x",
            "^[^]a-]x",
            "[[:alnum:]._-]+",
            "(?i)quay",
            "(?P<host>a)(?<b>c)",
            r"\bquay\.io\b",
            r"[a\-\-b]",
            "a{1,3}&&b",
        ] {
            assert!(regex(pattern).is_some(), "{pattern}");
        }
    }

    #[test]
    fn wildcards_cross_slashes() {
        for (pattern, text, matches) in [
            ("reg.io/*", "reg.io/a/b:1", true),
            ("reg.io/*", "reg.io.evil/a", false),
            ("*/team/*", "reg.io/team/a", true),
            ("*/team/*", "team/a", false),
            ("?*", "", false),
            ("?*", "a", true),
            ("*:latest", "a:latest", true),
            ("a*b*c", "aXbXbc", true),
            ("a*b*c", "aXbXb", false),
        ] {
            assert_eq!(glob(pattern, text), matches, "{pattern} {text}");
        }
    }
}
