//! Image references by the grammar that registries and runtimes share.
//!
//! The grammar is that of the `distribution/reference` Go package: `[domain "/"] path [":" tag]
//! ["@" digest]`, with Docker's rule for the domain (the first of several segments, if it has a
//! `.`, a `:` or an upper-case letter, or is `localhost`; `docker.io` otherwise). Parsing allocates
//! nothing and adds nothing to the text.

use std::borrow::Cow;

mod grammar;

/// The registry if no registry is written.
pub(crate) const DEFAULT_REGISTRY: &str = "docker.io";
/// Another name of [`DEFAULT_REGISTRY`], from before it had its own domain.
const LEGACY_REGISTRY: &str = "index.docker.io";
/// The path prefix of single-segment images on the default registry.
const OFFICIAL: &str = "library";
/// Longest path, including an implied `library/`.
const PATH_MAX: usize = 255;

/// A parsed reference. Borrows the text that it was parsed from; nothing is normalised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reference<'a> {
    text: &'a str,
    registry: Option<&'a str>,
    path: &'a str,
    tag: Option<&'a str>,
    digest: Option<&'a str>,
}

/// Why a text is not a reference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// The text is empty.
    #[error("the reference is empty")]
    Empty,
    /// Not of the form `[registry/]path[:tag][@digest]`.
    #[error("not of the form [registry/]path[:tag][@digest]")]
    InvalidFormat,
    /// It would be a reference if its path were in lower case.
    #[error("the repository path must be in lower case")]
    Uppercase,
    /// The path has more than 255 characters.
    #[error("the repository path is longer than {PATH_MAX} characters")]
    PathTooLong,
    /// 64 hex digits alone, or after `sha256:`, are an image id, not a name.
    #[error("this is the id of an image, not a name; write a repository with a tag or a digest")]
    ImageId,
    /// The digest's algorithm is not `sha256`, the only one that every registry and runtime checks.
    #[error("the digest's algorithm is not sha256")]
    DigestAlgorithm,
    /// The digest has too few or too many digits.
    #[error("the digest has not 64 digits")]
    DigestLength,
    /// The digest is not in lower-case hex digits.
    #[error("the digest is not in lower-case hex digits")]
    DigestFormat,
}

impl<'a> Reference<'a> {
    /// Parses `text` as an image in a Pod or on a command line.
    ///
    /// # Errors
    /// Why `text` is not a reference.
    pub fn parse(text: &'a str) -> Result<Self, ReferenceError> {
        if grammar::is_image_id(text) {
            return Err(ReferenceError::ImageId);
        }
        let registry = cut(text, b'/')
            .map(|(first, _)| first)
            .filter(|it| is_registry(it));
        let parts = grammar::parse(text)?;
        // The grammar reads a first segment such as `a_b.io` as a path, but runtimes pull from it
        // as a registry.
        let path = registry.map_or(parts.name, |it| &parts.name[it.len() + 1..]);
        // And it reads `[20]` as an address, which without a colon is not a registry by Docker's
        // rule.
        if registry.is_none() && path.starts_with('[') {
            return Err(ReferenceError::InvalidFormat);
        }
        let reference = Self {
            text,
            registry,
            path,
            tag: parts.tag,
            digest: parts.digest,
        };
        let implied = if reference.is_official_by_omission() {
            OFFICIAL.len() + 1
        } else {
            0
        };
        if path.len() + implied > PATH_MAX {
            return Err(ReferenceError::PathTooLong);
        }
        Ok(reference)
    }

    /// [`Self::registry`] of a text that is known to be a reference, without reading the rest of it.
    pub fn registry_of(text: &str) -> &str {
        let first = cut(text, b'/').map(|(first, _)| first);
        let written = first.filter(|it| is_registry(it));
        canonical_registry(written.unwrap_or(DEFAULT_REGISTRY))
    }

    /// The text as written.
    pub fn as_str(&self) -> &'a str {
        self.text
    }

    /// Canonical host, with the port if there is one: `docker.io` if no host is written, and for
    /// `index.docker.io`.
    pub fn registry(&self) -> &'a str {
        canonical_registry(self.registry.unwrap_or(DEFAULT_REGISTRY))
    }

    /// The host as written, with its port; `None` if `docker.io` is implied.
    pub fn written_registry(&self) -> Option<&'a str> {
        self.registry
    }

    /// The path as written, without registry, tag and digest; `library/` is not added.
    pub fn path(&self) -> &'a str {
        self.path
    }

    /// The tag, if written.
    pub fn tag(&self) -> Option<&'a str> {
        self.tag
    }

    /// The digest with its algorithm, `sha256:...`, if written.
    pub fn digest(&self) -> Option<&'a str> {
        self.digest
    }

    /// Whether `library/` belongs before the path to make it canonical: a path of one segment on `docker.io`.
    pub fn is_official_by_omission(&self) -> bool {
        self.registry() == DEFAULT_REGISTRY && !self.path.contains('/')
    }

    /// The path, with `library/` if the registry implies it.
    pub fn canonical_path(&self) -> Cow<'a, str> {
        if self.is_official_by_omission() {
            Cow::Owned(format!("{OFFICIAL}/{}", self.path))
        } else {
            Cow::Borrowed(self.path)
        }
    }

    /// Registry and path in full, without tag and digest: `docker.io/library/nginx`.
    pub fn canonical_name(&self) -> String {
        format!("{}/{}", self.registry(), self.canonical_path())
    }

    /// [`Self::canonical_name`] with tag and digest as written; no tag is added.
    pub fn canonical(&self) -> String {
        let mut text = self.canonical_name();
        for (mark, part) in [(':', self.tag), ('@', self.digest)] {
            if let Some(part) = part {
                text.push(mark);
                text.push_str(part);
            }
        }
        text
    }

    /// The shortest name of the same repository, as people write it: `nginx`, `bitnami/redis`, `quay.io/a/b`.
    pub fn familiar_name(&self) -> Cow<'a, str> {
        if self.registry() != DEFAULT_REGISTRY {
            return Cow::Borrowed(
                &self.text[..self.registry.map_or(0, |it| it.len() + 1) + self.path.len()],
            );
        }
        let short = self.familiar_path();
        let first = short.split_once('/').map(|(first, _)| first);
        if first.is_some_and(is_registry) || grammar::is_image_id(short) {
            return Cow::Owned(self.canonical_name());
        }
        Cow::Borrowed(short)
    }

    /// The path without the `library/` that `docker.io` implies; unchanged on other registries.
    pub(crate) fn familiar_path(&self) -> &'a str {
        if self.registry() == DEFAULT_REGISTRY
            && let Some(rest) = self
                .path
                .strip_prefix(OFFICIAL)
                .and_then(|it| it.strip_prefix('/'))
            && !rest.contains('/')
        {
            return rest;
        }
        self.path
    }

    /// Everything after the registry as written: path, tag and digest.
    pub(crate) fn remainder(&self) -> &'a str {
        self.registry
            .map_or(self.text, |it| &self.text[it.len() + 1..])
    }
}

/// Splits `host:port`, leaving the colons of an IPv6 address in the host.
pub(crate) fn split_port(registry: &str) -> (&str, Option<&str>) {
    match registry.bytes().rposition(|it| it == b':') {
        Some(colon) if !registry[colon..].contains(']') => {
            (&registry[..colon], Some(&registry[colon + 1..]))
        }
        _ => (registry, None),
    }
}

/// The text before and behind the first `byte`, an ASCII character. For texts as short as these that is
/// faster than `str::split_once`, which prepares for long ones.
pub(crate) fn cut(text: &str, byte: u8) -> Option<(&str, &str)> {
    let at = text.bytes().position(|it| it == byte)?;
    Some((&text[..at], &text[at + 1..]))
}

/// Whether the first of several segments names a registry.
pub(crate) fn is_registry(segment: &str) -> bool {
    segment == "localhost"
        || segment
            .bytes()
            .any(|it| it == b'.' || it == b':' || it.is_ascii_uppercase())
}

/// The one name of a registry that has several.
pub(crate) fn canonical_registry(registry: &str) -> &str {
    if registry == LEGACY_REGISTRY {
        DEFAULT_REGISTRY
    } else {
        registry
    }
}

#[cfg(test)]
mod tests;
