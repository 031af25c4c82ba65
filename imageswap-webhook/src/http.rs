//! HTTP/1.1 requests: which path takes what, how large a body may be, and what a client is told.

use std::convert::Infallible;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{ALLOW, CONNECTION, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::{Body as _, Incoming};
use imageswap_runtime::drain::Drain;
use imageswap_runtime::metrics::{Operation, Outcome, WebhookMetrics};

use crate::admit::{Admission, Answer};

/// A review holds an object twice, and the API server stores none over 1.5 MiB (etcd's limit) by default.
pub const MAX_BODY: usize = 8 << 20;
/// A body that is not there by then is given up on; the API server's longest patience with a webhook.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// Something that answers the body of a review. It is what a panic is caught around.
pub trait Answers: Send + Sync + 'static {
    /// Answers a request's body.
    fn answer(&self, body: &[u8]) -> Answer;
}

impl Answers for Admission {
    fn answer(&self, body: &[u8]) -> Answer {
        Self::answer(self, body)
    }
}

/// Answers requests, and counts them.
#[derive(Debug)]
pub struct Handler<A> {
    admission: A,
    metrics: WebhookMetrics,
    drain: Drain,
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
    /// Once `drain` has begun, every response closes its connection.
    pub fn new(admission: A, metrics: WebhookMetrics, drain: Drain) -> Self {
        Self {
            admission,
            metrics,
            drain,
        }
    }

    /// Answers one request.
    pub async fn handle(
        &self,
        request: Request<Incoming>,
    ) -> Result<Response<Full<Bytes>>, Infallible> {
        let start = Instant::now();
        let reply = self.reply(request).await;
        self.metrics
            .request(reply.operation, reply.outcome, start.elapsed());

        let mut response = Response::new(Full::new(Bytes::from(reply.body)));
        *response.status_mut() = reply.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(reply.content_type));
        if reply.status == StatusCode::METHOD_NOT_ALLOWED {
            headers.insert(ALLOW, HeaderValue::from_static("POST"));
        }
        // The API server goes on using the connections it has to a Pod that is going away.
        if self.drain.is_signaled() {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        Ok(response)
    }

    async fn reply(&self, request: Request<Incoming>) -> Reply {
        if !matches!(request.uri().path(), "/" | "/mutate") {
            return Reply::refusal(
                StatusCode::NOT_FOUND,
                "not found: / and /mutate take AdmissionReviews",
            );
        }
        if request.method() != Method::POST {
            return Reply::refusal(
                StatusCode::METHOD_NOT_ALLOWED,
                "AdmissionReviews are sent by POST",
            );
        }
        match read(request.into_body()).await {
            Ok(body) => self.answer(&body),
            Err(refusal) => refusal,
        }
    }

    fn answer(&self, body: &[u8]) -> Reply {
        match catch_unwind(AssertUnwindSafe(|| self.admission.answer(body))) {
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
                Reply {
                    outcome: Outcome::Failed,
                    ..Reply::refusal(
                        StatusCode::INTERNAL_SERVER_ERROR,
                        "internal error, see the log",
                    )
                }
            }
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
}

/// Reads a whole body, within limits of size and time.
async fn read(body: Incoming) -> Result<Bytes, Reply> {
    let too_large = || {
        Reply::refusal(
            StatusCode::PAYLOAD_TOO_LARGE,
            &format!("the body is larger than {MAX_BODY} bytes"),
        )
    };
    if body.size_hint().lower() > MAX_BODY as u64 {
        return Err(too_large());
    }
    let whole = tokio::time::timeout(BODY_TIMEOUT, Limited::new(body, MAX_BODY).collect()).await;
    match whole {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
        Ok(Err(error)) => Err(Reply::refusal(
            StatusCode::BAD_REQUEST,
            &format!("the body cannot be read: {error}"),
        )),
        Err(_elapsed) => Err(Reply::refusal(
            StatusCode::REQUEST_TIMEOUT,
            "the body took too long",
        )),
    }
}
