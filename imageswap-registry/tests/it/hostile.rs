//! Registries that lie, leak, or never end: each is an error that changes only the answer.

use std::time::Duration;

use base64::Engine as _;
use imageswap_lab::{Act, ScriptedServer, answer};
use imageswap_registry::{Client, Credentials, Problem};
use imageswap_runtime::tls::Connector;

use crate::server::{client, manifest, missing, start};

const OCI: (&str, &str) = ("content-type", "application/vnd.oci.image.index.v1+json");
const DIGEST: &str = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
const OTHER: &str = "sha256:fedcba9876543210fedcba9876543210fedcba9876543210fedcba9876543210";

/// A script, the image that is asked about, and a part of the error.
type Lie = (
    &'static str,
    fn(&str, &str) -> Act,
    &'static str,
    &'static str,
);

/// Asks for a token of this registry.
fn challenge(own: &str) -> Act {
    let realm = format!("Bearer realm=\"https://{own}/t\"");
    answer("401 Unauthorized", &[("www-authenticate", &realm)], "")
}

const LIES: &[Lie] = &[
    (
        "an error of its own",
        |_, _| answer("500 Internal Server Error", &[], ""),
        "a:1",
        "answered 500",
    ),
    (
        "too many requests",
        |_, _| answer("429 Too Many Requests", &[], ""),
        "a:1",
        "answered 429",
    ),
    ("closes", |_, _| Act::Close, "a:1", "cannot be reached"),
    (
        "not HTTP",
        |_, _| Act::Say("SSH-2.0-OpenSSH_9.2\r\n\r\n".to_owned()),
        "a:1",
        "cannot be reached",
    ),
    (
        "a proxy's page",
        |_, _| answer("200 OK", &[("content-type", "text/html")], ""),
        "a:1",
        "its answer is not a manifest",
    ),
    (
        "a 404 of a proxy",
        |head, _| match head {
            head if head.starts_with("HEAD") => answer("404 Not Found", &[], ""),
            _ => answer("404 Not Found", &[], "default backend - 404"),
        },
        "a:1",
        "a 404 without the error of a registry",
    ),
    (
        "a 404 that never ends",
        |head, _| match head {
            head if head.starts_with("HEAD") => answer("404 Not Found", &[], ""),
            _ => Act::Repeat(
                "HTTP/1.1 404 Not Found\r\ntransfer-encoding: chunked\r\n\r\n".to_owned(),
                "10\r\n{\"errors\":[{\"cod\r\n",
            ),
        },
        "a:1",
        "more than 65536 bytes of an error",
    ),
    (
        "a head that never ends",
        |_, _| Act::Repeat("HTTP/1.1 200 OK\r\n".to_owned(), "x-field: 0123456789\r\n"),
        "a:1",
        "cannot be reached",
    ),
    (
        "a huge manifest",
        |_, _| {
            Act::Say(format!(
                "HTTP/1.1 200 OK\r\n{}: {}\r\ncontent-length: 10000000000\r\n\r\n",
                OCI.0, OCI.1
            ))
        },
        "a:1",
        "more than 4194304 bytes of a manifest",
    ),
    (
        "another digest",
        |_, _| answer("200 OK", &[OCI, ("docker-content-digest", OTHER)], ""),
        DIGEST,
        "another content under this digest",
    ),
    (
        "another host",
        |_, _| {
            answer(
                "307 Temporary Redirect",
                &[("location", "https://evil.example.net/v2/x")],
                "",
            )
        },
        "a:1",
        "redirects to https://evil.example.net/v2/x, which is not followed",
    ),
    (
        "without TLS",
        |_, own| {
            answer(
                "302 Found",
                &[("location", &format!("http://{own}/v2/x"))],
                "",
            )
        },
        "a:1",
        "which is not followed",
    ),
    (
        "in circles",
        |_, _| answer("302 Found", &[("location", "/v2/again")], ""),
        "a:1",
        "which is not followed",
    ),
    (
        "a redirect to nowhere",
        |_, _| answer("301 Moved Permanently", &[], ""),
        "a:1",
        "which is not followed",
    ),
    (
        "no challenge",
        |_, _| answer("401 Unauthorized", &[], ""),
        "a:1",
        "wants credentials",
    ),
    (
        "a challenge of another kind",
        |_, _| {
            answer(
                "401 Unauthorized",
                &[("www-authenticate", "Digest realm=\"x\"")],
                "",
            )
        },
        "a:1",
        "wants credentials",
    ),
    (
        "a realm without TLS",
        |_, own| {
            answer(
                "401 Unauthorized",
                &[(
                    "www-authenticate",
                    &format!("Bearer realm=\"http://{own}/t\""),
                )],
                "",
            )
        },
        "a:1",
        "is not an address with TLS",
    ),
    (
        "a token that never ends",
        |head, own| match head {
            head if head.starts_with("GET /t") => Act::Repeat(
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{\"token\":\"".to_owned(),
                "10\r\naaaaaaaaaaaaaaaa\r\n",
            ),
            _ => challenge(own),
        },
        "a:1",
        "localhost",
    ),
    (
        "a token with a line break",
        |head, own| match head {
            head if head.starts_with("GET /t") => answer("200 OK", &[], r#"{"token":"a\r\nx: y"}"#),
            _ => challenge(own),
        },
        "a:1",
        "its answer has no token",
    ),
    (
        "always 401",
        |head, own| match head {
            head if head.starts_with("GET /t") => answer("200 OK", &[], r#"{"token":"a"}"#),
            _ => challenge(own),
        },
        "a:1",
        "refuses to answer",
    ),
];

#[tokio::test(flavor = "multi_thread")]
async fn registries_that_lie_give_no_answer() {
    for (what, script, image, says) in LIES {
        let server = start(script).await;
        let separator = if image.starts_with("sha256") {
            "x/y@"
        } else {
            "x/"
        };
        let image = format!("{}/{separator}{image}", server.name());
        let error = client(&server).has(&image).await;
        let error = error.expect_err(what).to_string();
        assert!(error.contains(says), "{what}: {error}");
        assert!(
            server.asked().len() <= 6,
            "{what}: {:?}",
            server.asked().len()
        );
        let other = format!("{}/x/y:1", server.name());
        let lacks = client(&server)
            .lacks(&other, &["linux/amd64".parse().unwrap()])
            .await;
        assert!(lacks.is_err(), "{what}: {lacks:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_registries_give_no_answer() {
    for act in [
        Act::Hang,
        Act::Trickle(
            "HTTP/1.1 200 OK\r\n".repeat(100),
            Duration::from_millis(500),
        ),
    ] {
        let server = start(move |_, _| act.clone()).await;
        let image = format!("{}/x/y:1", server.name());
        let error = client(&server).has(&image).await.unwrap_err();
        assert!(matches!(error, Problem::TimedOut { .. }), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_of_the_protocol_count() {
    let present = start(|_, _| manifest()).await;
    let image = format!("{}/x:1", present.name());
    assert_eq!(client(&present).has(&image).await, Ok(true));
    let absent = start(|head, _| missing(head)).await;
    let image = format!("{}/x:1", absent.name());
    assert_eq!(client(&absent).has(&image).await, Ok(false));
    // A redirect on the host is followed, and a server that does not know HEAD is asked by GET.
    let moved = start(|head, _| match head {
        head if head.contains("/moved ") => manifest(),
        _ => answer("308 Permanent Redirect", &[("location", "/moved")], ""),
    })
    .await;
    let image = format!("{}/x:1", moved.name());
    assert_eq!(client(&moved).has(&image).await, Ok(true));
    let old = start(|head, _| match head {
        head if head.starts_with("HEAD") => answer("405 Method Not Allowed", &[], ""),
        _ => answer("200 OK", &[OCI], "{}"),
    })
    .await;
    let image = format!("{}/x:1", old.name());
    assert_eq!(client(&old).has(&image).await, Ok(true));
}

fn credentials(hosts: &[&str]) -> Credentials {
    let entries = hosts
        .iter()
        .map(|host| format!(r#""{host}": {{"username": "user-of-{host}", "password": "p"}}"#));
    let entries = entries.collect::<Vec<_>>().join(",");
    Credentials::parse("test", &format!(r#"{{"auths": {{{entries}}}}}"#)).unwrap()
}

/// The users whose credentials a server got.
fn users(server: &ScriptedServer) -> Vec<String> {
    let heads = server.asked();
    let values = heads.iter().flat_map(|it| it.lines()).filter_map(|line| {
        let (name, value) = line.split_once(": Basic ")?;
        name.eq_ignore_ascii_case("authorization")
            .then(|| value.to_owned())
    });
    values
        .map(|it| {
            let pair = base64::engine::general_purpose::STANDARD
                .decode(it)
                .unwrap();
            String::from_utf8(pair).unwrap()
        })
        .collect()
}

/// Answers as a server of tokens does.
fn token(head: &str, _: &str) -> Act {
    if head.starts_with("GET /token?") && head.contains("scope=repository%3Ax%2Fy%3Apull") {
        answer(
            "200 OK",
            &[],
            r#"{"access_token":"let-me-in","expires_in":300}"#,
        )
    } else {
        answer("400 Bad Request", &[], "")
    }
}

/// A registry whose tokens come from `realm`.
async fn registry_with_tokens_of(realm: String) -> ScriptedServer {
    start(move |head, own| {
        if head.starts_with("GET /token") {
            return token(head, own);
        }
        if head.contains("authorization: Bearer let-me-in\r\n") {
            return manifest();
        }
        let realm = realm.replace("SELF", own);
        let challenge = format!(
            "Bearer realm=\"https://{realm}/token\",service=\"r\",scope=\"repository:*:push\""
        );
        answer("401 Unauthorized", &[("www-authenticate", &challenge)], "")
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_go_to_their_own_host_only() {
    let other = start(token).await;
    let registry = registry_with_tokens_of(other.name()).await;
    let trust = [other.ca_pem(), registry.ca_pem()].concat();
    let image = format!("{}/x/y:1", registry.name());
    let client_of = |hosts: &[&str]| {
        let client = Client::new(Connector::new(&trust).unwrap(), [].into());
        client.set_credentials(credentials(hosts));
        client
    };
    // The registry names another host for tokens: that host is asked without the registry's credentials.
    assert_eq!(client_of(&[&registry.name()]).has(&image).await, Ok(true));
    assert_eq!((users(&other), users(&registry)), (vec![], vec![]));
    // It gets those that are its own.
    assert_eq!(
        client_of(&[&registry.name(), &other.name()])
            .has(&image)
            .await,
        Ok(true)
    );
    assert_eq!(users(&other), [format!("user-of-{}:p", other.name())]);
    assert!(users(&registry).is_empty());
    // A registry that gives its own tokens gets its own credentials, and one question needs one token.
    let own = registry_with_tokens_of("SELF".to_owned()).await;
    let client = client(&own);
    client.set_credentials(credentials(&[&own.name(), "elsewhere.example.net"]));
    let image = format!("{}/x/y", own.name());
    for tag in ["1", "2", "3"] {
        assert_eq!(client.has(&format!("{image}:{tag}")).await, Ok(true));
    }
    assert_eq!(users(&own), [format!("user-of-{}:p", own.name())]);
    // A host that refuses to give a token without them is named.
    let strict = start(|_, _| answer("401 Unauthorized", &[], "")).await;
    let registry = registry_with_tokens_of(strict.name()).await;
    let trust = [strict.ca_pem(), registry.ca_pem()].concat();
    let client = Client::new(Connector::new(&trust).unwrap(), [].into());
    client.set_credentials(credentials(&[&registry.name()]));
    let error = client
        .has(&format!("{}/x/y:1", registry.name()))
        .await
        .unwrap_err();
    let says = format!("give credentials for {}", strict.name());
    assert!(error.to_string().ends_with(&says), "{error}");
    assert!(users(&strict).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_takes_no_credentials_along() {
    let other = start(|_, _| manifest()).await;
    let place = format!("https://{}/v2/x", other.name());
    let registry =
        start(move |_, _| answer("307 Temporary Redirect", &[("location", &place)], "")).await;
    let trust = [other.ca_pem(), registry.ca_pem()].concat();
    let client = Client::new(Connector::new(&trust).unwrap(), [].into());
    client.set_credentials(credentials(&[&registry.name(), &other.name()]));
    let error = client
        .has(&format!("{}/x/y:1", registry.name()))
        .await
        .unwrap_err();
    assert!(matches!(error, Problem::Redirect { .. }), "{error}");
    assert!(other.asked().is_empty());
}
