//! Routes, limits, connections and drain.

use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CONNECTION, CONTENT_TYPE};
use http::{Method, Request};
use imageswap_webhook::admit::{Answer, Unlearned};
use imageswap_webhook::caller::Caller;
use imageswap_webhook::http::Answers;
use imageswap_webhook::limits::MAX_BODY;
use imageswap_webhook::metrics::{Webhook, WebhookMetrics};
use imageswap_webhook::server::DrainTimes;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::client::{Server, TIMES, admission, eventually, nginx_review, patched};

const MAPS: &str = "default::d.example.com\n";

#[tokio::test]
async fn routes() {
    let server = Server::with_maps(MAPS).await;
    for (method, path, body, status) in [
        (Method::POST, "/", nginx_review(), 200),
        (Method::POST, "/mutate", nginx_review(), 200),
        (Method::POST, "/mutate?timeout=10s", nginx_review(), 200),
        (Method::POST, "/validate", nginx_review(), 200),
        (Method::POST, "/validate-policy", nginx_review(), 200),
        (Method::POST, "/validate/x", nginx_review(), 404),
        (Method::GET, "/metrics", String::new(), 404),
        (Method::GET, "/", String::new(), 405),
        (Method::PUT, "/mutate", nginx_review(), 405),
        (Method::POST, "/", String::new(), 400),
        (Method::POST, "/", "{}".to_owned(), 400),
    ] {
        let mut connection = server.connect().await.unwrap();
        let request = Request::builder().method(method.clone()).uri(path);
        let (response, answer) = connection.send(request, body).await.unwrap();
        assert_eq!(response.status(), status, "{method} {path}");
        assert_eq!(
            response.headers().contains_key(ALLOW),
            status == 405,
            "{method} {path}"
        );
        let content_type = response.headers()[CONTENT_TYPE].to_str().unwrap();
        assert_eq!(
            content_type == "application/json",
            status == 200,
            "{method} {path}"
        );
        assert!(!answer.is_empty(), "{method} {path}");
    }
    server
        .until_metric(
            r#"imageswap_admission_requests_total{webhook="mutate",operation="CREATE",outcome="patched"} 3"#,
        )
        .await;
}

#[tokio::test]
async fn a_refusal_gives_the_reason() {
    let server = Server::with_maps(MAPS).await;
    let mut connection = server.connect().await.unwrap();
    let (response, reason) = connection
        .post("/", r#"{"kind":"Pod","apiVersion":"v1"}"#)
        .await;
    assert_eq!(response.status(), 400);
    let reason = String::from_utf8(reason.to_vec()).unwrap();
    assert!(
        reason.contains(r#"found kind "Pod" and apiVersion "v1""#),
        "{reason}"
    );
    // The connection is still good.
    assert_eq!(connection.post("/", nginx_review()).await.0.status(), 200);
}

#[tokio::test]
async fn bodies_over_the_limit() {
    let server = Server::with_maps(MAPS).await;
    let mut connection = server.connect().await.unwrap();
    // At the limit it is read, and is not a review.
    let (response, _) = connection
        .post("/", Bytes::from(vec![b' '; MAX_BODY]))
        .await;
    assert_eq!(response.status(), 400);

    // Over it, it is refused by its announced length, before any of it is sent.
    assert_eq!(
        raw(
            &server,
            &format!("Content-Length: {}\r\n\r\n", MAX_BODY + 1),
            0
        )
        .await,
        "413"
    );
    // Without a length it is refused when it has grown too large.
    assert_eq!(
        raw(&server, "Transfer-Encoding: chunked\r\n\r\n", MAX_BODY + 1).await,
        "413"
    );
}

/// Posts with this end of the head and this many bytes in chunks, and returns the status.
async fn raw(server: &Server, head: &str, chunked: usize) -> String {
    let mut stream = server.tls_stream().await;
    let head = format!("POST / HTTP/1.1\r\nHost: localhost\r\n{head}");
    stream.write_all(head.as_bytes()).await.unwrap();
    let chunk = vec![b' '; 1 << 16];
    for _ in 0..chunked.div_ceil(chunk.len()) {
        let sent = async {
            stream
                .write_all(format!("{:x}\r\n", chunk.len()).as_bytes())
                .await?;
            stream.write_all(&chunk).await?;
            stream.write_all(b"\r\n").await
        };
        // The server may stop reading as soon as it has seen enough.
        if sent.await.is_err() {
            break;
        }
    }
    stream.flush().await.ok();
    let mut start = [0; 12];
    stream.read_exact(&mut start).await.unwrap();
    String::from_utf8(start.to_vec()).unwrap().split_off(9)
}

#[tokio::test]
async fn one_connection_serves_many_reviews() {
    let server = Server::with_maps(MAPS).await;
    let mut connection = server.connect().await.unwrap();
    let review = nginx_review();
    let value: Value = serde_json::from_str(&review).unwrap();
    for _ in 0..100 {
        let (response, answer) = connection.post("/", review.clone()).await;
        assert_eq!(response.status(), 200);
        assert!(!response.headers().contains_key(CONNECTION));
        let answer: Value = serde_json::from_slice(&answer).unwrap();
        assert_eq!(
            patched(&value, &answer)["spec"]["containers"][0]["image"],
            "d.example.com/nginx"
        );
    }
    assert!(!connection.closed.is_finished());
}

#[tokio::test]
async fn what_is_no_tls_does_no_harm() {
    let server = Server::with_maps(MAPS).await;
    let mut stream = TcpStream::connect(server.addr).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await.ok();
    assert_eq!(server.swap("nginx").await, "d.example.com/nginx");
}

#[tokio::test]
async fn a_panic_is_answered_and_the_connection_goes_on() {
    struct Panics(imageswap_webhook::admit::Admission);
    impl Answers for Panics {
        fn answer(
            &self,
            webhook: Webhook,
            body: &[u8],
            caller: &Caller,
        ) -> Result<Answer, Unlearned> {
            assert!(body != b"panic", "as asked for");
            self.0.answer_to(caller, webhook, body)
        }

        async fn learn(&self, unlearned: &Unlearned, until: Instant) {
            self.0.learn(unlearned, until).await;
        }
    }
    let server = Server::start(TIMES, |exporter, _| {
        Panics(admission(MAPS, &WebhookMetrics::new(exporter)))
    })
    .await;
    let mut connection = server.connect().await.unwrap();
    assert_eq!(connection.post("/", "panic").await.0.status(), 500);
    assert_eq!(connection.post("/", nginx_review()).await.0.status(), 200);
    server
        .until_metric(
            r#"imageswap_admission_requests_total{webhook="mutate",operation="unknown",outcome="failed"} 1"#,
        )
        .await;
}

#[tokio::test]
async fn a_drain_lets_everyone_finish() {
    let times = DrainTimes {
        // Long enough for a handshake on a busy machine.
        delay: Duration::from_secs(3),
        timeout: Duration::from_hours(1),
    };
    let server = Server::start(times, |exporter, _| {
        admission(MAPS, &WebhookMetrics::new(exporter))
    })
    .await;
    let mut idle = server.connect().await.unwrap();
    let (response, _) = idle.post("/", nginx_review()).await;
    assert!(!response.headers().contains_key(CONNECTION));

    server.drain.start();
    // Other components learn late of the drain: new connections are still accepted, for one request
    // each.
    let mut late = server.connect().await.unwrap();
    let (response, _) = late.post("/", nginx_review()).await;
    assert_eq!(
        (response.status().as_u16(), &response.headers()[CONNECTION]),
        (200, &"close".parse().unwrap())
    );
    late.closed.await.unwrap();

    eventually("connections are refused", async || {
        TcpStream::connect(server.addr).await.is_err()
    })
    .await;
    // The idle connection can still be used at this moment, and closes then.
    assert!(!idle.closed.is_finished() && !server.task.is_finished());
    let (response, _) = idle.post("/", nginx_review()).await;
    assert_eq!(
        (response.status().as_u16(), &response.headers()[CONNECTION]),
        (200, &"close".parse().unwrap())
    );
    idle.closed.await.unwrap();
    server.task.await.unwrap();
}

#[tokio::test]
async fn a_drain_ends_at_the_deadline() {
    let times = DrainTimes {
        delay: Duration::ZERO,
        timeout: Duration::from_millis(300),
    };
    let server = Server::start(times, |exporter, _| {
        admission(MAPS, &WebhookMetrics::new(exporter))
    })
    .await;
    let mut idle = server.connect().await.unwrap();
    idle.post("/", nginx_review()).await;
    let silent = TcpStream::connect(server.addr).await.unwrap();
    server.drain.start();
    idle.closed.await.unwrap();
    server.task.await.unwrap();
    drop(silent);
}
