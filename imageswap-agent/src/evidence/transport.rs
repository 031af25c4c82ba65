//! gRPC over a Unix socket: the one place that connects to runtimes.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use http_body_util::BodyExt as _;
use hyper_util::rt::TokioIo;
use prost::Message;
use tokio::net::UnixStream;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;
use tonic::body::Body;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::codegen::http::{Response, Uri};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status, Streaming};
use tonic_prost::ProstCodec;
use tower::ServiceExt as _;

use super::EvidenceError;
use super::gate::Gate;
use super::short::Short;

/// How long a runtime may take for one call. It answers from memory or its own database; a slower
/// one hangs, and must not block the agent.
pub(super) const DEADLINE: Duration = Duration::from_secs(2);

/// The call of a check. A server that does not implement it answers with an error, which is an
/// answer too.
const CHECK: Method = "/grpc.health.v1.Health/Check";

/// Longer answers of one runtime are read one at a time: its clients can make each of them as long as
/// it sends. An OCI configuration usually has 30 KB.
pub(super) const ORDINARY: usize = 256 << 10;

/// An OCI configuration has about 2 MB at most, as long as its arguments need no escapes: the kernel's
/// usual limit for them. The CRI's verbose answer has it twice.
const LARGEST_ANSWER: usize = 4 << 20;

/// The lists of all namespaces and of all tasks: what servers send at most.
pub(super) const LARGEST_LIST: usize = 16 << 20;

/// A connection that is made at the first call and again whenever it is lost.
#[derive(Clone, Debug)]
pub(super) struct Transport {
    socket: PathBuf,
    channel: Channel,
    deadline: Duration,
    gate: Gate,
    /// Longest answer, in bytes.
    longest: usize,
    /// The turn of an answer that is not ordinary.
    large: Arc<Semaphore>,
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
        let channel =
            Endpoint::from_static("http://localhost").connect_with_connector_lazy(connector);
        Self {
            socket,
            channel,
            deadline,
            gate: Gate::new(),
            longest: LARGEST_ANSWER,
            large: Arc::new(Semaphore::new(1)),
        }
    }

    /// The same connection, with another limit for answers. A longer one is not read.
    pub(super) fn with_limit(&self, longest: usize) -> Self {
        Self {
            longest,
            ..self.clone()
        }
    }

    pub(super) fn socket(&self) -> &Path {
        &self.socket
    }

    /// Checks whether the runtime hangs. While it hangs, calls fail at once.
    pub(super) fn check(&self) {
        let client = self.client();
        let deadline = self.deadline / 2;
        self.gate.check(move || {
            let mut client = client.clone();
            async move {
                let exchange = async {
                    client.ready().await.ok()?;
                    let path = PathAndQuery::from_static(CHECK);
                    let answer = client.unary(Request::new(()), path, codec::<(), ()>());
                    answer.await.ok()
                };
                timeout(deadline, exchange).await.is_ok()
            }
        });
    }

    /// One request, one answer. `Ok(None)` if the runtime answers "not found".
    pub(super) async fn call<Q, A>(
        &self,
        method: Method,
        namespace: Option<&str>,
        question: Q,
    ) -> Result<Option<A>, EvidenceError>
    where
        Q: Message + Default + Clone + 'static,
        A: Message + Default + 'static,
    {
        let ordinary = self.with_limit(self.longest.min(ORDINARY));
        match ordinary
            .call_once(method, namespace, question.clone())
            .await
        {
            Err(EvidenceError::TooLarge {
                is_refused: false, ..
            }) if self.longest > ORDINARY => {}
            answer => return answer,
        }
        let _turn = self.large_turn(method).await?;
        self.call_once(method, namespace, question).await
    }

    /// The turn of an answer that is not ordinary.
    pub(super) async fn large_turn(
        &self,
        method: Method,
    ) -> Result<Option<SemaphorePermit<'_>>, EvidenceError> {
        let turn = timeout(self.deadline, self.large.acquire());
        let turn = turn.await.map_err(|_elapsed| self.timeout(method))?;
        // The semaphore is never closed.
        Ok(turn.ok())
    }

    async fn call_once<Q, A>(
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
        let path = PathAndQuery::from_static(method);
        self.in_turn(method, |mut client| async move {
            let answer = client.unary(request, path, codec()).await?;
            Ok(answer.into_inner())
        })
        .await
    }

    /// Waits for a turn and for the connection, and runs `exchange` within the deadline. `Ok(None)` if
    /// the runtime answers "not found".
    async fn in_turn<T, F>(
        &self,
        method: Method,
        exchange: impl FnOnce(Grpc<Channel>) -> F,
    ) -> Result<Option<T>, EvidenceError>
    where
        F: Future<Output = Result<T, Status>>,
    {
        let Some(_turn) = self.gate.enter().await else {
            return Err(EvidenceError::Hangs {
                socket: self.socket.clone(),
            });
        };
        let exchange = async {
            let mut client = self.client();
            client
                .ready()
                .await
                .map_err(|error| Status::from_error(error.into()))?;
            exchange(client).await
        };
        match timeout(self.deadline, exchange).await {
            Ok(Ok(answer)) => Ok(Some(answer)),
            Ok(Err(status)) if status.code() == Code::NotFound => Ok(None),
            Ok(Err(status)) => Err(self.failure(method, status)),
            Err(_elapsed) => {
                self.check();
                Err(self.timeout(method))
            }
        }
    }

    /// Like [`call`](Self::call), for methods for which "not found" makes no sense.
    pub(super) async fn ask<Q, A>(
        &self,
        method: Method,
        namespace: Option<&str>,
        question: Q,
    ) -> Result<A, EvidenceError>
    where
        Q: Message + Default + Clone + 'static,
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

    /// One request, a stream of answers, of which those of more than `longest` bytes are empty;
    /// without a deadline, because a server may send its headers together with its first answer.
    pub(super) async fn subscribe<Q, A>(
        &self,
        method: Method,
        question: Q,
        longest: usize,
    ) -> Result<Streaming<A>, EvidenceError>
    where
        Q: Message + Default + 'static,
        A: Message + Default + 'static,
    {
        let shorten = move |answer: Response<Body>| {
            let mut short = Short::new(longest);
            answer.map(|body| body.map_frame(move |frame| frame.map_data(|data| short.pass(data))))
        };
        let mut client = Grpc::new(self.channel.clone().map_response(shorten));
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

    /// One request, one answer in pieces, to the end. `Ok(None)` if the runtime answers "not
    /// found". `take` returns whether it wants more.
    pub(super) async fn collect<Q, A>(
        &self,
        method: Method,
        namespace: &str,
        question: Q,
        mut take: impl FnMut(A) -> bool,
    ) -> Result<Option<()>, EvidenceError>
    where
        Q: Message + Default + 'static,
        A: Message + Default + 'static,
    {
        let request = self.request(method, Some(namespace), question)?;
        let path = PathAndQuery::from_static(method);
        self.in_turn(method, |mut client| async move {
            let answer = client.server_streaming(request, path, codec()).await?;
            let mut pieces: Streaming<A> = answer.into_inner();
            while let Some(piece) = pieces.message().await? {
                if !take(piece) {
                    break;
                }
            }
            Ok(())
        })
        .await
    }

    /// The meaning of a failed call or a broken stream.
    pub(super) fn failure(&self, method: Method, status: Status) -> EvidenceError {
        let path = self.socket.clone();
        let is_ours = std::error::Error::source(&status).is_some();
        match status.code() {
            // The kernel refuses access to the socket, not the runtime.
            _ if io_error(&status) == Some(io::ErrorKind::PermissionDenied) => {
                EvidenceError::Denied {
                    path,
                    source: root_cause(&status),
                }
            }
            // An error from the wire has no cause; a connection that broke has one.
            _ if is_ours => EvidenceError::Unreachable {
                socket: path,
                source: root_cause(&status),
            },
            Code::Unavailable => EvidenceError::Unreachable {
                socket: path,
                source: Box::new(status),
            },
            Code::PermissionDenied | Code::Unauthenticated => EvidenceError::Denied {
                path,
                source: Box::new(status),
            },
            Code::DeadlineExceeded => self.timeout(method),
            // The server's limit, and ours.
            code @ (Code::ResourceExhausted | Code::OutOfRange) => EvidenceError::TooLarge {
                socket: path,
                call: method,
                is_refused: code == Code::ResourceExhausted,
            },
            code => self.protocol(method, format!("{code:?}: {}", status.message())),
        }
    }

    pub(super) fn protocol(&self, call: Method, message: String) -> EvidenceError {
        EvidenceError::Protocol {
            socket: self.socket.clone(),
            call,
            message,
        }
    }

    pub(super) fn timeout(&self, call: Method) -> EvidenceError {
        EvidenceError::Timeout {
            socket: self.socket.clone(),
            call,
            after: self.deadline,
        }
    }

    fn client(&self) -> Grpc<Channel> {
        Grpc::new(self.channel.clone()).max_decoding_message_size(self.longest)
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

/// The innermost message: the outer ones only say that a transport failed.
fn root_cause(status: &Status) -> Box<dyn std::error::Error + Send + Sync> {
    let mut cause: &(dyn std::error::Error + 'static) = status;
    while let Some(below) = cause.source() {
        cause = below;
    }
    cause.to_string().into()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use tokio::net::UnixListener;

    use super::*;

    const SHORT: Duration = Duration::from_millis(50);
    const METHOD: Method = "/service/Method";

    async fn ask(transport: &Transport) -> EvidenceError {
        transport
            .call::<(), ()>(METHOD, None, ())
            .await
            .unwrap_err()
    }

    #[tokio::test]
    async fn a_runtime_that_never_answers_does_not_hang_us() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("hung.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let server = tokio::spawn(async move {
            let mut open = Vec::new();
            loop {
                open.push(listener.accept().await.unwrap());
            }
        });
        let error = ask(&Transport::new(socket.clone(), SHORT)).await;
        assert!(
            matches!(error, EvidenceError::Timeout { after: SHORT, .. }),
            "{error:?}"
        );
        let expected = format!(
            "{METHOD} at {} did not answer within 50 ms",
            socket.display()
        );
        assert_eq!(error.to_string(), expected);
        server.abort();
    }

    #[tokio::test]
    async fn a_runtime_that_hangs_is_left_alone_and_costs_its_callers_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("hung.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let transport = Transport::new(socket, SHORT);
        // Neither calls nor checks are answered.
        while !matches!(ask(&transport).await, EvidenceError::Hangs { .. }) {}
        for _ in 0..300 {
            let error = ask(&transport).await;
            assert!(matches!(error, EvidenceError::Hangs { .. }), "{error:?}");
        }
        drop(listener);
    }

    #[tokio::test]
    async fn a_connection_that_breaks_is_said_and_made_again() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("breaks.sock");
        let transport = Transport::new(socket.clone(), Duration::from_secs(20));

        let error = ask(&transport).await;
        assert!(
            matches!(error, EvidenceError::Unreachable { .. }),
            "{error:?}"
        );
        assert!(error.to_string().contains("No such file"), "{error}");

        let listener = UnixListener::bind(&socket).unwrap();
        let server = tokio::spawn(async move {
            let mut connections = 0;
            while connections < 2 {
                let (connection, _) = listener.accept().await.unwrap();
                connection.readable().await.unwrap();
                connections += 1;
            }
            connections
        });
        for _ in 0..2 {
            let error = ask(&transport).await;
            assert!(
                matches!(error, EvidenceError::Unreachable { .. }),
                "{error:?}"
            );
        }
        assert_eq!(server.await.unwrap(), 2);
    }

    #[tokio::test]
    async fn a_server_of_something_else_is_unreachable() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("plain");
        std::fs::write(&socket, "").unwrap();
        std::fs::set_permissions(&socket, std::fs::Permissions::from_mode(0o600)).unwrap();
        let error = ask(&Transport::new(socket, SHORT)).await;
        assert!(
            matches!(error, EvidenceError::Unreachable { .. }),
            "{error:?}"
        );
    }

    #[tokio::test]
    async fn each_status_has_its_meaning() {
        let transport = Transport::new("/run/x.sock".into(), SHORT);
        let of = |status| transport.failure(METHOD, status).to_string();
        let denied = Status::from_error(Box::new(io::Error::from(io::ErrorKind::PermissionDenied)));
        assert_eq!(
            of(denied),
            "no permission to use /run/x.sock: permission denied"
        );
        let broken = Status::from_error(Box::new(io::Error::from(io::ErrorKind::BrokenPipe)));
        assert_eq!(of(broken), "no runtime answers at /run/x.sock: broken pipe");
        assert!(of(Status::permission_denied("no")).starts_with("no permission"));
        assert!(of(Status::unavailable("no")).starts_with("no runtime answers"));
        assert!(of(Status::deadline_exceeded("no")).contains("did not answer"));
        assert!(of(Status::resource_exhausted("no")).ends_with("is too large"));
        assert!(of(Status::out_of_range("no")).ends_with("is too large"));
        assert_eq!(
            of(Status::unimplemented("unknown service")),
            format!("{METHOD} at /run/x.sock failed: Unimplemented: unknown service")
        );
    }

    #[tokio::test]
    async fn a_namespace_that_no_header_can_carry_is_refused() {
        let transport = Transport::new("/run/x.sock".into(), SHORT);
        let answer = transport.call::<(), ()>(METHOD, Some("a\nb"), ()).await;
        assert!(
            matches!(answer, Err(EvidenceError::Protocol { .. })),
            "{answer:?}"
        );
    }
}
