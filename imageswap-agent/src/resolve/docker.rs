//! Asks about Docker's containers: dockerd's records and, if containerd keeps the images, containerd.

use super::described::{Root, Snapshot};
use super::root::on_root;
use super::{Asked, Sources};
use crate::claim::{Claim, Content};
use crate::evidence::containerd::{ContainerRecord, Containerd};
use crate::evidence::docker::{self, DockerContainer, Known, Store};
use crate::evidence::root::IsRoot;
use crate::process::Subject;
use std::path::Path;
use std::sync::Arc;

/// What Docker has about a container.
enum Found {
    /// All that it needs: the claim, and the root file system if the process runs on it.
    Claim(Box<Claim>, Option<Root>),
    /// The container, whose image is in containerd, and its snapshotter.
    InContainerd(DockerContainer, String),
}

impl Sources {
    /// Docker's claim about the container `id` with this process, if Docker made the root file
    /// system `root` that the container was started on, and that root, if the process runs on it and
    /// it consists of the image's layers. `keeper` is the containerd that runs it, and its record.
    pub(super) async fn of_docker(
        self: &Arc<Self>,
        asked: &Asked,
        root: &Path,
        id: &str,
        process: Subject,
        keeper: Option<(&Containerd, &ContainerRecord)>,
    ) -> Option<(Claim, Option<Root>)> {
        let (root, of) = (root.to_owned(), id.to_owned());
        let found = move |it: &Self| {
            let roots = it.dockers.of_node(&it.host_root, &it.proc);
            let found = docker::of_root(&it.host_root, &roots, &root, &of)?;
            Ok(found.map(|found| match &found.store {
                Store::Docker { image, made } => {
                    let known = image.as_ref().map(|it| Known::of_docker(&found, it));
                    let made = made.clone().map(Root::Made);
                    let is_of = |made: &Root| made.is_of(&it.host_root, &it.proc, process);
                    let is_root = made.as_ref().map(is_of);
                    let made = made.filter(|_| is_root == Some(IsRoot::Yes));
                    let claim = on_root(found.claim(&of, known, made.is_some()), is_root);
                    Found::Claim(Box::new(it.common.bounded(claim)), made)
                }
                Store::Containerd { snapshotter } => {
                    let snapshotter = snapshotter.clone();
                    Found::InContainerd(found, snapshotter)
                }
            }))
        };
        let (claim, root) = match (self.read(asked, found).await.flatten()?, keeper) {
            (Found::Claim(claim, root), _) => (*claim, root),
            (Found::InContainerd(found, snapshotter), Some((containerd, record))) => {
                let (root, is_root) = self
                    .dockers_snapshot(asked, containerd, record, &snapshotter, &found, process)
                    .await
                    .unzip();
                let root = root.flatten();
                let known = of_containerd(asked, &found, containerd, &record.namespace).await;
                let claim = found.claim(id, known, root.is_some());
                (on_root(claim, is_root), root)
            }
            (Found::InContainerd(found, _), None) => (found.claim(id, None, false), None),
        };
        let claim = Claim {
            runtime_namespace: keeper.map(|(_, record)| record.namespace.clone()),
            ..claim
        };
        Some((claim, root))
    }

    /// The snapshot that dockerd made in containerd, if it is the root of the process and has the
    /// image's layers, and whether it is that root: between the two lies a layer with files that Docker puts into every
    /// container.
    async fn dockers_snapshot(
        self: &Arc<Self>,
        asked: &Asked,
        containerd: &Containerd,
        record: &ContainerRecord,
        snapshotter: &str,
        found: &DockerContainer,
        process: Subject,
    ) -> Option<(Option<Root>, IsRoot)> {
        let key = Snapshot {
            namespace: &record.namespace,
            snapshotter,
            key: &record.id,
            container: &record.id,
            folder: record.root.as_deref(),
        };
        let found_root = self.snapshot_of(asked, containerd, key, 2, process);
        let (root, layers, is_root) = found_root.await?;
        let image = &found.image_id;
        let content = asked.runs_on(containerd, &record.namespace, image, Some(&layers));
        let is_its = content.await == Content::Its && is_root == IsRoot::Yes;
        Some((is_its.then_some(root), is_root))
    }
}

/// `None` if containerd does not have the image, or did not answer.
async fn of_containerd(
    asked: &Asked,
    found: &DockerContainer,
    containerd: &Containerd,
    namespace: &str,
) -> Option<Known> {
    let socket = containerd.socket().display();
    let digest = found.image_id.as_str();
    let names = asked
        .names_of(containerd, namespace, digest, &found.typed)
        .await?;
    let sources = asked.remote(&socket, containerd.sources(namespace, digest).await)?;
    Some(Known::of_containerd(found, names, sources?))
}
