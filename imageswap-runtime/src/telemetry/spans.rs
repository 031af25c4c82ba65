//! Spans of a request and its steps.

use std::borrow::Cow;
use std::time::Duration;

use http::{HeaderMap, Method, StatusCode, Uri};
use opentelemetry::propagation::{Extractor, TextMapPropagator as _};
use opentelemetry::trace::{
    SpanKind, Status, TraceContextExt as _, TraceId, Tracer as _, TracerProvider as _,
};
use opentelemetry::{Context, KeyValue, StringValue};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider};

/// How long sending the last spans may take at the end of the process.
const SHUTDOWN: Duration = Duration::from_secs(3);
/// Header of a W3C trace context (<https://www.w3.org/TR/trace-context/>).
const TRACEPARENT: &str = "traceparent";

/// Makes spans for requests, if tracing is on. Clones send to the same collector.
#[derive(Debug, Clone, Default)]
pub struct Traces {
    sending: Option<Sending>,
}

/// The span of one request, and its trace. Ends when it is dropped.
#[derive(Debug, Default)]
pub struct RequestSpan {
    context: Option<Context>,
}

/// A request's span on another thread than the request's; dropping it does not end the span.
#[derive(Debug)]
pub struct RequestScope {
    context: Option<Context>,
}

#[derive(Debug, Clone)]
struct Sending {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
}

/// The headers of a request, as a propagator reads them.
struct Headers<'a>(&'a HeaderMap);

impl Traces {
    pub(super) fn new(provider: SdkTracerProvider) -> Self {
        let tracer = provider.tracer("imageswap");
        Self {
            sending: Some(Sending { provider, tracer }),
        }
    }

    /// Makes no spans. Requests still carry their caller's trace id, for the log.
    pub fn off() -> Self {
        Self::default()
    }

    /// The span of an HTTP request that has just arrived on `route`, a path without variable parts.
    ///
    /// Named and described by the semantic conventions for HTTP server spans
    /// (<https://opentelemetry.io/docs/specs/semconv/http/http-spans/>).
    pub fn request(
        &self,
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
        route: Option<&'static str>,
    ) -> RequestSpan {
        let caller = headers
            .contains_key(TRACEPARENT)
            .then(|| {
                TraceContextPropagator::new()
                    .extract_with_context(&Context::new(), &Headers(headers))
            })
            .filter(Context::has_active_span);
        let Some(Sending { tracer, .. }) = &self.sending else {
            return RequestSpan { context: caller };
        };
        if let Some(caller) = &caller
            && !caller.span().span_context().is_sampled()
        {
            return RequestSpan {
                context: Some(caller.clone()),
            };
        }
        let known = known_method(method);
        let name: Cow<'static, str> = match (known, route) {
            (Some(method), Some(route)) => format!("{method} {route}").into(),
            (Some(method), None) => method.into(),
            (None, _) => "HTTP".into(),
        };
        let builder = tracer.span_builder(name).with_kind(SpanKind::Server);
        let span = tracer.build_with_context(builder, caller.as_ref().unwrap_or(&Context::new()));
        let context = Context::new().with_value(tracer.clone()).with_span(span);
        let request = RequestSpan {
            context: Some(context),
        };
        // A span that is not sampled needs no attributes.
        if request.recording().is_some() {
            request.set("http.request.method", known.unwrap_or("_OTHER"));
            request.set("url.scheme", "https");
            request.set("url.path", uri.path().to_owned());
            if let Some(query) = uri.query() {
                request.set("url.query", query.to_owned());
            }
            if let Some(route) = route {
                request.set("http.route", route);
            }
            if let Some(agent) = headers.get(http::header::USER_AGENT) {
                let agent = String::from_utf8_lossy(agent.as_bytes()).into_owned();
                request.set("user_agent.original", agent);
            }
        }
        request
    }

    /// Sends what is queued, for at most a few seconds. Later spans are lost.
    pub async fn shutdown(self) {
        let Some(Sending { provider, .. }) = self.sending else {
            return;
        };
        // It blocks, and the exporter needs the runtime's threads meanwhile.
        let ended =
            tokio::task::spawn_blocking(move || provider.shutdown_with_timeout(SHUTDOWN)).await;
        if let Ok(Err(error)) = ended {
            tracing::warn!(%error, "the last spans may be lost");
        }
    }
}

impl RequestSpan {
    /// The scope of this span, for work of the request.
    pub fn scope(&self) -> RequestScope {
        RequestScope {
            context: self.context.clone(),
        }
    }

    /// Adds an attribute, if the span is recorded.
    pub fn set(&self, name: &'static str, value: impl Into<StringValue>) {
        if let Some(context) = self.recording() {
            context
                .span()
                .set_attribute(KeyValue::new(name, value.into()));
        }
    }

    /// Records how the request was answered.
    pub fn answered(&self, status: StatusCode) {
        let Some(context) = self.recording() else {
            return;
        };
        let span = context.span();
        span.set_attribute(KeyValue::new(
            "http.response.status_code",
            i64::from(status.as_u16()),
        ));
        // The conventions leave the status of server spans unset for 4xx.
        if status.is_server_error() {
            span.set_attribute(KeyValue::new("error.type", status.as_str().to_owned()));
            span.set_status(Status::error(""));
        }
    }

    fn recording(&self) -> Option<&Context> {
        self.context
            .as_ref()
            .filter(|context| context.span().is_recording())
    }
}

impl RequestScope {
    /// Runs `work` with the span as the one that [`span`] and [`trace_id`] see.
    pub fn run<T>(self, work: impl FnOnce() -> T) -> T {
        let _attached = self.context.map(Context::attach);
        work()
    }
}

impl Drop for RequestSpan {
    fn drop(&mut self) {
        if let Some(context) = self.recording() {
            context.span().end();
        }
    }
}

/// Runs `work` as a step of the request in scope, with a span of its own if the request has one.
pub fn span<T>(name: &'static str, work: impl FnOnce() -> T) -> T {
    let child = Context::map_current(|context| {
        if !context.has_active_span() || !context.span().is_recording() {
            return None;
        }
        let tracer: &SdkTracer = context.get()?;
        let span = tracer.build_with_context(tracer.span_builder(name), context);
        Some(context.with_span(span))
    });
    // Detaching drops the last reference to the span, which ends it.
    let _attached = child.map(Context::attach);
    work()
}

/// The trace of the request in scope, even if its caller does not record it. For the log.
pub fn trace_id() -> Option<TraceId> {
    Context::map_current(|context| {
        context
            .has_active_span()
            .then(|| context.span().span_context().trace_id())
    })
}

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(http::HeaderName::as_str).collect()
    }
}

/// Methods in the semantic conventions; others would let clients create any number of names.
fn known_method(method: &Method) -> Option<&'static str> {
    Some(match *method {
        Method::CONNECT => "CONNECT",
        Method::DELETE => "DELETE",
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::OPTIONS => "OPTIONS",
        Method::PATCH => "PATCH",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::TRACE => "TRACE",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use opentelemetry_sdk::trace::Sampler;

    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

    fn headers(flags: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let value = format!("00-{TRACE}-00f067aa0ba902b7-{flags}");
        headers.insert(TRACEPARENT, value.parse().unwrap());
        headers
    }

    fn request(traces: &Traces, headers: &HeaderMap) -> RequestSpan {
        traces.request(
            &Method::POST,
            &Uri::from_static("/mutate"),
            headers,
            Some("/mutate"),
        )
    }

    fn seen(span: &RequestSpan) -> Option<String> {
        span.scope().run(|| trace_id().map(|id| id.to_string()))
    }

    #[test]
    fn the_callers_trace_is_known_without_a_collector() {
        assert_eq!(
            seen(&request(&Traces::off(), &headers("00"))).as_deref(),
            Some(TRACE)
        );
        assert_eq!(seen(&request(&Traces::off(), &HeaderMap::new())), None);
        let mut bad = HeaderMap::new();
        bad.insert(TRACEPARENT, "00-0-0-01".parse().unwrap());
        assert_eq!(seen(&request(&Traces::off(), &bad)), None);
        assert_eq!(trace_id(), None);
    }

    #[test]
    fn who_decides_what_is_recorded() {
        let traces = |ratio| {
            let sampler = Sampler::parent_based(Sampler::TraceIdRatioBased(ratio));
            Traces::new(SdkTracerProvider::builder().with_sampler(sampler).build())
        };
        let (all, none) = (traces(1.0), traces(0.0));
        for (traces, headers, recorded) in [
            (&all, HeaderMap::new(), true),
            (&none, HeaderMap::new(), false),
            (&all, headers("00"), false),
            (&none, headers("01"), true),
            (&Traces::off(), headers("01"), false),
        ] {
            let span = request(traces, &headers);
            assert_eq!(span.recording().is_some(), recorded, "{headers:?}");
            let steps = span.scope().run(|| {
                super::span("step", || {
                    Context::map_current(|it| it.has_active_span() && it.span().is_recording())
                })
            });
            assert_eq!(steps, recorded, "{headers:?}");
            if !headers.is_empty() {
                assert_eq!(seen(&span).as_deref(), Some(TRACE));
            }
        }
    }

    #[test]
    fn a_step_alone_is_no_span() {
        assert_eq!(span("step", trace_id), None);
    }
}
