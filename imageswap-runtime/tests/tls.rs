//! Certificate files that change while they are served.
#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests fail by panicking, as tests do"
)]

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, SystemTime};

use imageswap_runtime::admin::{Condition, Readiness};
use imageswap_runtime::drain::Drain;
use imageswap_runtime::metrics::Exporter;
use imageswap_runtime::net;
use imageswap_runtime::tls::{Authority, Connector, Pair, Tls, TlsArgs, Validity, is_identified};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

const LISTEN: &str = "127.0.0.1:0";

/// A folder with an authority of its own, and a client that trusts it.
fn authority() -> (tempfile::TempDir, Connector) {
    let dir = tempfile::tempdir().unwrap();
    let args = args(None, Some(dir.path()));
    args.load(LISTEN.parse().unwrap()).unwrap();
    let connector = Connector::new(&fs::read(dir.path().join("ca.crt")).unwrap()).unwrap();
    (dir, connector)
}

fn args(files: Option<&Path>, self_signed: Option<&Path>) -> TlsArgs {
    TlsArgs {
        tls_cert: files.map(|dir| dir.join("tls.crt")),
        tls_key: files.map(|dir| dir.join("tls.key")),
        tls_self_signed: self_signed.map(Path::to_owned),
        tls_san: vec![],
    }
}

async fn serve(tls: &Tls) -> SocketAddr {
    let listener = TcpListener::bind(LISTEN).await.unwrap();
    let addr = listener.local_addr().unwrap();
    let acceptor = tls.acceptor();
    tokio::spawn(async move {
        loop {
            let (stream, _) = net::accept(&listener).await;
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                if let Ok(mut stream) = acceptor.accept(stream).await {
                    let identified = is_identified(&stream);
                    stream.write_u8(identified.into()).await.ok();
                }
            });
        }
    });
    addr
}

async fn trusts(connector: &Connector, addr: SocketAddr) -> bool {
    connector
        .connect("localhost", TcpStream::connect(addr).await.unwrap())
        .await
        .is_ok()
}

#[tokio::test]
async fn a_new_pair_is_served_and_a_half_written_one_is_not() {
    let ((first, trusts_first), (second, trusts_second)) = (authority(), authority());
    let dir = tempfile::tempdir().unwrap();
    let copy = |from: &Path, file: &str| fs::copy(from.join(file), dir.path().join(file)).unwrap();
    copy(first.path(), "tls.crt");
    copy(first.path(), "tls.key");
    let tls = args(Some(dir.path()), None)
        .load(LISTEN.parse().unwrap())
        .unwrap();
    let addr = serve(&tls).await;
    let exporter = Exporter::new();
    let watching = tls
        .clone()
        .watch(Drain::new(), exporter.clone(), Condition::default());
    tokio::spawn(watching);
    assert!(trusts(&trusts_first, addr).await);
    assert!(!trusts(&trusts_second, addr).await);

    // A key that does not match exists for longer than a look takes.
    copy(second.path(), "tls.key");
    for _ in 0..30 {
        assert!(trusts(&trusts_first, addr).await);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }

    copy(second.path(), "tls.crt");
    for _ in 0..200 {
        if trusts(&trusts_second, addr).await {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(trusts(&trusts_second, addr).await);
    assert!(!trusts(&trusts_first, addr).await);
    let not_after = tls.not_after().unwrap();
    let seconds = not_after
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_secs();
    let text = exporter.render();
    assert!(
        text.contains(&format!(
            "imageswap_tls_not_after_timestamp_seconds {seconds}\n"
        )),
        "{text}"
    );
}

/// Writes a certificate with this lifetime, which ends at `not_after`.
fn write_pair(dir: &Path, authority: &Authority, not_after: SystemTime) {
    let validity = Validity {
        not_before: not_after - Duration::from_hours(1),
        not_after,
    };
    let names = std::iter::once("localhost".to_owned()).collect();
    let pair = authority.issue(&names, validity).unwrap();
    // The key first, because the pair is read when the certificate has changed.
    fs::write(dir.join("tls.key"), pair.key_pem()).unwrap();
    fs::write(dir.join("tls.crt"), pair.chain_pem()).unwrap();
}

#[tokio::test]
async fn an_expired_certificate_is_not_ready() {
    let dir = tempfile::tempdir().unwrap();
    let now = SystemTime::now();
    let validity = Validity::from_now(now, Duration::from_hours(24));
    let authority = Authority::generate("test", validity).unwrap();
    write_pair(dir.path(), &authority, now - Duration::from_secs(1));
    let tls = args(Some(dir.path()), None)
        .load(LISTEN.parse().unwrap())
        .unwrap();
    let readiness = Readiness::new();
    let watching = tls.clone().watch(
        Drain::new(),
        Exporter::new(),
        readiness.condition("certificate"),
    );
    tokio::spawn(watching);
    let until = async |ready: bool| {
        for _ in 0..400 {
            if readiness.missing().is_empty() == ready {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("never ready: {ready}");
    };
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert_eq!(readiness.missing(), ["certificate"]);

    write_pair(dir.path(), &authority, now + Duration::from_secs(10));
    until(true).await;
    // Then it expires while it is served.
    until(false).await;
}

#[tokio::test]
async fn clients_may_prove_who_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let clients = |name: &str| {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let ca = params.self_signed(&key).unwrap().pem();
        let issuer = Issuer::new(params, key);
        let mut leaf = CertificateParams::default();
        leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().unwrap();
        let leaf = leaf.signed_by(&key, &issuer).unwrap().pem();
        let pair = Pair::from_pem(leaf.as_bytes(), key.serialize_pem().as_bytes(), name).unwrap();
        (ca, pair)
    };
    let ((ca, known), (_, stranger)) = (clients("known"), clients("stranger"));
    let file = dir.path().join("clients.crt");
    let load = || {
        let tls = args(None, Some(dir.path()));
        let tls = tls.load(LISTEN.parse().unwrap()).unwrap();
        tls.with_client_authorities(&file)
    };
    for text in [None, Some(""), Some("-----BEGIN CERTIFICATE-----\nAAAA")] {
        text.inspect(|text| fs::write(&file, text).unwrap());
        let error = load().unwrap_err().to_string();
        assert!(error.contains("clients.crt: "), "{error}");
    }
    fs::write(&file, ca).unwrap();
    let addr = serve(&load().unwrap()).await;
    let server = fs::read(dir.path().join("ca.crt")).unwrap();
    for (own, expected) in [
        (None, Some(0)),
        (Some(&known), Some(1)),
        (Some(&stranger), None),
    ] {
        let connector = Connector::with_certificate(&server, own).unwrap();
        let stream = TcpStream::connect(addr).await.unwrap();
        // With TLS 1.3 a client learns of its refusal when it reads.
        let identified = match connector.connect("localhost", stream).await {
            Ok(mut stream) => stream.read_u8().await.ok(),
            Err(_) => None,
        };
        assert_eq!(identified, expected);
    }
}

#[tokio::test]
async fn files_of_no_use_are_named() {
    let ((first, _), (second, _)) = (authority(), authority());
    let dir = tempfile::tempdir().unwrap();
    let load = || {
        args(Some(dir.path()), None)
            .load(LISTEN.parse().unwrap())
            .unwrap_err()
            .to_string()
    };
    let (cert, key) = (dir.path().join("tls.crt"), dir.path().join("tls.key"));

    assert!(
        load().starts_with(&format!("cannot read {}: ", cert.display())),
        "{}",
        load()
    );
    fs::write(&cert, "").unwrap();
    fs::write(&key, "").unwrap();
    assert!(
        load().starts_with(&format!("{}: no certificate in it", cert.display())),
        "{}",
        load()
    );
    fs::copy(first.path().join("tls.crt"), &cert).unwrap();
    assert!(
        load().starts_with(&format!("{}: no usable private key", key.display())),
        "{}",
        load()
    );
    fs::copy(second.path().join("tls.key"), &key).unwrap();
    let error = load();
    assert!(
        error.contains("cannot be used together") && error.contains("tls.key"),
        "{error}"
    );
}
