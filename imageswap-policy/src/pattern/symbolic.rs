//! Compares patterns without an image: whether one covers another, or overlaps a place.

use super::wild::{RUN, Wild};
use super::{Host, Pattern, Segment, Subject, Tag};
use crate::reference::split_port;

/// Represents a match of `**`: a segment that only `**` matches.
pub(super) const MANY: &str = "\u{2}";

impl Pattern {
    /// Whether this pattern matches everything that `other` matches. May return false in doubt.
    pub(crate) fn covers(&self, other: &Self) -> bool {
        if self.is_everything() {
            return true;
        }
        let path: Vec<_> = other.path.iter().map(symbol).collect();
        let path = path.join("/");
        let digest = other.digest.as_ref().map(Wild::as_str);
        let tag = other.tag.as_ref().map(|it| it.as_str().replace('*', RUN));
        let subject = |host, path| Subject {
            host,
            official: false,
            path,
            tag: tag.as_deref().map_or(Tag::Unknown, Tag::Named),
            digest,
        };
        match (&self.host, &other.host) {
            (Host::Everything, Host::Everything) => {
                let path = format!("{MANY}/{path}");
                self.matches_subject(&subject("", path.trim_end_matches('/')))
            }
            (_, Host::Everything) | (Host::Exact(_) | Host::Labels { .. }, Host::Any) => false,
            (Host::Everything | Host::Any, Host::Any) => self.matches_subject(&subject(RUN, &path)),
            (_, Host::Exact(host)) => self.matches_subject(&subject(host, &path)),
            (_, Host::Labels { labels, port }) => {
                let labels: Vec<_> = labels.iter().map(symbol).collect();
                let port = port
                    .as_ref()
                    .map(|it| format!(":{}", it.as_str().replace('*', RUN)));
                let host = format!("{}{}", labels.join("."), port.unwrap_or_default());
                self.matches_subject(&subject(&host, &path))
            }
        }
    }

    /// Whether some reference under `registry` and `path` (both canonical, the path possibly empty)
    /// may match. May return true in doubt.
    pub(crate) fn may_meet(&self, registry: &str, path: &str) -> bool {
        let here = match &self.host {
            Host::Everything => return true,
            Host::Any => true,
            Host::Exact(host) => host == registry,
            Host::Labels { labels, port } => {
                let (host, of) = split_port(registry);
                let name = Self {
                    text: String::new(),
                    host: Host::Any,
                    path: labels.clone(),
                    tag: None,
                    digest: None,
                };
                let port = match (port, of) {
                    (None, None) => true,
                    (Some(port), Some(of)) => port.matches(of),
                    _ => false,
                };
                let labels = host.replace('.', "/");
                port && name.matches_name(&Subject {
                    host: "",
                    official: false,
                    path: &labels,
                    tag: Tag::Unknown,
                    digest: None,
                })
            }
        };
        here && path
            .split('/')
            .filter(|it| !it.is_empty())
            .zip(&self.path)
            // From the first `**` on, anything may follow.
            .take_while(|(_, pattern)| **pattern != Segment::Many)
            .all(|(part, pattern)| pattern.matches(part))
            && self.is_as_deep_as(path)
    }

    /// Whether matching paths can have as many segments as `path`.
    fn is_as_deep_as(&self, path: &str) -> bool {
        let depth = path.split('/').filter(|it| !it.is_empty()).count();
        self.path.contains(&Segment::Many) || self.path.len() >= depth
    }
}

fn symbol(segment: &Segment) -> String {
    match segment {
        Segment::Many => MANY.to_owned(),
        Segment::One(wild) => wild.as_str().replace('*', RUN),
    }
}
