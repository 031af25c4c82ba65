//! Places of images: a registry, a path in it, one image.

use crate::reference::{DEFAULT_REGISTRY, Reference, canonical_registry, is_registry, split_port};
use foldhash::{HashMap, HashSet};
use std::fmt;

/// A place that a value names. Names are compared in their canonical form, and only at host and
/// path boundaries: `example.com` covers neither `example.com.evil.net/x` nor
/// `evil.net/example.com/x`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    Path(Path),
    /// Mirrors of other registries: this prefix (familiar, without `docker.io`), a registry, a
    /// path.
    Mirrors(String),
    /// Names that begin with this text (familiar, without `docker.io`).
    Names(String),
    /// One image with its exact tag and digest.
    Image {
        /// Canonical.
        registry: String,
        /// Canonical.
        path: String,
        tag: Option<String>,
        digest: Option<String>,
    },
}

/// A path on a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Path {
    /// Canonical.
    pub(crate) registry: String,
    /// Whether any port of the registry matches; the registry then has no port itself.
    pub(crate) any_port: bool,
    /// Segments separated by `/`; empty means all of the registry.
    pub(crate) below: String,
}

/// As a pattern, roughly, for people.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(Path {
                registry, below, ..
            }) if below.is_empty() => {
                write!(f, "{registry}/**")
            }
            Self::Path(Path {
                registry, below, ..
            }) => write!(f, "{registry}/{below}/**"),
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
        }
    }
}

impl Path {
    /// The path that a value or item names: `host[:port][/path]`, or a path on `docker.io`.
    pub(crate) fn named(text: &str) -> Self {
        let (first, rest) = text.split_once('/').unwrap_or((text, ""));
        let (registry, path) = if is_registry(first) {
            (first, rest)
        } else {
            (DEFAULT_REGISTRY, text)
        };
        Self {
            registry: canonical_registry(registry).to_owned(),
            any_port: false,
            below: path.trim_matches('/').to_owned(),
        }
    }

    /// The same with any port, unless it has one.
    pub(crate) fn with_any_port(self) -> Self {
        Self {
            any_port: split_port(&self.registry).1.is_none(),
            ..self
        }
    }

    /// Whether the image is the path itself, or lies below it.
    pub(crate) fn holds(&self, reference: &Reference<'_>) -> bool {
        let of = reference.registry();
        (of == self.registry || (self.any_port && host_of(of) == self.registry))
            && is_at_or_below(&self.below, reference)
    }
}

impl Place {
    /// The path that a value names.
    pub(crate) fn named(text: &str) -> Self {
        Self::Path(Path::named(text))
    }

    /// One image with its exact tag and digest.
    pub(crate) fn image(reference: &Reference<'_>) -> Self {
        Self::Image {
            registry: reference.registry().to_owned(),
            path: reference.canonical_path().into_owned(),
            tag: reference.tag().map(str::to_owned),
            digest: reference.digest().map(str::to_owned),
        }
    }

    /// The registry of the place, if there is exactly one.
    pub(crate) fn registry(&self) -> Option<&str> {
        match self {
            Self::Path(Path { registry, .. }) | Self::Image { registry, .. } => Some(registry),
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

    /// Whether a place other than a path covers the image.
    fn covers(&self, reference: &Reference<'_>) -> bool {
        match self {
            Self::Path(_) => false,
            Self::Mirrors(prefix) => rest_after(prefix, reference)
                .and_then(|it| it.split_once('/'))
                .is_some_and(|(host, _)| !host.is_empty()),
            Self::Names(prefix) => rest_after(prefix, reference).is_some_and(|it| !it.is_empty()),
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
}

/// Many places, searched at once.
#[derive(Debug, Clone, Default)]
pub(super) struct Places {
    /// By registry, paths of [`Place::Path`].
    paths: HashMap<String, HashSet<String>>,
    /// The same for registries with any port.
    any_port: HashMap<String, HashSet<String>>,
    others: Vec<Place>,
}

impl Places {
    pub(super) fn new(places: Vec<Place>) -> Self {
        let mut all = Self::default();
        for place in places {
            let Place::Path(it) = place else {
                all.others.push(place);
                continue;
            };
            if it.any_port {
                let paths = all.any_port.entry(it.registry.clone()).or_default();
                paths.insert(it.below.clone());
            }
            all.paths.entry(it.registry).or_default().insert(it.below);
        }
        all
    }

    /// Whether the image lies in one of the places; for paths, below the path.
    pub(super) fn cover(&self, reference: &Reference<'_>) -> bool {
        let registry = reference.registry();
        let covered =
            |paths: Option<&HashSet<String>>| paths.is_some_and(|it| is_below_one(it, reference));
        covered(self.paths.get(registry))
            || (!self.any_port.is_empty() && covered(self.any_port.get(host_of(registry))))
            || self.others.iter().any(|it| it.covers(reference))
    }
}

/// Whether the canonical path lies below one of these.
fn is_below_one(paths: &HashSet<String>, reference: &Reference<'_>) -> bool {
    if paths.contains("") {
        return true;
    }
    if reference.is_official_by_omission() {
        return paths.contains("library");
    }
    let path = reference.path();
    let mut above = path.match_indices('/').map(|(at, _)| &path[..at]);
    above.any(|it| paths.contains(it))
}

/// The canonical host, without its port.
fn host_of(registry: &str) -> &str {
    canonical_registry(split_port(registry).0)
}

/// Whether the canonical path is `prefix` or lies below it.
fn is_at_or_below(prefix: &str, reference: &Reference<'_>) -> bool {
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

/// What follows `prefix` in the familiar name.
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
    fn path_ends_at_a_boundary() {
        for (path, image, holds, covers) in [
            ("example.com", "example.com/x:1", true, true),
            ("example.com", "example.com:5000/x", false, false),
            ("example.com", "example.com.evil.net/x", false, false),
            ("example.com", "evil.net/example.com/x", false, false),
            ("example.com", "sub.example.com/x", false, false),
            ("example.com:5000", "example.com:5000/x", true, true),
            ("example.com/team", "example.com/team/x", true, true),
            ("example.com/team", "example.com/team:1", true, false),
            ("example.com/team/", "example.com/team/x", true, true),
            ("example.com/team", "example.com/teamevil/x", false, false),
            ("jms", "jms/nginx", true, true),
            ("jms", "docker.io/jms/nginx", true, true),
            ("jms", "jms", false, false),
            ("jms", "quay.io/jms/nginx", false, false),
            ("docker.io", "nginx", true, true),
            ("index.docker.io", "docker.io/a/b", true, true),
            ("docker.io/library", "nginx:1", true, true),
            ("docker.io/library", "library/nginx", true, true),
            ("docker.io/library/nginx", "nginx", true, false),
            ("docker.io/library/nginx", "nginxx", false, false),
            ("docker.io/libraryx", "nginx", false, false),
            ("localhost:30003/foo", "localhost:30003/foo/x", true, true),
        ] {
            let reference = Reference::parse(image).unwrap();
            let path = Path::named(path);
            assert_eq!(path.holds(&reference), holds, "{path:?} {image}");
            let target = Places::new(vec![Place::Path(path.clone())]);
            assert_eq!(target.cover(&reference), covers, "{path:?} {image}");
        }
    }

    #[test]
    fn other_places() {
        let covers = |place: &Place, image: &str| {
            let reference = Reference::parse(image).unwrap();
            Places::new(vec![place.clone()]).cover(&reference)
        };
        let any_port = |text: &str| Place::Path(Path::named(text).with_any_port());
        let host = any_port("example.com");
        assert!(covers(&host, "example.com:5000/x") && covers(&host, "example.com/x"));
        assert!(!covers(&any_port("example.com:443"), "example.com:5000/x"));
        let hub = any_port("index.docker.io");
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
