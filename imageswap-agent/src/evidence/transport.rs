//! gRPC over a Unix socket: the one place that knows how a runtime is reached.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use prost::Message;
use tokio::net::UnixStream;
use tonic::client::Grpc;
use tonic::codegen::http::Uri;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status, Streaming};
use tonic_prost::ProstCodec;

use super::EvidenceError;

/// How long a runtime may take over one call. It answers from memory or its
/// own database; one that takes longer is hung, and must not hang us.
pub(super) const DEADLINE: Duration = Duration::from_secs(2);

/// Lists of a busy node outgrow gRPC's default of 4 MiB, for every containerd
/// container brings its whole OCI configuration; the servers stop at 16 MiB.
const LARGEST_ANSWER: usize = 32 << 20;

/// A connection that is made at the first call and again whenever it is lost.
#[derive(Clone, Debug)]
pub(super) struct Transport {
    socket: PathBuf,
    channel: Channel,
    deadline: Duration,
}

/// A gRPC method: `/package.Service/Method`.
pub(super) type Method = &'static str;

impl Transport {
    /// Does not touch the socket. Must be called within a Tokio runtime.
    pub(super) fn new(socket: PathBuf, deadline: Duration) -> Self {
        let path = socket.clone();
        let connector = tower::service_fn(move |_: Uri| {
            let path = path.clone();
            async move { UnixStream::connect(path).await.map(TokioIo::new) }
        });
        // The name only fills HTTP/2's :authority, which is "localhost" for Unix sockets.
        let channel = Endpoint::from_static("http://localhost")
            .connect_timeout(deadline)
            .connect_with_connector_lazy(connector);
        Self {
            socket,
            channel,
            deadline,
        }
    }

    pub(super) fn socket(&self) -> &Path {
        &self.socket
    }

    /// One question, one answer. `Ok(None)` where the runtime says "not found".
    pub(super) async fn call<Q, A>(
        &self,
        method: Method,
        namespace: Option<&str>,
        question: Q,
    ) -> Result<Option<A>, EvidenceError>
    where
        Q: Message + Default + 'static,
        A: Message + Default + 'static,
    {
        let request = self.request(method, namespace, question)?;
        let exchange = async {
            let mut client = self.client();
            client
                .ready()
                .await
                .map_err(|error| Status::from_error(error.into()))?;
            client
                .unary(request, PathAndQuery::from_static(method), codec())
                .await
        };
        match tokio::time::timeout(self.deadline, exchange).await {
            Ok(Ok(answer)) => Ok(Some(answer.into_inner())),
            Ok(Err(status)) if status.code() == Code::NotFound => Ok(None),
            Ok(Err(status)) => Err(self.failure(method, status)),
            Err(_elapsed) => Err(self.timeout(method)),
        }
    }

    /// As [`call`](Self::call), where "not found" is no answer that makes sense.
    pub(super) async fn ask<Q, A>(
        &self,
        method: Method,
        namespace: Option<&str>,
        question: Q,
    ) -> Result<A, EvidenceError>
    where
        Q: Message + Default + 'static,
        A: Message + Default + 'static,
    {
        self.call(method, namespace, question)
            .await?
            .ok_or_else(|| {
                self.protocol(
                    method,
                    "the runtime says that what was listed does not exist".to_owned(),
                )
            })
    }

    /// One question, a stream of answers; without a deadline, for a server may
    /// send its headers together with its first answer.
    pub(super) async fn subscribe<Q, A>(
        &self,
        method: Method,
        question: Q,
    ) -> Result<Streaming<A>, EvidenceError>
    where
        Q: Message + Default + 'static,
        A: Message + Default + 'static,
    {
        let mut client = self.client();
        let answer = async {
            client
                .ready()
                .await
                .map_err(|error| Status::from_error(error.into()))?;
            client
                .server_streaming(
                    Request::new(question),
                    PathAndQuery::from_static(method),
                    codec(),
                )
                .await
        };
        match answer.await {
            Ok(answer) => Ok(answer.into_inner()),
            Err(status) => Err(self.failure(method, status)),
        }
    }

    pub(super) fn failure(&self, method: Method, status: Status) -> EvidenceError {
        let socket = self.socket.clone();
        match io_error(&status) {
            Some(io::ErrorKind::PermissionDenied) => EvidenceError::Denied {
                path: socket,
                source: root_cause(&status),
            },
            Some(_) => EvidenceError::Unreachable {
                socket,
                source: root_cause(&status),
            },
            None => match status.code() {
                Code::PermissionDenied | Code::Unauthenticated => EvidenceError::Denied {
                    path: socket,
                    source: Box::new(status),
                },
                Code::DeadlineExceeded => self.timeout(method),
                Code::Unavailable => EvidenceError::Unreachable {
                    socket,
                    source: Box::new(status),
                },
                code => self.protocol(method, format!("{code:?}: {}", status.message())),
            },
        }
    }

    pub(super) fn protocol(&self, call: Method, message: String) -> EvidenceError {
        EvidenceError::Protocol {
            socket: self.socket.clone(),
            call,
            message,
        }
    }

    fn timeout(&self, call: Method) -> EvidenceError {
        EvidenceError::Timeout {
            socket: self.socket.clone(),
            call,
            after: self.deadline,
        }
    }

    fn client(&self) -> Grpc<Channel> {
        Grpc::new(self.channel.clone()).max_decoding_message_size(LARGEST_ANSWER)
    }

    fn request<Q>(
        &self,
        method: Method,
        namespace: Option<&str>,
        question: Q,
    ) -> Result<Request<Q>, EvidenceError> {
        let mut request = Request::new(question);
        if let Some(namespace) = namespace {
            let value = MetadataValue::<Ascii>::try_from(namespace).map_err(|_invalid| {
                self.protocol(
                    method,
                    format!("{namespace:?} cannot be a containerd namespace"),
                )
            })?;
            // How containerd's clients name the namespace of a call (its package `namespaces`).
            request.metadata_mut().insert("containerd-namespace", value);
        }
        Ok(request)
    }
}

fn codec<Q, A>() -> ProstCodec<Q, A> {
    ProstCodec::default()
}

/// The kind of the I/O error below a status, if one is.
fn io_error(status: &Status) -> Option<io::ErrorKind> {
    let mut error: Option<&(dyn std::error::Error + 'static)> = Some(status);
    while let Some(cause) = error {
        if let Some(io) = cause.downcast_ref::<io::Error>() {
            return Some(io.kind());
        }
        error = cause.source();
    }
    None
}

/// The innermost message: what stands above it only says that a transport failed.
fn root_cause(status: &Status) -> Box<dyn std::error::Error + Send + Sync> {
    let mut cause: &(dyn std::error::Error + 'static) = status;
    while let Some(below) = cause.source() {
        cause = below;
    }
    cause.to_string().into()
}
