//! One host of a `hosts.toml`.

use super::{DEFAULT, capabilities, overrides};
use crate::image::Image;
use imageswap_policy::yaml::{Node, Span};

/// Names of Docker Hub's own registry.
const HUB: [&str; 3] = ["registry-1.docker.io", "docker.io", "index.docker.io"];

/// A host that is asked for images.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Endpoint {
    pub(super) host: String,
    /// What precedes the path of the image.
    path: String,
    pub(super) pull: bool,
    pub(super) resolve: bool,
    /// It is the registry that the image names.
    pub(super) upstream: bool,
    /// Fields about the connection.
    pub(super) settings: Vec<&'static str>,
    pub(super) span: Span,
}

impl Endpoint {
    /// Reads a host; without a URL it is the registry that the image names.
    pub(super) fn read(
        url: Option<&str>,
        span: Span,
        node: &Node,
        registry: &str,
    ) -> Result<Self, (Span, String)> {
        let (pull, resolve) = capabilities(node)?;
        let mut settings: Vec<&'static str> = [
            "ca",
            "client",
            "skip_verify",
            "header",
            "dial_timeout",
            "proxy",
        ]
        .into_iter()
        .filter(|it| node.get(it).is_some())
        .collect();
        let Some(url) = url else {
            return Ok(Self {
                host: registry.to_owned(),
                path: String::new(),
                // Without a URL the fields of the file are not used.
                pull: true,
                resolve: true,
                upstream: true,
                settings,
                span,
            });
        };
        let wrong = |why: &str| (span, format!("`{url}`: {why}"));
        let (scheme, rest) = match url.split_once("://") {
            Some((scheme @ ("http" | "https"), rest)) => (scheme, rest),
            None if !url.starts_with("http") => ("https", url),
            _ => return Err(wrong("expected a URL of http or https")),
        };
        if scheme == "http" {
            settings.push("http");
        }
        if rest.contains(['?', '#', '@', '%']) {
            return Err(wrong("expected only a host and a path"));
        }
        let (host, below) = match rest.find('/') {
            Some(at) => rest.split_at(at),
            None => (rest, ""),
        };
        let path = repositories(below, overrides(node)?).ok_or_else(|| {
            wrong("its API is not below `/v2`, and no image names such a registry")
        })?;
        let base = format!("{host}{path}");
        let image = Image::parse(&format!("{base}/x"));
        let upstream =
            path.is_empty() && (host == registry || registry == "docker.io" && HUB.contains(&host));
        if !upstream
            && image.is_none_or(|it| it.name() != format!("{base}/x") || HUB.contains(&host))
        {
            return Err(wrong("no image can name this registry"));
        }
        if registry == DEFAULT && HUB.contains(&host) {
            return Err(wrong("no image can name this registry"));
        }
        Ok(Self {
            host: host.to_owned(),
            path,
            pull,
            resolve,
            upstream,
            settings,
            span,
        })
    }

    /// What an image at this host begins with.
    pub(super) fn base(&self) -> String {
        format!("{}{}", self.host, self.path)
    }
}

/// What precedes the path of an image, if the API is there: `/v2` is added unless the path ends with it or overrides it.
fn repositories(path: &str, overrides: bool) -> Option<String> {
    let mut parts: Vec<&str> = path.split('/').filter(|it| !it.is_empty()).collect();
    if parts.iter().any(|it| *it == "." || *it == "..") {
        return None;
    }
    if !overrides && parts.last() != Some(&"v2") {
        parts.push("v2");
    }
    let (first, rest) = parts.split_first()?;
    let rest = rest.iter().flat_map(|it| ["/", *it]).collect();
    (*first == "v2").then_some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_those_of_the_api() {
        for (path, overrides, expected) in [
            ("", false, Some("")),
            ("/", false, Some("")),
            ("/v2", false, Some("")),
            ("/v2/", false, Some("")),
            ("/v2", true, Some("")),
            ("/v2/hub", true, Some("/hub")),
            ("/v2/hub/", true, Some("/hub")),
            ("/v2/a/b", true, Some("/a/b")),
            ("/v2/hub", false, Some("/hub/v2")),
            ("/hub", false, None),
            ("/hub", true, None),
            ("", true, None),
            ("/v2/../x", true, None),
        ] {
            assert_eq!(
                repositories(path, overrides).as_deref(),
                expected,
                "{path} {overrides}"
            );
        }
    }
}
