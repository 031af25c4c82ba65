//! Clients that mean harm, for measuring what the webhook's other clients notice of them.
//!
//! `hostile ADDR CA KIND COUNT SECONDS` keeps up that many connections of a kind: `half` (handshakes that go no
//! further), `idle`, `heads` (that never end), `bodies` (that never end), `large` (bodies of 100 MB, one after the
//! other) or `noise` (what is no HTTP). Connections that the server closes are made anew.

use std::net::SocketAddr;
use std::time::Duration;

use imageswap_runtime::tls::{ClientStream, Connector};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

type Result<T, E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

/// Between two bytes of something that never ends; also before a connection is made anew.
const PAUSE: Duration = Duration::from_millis(500);
const LARGE: usize = 100 << 20;

#[derive(Debug, Clone, Copy)]
enum Kind {
    Half,
    Idle,
    Heads,
    Bodies,
    Large,
    Noise,
}

#[tokio::main]
async fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [addr, ca, kind, count, seconds] = &args[..] else {
        return Err("usage: hostile ADDR CA KIND COUNT SECONDS".into());
    };
    let kind = match kind.as_str() {
        "half" => Kind::Half,
        "idle" => Kind::Idle,
        "heads" => Kind::Heads,
        "bodies" => Kind::Bodies,
        "large" => Kind::Large,
        "noise" => Kind::Noise,
        other => return Err(format!("{other:?} is no kind of client").into()),
    };
    let addr: SocketAddr = addr.parse()?;
    let connector = Connector::new(&std::fs::read(ca)?)?;
    for _ in 0..count.parse::<usize>()? {
        let connector = connector.clone();
        tokio::spawn(async move {
            loop {
                // To be refused or closed is what these clients are there for.
                attack(kind, addr, &connector).await.ok();
                sleep(PAUSE).await;
            }
        });
    }
    sleep(Duration::from_secs(seconds.parse()?)).await;
    Ok(())
}

/// One connection, until it is closed.
async fn attack(kind: Kind, addr: SocketAddr, connector: &Connector) -> Result<()> {
    let mut tcp = TcpStream::connect(addr).await?;
    if let Kind::Half = kind {
        // The first bytes of a ClientHello.
        tcp.write_all(&[22, 3, 1, 2, 0, 1]).await?;
        tcp.read_u8().await?;
        return Ok(());
    }
    let mut stream = connector.connect("localhost", tcp).await?;
    match kind {
        Kind::Half | Kind::Idle => {}
        Kind::Heads => return dribble(&mut stream, "POST / HTTP/1.1\r\nX: ").await,
        Kind::Bodies => {
            let head = "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4000000\r\n\r\n";
            return dribble(&mut stream, head).await;
        }
        Kind::Large => {
            let head = "POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n";
            stream.write_all(head.as_bytes()).await?;
            let mut chunk = b"10000\r\n".to_vec();
            chunk.resize(chunk.len() + (1 << 16), b' ');
            chunk.extend_from_slice(b"\r\n");
            for _ in 0..LARGE >> 16 {
                stream.write_all(&chunk).await?;
            }
        }
        Kind::Noise => stream.write_all(b"\0\x01 no HTTP at all\r\n\r\n").await?,
    }
    stream.read_u8().await?;
    Ok(())
}

async fn dribble(stream: &mut ClientStream, start: &str) -> Result<()> {
    stream.write_all(start.as_bytes()).await?;
    let mut byte = [0];
    while timeout(PAUSE, stream.read(&mut byte)).await.is_err() {
        stream.write_all(b"x").await?;
    }
    Ok(())
}
