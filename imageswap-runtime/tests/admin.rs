//! The admin port with clients that are silent, slow, or do not read. Probes are always answered.
#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests fail by panicking, as tests do"
)]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use imageswap_runtime::admin::{Admin, Readiness};
use imageswap_runtime::drain::Drain;
use imageswap_runtime::metrics::Exporter;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

/// How long the kubelet waits for a probe by default.
const PROBE: Duration = Duration::from_secs(1);
/// How many failed probes in a row the kubelet accepts by default.
const FAILURES: usize = 3;
/// How long to wait for something that must happen.
const PATIENCE: Duration = Duration::from_secs(20);
const PAGE: &str = "/large";

fn serve() -> SocketAddr {
    serve_counted().0
}

/// Also returns the number of requests for the large page.
fn serve_counted() -> (SocketAddr, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let page = {
        let asked = Arc::clone(&asked);
        let page = Bytes::from(vec![b'x'; 1 << 20]);
        move || {
            asked.fetch_add(1, Ordering::Relaxed);
            page.clone()
        }
    };
    let admin = Admin::bind("127.0.0.1:0".parse().unwrap())
        .unwrap()
        .with_page(PAGE, "text/plain", page);
    let addr = admin.local_addr();
    tokio::spawn(admin.serve(Readiness::new(), Exporter::new(), Drain::new()));
    (addr, asked)
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n")
}

async fn ask(addr: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    let request = get(path).replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    text
}

async fn assert_probes_are_answered(addr: SocketAddr) {
    for _ in 0..FAILURES {
        let answer = timeout(PROBE, ask(addr, "/livez")).await;
        if answer.is_ok_and(|it| it.starts_with("HTTP/1.1 200 ")) {
            return;
        }
    }
    panic!("the kubelet would restart the container");
}

/// A connection whose client can buffer almost nothing.
async fn narrow(addr: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(2048).unwrap();
    socket.connect(addr).await.unwrap()
}

#[tokio::test]
async fn silent_connections() {
    let addr = serve();
    let mut silent = Vec::new();
    for count in 1..=300 {
        silent.push(TcpStream::connect(addr).await.unwrap());
        if count % 50 == 0 {
            assert_probes_are_answered(addr).await;
        }
    }
    // The oldest connection was closed for the newest.
    let mut byte = [0];
    let closed = timeout(PATIENCE, silent[0].read(&mut byte)).await.unwrap();
    assert!(matches!(closed, Ok(0) | Err(_)));
}

#[tokio::test]
async fn heads_that_never_end() {
    let addr = serve();
    let mut stream = TcpStream::connect(addr).await.unwrap();
    let dripping = async {
        stream.write_all(b"GET /livez HTTP/1.1\r\n").await.unwrap();
        while stream.write_all(b"X: y\r\n").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    timeout(PATIENCE, dripping).await.expect("it is cut off");
    assert_probes_are_answered(addr).await;
}

#[tokio::test]
async fn clients_that_never_read() {
    let addr = serve();
    let mut readers = Vec::new();
    for _ in 0..100 {
        let mut stream = narrow(addr).await;
        let requests = get(PAGE).repeat(400);
        timeout(PROBE, stream.write_all(requests.as_bytes()))
            .await
            .ok();
        readers.push(stream);
    }
    assert_probes_are_answered(addr).await;
    // The newest connection is still open, and is closed because its client does not read.
    let last = readers.last_mut().unwrap();
    let cut_off = async {
        while last.write_all(b" ").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    timeout(PATIENCE, cut_off).await.expect("it is cut off");
}

#[tokio::test]
async fn answers_do_not_pile_up() {
    let (addr, asked) = serve_counted();
    let mut stream = narrow(addr).await;
    let count = 50;
    stream
        .write_all(get(PAGE).repeat(count).as_bytes())
        .await
        .unwrap();
    assert_probes_are_answered(addr).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    // One answer waits to be read, and the next request waits for that.
    assert!(asked.load(Ordering::Relaxed) <= 2);
    drop(stream);

    // A client that reads gets all answers.
    let mut stream = TcpStream::connect(addr).await.unwrap();
    stream
        .write_all(get(PAGE).repeat(count).as_bytes())
        .await
        .unwrap();
    let mut read = 0;
    let mut buffer = vec![0; 1 << 16];
    while read < count << 20 {
        let bytes = timeout(PATIENCE, stream.read(&mut buffer)).await.unwrap();
        match bytes.unwrap() {
            0 => panic!("closed after {read} bytes"),
            more => read += more,
        }
    }
}
