//! A small blocking HTTP client, one connection per request.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST};
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper::rt::{Read, Write};
use hyper_util::rt::TokioIo;
use imageswap_runtime::tls::Connector;
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::time::timeout;

use crate::error::{Error, Result};

const LIMIT: Duration = Duration::from_secs(30);

/// Asks one server.
#[derive(Debug)]
pub struct HttpClient {
    runtime: Runtime,
    server: SocketAddr,
    tls: Option<Tls>,
    limit: Duration,
}

#[derive(Debug)]
struct Tls {
    connector: Connector,
    name: String,
}

/// A server's answer.
#[derive(Debug)]
pub struct HttpResponse {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body, whole.
    pub body: Bytes,
}

type Problem = Box<dyn std::error::Error + Send + Sync>;

impl HttpClient {
    /// A client of the plain HTTP server at `server`.
    pub fn new(server: SocketAddr) -> Result<Self> {
        Ok(Self {
            runtime: runtime()?,
            server,
            tls: None,
            limit: LIMIT,
        })
    }

    /// A client of the HTTPS server at `server`, which has to present a certificate for `name`
    /// signed by a CA of `ca_pem`.
    pub fn with_tls(server: SocketAddr, name: &str, ca_pem: &[u8]) -> Result<Self> {
        let connector =
            Connector::new(ca_pem).map_err(|error| Error::Unusable(error.to_string()))?;
        Ok(Self {
            runtime: runtime()?,
            server,
            tls: Some(Tls {
                connector,
                name: name.to_owned(),
            }),
            limit: LIMIT,
        })
    }

    /// Waits at most `limit` for an answer; the default is 30 seconds.
    #[must_use]
    pub fn with_limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Asks for `path`.
    pub fn get(&self, path: &str) -> Result<HttpResponse> {
        self.send(&Method::GET, path, None, Bytes::new())
    }

    /// Posts `body`.
    pub fn post(
        &self,
        path: &str,
        content_type: &str,
        body: impl Into<Bytes>,
    ) -> Result<HttpResponse> {
        self.send(&Method::POST, path, Some(content_type), body.into())
    }

    /// Puts `body`.
    pub fn put(
        &self,
        path: &str,
        content_type: &str,
        body: impl Into<Bytes>,
    ) -> Result<HttpResponse> {
        self.send(&Method::PUT, path, Some(content_type), body.into())
    }

    fn send(
        &self,
        method: &Method,
        path: &str,
        content_type: Option<&str>,
        body: Bytes,
    ) -> Result<HttpResponse> {
        let exchange = async {
            let mut request = Request::builder()
                .method(method)
                .uri(path)
                .header(HOST, self.server.to_string());
            if let Some(content_type) = content_type {
                request = request.header(CONTENT_TYPE, content_type);
            }
            let request = request.body(Full::new(body))?;
            let stream = TcpStream::connect(self.server).await?;
            match &self.tls {
                None => exchange(TokioIo::new(stream), request).await,
                Some(tls) => {
                    let stream = tls.connector.connect(&tls.name, stream).await?;
                    exchange(TokioIo::new(stream), request).await
                }
            }
        };
        let answer = self
            .runtime
            .block_on(async { timeout(self.limit, exchange).await });
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        let failed = |problem: String| Error::Http {
            request: format!("{method} {scheme}://{}{path}", self.server),
            problem,
        };
        match answer {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(problem)) => Err(failed(problem.to_string())),
            Err(_) => Err(failed(format!(
                "no answer in {} ms",
                self.limit.as_millis()
            ))),
        }
    }
}

impl HttpResponse {
    /// The body as text, with replacement characters for what is not UTF-8.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

async fn exchange(
    io: impl Read + Write + Unpin + Send + 'static,
    request: Request<Full<Bytes>>,
) -> std::result::Result<HttpResponse, Problem> {
    let (mut sender, connection) = http1::handshake(io).await?;
    let connection = tokio::spawn(connection);
    let (head, body) = sender.send_request(request).await?.into_parts();
    let body = body.collect().await?.to_bytes();
    drop(sender);
    connection.abort();
    Ok(HttpResponse {
        status: head.status,
        headers: head.headers,
        body,
    })
}

/// A runtime on the caller's own thread.
pub(crate) fn runtime() -> Result<Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Error::io("an async runtime"))
}
