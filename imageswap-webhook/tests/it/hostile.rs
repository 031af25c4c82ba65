//! Hostile and broken clients. Whatever they do, reviews of others are answered.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::header::RETRY_AFTER;
use imageswap_runtime::tls::ClientStream;
use imageswap_webhook::admit::{Admission, Answer, Unlearned};
use imageswap_webhook::caller::Caller;
use imageswap_webhook::http::Answers;
use imageswap_webhook::limits::{Limits, MAX_BODY, MAX_HEAD, MEDIUM_BODY, SMALL_BODY};
use imageswap_webhook::metrics::{Webhook, WebhookMetrics};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, timeout};

use crate::client::{PATIENCE, Server, TIMES, admission, eventually, nginx_review, pod_review};

const MAPS: &str = "default::d.example.com\n";

/// Times that a test can wait for.
fn quick() -> Limits {
    Limits {
        head: Duration::from_millis(750),
        ..Limits::default()
    }
}

async fn server(limits: Limits) -> Server {
    Server::start_with(TIMES, limits, |exporter, _| {
        admission(MAPS, &WebhookMetrics::new(exporter))
    })
    .await
}

fn post(head: &str, body: &str) -> String {
    format!("POST / HTTP/1.1\r\nHost: localhost\r\n{head}\r\n{body}")
}

/// A whole request with a good review.
fn good() -> String {
    let body = nginx_review();
    post(&format!("Content-Length: {}\r\n", body.len()), &body)
}

/// Everything that the server still sends, until it closes.
async fn rest(stream: &mut ClientStream) -> String {
    let mut text = Vec::new();
    let reading = timeout(PATIENCE, stream.read_to_end(&mut text)).await;
    assert!(reading.is_ok(), "the server keeps the connection");
    String::from_utf8_lossy(&text).into_owned()
}

/// The statuses of the responses in a text. Bodies never contain the beginning of a status line.
fn statuses(text: &str) -> Vec<&str> {
    text.match_indices("HTTP/1.1 ")
        .map(|(at, start)| &text[at + start.len()..][..3])
        .collect()
}

async fn assert_serves(server: &Server) {
    assert_eq!(server.swap("nginx").await, "d.example.com/nginx");
}

/// A server for this many connections, and this many of one peer.
async fn server_for(max_connections: usize, max_per_peer: usize) -> Server {
    server(Limits {
        max_connections,
        max_per_peer,
        ..Limits::default()
    })
    .await
}

#[tokio::test]
async fn heads_that_never_end() {
    let server = server(quick()).await;
    let mut slow = server.tls_stream().await;
    slow.write_all(b"POST / HTTP/1.1\r\n").await.unwrap();
    // A byte now and then does not help.
    let dripping = async {
        while slow.write_all(b"X: y\r\n").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(PATIENCE, dripping).await.expect("it is cut off");
    server
        .until_metric(r#"imageswap_admission_connections_closed_total{reason="slow-head"} 1"#)
        .await;
    assert_serves(&server).await;
}

#[tokio::test]
async fn heads_that_are_too_long() {
    let server = server(quick()).await;
    for head in [
        format!("X: {}\r\n", "y".repeat(4 * MAX_HEAD)),
        "X: y\r\n".repeat(200),
    ] {
        let mut stream = server.tls_stream().await;
        // The server may close before it has read everything.
        stream.write_all(post(&head, "").as_bytes()).await.ok();
        assert_eq!(statuses(&rest(&mut stream).await), ["431"]);
    }
    assert_serves(&server).await;
}

#[tokio::test]
async fn bodies_that_dribble() {
    let server = server(Limits::default()).await;
    let mut stream = server.tls_stream().await;
    let head =
        "POST /mutate?timeout=1s HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let (mut reader, mut writer) = tokio::io::split(stream);
    let dripping = tokio::spawn(async move {
        while writer.write_all(b" ").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
    assert_serves(&server).await;
    let mut start = [0; 12];
    timeout(PATIENCE, reader.read_exact(&mut start))
        .await
        .expect("the caller is told when it has stopped waiting")
        .unwrap();
    assert_eq!(&start, b"HTTP/1.1 408");
    dripping.abort();
}

#[tokio::test]
async fn bodies_have_seconds_and_not_the_callers_timeout() {
    let server = server(Limits {
        body: Duration::from_millis(500),
        ..Limits::default()
    })
    .await;
    let mut stream = server.tls_stream().await;
    let head =
        "POST /mutate?timeout=30s HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut start = [0; 12];
    timeout(Duration::from_secs(10), stream.read_exact(&mut start))
        .await
        .expect("the body had its time")
        .unwrap();
    assert_eq!(&start, b"HTTP/1.1 408");
}

#[tokio::test]
async fn heads_without_bodies_take_no_place_from_others() {
    let server = server_for(50, 50).await;
    let mut answered = server.connect().await.unwrap();
    assert_eq!(answered.post("/", nginx_review()).await.0.status(), 200);
    let mut waiting = Vec::new();
    for _ in 0..200 {
        let mut stream = server.tls_stream().await;
        let head = post("Content-Length: 1000\r\n", "").replace("/ ", "/?timeout=30s ");
        stream.write_all(head.as_bytes()).await.ok();
        waiting.push(stream);
        if waiting.len() % 50 == 0 {
            assert_serves(&server).await;
        }
    }
    // A connection that was answered has outlived all of these.
    assert_eq!(answered.post("/", nginx_review()).await.0.status(), 200);
}

#[tokio::test]
async fn one_address_has_a_share_of_the_connections() {
    let server = server_for(50, 8).await;
    let mut crowd = Vec::new();
    for _ in 0..40 {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
        crowd.push(socket.connect(server.addr).await.unwrap());
    }
    server
        .until_metric("imageswap_admission_connections 8")
        .await;
    assert_serves(&server).await;
}

#[tokio::test]
async fn clients_that_never_read() {
    let limits = Limits {
        write: Duration::from_millis(500),
        ..Limits::default()
    };
    let server = server(limits).await;
    let stream = server.tls_stream().await;
    let (_unread, mut writer) = tokio::io::split(stream);
    // Answers that soon fill every buffer.
    let container = |at: usize| json!({"name": format!("c{at}"), "image": "nginx"});
    let containers: Vec<_> = (0..100).map(container).collect();
    let body = pod_review("CREATE", &json!({"spec": {"containers": containers}})).to_string();
    let request = post(&format!("Content-Length: {}\r\n", body.len()), &body);
    let sending = async { while writer.write_all(request.as_bytes()).await.is_ok() {} };
    timeout(PATIENCE, sending).await.expect("it is closed");
    server
        .until_metric(r#"imageswap_admission_connections_closed_total{reason="slow-read"} 1"#)
        .await;
    assert_serves(&server).await;
}

#[tokio::test]
async fn large_bodies_share_memory_that_others_do_not_need() {
    let limits = Limits {
        bodies: MAX_BODY,
        // The hog keeps what it has until it goes.
        body: Duration::from_mins(1),
        ..Limits::default()
    };
    let server = server(limits).await;
    // A client that announces much and sends nothing takes nothing.
    let mut silent = Vec::new();
    for _ in 0..10 {
        let mut stream = server.tls_stream().await;
        let head = post(&format!("Content-Length: {MAX_BODY}\r\n"), "");
        stream.write_all(head.as_bytes()).await.unwrap();
        silent.push(stream);
    }
    let mut other = server.connect().await.unwrap();
    let large = Bytes::from(vec![b' '; MEDIUM_BODY + 1]);
    // It is read, and is not a review.
    assert_eq!(other.post("/", large.clone()).await.0.status(), 400);

    // This one has begun to send, and stops.
    let mut hog = server.tls_stream().await;
    let begun = " ".repeat(4 * SMALL_BODY);
    let head = post(&format!("Content-Length: {MAX_BODY}\r\n"), &begun);
    hog.write_all(head.as_bytes()).await.unwrap();
    eventually("the memory is taken", async || {
        let mut other = server.connect().await.unwrap();
        let (response, _) = other.post("/?timeout=200ms", large.clone()).await;
        response.status() == 429 && response.headers()[RETRY_AFTER] == "1"
    })
    .await;
    // Bodies of the usual sizes have separate memory.
    let medium = Bytes::from(vec![b' '; MEDIUM_BODY]);
    assert_eq!(other.post("/", medium).await.0.status(), 400);
    assert_serves(&server).await;

    drop(hog);
    eventually("it is given back", async || {
        let mut other = server.connect().await.unwrap();
        other.post("/", large.clone()).await.0.status() == 400
    })
    .await;
}

/// Clients whose connection was answered within a minute have a share that strangers cannot take.
#[tokio::test]
async fn proven_clients_have_memory_that_others_cannot_take() {
    let server = server(Limits {
        bodies: MAX_BODY,
        // The hog keeps what it has until the end.
        body: Duration::from_mins(1),
        ..Limits::default()
    })
    .await;
    let mut hog = server.tls_stream().await;
    let begun = " ".repeat(4 * SMALL_BODY);
    let head = post(&format!("Content-Length: {MAX_BODY}\r\n"), &begun);
    hog.write_all(head.as_bytes()).await.unwrap();
    let large = Bytes::from(vec![b' '; MEDIUM_BODY + 1]);
    eventually("the memory is taken", async || {
        let mut stranger = server.connect().await.unwrap();
        let (response, _) = stranger.post("/?timeout=200ms", large.clone()).await;
        response.status() == 429
    })
    .await;
    let mut proven = server.connect().await.unwrap();
    assert_eq!(proven.post("/", nginx_review()).await.0.status(), 200);
    let (response, _) = proven.post("/?timeout=10s", large.clone()).await;
    assert_eq!(response.status(), 400);
}

#[tokio::test]
async fn a_hundred_megabytes_are_refused_unread() {
    let server = server(Limits::default()).await;
    let mut stream = server.tls_stream().await;
    let head = post(&format!("Content-Length: {}\r\n", 100 << 20), "");
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut sent = 0;
    let piece = vec![b' '; 1 << 20];
    while sent < 100 << 20 && stream.write_all(&piece).await.is_ok() {
        sent += piece.len();
    }
    assert!(sent < 50 << 20, "{sent} bytes were taken");
    assert_serves(&server).await;
}

#[tokio::test]
async fn half_handshakes() {
    let server = server_for(16, 16).await;
    let mut half = Vec::new();
    for i in 0..200 {
        let mut stream = TcpStream::connect(server.addr).await.unwrap();
        // The first bytes of a ClientHello, or none.
        if i % 2 == 0 {
            stream.write_all(&[22, 3, 1, 2, 0, 1]).await.ok();
        }
        half.push(stream);
        if i % 50 == 0 {
            assert_serves(&server).await;
        }
    }
    eventually("only so many are kept", async || {
        let mut open = 0;
        for stream in &half {
            let mut byte = [0];
            let closed = matches!(stream.try_read(&mut byte), Ok(0))
                || stream
                    .try_read(&mut byte)
                    .is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionReset);
            open += usize::from(!closed);
        }
        open <= 16
    })
    .await;
    assert_serves(&server).await;
}

#[tokio::test]
async fn idle_connections_by_the_hundred() {
    let server = server_for(50, 50).await;
    // An API server that has been answered, and is idle now.
    let mut answered = server.connect().await.unwrap();
    assert_eq!(answered.post("/", nginx_review()).await.0.status(), 200);
    let mut idle = Vec::new();
    for _ in 0..200 {
        idle.push(server.tls_stream().await);
    }
    server
        .until_metric("imageswap_admission_connections 50")
        .await;
    // Its connection has outlived all of theirs, and a new one can be opened.
    assert_eq!(answered.post("/", nginx_review()).await.0.status(), 200);
    assert_serves(&server).await;
    let mut first = idle.swap_remove(0);
    assert_eq!(rest(&mut first).await, "");
}

#[tokio::test]
async fn what_is_no_http() {
    let server = server(quick()).await;
    for (sent, status) in [
        ("hello\r\n\r\n".to_owned(), "400"),
        ("POST / HTTP/9.9\r\n\r\n".to_owned(), "400"),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(), "400"),
        (
            "POST / HTTP/1.1\r\nHost localhost\r\n\r\n".to_owned(),
            "400",
        ),
        ("\0\0\0\0\0\0\0\0\r\n\r\n".to_owned(), "400"),
        (post("Content-Length: -1\r\n", ""), "400"),
        (post("Content-Length: 99999999999999999999\r\n", ""), "400"),
    ] {
        let mut stream = server.tls_stream().await;
        stream.write_all(sent.as_bytes()).await.unwrap();
        let text = rest(&mut stream).await;
        // Some are closed without an answer.
        assert!(
            statuses(&text).iter().all(|it| *it == status),
            "{sent:?}: {text}"
        );
    }
    assert_serves(&server).await;
}

/// If two ends of a chain disagree on where a request ends, the rest is taken as another request.
/// No such request may get a good answer with something left over.
#[tokio::test]
async fn requests_that_have_two_ends() {
    let server = server(quick()).await;
    let smuggled = good();
    let chunked = format!("0\r\n\r\n{smuggled}");
    for head in [
        format!("Content-Length: 5\r\nContent-Length: {}\r\n", chunked.len()),
        format!("Content-Length: 5, {}\r\n", chunked.len()),
        "Transfer-Encoding: chunked, identity\r\n".to_owned(),
        "Transfer-Encoding: xchunked\r\n".to_owned(),
        "Transfer-Encoding: identity\r\nContent-Length: 5\r\n".to_owned(),
        "Transfer-Encoding : chunked\r\nContent-Length: 5\r\n".to_owned(),
        "Transfer-Encoding: chunked\r\n Content-Length: 5\r\n".to_owned(),
    ] {
        let mut stream = server.tls_stream().await;
        stream
            .write_all(post(&head, &chunked).as_bytes())
            .await
            .unwrap();
        let text = rest(&mut stream).await;
        assert!(!statuses(&text).contains(&"200"), "{head:?}: {text}");
    }
    // With both, the chunks count (RFC 9112, 6.3), and the connection is closed.
    let mut stream = server.tls_stream().await;
    let body = nginx_review();
    let both = post(
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        &format!("{:x}\r\n{body}\r\n0\r\n\r\n{smuggled}", body.len()),
    );
    stream.write_all(both.as_bytes()).await.unwrap();
    let text = rest(&mut stream).await;
    assert!(matches!(statuses(&text)[..], ["200" | "400"]), "{text}");
    assert_serves(&server).await;
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_turn() {
    let server = server(quick()).await;
    let mut stream = server.tls_stream().await;
    let last = good().replace("Host: localhost", "Host: localhost\r\nConnection: close");
    stream
        .write_all((good().repeat(20) + &last).as_bytes())
        .await
        .unwrap();
    assert_eq!(statuses(&rest(&mut stream).await), ["200"; 21]);
}

/// Answers when it is released.
struct Held {
    admission: Admission,
    release: Arc<AtomicBool>,
}

impl Answers for Held {
    fn answer(&self, webhook: Webhook, body: &[u8], caller: &Caller) -> Result<Answer, Unlearned> {
        let held = || !self.release.load(Ordering::Relaxed) && !caller.is_gone();
        while body.starts_with(b"hold") && held() {
            std::thread::sleep(Duration::from_millis(5));
        }
        self.admission.answer_to(caller, webhook, body)
    }

    async fn learn(&self, unlearned: &Unlearned, until: Instant) {
        self.admission.learn(unlearned, until).await;
    }
}

/// Releases it even if the test fails, which would otherwise wait for it.
struct Release(Arc<AtomicBool>);

impl Drop for Release {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn held_server(release: &Arc<AtomicBool>) -> impl Future<Output = Server> {
    let release = Arc::clone(release);
    let limits = Limits {
        max_heavy: 1,
        ..Limits::default()
    };
    Server::start_with(TIMES, limits, |exporter, _| Held {
        admission: admission(MAPS, &WebhookMetrics::new(exporter)),
        release,
    })
}

#[tokio::test]
async fn large_reviews_wait_for_each_other_and_small_ones_for_none() {
    let release = Arc::new(AtomicBool::new(false));
    let _on_failure = Release(Arc::clone(&release));
    let server = held_server(&release).await;
    let mut holding = server.connect().await.unwrap();
    let large = format!("hold{}", " ".repeat(1 << 20));
    let held = {
        let large = large.clone();
        tokio::spawn(async move { holding.post("/", large).await.0.status() })
    };
    server
        .until_metric("imageswap_admission_requests_in_flight 1")
        .await;

    let mut hasty = server.connect().await.unwrap();
    let (response, _) = hasty.post("/mutate?timeout=4s", large.clone()).await;
    assert_eq!(response.status(), 429);
    assert_eq!(response.headers()[RETRY_AFTER], "1");
    assert_serves(&server).await;
    // The connection is still good, and a patient client gets an answer.
    let patient = tokio::spawn(async move { hasty.post("/?timeout=30s", large).await.0 });
    server
        .until_metric("imageswap_admission_requests_in_flight 2")
        .await;
    release.store(true, Ordering::Relaxed);
    assert_eq!(held.await.unwrap(), 400);
    assert_eq!(patient.await.unwrap().status(), 400);
}

#[tokio::test]
async fn work_ends_when_its_client_has_gone() {
    let release = Arc::new(AtomicBool::new(false));
    let _on_failure = Release(Arc::clone(&release));
    let server = held_server(&release).await;
    let mut leaving = server.tls_stream().await;
    let body = format!("hold{}", " ".repeat(1 << 20));
    let request = post(&format!("Content-Length: {}\r\n", body.len()), &body);
    leaving.write_all(request.as_bytes()).await.unwrap();
    server
        .until_metric("imageswap_admission_requests_in_flight 1")
        .await;
    drop(leaving);
    // Its turn is free again, and the next is answered.
    let mut next = server.connect().await.unwrap();
    let large = " ".repeat(1 << 20);
    assert_eq!(next.post("/?timeout=30s", large).await.0.status(), 400);
}
