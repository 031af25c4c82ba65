//! Given certificate files that change while they are served.
#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests fail by panicking, as tests do"
)]

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use imageswap_runtime::drain::Drain;
use imageswap_runtime::metrics::Exporter;
use imageswap_runtime::net;
use imageswap_runtime::tls::{Connector, Tls, TlsArgs};
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
            tokio::spawn(async move { acceptor.accept(stream).await.is_ok() });
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
    tokio::spawn(tls.clone().watch(Drain::new(), exporter.webhook_metrics()));
    assert!(trusts(&trusts_first, addr).await);
    assert!(!trusts(&trusts_second, addr).await);

    // A key that does not match is there for longer than it takes to be looked at.
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
