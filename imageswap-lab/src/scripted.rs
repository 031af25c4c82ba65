//! An HTTPS server that answers by a script, byte by byte, and writes down what it was asked.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use imageswap_runtime::tls::TlsArgs;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::error::{Error, Result};

/// What the server does with one request.
#[derive(Debug, Clone)]
pub enum Act {
    /// Sends these bytes.
    Say(String),
    /// Sends these bytes, and then this text again and again.
    Repeat(String, &'static str),
    /// Sends these bytes, one at a time, with a pause after each.
    Trickle(String, Duration),
    /// Sends nothing.
    Hang,
    /// Closes the connection.
    Close,
}

/// A running server, for the name `localhost`.
#[derive(Debug)]
pub struct ScriptedServer {
    port: u16,
    ca: Vec<u8>,
    asked: Arc<Mutex<Vec<String>>>,
    _certificates: TempDir,
}

impl ScriptedServer {
    /// Starts one. It answers each request as `script` says, which gets the head of the request and the server's own name.
    pub async fn start(script: impl Fn(&str, &str) -> Act + Send + Sync + 'static) -> Result<Self> {
        let certificates = tempfile::tempdir().map_err(Error::io("a folder for certificates"))?;
        let tls = TlsArgs {
            tls_self_signed: Some(certificates.path().to_owned()),
            ..TlsArgs::default()
        };
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let tls = tls
            .load(address)
            .map_err(|error| Error::Unusable(error.to_string()))?;
        let file = certificates.path().join("ca.crt");
        let ca = std::fs::read(&file).map_err(Error::io(file.display().to_string()))?;
        let bound = TcpListener::bind(address).await;
        let listener = bound.map_err(Error::io(address.to_string()))?;
        let port = listener
            .local_addr()
            .map_err(Error::io(address.to_string()))?
            .port();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (script, seen, acceptor) = (Arc::new(script), Arc::clone(&asked), tls.acceptor());
        tokio::spawn(async move {
            loop {
                let Ok((stream, _)) = listener.accept().await else {
                    return;
                };
                let (script, seen, acceptor) =
                    (Arc::clone(&script), Arc::clone(&seen), acceptor.clone());
                tokio::spawn(async move {
                    let Ok(mut stream) = acceptor.accept(stream).await else {
                        return;
                    };
                    let mut head = Vec::new();
                    while let Ok(byte) = stream.read_u8().await {
                        head.push(byte);
                        if !head.ends_with(b"\r\n\r\n") {
                            continue;
                        }
                        let text = String::from_utf8_lossy(&std::mem::take(&mut head)).into_owned();
                        let act = script(&text, &format!("localhost:{port}"));
                        seen.lock()
                            .unwrap_or_else(PoisonError::into_inner)
                            .push(text);
                        match act {
                            Act::Say(text) => _ = stream.write_all(text.as_bytes()).await,
                            Act::Repeat(begin, text) => {
                                _ = stream.write_all(begin.as_bytes()).await;
                                while stream.write_all(text.as_bytes()).await.is_ok() {}
                                return;
                            }
                            Act::Trickle(text, pause) => {
                                for byte in text.bytes() {
                                    if stream.write_all(&[byte]).await.is_err() {
                                        return;
                                    }
                                    _ = stream.flush().await;
                                    tokio::time::sleep(pause).await;
                                }
                            }
                            Act::Hang => std::future::pending().await,
                            Act::Close => return,
                        }
                        _ = stream.flush().await;
                    }
                });
            }
        });
        Ok(Self {
            port,
            ca,
            asked,
            _certificates: certificates,
        })
    }

    /// Host and port.
    pub fn name(&self) -> String {
        format!("localhost:{}", self.port)
    }

    /// The certificate that clients verify it with, in PEM.
    pub fn ca_pem(&self) -> &[u8] {
        &self.ca
    }

    /// The heads of the requests so far.
    pub fn asked(&self) -> Vec<String> {
        self.asked
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// An answer with headers and a body.
pub fn answer(status: &str, headers: &[(&str, &str)], body: &str) -> Act {
    let headers = headers.iter().fold(String::new(), |text, (name, value)| {
        format!("{text}{name}: {value}\r\n")
    });
    Act::Say(format!(
        "HTTP/1.1 {status}\r\n{headers}content-length: {}\r\n\r\n{body}",
        body.len()
    ))
}
