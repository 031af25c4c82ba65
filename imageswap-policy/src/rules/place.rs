//! Places where images lie: a registry, a path in it, one image.

use super::patterns::PatternSet;
use crate::pattern::Pattern;
use crate::reference::{DEFAULT_REGISTRY, Reference, canonical_registry, is_registry, split_port};
use std::collections::{HashMap, HashSet};
use std::fmt;

/// A place. Names are compared in their canonical form, and only at host and path boundaries: `example.com` covers
/// neither `example.com.evil.net/x` nor `evil.net/example.com/x`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// A path prefix on a registry; all of the registry when the path is empty.
    Path {
        /// Canonical.
        registry: String,
        /// Whether the registry, which has no port then, is meant with every port.
        any_port: bool,
        path: String,
    },
    /// What mirrors of other registries are called: this prefix (familiar, without `docker.io`), a registry, a path.
    Mirrors(String),
    /// Names that begin with this text (familiar, without `docker.io`).
    Names(String),
    /// One image, tag and digest as they are.
    Image {
        /// Canonical.
        registry: String,
        /// Canonical.
        path: String,
        tag: Option<String>,
        digest: Option<String>,
    },
    /// What a pattern means.
    Pattern(Pattern),
}

/// As a pattern, near enough for people.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path { registry, path, .. } if path.is_empty() => write!(f, "{registry}/**"),
            Self::Path { registry, path, .. } => write!(f, "{registry}/{path}/**"),
            Self::Mirrors(prefix) | Self::Names(prefix) => write!(f, "{prefix}*"),
            Self::Image {
                registry,
                path,
                tag,
                digest,
            } => {
                write!(f, "{registry}/{path}")?;
                tag.iter().try_for_each(|it| write!(f, ":{it}"))?;
                digest.iter().try_for_each(|it| write!(f, "@{it}"))
            }
            Self::Pattern(pattern) => f.write_str(pattern.as_str()),
        }
    }
}

impl Place {
    /// The place that a target or item names: `host[:port][/path]`, or a path on `docker.io`.
    pub(crate) fn named(text: &str) -> Self {
        let (first, rest) = text.split_once('/').unwrap_or((text, ""));
        let (registry, path) = if is_registry(first) {
            (first, rest)
        } else {
            (DEFAULT_REGISTRY, text)
        };
        Self::Path {
            registry: canonical_registry(registry).to_owned(),
            any_port: false,
            path: path.trim_matches('/').to_owned(),
        }
    }

    /// One image, tag and digest as they are.
    pub(crate) fn image(reference: &Reference<'_>) -> Self {
        Self::Image {
            registry: reference.registry().to_owned(),
            path: reference.canonical_path().into_owned(),
            tag: reference.tag().map(str::to_owned),
            digest: reference.digest().map(str::to_owned),
        }
    }

    /// The same with any port, unless one is named.
    pub(crate) fn with_any_port(self) -> Self {
        match self {
            Self::Path { registry, path, .. } => Self::Path {
                any_port: split_port(&registry).1.is_none(),
                registry,
                path,
            },
            other => other,
        }
    }

    pub(crate) fn covers(&self, reference: &Reference<'_>) -> bool {
        match self {
            Self::Path {
                registry,
                any_port,
                path,
            } => {
                let of = reference.registry();
                (of == registry || (*any_port && host_of(of) == registry))
                    && path_covers(path, reference)
            }
            Self::Mirrors(prefix) => rest_after(prefix, reference)
                .and_then(|it| it.split_once('/'))
                .is_some_and(|(host, _)| !host.is_empty()),
            Self::Names(prefix) => rest_after(prefix, reference).is_some_and(|it| !it.is_empty()),
            Self::Pattern(pattern) => pattern.matches(reference),
            Self::Image {
                registry,
                path,
                tag,
                digest,
            } => {
                reference.registry() == registry
                    && reference.tag() == tag.as_deref()
                    && reference.digest() == digest.as_deref()
                    && if reference.is_official_by_omission() {
                        path.strip_prefix("library/") == Some(reference.path())
                    } else {
                        path == reference.path()
                    }
            }
        }
    }

    /// The registry that the place lies on, where that is one.
    pub(crate) fn registry(&self) -> Option<&str> {
        match self {
            Self::Path { registry, .. } | Self::Image { registry, .. } => Some(registry),
            Self::Pattern(pattern) => pattern.registry(),
            Self::Mirrors(prefix) | Self::Names(prefix) => {
                let first = prefix.split_once('/').map(|(first, _)| first)?;
                Some(if is_registry(first) {
                    canonical_registry(first)
                } else {
                    DEFAULT_REGISTRY
                })
            }
        }
    }
}

/// Many places, asked at once.
#[derive(Debug, Clone, Default)]
pub(super) struct Places {
    /// By registry, paths of [`Place::Path`].
    paths: HashMap<String, Paths>,
    /// The same for registries with any port.
    any_port: HashMap<String, Paths>,
    patterns: PatternSet,
    others: Vec<Place>,
}

/// Path prefixes on one registry.
#[derive(Debug, Clone, Default)]
struct Paths {
    prefixes: HashSet<String>,
    /// Those that begin with `library/`, without it.
    official: HashSet<String>,
}

impl Places {
    pub(super) fn new(places: Vec<Place>) -> Self {
        let mut all = Self::default();
        let mut patterns = Vec::new();
        for place in places {
            match place {
                Place::Path {
                    registry,
                    any_port,
                    path,
                } => {
                    if any_port {
                        let paths = all.any_port.entry(registry.clone()).or_default();
                        paths.insert(&path);
                    }
                    all.paths.entry(registry).or_default().insert(&path);
                }
                Place::Pattern(pattern) => patterns.push(pattern),
                other => all.others.push(other),
            }
        }
        all.patterns = PatternSet::new(patterns);
        all
    }

    pub(super) fn cover(&self, reference: &Reference<'_>) -> bool {
        let registry = reference.registry();
        let covered = |paths: Option<&Paths>| paths.is_some_and(|it| it.cover(reference));
        covered(self.paths.get(registry))
            || (!self.any_port.is_empty() && covered(self.any_port.get(host_of(registry))))
            || self.patterns.matches(reference)
            || self.others.iter().any(|it| it.covers(reference))
    }
}

impl Paths {
    fn insert(&mut self, path: &str) {
        if let Some(rest) = path.strip_prefix("library/") {
            self.official.insert(rest.to_owned());
        }
        self.prefixes.insert(path.to_owned());
    }

    /// Whether one of the prefixes is the canonical path, or a path above it.
    fn cover(&self, reference: &Reference<'_>) -> bool {
        if self.prefixes.contains("") {
            return true;
        }
        let path = reference.path();
        if reference.is_official_by_omission() {
            return self.prefixes.contains("library") || self.official.contains(path);
        }
        let ends = path.match_indices('/').map(|(at, _)| at);
        ends.chain([path.len()])
            .any(|end| self.prefixes.contains(&path[..end]))
    }
}

/// The canonical host, without its port.
fn host_of(registry: &str) -> &str {
    canonical_registry(split_port(registry).0)
}

/// Whether the canonical path is `prefix` or lies below it.
fn path_covers(prefix: &str, reference: &Reference<'_>) -> bool {
    let below = |path: &str, prefix: &str| {
        path.strip_prefix(prefix)
            .is_some_and(|rest| prefix.is_empty() || rest.is_empty() || rest.starts_with('/'))
    };
    if !reference.is_official_by_omission() {
        return below(reference.path(), prefix);
    }
    match prefix.strip_prefix("library") {
        Some("") => true,
        Some(rest) => rest
            .strip_prefix('/')
            .is_some_and(|rest| below(reference.path(), rest)),
        None => prefix.is_empty(),
    }
}

/// What follows `prefix` in the name as people write it.
fn rest_after<'a>(prefix: &str, reference: &Reference<'a>) -> Option<&'a str> {
    let name = if reference.registry() == DEFAULT_REGISTRY {
        reference.familiar_path()
    } else {
        reference.as_str()
    };
    name.strip_prefix(prefix)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_ends_at_a_boundary() {
        for (place, image, expected) in [
            ("example.com", "example.com/x:1", true),
            ("example.com", "example.com:5000/x", false),
            ("example.com", "example.com.evil.net/x", false),
            ("example.com", "evil.net/example.com/x", false),
            ("example.com", "sub.example.com/x", false),
            ("example.com:5000", "example.com:5000/x", true),
            ("example.com/team", "example.com/team/x", true),
            ("example.com/team", "example.com/team:1", true),
            ("example.com/team/", "example.com/team/x", true),
            ("example.com/team", "example.com/teamevil/x", false),
            ("jms", "jms/nginx", true),
            ("jms", "docker.io/jms/nginx", true),
            ("jms", "jms", false),
            ("jms", "quay.io/jms/nginx", false),
            ("docker.io", "nginx", true),
            ("index.docker.io", "docker.io/a/b", true),
            ("docker.io/library", "nginx:1", true),
            ("docker.io/library", "library/nginx", true),
            ("docker.io/library/nginx", "nginx", true),
            ("docker.io/library/nginx", "nginxx", false),
            ("docker.io/libraryx", "nginx", false),
            ("localhost:30003/foo", "localhost:30003/foo/x", true),
        ] {
            let reference = Reference::parse(image).unwrap();
            let place = Place::named(place);
            assert_eq!(place.covers(&reference), expected, "{place:?} {image}");
            assert_eq!(
                Places::new(vec![place.clone()]).cover(&reference),
                expected,
                "{place:?} {image}"
            );
        }
    }

    #[test]
    fn other_places() {
        let covers = |place: &Place, image: &str| {
            let reference = Reference::parse(image).unwrap();
            assert_eq!(
                Places::new(vec![place.clone()]).cover(&reference),
                place.covers(&reference)
            );
            place.covers(&reference)
        };
        let host = Place::named("example.com").with_any_port();
        assert!(covers(&host, "example.com:5000/x") && covers(&host, "example.com/x"));
        assert!(!covers(
            &Place::named("example.com:443").with_any_port(),
            "example.com:5000/x"
        ));
        let hub = Place::named("index.docker.io").with_any_port();
        assert!(covers(&hub, "nginx") && covers(&hub, "index.docker.io:5000/x"));
        let mirrors = Place::Mirrors("r.io/m-".to_owned());
        assert!(
            covers(&mirrors, "r.io/m-docker.io/nginx") && !covers(&mirrors, "r.io/m-docker.io")
        );
        let names = Place::Names("jms-".to_owned());
        assert!(covers(&names, "jms-nginx") && covers(&names, "docker.io/library/jms-nginx"));
        assert!(covers(&names, "jms-gcr.io/a") && !covers(&names, "quay.io/jms-a"));
        let image = Place::image(&Reference::parse("docker.io/library/nginx:1").unwrap());
        assert!(
            covers(&image, "nginx:1") && !covers(&image, "nginx:2") && !covers(&image, "nginx")
        );
    }
}
