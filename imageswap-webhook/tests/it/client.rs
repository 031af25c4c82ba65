//! A server, and a client that calls it as the API server does.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use base64::Engine as _;
use bytes::Bytes;
use http::header::HOST;
use http::{Method, Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use imageswap_policy::{Policies, document};
use imageswap_runtime::admin::Condition;
use imageswap_runtime::drain::Drain;
use imageswap_runtime::metrics::Exporter;
use imageswap_runtime::source::{PolicyArgs, PolicySource};
use imageswap_runtime::tls::{ClientStream, ConnectError, Connector, TlsArgs};
use imageswap_webhook::admit::Admission;
use imageswap_webhook::http::{Answers, Handler};
use imageswap_webhook::limits::Limits;
use imageswap_webhook::metrics::{Operation, Outcome, Webhook, WebhookMetrics};
use imageswap_webhook::server::{self, DrainTimes};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// How long to wait for something that must happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A webhook in this process.
pub(crate) struct Server {
    pub(crate) addr: SocketAddr,
    pub(crate) exporter: Exporter,
    pub(crate) drain: Drain,
    pub(crate) task: JoinHandle<()>,
    connector: Connector,
    _certificates: TempDir,
}

/// A connection to a webhook.
pub(crate) struct Connection {
    sender: SendRequest<Full<Bytes>>,
    pub(crate) closed: JoinHandle<()>,
}

impl Server {
    /// Serves the maps file at `path`, and watches it.
    pub(crate) async fn with_maps_file(path: PathBuf, times: DrainTimes) -> Self {
        let args = PolicyArgs {
            maps: Some(path),
            ..PolicyArgs::default()
        };
        Self::watching(args, times).await
    }

    /// Serves the policies in the file or folder at `path`, and watches them.
    pub(crate) async fn with_policies(path: PathBuf) -> Self {
        let args = PolicyArgs {
            policy: Some(path),
            ..PolicyArgs::default()
        };
        Self::watching(args, TIMES).await
    }

    async fn watching(args: PolicyArgs, times: DrainTimes) -> Self {
        let policy = args.load(None).unwrap();
        Self::start(times, |exporter, drain| {
            tokio::spawn(policy.clone().watch(
                drain.clone(),
                exporter.policy_metrics(),
                Condition::default(),
            ));
            Admission::new(policy, WebhookMetrics::new(exporter))
        })
        .await
    }

    /// Serves a maps text that does not change.
    pub(crate) async fn with_maps(text: &str) -> Self {
        Self::start(TIMES, |exporter, _| {
            admission(text, &WebhookMetrics::new(exporter))
        })
        .await
    }

    /// Serves with `answers`.
    pub(crate) async fn start<A: Answers>(
        times: DrainTimes,
        answers: impl FnOnce(&Exporter, &Drain) -> A,
    ) -> Self {
        Self::start_with(times, Limits::default(), answers).await
    }

    /// Serves with `answers`, within these limits.
    pub(crate) async fn start_with<A: Answers>(
        times: DrainTimes,
        limits: Limits,
        answers: impl FnOnce(&Exporter, &Drain) -> A,
    ) -> Self {
        let certificates = tempfile::tempdir().unwrap();
        let tls = TlsArgs {
            tls_self_signed: Some(certificates.path().to_owned()),
            ..TlsArgs::default()
        };
        let tls = tls.load("127.0.0.1:0".parse().unwrap()).unwrap();
        let ca = std::fs::read(certificates.path().join("ca.crt")).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (exporter, drain) = (Exporter::new(), Drain::new());
        let answers = answers(&exporter, &drain);
        let handler = Handler::new(answers, WebhookMetrics::new(&exporter), drain.clone())
            .with_limits(limits);
        let task = tokio::spawn(server::serve(
            listener,
            tls.acceptor(),
            handler,
            drain.clone(),
            times,
        ));
        let connector = Connector::new(&ca).unwrap();
        Self {
            addr,
            exporter,
            drain,
            task,
            connector,
            _certificates: certificates,
        }
    }

    pub(crate) async fn connect(&self) -> Result<Connection, ConnectError> {
        Connection::open(&self.connector, "localhost", self.addr).await
    }

    /// A verified connection, for requests that no well-behaved client sends.
    pub(crate) async fn tls_stream(&self) -> ClientStream {
        let stream = TcpStream::connect(self.addr).await.unwrap();
        self.connector.connect("localhost", stream).await.unwrap()
    }

    /// Posts a review on a new connection and returns the container's resulting image.
    pub(crate) async fn swap(&self, image: &str) -> String {
        let review = pod_review("CREATE", &pod(&[image]));
        let object = patched(&review, &self.ask("/", &review).await);
        object["spec"]["containers"][0]["image"]
            .as_str()
            .unwrap()
            .to_owned()
    }

    /// The answer of the webhook at `path`.
    pub(crate) async fn ask(&self, path: &str, review: &Value) -> Value {
        let mut connection = self.connect().await.unwrap();
        let (head, body) = connection.post(path, review.to_string()).await;
        assert_eq!(head.status(), 200, "{body:?}");
        serde_json::from_slice(&body).unwrap()
    }

    /// Waits until `image` is swapped to `expected`.
    pub(crate) async fn until_swapped(&self, image: &str, expected: &str) {
        eventually(&format!("{image} becomes {expected}"), async || {
            self.swap(image).await == expected
        })
        .await;
    }

    /// Waits until the metrics have that line.
    pub(crate) async fn until_metric(&self, line: &str) {
        eventually(line, async || {
            self.exporter.render().lines().any(|it| it == line)
        })
        .await;
    }
}

impl Connection {
    pub(crate) async fn open(
        connector: &Connector,
        name: &str,
        addr: SocketAddr,
    ) -> Result<Self, ConnectError> {
        let stream = connector
            .connect(name, TcpStream::connect(addr).await?)
            .await?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        let closed = tokio::spawn(async move {
            // How a connection ends does not matter here.
            let _ended = connection.await;
        });
        Ok(Self { sender, closed })
    }

    /// Sends a request and reads the whole response.
    pub(crate) async fn send(
        &mut self,
        request: http::request::Builder,
        body: impl Into<Bytes>,
    ) -> hyper::Result<(Response<()>, Bytes)> {
        self.sender.ready().await?;
        let request = request
            .header(HOST, "localhost")
            .body(Full::new(body.into()))
            .unwrap();
        let (head, body) = self.sender.send_request(request).await?.into_parts();
        Ok((
            Response::from_parts(head, ()),
            body.collect().await?.to_bytes(),
        ))
    }

    pub(crate) async fn post(
        &mut self,
        path: &str,
        body: impl Into<Bytes>,
    ) -> (Response<()>, Bytes) {
        self.send(Request::builder().method(Method::POST).uri(path), body)
            .await
            .unwrap()
    }
}

/// Drain times for servers that are not drained.
pub(crate) const TIMES: DrainTimes = DrainTimes {
    delay: Duration::from_mins(1),
    timeout: Duration::from_mins(1),
};

/// Answers by a maps text.
pub(crate) fn admission(maps: &str, metrics: &WebhookMetrics) -> Admission {
    let loaded = imageswap_policy::maps::load("test.maps", maps).unwrap();
    Admission::new(
        PolicySource::fixed(Policies::one(loaded.policy)),
        metrics.clone(),
    )
}

/// The policies of a text.
pub(crate) fn policies(text: &str) -> Policies {
    Policies::new(document::load("p", text).unwrap().policies)
}

/// Answers by the policies of a text.
pub(crate) fn admission_by(text: &str) -> Admission {
    let metrics = WebhookMetrics::new(&Exporter::new());
    Admission::new(PolicySource::fixed(policies(text)), metrics)
}

/// The answer to a review, and how that ended.
pub(crate) fn decide(
    admission: &Admission,
    webhook: Webhook,
    review: &Value,
) -> (Value, Operation, Outcome) {
    let answer = admission.answer(webhook, review.to_string().as_bytes());
    let body = serde_json::from_slice(&answer.body.unwrap()).unwrap();
    (body, answer.operation, answer.outcome)
}

/// A Pod with a container for each image: `c0`, `c1` and so on.
pub(crate) fn pod(images: &[&str]) -> Value {
    let container = |(at, image): (usize, &&str)| json!({"name": format!("c{at}"), "image": image});
    let containers: Vec<_> = images.iter().enumerate().map(container).collect();
    json!({"metadata": {}, "spec": {"containers": containers}})
}

/// A review of a Pod with the image `nginx`.
pub(crate) fn nginx_review() -> String {
    pod_review("CREATE", &pod(&["nginx"])).to_string()
}

/// A review of a Pod in namespace `ns1`.
pub(crate) fn pod_review(operation: &str, object: &Value) -> Value {
    json!({
        "kind": "AdmissionReview",
        "apiVersion": "admission.k8s.io/v1",
        "request": {
            "uid": "u-1",
            "kind": {"group": "", "version": "v1", "kind": "Pod"},
            "namespace": "ns1",
            "operation": operation,
            "object": object,
        },
    })
}

/// The review's object after the answer's patch.
pub(crate) fn patched(review: &Value, answer: &Value) -> Value {
    assert_eq!(answer["kind"], "AdmissionReview", "{answer}");
    assert_eq!(answer["apiVersion"], review["apiVersion"], "{answer}");
    let response = &answer["response"];
    assert_eq!(response["uid"], review["request"]["uid"], "{answer}");
    assert_eq!(response["allowed"], true, "{answer}");
    let mut object = review["request"]["object"].clone();
    assert_eq!(
        response.get("patch").is_some(),
        response.get("patchType").is_some(),
        "{answer}"
    );
    if let Some(patch) = response.get("patch") {
        assert_eq!(response["patchType"], "JSONPatch");
        let patch = base64::engine::general_purpose::STANDARD
            .decode(patch.as_str().unwrap())
            .unwrap();
        let patch: json_patch::Patch = serde_json::from_slice(&patch).unwrap();
        assert!(!patch.0.is_empty(), "an empty patch says nothing");
        json_patch::patch(&mut object, &patch).unwrap();
    }
    object
}

/// Removes the note from a patched object, and the annotations if they are then empty.
pub(crate) fn take_note(object: &mut Value) -> Option<String> {
    let metadata = object.get_mut("metadata")?.as_object_mut()?;
    let annotations = metadata.get_mut("annotations")?.as_object_mut()?;
    let note = annotations.remove(imageswap_policy::note::ANNOTATION)?;
    if annotations.is_empty() {
        metadata.remove("annotations");
    }
    note.as_str().map(str::to_owned)
}

/// Waits until `holds` returns true; fails if it never does.
pub(crate) async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let waiting = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let result = tokio::time::timeout(PATIENCE, waiting).await;
    assert!(result.is_ok(), "never seen: {what}");
}
