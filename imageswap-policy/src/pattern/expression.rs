//! Patterns as regular expressions, for programs that have no patterns of their own.

use super::wild::Wild;
use super::{Host, Pattern, Segment};
use regex_syntax::escape_into;

/// Any number of path segments, each with a `/` after it; and one or more.
const SEGMENTS_BEFORE: &str = "(?:[^/:@]+/)*";
const SEGMENTS: &str = "[^/:@]+(?:/[^/:@]+)*";

impl Pattern {
    /// A regular expression in the syntax of RE2 that matches the same canonical references, each
    /// as a whole. `None` for a host such as `*A` without dot and port, which also matches some
    /// IPv6 addresses.
    pub fn expression(&self) -> Option<String> {
        let mut text = String::from("^");
        self.host_expression(&mut text)?;
        for (at, segment) in self.path.iter().enumerate() {
            let last = at + 1 == self.path.len();
            match segment {
                Segment::Many if last => text.push_str(SEGMENTS),
                Segment::Many => text.push_str(SEGMENTS_BEFORE),
                Segment::One(wild) => {
                    run(wild, "[^/:@]*", &mut text);
                    if !last {
                        text.push('/');
                    }
                }
            }
        }
        if self.path.is_empty() {
            text.push_str(SEGMENTS);
        }
        self.version_expression(&mut text);
        text.push('$');
        Some(text)
    }

    /// The text with which every canonical reference that matches begins, and whether every
    /// canonical reference that begins with it matches.
    pub fn beginning(&self) -> (String, bool) {
        if self.is_everything() {
            return (String::new(), true);
        }
        let Host::Exact(host) = &self.host else {
            return (String::new(), false);
        };
        let mut text = host.clone();
        let fixed: Vec<_> = self.fixed_path().collect();
        for segment in &fixed {
            text.push('/');
            text.push_str(segment);
        }
        if fixed.len() < self.path.len() {
            text.push('/');
        }
        let whole = self.path[fixed.len()..] == [Segment::Many]
            && self.tag.is_none()
            && self.digest.is_none();
        (text, whole)
    }

    /// The canonical name, if the pattern is one without wildcards, tag and digest.
    pub fn repository(&self) -> Option<String> {
        let bare = self.tag.is_none() && self.digest.is_none();
        (bare && self.is_repository()).then(|| self.beginning().0)
    }

    fn host_expression(&self, text: &mut String) -> Option<()> {
        match &self.host {
            Host::Everything => {
                text.push_str("[^/]+/");
                if !self.path.is_empty() {
                    text.push_str(SEGMENTS_BEFORE);
                }
            }
            Host::Any => text.push_str("[^/]+/"),
            Host::Exact(host) => {
                escape_into(host, text);
                text.push('/');
            }
            Host::Labels { labels, port } => {
                if port.is_none() && may_be_address(labels) {
                    return None;
                }
                // The colons of an address are not those of a port.
                let (one, any) = match port {
                    None => ("[^./:]+", "[^./:]*"),
                    Some(_) => ("[^./]+", "[^./]*"),
                };
                for (at, label) in labels.iter().enumerate() {
                    let last = at + 1 == labels.len();
                    match label {
                        Segment::Many if last => {
                            text.extend([one, r"(?:\.", one, ")*"]);
                        }
                        Segment::Many => text.extend(["(?:", one, r"\.)*"]),
                        Segment::One(wild) => {
                            run(wild, any, text);
                            if !last {
                                text.push_str(r"\.");
                            }
                        }
                    }
                }
                if let Some(port) = port {
                    text.push(':');
                    run(port, "[0-9]*", text);
                }
                text.push('/');
            }
        }
        Some(())
    }

    fn version_expression(&self, text: &mut String) {
        match (&self.tag, &self.digest) {
            (None, None) => text.push_str("(?:[:@].*)?"),
            (None, Some(digest)) => {
                text.push_str("(?::[^@]*)?@");
                run(digest, ".*", text);
            }
            (Some(tag), None) => {
                let mut named = String::from(":");
                run(tag, "[^@]*", &mut named);
                named.push_str("(?:@.*)?");
                let unnamed = match (tag.matches("latest"), tag.is_any()) {
                    // A digest alone may have any tag, so only `*` matches.
                    (_, true) => "(?:@.*)?",
                    (true, false) => "",
                    (false, false) => return text.push_str(&named),
                };
                text.extend(["(?:", &named, "|", unnamed, ")"]);
            }
            (Some(tag), Some(digest)) => {
                let mut named = String::from(":");
                run(tag, "[^@]*", &mut named);
                if tag.is_any() {
                    named = format!("(?:{named})?");
                }
                text.push_str(&named);
                text.push('@');
                run(digest, ".*", text);
            }
        }
    }
}

/// Whether a host of these labels may be an IPv6 address in brackets, which has no dot.
fn may_be_address(labels: &[Segment]) -> bool {
    match labels {
        [Segment::One(wild)] => wild.literal().is_none() && wild.as_str().starts_with(['*', '[']),
        [Segment::One(wild), Segment::Many] | [Segment::Many, Segment::One(wild)] => {
            wild.as_str().starts_with(['*', '['])
        }
        [Segment::Many] => true,
        _ => false,
    }
}

/// Appends a text with wildcards, of which each becomes `any`.
fn run(wild: &Wild, any: &str, text: &mut String) {
    for (at, piece) in wild.as_str().split('*').enumerate() {
        if at > 0 {
            text.push_str(any);
        }
        escape_into(piece, text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Reference;
    use crate::testing::{pattern, reference};
    use proptest::prelude::*;
    use regex_automata::meta::Regex;

    #[test]
    fn expressions_of_patterns() {
        for (pattern, expected) in [
            (
                "docker.io/**",
                r"^docker\.io/[^/:@]+(?:/[^/:@]+)*(?:[:@].*)?$",
            ),
            (
                "nginx:latest",
                r"^docker\.io/library/nginx(?::latest(?:@.*)?|)$",
            ),
            ("r.io/a:1@sha256:*", r"^r\.io/a:1@sha256:.*$"),
            ("r.io:*/a", r"^r\.io:[0-9]*/a(?:[:@].*)?$"),
        ] {
            let found = Pattern::parse(pattern).unwrap().expression();
            assert_eq!(found.as_deref(), Some(expected), "{pattern}");
        }
        assert_eq!(Pattern::parse("*A/**").unwrap().expression(), None);
    }

    #[test]
    fn beginnings_of_patterns() {
        for (pattern, expected, whole) in [
            ("docker.io/**", "docker.io/", true),
            ("docker.io/library/*", "docker.io/library/", false),
            ("quay.io/team/**", "quay.io/team/", true),
            ("quay.io/team/**@sha256:*", "quay.io/team/", false),
            ("quay.io/a/b", "quay.io/a/b", false),
            ("quay.io/**/b", "quay.io/", false),
            ("*.io/**", "", false),
            ("**", "", true),
            ("**:latest", "", false),
        ] {
            let found = Pattern::parse(pattern).unwrap().beginning();
            assert_eq!(found, (expected.to_owned(), whole), "{pattern}");
        }
    }

    proptest! {
        #[test]
        fn an_expression_matches_what_its_pattern_matches(
            pattern in pattern(),
            images in prop::collection::vec(reference(), 1..30),
        ) {
            let pattern = Pattern::parse(&pattern).unwrap();
            let Some(expression) = pattern.expression() else { return Ok(()) };
            let regex = Regex::new(&expression).unwrap();
            let (beginning, whole) = pattern.beginning();
            let own = [pattern.sample("a"), pattern.sample(""), pattern.sample("1")];
            for image in images.iter().chain(&own) {
                let Ok(reference) = Reference::parse(image) else { continue };
                let canonical = reference.canonical();
                let expected = pattern.matches(&reference);
                prop_assert_eq!(regex.is_match(&canonical), expected, "{} {} {}", pattern, expression, image);
                if expected {
                    prop_assert!(canonical.starts_with(&beginning), "{} {}", pattern, image);
                } else {
                    prop_assert!(!whole || !canonical.starts_with(&beginning), "{} {}", pattern, image);
                }
            }
        }
    }
}
