//! containerd's own API: what runs in every namespace, with its image.
//!
//! Only containerd knows the image of a container started by `ctr` or nerdctl. The kubelet's
//! containers are in namespace `k8s.io`, where the recorded image may be any name of its digest.
//!
//! The socket may appear later and the daemon may restart: each call connects if necessary.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::spec::Spec;
use super::transport::{DEADLINE, LARGEST_LIST, Transport};
use super::{EvidenceError, LARGEST_NAMES, sandbox};
use crate::claim::ContentSource;
pub use claim::{Named, Names, without_labels};
pub use content::{Configuration, SnapshotRecord};
pub use events::{TaskEvent, TaskEventKind, TaskEvents};
pub use tasks::{TaskRecord, TaskStatus};

mod claim;
mod content;
mod events;
mod tasks;
mod wire;

/// A client of one containerd.
#[derive(Clone, Debug)]
pub struct Containerd {
    transport: Transport,
    configurations: content::Configurations,
    shims: tasks::Shims,
    listed: tasks::Listed,
}

/// A container in containerd's records, running or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerRecord {
    /// containerd's namespace, not a Kubernetes namespace.
    pub namespace: String,
    /// The id, unique in its namespace; free text for native clients.
    pub id: String,
    /// The image as the client named it; may be empty, an image id, or (from
    /// the CRI plugin) any of the names of one digest.
    pub image: String,
    /// Labels of the CRI plugin and the kubelet; native clients can write them, too.
    pub labels: BTreeMap<String, String>,
    /// The snapshot that it runs on: snapshotter and key; `None` for a container on a plain root
    /// folder.
    pub snapshot: Option<(String, String)>,
    /// `root.path` of the OCI configuration, as the host names it; `None` for [`ROOTFS`], the
    /// folder of the bundle in which containerd mounts the snapshot.
    pub root: Option<PathBuf>,
    /// For a sandbox, its command, if the OCI configuration is otherwise that of a sandbox.
    pub sandbox_command: Option<Vec<String>>,
}

/// `root.path` of a container whose root file system containerd mounts.
pub const ROOTFS: &str = "rootfs";

/// Bytes of a record's image or snapshot key: clients can write megabytes, and a record is kept while the
/// sources are asked.
const LONGEST: usize = 4096;

/// The label's prefix, followed by the host; the value lists repositories. containerd's puller sets
/// it (its package `core/remotes/docker`).
const SOURCE_LABEL: &str = "containerd.io/distribution.source.";

impl Containerd {
    /// A client of the daemon at `socket`, which need not exist yet.
    ///
    /// Must be called within a Tokio runtime.
    pub fn connect(socket: PathBuf) -> Self {
        Self {
            transport: Transport::new(socket, DEADLINE),
            configurations: content::Configurations::default(),
            shims: tasks::Shims::default(),
            listed: tasks::Listed::default(),
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

    /// The daemon's version, as it spells it.
    pub async fn version(&self) -> Result<String, EvidenceError> {
        let method = "/containerd.services.version.v1.Version/Version";
        self.transport.ask(method, None, ()).await
    }

    /// All namespaces.
    pub async fn namespaces(&self) -> Result<Vec<String>, EvidenceError> {
        let answer: wire::ListNamespacesResponse = self
            .transport
            .with_limit(LARGEST_LIST)
            .ask(
                "/containerd.services.namespaces.v1.Namespaces/List",
                None,
                (),
            )
            .await?;
        Ok(answer
            .namespaces
            .into_iter()
            .map(|namespace| namespace.name)
            .collect())
    }

    /// The record of one container.
    pub async fn container(
        &self,
        namespace: &str,
        id: &str,
    ) -> Result<Option<ContainerRecord>, EvidenceError> {
        let answer: Option<wire::GetContainerResponse> = self
            .transport
            .call(
                "/containerd.services.containers.v1.Containers/Get",
                Some(namespace),
                id.to_owned(),
            )
            .await?;
        Ok(answer
            .and_then(|answer| answer.container)
            .map(|container| ContainerRecord::of(namespace, container)))
    }

    /// The digest of the manifest or index that a name in the image store points to.
    pub async fn image(
        &self,
        namespace: &str,
        name: &str,
    ) -> Result<Option<String>, EvidenceError> {
        let answer: Option<wire::GetImageResponse> = self
            .transport
            .call(
                "/containerd.services.images.v1.Images/Get",
                Some(namespace),
                name.to_owned(),
            )
            .await?;
        Ok(answer
            .and_then(|answer| answer.image)
            .map(|image| image.target.unwrap_or_default().digest))
    }

    /// Every reference in the image store that points to `digest`.
    ///
    /// The CRI plugin also stores each image under its bare id, the digest of the image's
    /// configuration. That name is left out, because it is not a reference. So are names with another
    /// digest, which clients can give to any image. Fails with [`EvidenceError::TooLarge`] if there are
    /// thousands.
    pub async fn names_of(
        &self,
        namespace: &str,
        digest: &str,
    ) -> Result<Vec<String>, EvidenceError> {
        // Filters could need quoting, but digests never do.
        if !is_digest(digest) {
            return Ok(Vec::new());
        }
        let answer: wire::ListImagesResponse = self
            .transport
            .with_limit(LARGEST_NAMES)
            .ask(
                "/containerd.services.images.v1.Images/List",
                Some(namespace),
                wire::ListRequest {
                    filters: vec![format!("target.digest=={digest}")],
                },
            )
            .await?;
        let is_its = |name: &String| {
            let named = name.split_once('@').map(|(_, named)| named);
            !is_id(name) && named.is_none_or(|named| named == digest)
        };
        let names = answer.images.into_iter().map(|image| image.name);
        Ok(names.filter(is_its).collect())
    }

    /// Where the content of `digest` was pulled from, in order of host.
    ///
    /// `None` if the content does not exist. An empty list means that it exists and was never
    /// pulled: built, imported or loaded on this node.
    pub async fn sources(
        &self,
        namespace: &str,
        digest: &str,
    ) -> Result<Option<Vec<ContentSource>>, EvidenceError> {
        if !is_digest(digest) {
            return Ok(None);
        }
        let answer: Option<wire::InfoResponse> = self
            .transport
            .call(
                "/containerd.services.content.v1.Content/Info",
                Some(namespace),
                digest.to_owned(),
            )
            .await?;
        Ok(answer
            .and_then(|answer| answer.info)
            .map(|info| sources_of(&info.labels.unwrap_or_default().into_kept())))
    }

    /// Subscribes to the starts and ends of tasks in all namespaces.
    ///
    /// The subscription is sent when the events are first polled. containerd sends nothing until
    /// the first event, so the moment from which it holds is unknown: list the tasks afterwards.
    /// For the same reason a hanging daemon looks like one without events; other calls show the
    /// difference.
    ///
    /// Must be called within a Tokio runtime.
    pub fn events(&self) -> TaskEvents {
        // A connection of their own: clients can publish so many that this one is closed.
        TaskEvents::new(Transport::new(self.socket().to_owned(), DEADLINE))
    }
}

impl ContainerRecord {
    fn of(namespace: &str, container: wire::Container) -> Self {
        let json = container.spec.unwrap_or_default().value;
        let labels = container.labels.unwrap_or_default().into_kept();
        let sandbox = sandbox::is_sandbox(&labels).then_some(&json);
        let sandbox_command =
            sandbox.and_then(|json| sandbox::command(json, sandbox::Place::Record));
        // A record without an OCI configuration, as for other systems, is still a record.
        let spec: Option<Spec> = serde_json::from_slice(&json).ok();
        let spec = spec.unwrap_or_default();
        let root = spec.root_path().filter(|path| path != Path::new(ROOTFS));
        let snapshot = [container.snapshotter, container.snapshot_key];
        let is_name = |name: &String| !name.is_empty() && name.len() <= LONGEST;
        let snapshot = snapshot.iter().all(is_name).then_some(snapshot);
        // What is left of a longer one is still too long for a reference.
        let mut image = container.image;
        image.truncate(image.floor_char_boundary(LONGEST));
        image.shrink_to_fit();
        Self {
            namespace: namespace.to_owned(),
            id: container.id,
            image,
            labels,
            snapshot: snapshot.map(<(String, String)>::from),
            root,
            sandbox_command,
        }
    }
}

/// `algorithm:encoded`, with the characters that the OCI image specification allows.
fn is_digest(text: &str) -> bool {
    let is_part = |part: &str, more: &[u8]| {
        !part.is_empty()
            && part
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || more.contains(&b))
    };
    text.split_once(':')
        .is_some_and(|(algorithm, hex)| is_part(algorithm, b"+._-") && is_part(hex, b"=_-"))
}

/// Whether a name in the image store is the CRI plugin's for an image id.
fn is_id(name: &str) -> bool {
    name.strip_prefix("sha256:")
        .is_some_and(|hex| hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_hexdigit()))
}

fn sources_of(labels: &BTreeMap<String, String>) -> Vec<ContentSource> {
    labels
        .iter()
        .filter_map(|(key, value)| Some((key.strip_prefix(SOURCE_LABEL)?, value)))
        .flat_map(|(host, repositories)| {
            repositories
                .split(',')
                .filter(|repository| !repository.is_empty())
                .map(|repository| ContentSource {
                    host: host.to_owned(),
                    repository: repository.to_owned(),
                    has_port: false,
                })
        })
        .collect()
}

#[cfg(test)]
mod tests;
