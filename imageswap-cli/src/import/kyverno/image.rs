//! An image's parts as Kyverno hands them to policies.
//!
//! Kyverno fills in what is missing: `docker.io` for the registry, `latest` for the tag. It does not add `library/`;
//! only the data that it fetches from a registry has that, and calls the registry `index.docker.io`.

/// A part of an image, as policies name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Field {
    /// `registry` of `images`.
    Registry,
    /// `path` of `images`: the repository without `library/` where nobody wrote it.
    Path,
    /// `name` of `images`: the last segment of the path.
    Name,
    /// `tag` of `images`.
    Tag,
    /// `digest` of `images`.
    Digest,
    /// `reference` of `images`: the whole of it, by digest where there is one.
    Reference,
    /// `registry` of fetched image data.
    FetchedRegistry,
    /// `repository` of fetched image data.
    FetchedRepository,
    /// `identifier` of fetched image data: the digest, or else the tag.
    Identifier,
}

impl Field {
    /// A field of the variable `images`.
    pub(super) fn of_images(name: &str) -> Option<Self> {
        Some(match name {
            "registry" => Self::Registry,
            "path" => Self::Path,
            "name" => Self::Name,
            "tag" => Self::Tag,
            "digest" => Self::Digest,
            "reference" | "referenceWithTag" => Self::Reference,
            _ => return None,
        })
    }

    /// A field of a context variable of the kind `imageRegistry`.
    pub(super) fn of_fetched(name: &str) -> Option<Self> {
        Some(match name {
            "registry" => Self::FetchedRegistry,
            "repository" => Self::FetchedRepository,
            "identifier" => Self::Identifier,
            _ => return None,
        })
    }

    /// The field of an image as Kyverno has it.
    pub(super) fn of(self, image: &str) -> String {
        let parts = Parts::of(image);
        match self {
            Self::FetchedRegistry if parts.registry == "docker.io" => "index.docker.io".to_owned(),
            Self::Registry | Self::FetchedRegistry => parts.registry.to_owned(),
            Self::Path => parts.path.to_owned(),
            Self::FetchedRepository => match parts.registry {
                "docker.io" if !parts.path.contains('/') => format!("library/{}", parts.path),
                _ => parts.path.to_owned(),
            },
            Self::Name => parts.name().to_owned(),
            Self::Tag => parts.tag.to_owned(),
            Self::Digest => parts.digest.unwrap_or_default().to_owned(),
            Self::Identifier => parts.digest.unwrap_or(parts.tag).to_owned(),
            Self::Reference => normalize(image),
        }
    }
}

/// The image with registry, and with a tag unless it has a digest.
pub(super) fn normalize(image: &str) -> String {
    let Parts {
        registry,
        path,
        tag,
        digest,
    } = Parts::of(image);
    match digest {
        Some(digest) => format!("{registry}/{path}@{digest}"),
        None => format!("{registry}/{path}:{tag}"),
    }
}

struct Parts<'a> {
    registry: &'a str,
    path: &'a str,
    /// Empty where there is a digest and nobody wrote a tag.
    tag: &'a str,
    digest: Option<&'a str>,
}

impl<'a> Parts<'a> {
    fn of(image: &'a str) -> Self {
        let (name, digest) = match image.split_once('@') {
            Some((name, digest)) => (name, Some(digest)),
            None => (image, None),
        };
        let (name, tag) = match name.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, tag),
            _ if digest.is_some() => (name, ""),
            _ => (name, "latest"),
        };
        let (registry, path) = match name.split_once('/') {
            Some((first, rest)) if is_registry(first) => (first, rest),
            _ => ("docker.io", name),
        };
        Self {
            registry,
            path,
            tag,
            digest,
        }
    }

    fn name(&self) -> &'a str {
        self.path.rsplit('/').next().unwrap_or(self.path)
    }
}

/// Whether the first segment of a reference is a registry.
pub(super) fn is_registry(first: &str) -> bool {
    first.contains(['.', ':']) || first == "localhost"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_filled_in_as_kyverno_does() {
        const ROWS: [(&str, Field, &str); 12] = [
            ("nginx", Field::Registry, "docker.io"),
            ("nginx", Field::Path, "nginx"),
            ("nginx", Field::Tag, "latest"),
            ("nginx@sha256:00", Field::Tag, ""),
            ("nginx@sha256:00", Field::Identifier, "sha256:00"),
            ("nginx", Field::FetchedRepository, "library/nginx"),
            ("nginx", Field::FetchedRegistry, "index.docker.io"),
            ("quay.io/a/b:1", Field::FetchedRegistry, "quay.io"),
            ("quay.io/a/b:1", Field::Name, "b"),
            ("reg:5000/a/b", Field::Registry, "reg:5000"),
            ("reg:5000/a/b", Field::Reference, "reg:5000/a/b:latest"),
            ("a/b@sha256:00", Field::Digest, "sha256:00"),
        ];
        for (image, field, expected) in ROWS {
            assert_eq!(field.of(image), expected, "{field:?} of {image}");
        }
    }
}
