//! Debian's docker-registry, with TLS, and with users.

use imageswap_lab::{Image, Lab, REGISTRY_USER, Registry, require};
use imageswap_registry::{Client, Credentials, Platform, Problem};
use imageswap_runtime::tls::Connector;

fn credentials(host: &str, (user, password): (&str, &str)) -> Credentials {
    let text =
        format!(r#"{{"auths": {{"{host}": {{"username": "{user}", "password": "{password}"}}}}}}"#);
    Credentials::parse("test", &text).unwrap()
}

fn platforms(texts: &[&str]) -> Vec<Platform> {
    texts.iter().map(|it| it.parse().unwrap()).collect()
}

#[test]
fn a_real_registry_is_asked() {
    let lab = require!(Lab::for_test("a_real_registry_is_asked"));
    let image = Image::sleeper("mirrored").unwrap();
    let plain = Registry::start(&lab).unwrap();
    plain.push(&image, "hub/app", "1").unwrap();
    let open = plain.start_secure(&lab, false).unwrap();
    let closed = plain.start_secure(&lab, true).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let host = open.name();
        let client = Client::new(Connector::new(open.ca_pem()).unwrap(), [].into());
        let digest = image.digest();
        let other = digest.replace(&digest[10..20], "0000000000");
        for (image, expected) in [
            (format!("{host}/hub/app:1"), true),
            (format!("{host}/hub/app@{digest}"), true),
            (format!("{host}/hub/app:2@{digest}"), true),
            (format!("{host}/hub/app:2"), false),
            (format!("{host}/hub/app"), false),
            (format!("{host}/hub/app@{other}"), false),
            (format!("{host}/hub/other:1"), false),
        ] {
            assert_eq!(client.has(&image).await, Ok(expected), "{image}");
        }
        let app = format!("{host}/hub/app:1");
        for (wanted, lacking) in [
            (&["linux/amd64"][..], &[][..]),
            (&["linux/amd64", "linux/arm64"], &["linux/arm64"]),
            (&["windows/amd64"], &["windows/amd64"]),
        ] {
            let found = client.lacks(&app, &platforms(wanted)).await.unwrap();
            assert_eq!(found, Some(platforms(lacking)), "{wanted:?}");
        }
        let gone = format!("{host}/hub/app:2");
        assert_eq!(
            client.lacks(&gone, &platforms(&["linux/amd64"])).await,
            Ok(None)
        );

        // With users, and a client that trusts another authority.
        let app = format!("{}/hub/app:1", closed.name());
        let refused = client.has(&app).await.unwrap_err();
        assert!(matches!(refused, Problem::Unreachable { .. }), "{refused}");
        let client = Client::new(Connector::new(closed.ca_pem()).unwrap(), [].into());
        let refused = client.has(&app).await.unwrap_err().to_string();
        assert!(
            refused.ends_with("it wants credentials, and this host has no entry"),
            "{refused}"
        );
        client.set_credentials(credentials("localhost", REGISTRY_USER));
        assert!(client.has(&app).await.is_err(), "of another port");
        client.set_credentials(credentials(&closed.name(), ("puller", "wrong")));
        let refused = client.has(&app).await.unwrap_err().to_string();
        assert!(refused.contains("the credentials are wrong"), "{refused}");
        client.set_credentials(credentials(&closed.name(), REGISTRY_USER));
        assert_eq!(client.has(&app).await, Ok(true));
        let gone = format!("{}/hub/app:2", closed.name());
        assert_eq!(client.has(&gone).await, Ok(false));
        // Without TLS no credentials are sent.
        let address = plain.addr().to_string();
        let client = Client::new(
            Connector::new(open.ca_pem()).unwrap(),
            [address.clone()].into(),
        );
        client.set_credentials(credentials(&address, REGISTRY_USER));
        assert_eq!(client.has(&format!("{address}/hub/app:1")).await, Ok(true));
        assert_eq!(client.has(&format!("{address}/hub/app:2")).await, Ok(false));
    });
}
