//! The serving loop: accepts connections, serves TLS and HTTP/1.1, and drains.
//!
//! The API server uses HTTP/1.1 for webhooks and reuses its connections while they are open,
//! even if the Pod behind them is terminating. A drain therefore has three phases:
//!
//! 1. from the signal on, responses close their connection, and new connections are still taken, since the news that
//!    this Pod is not ready travels slowly;
//! 2. after [`DrainTimes::delay`] no more connections are taken; those that idle are kept until they are used, for
//!    closing one at the moment it is used would fail a request;
//! 3. after [`DrainTimes::timeout`] what is left is closed.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use imageswap_runtime::connections::Closed;
use imageswap_runtime::connections::{Closing, Connections, HttpLimits, Place, serve_http};
use imageswap_runtime::drain::Drain;
use imageswap_runtime::net;
use imageswap_runtime::tls::{Acceptor, ServerStream, is_identified};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use crate::http::{Answers, Handler};
use crate::limits::{MAX_HEAD, SMALL_BODY};

/// Limit of connections that were accepted and wait for their first turn. Others stay in the kernel's queue, which keeps
/// their order, so later connections do not delay those that were accepted.
const NOT_LOOKED_AT: usize = 32;
/// Extra time for a request that is being answered at the very end.
const LAST_ANSWER: Duration = Duration::from_secs(1);
const HTTP: HttpLimits = HttpLimits {
    head: MAX_HEAD,
    // A body is read in pieces of this size.
    buffer: SMALL_BODY,
};

/// How long a drain takes, counted from its start.
#[derive(Debug, Clone, Copy)]
pub struct DrainTimes {
    /// New connections are accepted for this long.
    pub delay: Duration,
    /// All connections are closed after this long.
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
    let connections = Connections::new(handler.limits().connections());
    let tasks = TaskTracker::new();
    let metrics = handler.metrics().clone();
    let server = Arc::new(Server {
        acceptor,
        handler,
        connections: Arc::clone(&connections),
        first_looks: Arc::new(Semaphore::new(NOT_LOOKED_AT)),
    });
    let watch = connections.watch(
        |why| metrics.connection_closed(why),
        |open, in_flight| metrics.set_connections(open, in_flight),
    );
    let draining = async {
        let accepting = accept_all(&listener, &server, &tasks);
        let start = tokio::select! {
            start = delay_over(&drain, times.delay) => start,
            never = accepting => match never {},
        };
        drop(listener);
        tasks.close();
        let left = tasks.len();
        if left > 0 {
            tracing::info!(
                connections = left,
                "no longer accepting connections, waiting for the last to be used"
            );
        }
        let used = tokio::time::timeout_at(start + times.timeout, tasks.wait()).await;
        if used.is_err() {
            connections.close_all(Closing::Graceful);
            // Requests that are still being sent now are not waited for.
            if tokio::time::timeout(LAST_ANSWER, tasks.wait())
                .await
                .is_err()
            {
                connections.close_all(Closing::Now);
                tasks.wait().await;
            }
        }
    };
    tokio::select! {
        () = draining => tracing::info!("drained"),
        never = watch => match never {},
    }
}

struct Server<A> {
    acceptor: Acceptor,
    handler: Handler<A>,
    connections: Arc<Connections>,
    first_looks: Arc<Semaphore>,
}

/// Resolves with the time when the drain began, once its delay is over.
async fn delay_over(drain: &Drain, delay: Duration) -> Instant {
    drain.signaled().await;
    let start = Instant::now();
    tokio::time::sleep(delay).await;
    start
}

async fn accept_all<A: Answers>(
    listener: &TcpListener,
    server: &Arc<Server<A>>,
    tasks: &TaskTracker,
) -> Infallible {
    loop {
        let first_look = Arc::clone(&server.first_looks).acquire_owned().await;
        let (stream, peer) = net::accept(listener).await;
        let (place, closed) = server.connections.admit(peer.ip());
        if let Some(why) = closed {
            server.handler.metrics().connection_closed(why);
        }
        let Some(place) = place else {
            tracing::debug!(%peer, "connection refused: every place is taken by a connection that has proven more");
            continue;
        };
        let server = Arc::clone(server);
        tasks.spawn(async move { server.connection(stream, peer, place, first_look).await });
    }
}

impl<A: Answers> Server<A> {
    async fn connection<T>(
        &self,
        stream: TcpStream,
        peer: SocketAddr,
        place: Place,
        first_look: T,
    ) {
        let handshake = place.until_closed(self.acceptor.accept(stream), |_| ());
        match until_polled(handshake, first_look).await {
            Some(Ok(stream)) => {
                let closed = place.established(is_identified(&stream));
                if let Some(why) = closed {
                    self.handler.metrics().connection_closed(why);
                }
                self.requests(stream, peer, Arc::new(place)).await;
            }
            Some(Err(error)) => {
                self.handler.metrics().connection_closed(Closed::Handshake);
                tracing::debug!(%peer, %error, "no TLS connection");
            }
            None => {}
        }
    }

    async fn requests(&self, stream: ServerStream, peer: SocketAddr, place: Arc<Place>) {
        let handle = |request| self.handler.handle(request, &place);
        if let Err(error) = serve_http(stream, &place, HTTP, handle).await {
            tracing::debug!(%peer, %error, "connection ended");
        }
    }
}

/// Drops `held` when `future` has been polled once.
async fn until_polled<F: Future, T>(future: F, held: T) -> F::Output {
    let mut future = pin!(future);
    let mut held = Some(held);
    poll_fn(|context| {
        let polled = future.as_mut().poll(context);
        held = None;
        polled
    })
    .await
}
