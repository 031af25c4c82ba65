//! The admin port: `/livez`, `/readyz`, `/metrics` and `/log-level` over plain HTTP/1.1.
//!
//! Everybody who reaches the port may read. The log level is changed from the same host or Pod only, for the port asks
//! nobody who they are.

mod pages;
mod readiness;

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use crate::drain::Drain;
use crate::log::LogLevel;
use crate::metrics::Exporter;
use crate::net;
use pages::{Page, Pages};

pub use readiness::{Condition, Readiness};

/// Probes and scrapes need few connections; more are made to wait.
const MAX_CONNECTIONS: usize = 64;
/// A client that has not sent its request head by then is cut off; also how long a connection may idle.
const HEADER_TIMEOUT: Duration = Duration::from_secs(75);
/// How often histogram samples are folded into buckets, so that they do not pile up between two scrapes.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

/// The admin port, bound and not yet served.
#[derive(Debug)]
pub struct Admin {
    listener: TcpListener,
    local_addr: SocketAddr,
    log_level: Option<LogLevel>,
    further: Vec<Page>,
}

impl Admin {
    /// Binds the port.
    ///
    /// # Errors
    /// As the operating system gives them; the address is not part of the message.
    pub async fn bind(addr: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(addr).await?;
        let local_addr = listener.local_addr()?;
        Ok(Self {
            listener,
            local_addr,
            log_level: None,
            further: Vec::new(),
        })
    }

    /// Shows what `text` gives at `path`, to everybody who reaches the port.
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

    /// Shows the log level at `/log-level`, and lets it be changed there.
    #[must_use]
    pub fn with_log_level(mut self, level: LogLevel) -> Self {
        self.log_level = Some(level);
        self
    }

    /// The address that was bound; tells the port when 0 was asked for.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Serves until the future is dropped: also while draining, when `/readyz` answers 503 and `/metrics` still
    /// counts. Keeps the exporter's histograms small on the way.
    pub async fn serve(self, readiness: Readiness, exporter: Exporter, drain: Drain) {
        let pages = Arc::new(Pages {
            readiness,
            exporter,
            drain,
            log_level: self.log_level,
            further: self.further,
        });
        tokio::select! {
            () = accept_all(self.listener, &pages) => {}
            () = upkeep(&pages.exporter) => {}
        }
    }
}

async fn accept_all(listener: TcpListener, pages: &Arc<Pages>) {
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let slot = Arc::clone(&slots)
            .acquire_owned()
            .await
            .expect("the semaphore is never closed");
        let (stream, peer) = net::accept(&listener).await;
        let pages = Arc::clone(pages);
        tokio::spawn(async move {
            serve_connection(stream, peer, &pages).await;
            drop(slot);
        });
    }
}

async fn serve_connection(stream: TcpStream, peer: SocketAddr, pages: &Pages) {
    let service =
        service_fn(async |request| Ok::<_, Infallible>(pages.answer(request, peer).await));
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
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
        let admin = Admin::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let admin = admin.with_page("/more", "application/x-ndjson", || "{}\n".into());
        let addr = admin.local_addr();
        let readiness = Readiness::new();
        let policy = readiness.condition("policy");
        let tls = readiness.condition("tls");
        let drain = Drain::new();
        let exporter = Exporter::new();
        exporter.webhook_metrics();
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
        // The same name is the same condition.
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
    }
}
