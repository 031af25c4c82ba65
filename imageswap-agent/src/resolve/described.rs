//! The description of a task from containerd and Docker, and the root file system that it is about.

use super::bounds::bytes_of;
use crate::claim::{Claim, Content};
use crate::evidence::containerd::{ContainerRecord, ROOTFS, TaskRecord};
use crate::evidence::docker::without_image;
use crate::evidence::root::{self, IsRoot, Made, Mount};
use crate::process::Subject;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// The descriptions of a task from containerd and Docker, not yet joined to a start.
pub(super) struct Described {
    pub task: TaskRecord,
    /// The task's process.
    pub process: Subject,
    pub containerd: Claim,
    /// The snapshot below the container's own.
    pub layers: Option<String>,
    pub dockers: Option<Claim>,
    /// The CRI's claim, if the CRI knew the container already.
    pub cri: Option<Claim>,
    /// The root file system that the claims are about, if the process had it.
    pub root: Option<Root>,
    /// Whether a hook may have replaced the root after the claims were made.
    pub may_be_hooked: bool,
    /// Whether containerd confirmed the task's process while it lived.
    pub is_joined: bool,
}

impl Described {
    #[cfg(test)]
    pub(super) fn of_nothing(process: Subject) -> Self {
        use crate::claim::Source;
        use crate::evidence::containerd::TaskStatus;
        Self {
            task: TaskRecord {
                namespace: String::new(),
                socket: "/x.sock".into(),
                id: String::new(),
                pid: process.pid,
                status: TaskStatus::Created,
            },
            process,
            containerd: Claim::new(Source::Containerd, "", "containerd"),
            layers: None,
            dockers: None,
            cri: None,
            root: None,
            may_be_hooked: true,
            is_joined: true,
        }
    }

    /// What it takes in memory, without what it shares with others.
    pub(super) fn bytes(&self) -> usize {
        let claims = [
            Some(&self.containerd),
            self.dockers.as_ref(),
            self.cri.as_ref(),
        ];
        claims.into_iter().flatten().map(bytes_of).sum()
    }

    /// The claims about a start that only an event joins to this record.
    pub(super) fn accusation(self) -> Vec<Claim> {
        let containerd = if self.dockers.is_some() {
            without_image(self.containerd)
        } else {
            self.containerd
        };
        let records = [Some(containerd), self.dockers].into_iter().flatten();
        let accuse = |claim: Claim| Claim {
            // Only the CRI can decide about the image of a Pod's container.
            image: claim.image.filter(|_| !claim.through_cri),
            names: if claim.through_cri {
                BTreeSet::new()
            } else {
                claim.names
            },
            digest: None,
            content: Content::Another,
            pod: None,
            ..claim
        };
        records.map(accuse).collect()
    }
}

/// The root file system that a runtime made for a container.
#[derive(Clone)]
pub(super) enum Root {
    /// A snapshot's mount, and the end of the folder in which the runtime has made it.
    Snapshot(Mount, PathBuf),
    /// Docker's.
    Made(Made),
}

impl Root {
    /// Whether it is the root of this process. A mount that cannot be compared counts as the root.
    pub(super) fn is_of(&self, host_root: &Path, proc: &Path, process: Subject) -> IsRoot {
        match self {
            Self::Snapshot(mount, at) => {
                root::is_mount(proc, process, mount, at).unwrap_or(IsRoot::Yes)
            }
            Self::Made(made) => made.is_root_of(host_root, proc, process),
        }
    }
}

/// A snapshot of a containerd.
#[derive(Clone, Copy)]
pub(super) struct Snapshot<'a> {
    pub namespace: &'a str,
    pub snapshotter: &'a str,
    pub key: &'a str,
    /// The id of the container that runs on it.
    pub container: &'a str,
    /// The folder in which it is mounted, if that is not the bundle's.
    pub folder: Option<&'a Path>,
}

impl<'a> Snapshot<'a> {
    /// The end of the folder in which the runtime mounts it.
    pub(super) fn at(&self) -> PathBuf {
        match self.folder {
            Some(folder) => folder.to_owned(),
            None => [self.namespace, self.container, ROOTFS].iter().collect(),
        }
    }

    /// The snapshot that a container was made with.
    pub(super) fn of(record: &'a ContainerRecord) -> Option<Self> {
        let (snapshotter, key) = record.snapshot.as_ref()?;
        Some(Self {
            namespace: &record.namespace,
            snapshotter,
            key,
            container: &record.id,
            folder: record.root.as_deref(),
        })
    }
}
