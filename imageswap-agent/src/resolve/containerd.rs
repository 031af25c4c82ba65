//! Asks a containerd for the task of a process, and for a container's image.

use super::Asked;
use super::bounds::few_names;
use super::cri::CRI_NAMESPACE;
use super::described::Snapshot;
use crate::claim::{Claim, Content};
use crate::evidence::EvidenceError;
use crate::evidence::containerd::{
    Configuration, ContainerRecord, Containerd, Named, Names, SnapshotRecord, TaskRecord,
};
use std::collections::BTreeSet;
use std::sync::Arc;
use tokio::join;

/// A containerd is asked for one id in this many namespaces; then it lists its tasks.
const MOST_GUESSES: usize = 8;
/// The namespaces of the CRI plugin, of Docker, and of native clients.
const USUAL: [&str; 3] = [CRI_NAMESPACE, "moby", "default"];

/// A containerd's claim, and what it is based on.
pub(super) struct OfRecord {
    pub claim: Claim,
    /// The configuration of the image, if the container runs on its layers.
    pub image: Option<Configuration>,
}

impl Asked {
    /// containerd's claim about a container whose process runs on `layers`.
    pub(super) async fn containerd_claim(
        &self,
        containerd: &Containerd,
        record: &ContainerRecord,
        named: Named,
        layers: Option<&str>,
    ) -> OfRecord {
        let image = match &named.digest {
            // Unknown names and sources could speak against the image.
            Some(digest) if named.names.is_some() && named.pulled_from.is_some() => {
                self.image_on(containerd, &record.namespace, digest, layers)
                    .await
            }
            _ => None,
        };
        OfRecord {
            claim: record.claim(named, Content::of(image.is_some())),
            image,
        }
    }

    /// The image of a container's record: its digest, and that digest's names and sources.
    pub(super) async fn named(&self, containerd: &Containerd, record: &ContainerRecord) -> Named {
        let socket = containerd.socket().display();
        let namespace = record.namespace.as_str();
        let image = match record.image.as_str() {
            "" => None,
            name => self.remote(&socket, containerd.image(namespace, name).await),
        };
        let Some(digest) = image.flatten() else {
            return Named::default();
        };
        let (names, sources) = join!(
            self.names_of(containerd, namespace, &digest, &record.image),
            containerd.sources(namespace, &digest)
        );
        Named {
            names,
            pulled_from: self.remote(&socket, sources).flatten(),
            digest: Some(digest),
        }
    }

    /// The names of a digest. If there are many, those in the repository of `image` come first.
    pub(super) async fn names_of(
        &self,
        containerd: &Containerd,
        namespace: &str,
        digest: &str,
        image: &str,
    ) -> Option<Names> {
        let names = containerd.names_of(namespace, digest).await;
        let left_out = matches!(names, Err(EvidenceError::TooLarge { .. }));
        let known = if left_out {
            Vec::new()
        } else {
            self.remote(containerd.socket().display(), names)?
        };
        Some(few_names(image, Names { known, left_out }))
    }

    /// containerd's record of a snapshot.
    pub(super) async fn snapshot(
        &self,
        containerd: &Containerd,
        snapshot: Snapshot<'_>,
    ) -> Option<SnapshotRecord> {
        let Snapshot {
            namespace,
            snapshotter,
            key,
            ..
        } = snapshot;
        let found = containerd.snapshot(namespace, snapshotter, key).await;
        self.remote(containerd.socket().display(), found).flatten()
    }

    /// Whether these are the layers of the container's recorded image: the name may have been given
    /// to another image since, and clients of containerd can record any image.
    pub(super) async fn runs_on(
        &self,
        containerd: &Containerd,
        namespace: &str,
        digest: &str,
        layers: Option<&str>,
    ) -> Content {
        let image = self.image_on(containerd, namespace, digest, layers).await;
        Content::of(image.is_some())
    }

    /// The configuration of the image `digest`, if these are its layers.
    async fn image_on(
        &self,
        containerd: &Containerd,
        namespace: &str,
        digest: &str,
        layers: Option<&str>,
    ) -> Option<Configuration> {
        let images = containerd.configurations(namespace, digest).await;
        let images = self.remote(containerd.socket().display(), images);
        let mut images = images.into_iter().flatten();
        images.find(|image| Some(&*image.chain) == layers)
    }
}

/// The task of one containerd with one of these processes.
pub(super) async fn task_of(
    containerd: &Containerd,
    pids: &BTreeSet<u32>,
    hints: &[(Option<String>, String)],
) -> (Option<TaskRecord>, Asked) {
    let asked = Asked::default();
    let found = find(containerd, pids, hints).await;
    let found = asked.remote(containerd.socket().display(), found).flatten();
    (found, asked)
}

async fn find(
    containerd: &Containerd,
    pids: &BTreeSet<u32>,
    hints: &[(Option<String>, String)],
) -> Result<Option<TaskRecord>, Arc<EvidenceError>> {
    let is_its = |task: &TaskRecord| pids.contains(&task.pid) && task.status.has_process();
    for (namespace, id) in hints {
        let namespaces = if let Some(namespace) = namespace {
            vec![namespace.clone()]
        } else {
            let mut all = containerd.namespaces().await?;
            all.sort_by_key(|name| !USUAL.contains(&name.as_str()));
            all
        };
        for namespace in namespaces.into_iter().take(MOST_GUESSES) {
            let task = containerd.task(&namespace, id).await?;
            if let Some(task) = task.filter(is_its) {
                return Ok(Some(task));
            }
        }
    }
    let tasks = containerd.tasks_from_now().await?;
    Ok(tasks.iter().find(|task| is_its(task)).cloned())
}
