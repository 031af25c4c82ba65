//! The few fields of manifests and errors that decide whether an image is there.

use http::HeaderMap;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use imageswap_policy::sha256;
use serde::Deserialize;

use crate::platform::Platform;
use crate::problem::Problem;
use crate::target::Target;

/// Bytes of a manifest; what registries take and runtimes read.
pub(crate) const MAX_MANIFEST: usize = 4 << 20;
/// Bytes of the answer with an error.
pub(crate) const MAX_ERROR: usize = 64 << 10;
/// Types of manifests, for `Accept`.
pub(crate) const TYPES: &str = "application/vnd.oci.image.index.v1+json, \
     application/vnd.docker.distribution.manifest.list.v2+json, \
     application/vnd.oci.image.manifest.v1+json, \
     application/vnd.docker.distribution.manifest.v2+json";
/// The digest of the manifest that an answer is about.
const CONTENT_DIGEST: &str = "docker-content-digest";

/// What a manifest says about platforms.
#[derive(Debug)]
pub(crate) enum Manifest {
    /// A list: platforms, and digests of their manifests.
    Index(Vec<(Platform, String)>),
    /// One image, whose configuration has this digest.
    Image(String),
}

#[derive(Deserialize)]
struct Text {
    manifests: Option<Vec<Entry>>,
    config: Option<Descriptor>,
}

#[derive(Deserialize)]
struct Entry {
    digest: String,
    platform: Option<Platform>,
}

#[derive(Deserialize)]
struct Descriptor {
    digest: String,
}

#[derive(Deserialize)]
struct Errors {
    errors: Vec<Error>,
}

#[derive(Deserialize)]
struct Error {
    code: String,
}

/// Checks the head of a good answer: that it is about a manifest, of a possible size, and of the digest that was
/// asked about.
pub(crate) fn check(target: &Target, headers: &HeaderMap) -> Result<(), Problem> {
    let text = |name: &str| headers.get(name).and_then(|it| it.to_str().ok());
    let digest = text(CONTENT_DIGEST);
    let kind = text(CONTENT_TYPE.as_str()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    let is_manifest = TYPES.split(", ").any(|it| it == kind);
    if !is_manifest && digest.is_none() {
        return Err(Problem::Protocol {
            host: target.registry.clone(),
            what: "its answer is not a manifest",
        });
    }
    if target.is_digest && digest.is_some_and(|it| it != target.reference) {
        return Err(Problem::Digest(target.registry.clone()));
    }
    let length = text(CONTENT_LENGTH.as_str()).and_then(|it| it.parse::<u64>().ok());
    if length.is_some_and(|it| it > MAX_MANIFEST as u64) {
        return Err(Problem::TooLarge {
            host: target.registry.clone(),
            limit: MAX_MANIFEST,
            what: "a manifest",
        });
    }
    Ok(())
}

/// Whether the body of a 404 is an error of the protocol. A proxy without a registry behind it also answers 404.
pub(crate) fn is_error(body: &[u8]) -> bool {
    let errors = serde_json::from_slice::<Errors>(body).map(|it| it.errors);
    errors.is_ok_and(|errors| errors.iter().any(|it| !it.code.is_empty()))
}

/// Reads a manifest whose digest is that of the question.
pub(crate) fn read(target: &Target, body: &[u8]) -> Result<Manifest, Problem> {
    verify(target, &target.reference, body)?;
    let wrong = |what| Problem::Protocol {
        host: target.registry.clone(),
        what,
    };
    let text: Text = serde_json::from_slice(body)
        .map_err(|_other_shape| wrong("its manifest has another shape"))?;
    let digest = |it: String| {
        if is_digest(&it) {
            Ok(it)
        } else {
            Err(wrong("its manifest has a wrong digest"))
        }
    };
    match (text.manifests, text.config) {
        (Some(entries), _) => {
            let mut list = Vec::new();
            for it in entries {
                if let Some(platform) = it.platform {
                    list.push((platform, digest(it.digest)?));
                }
            }
            Ok(Manifest::Index(list))
        }
        (None, Some(config)) => Ok(Manifest::Image(digest(config.digest)?)),
        (None, None) => Err(wrong(
            "its manifest has neither manifests nor a configuration",
        )),
    }
}

/// The platform of an image, from its configuration.
pub(crate) fn platform(target: &Target, digest: &str, body: &[u8]) -> Result<Platform, Problem> {
    verify(target, digest, body)?;
    serde_json::from_slice(body).map_err(|_other_shape| Problem::Protocol {
        host: target.registry.clone(),
        what: "the image's configuration names no platform",
    })
}

fn verify(target: &Target, digest: &str, body: &[u8]) -> Result<(), Problem> {
    let Some(expected) = digest.strip_prefix("sha256:") else {
        return Ok(());
    };
    if sha256(body) == expected {
        Ok(())
    } else {
        Err(Problem::Digest(target.registry.clone()))
    }
}

fn is_digest(text: &str) -> bool {
    let digits = text.strip_prefix("sha256:").unwrap_or_default();
    let hex = |it: u8| it.is_ascii_digit() || (b'a'..=b'f').contains(&it);
    digits.len() == 64 && digits.bytes().all(hex)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_errors_of_the_protocol_count() {
        for (body, is) in [
            (
                r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}"#,
                true,
            ),
            (r#"{"errors":[{"code":"NAME_UNKNOWN"}]}"#, true),
            (r#"{"errors":[]}"#, false),
            (r#"{"errors":[{"code":""}]}"#, false),
            (r#"{"errors":"not found"}"#, false),
            ("<html>404 Not Found</html>", false),
            ("default backend - 404", false),
            ("", false),
        ] {
            assert_eq!(is_error(body.as_bytes()), is, "{body}");
        }
    }

    #[test]
    fn heads_are_checked() {
        let digest = format!("sha256:{}", "a".repeat(64));
        let other = format!("sha256:{}", "b".repeat(64));
        let image = format!("r.io/a@{digest}");
        let oci = "application/vnd.oci.image.index.v1+json";
        for (image, fields, good) in [
            ("r.io/a", vec![("content-type", oci)], true),
            (
                "r.io/a",
                vec![(
                    "content-type",
                    "application/vnd.oci.image.index.v1+json; charset=utf-8",
                )],
                true,
            ),
            ("r.io/a", vec![("docker-content-digest", &*other)], true),
            ("r.io/a", vec![("content-type", "text/html")], false),
            ("r.io/a", vec![], false),
            (&*image, vec![("docker-content-digest", &*digest)], true),
            (
                &*image,
                vec![("docker-content-digest", &*other), ("content-type", oci)],
                false,
            ),
            (
                "r.io/a",
                vec![("content-type", oci), ("content-length", "99999999999")],
                false,
            ),
        ] {
            let target = Target::of(image, |_| false).unwrap();
            let headers: HeaderMap = fields
                .iter()
                .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
                .collect();
            assert_eq!(check(&target, &headers).is_ok(), good, "{image} {fields:?}");
        }
    }
}
