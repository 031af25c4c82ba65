//! HTTP/1.1 to registries, with and without TLS: connections that are kept, and bodies of bounded size.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, USER_AGENT};
use http::{HeaderValue, Method, Request, Response, Uri};
use http_body_util::{BodyExt as _, Empty, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use imageswap_runtime::tls::Connector;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tower::Service;

use crate::problem::Problem;

/// Bytes of an answer's head.
const MAX_HEAD: usize = 16 << 10;
/// Fields of an answer's head.
const MAX_FIELDS: usize = 100;
/// Idle connections to one host.
const MAX_IDLE: usize = 8;
/// How long a connection may be idle; common servers close theirs after a minute.
const IDLE: Duration = Duration::from_secs(30);

const AGENT: &str = concat!("imageswap/", env!("CARGO_PKG_VERSION"));

/// Sends requests.
#[derive(Debug, Clone)]
pub(crate) struct Transport {
    client: Client<Dialer, Empty<Bytes>>,
}

/// A request without a body.
#[derive(Debug, Clone)]
pub(crate) struct Ask {
    pub(crate) method: Method,
    pub(crate) uri: Uri,
    pub(crate) accept: &'static str,
    pub(crate) authorization: Option<HeaderValue>,
}

impl Transport {
    pub(crate) fn new(connector: Connector) -> Self {
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(MAX_IDLE)
            .http1_max_buf_size(MAX_HEAD)
            .http1_max_headers(MAX_FIELDS)
            .build(Dialer { connector });
        Self { client }
    }

    /// The head of the answer; the caller reads the body, or drops it.
    pub(crate) async fn send(&self, ask: Ask) -> Result<Response<Incoming>, Problem> {
        let host = host(&ask.uri);
        let mut request = Request::new(Empty::new());
        *request.method_mut() = ask.method;
        *request.uri_mut() = ask.uri;
        let headers = request.headers_mut();
        headers.insert(ACCEPT, HeaderValue::from_static(ask.accept));
        headers.insert(USER_AGENT, HeaderValue::from_static(AGENT));
        if let Some(value) = ask.authorization {
            headers.insert(AUTHORIZATION, value);
        }
        let answer = self.client.request(request).await;
        answer.map_err(|error| Problem::Unreachable {
            host,
            why: innermost(&error),
        })
    }
}

/// Reads a body of at most `limit` bytes; `what` names it in the error.
pub(crate) async fn read(
    body: Incoming,
    host: &str,
    limit: usize,
    what: &'static str,
) -> Result<Bytes, Problem> {
    match Limited::new(body, limit).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(Problem::TooLarge {
            host: host.to_owned(),
            limit,
            what,
        }),
        Err(error) => Err(Problem::Unreachable {
            host: host.to_owned(),
            why: error.to_string(),
        }),
    }
}

/// Host, and port if written.
pub(crate) fn host(uri: &Uri) -> String {
    uri.authority().map_or("", |it| it.as_str()).to_owned()
}

/// The cause that helps: libraries wrap it in `client error (Connect)`.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut found = error;
    while let Some(cause) = found.source() {
        found = cause;
    }
    found.to_string()
}

/// Opens connections.
#[derive(Debug, Clone)]
struct Dialer {
    connector: Connector,
}

type Opening = Pin<Box<dyn Future<Output = io::Result<Stream>> + Send>>;

impl Service<Uri> for Dialer {
    type Response = Stream;
    type Error = io::Error;
    type Future = Opening;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Opening {
        let connector = self.connector.clone();
        Box::pin(async move {
            let tls = uri.scheme_str() != Some("http");
            let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
            let port = uri.port_u16().unwrap_or(if tls { 443 } else { 80 });
            let stream = TcpStream::connect((host, port)).await?;
            stream.set_nodelay(true)?;
            if !tls {
                return Ok(Stream(TokioIo::new(Box::new(stream))));
            }
            let stream = connector.connect(host, stream).await;
            let stream = stream.map_err(io::Error::other)?;
            Ok(Stream(TokioIo::new(Box::new(stream))))
        })
    }
}

/// An open connection.
struct Stream(TokioIo<Box<dyn Duplex>>);

trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Duplex for T {}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl Read for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl Write for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}
