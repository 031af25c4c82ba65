//! A receiver of OpenTelemetry traces and logs: OTLP over gRPC on 127.0.0.1.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use imageswap_policy::hex;
use opentelemetry_proto::tonic::collector::logs::v1::logs_service_server::{
    LogsService, LogsServiceServer,
};
use opentelemetry_proto::tonic::collector::logs::v1::{
    ExportLogsServiceRequest, ExportLogsServiceResponse,
};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value};
use opentelemetry_proto::tonic::trace::v1::Span;
use tokio::net::TcpListener;
use tonic::codegen::Service as _;

use crate::background::Background;
use crate::error::{Error, Result};
use crate::http::runtime;

/// A running receiver; it ends when it is dropped.
#[derive(Debug)]
pub struct OtlpReceiver {
    addr: SocketAddr,
    received: Received,
    _background: Background,
}

/// A span as it arrived; ids in hexadecimal digits, empty if missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceivedSpan {
    /// Id of the trace.
    pub trace: String,
    /// Id of the span.
    pub id: String,
    /// Id of the parent span.
    pub parent: String,
    /// Its name.
    pub name: String,
    /// Its attributes; numbers and booleans as text.
    pub attributes: BTreeMap<String, String>,
    /// Attributes of the sender.
    pub resource: BTreeMap<String, String>,
}

/// A log record as it arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceivedLog {
    /// Name of the event.
    pub event: String,
    /// Severity, in words.
    pub severity: String,
    /// The text for people.
    pub body: String,
    /// Its attributes; numbers, booleans and arrays as text.
    pub attributes: BTreeMap<String, String>,
    /// Attributes of the sender.
    pub resource: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Default)]
struct Received {
    spans: Arc<Mutex<Vec<ReceivedSpan>>>,
    logs: Arc<Mutex<Vec<ReceivedLog>>>,
}

impl OtlpReceiver {
    /// Listens on a free port, on a thread of its own.
    pub fn start() -> Result<Self> {
        let runtime = runtime()?;
        // The caller may be inside a runtime, where another cannot block on the port.
        let bind = || {
            let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
            listener.set_nonblocking(true)?;
            let _entered = runtime.enter();
            Ok((listener.local_addr()?, TcpListener::from_std(listener)?))
        };
        let (addr, listener) = bind().map_err(Error::io("a free port on 127.0.0.1"))?;
        let received = Received::default();
        let serving = serve(listener, received.clone());
        let background = Background::run("OTLP receiver", runtime, serving);
        Ok(Self {
            addr,
            received,
            _background: background,
        })
    }

    /// The endpoint for exporters.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// The spans that have arrived so far.
    pub fn spans(&self) -> Vec<ReceivedSpan> {
        locked(&self.received.spans).clone()
    }

    /// The log records that have arrived so far.
    pub fn logs(&self) -> Vec<ReceivedLog> {
        locked(&self.received.logs).clone()
    }
}

fn locked<T>(items: &Mutex<T>) -> MutexGuard<'_, T> {
    items.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn serve(listener: TcpListener, received: Received) {
    loop {
        let Ok((stream, _peer)) = listener.accept().await else {
            return;
        };
        let traces = TraceServiceServer::new(received.clone());
        let logs = LogsServiceServer::new(received.clone());
        let service = service_fn(move |request: Request<Incoming>| {
            let (mut traces, mut logs) = (traces.clone(), logs.clone());
            async move {
                if request.uri().path().contains("LogsService") {
                    logs.call(request).await
                } else {
                    traces.call(request).await
                }
            }
        });
        tokio::spawn(async move {
            let served = http2::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), service)
                .await;
            if let Err(error) = served {
                eprintln!("OTLP receiver: {error}");
            }
        });
    }
}

#[tonic::async_trait]
impl TraceService for Received {
    async fn export(
        &self,
        request: tonic::Request<ExportTraceServiceRequest>,
    ) -> std::result::Result<tonic::Response<ExportTraceServiceResponse>, tonic::Status> {
        let mut spans = locked(&self.spans);
        for group in request.into_inner().resource_spans {
            let resource = attributes(group.resource.unwrap_or_default().attributes);
            for span in group.scope_spans.into_iter().flat_map(|it| it.spans) {
                spans.push(received(span, &resource));
            }
        }
        Ok(tonic::Response::new(ExportTraceServiceResponse::default()))
    }
}

#[tonic::async_trait]
impl LogsService for Received {
    async fn export(
        &self,
        request: tonic::Request<ExportLogsServiceRequest>,
    ) -> std::result::Result<tonic::Response<ExportLogsServiceResponse>, tonic::Status> {
        let mut logs = locked(&self.logs);
        for group in request.into_inner().resource_logs {
            let resource = attributes(group.resource.unwrap_or_default().attributes);
            for record in group.scope_logs.into_iter().flat_map(|it| it.log_records) {
                let body = record.body.and_then(|body| body.value);
                logs.push(ReceivedLog {
                    event: record.event_name,
                    severity: record.severity_text,
                    body: body.map(text).unwrap_or_default(),
                    attributes: attributes(record.attributes),
                    resource: resource.clone(),
                });
            }
        }
        Ok(tonic::Response::new(ExportLogsServiceResponse::default()))
    }
}

fn received(span: Span, resource: &BTreeMap<String, String>) -> ReceivedSpan {
    ReceivedSpan {
        trace: hex(&span.trace_id),
        id: hex(&span.span_id),
        parent: hex(&span.parent_span_id),
        name: span.name,
        attributes: attributes(span.attributes),
        resource: resource.clone(),
    }
}

fn attributes(pairs: Vec<KeyValue>) -> BTreeMap<String, String> {
    pairs
        .into_iter()
        .filter_map(|pair| Some((pair.key, text(pair.value?.value?))))
        .collect()
}

fn text(value: Value) -> String {
    match value {
        Value::StringValue(text) => text,
        Value::BoolValue(value) => value.to_string(),
        Value::IntValue(value) => value.to_string(),
        Value::DoubleValue(value) => value.to_string(),
        Value::ArrayValue(array) => {
            let values = array.values.into_iter().filter_map(|it| it.value);
            values.map(text).collect::<Vec<_>>().join(",")
        }
        other => format!("{other:?}"),
    }
}
