//! Acts as a kubelet over CRI v1: a sandbox, an image, a container.

pub(crate) mod messages;

use std::collections::HashMap;
use std::fmt;
use std::path::Path;

use prost::Message;
use tokio::runtime::Runtime;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};

use crate::error::{Error, Result};
use crate::hierarchy;
use crate::http::runtime;

/// The Pod's source that a kubelet writes into its annotations.
const SOURCE_API: &str = "api";

/// A client of a runtime's CRI socket.
pub struct Cri {
    runtime: Runtime,
    channel: Channel,
    systemd_cgroup: bool,
}

/// A pod with one container.
#[derive(Debug, Clone)]
pub struct PodSpec<'a> {
    /// The pod's namespace.
    pub namespace: &'a str,
    /// The pod's name.
    pub name: &'a str,
    /// The container's name.
    pub container: &'a str,
    /// The container's image; it is pulled.
    pub image: &'a str,
    /// The command in place of the image's entrypoint; empty for the image's.
    pub command: &'a [&'a str],
}

/// A pod that was started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CriPod {
    /// The sandbox: the pause container's id.
    pub sandbox_id: String,
    /// The container's id.
    pub container_id: String,
    /// The pod's uid.
    pub uid: String,
    /// The image's id as the pull gave it.
    pub image_id: String,
}

impl fmt::Debug for Cri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cri").finish_non_exhaustive()
    }
}

impl Cri {
    /// Connects to the socket. systemd makes the Pods' cgroups if `systemd_cgroup` is set.
    pub fn connect(socket: &Path, systemd_cgroup: bool) -> Result<Self> {
        let runtime = runtime()?;
        let unusable = |error: tonic::transport::Error| {
            Error::Unusable(format!("{}: {error}", socket.display()))
        };
        let endpoint =
            Endpoint::from_shared(format!("unix://{}", socket.display())).map_err(unusable)?;
        let channel = runtime.block_on(endpoint.connect()).map_err(unusable)?;
        Ok(Self {
            runtime,
            channel,
            systemd_cgroup,
        })
    }

    /// Whether the runtime knows the image `reference`.
    pub fn has_image(&self, reference: &str) -> Result<bool> {
        let request = messages::ImageRequest {
            image: Some(image_spec(reference)),
        };
        let answer: messages::ImageStatusResponse =
            self.call("/runtime.v1.ImageService/ImageStatus", request)?;
        Ok(answer.image.is_some())
    }

    /// Starts a pod in a kubelet's order: sandbox, pull, create, start. Its cgroup lies in
    /// `/kubepods/besteffort`, and it uses the host's network.
    pub fn run(&self, spec: &PodSpec<'_>) -> Result<CriPod> {
        self.run_pod(spec, &uuid()?)
    }

    /// Like [`Self::run`], for a Pod of the API server with a given UID.
    pub fn run_pod(&self, spec: &PodSpec<'_>, uid: &str) -> Result<CriPod> {
        let uid = uid.to_owned();
        let sandbox = self.sandbox_config(spec, &uid);
        let request = messages::RunPodSandboxRequest {
            config: Some(sandbox.clone()),
        };
        let sandbox_id: String = self.call("/runtime.v1.RuntimeService/RunPodSandbox", request)?;
        let started = self.run_container(spec, &uid, &sandbox_id, sandbox);
        match started {
            Ok((container_id, image_id)) => Ok(CriPod {
                sandbox_id,
                container_id,
                uid,
                image_id,
            }),
            Err(error) => {
                self.remove_sandbox(&sandbox_id, &uid)?;
                Err(error)
            }
        }
    }

    /// Starts one more container in a pod's sandbox; returns its id.
    pub fn add_container(&self, pod: &CriPod, spec: &PodSpec<'_>) -> Result<String> {
        let sandbox = self.sandbox_config(spec, &pod.uid);
        let started = self.run_container(spec, &pod.uid, &pod.sandbox_id, sandbox)?;
        Ok(started.0)
    }

    /// Ends a container and removes it; the sandbox stays.
    pub fn remove_container(&self, container_id: &str) -> Result<()> {
        let request = messages::StopContainerRequest {
            container_id: container_id.to_owned(),
            timeout: 0,
        };
        let () = self.call("/runtime.v1.RuntimeService/StopContainer", request)?;
        let request = container_id.to_owned();
        self.call("/runtime.v1.RuntimeService/RemoveContainer", request)
    }

    /// Ends a pod and removes it, with its cgroup.
    pub fn remove(&self, pod: &CriPod) -> Result<()> {
        self.remove_sandbox(&pod.sandbox_id, &pod.uid)
    }

    fn run_container(
        &self,
        spec: &PodSpec<'_>,
        uid: &str,
        sandbox_id: &str,
        sandbox: messages::PodSandboxConfig,
    ) -> Result<(String, String)> {
        let request = messages::PullImageRequest {
            image: Some(image_spec(spec.image)),
            sandbox_config: Some(sandbox.clone()),
        };
        let image_ref: String = match self.call("/runtime.v1.ImageService/PullImage", request) {
            // A name that only this node has.
            Err(_) if self.has_image(spec.image)? => spec.image.to_owned(),
            pulled => pulled?,
        };
        let request = messages::CreateContainerRequest {
            pod_sandbox_id: sandbox_id.to_owned(),
            config: Some(container_config(spec, uid, &image_ref)),
            sandbox_config: Some(sandbox),
        };
        let container_id: String =
            self.call("/runtime.v1.RuntimeService/CreateContainer", request)?;
        let request = container_id.clone();
        let () = self.call("/runtime.v1.RuntimeService/StartContainer", request)?;
        Ok((container_id, image_ref))
    }

    /// Stops and removes all pods; their parent cgroups have to be removed by their maker.
    pub fn remove_all(&self) -> Result<()> {
        let call = "/runtime.v1.RuntimeService/ListPodSandbox";
        let sandboxes: messages::ListPodSandboxResponse = self.call(call, ())?;
        sandboxes.ids.iter().try_for_each(|id| self.end_sandbox(id))
    }

    fn end_sandbox(&self, id: &str) -> Result<()> {
        for call in [
            "/runtime.v1.RuntimeService/StopPodSandbox",
            "/runtime.v1.RuntimeService/RemovePodSandbox",
        ] {
            let () = self.call(call, id.to_owned())?;
        }
        Ok(())
    }

    fn remove_sandbox(&self, sandbox_id: &str, uid: &str) -> Result<()> {
        self.end_sandbox(sandbox_id)?;
        // As a kubelet does; runtimes do not remove the pod's own cgroup.
        hierarchy::remove(self.cgroup_parent(uid).trim_start_matches('/'));
        Ok(())
    }

    fn sandbox_config(&self, spec: &PodSpec<'_>, uid: &str) -> messages::PodSandboxConfig {
        messages::PodSandboxConfig {
            metadata: Some(messages::PodSandboxMetadata {
                name: spec.name.to_owned(),
                uid: uid.to_owned(),
                namespace: spec.namespace.to_owned(),
                attempt: 0,
            }),
            labels: pod_labels(spec, uid),
            annotations: pairs([
                (
                    "kubernetes.io/config.seen",
                    "2026-01-01T00:00:00.000000000Z",
                ),
                ("kubernetes.io/config.source", SOURCE_API),
            ]),
            linux: Some(messages::LinuxPodSandboxConfig {
                cgroup_parent: self.cgroup_parent(uid),
                security_context: Some(messages::LinuxSandboxSecurityContext {
                    namespace_options: Some(host_network()),
                }),
            }),
        }
    }

    /// A Pod's cgroup as a kubelet names it.
    fn cgroup_parent(&self, uid: &str) -> String {
        if self.systemd_cgroup {
            let uid = uid.replace('-', "_");
            format!("/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod{uid}.slice")
        } else {
            format!("/kubepods/besteffort/pod{uid}")
        }
    }

    fn call<Q, A>(&self, method: &'static str, request: Q) -> Result<A>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        let failed = |status| Error::Rpc {
            call: method,
            source: Box::new(status),
        };
        self.runtime
            .block_on(async {
                let mut client = Grpc::new(self.channel.clone());
                client
                    .ready()
                    .await
                    .map_err(|error| tonic::Status::unavailable(error.to_string()))?;
                let codec = tonic_prost::ProstCodec::<Q, A>::default();
                client
                    .unary(
                        tonic::Request::new(request),
                        PathAndQuery::from_static(method),
                        codec,
                    )
                    .await
            })
            .map(tonic::Response::into_inner)
            .map_err(failed)
    }
}

fn container_config(spec: &PodSpec<'_>, uid: &str, image_id: &str) -> messages::ContainerConfig {
    let mut labels = pod_labels(spec, uid);
    labels.insert(
        "io.kubernetes.container.name".to_owned(),
        spec.container.to_owned(),
    );
    messages::ContainerConfig {
        metadata: Some(messages::ContainerMetadata {
            name: spec.container.to_owned(),
            attempt: 0,
        }),
        image: Some(messages::ImageSpec {
            image: image_id.to_owned(),
            user_specified_image: spec.image.to_owned(),
        }),
        command: spec.command.iter().map(|&word| word.to_owned()).collect(),
        labels,
        annotations: pairs([
            ("io.kubernetes.container.hash", "5a1d"),
            ("io.kubernetes.container.restartCount", "0"),
            ("io.kubernetes.pod.terminationGracePeriod", "30"),
        ]),
        linux: Some(messages::LinuxContainerConfig {
            resources: Some(messages::LinuxContainerResources {
                cpu_shares: 2,
                oom_score_adj: 1000,
            }),
            security_context: Some(messages::LinuxContainerSecurityContext {
                namespace_options: Some(host_network()),
            }),
        }),
    }
}

fn pod_labels(spec: &PodSpec<'_>, uid: &str) -> HashMap<String, String> {
    pairs([
        ("app", spec.name),
        ("io.kubernetes.pod.name", spec.name),
        ("io.kubernetes.pod.namespace", spec.namespace),
        ("io.kubernetes.pod.uid", uid),
    ])
}

fn image_spec(reference: &str) -> messages::ImageSpec {
    messages::ImageSpec {
        image: reference.to_owned(),
        user_specified_image: String::new(),
    }
}

fn host_network() -> messages::NamespaceOption {
    messages::NamespaceOption {
        network: messages::MODE_NODE,
        pid: messages::MODE_CONTAINER,
    }
}

fn pairs<const N: usize>(pairs: [(&str, &str); N]) -> HashMap<String, String> {
    pairs
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into()
}

/// A random UUID, from the kernel.
fn uuid() -> Result<String> {
    const SOURCE: &str = "/proc/sys/kernel/random/uuid";
    let text = std::fs::read_to_string(SOURCE).map_err(Error::io(SOURCE))?;
    Ok(text.trim().to_owned())
}
