//! The Kubernetes container runtime interface, version 1: the kubelet's containers.
//!
//! The runtime sets its image fields, not the Pod: if one digest has several names, `image` is any
//! of them. Only `user_specified_image` is the Pod's own text, and only a kubelet since Kubernetes
//! 1.28 sends it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::labels::Labels;
use super::transport::{DEADLINE, Transport};
use super::{EvidenceError, LARGEST_NAMES};
use crate::pods::PodName;

mod claim;
mod info;
mod wire;

/// A client of one CRI server.
#[derive(Clone, Debug)]
pub struct Cri {
    transport: Transport,
}

/// The server that answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CriVersion {
    /// The runtime's name, such as `containerd` or `cri-o`.
    pub runtime: String,
    /// The runtime's version.
    pub version: String,
    /// The version of the interface, such as `v1`.
    pub api: String,
}

/// A container of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CriContainer {
    /// The container's id.
    pub id: String,
    /// The sandbox that it runs in.
    pub sandbox_id: Option<String>,
    /// The container's name in its Pod.
    pub name: String,
    /// A name of its image, or its id; any of several.
    pub image: String,
    /// The digest it was resolved to, as `repository@digest` or an image id;
    /// the repository is any of several, the digest is exact.
    pub image_ref: String,
    /// The image's id; runtimes before CRI 1.29 do not send it.
    pub image_id: Option<String>,
    /// The image as the Pod's specification spells it, if the kubelet sent it.
    pub user_specified_image: Option<String>,
    /// Its first process as the host numbers it, while it runs. containerd's CRI plugin does not
    /// know it before the process has begun.
    pub pid: Option<u32>,
    /// Whether it was restored from a checkpoint, with that one's files and memory on top of the image.
    pub is_restored: bool,
}

/// A pod's sandbox, which is itself a container (of the pause image) under most runtimes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CriSandbox {
    /// The sandbox's id.
    pub id: String,
    /// The Pod.
    pub pod: PodName,
    /// The Pod's labels.
    pub labels: BTreeMap<String, String>,
    /// The Pod's annotations.
    pub annotations: BTreeMap<String, String>,
    /// The sandbox's own image.
    pub image: Option<String>,
    /// Its process as the host numbers it.
    pub pid: Option<u32>,
}

/// An image that the runtime holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CriImage {
    /// The digest of its configuration.
    pub id: String,
    /// Every name with a tag.
    pub repo_tags: Vec<String>,
    /// Every `repository@digest`.
    pub repo_digests: Vec<String>,
}

impl Cri {
    /// A client of the server at `socket`, which need not exist yet.
    ///
    /// Must be called within a Tokio runtime.
    pub fn connect(socket: PathBuf) -> Self {
        Self {
            transport: Transport::new(socket, DEADLINE),
        }
    }

    /// Checks whether the runtime hangs. While it hangs, calls fail at once.
    pub fn check(&self) {
        self.transport.check();
    }

    /// The socket's path.
    pub fn socket(&self) -> &Path {
        self.transport.socket()
    }

    /// Which runtime answers. Fails with [`EvidenceError::Protocol`] if the socket does not support
    /// version 1 of the interface.
    pub async fn version(&self) -> Result<CriVersion, EvidenceError> {
        let answer: wire::VersionResponse = self
            .transport
            .ask("/runtime.v1.RuntimeService/Version", None, ())
            .await?;
        Ok(CriVersion {
            runtime: answer.runtime_name,
            version: answer.runtime_version,
            api: answer.runtime_api_version,
        })
    }

    /// The image that the runtime's configuration names for all sandboxes. `None` if the runtime
    /// does not show that: only containerd up to 1.7 does.
    pub async fn sandbox_image(&self) -> Result<Option<String>, EvidenceError> {
        let answer: wire::StatusResponse = self
            .transport
            .ask(
                "/runtime.v1.RuntimeService/Status",
                None,
                wire::StatusRequest { verbose: true },
            )
            .await?;
        Ok(info::sandbox_image(&answer.info))
    }

    /// One container, with the fields of the verbose answer, unless that is too large. Not for a
    /// sandbox.
    pub async fn container(&self, id: &str) -> Result<Option<CriContainer>, EvidenceError> {
        let ask = |verbose| {
            let request = wire::StatusOfRequest {
                id: id.to_owned(),
                verbose,
            };
            let method = "/runtime.v1.RuntimeService/ContainerStatus";
            self.transport.call(method, None, request)
        };
        let answer: Option<wire::ContainerStatusResponse> = verbose_or_terse(ask).await?;
        let container = answer.and_then(|answer| {
            // Servers accept the beginning of an id in place of the id.
            let status = answer.status.filter(|status| status.id == id)?;
            Some(CriContainer::of_status(status, info::parse(&answer.info)))
        });
        match container {
            // Whoever writes the Pod can make the verbose answer too large.
            Some(container) if container.sandbox_id.is_none() => Ok(Some(CriContainer {
                // Without an answer, the rest still counts.
                sandbox_id: self.sandbox_of(id).await.ok().flatten(),
                ..container
            })),
            container => Ok(container),
        }
    }

    /// The sandbox of a container, by the list of containers.
    async fn sandbox_of(&self, id: &str) -> Result<Option<String>, EvidenceError> {
        let filter = wire::ContainerFilter { id: id.to_owned() };
        let request = wire::ListContainersRequest {
            filter: Some(filter),
        };
        let method = "/runtime.v1.RuntimeService/ListContainers";
        let answer: Option<wire::ListContainersResponse> =
            self.transport.call(method, None, request).await?;
        let mut listed = answer.into_iter().flat_map(|answer| answer.containers);
        let found = listed.find(|container| container.id == id);
        Ok(found.and_then(|container| non_empty(container.pod_sandbox_id)))
    }

    /// One pod sandbox, with the fields of the verbose answer, unless that is too large.
    pub async fn sandbox(&self, id: &str) -> Result<Option<CriSandbox>, EvidenceError> {
        let ask = |verbose| {
            let request = wire::StatusOfRequest {
                id: id.to_owned(),
                verbose,
            };
            let method = "/runtime.v1.RuntimeService/PodSandboxStatus";
            self.transport.call(method, None, request)
        };
        let answer: Option<wire::PodSandboxStatusResponse> = verbose_or_terse(ask).await?;
        Ok(answer.and_then(|answer| {
            let status = answer.status.filter(|status| status.id == id)?;
            let info = info::parse(&answer.info);
            let metadata = status.metadata.unwrap_or_default();
            Some(CriSandbox {
                id: status.id,
                pod: PodName {
                    namespace: metadata.namespace,
                    name: metadata.name,
                    uid: metadata.uid,
                },
                labels: status.labels,
                annotations: status.annotations,
                pid: info.pid(),
                image: info.image,
            })
        }))
    }

    /// The image that `reference` (a name, a `repository@digest` or an image id) refers to, with
    /// all its names.
    pub async fn image(&self, reference: &str) -> Result<Option<CriImage>, EvidenceError> {
        let image = Some(wire::ImageSpec {
            image: reference.to_owned(),
            ..Default::default()
        });
        let answer: Option<wire::ImageStatusResponse> = self
            .transport
            .with_limit(LARGEST_NAMES)
            .call(
                "/runtime.v1.ImageService/ImageStatus",
                None,
                wire::ImageStatusRequest { image },
            )
            .await?;
        Ok(answer
            .and_then(|answer| answer.image)
            .map(|image| CriImage {
                id: image.id,
                repo_tags: image.repo_tags,
                repo_digests: image.repo_digests,
            }))
    }
}

/// The verbose answer; if that fails because it is too large, the terse one. The verbose answer
/// holds the whole OCI configuration twice: with a megabyte of environment it is longer than
/// servers send.
async fn verbose_or_terse<A, F>(ask: impl Fn(bool) -> F) -> Result<Option<A>, EvidenceError>
where
    F: Future<Output = Result<Option<A>, EvidenceError>>,
{
    match ask(true).await {
        Err(EvidenceError::TooLarge { .. }) => ask(false).await,
        answer => answer,
    }
}

impl CriContainer {
    fn of_status(status: wire::ContainerStatus, info: info::Info) -> Self {
        let image = status.image.unwrap_or_default();
        let pid = info.pid();
        let annotations = status.annotations.map(Labels::into_kept);
        let asked = info.config.and_then(|config| config.image);
        Self {
            id: status.id,
            sandbox_id: info.sandbox_id.and_then(non_empty),
            name: status.metadata.unwrap_or_default().name,
            image: image.image,
            image_ref: status.image_ref,
            image_id: non_empty(status.image_id),
            user_specified_image: non_empty(image.user_specified_image).or(asked
                .and_then(|image| image.user_specified_image)
                .and_then(non_empty)),
            pid,
            is_restored: info.restored || annotations.is_some_and(|it| !it.is_empty()),
        }
    }
}

fn non_empty(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests;
