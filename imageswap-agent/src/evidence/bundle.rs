//! OCI bundles: the configuration that a container is started from, on disk.
//!
//! The runtime writes it before it makes the container's cgroup, so it exists when the kernel
//! reports the cgroup, and needs no socket. Its annotations come from the client: anyone who may
//! start a container may write them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::spec::Spec;
use super::{EvidenceError, entries, is_component, on_host, read_json, read_of_root, root};
use crate::claim::{Claim, Kind, Naming, Source};
use crate::pods::PodName;
use crate::process::{Recorded, Subject, ancestors};

/// Where containerd keeps its state by default, then one that dockerd starts, k3s and RKE2, k0s, MicroK8s.
pub const STATE_DIRS: [&str; 5] = [
    "/run/containerd",
    "/run/docker/containerd/daemon",
    "/run/k3s/containerd",
    "/run/k0s/containerd",
    "/var/snap/microk8s/common/run/containerd",
];

/// Below a state folder: a folder for each namespace, in it one for each container.
const TASKS: &str = "io.containerd.runtime.v2.task";

/// The folder of a bundle in which a shim mounts the root file system.
pub(super) const ROOTFS: &str = "rootfs";

/// The file in a bundle.
const CONFIG: &str = "config.json";

/// A configuration with seccomp rules and many mounts has about 30 KB. The kernel usually allows 2 MiB
/// of arguments and environment; any client can add megabytes of annotations.
pub(crate) const LARGEST_CONFIG: u64 = 4 << 20;

/// A number and a line feed.
const LARGEST_PID: u64 = 32;

/// More containers than the kubelet's default of 110 pods can make.
const MOST_CONTAINERS: usize = 4096;

/// More namespaces than any node has.
const MOST_NAMESPACES: usize = 1024;

/// The parts of an OCI configuration that identify the container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bundle {
    /// containerd's namespace; `None` for a bundle of another runtime.
    pub namespace: Option<String>,
    /// The container's id, which is the folder's name.
    pub id: String,
    /// `root.path` if it is absolute, as the host names it.
    pub root: Option<PathBuf>,
    /// The CRI server's annotations, if there are any.
    pub cri: Option<CriAnnotations>,
}

/// The annotations that containerd's CRI plugin (its package
/// `internal/cri/annotations`) or CRI-O (`internal/annotations`) writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CriAnnotations {
    /// Whether it is the pod's sandbox and not a container of the Pod.
    pub sandbox: bool,
    /// The container's name in its Pod; `None` for a sandbox.
    pub container_name: Option<String>,
    /// The image: the Pod's own text since containerd 2.0; before that (and with CRI-O) any name of
    /// the digest. For a sandbox, its own image.
    pub image_name: Option<String>,
    /// The Pod.
    pub pod: Option<PodName>,
}

/// The bundles of the containerds of this node.
#[derive(Clone, Debug)]
pub struct Bundles {
    host_root: PathBuf,
    tasks: Vec<PathBuf>,
}

impl Bundles {
    /// The bundles below these state folders of containerd, as the host names
    /// them; [`STATE_DIRS`] has the usual ones. They need not exist.
    pub fn new<P: AsRef<Path>>(host_root: &Path, state_dirs: impl IntoIterator<Item = P>) -> Self {
        let tasks = state_dirs
            .into_iter()
            .map(|dir| on_host(host_root, dir.as_ref()).join(TASKS))
            .collect();
        Self {
            host_root: host_root.to_owned(),
            tasks,
        }
    }

    /// The OCI configuration with which a container with this first process was made; `None` if no
    /// bundle has the process.
    pub fn configuration(
        &self,
        namespace: &str,
        id: &str,
        process: Subject,
        limit: u64,
    ) -> Result<Option<Vec<u8>>, EvidenceError> {
        if !is_component(namespace) || !is_component(id) {
            return Ok(None);
        }
        let below = Path::new(namespace).join(id);
        let mut folders = self.tasks.iter().map(|tasks| tasks.join(&below));
        let is_its = |folder: &PathBuf| init_of(folder).is_some_and(|init| process.is(init));
        let elsewhere = || self.mounted(&Path::new(TASKS).join(&below), process);
        let found = folders.find(is_its);
        match found.or_else(|| elsewhere().filter(is_its)) {
            Some(folder) => read_of_root(&folder.join(CONFIG), limit),
            None => Ok(None),
        }
    }

    /// The folder with this end in which the shim of a process has mounted a root file system, if
    /// it is the only one: containerd's state folder may be anywhere.
    fn mounted(&self, end: &Path, process: Subject) -> Option<PathBuf> {
        let proc = self.host_root.join("proc");
        let shim = ancestors(&proc, process.pid).next()?;
        let mounted = root::mounted_on(&proc, shim, &end.join(ROOTFS))?;
        Some(on_host(&self.host_root, mounted.parent()?))
    }

    /// The bundle of the container whose first process this is. The shim writes the pid into the
    /// bundle after it has made the container and before that begins. An error if it is not found
    /// and not every bundle is known.
    pub fn of_process(&self, process: Subject) -> Result<Option<Bundle>, EvidenceError> {
        let (namespaces, mut unread) = self.namespaces();
        for (folder, namespace) in namespaces {
            let (ids, error) = entries(&folder, MOST_CONTAINERS);
            unread = unread.or(error);
            let is_its =
                |id: &&String| init_of(&folder.join(id)).is_some_and(|init| process.is(init));
            let Some(id) = ids.iter().find(is_its) else {
                continue;
            };
            let bundle = read_bundle(&folder.join(id))?;
            return Ok(bundle.map(|bundle| Bundle {
                namespace: Some(namespace),
                ..bundle
            }));
        }
        unread.map_or(Ok(None), Err)
    }

    /// Folder and name of every namespace, and why the list may be incomplete.
    fn namespaces(&self) -> (Vec<(PathBuf, String)>, Option<EvidenceError>) {
        let mut unread = None;
        let mut all = Vec::new();
        for tasks in &self.tasks {
            let (names, error) = entries(tasks, MOST_NAMESPACES);
            unread = unread.or(error);
            all.extend(names.into_iter().map(|name| (tasks.join(&name), name)));
        }
        (all, unread)
    }
}

/// The pid that the shim wrote into a bundle, and when.
fn init_of(folder: &Path) -> Option<Recorded> {
    let file = folder.join("init.pid");
    let bytes = read_of_root(&file, LARGEST_PID).ok()??;
    Some(Recorded {
        pid: std::str::from_utf8(&bytes).ok()?.trim().parse().ok()?,
        at: std::fs::symlink_metadata(&file).ok()?.modified().ok()?,
    })
}

/// The bundle in one folder; `None` without a `config.json`.
pub fn read_bundle(folder: &Path) -> Result<Option<Bundle>, EvidenceError> {
    let file = folder.join(CONFIG);
    let Some(spec) = read_json::<Spec>(&file, LARGEST_CONFIG)? else {
        return Ok(None);
    };
    let root = spec.root_path().filter(|path| path.is_absolute());
    Ok(Some(Bundle {
        namespace: None,
        id: folder
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned(),
        root,
        cri: CriAnnotations::of(&spec.into_annotations()),
    }))
}

impl Bundle {
    /// What the annotations claim; whoever made the bundle wrote them.
    pub fn claim(self) -> Claim {
        let claim = Claim {
            runtime_namespace: self.namespace,
            ..Claim::new(Source::Bundle, self.id, "containerd")
        };
        let Some(cri) = self.cri else {
            return claim;
        };
        Claim {
            kind: Some(Kind::of(cri.sandbox)),
            image: cri.image_name,
            naming: Naming::AnyOfDigest,
            container_name: cri.container_name,
            pod: cri.pod,
            ..claim
        }
    }
}

impl CriAnnotations {
    /// `None` without a CRI server's annotations.
    pub fn of(annotations: &BTreeMap<String, String>) -> Option<Self> {
        let get = |key: &str| {
            annotations
                .get(key)
                .filter(|value| !value.is_empty())
                .cloned()
        };
        let containerd = |name: &str| get(&format!("io.kubernetes.cri.{name}"));
        let crio = |name: &str| get(&format!("io.kubernetes.cri-o.{name}"));
        let pod = |[namespace, name, uid]: [Option<String>; 3]| {
            Some(PodName {
                namespace: namespace?,
                name: name?,
                uid: uid?,
            })
        };
        if let Some(kind) = containerd("container-type") {
            return Some(Self {
                sandbox: kind == "sandbox",
                container_name: containerd("container-name"),
                image_name: containerd("image-name")
                    .or_else(|| containerd("podsandbox.image-name")),
                pod: pod(
                    ["namespace", "name", "uid"].map(|it| containerd(&format!("sandbox-{it}")))
                ),
            });
        }
        let kind = crio("ContainerType")?;
        // CRI-O passes on the labels that the kubelet gives to each container.
        Some(Self {
            sandbox: kind == "sandbox",
            container_name: get("io.kubernetes.container.name").filter(|_| kind != "sandbox"),
            image_name: crio("ImageName"),
            pod: pod(["namespace", "name", "uid"].map(|it| get(&format!("io.kubernetes.pod.{it}")))),
        })
    }
}

#[cfg(test)]
mod tests;
