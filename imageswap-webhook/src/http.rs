//! HTTP/1.1 requests: which path takes what, how much is taken on, and what a client is told.

mod body;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use bytes::Bytes;
use http::header::{ALLOW, CONNECTION, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use imageswap_runtime::drain::Drain;
use imageswap_runtime::metrics::{Operation, Outcome, Webhook, WebhookMetrics};
use imageswap_runtime::telemetry::{RequestSpan, Traces};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

use crate::admit::{Admission, Answer};
use crate::limits::{Limits, MAX_BODY, Patience};
use body::{Budget, Unread};

/// Bodies from this size on are answered on a thread for blocking work, for they would keep everybody else on this
/// one waiting for a millisecond and more.
const LONG_WORK: usize = 256 << 10;

/// Paths, and what is there. ImageSwap's configurations ask at `/`.
const ROUTES: [(&str, Webhook); 4] = [
    ("/", Webhook::Mutate),
    ("/mutate", Webhook::Mutate),
    ("/validate", Webhook::Validate),
    ("/validate-policy", Webhook::Policy),
];

/// Something that answers the body of a review. It is what a panic is caught around.
pub trait Answers: Send + Sync + 'static {
    /// Answers a request's body.
    fn answer(&self, webhook: Webhook, body: &[u8]) -> Answer;
}

impl Answers for Admission {
    fn answer(&self, webhook: Webhook, body: &[u8]) -> Answer {
        Self::answer(self, webhook, body)
    }
}

/// Answers requests, and counts them.
#[derive(Debug)]
pub struct Handler<A> {
    admission: Arc<A>,
    metrics: WebhookMetrics,
    drain: Drain,
    traces: Traces,
    limits: Limits,
    large_bodies: Budget,
    in_flight: Semaphore,
}

/// A response, before it is one of HTTP.
struct Reply {
    status: StatusCode,
    content_type: &'static str,
    body: Vec<u8>,
    operation: Operation,
    outcome: Outcome,
}

impl<A: Answers> Handler<A> {
    /// Answers within the default limits, and makes no traces. Once `drain` has begun, every response closes its
    /// connection.
    pub fn new(admission: A, metrics: WebhookMetrics, drain: Drain) -> Self {
        let handler = Self {
            admission: Arc::new(admission),
            metrics,
            drain,
            traces: Traces::off(),
            limits: Limits::default(),
            large_bodies: Budget::new(0),
            in_flight: Semaphore::new(0),
        };
        handler.with_limits(Limits::default())
    }

    /// Answers within these limits.
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.large_bodies = Budget::new(limits.large_bodies);
        self.in_flight = Semaphore::new(limits.max_in_flight);
        self.limits = limits;
        self
    }

    /// Makes a span of each request.
    #[must_use]
    pub fn with_traces(mut self, traces: Traces) -> Self {
        self.traces = traces;
        self
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    pub(crate) fn metrics(&self) -> &WebhookMetrics {
        &self.metrics
    }

    /// Answers one request.
    pub async fn handle(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let start = Instant::now();
        let route = route(request.uri().path());
        let span = self.traces.request(
            request.method(),
            request.uri(),
            request.headers(),
            route.map(|(path, _)| path),
        );
        // Who asks at no path that there is asks for nothing in particular.
        let webhook = route.map_or(Webhook::Mutate, |(_, webhook)| webhook);
        let webhook_asked = route.map(|(_, webhook)| webhook);
        let (span, reply) = self.reply(request, webhook_asked, span, start).await;
        self.metrics
            .request(webhook, reply.operation, reply.outcome, start.elapsed());
        span.set("imageswap.operation", reply.operation.label());
        span.set("imageswap.outcome", reply.outcome.label());
        span.answered(reply.status);
        self.response(reply)
    }

    fn response(&self, reply: Reply) -> Response<Full<Bytes>> {
        let mut response = Response::new(Full::new(Bytes::from(reply.body)));
        *response.status_mut() = reply.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(reply.content_type));
        match reply.status {
            StatusCode::METHOD_NOT_ALLOWED => {
                headers.insert(ALLOW, HeaderValue::from_static("POST"));
            }
            StatusCode::TOO_MANY_REQUESTS => {
                headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
            }
            _ => {}
        }
        // The API server goes on using the connections it has to a Pod that is going away.
        if self.drain.is_signaled() {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }

    async fn reply(
        &self,
        request: Request<Incoming>,
        webhook: Option<Webhook>,
        span: RequestSpan,
        start: Instant,
    ) -> (RequestSpan, Reply) {
        let Some(webhook) = webhook else {
            let reply = Reply::refusal(
                StatusCode::NOT_FOUND,
                "not found: /mutate (or /), /validate and /validate-policy take AdmissionReviews",
            );
            return (span, reply);
        };
        if request.method() != Method::POST {
            let reply = Reply::refusal(
                StatusCode::METHOD_NOT_ALLOWED,
                "AdmissionReviews are sent by POST",
            );
            return (span, reply);
        }
        let patience = Patience::new(request.uri().query(), start);
        let body = match self.large_bodies.read(request.into_body(), patience).await {
            Ok(body) => body,
            Err(unread) => return (span, Reply::unread(&unread)),
        };
        let Some(_turn) = self.turn(patience.queue).await else {
            return (span, Reply::shed("too many requests at a time"));
        };
        if body.bytes.len() < LONG_WORK {
            let reply = span.in_scope(|| answer(&*self.admission, webhook, &body.bytes));
            return (span, reply);
        }
        let (admission, bytes) = (Arc::clone(&self.admission), body.bytes.clone());
        let working = tokio::task::spawn_blocking(move || {
            let reply = span.in_scope(|| answer(&*admission, webhook, &bytes));
            (span, reply)
        });
        // Panics are caught within, and only a runtime that shuts down cancels a blocking task.
        working
            .await
            .unwrap_or_else(|_cancelled| (RequestSpan::default(), Reply::defect()))
    }

    /// Waits for a place among those that are answered; `None` when that takes until `until`. The queue is no longer
    /// than there are connections, for each has one request at a time.
    async fn turn(&self, until: Instant) -> Option<tokio::sync::SemaphorePermit<'_>> {
        if let Ok(turn) = self.in_flight.try_acquire() {
            return Some(turn);
        }
        let waiting = timeout_at(until, self.in_flight.acquire());
        waiting.await.ok()?.ok()
    }
}

/// The path of a request and the webhook that is there, if one is.
fn route(path: &str) -> Option<(&'static str, Webhook)> {
    ROUTES.into_iter().find(|(route, _)| *route == path)
}

fn answer(admission: &impl Answers, webhook: Webhook, body: &[u8]) -> Reply {
    match catch_unwind(AssertUnwindSafe(|| admission.answer(webhook, body))) {
        Ok(Answer {
            body: Ok(body),
            operation,
            outcome,
        }) => Reply {
            status: StatusCode::OK,
            content_type: "application/json",
            body,
            operation,
            outcome,
        },
        Ok(Answer {
            body: Err(error), ..
        }) => Reply::refusal(StatusCode::BAD_REQUEST, &error.to_string()),
        Err(_panic) => {
            tracing::error!("answering a review panicked, which is a defect of this program");
            Reply::defect()
        }
    }
}

impl Reply {
    fn refusal(status: StatusCode, reason: &str) -> Self {
        Self {
            status,
            content_type: "text/plain; charset=utf-8",
            body: format!("{reason}\n").into_bytes(),
            operation: Operation::Unknown,
            outcome: Outcome::BadRequest,
        }
    }

    /// To a client that may ask again, here or at another replica.
    fn shed(reason: &str) -> Self {
        Self {
            outcome: Outcome::Shed,
            ..Self::refusal(StatusCode::TOO_MANY_REQUESTS, reason)
        }
    }

    fn defect() -> Self {
        Self {
            outcome: Outcome::Failed,
            ..Self::refusal(
                StatusCode::INTERNAL_SERVER_ERROR,
                "internal error, see the log",
            )
        }
    }

    fn unread(unread: &Unread) -> Self {
        match unread {
            Unread::TooLarge => Self::refusal(
                StatusCode::PAYLOAD_TOO_LARGE,
                &format!("the body is larger than {MAX_BODY} bytes"),
            ),
            Unread::TooSlow => Self::refusal(StatusCode::REQUEST_TIMEOUT, "the body took too long"),
            Unread::NoMemory => Self::shed("too many large bodies at a time"),
            Unread::Broken(error) => Self::refusal(
                StatusCode::BAD_REQUEST,
                &format!("the body cannot be read: {error}"),
            ),
        }
    }
}
