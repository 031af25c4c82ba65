//! CRI-O's answers over CRI, for tests; CRI-O itself does not run.
//!
//! The shapes are those of CRI-O 1.37.0 (`server/container_status.go`, `server/sandbox_status.go`,
//! `server/image_status.go`). They differ from containerd's:
//!
//! - The status does not contain the image that the kubelet asked for.
//! - The image's name is any of its names, or empty.
//! - Image ids are hexadecimal digits without `sha256:`.
//! - A dropped infra container has no process and no image.
//! - A sandbox is not found until its infra container runs.

mod messages;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use messages::{ContainerStatusResponse, PodSandboxStatusResponse};
use serde_json::json;
use tokio::net::UnixListener;
use tonic::body::Body;
use tonic::server::{Grpc, UnaryService};
use tonic::{Code, Status};
use tonic_prost::ProstCodec;

use crate::background::Background;
use crate::cri::messages::{
    ContainerMetadata, Image, ImageRequest, ImageSpec, ImageStatusResponse, PodSandboxMetadata,
};
use crate::error::{Error, Result};
use crate::http::runtime;
use crate::workspace::Lab;

/// `ContainerState.CONTAINER_RUNNING`.
const RUNNING: i32 = 1;

/// A container in CRI-O's answers.
#[derive(Debug, Clone, Default)]
pub struct CrioContainer {
    /// Its id.
    pub id: String,
    /// Id of its sandbox.
    pub sandbox: String,
    /// Its name in the Pod.
    pub name: String,
    /// Id of its image.
    pub image_id: String,
    /// Any name that the image had when the container was created; may be empty.
    pub some_name: String,
    /// `<repository>@<digest>`; may be empty.
    pub repo_digest: String,
    /// Its first process.
    pub pid: u32,
}

/// A sandbox in CRI-O's answers.
#[derive(Debug, Clone, Default)]
pub struct CrioSandbox {
    /// Its id.
    pub id: String,
    /// The Pod's name.
    pub name: String,
    /// The Pod's namespace.
    pub namespace: String,
    /// The Pod's UID.
    pub uid: String,
    /// The infra container's image and process; `None` if it was dropped (`drop_infra_ctr`).
    pub infra: Option<(String, u32)>,
}

#[derive(Debug, Default)]
struct Known {
    containers: BTreeMap<String, CrioContainer>,
    sandboxes: BTreeMap<String, CrioSandbox>,
    images: BTreeMap<String, Image>,
}

/// A CRI server with CRI-O's answers; dropping it stops it.
#[derive(Debug)]
pub struct RecordedCrio {
    socket: PathBuf,
    known: Arc<Mutex<Known>>,
    _background: Background,
    _lab: Lab,
}

impl RecordedCrio {
    /// Listens on a socket in the lab's folder. It knows no containers yet.
    pub fn start(lab: &Lab) -> Result<Self> {
        let socket = lab.path().join("crio.sock");
        let runtime = runtime()?;
        let listener = {
            let _entered = runtime.enter();
            UnixListener::bind(&socket).map_err(Error::io(socket.display().to_string()))?
        };
        let known = Arc::default();
        let serving = serve(listener, Arc::clone(&known));
        let background = Background::run("CRI-O's answers", runtime, serving);
        Ok(Self {
            socket,
            known,
            _background: background,
            _lab: lab.clone(),
        })
    }

    /// The socket's path.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Adds an image with its names.
    pub fn add_image(&self, id: &str, tags: &[&str], digests: &[&str]) {
        let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        let image = Image {
            id: id.to_owned(),
            repo_tags: owned(tags),
            repo_digests: owned(digests),
        };
        self.known().images.insert(id.to_owned(), image);
    }

    /// Adds a container.
    pub fn add_container(&self, container: CrioContainer) {
        let id = container.id.clone();
        self.known().containers.insert(id, container);
    }

    /// Adds a sandbox.
    pub fn add_sandbox(&self, sandbox: CrioSandbox) {
        let id = sandbox.id.clone();
        self.known().sandboxes.insert(id, sandbox);
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        locked(&self.known)
    }
}

fn locked(known: &Mutex<Known>) -> MutexGuard<'_, Known> {
    known.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn serve(listener: UnixListener, known: Arc<Mutex<Known>>) {
    while let Ok((stream, _peer)) = listener.accept().await {
        let known = Arc::clone(&known);
        let service = service_fn(move |request| {
            let known = Arc::clone(&known);
            async move { Ok::<_, std::convert::Infallible>(answer(request, known).await) }
        });
        tokio::spawn(async move {
            let served = http2::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), service)
                .await;
            if let Err(error) = served {
                eprintln!("CRI-O's answers: {error}");
            }
        });
    }
}

async fn answer(request: Request<Incoming>, known: Arc<Mutex<Known>>) -> Response<Body> {
    let method = request.uri().path().rsplit('/').next();
    match method.unwrap_or_default() {
        "ContainerStatus" => {
            let of = move |id: String| locked(&known).container(&id);
            unary(request, of).await
        }
        "PodSandboxStatus" => {
            let of = move |id: String| locked(&known).sandbox(&id);
            unary(request, of).await
        }
        "ImageStatus" => {
            let of = move |asked: ImageRequest| {
                let name = asked.image.unwrap_or_default().image;
                Ok(locked(&known).image(&name))
            };
            unary(request, of).await
        }
        "Version" => unary(request, |_asked: ()| Ok(messages::VersionResponse::crio())).await,
        _ => Status::unimplemented("not recorded").into_http(),
    }
}

async fn unary<Q, A, F>(request: Request<Incoming>, of: F) -> Response<Body>
where
    Q: prost::Message + Default + Send + 'static,
    A: prost::Message + Default + Send + 'static,
    F: Fn(Q) -> std::result::Result<A, Status> + Send + 'static,
{
    let codec = ProstCodec::<A, Q>::default();
    Grpc::new(codec).unary(Method(of), request).await
}

/// A gRPC method that answers at once.
struct Method<F>(F);

impl<Q, A, F> UnaryService<Q> for Method<F>
where
    F: Fn(Q) -> std::result::Result<A, Status>,
{
    type Response = A;
    type Future = std::future::Ready<std::result::Result<tonic::Response<A>, Status>>;

    fn call(&mut self, request: tonic::Request<Q>) -> Self::Future {
        std::future::ready((self.0)(request.into_inner()).map(tonic::Response::new))
    }
}

impl Known {
    fn container(&self, id: &str) -> std::result::Result<ContainerStatusResponse, Status> {
        let Some(container) = self.containers.get(id) else {
            let message = format!("could not find container {id:?}: specified container not found");
            return Err(Status::new(Code::NotFound, message));
        };
        let image_ref = match container.repo_digest.as_str() {
            "" => &container.image_id,
            digest => digest,
        };
        let annotations = json!({
            "io.kubernetes.cri-o.ContainerType": "container",
            "io.kubernetes.cri-o.Image": container.image_id,
            "io.kubernetes.cri-o.ImageName": container.some_name,
            "io.kubernetes.cri-o.ImageRef": container.image_id,
            "io.kubernetes.cri-o.SandboxID": container.sandbox,
        });
        let info = json!({
            "sandboxID": container.sandbox,
            "pid": container.pid,
            "runtimeSpec": {"ociVersion": "1.2.1", "annotations": annotations},
            "privileged": false,
        });
        let status = messages::ContainerStatus {
            id: container.id.clone(),
            metadata: Some(ContainerMetadata {
                name: container.name.clone(),
                attempt: 0,
            }),
            state: RUNNING,
            image: Some(ImageSpec {
                image: container.some_name.clone(),
                ..ImageSpec::default()
            }),
            image_ref: image_ref.to_owned(),
            image_id: container.image_id.clone(),
        };
        Ok(ContainerStatusResponse {
            status: Some(status),
            info: [("info".to_owned(), info.to_string())].into(),
        })
    }

    fn sandbox(&self, id: &str) -> std::result::Result<PodSandboxStatusResponse, Status> {
        let Some(sandbox) = self.sandboxes.get(id) else {
            let message = format!("could not find pod {id:?}: specified pod sandbox not found");
            return Err(Status::new(Code::NotFound, message));
        };
        let spec = json!({"annotations": {"io.kubernetes.cri-o.ContainerType": "sandbox"}});
        let info = match &sandbox.infra {
            Some((image, pid)) => json!({"image": image, "pid": pid, "runtimeSpec": spec}),
            None => json!({"runtimeSpec": spec}),
        };
        let source = ("kubernetes.io/config.source".to_owned(), "api".to_owned());
        let status = messages::PodSandboxStatus {
            id: sandbox.id.clone(),
            metadata: Some(PodSandboxMetadata {
                name: sandbox.name.clone(),
                uid: sandbox.uid.clone(),
                namespace: sandbox.namespace.clone(),
                attempt: 0,
            }),
            annotations: [source].into(),
        };
        Ok(PodSandboxStatusResponse {
            status: Some(status),
            info: [("info".to_owned(), info.to_string())].into(),
        })
    }

    /// Looks an image up by its id or a name.
    fn image(&self, name: &str) -> ImageStatusResponse {
        let is_it = |image: &&Image| {
            let mut names = image.repo_tags.iter().chain(&image.repo_digests);
            image.id == name || names.any(|it| it == name)
        };
        ImageStatusResponse {
            image: self.images.values().find(is_it).cloned(),
        }
    }
}
