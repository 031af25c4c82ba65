//! The action of a rule on an image that it matches.

use super::Template;
use crate::reference::Reference;

/// The action of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Action {
    /// The image stays, and is approved unless the policy has a list of approved images.
    Keep,
    /// The image stays, because it lies under the target of the next rule.
    Rest,
    /// The image becomes another.
    Replace(Target),
    /// The image becomes the template, filled with the captures of the rule's expression.
    Fill(Template),
}

/// The target of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    /// The beginning of the new reference, without a final `/`.
    pub(crate) prefix: String,
    pub(crate) join: Join,
}

/// The part of the old reference that follows the new prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Join {
    /// The canonical path without this many of its first segments, then tag and digest; the path
    /// may be used up.
    Path(usize),
    /// Tag and digest, as far as these are true; the prefix has the others.
    Rename { tag: bool, digest: bool },
}

impl Target {
    pub(crate) fn new(prefix: &str, join: Join) -> Self {
        Self {
            prefix: prefix.to_owned(),
            join,
        }
    }

    pub(crate) fn apply<'a>(&'a self, reference: &Reference<'a>) -> Pieces<'a> {
        let prefix = self.prefix.as_str();
        Pieces(match self.join {
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
        for (prefix, join, image, expected) in [
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
}
