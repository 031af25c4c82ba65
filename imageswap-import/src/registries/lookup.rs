//! Which table decides about an image, and its result.

use super::read::{Alias, File, Registry};
use crate::image::Image;
use crate::intent::{Origin, Reading};

/// The tables of all files.
#[derive(Debug, Clone, Default)]
pub(super) struct Lookup {
    pub(super) registries: Vec<Registry>,
    pub(super) search: Option<(Vec<String>, Origin)>,
    pub(super) aliases: Vec<Alias>,
}

/// An image in full, as podman looks for it.
struct Resolved {
    /// With registry, and with `library/` and a tag where they are implied.
    full: String,
    alias: Option<usize>,
}

impl Lookup {
    /// Merges the files in their order; later tables replace earlier ones of the same prefix.
    pub(super) fn merged(files: Vec<File>, readings: &mut Vec<Reading>) -> Self {
        let mut all = Self::default();
        for file in files {
            let mut own: Vec<Registry> = Vec::new();
            for it in file.registries {
                if own.iter().any(|other| other.prefix == it.prefix) {
                    let why = format!("a table before it has the prefix `{}`, too", it.prefix);
                    readings.push(Reading::LeftOut(it.origin, why));
                } else {
                    own.push(it);
                }
            }
            for it in own {
                match all
                    .registries
                    .iter_mut()
                    .find(|other| other.prefix == it.prefix)
                {
                    Some(other) => {
                        let old = std::mem::replace(other, it);
                        let why = format!("{} replaces it", other.origin.source);
                        readings.push(Reading::LeftOut(old.origin, why));
                    }
                    None => all.registries.push(it),
                }
            }
            for it in file.aliases {
                all.aliases.retain(|other| other.name != it.name);
                all.aliases.push(it);
            }
            all.search = file.search.or(all.search);
        }
        all.aliases.retain(|it| !it.value.is_empty());
        // The order in which prefixes of one length are tried.
        all.registries.sort_by(|a, b| a.prefix.cmp(&b.prefix));
        all
    }

    /// The image in full; `None` if it is a short name that only a search finds.
    fn resolve(&self, text: &str) -> Option<Resolved> {
        let image = Image::parse(text)?;
        let first = text.split_once('/').map(|it| it.0);
        let host = first.is_some_and(|it| it == "localhost" || it.contains(['.', ':']));
        if !host {
            let slash = text.rfind('/').map_or(0, |it| it + 1);
            let end = text[slash..]
                .find([':', '@'])
                .map_or(text.len(), |it| slash + it);
            let name = &text[..end];
            if let Some(at) = self.aliases.iter().position(|it| it.name == name) {
                let full = Image::parse(&format!("{}{}", self.aliases[at].value, &text[end..]))?;
                return Some(Resolved {
                    full: in_full(&full),
                    alias: Some(at),
                });
            }
            let hub = match &self.search {
                None => true,
                // Without a registry to search the name cannot be pulled.
                Some((search, _)) => search.is_empty() || *search == ["docker.io"],
            };
            if !hub {
                return None;
            }
        }
        Some(Resolved {
            full: in_full(&image),
            alias: None,
        })
    }

    /// The table with the longest prefix, and the length of the match.
    fn table(&self, full: &str) -> Option<(usize, usize)> {
        let mut found: Option<(usize, usize)> = None;
        for (at, it) in self.registries.iter().enumerate() {
            if let Some(length) = matching(full, &it.prefix)
                && found
                    .is_none_or(|(best, _)| it.prefix.len() > self.registries[best].prefix.len())
            {
                found = Some((at, length));
            }
        }
        found
    }

    /// The table that decides about an image, however it is written.
    pub(super) fn table_of(&self, text: &str) -> Option<usize> {
        let it = self.resolve(text)?;
        self.table(&it.full).map(|it| it.0)
    }

    /// The result of a table for an image; others stay.
    pub(super) fn moved(&self, text: &str, table: usize) -> String {
        let found = self.resolve(text).filter(|it| it.alias.is_none());
        let moved = found.and_then(|it| {
            let (at, length) = self.table(&it.full)?;
            (at == table).then(|| self.registries[at].place(&it.full, length))?
        });
        moved.unwrap_or_else(|| text.to_owned())
    }

    /// The result of an alias for an image; others stay.
    pub(super) fn aliased(&self, text: &str, alias: usize) -> String {
        let Some(it) = self.resolve(text).filter(|it| it.alias == Some(alias)) else {
            return text.to_owned();
        };
        let moved = self
            .table(&it.full)
            .and_then(|(at, length)| self.registries[at].place(&it.full, length));
        moved.unwrap_or(it.full)
    }
}

impl Registry {
    /// Where an image comes from first; `None` if it stays.
    fn place(&self, full: &str, length: usize) -> Option<String> {
        if self.blocked {
            return None;
        }
        let digest = full.contains('@');
        let mirror = self
            .mirrors
            .iter()
            .find(|it| if digest { it.digest } else { it.tag });
        let location = mirror.map_or(self.location.as_str(), |it| it.location.as_str());
        if location.is_empty() {
            return None;
        }
        let made = format!("{location}{}", &full[length..]);
        // Only a name in full can be pulled: `docker.io/nginx` cannot.
        match Image::parse(&made) {
            Some(image) if in_full(&image) == made => Some(made),
            _ => Some(format!("{made} (not a name in full)")),
        }
    }
}

/// An image with its registry, and a tag unless it has a digest.
fn in_full(image: &Image) -> String {
    let text = image.text();
    if image.digest.is_none() && image.tag.as_deref() == Some("latest") {
        format!("{text}:latest")
    } else {
        text
    }
}

/// The length of the part of an image that a prefix matches; `*.` is any part of a host before its end.
fn matching(full: &str, prefix: &str) -> Option<usize> {
    let end = match prefix.strip_prefix('*') {
        Some(domain) => {
            let at = full.find(domain)?;
            if full[..at].contains('/') {
                return None;
            }
            at + domain.len()
        }
        None => full.starts_with(prefix).then_some(prefix.len())?,
    };
    // A port is a part of the host, whatever today's programs do with it.
    let host = !full[..end].contains('/');
    match full[end..].chars().next() {
        None | Some('/') => Some(end),
        Some(':' | '@') if !host => Some(end),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_end_where_a_part_ends() {
        for (full, prefix, expected) in [
            ("quay.io/a/b:1", "quay.io", Some(7)),
            ("quay.io/a/b:1", "quay.io/a", Some(9)),
            ("quay.io/a/b:1", "quay.io/a/b", Some(11)),
            ("quay.io/a/b:1", "quay.io/a/b:1", Some(13)),
            ("quay.io/a/bc:1", "quay.io/a/b", None),
            ("quay.io.evil.example/a:1", "quay.io", None),
            ("quay.io:5000/a:1", "quay.io", None),
            ("quay.io:5000/a:1", "quay.io:5000", Some(12)),
            ("a.b.example.com/x:1", "*.example.com", Some(15)),
            ("example.com/x:1", "*.example.com", None),
            ("a.example.com.evil.net/x:1", "*.example.com", None),
            ("evil.net/a.example.com/x:1", "*.example.com", None),
        ] {
            assert_eq!(matching(full, prefix), expected, "{full} {prefix}");
        }
    }
}
