//! An image's parts as Kyverno presents them to policies.
//!
//! Kyverno fills in `docker.io` for a missing registry and `latest` for a missing tag. It does not add `library/`; only
//! data that it fetches from a registry has `library/`, and calls the registry `index.docker.io`.

use super::value::Value;
use crate::fields::object;
use crate::image::is_registry;
use serde_json::Value as Json;
use std::collections::BTreeMap;

/// The image with its registry, and with a tag unless it has a digest.
pub(crate) fn normalize(image: &str) -> String {
    Parts::of(image).reference()
}

/// The entry of the variable `images` for this image.
pub(super) fn info(image: &str) -> Json {
    let parts = Parts::of(image);
    let Parts {
        registry,
        path,
        tag,
        digest,
    } = parts;
    let name = path.rsplit('/').next().unwrap_or(path);
    object([
        ("registry", registry.into()),
        ("path", path.into()),
        ("name", name.into()),
        ("tag", tag.into()),
        ("digest", digest.unwrap_or_default().into()),
        ("reference", parts.reference().into()),
        (
            "referenceWithTag",
            format!("{registry}/{path}:{tag}").into(),
        ),
    ])
}

/// The fields of the value of an `imageRegistry` variable, as far as it follows from the reference alone.
pub(super) fn fetched(image: &str) -> BTreeMap<String, Value> {
    let parts = Parts::of(image);
    let hub = parts.registry == "docker.io" || parts.registry == "index.docker.io";
    let registry = if hub {
        "index.docker.io"
    } else {
        parts.registry
    };
    let repository = if hub && !parts.path.contains('/') {
        format!("library/{}", parts.path)
    } else {
        parts.path.to_owned()
    };
    let fields = [
        ("image", image),
        ("registry", registry),
        ("repository", &repository),
        ("identifier", parts.digest.unwrap_or(parts.tag)),
    ];
    fields
        .map(|(name, it)| (name.to_owned(), Value::String(it.to_owned())))
        .into()
}

struct Parts<'a> {
    registry: &'a str,
    path: &'a str,
    /// Empty if there is a digest and no tag.
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

    fn reference(&self) -> String {
        let Self {
            registry,
            path,
            tag,
            ..
        } = self;
        match self.digest {
            Some(digest) => format!("{registry}/{path}@{digest}"),
            None => format!("{registry}/{path}:{tag}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_filled_in_as_kyverno_does() {
        for (image, field, expected) in [
            ("nginx", "registry", "docker.io"),
            ("nginx", "path", "nginx"),
            ("nginx", "tag", "latest"),
            ("nginx", "reference", "docker.io/nginx:latest"),
            ("nginx@sha256:00", "tag", ""),
            ("quay.io/a/b:1", "name", "b"),
            ("reg:5000/a/b", "registry", "reg:5000"),
            ("a/b@sha256:00", "digest", "sha256:00"),
        ] {
            assert_eq!(info(image)[field], expected, "{field} of {image}");
        }
        for (image, field, expected) in [
            ("nginx", "repository", "library/nginx"),
            ("nginx", "registry", "index.docker.io"),
            ("quay.io/a/b:1", "registry", "quay.io"),
            ("nginx@sha256:00", "identifier", "sha256:00"),
        ] {
            assert_eq!(
                fetched(image)[field],
                Value::String(expected.to_owned()),
                "{field} of {image}"
            );
        }
    }
}
