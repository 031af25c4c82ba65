//! Whether a process runs on the root file system that a runtime made for its container.

use super::described::{Described, Root, Snapshot};
use super::{Asked, Sources};
use crate::claim::{Claim, Content};
use crate::evidence::bundle::LARGEST_CONFIG;
use crate::evidence::containerd::{Containerd, TaskRecord};
use crate::evidence::root::{IsRoot, Mount};
use crate::evidence::spec::may_hook_start;
use crate::hierarchy;
use crate::process::Subject;
use std::path::Path;
use std::sync::Arc;

/// The claim about a process, if that was compared with the root that the runtime made.
pub(super) fn on_root(claim: Claim, is_root: Option<IsRoot>) -> Claim {
    match is_root {
        Some(IsRoot::No) => Claim {
            content: Content::OfAnotherRoot,
            ..claim
        },
        _ => claim,
    }
}

/// Processes that a first process left behind whose roots are compared.
const MOST_LEFT: usize = 64;

impl Sources {
    /// The mount of a snapshot, and whether it is the root of a process: the client that creates a task
    /// chooses its mounts. Also the key of the snapshot that many below it. Whatever is asked in
    /// between is about one snapshot if its record is the same before and after: its key may be given
    /// to another one, which can have equal mounts, but was made later. While it exists, those below
    /// it cannot be removed.
    pub(super) async fn snapshot_of(
        self: &Arc<Self>,
        asked: &Asked,
        containerd: &Containerd,
        snapshot: Snapshot<'_>,
        below: usize,
        process: Subject,
    ) -> Option<(Root, String, IsRoot)> {
        let record = asked.snapshot(containerd, snapshot).await?;
        let mount = asked.mount_of(containerd, snapshot).await?;
        let mut key = record.parent.clone();
        for _ in 1..below {
            let parent = Snapshot {
                key: &key,
                ..snapshot
            };
            key = asked.snapshot(containerd, parent).await?.parent;
        }
        if asked.snapshot(containerd, snapshot).await.as_ref() != Some(&record) {
            return None;
        }
        let root = Root::Snapshot(mount, snapshot.at());
        let is_its = self.is_on(asked, &root, process).await;
        Some((root, key, is_its))
    }

    /// Whether a hook may replace the root before the program begins. The bundle has the
    /// configuration that the task was made with, and exists at least until the program ends.
    pub(super) async fn may_be_hooked(
        self: &Arc<Self>,
        task: &TaskRecord,
        process: Subject,
    ) -> bool {
        let sources = Arc::clone(self);
        let (namespace, id) = (task.namespace.clone(), task.id.clone());
        let read = move || {
            let bundles = &sources.bundles;
            let json = bundles.configuration(&namespace, &id, process, LARGEST_CONFIG)?;
            Ok(json.is_none_or(|json| may_hook_start(&json)))
        };
        self.readers.run(read).await.unwrap_or(true)
    }

    async fn is_on(self: &Arc<Self>, asked: &Asked, root: &Root, process: Subject) -> IsRoot {
        let root = root.clone();
        let compare = move |it: &Self| Ok(root.is_of(&it.host_root, &it.proc, process));
        let is_root = self.read(asked, compare).await;
        is_root.unwrap_or(IsRoot::Unknown)
    }

    /// Compares the root once more. Between the creation of a task and the start of its program,
    /// hooks of the container and root on the node can replace it.
    pub(super) async fn compare_root(
        self: &Arc<Self>,
        asked: &Asked,
        described: &mut Described,
        cgroup: &Path,
    ) {
        let process = described.process;
        let Some(root) = described.root.clone() else {
            return;
        };
        let (cgroup, may_be_hooked) = (cgroup.to_owned(), described.may_be_hooked);
        let compare = move |it: &Self| {
            let is_of = |process| root.is_of(&it.host_root, &it.proc, process);
            let is_root = is_of(process);
            if is_root != IsRoot::Unknown || may_be_hooked {
                return Ok(is_root);
            }
            // A process that has ended shows no root; those that it left behind do.
            let Some(left) = hierarchy::processes_below(&cgroup)
                .ok()
                .filter(|it| it.len() <= MOST_LEFT)
            else {
                return Ok(IsRoot::Unknown);
            };
            let is_its = |pid| {
                let process = Subject::now(&it.proc, pid);
                is_of(process) == IsRoot::Yes || !process.is_alive(&it.proc)
            };
            Ok(if left.into_iter().all(is_its) {
                IsRoot::Yes
            } else {
                IsRoot::Unknown
            })
        };
        let is_root = self.read(asked, compare).await;
        let is_root = is_root.unwrap_or(IsRoot::Unknown);
        if is_root == IsRoot::Yes {
            return;
        }
        let claims = [&mut described.cri, &mut described.dockers];
        let claims = claims.into_iter().flatten();
        for claim in claims.chain([&mut described.containerd]) {
            claim.content = if is_root == IsRoot::No {
                Content::OfAnotherRoot
            } else {
                Content::Another
            };
        }
        described.layers = None;
    }
}

impl Asked {
    /// The mount of a snapshot that consists of one.
    async fn mount_of(&self, containerd: &Containerd, snapshot: Snapshot<'_>) -> Option<Mount> {
        let Snapshot {
            namespace,
            snapshotter,
            key,
            ..
        } = snapshot;
        let mounts = containerd.mounts_of(namespace, snapshotter, key).await;
        let mounts = self
            .remote(containerd.socket().display(), mounts)
            .flatten()?;
        let [mount] = <[Mount; 1]>::try_from(mounts).ok()?;
        Some(mount)
    }
}
