//! The pattern language for references in rules, approvals, denials and exceptions.
//!
//! A pattern is `[host/]path[:tag][@digest]` with wildcards, compared with the whole canonical form
//! of a reference (`docker.io/library/nginx`), case-sensitively. `*` stays inside a path segment, a
//! host label or a tag; `**` as a whole segment spans any number of them. Every comparison ends at
//! a boundary: `example.com/**` matches neither `example.com.evil.net/x` nor
//! `evil.net/example.com/x`.

use crate::reference::{DEFAULT_REGISTRY, Reference, is_registry, split_port};
use std::fmt;
use std::str::Split;

mod expression;
mod parse;
mod symbolic;
mod wild;

pub use parse::PatternError;
pub(crate) use wild::Wild;

/// A parsed pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    /// As written.
    text: String,
    host: Host,
    /// Never empty, except for [`Host::Everything`].
    path: Vec<Segment>,
    tag: Option<Wild>,
    digest: Option<Wild>,
}

/// The registry part of a pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Host {
    /// A leading `**`: any registry, and any number of segments after it.
    Everything,
    /// `*` alone: any one registry, whatever its port.
    Any,
    /// Exactly this one; canonical, with its port.
    Exact(String),
    /// By its labels and its port; `None` forbids a port.
    Labels {
        labels: Vec<Segment>,
        port: Option<Wild>,
    },
}

/// A pattern for one path segment or host label.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Segment {
    /// `**`: any number of segments; at least one at the end.
    Many,
    One(Wild),
}

/// The parts that a pattern is compared with: those of a canonical reference, or of another
/// pattern.
#[derive(Debug, Clone, Copy)]
struct Subject<'a> {
    host: &'a str,
    /// Whether a segment `library` comes before `path`.
    official: bool,
    path: &'a str,
    tag: Tag<'a>,
    digest: Option<&'a str>,
}

#[derive(Debug, Clone, Copy)]
enum Tag<'a> {
    Named(&'a str),
    /// Neither tag nor digest: the runtime pulls `latest`.
    Latest,
    /// A digest alone, or any tag or none.
    Unknown,
}

impl Pattern {
    /// The text as written.
    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether the pattern matches `reference`.
    pub fn matches(&self, reference: &Reference<'_>) -> bool {
        self.matches_subject(&Subject {
            host: reference.registry(),
            official: reference.is_official_by_omission(),
            path: reference.path(),
            tag: match (reference.tag(), reference.digest()) {
                (Some(tag), _) => Tag::Named(tag),
                (None, None) => Tag::Latest,
                (None, Some(_)) => Tag::Unknown,
            },
            digest: reference.digest(),
        })
    }

    /// The registry, if the pattern names exactly one; canonical.
    pub(crate) fn registry(&self) -> Option<&str> {
        match &self.host {
            Host::Exact(host) => Some(host),
            _ => None,
        }
    }

    /// Whether the host has no wildcard except for its port.
    pub(crate) fn is_one_host(&self) -> bool {
        match &self.host {
            Host::Everything | Host::Any => false,
            Host::Exact(_) => true,
            Host::Labels { labels, .. } => labels.iter().all(|it| it.literal().is_some()),
        }
    }

    /// Whether any registry matches.
    pub(crate) fn is_any_registry(&self) -> bool {
        matches!(self.host, Host::Everything | Host::Any)
    }

    /// Whether the pattern is `host/*` on a registry whose repositories are nested deeper.
    pub(crate) fn is_shallow(&self) -> bool {
        !matches!(self.host, Host::Everything)
            && self.text.ends_with("/*")
            && matches!(&self.path[..], [Segment::One(only)] if only.is_any())
    }

    /// Whether the pattern is `docker.io/*`, which covers only official images.
    pub(crate) fn is_official_by_omission(&self) -> bool {
        self.text.ends_with("/*")
            && self.text.split('/').count() == 2
            && self.text.split('/').next().is_some_and(is_registry)
            && self.registry() == Some(DEFAULT_REGISTRY)
            && matches!(&self.path[..], [library, Segment::One(name)]
                if library.literal() == Some("library") && name.is_any())
    }

    /// The labels at the end of every matching host, `corp.example.com` for `*.corp.example.com`;
    /// without a port. `None` if the pattern names one registry, or none.
    pub(crate) fn host_suffix(&self) -> Option<String> {
        let Host::Labels { labels, .. } = &self.host else {
            return None;
        };
        let literal = |it: &&Segment| matches!(it, Segment::One(wild) if wild.literal().is_some());
        let count = labels.iter().rev().take_while(literal).count();
        let suffix: Vec<_> = labels[labels.len() - count..]
            .iter()
            .filter_map(Segment::literal)
            .collect();
        (!suffix.is_empty()).then(|| suffix.join("."))
    }

    /// The path segments before the first wildcard; empty if the depth of the path is open.
    pub(crate) fn fixed_path(&self) -> impl Iterator<Item = &str> {
        let path = if self.host == Host::Everything {
            &[]
        } else {
            self.path.as_slice()
        };
        path.iter().map_while(Segment::literal)
    }

    /// Whether the pattern names one repository, without a wildcard in host and path.
    pub(crate) fn is_repository(&self) -> bool {
        self.registry().is_some() && self.fixes_path()
    }

    /// Whether every segment of the path is fixed, for any registry.
    pub(crate) fn fixes_path(&self) -> bool {
        self.host != Host::Everything && self.path.iter().all(|it| it.literal().is_some())
    }

    /// Whether the pattern names one tag, or one digest.
    pub(crate) fn fixes_version(&self) -> bool {
        let literal = |it: &Option<Wild>| it.as_ref().is_some_and(|it| it.literal().is_some());
        literal(&self.tag) || literal(&self.digest)
    }

    /// Whether the pattern demands a digest.
    pub(crate) fn demands_digest(&self) -> bool {
        self.digest.is_some()
    }

    /// Whether the pattern is `**`, which is every reference.
    pub(crate) fn is_everything(&self) -> bool {
        self.host == Host::Everything
            && self.path.is_empty()
            && self.tag.is_none()
            && self.digest.is_none()
    }

    fn matches_subject(&self, subject: &Subject<'_>) -> bool {
        self.matches_name(subject)
            && self.tag.as_ref().is_none_or(|it| match subject.tag {
                Tag::Named(tag) => it.matches(tag),
                Tag::Latest => it.matches("latest"),
                Tag::Unknown => it.is_any(),
            })
            && self
                .digest
                .as_ref()
                .is_none_or(|it| subject.digest.is_some_and(|digest| it.matches(digest)))
    }

    fn matches_name(&self, subject: &Subject<'_>) -> bool {
        let segments = Parts {
            first: subject.official.then_some("library"),
            rest: subject.path.split('/'),
        };
        match &self.host {
            Host::Everything => {
                self.path.is_empty() || {
                    let tail = Segments {
                        patterns: &self.path,
                        many_before: true,
                    };
                    // `**` has to span the host: `**/x` does not match a host called x.
                    tail.match_all(segments)
                }
            }
            Host::Any => Segments::new(&self.path).match_all(segments),
            Host::Exact(host) => {
                host == subject.host && Segments::new(&self.path).match_all(segments)
            }
            Host::Labels { labels, port } => {
                let (host, of) = split_port(subject.host);
                let port = match (port, of) {
                    (None, None) => true,
                    (Some(port), Some(of)) => port.matches(of),
                    _ => false,
                };
                let labels = Segments::new(labels);
                port && labels.match_all(Parts {
                    first: None,
                    rest: host.split('.'),
                }) && Segments::new(&self.path).match_all(segments)
            }
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Segment {
    fn literal(&self) -> Option<&str> {
        match self {
            Self::Many => None,
            Self::One(wild) => wild.literal(),
        }
    }

    fn matches(&self, part: &str) -> bool {
        match self {
            Self::Many => true,
            Self::One(wild) => part != symbolic::MANY && wild.matches(part),
        }
    }
}

/// The parts of a path or host, one after the other.
#[derive(Debug, Clone)]
struct Parts<'a> {
    first: Option<&'a str>,
    rest: Split<'a, char>,
}

impl<'a> Iterator for Parts<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        self.first.take().or_else(|| self.rest.next())
    }
}

/// Patterns of segments, compared with all parts of a path.
#[derive(Debug, Clone, Copy)]
struct Segments<'p> {
    patterns: &'p [Segment],
    /// Whether any number of parts may precede.
    many_before: bool,
}

impl<'p> Segments<'p> {
    fn new(patterns: &'p [Segment]) -> Self {
        Self {
            patterns,
            many_before: false,
        }
    }

    /// Backtracks to the last `**` only, as globs do: a later one spans everything that an earlier
    /// one could.
    fn match_all(self, parts: Parts<'_>) -> bool {
        let mut rest = parts;
        let mut at = 0;
        let mut retry = self.many_before.then(|| (0, rest.clone()));
        loop {
            let mut after = rest.clone();
            let part = after.next();
            let step = match (self.patterns.get(at), part) {
                (None, None) => return true,
                // The last `**` takes all remaining parts, at least one.
                (Some(Segment::Many), part) if at + 1 == self.patterns.len() => {
                    return part.is_some();
                }
                (Some(Segment::Many), _) => {
                    at += 1;
                    retry = Some((at, rest.clone()));
                    continue;
                }
                (Some(pattern), Some(part)) => pattern.matches(part),
                _ => false,
            };
            if step {
                at += 1;
                rest = after;
                continue;
            }
            let Some((resume, from)) = &mut retry else {
                return false;
            };
            if from.next().is_none() {
                return false;
            }
            at = *resume;
            rest = from.clone();
        }
    }
}

#[cfg(test)]
mod tests;
