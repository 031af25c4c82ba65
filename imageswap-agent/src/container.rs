//! Guesses the container of a cgroup path: a hint, never a proof.
//!
//! Every runtime has its own form of path, and anyone with root can make a cgroup of any name.
//! [`classify`] therefore returns what a path *looks like*: where to ask first. Whether the
//! container exists, only a runtime can answer, whose task is the process in the cgroup.
//!
//! The forms follow their writers: containerd's `getCgroupsPath` (CRI) and
//! `WithNamespacedCgroup` (native clients), CRI-O's `cgmgr`, runc's systemd
//! unit names (`<prefix>-<name>.scope`, slices expanded by their dashes),
//! libpod, the kubelet's cgroup manager.

use crate::words::words;
use forms::{Above, Form, Parent};

mod forms;

words! {
    /// Which runtime a cgroup path looks like.
    pub enum RuntimeHint {
        /// Not a container's path, or one that does not show its container.
        ///
        /// A container with a hand-made `linux.cgroupsPath` and plain
        /// `runc run` look like this too.
        Host = "host",
        /// A pod's own cgroup, which holds its containers.
        KubernetesPod = "kubernetes-pod",
        /// A pod's container under the kubelet's cgroupfs driver: containerd and
        /// cri-dockerd write the same path there.
        KubernetesCgroupfs = "kubernetes-cgroupfs",
        /// containerd's CRI plugin.
        Containerd = "containerd",
        /// containerd without CRI, `/<namespace>/<id>`: `ctr`, `nerdctl` with
        /// cgroupfs, or a CRI client that names no cgroup parent. Many paths of
        /// the host have this form as well.
        ContainerdNative = "containerd-native",
        /// CRI-O.
        CriO = "cri-o",
        /// CRI-O's `conmon`, which watches a container and is not itself one.
        CriOMonitor = "cri-o-monitor",
        /// Docker, also below a pod (dockershim, cri-dockerd).
        Docker = "docker",
        /// Podman.
        Podman = "podman",
        /// Podman's `conmon`, which watches a container and is not itself one.
        PodmanMonitor = "podman-monitor",
        /// nerdctl with the systemd cgroup driver.
        Nerdctl = "nerdctl",
        /// A build step of BuildKit.
        Buildkit = "buildkit",
        /// LXC and Incus.
        Lxc = "lxc",
        /// libvirt's LXC driver, by systemd-machined.
        LibvirtLxc = "libvirt-lxc",
        /// Cloud Foundry's Garden.
        Garden = "garden",
        /// A container's id without anything that names the runtime.
        Unknown = "unknown",
    }
}

impl RuntimeHint {
    /// Whether the path looks like a container's cgroup, or one inside it.
    pub const fn is_container(self) -> bool {
        !matches!(
            self,
            Self::Host | Self::KubernetesPod | Self::CriOMonitor | Self::PodmanMonitor
        )
    }
}

/// What a cgroup path looks like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CgroupIdentity {
    /// Which runtime writes such a path.
    pub runtime: RuntimeHint,
    /// The container's id as the runtime spells it.
    pub container_id: Option<String>,
    /// The containerd namespace, if the path names one.
    pub containerd_namespace: Option<String>,
    /// The UID of the pod that directly holds the container. A container
    /// started inside another pod's container has none.
    pub pod_uid: Option<String>,
    /// Whether the path is the container's own cgroup (`true`) or one below it (`false`); `None`
    /// without a container.
    pub is_container_root: Option<bool>,
    /// Whether the pod's UID is an MD5 in hex, as the kubelet makes it up for
    /// a static pod. A strong hint: the manifest may also set a UID.
    pub static_pod: bool,
    /// Whether the container lies inside another one (kind, Docker in Docker).
    pub nested: bool,
    /// Length in bytes of the prefix of [`mount_relative`]`(path)` that is the container's own
    /// cgroup (for [`RuntimeHint::KubernetesPod`] the pod's). Paths below it find their container
    /// by this prefix. 0 for the host.
    pub depth_of_root: usize,
}

impl CgroupIdentity {
    /// A path without a container.
    pub const HOST: Self = Self {
        runtime: RuntimeHint::Host,
        container_id: None,
        containerd_namespace: None,
        pod_uid: None,
        is_container_root: None,
        static_pod: false,
        nested: false,
        depth_of_root: 0,
    };

    /// The container's own cgroup; `path` is the path that was classified.
    pub fn root_of<'p>(&self, path: &'p str) -> &'p str {
        let path = mount_relative(path);
        path.get(..self.depth_of_root).unwrap_or(path)
    }
}

/// Classifies the cgroup `path`; the innermost container wins.
///
/// `path` may be relative to the cgroup mount, an absolute path below
/// `/sys/fs/cgroup`, or a line of `/proc/PID/cgroup`.
pub fn classify(path: &str) -> CgroupIdentity {
    let path = mount_relative(path);
    let mut found = CgroupIdentity::HOST;
    let mut pod: Option<PodLevel<'_>> = None;
    let mut above = Above::default();

    for (name, end) in components(path) {
        let form = forms::of(name, above);
        above = Above {
            parent: name,
            parent_is: match form {
                Form::Pod(_) => Parent::Pod,
                _ if above.parent.is_empty() => Parent::Top,
                _ => Parent::Other,
            },
            ..above
        };
        match form {
            Form::Container { runtime, id, slice } => {
                let uid = slice.or(pod.take().map(|pod| pod.uid));
                found = CgroupIdentity {
                    runtime,
                    container_id: Some(id.to_owned()),
                    containerd_namespace: None,
                    static_pod: uid.is_some_and(forms::is_static_pod_uid),
                    pod_uid: uid.map(uid_of_slice),
                    is_container_root: Some(end == path.len()),
                    nested: above.in_container,
                    depth_of_root: end,
                };
                above = Above {
                    in_container: true,
                    ..Above::default()
                };
            }
            Form::Monitor(runtime) => {
                return CgroupIdentity {
                    runtime,
                    nested: above.in_container,
                    ..in_pod(pod.as_ref())
                };
            }
            Form::Pod(uid) => pod = Some(PodLevel { uid, end }),
            Form::Kubepods => above.below_kubepods = true,
            Form::Other => {}
        }
    }

    if let Some(pod) = pod {
        return CgroupIdentity {
            runtime: RuntimeHint::KubernetesPod,
            nested: above.in_container,
            depth_of_root: pod.end,
            ..in_pod(Some(&pod))
        };
    }
    native(path, &found).unwrap_or(found)
}

/// The path below the cgroup mount, without a trailing slash: `/` for the root.
///
/// Accepts the same paths as [`classify`]. A v1 or hybrid host mounts each hierarchy in a folder
/// named after its controllers; that folder is removed too.
pub fn mount_relative(path: &str) -> &str {
    let path = path.trim_end_matches('\n');
    let path = proc_line(path).unwrap_or(path);
    // The kernel appends this in /proc/PID/cgroup if the cgroup is gone.
    let path = path.strip_suffix(" (deleted)").unwrap_or(path);
    let path = match path.strip_prefix("/sys/fs/cgroup") {
        Some(rest) if rest.is_empty() || rest.starts_with('/') => below_hierarchy(rest),
        _ => path,
    };
    let path = path.trim_end_matches('/');
    if path.is_empty() { "/" } else { path }
}

struct PodLevel<'p> {
    uid: &'p str,
    end: usize,
}

fn in_pod(pod: Option<&PodLevel<'_>>) -> CgroupIdentity {
    CgroupIdentity {
        pod_uid: pod.map(|pod| uid_of_slice(pod.uid)),
        static_pod: pod.is_some_and(|pod| forms::is_static_pod_uid(pod.uid)),
        ..CgroupIdentity::HOST
    }
}

/// The third field of `hierarchy-ID:controller-list:cgroup-path` (cgroups(7)).
fn proc_line(line: &str) -> Option<&str> {
    let (hierarchy, rest) = line.split_once(':')?;
    let (_, path) = rest.split_once(':')?;
    let is_id = !hierarchy.is_empty() && hierarchy.bytes().all(|b| b.is_ascii_digit());
    (is_id && path.starts_with('/')).then_some(path)
}

fn below_hierarchy(path: &str) -> &str {
    let below = path.trim_start_matches('/');
    let (mount, rest) = match below.find('/') {
        Some(slash) => below.split_at(slash),
        None => (below, ""),
    };
    if mount.split(',').all(forms::is_v1_mount) {
        rest
    } else {
        path
    }
}

/// Each name of the path with the offset at which it ends.
fn components(path: &str) -> impl Iterator<Item = (&str, usize)> {
    let mut end = 0;
    path.split('/').filter_map(move |name| {
        let start = end;
        end = start + name.len() + 1;
        (!name.is_empty()).then_some((name, start + name.len()))
    })
}

/// `/<namespace>/<id>` and nothing more, below the root or below a container.
///
/// Checked last and on the whole rest, because two plain names are a weak sign.
fn native(path: &str, outer: &CgroupIdentity) -> Option<CgroupIdentity> {
    let rest = path.get(outer.depth_of_root..)?;
    let (namespace, id) = rest.strip_prefix('/').unwrap_or(rest).split_once('/')?;
    forms::is_native(namespace, id).then(|| CgroupIdentity {
        runtime: RuntimeHint::ContainerdNative,
        container_id: Some(id.to_owned()),
        containerd_namespace: Some(namespace.to_owned()),
        is_container_root: Some(true),
        nested: outer.container_id.is_some(),
        depth_of_root: path.len(),
        ..CgroupIdentity::HOST
    })
}

/// systemd's names cannot hold the dashes of a UID, so the kubelet writes `_`.
fn uid_of_slice(uid: &str) -> String {
    uid.replace('_', "-")
}

#[cfg(test)]
mod tests;
