//! HTTP/1.1 on a connection of the table.

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1::{self, Connection};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

use super::Place;
use super::watched::Watched;

/// Bytes that HTTP may buffer per connection.
#[derive(Debug, Clone, Copy)]
pub struct HttpLimits {
    /// For a request's head.
    pub head: usize,
    /// For received data that is not yet handled.
    pub buffer: usize,
}

/// Answers requests until the connection ends or the table closes it. A request is not handled before the client has
/// read the answer to the previous one.
///
/// # Errors
/// The error that ended the connection early.
pub async fn serve_http<S, H, R>(
    stream: S,
    place: &Arc<Place>,
    limits: HttpLimits,
    handle: H,
) -> hyper::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
    H: Fn(Request<Incoming>) -> R,
    R: Future<Output = Response<Full<Bytes>>>,
{
    let service = service_fn(async |request| {
        place.until_flushed().await;
        place.begun();
        let response = handle(request).await;
        place.answered(response.status().is_success());
        Ok::<_, Infallible>(response)
    });
    // Without a timer: the table decides when the connection has had enough time.
    let connection = http1::Builder::new()
        .max_header_size(limits.head)
        .max_buf_size(limits.buffer)
        .serve_connection(
            TokioIo::new(Watched::new(stream, Arc::clone(place))),
            service,
        );
    let ended = place.until_closed(connection, Connection::graceful_shutdown);
    ended.await.unwrap_or(Ok(()))
}
