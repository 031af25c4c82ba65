//! How a registry wants to be asked: by password, or by a token that another address gives.
//!
//! A registry names that address itself, so it is not trusted with credentials: they are sent to the registry's own
//! host, and to a host that has an entry of its own. The only other pair is Docker Hub's.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use http::header::WWW_AUTHENTICATE;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use serde::Deserialize;

use crate::credentials::Credentials;
use crate::problem::Problem;
use crate::target::Target;
use crate::transport::{self, Ask, Transport};

/// Bytes of the answer with a token.
const MAX_ANSWER: usize = 64 << 10;
/// Bytes of a token. Servers limit the head of a request to 8 KiB and more.
const MAX_TOKEN: usize = 16 << 10;
/// How long a token is used if the answer does not say; what the protocol says.
const LIFETIME: Duration = Duration::from_mins(1);
/// The longest time that a token is used.
const MAX_LIFETIME: Duration = Duration::from_mins(5);
/// A token is not used in its last seconds.
const MARGIN: Duration = Duration::from_secs(5);
/// Kept tokens. There is one for each repository.
const MAX_TOKENS: usize = 4096;
/// Docker Hub's tokens.
const HUB: (&str, &str) = ("docker.io", "auth.docker.io");

/// Headers that a registry accepted, by registry and repository.
#[derive(Debug, Default)]
pub(crate) struct Grants {
    kept: Mutex<HashMap<(String, String), (HeaderValue, Instant)>>,
}

/// A header for the next request.
#[derive(Debug)]
pub(crate) struct Granted {
    pub(crate) header: HeaderValue,
    /// Whether credentials were used.
    pub(crate) with_credentials: bool,
    /// The host of the tokens, if it did not get the registry's credentials.
    pub(crate) withheld_from: Option<String>,
    lifetime: Duration,
}

#[derive(Deserialize)]
struct TokenAnswer {
    token: Option<String>,
    access_token: Option<String>,
    expires_in: Option<u64>,
}

impl Grants {
    pub(crate) fn get(&self, target: &Target) -> Option<HeaderValue> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let (header, until) = kept.get(&key(target))?;
        (Instant::now() < *until).then(|| header.clone())
    }

    pub(crate) fn keep(&self, target: &Target, granted: &Granted) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if kept.len() >= MAX_TOKENS {
            kept.retain(|_, (_, until)| now < *until);
        }
        if kept.len() < MAX_TOKENS {
            let until = now + granted.lifetime;
            kept.insert(key(target), (granted.header.clone(), until));
        }
    }

    pub(crate) fn clear(&self) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.clear();
    }
}

fn key(target: &Target) -> (String, String) {
    (target.registry.clone(), target.repository.clone())
}

/// What the registry wants instead of an answer without a header; `headers` are those of its 401.
pub(crate) async fn grant(
    transport: &Transport,
    credentials: &Credentials,
    target: &Target,
    headers: &HeaderMap,
) -> Result<Granted, Problem> {
    let texts = headers.get_all(WWW_AUTHENTICATE).iter();
    let texts: Vec<&str> = texts.filter_map(|it| it.to_str().ok()).collect();
    let challenges = texts
        .iter()
        .filter_map(|it| http_auth::parse_challenges(it).ok());
    let challenges: Vec<_> = challenges.flatten().collect();
    let scheme = |name: &str| {
        let mut found = challenges.iter();
        found.find(|it| it.scheme.eq_ignore_ascii_case(name))
    };
    if let Some(bearer) = scheme("Bearer") {
        let parameter = |name: &str| {
            let found = bearer
                .params
                .iter()
                .find(|it| it.0.eq_ignore_ascii_case(name));
            found.map(|it| it.1.to_unescaped())
        };
        let realm =
            parameter("realm").ok_or_else(|| wrong(target, "it names no realm for tokens"))?;
        return token(transport, credentials, target, &realm, parameter("service")).await;
    }
    if scheme("Basic").is_some() {
        if target.plain {
            return Err(Problem::Clear(target.registry.clone()));
        }
        let header = credentials.basic(&target.registry);
        return Ok(Granted {
            header: header.ok_or_else(|| refused(target, false, None))?,
            with_credentials: true,
            withheld_from: None,
            lifetime: MAX_LIFETIME,
        });
    }
    Err(refused(target, false, None))
}

/// The registry's refusal.
pub(crate) fn refused(
    target: &Target,
    with_credentials: bool,
    withheld_from: Option<String>,
) -> Problem {
    Problem::Refused {
        host: target.registry.clone(),
        with_credentials,
        withheld_from,
    }
}

fn wrong(target: &Target, what: &'static str) -> Problem {
    Problem::Protocol {
        host: target.registry.clone(),
        what,
    }
}

async fn token(
    transport: &Transport,
    credentials: &Credentials,
    target: &Target,
    realm: &str,
    service: Option<String>,
) -> Result<Granted, Problem> {
    let uri = address(target, realm, service.as_deref())
        .ok_or_else(|| wrong(target, "its realm for tokens is not an address with TLS"))?;
    let host = transport::host(&uri);
    let of_registry = credentials.basic(&target.registry);
    let is_own = host == target.authority || (&*target.registry, &*host) == HUB;
    let authorization = if is_own {
        of_registry.clone()
    } else {
        credentials.basic(&host)
    };
    let withheld = authorization.is_none() && of_registry.is_some();
    let withheld_from = withheld.then(|| host.clone());
    if authorization.is_some() && uri.scheme_str() != Some("https") {
        return Err(Problem::Clear(target.registry.clone()));
    }
    let with_credentials = authorization.is_some();
    let answer = transport
        .send(Ask {
            method: Method::GET,
            uri,
            accept: "application/json",
            authorization,
        })
        .await?;
    match answer.status() {
        StatusCode::OK => {}
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            return Err(refused(target, with_credentials, withheld_from));
        }
        status => return Err(Problem::Status { host, status }),
    }
    let body = transport::read(answer.into_body(), &host, MAX_ANSWER, "a token").await?;
    let no_token = || Problem::Protocol {
        host: host.clone(),
        what: "its answer has no token",
    };
    let token: TokenAnswer = serde_json::from_slice(&body).map_err(|_other_shape| no_token())?;
    let text = token.token.or(token.access_token).unwrap_or_default();
    if text.is_empty() || text.len() > MAX_TOKEN {
        return Err(no_token());
    }
    let header = HeaderValue::from_str(&format!("Bearer {text}"));
    let mut header = header.map_err(|_invalid| no_token())?;
    header.set_sensitive(true);
    let lifetime = token.expires_in.map_or(LIFETIME, Duration::from_secs);
    Ok(Granted {
        header,
        with_credentials,
        withheld_from,
        lifetime: lifetime.min(MAX_LIFETIME).saturating_sub(MARGIN),
    })
}

/// Where to ask for a token that reads the repository. The scope is ours: a registry's could ask for more.
fn address(target: &Target, realm: &str, service: Option<&str>) -> Option<Uri> {
    let realm: Uri = realm.parse().ok()?;
    let authority = realm.authority()?;
    let is_safe = match realm.scheme_str() {
        Some("https") => true,
        Some("http") => target.plain && authority.as_str() == target.authority,
        _ => false,
    };
    // A user in the address would be a credential that the registry chose.
    if !is_safe || authority.as_str().contains('@') {
        return None;
    }
    let mut query = form_urlencoded::Serializer::new(String::new());
    if let Some(given) = realm.query() {
        query.extend_pairs(form_urlencoded::parse(given.as_bytes()));
    }
    if let Some(service) = service {
        query.append_pair("service", service);
    }
    query.append_pair("scope", &format!("repository:{}:pull", target.repository));
    let scheme = realm.scheme_str()?;
    let text = format!("{scheme}://{authority}{}?{}", realm.path(), query.finish());
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_asked_for_with_our_scope() {
        let target = Target::of("r.io/a/b:1", |_| false).unwrap();
        for (realm, expected) in [
            (
                "https://auth.r.io/token?a=b&c=d%20e",
                Some(
                    "https://auth.r.io/token?a=b&c=d+e&service=s%26x&scope=repository%3Aa%2Fb%3Apull",
                ),
            ),
            (
                "https://r.io",
                Some("https://r.io/?service=s%26x&scope=repository%3Aa%2Fb%3Apull"),
            ),
            ("http://r.io/token", None),
            ("https://user:password@r.io/token", None),
            ("ftp://r.io/", None),
            ("/token", None),
            ("", None),
        ] {
            let found = address(&target, realm, Some("s&x")).map(|it| it.to_string());
            assert_eq!(found.as_deref(), expected, "{realm}");
        }
        let plain = Target::of("r.io/a", |_| true).unwrap();
        assert!(address(&plain, "http://r.io/t", None).is_some());
        assert!(address(&plain, "http://other.io/t", None).is_none());
    }
}
