//! Connections of a trial's clients to the webhook.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST, USER_AGENT};
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use imageswap_runtime::tls::{ClientStream, ConnectError, Connector};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinHandle;

use crate::error::{Error, Result};

pub(super) type Problem = Box<dyn std::error::Error + Send + Sync>;

/// A webhook to attack.
#[derive(Debug, Clone)]
pub struct Target {
    /// Where it accepts reviews.
    pub https: SocketAddr,
    /// Where it serves metrics.
    pub admin: SocketAddr,
    connector: Connector,
}

/// A connection over TLS that sends one request at a time, kept open.
#[derive(Debug)]
pub(super) struct Connection {
    sender: SendRequest<Full<Bytes>>,
    driver: JoinHandle<hyper::Result<()>>,
}

impl Target {
    /// The webhook at these addresses, whose certificate a CA of `ca_pem` has signed.
    pub fn new(https: SocketAddr, admin: SocketAddr, ca_pem: &[u8]) -> Result<Self> {
        let connector = Connector::new(ca_pem);
        Ok(Self {
            https,
            admin,
            connector: connector.map_err(|error| Error::Unusable(error.to_string()))?,
        })
    }

    /// A connection over TLS from `source`.
    pub(super) async fn tls(&self, source: Ipv4Addr) -> std::result::Result<ClientStream, Problem> {
        let tcp = connect(self.https, source, None).await?;
        Ok(self.handshake(tcp).await?)
    }

    pub(super) async fn handshake(
        &self,
        tcp: TcpStream,
    ) -> std::result::Result<ClientStream, ConnectError> {
        self.connector.connect("localhost", tcp).await
    }

    /// A connection for requests from `source`.
    pub(super) async fn open(&self, source: Ipv4Addr) -> std::result::Result<Connection, Problem> {
        let stream = self.tls(source).await?;
        let (sender, driver) = http1::handshake(TokioIo::new(stream)).await?;
        Ok(Connection {
            sender,
            driver: tokio::spawn(driver),
        })
    }
}

/// A TCP connection from `source` that reads at most `buffer` bytes ahead.
pub(super) async fn connect(
    to: SocketAddr,
    source: Ipv4Addr,
    buffer: Option<u32>,
) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    if let Some(bytes) = buffer {
        socket.set_recv_buffer_size(bytes)?;
    }
    if source != Ipv4Addr::LOCALHOST {
        socket.bind((source, 0).into())?;
    }
    let stream = socket.connect(to).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

impl Connection {
    /// Whether no further request can be sent.
    pub(super) fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// Posts `body` and reads the whole answer.
    pub(super) async fn post(
        &mut self,
        path: &str,
        body: Bytes,
    ) -> std::result::Result<(StatusCode, Bytes), hyper::Error> {
        self.sender.ready().await?;
        let request = Request::post(path)
            .header(HOST, "localhost")
            .header(USER_AGENT, "kube-apiserver-admission")
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(body))
            .expect("all of it is valid");
        let response = self.sender.send_request(request).await?;
        let status = response.status();
        Ok((status, response.into_body().collect().await?.to_bytes()))
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// Awaits `work` for at most `limit`.
pub(super) async fn within<T>(
    limit: Duration,
    work: impl Future<Output = std::result::Result<T, Problem>>,
) -> std::result::Result<T, Problem> {
    tokio::time::timeout(limit, work)
        .await
        .map_err(|_elapsed| "no answer in time")?
}
