//! HTTP/1.1 requests: routes, limits, and responses.

mod body;
mod share;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use crate::metrics::{Operation, Outcome, Webhook, WebhookMetrics};
use bytes::Bytes;
use http::header::{ALLOW, CONNECTION, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use imageswap_runtime::connections::Place;
use imageswap_runtime::drain::Drain;
use imageswap_runtime::telemetry::{RequestSpan, Traces};
use imageswap_runtime::text::shorten;
use tokio::time::Instant;

use crate::admit::{Admission, Answer, Unlearned};
use crate::caller::Caller;
use crate::limits::{Limits, Patience, SMALL_BODY};
use body::{Body, Unread};
use share::{Held, Share};

/// Larger bodies are answered on a thread for blocking work, because they would delay all others on
/// this one for a millisecond and more.
const HEAVY_BODY: usize = 64 << 10;

/// How often something has to be learned for one answer: labels of the namespace, then answers of registries.
const LESSONS: usize = 2;

/// Characters of a refusal, which may quote the request.
const MAX_REASON: usize = 1024;

/// Paths and their webhooks. ImageSwap's configurations call `/`.
const ROUTES: [(&str, Webhook); 4] = [
    ("/", Webhook::Mutate),
    ("/mutate", Webhook::Mutate),
    ("/validate", Webhook::Validate),
    ("/validate-policy", Webhook::Policy),
];

/// Answers the body of a review. Panics inside are caught.
pub trait Answers: Send + Sync + 'static {
    /// Answers a request's body. Long work may stop once the caller has gone.
    ///
    /// # Errors
    /// The caller is patient, and something has to be learned first.
    fn answer(&self, webhook: Webhook, body: &[u8], caller: &Caller) -> Result<Answer, Unlearned>;

    /// Learns what an answer needs, up to a deadline; from registries at most until `until`.
    fn learn(&self, unlearned: &Unlearned, until: Instant) -> impl Future<Output = ()> + Send;
}

impl Answers for Admission {
    fn answer(&self, webhook: Webhook, body: &[u8], caller: &Caller) -> Result<Answer, Unlearned> {
        self.answer_to(caller, webhook, body)
    }

    async fn learn(&self, unlearned: &Unlearned, until: Instant) {
        Self::learn(self, unlearned, until).await;
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
    /// Capacity for clients that proved something.
    preferred: Share,
    /// Capacity for all others.
    others: Share,
}

/// A body to answer.
struct Question {
    webhook: Webhook,
    body: Body,
    caller: Caller,
}

/// A response, before its conversion to HTTP.
struct Reply {
    status: StatusCode,
    content_type: &'static str,
    body: Vec<u8>,
    operation: Operation,
    outcome: Outcome,
    /// Memory of the request's body, and later of the answer.
    held: Held,
}

/// An answer with the memory that it holds until it is written.
struct Written {
    body: Vec<u8>,
    _held: Held,
}

impl AsRef<[u8]> for Written {
    fn as_ref(&self) -> &[u8] {
        &self.body
    }
}

impl<A: Answers> Handler<A> {
    /// Answers within the default limits, without traces. Once `drain` has begun, every response
    /// closes its connection.
    pub fn new(admission: A, metrics: WebhookMetrics, drain: Drain) -> Self {
        Self {
            admission: Arc::new(admission),
            metrics,
            drain,
            traces: Traces::off(),
            limits: Limits::default(),
            preferred: Share::new(&Limits::default()),
            others: Share::new(&Limits::default()),
        }
    }

    /// Sets the limits.
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.preferred = Share::new(&limits);
        self.others = Share::new(&limits);
        self.limits = limits;
        self
    }

    /// Makes a span for each request.
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

    /// Answers one request of the connection at `place`.
    pub async fn handle(&self, request: Request<Incoming>, place: &Place) -> Response<Full<Bytes>> {
        let start = Instant::now();
        let route = route(request.uri().path());
        let span = self.traces.request(
            request.method(),
            request.uri(),
            request.headers(),
            route.map(|(path, _)| path),
        );
        // A request for an unknown path is counted as `mutate`.
        let webhook = route.map_or(Webhook::Mutate, |(_, webhook)| webhook);
        let webhook_asked = route.map(|(_, webhook)| webhook);
        let share = if place.is_preferred() {
            &self.preferred
        } else {
            &self.others
        };
        let reply = self.reply(request, webhook_asked, &span, start, share, place);
        let mut reply = reply.await;
        if reply.body.len() > SMALL_BODY && !share.answer(&mut reply.held, reply.body.len()) {
            reply = Reply::shed("too many large answers at a time");
        }
        self.metrics
            .request(webhook, reply.operation, reply.outcome, start.elapsed());
        span.set("imageswap.operation", reply.operation.label());
        span.set("imageswap.outcome", reply.outcome.label());
        span.answered(reply.status);
        self.response(reply)
    }

    fn response(&self, reply: Reply) -> Response<Full<Bytes>> {
        let body = if reply.held.is_empty() {
            Bytes::from(reply.body)
        } else {
            Bytes::from_owner(Written {
                body: reply.body,
                _held: reply.held,
            })
        };
        let mut response = Response::new(Full::new(body));
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
        // The API server continues to use its connections to a Pod that is stopping.
        if self.drain.is_signaled() {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }

    async fn reply(
        &self,
        request: Request<Incoming>,
        webhook: Option<Webhook>,
        span: &RequestSpan,
        start: Instant,
        share: &Share,
        place: &Place,
    ) -> Reply {
        let Some(webhook) = webhook else {
            return Reply::refusal(
                StatusCode::NOT_FOUND,
                "not found: /mutate (or /), /validate and /validate-policy take AdmissionReviews",
            );
        };
        if request.method() != Method::POST {
            return Reply::refusal(
                StatusCode::METHOD_NOT_ALLOWED,
                "AdmissionReviews are sent by POST",
            );
        }
        let patience = Patience::new(request.uri().query(), start, self.limits.body);
        let largest = self.limits.largest_body();
        let body = match body::read(request.into_body(), largest, share, patience).await {
            Ok(body) => body,
            Err(unread) => return Reply::unread(&unread),
        };
        place.arrived();
        let question = |body, caller| Question {
            webhook,
            body,
            caller,
        };
        let mut next = question(body, Caller::patient());
        for _ in 0..=LESSONS {
            let (unlearned, body) = match self.ask(next, span, share, patience).await {
                Ok(reply) => return reply,
                Err(unlearned) => unlearned,
            };
            // Other requests do not wait for that: it takes no turn.
            self.admission.learn(&unlearned, patience.registries).await;
            next = question(body, unlearned.next_caller());
        }
        Reply::defect()
    }

    /// Answers when it has a turn. If something has to be learned first, the body is returned.
    async fn ask(
        &self,
        question: Question,
        span: &RequestSpan,
        share: &Share,
        patience: Patience,
    ) -> Result<Reply, (Unlearned, Body)> {
        if question.body.bytes.len() > HEAVY_BODY || question.webhook == Webhook::Policy {
            return self.heavy(question, span, share, patience).await;
        }
        let Some(_turn) = share.turn(patience.queue).await else {
            return Ok(Reply::shed("too many requests at a time"));
        };
        span.scope().run(|| question.answer(&*self.admission))
    }

    /// Answers on a thread for blocking work. Its turn and its memory last as long as the work,
    /// even if the client disconnects and retries.
    async fn heavy(
        &self,
        question: Question,
        span: &RequestSpan,
        share: &Share,
        patience: Patience,
    ) -> Result<Reply, (Unlearned, Body)> {
        let Some(turn) = share.heavy_turn(question.webhook, patience.queue).await else {
            return Ok(Reply::shed("too many large requests at a time"));
        };
        let (admission, scope) = (Arc::clone(&self.admission), span.scope());
        let _waiting = question.caller.waiting();
        let working = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            if question.caller.is_gone() {
                return Ok(Reply::defect());
            }
            scope.run(|| question.answer(&*admission))
        });
        // Panics are caught within, and only a runtime that shuts down cancels a blocking task.
        working
            .await
            .unwrap_or_else(|_cancelled| Ok(Reply::defect()))
    }
}

/// The path of a request and its webhook, if there is one.
fn route(path: &str) -> Option<(&'static str, Webhook)> {
    ROUTES.into_iter().find(|(route, _)| *route == path)
}

impl Question {
    fn answer(self, admission: &impl Answers) -> Result<Reply, (Unlearned, Body)> {
        let Self {
            webhook,
            body,
            caller,
        } = self;
        let work = || admission.answer(webhook, &body.bytes, &caller);
        let answer = match catch_unwind(AssertUnwindSafe(work)) {
            Ok(Ok(answer)) => answer,
            Ok(Err(unknown)) => return Err((unknown, body)),
            Err(_panic) => {
                tracing::error!("answering a review panicked, which is a defect of this program");
                return Ok(Reply::defect());
            }
        };
        let reply = match answer.body {
            Ok(body) => Reply {
                status: StatusCode::OK,
                content_type: "application/json",
                body,
                operation: answer.operation,
                outcome: answer.outcome,
                held: Held::default(),
            },
            Err(error) => Reply::refusal(StatusCode::BAD_REQUEST, &error.to_string()),
        };
        Ok(Reply {
            held: body.held,
            ..reply
        })
    }
}

impl Reply {
    fn refusal(status: StatusCode, reason: &str) -> Self {
        Self {
            status,
            content_type: "text/plain; charset=utf-8",
            body: format!("{}\n", shorten(reason, MAX_REASON)).into_bytes(),
            operation: Operation::Unknown,
            outcome: Outcome::BadRequest,
            held: Held::default(),
        }
    }

    /// The response to a client that may ask again, here or at another replica.
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
            Unread::TooLarge(largest) => Self::refusal(
                StatusCode::PAYLOAD_TOO_LARGE,
                &format!("the body is larger than {largest} bytes"),
            ),
            Unread::TooSlow => Self::refusal(StatusCode::REQUEST_TIMEOUT, "the body took too long"),
            Unread::NoMemory => Self::shed("too many large bodies at a time"),
            Unread::Broken(error) => {
                tracing::debug!(%error, "a body that cannot be read");
                Self::refusal(
                    StatusCode::BAD_REQUEST,
                    "the body ends too early, or its chunks are malformed; send it again",
                )
            }
        }
    }
}
