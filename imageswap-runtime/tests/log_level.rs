//! Changes the log level while the program runs. The level belongs to the process, so this test has
//! its own.
#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests fail by panicking, as tests do"
)]

use std::net::SocketAddr;

use imageswap_runtime::admin::{Admin, Readiness};
use imageswap_runtime::drain::Drain;
use imageswap_runtime::log::{self, LogArgs, LogFormat};
use imageswap_runtime::metrics::Exporter;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

async fn ask(from: &str, admin: SocketAddr, method: &str, body: &str) -> (u16, String) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(format!("{from}:0").parse().unwrap()).unwrap();
    let mut stream: TcpStream = socket.connect(admin).await.unwrap();
    let request = format!(
        "{method} /log-level HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    let status = text[9..12].parse().unwrap();
    (status, text.split_once("\r\n\r\n").unwrap().1.to_owned())
}

fn levels() -> (bool, bool) {
    (
        tracing::enabled!(target: "a", tracing::Level::DEBUG),
        tracing::enabled!(target: "b", tracing::Level::DEBUG),
    )
}

#[tokio::test]
async fn the_level_changes_and_what_is_none_does_not_change_it() {
    let level = log::init(&LogArgs {
        log_format: LogFormat::Json,
        log_level: "info".to_owned(),
    })
    .unwrap();
    let admin = Admin::bind("127.0.0.1:0".parse().unwrap())
        .unwrap()
        .with_log_level(level);
    let addr = admin.local_addr();
    tokio::spawn(admin.serve(Readiness::new(), Exporter::new(), Drain::new()));
    assert_eq!(levels(), (false, false));
    assert_eq!(
        ask("127.0.0.1", addr, "GET", "").await,
        (200, "info\n".to_owned())
    );

    assert_eq!(ask("127.0.0.1", addr, "PUT", "info,a=debug\n").await.0, 200);
    assert_eq!(levels(), (true, false));
    assert_eq!(
        ask("127.0.0.1", addr, "GET", "").await,
        (200, "a=debug,info\n".to_owned())
    );

    for (body, says) in [
        ("a=loud", "\"a=loud\" is not a level or filter: "),
        (" \n", "has to be a level"),
    ] {
        let (status, answer) = ask("127.0.0.1", addr, "PUT", body).await;
        assert_eq!(status, 400, "{answer}");
        assert!(answer.contains(says), "{answer}");
    }
    let (status, _) = ask("127.0.0.1", addr, "PUT", &"a=debug,".repeat(1000)).await;
    assert_eq!(status, 400);
    // Proxies of service meshes use such an address.
    assert_eq!(ask("127.0.0.6", addr, "PUT", "debug").await.0, 403);
    assert_eq!(ask("127.0.0.6", addr, "GET", "").await.0, 200);
    assert_eq!(ask("127.0.0.1", addr, "POST", "debug").await.0, 405);
    assert_eq!(levels(), (true, false));

    assert_eq!(ask("127.0.0.1", addr, "PUT", "debug").await.0, 200);
    assert_eq!(levels(), (true, true));
}
