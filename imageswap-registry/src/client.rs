//! One question to a registry: whether it has an image.

use std::collections::BTreeSet;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::header::LOCATION;
use http::{Method, Response, StatusCode, Uri};
use hyper::body::Incoming;
use imageswap_runtime::tls::Connector;
use tokio::time::timeout;

use crate::auth::{self, Grants};
use crate::credentials::Credentials;
use crate::manifest::{self, MAX_ERROR, MAX_MANIFEST, Manifest, TYPES};
use crate::platform::Platform;
use crate::problem::Problem;
use crate::target::Target;
use crate::transport::{self, Ask, Transport};

/// How long one request may take, from its connection to its last byte.
const REQUEST: Duration = Duration::from_secs(5);
/// Redirects that are followed, on the same host.
const MAX_REDIRECTS: usize = 3;
/// Characters of an address in a message.
const MAX_SHOWN: usize = 128;

/// Asks registries. Clones of the `Arc` around it share connections and tokens.
#[derive(Debug)]
pub struct Client {
    transport: Transport,
    credentials: ArcSwap<Credentials>,
    grants: Grants,
    plain: BTreeSet<String>,
}

impl Client {
    /// A client that verifies registries with `connector`, and asks the registries in `plain` without TLS.
    pub fn new(connector: Connector, plain: BTreeSet<String>) -> Self {
        Self {
            transport: Transport::new(connector),
            credentials: ArcSwap::default(),
            grants: Grants::default(),
            plain,
        }
    }

    /// Uses these credentials from now on.
    pub fn set_credentials(&self, credentials: Credentials) {
        self.credentials.store(credentials.into());
        self.grants.clear();
    }

    /// Whether the registry has the image's manifest.
    ///
    /// # Errors
    /// The registry gave no answer that counts.
    pub async fn has(&self, image: &str) -> Result<bool, Problem> {
        self.has_target(&self.target(image)?).await
    }

    /// The platforms of `wanted` that the image lacks; `None` if the registry does not have the image at all.
    ///
    /// # Errors
    /// The registry gave no answer that counts.
    pub async fn lacks(
        &self,
        image: &str,
        wanted: &[Platform],
    ) -> Result<Option<Vec<Platform>>, Problem> {
        let target = self.target(image)?;
        if wanted.is_empty() {
            return Ok(self.has_target(&target).await?.then(Vec::new));
        }
        let Some(body) = self.manifest(&target).await? else {
            return Ok(None);
        };
        match manifest::read(&target, &body)? {
            Manifest::Index(list) => {
                let mut lacking = Vec::new();
                for platform in wanted {
                    let found = list.iter().find(|it| it.0.serves(platform));
                    let has = match found {
                        // A list can name manifests that were never copied.
                        Some((_, digest)) => self.has_target(&target.with_digest(digest)).await?,
                        None => false,
                    };
                    if !has {
                        lacking.push(platform.clone());
                    }
                }
                Ok(Some(lacking))
            }
            Manifest::Image(config) => {
                let platform = self.platform(&target, &config).await?;
                let lacking = wanted.iter().filter(|it| !platform.serves(it));
                Ok(Some(lacking.cloned().collect()))
            }
        }
    }

    fn target(&self, image: &str) -> Result<Target, Problem> {
        Target::of(image, |registry| self.plain.contains(registry))
    }

    async fn has_target(&self, target: &Target) -> Result<bool, Problem> {
        let answer = self.ask(target, Method::HEAD, target.manifest()?).await?;
        match answer.status() {
            StatusCode::OK => manifest::check(target, answer.headers()).map(|()| true),
            // `HEAD` has no body, and so no error of the protocol; and some proxies do not know it.
            StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => {
                Ok(self.manifest(target).await?.is_some())
            }
            status => Err(failed(target, status)),
        }
    }

    /// The text of the manifest; `None` if the registry does not have it.
    async fn manifest(&self, target: &Target) -> Result<Option<Bytes>, Problem> {
        let answer = self.ask(target, Method::GET, target.manifest()?).await?;
        let host = &target.registry;
        match answer.status() {
            StatusCode::OK => {
                manifest::check(target, answer.headers())?;
                let body = answer.into_body();
                within(
                    target,
                    transport::read(body, host, MAX_MANIFEST, "a manifest"),
                )
                .await
                .map(Some)
            }
            StatusCode::NOT_FOUND => {
                let body = answer.into_body();
                let body = within(target, transport::read(body, host, MAX_ERROR, "an error"));
                if manifest::is_error(&body.await?) {
                    Ok(None)
                } else {
                    Err(Problem::Protocol {
                        host: host.clone(),
                        what: "a 404 without the error of a registry, as of a proxy with none behind it",
                    })
                }
            }
            status => Err(failed(target, status)),
        }
    }

    async fn platform(&self, target: &Target, config: &str) -> Result<Platform, Problem> {
        let answer = self.ask(target, Method::GET, target.blob(config)?).await?;
        if answer.status() != StatusCode::OK {
            return Err(failed(target, answer.status()));
        }
        let body = answer.into_body();
        let read = transport::read(body, &target.registry, MAX_MANIFEST, "a configuration");
        manifest::platform(target, config, &within(target, read).await?)
    }

    /// The answer of the registry itself, with credentials if it wants them.
    async fn ask(
        &self,
        target: &Target,
        method: Method,
        uri: Uri,
    ) -> Result<Response<Incoming>, Problem> {
        let ask = Ask {
            method,
            uri,
            accept: TYPES,
            authorization: self.grants.get(target),
        };
        let answer = self.follow(target, ask.clone()).await?;
        if answer.status() != StatusCode::UNAUTHORIZED {
            return Ok(answer);
        }
        let credentials = self.credentials.load_full();
        let granting = auth::grant(&self.transport, &credentials, target, answer.headers());
        let granted = within(target, granting).await?;
        let ask = Ask {
            authorization: Some(granted.header.clone()),
            ..ask
        };
        let answer = self.follow(target, ask).await?;
        if matches!(
            answer.status(),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN
        ) {
            let withheld = granted.withheld_from;
            return Err(auth::refused(target, granted.with_credentials, withheld));
        }
        self.grants.keep(target, &granted);
        Ok(answer)
    }

    /// Follows redirects that stay on the host: others could lead anywhere in the network.
    async fn follow(&self, target: &Target, mut ask: Ask) -> Result<Response<Incoming>, Problem> {
        for _ in 0..=MAX_REDIRECTS {
            let answer = within(target, self.transport.send(ask.clone())).await?;
            if !answer.status().is_redirection() {
                return Ok(answer);
            }
            let location = answer
                .headers()
                .get(LOCATION)
                .and_then(|it| it.to_str().ok());
            let location = location.unwrap_or_default();
            ask.uri =
                on_same_host(&ask.uri, location).ok_or_else(|| elsewhere(target, location))?;
        }
        Err(elsewhere(target, &ask.uri.to_string()))
    }
}

/// Runs a part of a question within its time.
async fn within<T>(
    target: &Target,
    work: impl Future<Output = Result<T, Problem>>,
) -> Result<T, Problem> {
    timeout(REQUEST, work).await.unwrap_or_else(|_elapsed| {
        Err(Problem::TimedOut {
            host: target.registry.clone(),
            limit: REQUEST,
        })
    })
}

fn failed(target: &Target, status: StatusCode) -> Problem {
    Problem::Status {
        host: target.registry.clone(),
        status,
    }
}

fn elsewhere(target: &Target, location: &str) -> Problem {
    let shown = location.chars().filter(|it| !it.is_control());
    Problem::Redirect {
        host: target.registry.clone(),
        to: shown.take(MAX_SHOWN).collect(),
    }
}

/// The address of a redirect, if scheme, host and port stay the same.
fn on_same_host(from: &Uri, location: &str) -> Option<Uri> {
    if location.starts_with('/') && !location.starts_with("//") {
        let mut parts = from.clone().into_parts();
        parts.path_and_query = Some(location.parse().ok()?);
        return Uri::from_parts(parts).ok();
    }
    let to: Uri = location.parse().ok()?;
    let same = to.scheme() == from.scheme() && to.authority() == from.authority();
    (same && to.scheme().is_some()).then_some(to)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_stay_on_the_host() {
        let from: Uri = "https://r.io:5000/v2/a/manifests/1".parse().unwrap();
        for (location, expected) in [
            (
                "/v2/b/manifests/1?x=y",
                Some("https://r.io:5000/v2/b/manifests/1?x=y"),
            ),
            ("https://r.io:5000/other", Some("https://r.io:5000/other")),
            ("https://r.io/other", None),
            ("http://r.io:5000/other", None),
            ("//evil.io/x", None),
            ("https://user@r.io:5000/x", None),
            ("https://r.io:5000.evil.io/x", None),
            ("other", None),
            ("", None),
        ] {
            let found = on_same_host(&from, location).map(|it| it.to_string());
            assert_eq!(found.as_deref(), expected, "{location}");
        }
    }
}
