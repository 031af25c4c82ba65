//! The pages of the admin port.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;

use super::liveness::Liveness;
use super::readiness::{Readiness, report};
use crate::drain::Drain;
use crate::log::LogLevel;
use crate::metrics::Exporter;

const TEXT: &str = "text/plain; charset=utf-8";
/// The text exposition format of Prometheus.
const EXPOSITION: &str = "text/plain; version=0.0.4; charset=utf-8";
/// Longer than any real filter.
const MAX_FILTER: usize = 4096;
/// How long rendered metrics are reused: no scrape is that frequent, and a client that asks without
/// pause would use up a core.
const METRICS_AGE: Duration = Duration::from_millis(100);

/// The data that the pages show or change.
pub(super) struct Pages {
    pub(super) readiness: Readiness,
    pub(super) metrics: Metrics,
    pub(super) drain: Drain,
    pub(super) log_level: Option<LogLevel>,
    pub(super) liveness: Liveness,
    pub(super) further: Vec<Page>,
}

/// The text of the metrics, which clients share while it is fresh.
pub(super) struct Metrics {
    exporter: Exporter,
    written: Mutex<Option<(Instant, Bytes)>>,
}

/// A page that a service adds.
#[derive(Clone)]
pub(super) struct Page {
    pub(super) path: &'static str,
    pub(super) content_type: &'static str,
    pub(super) text: Arc<dyn Fn() -> Bytes + Send + Sync>,
}

impl std::fmt::Debug for Page {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Page").field(&self.path).finish()
    }
}

impl Metrics {
    pub(super) fn new(exporter: Exporter) -> Self {
        Self {
            exporter,
            written: Mutex::new(None),
        }
    }

    fn text(&self) -> Bytes {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        match &*written {
            Some((at, text)) if at.elapsed() < METRICS_AGE => text.clone(),
            _ => {
                let text = Bytes::from(self.exporter.render());
                *written = Some((Instant::now(), text.clone()));
                text
            }
        }
    }
}

impl Pages {
    pub(super) async fn answer(
        &self,
        request: Request<Incoming>,
        peer: SocketAddr,
    ) -> Response<Full<Bytes>> {
        let get = matches!(*request.method(), Method::GET | Method::HEAD);
        let path = request.uri().path();
        if let Some(page) = self.further.iter().find(|page| page.path == path) {
            return if get {
                respond(StatusCode::OK, page.content_type, (page.text)())
            } else {
                not_allowed("GET, HEAD")
            };
        }
        match (request.uri().path(), &self.log_level) {
            ("/livez" | "/readyz" | "/metrics", _) if !get => not_allowed("GET, HEAD"),
            ("/livez", _) => match self.liveness.failures() {
                Some(failures) => respond(StatusCode::SERVICE_UNAVAILABLE, TEXT, failures),
                None => respond(StatusCode::OK, TEXT, "ok\n"),
            },
            ("/readyz", _) => self.ready(request.uri().query()),
            ("/metrics", _) => respond(StatusCode::OK, EXPOSITION, self.metrics.text()),
            ("/log-level", Some(level)) if get => {
                respond(StatusCode::OK, TEXT, format!("{}\n", level.get()))
            }
            ("/log-level", Some(level)) if *request.method() == Method::PUT => {
                set_level(level, request.into_body(), peer).await
            }
            ("/log-level", Some(_)) => not_allowed("GET, HEAD, PUT"),
            _ => respond(
                StatusCode::NOT_FOUND,
                TEXT,
                "not found: /livez, /readyz, /metrics and /log-level are here\n",
            ),
        }
    }

    /// Lists each condition if one fails, or on `?verbose`.
    fn ready(&self, query: Option<&str>) -> Response<Full<Bytes>> {
        let mut states = self.readiness.states();
        states.push(("not-draining", !self.drain.is_signaled()));
        if states.iter().any(|(_, holds)| !holds) {
            return respond(StatusCode::SERVICE_UNAVAILABLE, TEXT, report(&states));
        }
        let verbose = query.is_some_and(|query| {
            query
                .split('&')
                .any(|it| it.split('=').next() == Some("verbose"))
        });
        let body = if verbose {
            report(&states)
        } else {
            "ok\n".to_owned()
        };
        respond(StatusCode::OK, TEXT, body)
    }
}

async fn set_level(level: &LogLevel, body: Incoming, peer: SocketAddr) -> Response<Full<Bytes>> {
    if !is_local(peer.ip()) {
        return respond(
            StatusCode::FORBIDDEN,
            TEXT,
            "the log level is set from this host or Pod only, for example through kubectl port-forward\n",
        );
    }
    let Ok(body) = Limited::new(body, MAX_FILTER).collect().await else {
        return respond(StatusCode::BAD_REQUEST, TEXT, "the filter is too long\n");
    };
    let body = body.to_bytes();
    let filter = String::from_utf8_lossy(&body);
    let filter = filter.trim();
    if filter.is_empty() {
        return respond(
            StatusCode::BAD_REQUEST,
            TEXT,
            "the body has to be a level or filter, such as debug\n",
        );
    }
    match level.set(filter) {
        Ok(old) => {
            tracing::warn!(from = old, to = level.get(), "log level changed");
            respond(StatusCode::OK, TEXT, format!("{}\n", level.get()))
        }
        Err(error) => respond(
            StatusCode::BAD_REQUEST,
            TEXT,
            format!("{filter:?} is not a level or filter: {error}\n"),
        ),
    }
}

/// Whether a peer is on this host or in this Pod. Other loopback addresses do not count: proxies of
/// service meshes deliver remote traffic from 127.0.0.6 and the like.
fn is_local(peer: IpAddr) -> bool {
    matches!(
        peer.to_canonical(),
        IpAddr::V4(Ipv4Addr::LOCALHOST) | IpAddr::V6(Ipv6Addr::LOCALHOST)
    )
}

fn not_allowed(methods: &'static str) -> Response<Full<Bytes>> {
    let mut response = respond(
        StatusCode::METHOD_NOT_ALLOWED,
        TEXT,
        format!("only {methods} are answered here\n"),
    );
    response
        .headers_mut()
        .insert(ALLOW, HeaderValue::from_static(methods));
    response
}

fn respond(
    status: StatusCode,
    content_type: &'static str,
    body: impl Into<Bytes>,
) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn local_is_localhost() {
        for (peer, local) in [
            ("127.0.0.1", true),
            ("::1", true),
            ("::ffff:127.0.0.1", true),
            ("127.0.0.6", false),
            ("10.0.0.1", false),
            ("::ffff:10.0.0.1", false),
        ] {
            assert_eq!(is_local(peer.parse().unwrap()), local, "{peer}");
        }
    }
}
