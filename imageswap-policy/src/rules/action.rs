//! What a rule does with an image that it matches.

use super::{Matcher, Rule, Template};
use crate::reference::{DEFAULT_REGISTRY, Reference, split_port};

/// What a rule does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Action {
    /// The image stays.
    Keep {
        /// Whether that approves it.
        approved: bool,
    },
    /// The image stays, for it lies under the target of the rule after this one.
    Rest,
    /// The image becomes another.
    Replace(Target),
    /// The image becomes what the rule's expression puts into the template.
    Fill(Template),
}

/// Where an image goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    /// What the new reference begins with; no `/` at its end.
    pub(crate) prefix: String,
    pub(crate) join: Join,
    /// Whether ImageSwap's own answer is never sound here, because of a slip in the text that is mended.
    pub(crate) mended: bool,
}

/// What of the old reference follows the new prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Join {
    /// Everything after the registry.
    Remainder {
        /// Whether a port of the old registry follows the new host (ImageSwap's answer where the key has none).
        carry_port: bool,
    },
    /// The old registry without its port, then everything after it; the prefix ends with `-`.
    Mirror,
    /// The last path segment with tag and digest.
    LastSegment,
    /// Nothing: the prefix is the whole reference.
    Nothing,
    /// The whole text; the prefix ends with `-`.
    Text,
    /// The canonical path without so many of its first segments, then tag and digest; all of the path may be gone.
    Path(usize),
    /// Of tag and digest what is true here; the prefix has the others.
    Rename { tag: bool, digest: bool },
}

impl Target {
    pub(crate) fn new(prefix: &str, join: Join) -> Self {
        Self {
            prefix: prefix.to_owned(),
            join,
            mended: false,
        }
    }

    pub(crate) fn apply<'a>(&'a self, reference: &Reference<'a>) -> Pieces<'a> {
        let prefix = self.prefix.as_str();
        let text = reference.as_str();
        let registry = reference.written_registry().unwrap_or(DEFAULT_REGISTRY);
        let host = split_port(registry).0;
        Pieces(match self.join {
            Join::Remainder { carry_port } => {
                let port = if carry_port && self.is_bare_host() {
                    &registry[host.len()..]
                } else {
                    ""
                };
                [prefix, port, "/", reference.remainder()]
            }
            Join::Mirror => [prefix, host, "/", reference.remainder()],
            Join::LastSegment => {
                let slash = if prefix.is_empty() { "" } else { "/" };
                [prefix, slash, text.rsplit('/').next().unwrap_or(text), ""]
            }
            Join::Nothing => [prefix, "", "", ""],
            Join::Text => [prefix, text, "", ""],
            Join::Path(skip) => {
                let official = reference.is_official_by_omission();
                let remainder = reference.remainder();
                match (official, skip) {
                    (true, 0) => [prefix, "/", "library/", remainder],
                    (true, 1) => [prefix, "/", remainder, ""],
                    _ => {
                        let skip = skip - usize::from(official);
                        let mut slashes = reference.path().match_indices('/');
                        match skip.checked_sub(1).map(|it| slashes.nth(it)) {
                            None => [prefix, "/", remainder, ""],
                            Some(Some((slash, _))) => [prefix, &remainder[slash..], "", ""],
                            Some(None) => [prefix, &remainder[reference.path().len()..], "", ""],
                        }
                    }
                }
            }
            Join::Rename { tag, digest } => {
                let written = &reference.remainder()[reference.path().len()..];
                let (tags, digests) = written.split_at(written.find('@').unwrap_or(written.len()));
                [
                    prefix,
                    if tag { tags } else { "" },
                    if digest { digests } else { "" },
                    "",
                ]
            }
        })
    }

    /// A host without port and path, which is what an old port may follow.
    pub(crate) fn is_bare_host(&self) -> bool {
        !self.prefix.contains(['/', ':'])
    }
}

/// A text in parts, so that it can be compared without being built.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pieces<'a>([&'a str; 4]);

impl Pieces<'_> {
    /// Whether the parts make up `text`.
    pub(crate) fn spell(&self, text: &str) -> bool {
        self.0
            .iter()
            .try_fold(text, |rest, it| rest.strip_prefix(it))
            .is_some_and(str::is_empty)
    }

    pub(crate) fn concat(&self) -> String {
        self.0.concat()
    }
}

impl Rule {
    /// Whether ImageSwap's own answer would be another, because it takes the text for what it is not: a registry
    /// without a dot for a path, a name in the middle for the registry, a port for the start of a tag.
    pub(crate) fn mends(&self, reference: &Reference<'_>) -> bool {
        let Action::Replace(target) = &self.action else {
            return false;
        };
        if target.mended {
            return true;
        }
        let written = reference.written_registry();
        let unseen = reference.has_registry_without_dot();
        let port = written.is_some_and(|it| split_port(it).1.is_some());
        let repeated =
            |key: &str| occurrences(key, reference.as_str()) > usize::from(written.is_some());
        match target.join {
            Join::LastSegment
            | Join::Nothing
            | Join::Text
            | Join::Path(_)
            | Join::Rename { .. } => false,
            Join::Mirror if self.matcher == Matcher::Any => unseen || written.is_some(),
            Join::Mirror => unseen || (port && reference.path().contains('/')),
            Join::Remainder { carry_port } => {
                let key = match &self.matcher {
                    Matcher::Registry(key) => key.as_str(),
                    _ => written.unwrap_or(DEFAULT_REGISTRY),
                };
                unseen || repeated(key) || (carry_port && port && !target.is_bare_host())
            }
        }
    }
}

/// How often `key` stands in `text`, where a `.` of the key stands for any character: ImageSwap replaces all of them,
/// the key being its regular expression.
fn occurrences(key: &str, text: &str) -> usize {
    let (key, mut rest) = (key.as_bytes(), text.as_bytes());
    let mut count = 0;
    while rest.len() >= key.len() && !key.is_empty() {
        let here = key
            .iter()
            .zip(rest)
            .all(|(key, it)| *key == b'.' || key == it);
        count += usize::from(here);
        rest = &rest[if here { key.len() } else { 1 }..];
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    fn apply(prefix: &str, join: Join, image: &str) -> String {
        let target = Target::new(prefix, join);
        let reference = Reference::parse(image).unwrap();
        let pieces = target.apply(&reference);
        let text = pieces.concat();
        assert!(pieces.spell(&text));
        assert!(!pieces.spell(&format!("{text}x")));
        text
    }

    #[test]
    fn joins() {
        let remainder = |carry_port| Join::Remainder { carry_port };
        for (prefix, join, image, expected) in [
            ("m.io", remainder(false), "nginx:1", "m.io/nginx:1"),
            ("m.io/p", remainder(false), "q.io:443/a/b", "m.io/p/a/b"),
            ("m.io", remainder(true), "q.io:443/a/b", "m.io:443/a/b"),
            ("m.io/p", remainder(true), "q.io:443/a/b", "m.io/p/a/b"),
            (
                "m.io:5000",
                remainder(true),
                "q.io:443/a/b",
                "m.io:5000/a/b",
            ),
            ("m.io/p-", Join::Mirror, "nginx", "m.io/p-docker.io/nginx"),
            (
                "m.io/p-",
                Join::Mirror,
                "q.io:443/a/b/c:1",
                "m.io/p-q.io/a/b/c:1",
            ),
            ("m.io/p", Join::LastSegment, "q.io/a/b:1", "m.io/p/b:1"),
            ("", Join::LastSegment, "q.io/a/b:1", "b:1"),
            ("m.io/b:2", Join::Nothing, "q.io/a/b:1", "m.io/b:2"),
            (
                "jms-",
                Join::Text,
                "localhost:5000/x",
                "jms-localhost:5000/x",
            ),
            ("m.io/p", Join::Path(0), "nginx:1", "m.io/p/library/nginx:1"),
            ("m.io/p", Join::Path(1), "nginx:1", "m.io/p/nginx:1"),
            ("m.io/p", Join::Path(2), "nginx:1", "m.io/p:1"),
            (
                "m.io/p",
                Join::Path(0),
                "docker.io/nginx",
                "m.io/p/library/nginx",
            ),
            ("m.io/p", Join::Path(1), "library/nginx", "m.io/p/nginx"),
            ("m.io", Join::Path(0), "q.io:443/a/b:1", "m.io/a/b:1"),
            ("m.io", Join::Path(1), "q.io/a/b/c:1", "m.io/b/c:1"),
            ("m.io", Join::Path(2), "q.io/a/b/c:1", "m.io/c:1"),
            ("m.io/x", Join::Path(3), "q.io/a/b/c:1", "m.io/x:1"),
            ("m.io/x", Join::Path(3), "q.io/a/b/c", "m.io/x"),
            (
                "m.io/x:2",
                Join::Rename {
                    tag: false,
                    digest: true,
                },
                "q.io/a:1",
                "m.io/x:2",
            ),
        ] {
            assert_eq!(
                apply(prefix, join, image),
                expected,
                "{prefix} {join:?} {image}"
            );
        }
    }

    #[test]
    fn occurrences_are_those_of_a_regular_expression() {
        for (key, text, count) in [
            ("gcr.io", "gcr.io/a", 1),
            ("gcr.io", "gcr.io/a/gcr-io", 2),
            ("docker.io", "team/nginx", 0),
            ("a", "aaa", 3),
            ("", "a", 0),
            ("longer", "a", 0),
        ] {
            assert_eq!(occurrences(key, text), count, "{key} in {text}");
        }
    }
}
