//! Where a registry keeps an image, by the distribution protocol.

use http::Uri;
use imageswap_policy::Reference;

use crate::problem::Problem;

/// The registry of images without a host, and where it answers.
const HUB: &str = "docker.io";
const HUB_API: &str = "registry-1.docker.io";
/// The tag if none is written.
const LATEST: &str = "latest";

/// An image of a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    /// The canonical registry, for credentials: `docker.io`.
    pub(crate) registry: String,
    /// Where it answers: host, and port if written.
    pub(crate) authority: String,
    /// The repository.
    pub(crate) repository: String,
    /// The digest, or else the tag.
    pub(crate) reference: String,
    /// Whether [`Self::reference`] is a digest.
    pub(crate) is_digest: bool,
    /// Whether the registry is asked without TLS.
    pub(crate) plain: bool,
}

impl Target {
    /// Where `image` is. `plain` says which registries are asked without TLS.
    pub(crate) fn of(image: &str, plain: impl Fn(&str) -> bool) -> Result<Self, Problem> {
        let wrong = || Problem::Address(image.chars().take(128).collect());
        let parsed = Reference::parse(image).map_err(|_not_an_image| wrong())?;
        let registry = parsed.registry();
        let digest = parsed.digest();
        let target = Self {
            registry: registry.to_owned(),
            authority: if registry == HUB { HUB_API } else { registry }.to_owned(),
            repository: parsed.canonical_path().into_owned(),
            reference: digest.or(parsed.tag()).unwrap_or(LATEST).to_owned(),
            is_digest: digest.is_some(),
            plain: plain(registry),
        };
        // A host can be a registry for a runtime without being one of a URL.
        target.manifest().map_err(|_not_a_host| wrong())?;
        Ok(target)
    }

    /// The same repository's manifest with this digest.
    pub(crate) fn with_digest(&self, digest: &str) -> Self {
        Self {
            reference: digest.to_owned(),
            is_digest: true,
            ..self.clone()
        }
    }

    /// The address of the manifest.
    pub(crate) fn manifest(&self) -> Result<Uri, Problem> {
        self.uri(&format!("manifests/{}", self.reference))
    }

    /// The address of a blob of the repository.
    pub(crate) fn blob(&self, digest: &str) -> Result<Uri, Problem> {
        self.uri(&format!("blobs/{digest}"))
    }

    fn uri(&self, rest: &str) -> Result<Uri, Problem> {
        let scheme = if self.plain { "http" } else { "https" };
        let Self {
            authority,
            repository,
            ..
        } = self;
        let text = format!("{scheme}://{authority}/v2/{repository}/{rest}");
        let uri: Uri = text
            .parse()
            .map_err(|_invalid| Problem::Address(text.chars().take(128).collect()))?;
        if uri.authority().is_none_or(|it| it.as_str() != authority) {
            return Err(Problem::Address(text.chars().take(128).collect()));
        }
        Ok(uri)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_those_of_the_protocol() {
        for (image, expected) in [
            (
                "nginx",
                "https://registry-1.docker.io/v2/library/nginx/manifests/latest",
            ),
            (
                "index.docker.io/a/b:1",
                "https://registry-1.docker.io/v2/a/b/manifests/1",
            ),
            (
                "r.example.com:5000/x/y/z:2",
                "https://r.example.com:5000/v2/x/y/z/manifests/2",
            ),
            ("[::1]:5000/a", "https://[::1]:5000/v2/a/manifests/latest"),
            (
                "plain.example.com/a",
                "http://plain.example.com/v2/a/manifests/latest",
            ),
            (
                "r.io/a:1@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
                "https://r.io/v2/a/manifests/sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
            ),
        ] {
            let target = Target::of(image, |it| it == "plain.example.com").unwrap();
            assert_eq!(target.manifest().unwrap().to_string(), expected, "{image}");
        }
        for wrong in ["", "Nginx", "a b", "r.io/a@sha256:1"] {
            assert!(Target::of(wrong, |_| false).is_err(), "{wrong}");
        }
    }
}
