//! The admin port: `/livez`, `/readyz`, `/metrics` and `/log-level` over plain HTTP/1.1.
//!
//! Everyone who can reach the port may read. The log level can only be changed from the same host
//! or Pod, because the port does not authenticate clients.
//!
//! Probes have to be answered whatever other clients do, so the port has its own table of
//! connections: a new connection replaces the one that has let the server wait the longest, a slow or
//! silent client has a few seconds, and answers do not pile up for a client that does not read them.

mod liveness;
mod pages;
mod readiness;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::net::{TcpListener, TcpStream};

use crate::connections::{ConnectionLimits, Connections, HttpLimits, Place, serve_http};
use crate::drain::Drain;
use crate::log::LogLevel;
use crate::metrics::Exporter;
use crate::net;
use pages::{Metrics, Page, Pages};

pub use liveness::{Activity, Liveness};
pub use readiness::{Condition, Readiness};

/// Probes and scrapes need few connections. They come from few addresses, but all Pods of a node
/// may share one.
const CONNECTIONS: ConnectionLimits = ConnectionLimits {
    connections: 64,
    per_peer: 32,
    strangers: None,
    // Everyone gets one.
    answers_prove: false,
    head: Duration::from_secs(5),
    body: Duration::from_secs(5),
    write: Duration::from_secs(10),
    // Prometheus keeps its connection between two scrapes.
    idle: Duration::from_secs(75),
};
const HTTP: HttpLimits = HttpLimits {
    head: 8 << 10,
    buffer: 8 << 10,
};
/// How often histogram samples are merged into buckets, so that they do not pile up between two
/// scrapes.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

/// The admin port, bound but not yet served.
#[derive(Debug)]
pub struct Admin {
    listener: TcpListener,
    local_addr: SocketAddr,
    log_level: Option<LogLevel>,
    liveness: Liveness,
    further: Vec<Page>,
}

impl Admin {
    /// Binds the port.
    ///
    /// # Errors
    /// The operating system's error; the address is not part of the message.
    pub fn bind(addr: SocketAddr) -> io::Result<Self> {
        let listener = net::listen(addr)?;
        let local_addr = listener.local_addr()?;
        Ok(Self {
            listener,
            local_addr,
            log_level: None,
            liveness: Liveness::new(),
            further: Vec::new(),
        })
    }

    /// Adds a page at `path` with the result of `text`, without authentication.
    #[must_use]
    pub fn with_page(
        mut self,
        path: &'static str,
        content_type: &'static str,
        text: impl Fn() -> Bytes + Send + Sync + 'static,
    ) -> Self {
        self.further.push(Page {
            path,
            content_type,
            text: Arc::new(text),
        });
        self
    }

    /// Lets `/livez` answer 503 if one of these activities is not finished in time.
    #[must_use]
    pub fn with_liveness(mut self, liveness: Liveness) -> Self {
        self.liveness = liveness;
        self
    }

    /// Serves the log level at `/log-level`, and lets it be changed there.
    #[must_use]
    pub fn with_log_level(mut self, level: LogLevel) -> Self {
        self.log_level = Some(level);
        self
    }

    /// The bound address, with the actual port if port 0 was requested.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Serves until the future is dropped, so also while draining, when `/readyz` answers 503 and
    /// `/metrics` still counts. Also keeps the exporter's histograms small.
    pub async fn serve(self, readiness: Readiness, exporter: Exporter, drain: Drain) {
        let pages = Arc::new(Pages {
            readiness,
            metrics: Metrics::new(exporter.clone()),
            drain,
            log_level: self.log_level,
            liveness: self.liveness,
            further: self.further,
        });
        let connections = Connections::new(CONNECTIONS);
        tokio::select! {
            () = accept_all(self.listener, &connections, &pages) => {}
            never = connections.watch(|_| {}, |_, _| {}) => match never {},
            () = upkeep(&exporter) => {}
        }
    }
}

async fn accept_all(listener: TcpListener, connections: &Arc<Connections>, pages: &Arc<Pages>) {
    loop {
        let (stream, peer) = net::accept(&listener).await;
        if let (Some(place), _) = connections.admit(peer.ip()) {
            let pages = Arc::clone(pages);
            tokio::spawn(async move { serve_connection(stream, peer, place, &pages).await });
        }
    }
}

async fn serve_connection(stream: TcpStream, peer: SocketAddr, place: Place, pages: &Pages) {
    place.established(false);
    let place = Arc::new(place);
    let served = serve_http(stream, &place, HTTP, |request| pages.answer(request, peer));
    if let Err(error) = served.await {
        tracing::debug!(%error, "admin connection ended");
    }
}

async fn upkeep(exporter: &Exporter) {
    let mut ticks = tokio::time::interval(UPKEEP_INTERVAL);
    loop {
        ticks.tick().await;
        exporter.run_upkeep();
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    async fn ask(addr: SocketAddr, method: &str, path: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(addr).await.unwrap();
        let request =
            format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        let status = text[9..12].parse().unwrap();
        let body = text.split_once("\r\n\r\n").unwrap().1.to_owned();
        (status, body)
    }

    #[tokio::test]
    async fn probes_and_metrics() {
        let admin = Admin::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let admin = admin.with_page("/more", "application/x-ndjson", || "{}\n".into());
        let liveness = Liveness::new();
        let admin = admin.with_liveness(liveness.clone());
        let addr = admin.local_addr();
        let readiness = Readiness::new();
        let policy = readiness.condition("policy");
        let tls = readiness.condition("tls");
        let drain = Drain::new();
        let exporter = Exporter::new();
        exporter.build_info("agent");
        tokio::spawn(admin.serve(readiness.clone(), exporter, drain.clone()));

        assert_eq!(ask(addr, "GET", "/livez").await, (200, "ok\n".to_owned()));
        assert_eq!(
            ask(addr, "GET", "/readyz").await,
            (
                503,
                "[-]policy failed\n[-]tls failed\n[+]not-draining ok\nreadyz check failed\n"
                    .to_owned()
            )
        );
        policy.set(true);
        assert_eq!(
            ask(addr, "GET", "/readyz").await,
            (
                503,
                "[+]policy ok\n[-]tls failed\n[+]not-draining ok\nreadyz check failed\n".to_owned()
            )
        );
        tls.set(true);
        assert_eq!(ask(addr, "GET", "/readyz").await, (200, "ok\n".to_owned()));
        assert_eq!(
            ask(addr, "GET", "/readyz?verbose").await,
            (
                200,
                "[+]policy ok\n[+]tls ok\n[+]not-draining ok\nreadyz check passed\n".to_owned()
            )
        );
        // The same name refers to the same condition.
        readiness.condition("tls").set(false);
        assert_eq!(ask(addr, "GET", "/readyz").await.0, 503);
        tls.set(true);

        let (status, body) = ask(addr, "GET", "/metrics").await;
        assert_eq!(status, 200);
        assert!(body.contains("imageswap_build_info{"), "{body}");
        assert_eq!(ask(addr, "HEAD", "/metrics").await, (200, String::new()));
        assert_eq!(ask(addr, "POST", "/metrics").await.0, 405);
        assert_eq!(ask(addr, "GET", "/more").await, (200, "{}\n".to_owned()));
        assert_eq!(ask(addr, "POST", "/more").await.0, 405);
        assert_eq!(ask(addr, "GET", "/debug").await.0, 404);

        drain.start();
        let (status, body) = ask(addr, "GET", "/readyz").await;
        assert_eq!(status, 503);
        assert!(body.contains("[-]not-draining failed\n"), "{body}");
        assert_eq!(ask(addr, "GET", "/livez").await.0, 200);
        // An activity that is never finished in time.
        let _activity = liveness.activity("loop", Duration::ZERO);
        tokio::time::sleep(Duration::from_millis(2)).await;
        let (status, body) = ask(addr, "GET", "/livez").await;
        assert_eq!(status, 503);
        assert!(body.starts_with("[-]loop last finished 0 s ago"), "{body}");
    }
}
