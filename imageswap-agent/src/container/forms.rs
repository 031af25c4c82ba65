//! The forms of a component of a cgroup path.

use super::RuntimeHint;

/// The meaning of one component, given its parents.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Form<'p> {
    Container {
        runtime: RuntimeHint,
        id: &'p str,
        /// The pod's UID, if this component names it.
        slice: Option<&'p str>,
    },
    /// The process that watches a container from outside.
    Monitor(RuntimeHint),
    /// A pod's cgroup, with its UID as the path spells it.
    Pod(&'p str),
    /// The kubelet's folder of all pods; outside of it `pod…` is just a name.
    Kubepods,
    Other,
}

/// The parents of a component.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Above<'p> {
    /// The parent component; empty at the top and directly below a container.
    pub(super) parent: &'p str,
    /// What the parent is.
    pub(super) parent_is: Parent,
    /// Whether a folder of pods lies above, inside the same container.
    pub(super) below_kubepods: bool,
    /// Whether a container lies above.
    pub(super) in_container: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Parent {
    /// A pod's cgroup.
    Pod,
    /// Anything else directly below the root or a container.
    Top,
    #[default]
    Other,
}

/// Reads `name` in its place.
pub(super) fn of<'p>(name: &'p str, above: Above<'_>) -> Form<'p> {
    if let Some(form) = colons(name).or_else(|| monitor(name, above)) {
        return form;
    }
    if let Some((runtime, id)) = prefixed(name).or_else(|| placed(name, above)) {
        return Form::Container {
            runtime,
            id,
            slice: None,
        };
    }
    if let Some(uid) = pod_slice(name) {
        return Form::Pod(uid);
    }
    match name.strip_prefix("pod") {
        Some(uid) if above.below_kubepods && !uid.is_empty() => Form::Pod(uid),
        _ if name == "kubepods" => Form::Kubepods,
        _ => Form::Other,
    }
}

/// Whether a pod's UID is an MD5, which the kubelet derives from a manifest.
pub(super) fn is_static_pod_uid(uid: &str) -> bool {
    uid.len() == 32 && is_lower_hex(uid)
}

/// Whether `/<namespace>/<id>` can be containerd's default cgroup path.
pub(super) fn is_native(namespace: &str, id: &str) -> bool {
    is_identifier(namespace)
        && is_identifier(id)
        && !is_unit(namespace)
        && !is_unit(id)
        && !RESERVED.contains(&namespace)
        && id != "kubepods"
}

/// Whether a folder below `/sys/fs/cgroup` is named after a v1 controller, or
/// is one of systemd's two of its own on a v1 or hybrid host.
pub(super) fn is_v1_mount(name: &str) -> bool {
    const MOUNTS: [&str; 16] = [
        "blkio",
        "cpu",
        "cpuacct",
        "cpuset",
        "debug",
        "devices",
        "freezer",
        "hugetlb",
        "memory",
        "misc",
        "net_cls",
        "net_prio",
        "perf_event",
        "pids",
        "rdma",
        "unified",
    ];
    name == "systemd" || MOUNTS.contains(&name)
}

/// Top-level folders of the host, or of another runtime, with plain names.
const RESERVED: [&str; 11] = [
    "actions_job",
    "crio",
    "docker",
    "elogind",
    "kubepods",
    "libpod_parent",
    "lxc",
    "machine",
    "openrc",
    "system",
    "user",
];

/// A systemd-style `slice:prefix:id` that a runtime with the cgroupfs driver took as a plain name.
fn colons(name: &str) -> Option<Form<'_>> {
    let (slice, rest) = name.split_once(':')?;
    let (prefix, id) = rest.split_once(':')?;
    let runtime = match prefix {
        "cri-containerd" => RuntimeHint::Containerd,
        "crio" => RuntimeHint::CriO,
        "docker" => RuntimeHint::Docker,
        "libpod" => RuntimeHint::Podman,
        "nerdctl" => RuntimeHint::Nerdctl,
        _ => return None,
    };
    is_id(id).then(|| Form::Container {
        runtime,
        id,
        slice: pod_slice(slice),
    })
}

fn monitor(name: &str, above: Above<'_>) -> Option<Form<'static>> {
    // A container may call a cgroup of its own `conmon` as well.
    if name == "conmon" && (!above.in_container || above.parent == "libpod_parent") {
        return Some(Form::Monitor(RuntimeHint::PodmanMonitor));
    }
    let name = name.strip_suffix(".scope").unwrap_or(name);
    let (runtime, id) = if let Some(id) = name.strip_prefix("crio-conmon-") {
        (RuntimeHint::CriOMonitor, id)
    } else {
        (
            RuntimeHint::PodmanMonitor,
            name.strip_prefix("libpod-conmon-")?,
        )
    };
    is_id(id).then_some(Form::Monitor(runtime))
}

/// `<prefix>-<id>` with or without `.scope`.
fn prefixed(name: &str) -> Option<(RuntimeHint, &str)> {
    const PREFIXES: [(&str, RuntimeHint); 6] = [
        ("cri-containerd-", RuntimeHint::Containerd),
        ("crio-", RuntimeHint::CriO),
        ("docker-", RuntimeHint::Docker),
        ("libpod-payload-", RuntimeHint::Podman),
        ("libpod-", RuntimeHint::Podman),
        ("nerdctl-", RuntimeHint::Nerdctl),
    ];
    let name = name.strip_suffix(".scope").unwrap_or(name);
    PREFIXES.iter().find_map(|&(prefix, runtime)| {
        name.strip_prefix(prefix)
            .filter(|id| is_id(id))
            .map(|id| (runtime, id))
    })
}

/// Forms that are recognised by their place or by a runtime's own prefix.
fn placed<'p>(name: &'p str, above: Above<'_>) -> Option<(RuntimeHint, &'p str)> {
    if is_id(name) {
        return match above.parent {
            _ if above.parent_is == Parent::Pod => Some((RuntimeHint::KubernetesCgroupfs, name)),
            // GitHub's runner gives its job containers a cgroup parent of their own.
            "docker" | "actions_job" => Some((RuntimeHint::Docker, name)),
            // A Pod of podman's, whose containers lie below it with names of their own.
            "libpod_parent" => None,
            // Left to the form `/<namespace>/<id>`, which knows the namespace.
            parent if above.parent_is == Parent::Top && is_native(parent, name) => None,
            _ => Some((RuntimeHint::Unknown, name)),
        };
    }
    if above.parent == "buildkit" {
        let is_step = !name.is_empty()
            && name
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        return is_step.then_some((RuntimeHint::Buildkit, name));
    }
    if let Some(lxc) = name
        .strip_prefix("lxc.payload.")
        .filter(|id| !id.is_empty())
    {
        return Some((RuntimeHint::Lxc, lxc));
    }
    if above.parent == "lxc" {
        return Some((RuntimeHint::Lxc, name));
    }
    // systemd escapes a dash inside a unit's name as \x2d.
    let libvirt = name
        .strip_prefix(r"machine-lxc\x2d")
        .and_then(|id| id.strip_suffix(".scope"));
    if let Some(id) = libvirt.filter(|id| !id.is_empty()) {
        return Some((RuntimeHint::LibvirtLxc, id));
    }
    is_garden(name).then_some((RuntimeHint::Garden, name))
}

/// `[<root>-]kubepods[-<qos>]-pod<uid>.slice`; the kubelet's `--cgroup-root` precedes every slice
/// below it.
fn pod_slice(name: &str) -> Option<&str> {
    let name = name.strip_suffix(".slice")?;
    let (before, uid) = name.rsplit_once("-pod")?;
    let before = before
        .strip_suffix("-besteffort")
        .or_else(|| before.strip_suffix("-burstable"))
        .unwrap_or(before);
    let is_kubepods = before == "kubepods" || before.ends_with("-kubepods");
    let is_uid = !uid.is_empty() && uid.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    (is_kubepods && is_uid).then_some(uid)
}

/// The 64 hex digits of containerd's CRI plugin, CRI-O, Docker and Podman.
fn is_id(name: &str) -> bool {
    name.len() == 64 && is_lower_hex(name)
}

fn is_lower_hex(text: &str) -> bool {
    text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// Groups of 8, 4, 4, 4 and 4 hex digits: shorter than a UUID.
fn is_garden(name: &str) -> bool {
    let mut groups = name.split('-');
    [8, 4, 4, 4, 4].iter().all(|&len| {
        groups
            .next()
            .is_some_and(|group| group.len() == len && is_lower_hex(group))
    }) && groups.next().is_none()
}

/// containerd's rule for namespaces and container ids (its package
/// `identifiers`): alphanumeric words joined by one of `._-`, up to 76 bytes.
fn is_identifier(name: &str) -> bool {
    (1..=76).contains(&name.len())
        && name
            .split(['.', '_', '-'])
            .all(|word| !word.is_empty() && word.bytes().all(|b| b.is_ascii_alphanumeric()))
}

fn is_unit(name: &str) -> bool {
    [".service", ".slice", ".scope"]
        .iter()
        .any(|suffix| name.ends_with(suffix))
}
