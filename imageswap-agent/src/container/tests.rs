use proptest::prelude::*;
use serde::Deserialize;

use super::{CgroupIdentity, RuntimeHint, classify, mount_relative};

const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
const INNER: &str = "fedcba9876543210fedcba9876543210fedcba9876543210fedcba9876543210";

#[derive(Deserialize)]
struct Row {
    path: String,
    runtime: String,
    container_id: Option<String>,
    pod_uid: Option<String>,
    is_container_root: Option<bool>,
    note: String,
}

#[test]
fn paths_as_the_runtimes_write_them() {
    let folder = std::env::var("IMAGESWAP_VECTORS").unwrap_or_else(|_| {
        concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/vectors").to_owned()
    });
    let file = std::path::Path::new(&folder).join("cgroup_paths.jsonl");
    if !file.exists() {
        let missing = format!("no {}", file.display());
        return imageswap_lab::skip("paths_as_the_runtimes_write_them", &missing);
    }
    let text = std::fs::read_to_string(&file).unwrap();
    let mut rows = 0;
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        let row: Row = serde_json::from_str(line).unwrap();
        let found = classify(&row.path);
        // A hand-made cgroup path does not show its runtime; it looks like the host's.
        let runtime = if row.runtime == "runc-custom" {
            "host"
        } else {
            &row.runtime
        };
        assert_eq!(
            found.runtime.as_str(),
            runtime,
            "{} ({})",
            row.path,
            row.note
        );
        assert_eq!(
            found.container_id, row.container_id,
            "{} ({})",
            row.path, row.note
        );
        assert_eq!(found.pod_uid, row.pod_uid, "{} ({})", row.path, row.note);
        assert_eq!(
            found.is_container_root, row.is_container_root,
            "{} ({})",
            row.path, row.note
        );
        if row.note.contains("STATIC POD") {
            assert!(found.static_pod, "{} ({})", row.path, row.note);
        }
        let is_root = found.root_of(&row.path) == mount_relative(&row.path);
        if let Some(expected) = row.is_container_root {
            assert_eq!(is_root, expected, "{} ({})", row.path, row.note);
        }
        rows += 1;
    }
    assert!(rows >= 100, "only {rows} rows in {}", file.display());
}

#[test]
fn a_sub_cgroup_finds_its_container() {
    let below = format!("0::/kubepods/pod1/{ID}/init/x/y");
    let found = classify(&below);
    assert_eq!(found.is_container_root, Some(false));
    assert_eq!(found.root_of(&below), format!("/kubepods/pod1/{ID}"));
    assert_eq!(
        classify(found.root_of(&below)).is_container_root,
        Some(true)
    );
}

#[test]
fn what_stands_above_a_container_means_nothing_below_it() {
    let below = classify(&format!("/kubepods/pod1/{ID}/pod5"));
    assert_eq!(below.runtime, RuntimeHint::KubernetesCgroupfs);
    assert_eq!(below.pod_uid.as_deref(), Some("1"));
    assert_eq!(below.is_container_root, Some(false));

    let native = classify(&format!("/docker/{ID}/k8s.io/{INNER}"));
    assert_eq!(native.runtime, RuntimeHint::ContainerdNative);
    assert_eq!(native.containerd_namespace.as_deref(), Some("k8s.io"));
    assert_eq!(native.container_id.as_deref(), Some(INNER));
}

#[test]
fn the_innermost_container_wins_and_keeps_to_its_own_pod() {
    let cases = [
        (
            format!("/kubepods/burstable/pod1/{ID}/docker/{INNER}"),
            RuntimeHint::Docker,
            None,
        ),
        (
            format!("/docker/{ID}/kubelet/kubepods/pod2/{INNER}"),
            RuntimeHint::KubernetesCgroupfs,
            Some("2"),
        ),
        (
            format!("/kubepods/pod1/{ID}/kubepods/besteffort/pod2/{INNER}"),
            RuntimeHint::KubernetesCgroupfs,
            Some("2"),
        ),
        (
            format!("/docker/{ID}/libpod_parent/libpod-{INNER}"),
            RuntimeHint::Podman,
            None,
        ),
        (format!("/docker/{ID}/{INNER}"), RuntimeHint::Unknown, None),
    ];
    for (path, runtime, pod) in cases {
        let found = classify(&path);
        assert_eq!(found.runtime, runtime, "{path}");
        assert_eq!(found.container_id.as_deref(), Some(INNER), "{path}");
        assert_eq!(found.pod_uid.as_deref(), pod, "{path}");
        assert!(found.nested, "{path}");
    }
    assert!(!classify(&format!("/docker/{ID}/init")).nested);
    // A Pod of podman's is not a container.
    let in_pod = format!("/libpod_parent/{ID}/libpod-{INNER}");
    assert!(!classify(&in_pod).nested);
}

#[test]
fn a_native_path_names_its_namespace() {
    let found = classify("/k8s.io/web-1");
    assert_eq!(found.containerd_namespace.as_deref(), Some("k8s.io"));
    let nested = classify(&format!("/docker/{ID}/default/web"));
    assert_eq!(nested.containerd_namespace.as_deref(), Some("default"));
    assert!(nested.nested);
    assert_eq!(
        classify(&format!("/docker/{ID}")).containerd_namespace,
        None
    );
}

#[test]
fn folders_of_the_host_are_no_containers() {
    let host = [
        "/kubepods",
        "/kubepods/burstable",
        "/kubelet/kubepods",
        "/docker/buildkit",
        "/user/1000",
        "/libpod_parent",
        "/crio",
        "/lxc",
        "/init.scope/x",
        "/a/b/c",
        "/x",
        "",
        "//",
        "/podX/y/z",
        "/system.slice/pod1",
        "/default/..",
        "/default/a--b",
        "0::/",
        "0::/../..",
    ];
    for path in host {
        assert_eq!(classify(path), CgroupIdentity::HOST, "{path}");
    }
    let long = format!("/default/{}", "a".repeat(77));
    assert_eq!(classify(&long), CgroupIdentity::HOST);
}

#[test]
fn monitors_and_pods_are_no_containers() {
    for path in [
        format!("/crio/crio-conmon-{ID}"),
        "/libpod_parent/conmon".to_owned(),
    ] {
        assert!(!classify(&path).runtime.is_container(), "{path}");
    }
    let pod = classify("/kubepods/pod12-3/other");
    assert_eq!(pod.runtime, RuntimeHint::KubernetesPod);
    assert_eq!(pod.root_of("/kubepods/pod12-3/other"), "/kubepods/pod12-3");
    // A container's own cgroup of that name is not a monitor.
    let inside = classify(&format!("/docker/{ID}/conmon"));
    assert_eq!(
        (inside.runtime, inside.is_container_root),
        (RuntimeHint::Docker, Some(false))
    );
}

#[test]
fn every_spelling_of_a_path_is_the_same_path() {
    let cases = [
        ("/a/b", "/a/b"),
        ("/a/b/", "/a/b"),
        ("0::/a/b\n", "/a/b"),
        ("0::/a/b (deleted)", "/a/b"),
        ("12:cpu,cpuacct:/a/b", "/a/b"),
        ("1:name=systemd:/a/b", "/a/b"),
        ("/sys/fs/cgroup/a/b", "/a/b"),
        ("/sys/fs/cgroup/unified/a/b", "/a/b"),
        ("/sys/fs/cgroup/cpu,cpuacct/a/b", "/a/b"),
        ("/sys/fs/cgroup/memory", "/"),
        ("/sys/fs/cgroup", "/"),
        ("/sys/fs/cgroups/a", "/sys/fs/cgroups/a"),
        ("/x.slice:cri-containerd:1", "/x.slice:cri-containerd:1"),
        ("", "/"),
    ];
    for (path, expected) in cases {
        assert_eq!(mount_relative(path), expected, "{path:?}");
    }
}

/// Paths made of meaningful parts, so that properties reach every form.
fn paths() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("kubepods".to_owned()),
        Just("pod0123".to_owned()),
        Just("kubepods-pod1_2.slice".to_owned()),
        Just(format!("cri-containerd-{ID}.scope")),
        Just(format!("x.slice:crio:{ID}")),
        Just(ID.to_owned()),
        Just("docker".to_owned()),
        Just("conmon".to_owned()),
        Just("lxc".to_owned()),
        Just("buildkit".to_owned()),
        Just("..".to_owned()),
        "[a-z.:_-]{0,9}",
        "\\PC{0,5}",
    ];
    let prefix = prop_oneof![
        Just(""),
        Just("0::"),
        Just("7:pids:"),
        Just("/sys/fs/cgroup")
    ];
    (prefix, proptest::collection::vec(piece, 0..8))
        .prop_map(|(prefix, pieces)| format!("{prefix}/{}", pieces.join("/")))
}

proptest! {
    #[test]
    fn never_panics(path in "\\PC*") {
        let _ = classify(&path);
    }

    #[test]
    fn what_is_said_fits_together(path in paths()) {
        let found = classify(&path);
        let relative = mount_relative(&path);
        prop_assert_eq!(found.container_id.is_some(), found.runtime.is_container());
        prop_assert_eq!(found.is_container_root.is_some(), found.runtime.is_container());
        prop_assert!(relative.is_char_boundary(found.depth_of_root));
        if let Some(is_root) = found.is_container_root {
            prop_assert_eq!(is_root, found.depth_of_root == relative.len());
            let root = found.root_of(&path);
            let id = found.container_id.as_deref().unwrap_or_default();
            prop_assert!(root.strip_suffix(".scope").unwrap_or(root).ends_with(id));
            let again = classify(root);
            prop_assert_eq!(again.container_id, found.container_id);
            prop_assert_eq!(again.runtime, found.runtime);
        }
        prop_assert_eq!(found.static_pod && found.pod_uid.is_none(), false);
    }

    #[test]
    fn the_form_of_the_input_does_not_matter(path in paths()) {
        let relative = mount_relative(&path);
        let line = format!("0::{relative}");
        prop_assert_eq!(classify(&line), classify(relative));
    }
}
