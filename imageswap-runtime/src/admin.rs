//! The admin port: `/livez`, `/readyz` and `/metrics` over plain HTTP/1.1.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use crate::drain::Drain;
use crate::metrics::Exporter;
use crate::net;

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
}

/// What has to be true before the service may receive traffic. Clones share the conditions.
#[derive(Debug, Clone, Default)]
pub struct Readiness {
    conditions: Arc<Mutex<Vec<(&'static str, Condition)>>>,
}

/// One named condition of [`Readiness`]; false until it is set.
#[derive(Debug, Clone, Default)]
pub struct Condition {
    holds: Arc<AtomicBool>,
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
        })
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
        });
        tokio::select! {
            () = accept_all(self.listener, &pages) => {}
            () = upkeep(&pages.exporter) => {}
        }
    }
}

impl Readiness {
    /// No conditions yet, which is ready.
    pub fn new() -> Self {
        Self::default()
    }

    /// The condition of that name, made (as false) when it is new.
    pub fn condition(&self, name: &'static str) -> Condition {
        let mut conditions = self
            .conditions
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some((_, condition)) = conditions.iter().find(|(known, _)| *known == name) {
            return condition.clone();
        }
        let condition = Condition::default();
        conditions.push((name, condition.clone()));
        condition
    }

    /// Names of the conditions that are false, in order of their making.
    pub fn missing(&self) -> Vec<&'static str> {
        let conditions = self
            .conditions
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        conditions
            .iter()
            .filter(|(_, c)| !c.holds())
            .map(|(name, _)| *name)
            .collect()
    }
}

impl Condition {
    /// Says whether the condition holds now.
    pub fn set(&self, holds: bool) {
        self.holds.store(holds, Ordering::Release);
    }

    fn holds(&self) -> bool {
        self.holds.load(Ordering::Acquire)
    }
}

struct Pages {
    readiness: Readiness,
    exporter: Exporter,
    drain: Drain,
}

impl Pages {
    fn answer<B>(&self, request: &Request<B>) -> Response<Full<Bytes>> {
        let page = match request.uri().path() {
            "/livez" => (
                StatusCode::OK,
                "text/plain; charset=utf-8",
                "ok\n".to_owned(),
            ),
            "/readyz" => self.ready(),
            "/metrics" => (
                StatusCode::OK,
                "text/plain; version=0.0.4; charset=utf-8",
                self.exporter.render(),
            ),
            _ => {
                return plain(
                    StatusCode::NOT_FOUND,
                    "not found: /livez, /readyz and /metrics are here\n",
                );
            }
        };
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let mut response = plain(
                StatusCode::METHOD_NOT_ALLOWED,
                "only GET and HEAD are answered here\n",
            );
            response
                .headers_mut()
                .insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return response;
        }
        let (status, content_type, body) = page;
        respond(status, content_type, body)
    }

    fn ready(&self) -> (StatusCode, &'static str, String) {
        let mut missing = self.readiness.missing();
        if self.drain.is_signaled() {
            missing.push("draining");
        }
        if missing.is_empty() {
            return (
                StatusCode::OK,
                "text/plain; charset=utf-8",
                "ok\n".to_owned(),
            );
        }
        let text = format!("not ready: {}\n", missing.join(", "));
        (
            StatusCode::SERVICE_UNAVAILABLE,
            "text/plain; charset=utf-8",
            text,
        )
    }
}

async fn accept_all(listener: TcpListener, pages: &Arc<Pages>) {
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let slot = Arc::clone(&slots)
            .acquire_owned()
            .await
            .expect("the semaphore is never closed");
        let (stream, _peer) = net::accept(&listener).await;
        let pages = Arc::clone(pages);
        tokio::spawn(async move {
            serve_connection(stream, &pages).await;
            drop(slot);
        });
    }
}

async fn serve_connection(stream: TcpStream, pages: &Pages) {
    let service = service_fn(|request| {
        let response = pages.answer(&request);
        async move { Ok::<_, Infallible>(response) }
    });
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

fn plain(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    respond(status, "text/plain; charset=utf-8", text)
}

fn respond(
    status: StatusCode,
    content_type: &'static str,
    body: impl Into<Bytes>,
) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
        .headers_mut()
        .insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
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
        let addr = admin.local_addr();
        let readiness = Readiness::new();
        let policy = readiness.condition("policy");
        let tls = readiness.condition("tls");
        let drain = Drain::new();
        tokio::spawn(admin.serve(readiness.clone(), Exporter::new(), drain.clone()));

        assert_eq!(ask(addr, "GET", "/livez").await, (200, "ok\n".to_owned()));
        assert_eq!(
            ask(addr, "GET", "/readyz").await,
            (503, "not ready: policy, tls\n".to_owned())
        );
        policy.set(true);
        assert_eq!(
            ask(addr, "GET", "/readyz").await,
            (503, "not ready: tls\n".to_owned())
        );
        tls.set(true);
        assert_eq!(ask(addr, "GET", "/readyz").await, (200, "ok\n".to_owned()));
        // The same name is the same condition.
        readiness.condition("tls").set(false);
        assert_eq!(ask(addr, "GET", "/readyz").await.0, 503);
        tls.set(true);

        let (status, body) = ask(addr, "GET", "/metrics").await;
        assert_eq!(status, 200);
        assert!(body.contains("imageswap_build_info{"), "{body}");
        assert_eq!(ask(addr, "HEAD", "/metrics").await, (200, String::new()));
        assert_eq!(ask(addr, "POST", "/metrics").await.0, 405);
        assert_eq!(ask(addr, "GET", "/debug").await.0, 404);

        drain.start();
        assert_eq!(
            ask(addr, "GET", "/readyz").await,
            (503, "not ready: draining\n".to_owned())
        );
        assert_eq!(ask(addr, "GET", "/livez").await.0, 200);
    }
}
