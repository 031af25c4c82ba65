//! The serving loop: connections in, TLS, HTTP/1.1, and the way out of it.
//!
//! The API server speaks HTTP/1.1 to webhooks and reuses its connections for as long as they stay open, also when the
//! Pod behind them is terminating. A drain therefore has three phases:
//!
//! 1. from the signal on, responses close their connection, and new connections are still taken, since the news that
//!    this Pod is not ready travels slowly;
//! 2. after [`DrainTimes::delay`] no more connections are taken; those that idle are kept until they are used, for
//!    closing one at the moment it is used would fail a request;
//! 3. after [`DrainTimes::timeout`] what is left is closed.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use imageswap_runtime::drain::Drain;
use imageswap_runtime::net;
use imageswap_runtime::tls::{Acceptor, ServerStream};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::http::{Answers, Handler};

/// An API server keeps a handful of connections to each webhook. More are made to wait for a free place.
const MAX_CONNECTIONS: usize = 1024;
/// How long a connection may idle or dribble its head. Longer than a Go client keeps idle connections (90 s), so that
/// the client is the one who closes them and no request meets a closing connection.
const HEADER_TIMEOUT: Duration = Duration::from_mins(2);
/// What a request that is being answered at the very end still gets.
const LAST_ANSWER: Duration = Duration::from_secs(1);

/// How long a drain takes, counted from its start.
#[derive(Debug, Clone, Copy)]
pub struct DrainTimes {
    /// New connections are taken for that long.
    pub delay: Duration,
    /// All connections are closed after that long, if they are not before.
    pub timeout: Duration,
}

/// Serves until the drain is over.
pub async fn serve<A: Answers>(
    listener: TcpListener,
    acceptor: Acceptor,
    handler: Handler<A>,
    drain: Drain,
    times: DrainTimes,
) {
    let deadline = CancellationToken::new();
    let connections = TaskTracker::new();
    let server = Arc::new(Server {
        acceptor,
        handler,
        deadline: deadline.clone(),
    });
    let accepting = accept_all(&listener, &server, &connections);
    let delay_over = async {
        drain.signaled().await;
        let start = Instant::now();
        tokio::time::sleep(times.delay).await;
        start
    };
    let start = tokio::select! {
        start = delay_over => start,
        never = accepting => match never {},
    };
    drop(listener);
    connections.close();
    let left = connections.len();
    if left > 0 {
        tracing::info!(
            connections = left,
            "no longer accepting connections, waiting for the last to be used"
        );
    }
    if tokio::time::timeout_at(start + times.timeout, connections.wait())
        .await
        .is_err()
    {
        deadline.cancel();
        connections.wait().await;
    }
    tracing::info!("drained");
}

struct Server<A> {
    acceptor: Acceptor,
    handler: Handler<A>,
    deadline: CancellationToken,
}

async fn accept_all<A: Answers>(
    listener: &TcpListener,
    server: &Arc<Server<A>>,
    connections: &TaskTracker,
) -> std::convert::Infallible {
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let slot = Arc::clone(&slots)
            .acquire_owned()
            .await
            .expect("the semaphore is never closed");
        let (stream, peer) = net::accept(listener).await;
        let server = Arc::clone(server);
        connections.spawn(async move {
            server.connection(stream, peer).await;
            drop(slot);
        });
    }
}

impl<A: Answers> Server<A> {
    async fn connection(&self, stream: TcpStream, peer: SocketAddr) {
        let handshake = tokio::select! {
            handshake = self.acceptor.accept(stream) => handshake,
            () = self.deadline.cancelled() => return,
        };
        match handshake {
            Ok(stream) => self.requests(stream, peer).await,
            Err(error) => tracing::debug!(%peer, %error, "no TLS connection"),
        }
    }

    async fn requests(&self, stream: ServerStream, peer: SocketAddr) {
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_TIMEOUT)
            .serve_connection(
                TokioIo::new(stream),
                service_fn(|request| self.handler.handle(request)),
            );
        tokio::pin!(connection);
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = self.deadline.cancelled() => {
                connection.as_mut().graceful_shutdown();
                // Whoever is still sending a request now will not be waited for.
                tokio::time::timeout(LAST_ANSWER, connection).await.unwrap_or(Ok(()))
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%peer, %error, "connection ended");
        }
    }
}
