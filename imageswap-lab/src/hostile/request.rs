//! Requests that are broken, slow, or never read.

use std::net::Ipv4Addr;
use std::time::Duration;

use imageswap_runtime::tls::ClientStream;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::{sleep, timeout};

use super::client::{Problem, Target, connect};
use super::review::review;

/// Head of a request whose body never comes.
const WAITING: &str = "POST /mutate?timeout=30s HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length:";
/// How much clients that do not read receive ahead.
const SMALL_BUFFER: u32 = 2048;
/// How long clients stay that wait for an answer without reading it.
const STAY: Duration = Duration::from_secs(30);

/// Requests, or beginnings of requests, that no honest client sends.
const BROKEN: [&str; 18] = [
    "hello\r\n\r\n",
    "POST / HTTP/9.9\r\n\r\n",
    "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "POST / HTTP/1.1\r\nHost localhost\r\n\r\n",
    "\0\0\0\0\0\0\0\0\r\n\r\n",
    "POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
    "POST / HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n",
    "POST / HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
    "POST / HTTP/1.1\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n",
    "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\nx\r\n",
    "POST / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nPOST / HTTP/1.1\r\n\r\n",
    "POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 8000000\r\n\r\n",
    "CONNECT localhost:443 HTTP/1.1\r\n\r\n\x16\x03\x01\x02\0",
    "POST / HTTP/1.1\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n",
    "POST / HTTP/1.1\r\nX:\t\t\t\t\r\n continued\r\n\r\n",
    "POST /mutate?timeout=30s&timeout=9999999h HTTP/1.1\r\nContent-Length: 3\r\n\r\n[[[",
    "POST http://[::1]:99999999/ HTTP/1.1\r\nHost: \u{fffd}\r\n\r\n",
];

/// Sends something one byte at a time, at this pace, until the server stops it.
pub(super) async fn dribble(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    start: &str,
    pace: Duration,
) -> Result<(), Problem> {
    stream.write_all(start.as_bytes()).await?;
    let mut byte = [0];
    while timeout(pace, stream.read(&mut byte)).await.is_err() {
        stream.write_all(b" ").await?;
    }
    Ok(())
}

/// Waits until the server closes.
pub(super) async fn wait(stream: &mut (impl AsyncRead + Unpin)) -> Result<(), Problem> {
    tokio::io::copy(stream, &mut tokio::io::sink()).await?;
    Ok(())
}

/// Sends a whole head, and then lets the server wait for the body.
pub(super) async fn head_alone(stream: &mut ClientStream) -> Result<(), Problem> {
    stream
        .write_all(format!("{WAITING} 4000\r\n\r\n").as_bytes())
        .await?;
    wait(stream).await
}

/// Sends a body of `bytes`, one byte every `pace`.
pub(super) async fn slow_body(stream: &mut ClientStream, pace: Duration) -> Result<(), Problem> {
    dribble(stream, &format!("{WAITING} 4000000\r\n\r\n"), pace).await
}

/// Sends a body of `bytes` without its last byte.
pub(super) async fn almost_all(stream: &mut ClientStream, bytes: usize) -> Result<(), Problem> {
    stream
        .write_all(format!("{WAITING} {bytes}\r\n\r\n").as_bytes())
        .await?;
    stream.write_all(&vec![b' '; bytes - 1]).await?;
    wait(stream).await
}

/// Sends an endless chunked body; each chunk holds one byte and a long extension.
pub(super) async fn tiny_chunks(stream: &mut ClientStream) -> Result<(), Problem> {
    let head = "POST /mutate?timeout=30s HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes()).await?;
    let chunks = "1;name=value\r\n \r\n".repeat(1000);
    loop {
        stream.write_all(chunks.as_bytes()).await?;
    }
}

/// Sends a chunked body that is far too large.
pub(super) async fn hundred_megabytes(stream: &mut ClientStream) -> Result<(), Problem> {
    let head = "POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes()).await?;
    let chunk = format!("10000\r\n{}\r\n", " ".repeat(1 << 16));
    for _ in 0..100 << 20 >> 16 {
        stream.write_all(chunk.as_bytes()).await?;
    }
    wait(stream).await
}

/// Sends heads with nearly as many fields and bytes as allowed, again and again, for a path that
/// does not exist.
pub(super) async fn large_heads(stream: &mut ClientStream) -> Result<(), Problem> {
    let field = format!("X-{}: {}\r\n", "n".repeat(20), "v".repeat(120));
    let request = format!(
        "GET /none HTTP/1.1\r\nHost: localhost\r\n{}\r\n",
        field.repeat(90)
    );
    let mut answer = [0; 4096];
    loop {
        stream.write_all(request.as_bytes()).await?;
        if stream.read(&mut answer).await? == 0 {
            return Ok(());
        }
    }
}

/// Sends one of [`BROKEN`].
pub(super) async fn broken(stream: &mut ClientStream, at: usize) -> Result<(), Problem> {
    stream
        .write_all(BROKEN[at % BROKEN.len()].as_bytes())
        .await?;
    // Some servers wait for more.
    timeout(Duration::from_millis(300), wait(stream)).await?
}

/// Sends requests without waiting for answers, which are read meanwhile.
pub(super) async fn pipelined(stream: ClientStream) -> Result<(), Problem> {
    let body = review(3200).to_string();
    let request = format!("{WAITING} {}\r\n\r\n{body}", body.len()).repeat(50);
    let (mut reader, mut writer) = tokio::io::split(stream);
    tokio::select! {
        read = wait(&mut reader) => read,
        written = async {
            loop {
                writer.write_all(request.as_bytes()).await?;
            }
        } => written,
    }
}

/// Asks for reviews with large answers, and does not read them.
pub(super) async fn unread_answers(
    target: &Target,
    source: Ipv4Addr,
    body: &[u8],
) -> Result<(), Problem> {
    let tcp = connect(target.https, source, Some(SMALL_BUFFER)).await?;
    let mut stream = target.handshake(tcp).await?;
    let head = format!("{WAITING} {}\r\n\r\n", body.len());
    let sending = async {
        for _ in 0..20 {
            stream.write_all(head.as_bytes()).await?;
            stream.write_all(body).await?;
        }
        sleep(STAY).await;
        Ok(())
    };
    timeout(STAY, sending).await?
}

/// Asks the admin port for its largest page many times, and reads nothing.
pub(super) async fn unread_metrics(target: &Target, source: Ipv4Addr) -> Result<(), Problem> {
    let mut stream = connect(target.admin, source, Some(SMALL_BUFFER)).await?;
    let requests = "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n".repeat(400);
    timeout(STAY, async {
        stream.write_all(requests.as_bytes()).await?;
        sleep(STAY).await;
        Ok(())
    })
    .await?
}

/// Asks the admin port for its largest page as fast as it answers.
pub(super) async fn scrapes(target: &Target, source: Ipv4Addr) -> Result<(), Problem> {
    let stream = connect(target.admin, source, None).await?;
    let (mut reader, mut writer) = stream.into_split();
    let requests = "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n".repeat(20);
    tokio::select! {
        read = wait(&mut reader) => read,
        written = async {
            loop {
                writer.write_all(requests.as_bytes()).await?;
            }
        } => written,
    }
}
