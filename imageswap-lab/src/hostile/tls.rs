//! Failing handshakes, and TLS records that no library would send.

use std::net::Ipv4Addr;
use std::process::{Command, Stdio};
use std::time::Duration;

use imageswap_runtime::tls::ClientStream;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};

use super::client::{Problem, Target, connect};
use super::request::wait;
use super::review::review;

/// Types of records.
const CHANGE_CIPHER_SPEC: u8 = 20;
const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const APPLICATION_DATA: u8 = 23;

/// Sends the first bytes of a ClientHello, and no more.
pub(super) async fn half_handshake(target: &Target, source: Ipv4Addr) -> Result<(), Problem> {
    let mut stream = connect(target.https, source, None).await?;
    stream.write_all(&[HANDSHAKE, 3, 1, 2, 0, 1]).await?;
    wait(&mut stream).await
}

/// Completes a handshake and closes, as often as possible.
pub(super) async fn handshake_alone(target: &Target, source: Ipv4Addr) -> Result<(), Problem> {
    let stream = target.tls(source).await?;
    // Closed by a reset, so that no port stays in TIME_WAIT.
    stream.get_ref().0.set_zero_linger()?;
    Ok(())
}

/// Sends a ClientHello in records of one byte each, followed by records that fit nothing.
pub(super) async fn hello_by_bytes(target: &Target, source: Ipv4Addr) -> Result<(), Problem> {
    let hello = client_hello(target).await?;
    let mut stream = connect(target.https, source, None).await?;
    let records: Vec<u8> = hello
        .iter()
        .flat_map(|byte| record(HANDSHAKE, &[*byte]))
        .collect();
    stream.write_all(&records).await?;
    let mut answer = [0; 4096];
    stream.read(&mut answer).await.map(drop)?;
    let data = record(APPLICATION_DATA, &[0]).repeat(100);
    while timeout(Duration::from_millis(10), stream.read(&mut answer))
        .await
        .is_err()
    {
        stream.write_all(&data).await?;
    }
    Ok(())
}

/// A review in records of one byte each.
pub(super) async fn request_by_bytes(stream: ClientStream) -> Result<(), Problem> {
    let body = review(3200).to_string();
    let head = format!(
        "POST /mutate HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let (mut reader, mut writer) = tokio::io::split(stream);
    tokio::select! {
        read = wait(&mut reader) => read,
        written = async {
            loop {
                for byte in head.bytes().chain(body.bytes()) {
                    writer.write_all(&[byte]).await?;
                    writer.flush().await?;
                }
            }
        } => written,
    }
}

/// Sends ClientHellos again and again, as if to renegotiate, between meaningless records.
pub(super) async fn noise(target: &Target, source: Ipv4Addr, at: usize) -> Result<(), Problem> {
    let hello = client_hello(target).await?;
    let mut stream = connect(target.https, source, None).await?;
    stream.write_all(&record(HANDSHAKE, &hello)).await?;
    let mut answer = [0; 4096];
    stream.read(&mut answer).await.map(drop)?;
    let noise = match at % 5 {
        0 => record(HANDSHAKE, &hello),
        1 => record(CHANGE_CIPHER_SPEC, &[1]),
        // A warning: the user canceled.
        2 => record(ALERT, &[1, 90]),
        3 => record(HANDSHAKE, &[]),
        // HelloRequest, which only servers send.
        _ => record(HANDSHAKE, &[0, 0, 0, 0]),
    };
    let noise = noise.repeat(20);
    loop {
        stream.write_all(&noise).await?;
        match timeout(Duration::from_millis(1), stream.read(&mut answer)).await {
            Ok(Ok(0)) => return Ok(()),
            Ok(Err(error)) => return Err(error.into()),
            Ok(Ok(_)) | Err(_) => {}
        }
    }
}

/// Sends key updates again and again, without reading the answers.
pub(super) async fn new_keys(mut stream: ClientStream) -> Result<(), Problem> {
    for _ in 0..100_000 {
        stream.get_mut().1.refresh_traffic_keys()?;
        stream.flush().await?;
    }
    Ok(())
}

/// Renegotiates in TLS 1.2, which needs a client that can; without openssl the attack does less.
pub(super) async fn renegotiation(target: &Target) -> Result<(), Problem> {
    let addr = target.https.to_string();
    let started = Command::new("openssl")
        .args(["s_client", "-tls1_2", "-connect", &addr])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let Ok(mut client) = started else {
        return half_handshake(target, Ipv4Addr::LOCALHOST).await;
    };
    let mut stdin = client.stdin.take();
    for _ in 0..50 {
        let written = stdin
            .as_mut()
            .map(|it| std::io::Write::write_all(it, b"R\n"));
        if !matches!(written, Some(Ok(()))) || client.try_wait()?.is_some() {
            break;
        }
        sleep(Duration::from_millis(20)).await;
    }
    drop(stdin);
    client.kill()?;
    client.wait()?;
    Ok(())
}

/// A client's first handshake message, without the record's head.
async fn client_hello(target: &Target) -> Result<Vec<u8>, Problem> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let client = TcpStream::connect(listener.local_addr()?).await?;
    let hello = async {
        let (mut server, _) = listener.accept().await?;
        let mut head = [0; 5];
        server.read_exact(&mut head).await?;
        let mut hello = vec![0; usize::from(u16::from_be_bytes([head[3], head[4]]))];
        server.read_exact(&mut hello).await?;
        Ok(hello)
    };
    tokio::select! {
        hello = hello => hello,
        _ = target.handshake(client) => Err("a handshake without a server".into()),
    }
}

/// A record that is not encrypted.
fn record(kind: u8, content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len())
        .expect("a record is short")
        .to_be_bytes();
    let mut record = vec![kind, 3, 3, length[0], length[1]];
    record.extend_from_slice(content);
    record
}
