use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use imageswap_lab::require;

use super::{
    Bundles, CriAnnotations, LARGEST_CONFIG, MOST_CONTAINERS, STATE_DIRS, TASKS, read_bundle,
};
use crate::evidence::EvidenceError;
use crate::pods::PodName;
use crate::process::Subject;

const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

fn write(host: &Path, state: &str, namespace: &str, id: &str, config: &str) -> PathBuf {
    let folder = host.join(state).join(TASKS).join(namespace).join(id);
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("config.json"), config).unwrap();
    folder
}

/// A host with a bundle, and its folder. `None` after printing that the test is skipped: both have to
/// belong to root.
fn roots_bundle(test: &str) -> Option<(tempfile::TempDir, PathBuf)> {
    if !imageswap_lab::is_root() {
        imageswap_lab::skip(test, "needs root");
        return None;
    }
    let host = tempfile::tempdir().unwrap();
    let folder = write(host.path(), "run/containerd", "default", "web", "{}");
    Some((host, folder))
}

fn pod() -> PodName {
    PodName {
        namespace: "team".to_owned(),
        name: "web".to_owned(),
        uid: "u-1".to_owned(),
    }
}

#[test]
fn reads_what_containerds_cri_plugin_writes() {
    let host = tempfile::tempdir().unwrap();
    let config = format!(
        r#"{{"ociVersion":"1.0.2","process":{{"args":["sh"]}},"mounts":[{{"source":"x"}}],
        "annotations":{{"io.kubernetes.cri.container-type":"container","io.kubernetes.cri.container-name":"app",
          "io.kubernetes.cri.image-name":"registry.example.com/app:1","io.kubernetes.cri.sandbox-id":"{ID}",
          "io.kubernetes.cri.sandbox-name":"web","io.kubernetes.cri.sandbox-namespace":"team",
          "io.kubernetes.cri.sandbox-uid":"u-1"}},
        "linux":{{"cgroupsPath":"/kubepods/podu-1/{ID}","resources":{{}}}}}}"#
    );
    let folder = write(host.path(), "run/k3s/containerd", "k8s.io", ID, &config);

    let bundle = read_bundle(&folder).unwrap().unwrap();
    assert_eq!(bundle.id, ID);
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(
        bundle.cri,
        Some(CriAnnotations {
            sandbox: false,
            container_name: some("app"),
            image_name: some("registry.example.com/app:1"),
            pod: Some(pod()),
        })
    );
}

#[test]
fn reads_what_cri_o_writes() {
    let annotations = |kind: &str| -> BTreeMap<String, String> {
        [
            ("io.kubernetes.cri-o.ContainerType", kind),
            (
                "io.kubernetes.cri-o.ImageName",
                "registry.example.com/app:1",
            ),
            ("io.kubernetes.container.name", "app"),
            ("io.kubernetes.pod.name", "web"),
            ("io.kubernetes.pod.namespace", "team"),
            ("io.kubernetes.pod.uid", "u-1"),
        ]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into()
    };
    let host = tempfile::tempdir().unwrap();
    let read = |kind: &str| {
        let config = serde_json::json!({"annotations": annotations(kind)}).to_string();
        let folder = write(host.path(), "run/crio", "x", ID, &config);
        read_bundle(&folder).unwrap().unwrap().cri.unwrap()
    };
    let container = read("container");
    assert!(!container.sandbox);
    assert_eq!(container.container_name.as_deref(), Some("app"));
    assert_eq!(
        container.image_name.as_deref(),
        Some("registry.example.com/app:1")
    );
    assert_eq!(container.pod, Some(pod()));
    let sandbox = read("sandbox");
    assert!(sandbox.sandbox);
    assert_eq!(sandbox.container_name, None);
}

#[test]
fn a_bundle_without_annotations_is_a_bundle() {
    let host = tempfile::tempdir().unwrap();
    for (id, config) in [
        ("plain", r#"{"linux":{"cgroupsPath":"/default/plain"}}"#),
        (
            "nulls",
            r#"{"annotations":null,"linux":{"cgroupsPath":""}}"#,
        ),
        ("empty", "{}"),
    ] {
        let folder = write(host.path(), "run/containerd", "default", id, config);
        let bundle = read_bundle(&folder).unwrap().unwrap();
        assert_eq!(bundle.cri, None, "{id}");
    }
    assert_eq!(read_bundle(&host.path().join("absent")).unwrap(), None);
}

#[test]
fn a_process_finds_the_bundle_that_the_shim_wrote_it_into() {
    let (host, folder) = require!(roots_bundle(
        "a_process_finds_the_bundle_that_the_shim_wrote_it_into"
    ));
    let bundles = Bundles::new(host.path(), STATE_DIRS);
    let own = Subject::now(Path::new("/proc"), std::process::id());
    write(host.path(), "run/containerd", "other", "web", "{}");
    assert_eq!(bundles.of_process(own).unwrap(), None);
    let init = folder.join("init.pid");
    fs::write(&init, own.pid.to_string()).unwrap();
    let bundle = bundles.of_process(own).unwrap().unwrap();
    assert_eq!(bundle.namespace.as_deref(), Some("default"));
    // Written by an earlier process with this pid.
    let file = fs::File::options().write(true).open(&init).unwrap();
    file.set_modified(std::time::SystemTime::UNIX_EPOCH)
        .unwrap();
    assert_eq!(bundles.of_process(own).unwrap(), None);
}

/// The decoys are as many as are read; nothing says in which order a folder is listed.
#[test]
fn a_list_that_is_cut_is_not_complete() {
    let (host, folder) = require!(roots_bundle("a_list_that_is_cut_is_not_complete"));
    let bundles = Bundles::new(host.path(), STATE_DIRS);
    let own = Subject::now(Path::new("/proc"), std::process::id());
    let decoys = folder.parent().unwrap();
    for decoy in 0..MOST_CONTAINERS {
        fs::create_dir(decoys.join(decoy.to_string())).unwrap();
    }
    let error = bundles.of_process(own).unwrap_err();
    assert!(matches!(error, EvidenceError::TooMany { .. }), "{error}");
    fs::remove_dir(decoys.join("0")).unwrap();
    assert_eq!(bundles.of_process(own).unwrap(), None);
}

#[test]
fn what_is_broken_or_too_large_is_said() {
    let host = tempfile::tempdir().unwrap();
    let broken = write(
        host.path(),
        "run/containerd",
        "default",
        "broken",
        "{\"linux\":\n[}",
    );
    let EvidenceError::Malformed { path, message } = read_bundle(&broken).unwrap_err() else {
        panic!("not malformed")
    };
    assert_eq!(path, broken.join("config.json"));
    assert!(message.contains("line 2"), "{message}");

    let large = write(host.path(), "run/containerd", "default", "large", "");
    let file = fs::File::create(large.join("config.json")).unwrap();
    file.set_len(64 << 20).unwrap();
    let error = read_bundle(&large).unwrap_err();
    assert!(
        error.to_string().ends_with("longer than 4194304 bytes"),
        "{error}"
    );
}

#[test]
fn a_bundle_is_found_where_the_shim_mounted_its_root() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let host = tempfile::tempdir().unwrap();
    let bundles = Bundles::new(host.path(), STATE_DIRS);
    let process = Subject {
        pid: 8,
        started: Some(1),
    };
    let write = |path: &str, text: &str| {
        let path = host.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    let mounts = |states: &[&str]| {
        let line = |state: &&str| {
            format!("60 1 0:60 / /{state}/{TASKS}/k8s.io/web/rootfs rw - overlay overlay rw\n")
        };
        write(
            "proc/7/mountinfo",
            &states.iter().map(line).collect::<String>(),
        );
    };
    let found = || {
        let found = bundles.configuration("k8s.io", "web", process, LARGEST_CONFIG);
        found.unwrap().map(|json| String::from_utf8(json).unwrap())
    };
    let stat = format!("8 (x) S 7 {}1 0", "0 ".repeat(17));
    write("proc/8/stat", &stat);
    for (state, pid) in [("data", "8"), ("evil", "8"), ("other", "9")] {
        let folder = format!("{state}/{TASKS}/k8s.io/web");
        write(&format!("{folder}/config.json"), state);
        write(&format!("{folder}/init.pid"), pid);
    }
    for (states, expected) in [
        (&["data"][..], Some("data")),
        (&["data", "evil"], None),
        (&["other"], None),
        (&[], None),
    ] {
        mounts(states);
        assert_eq!(found().as_deref(), expected, "{states:?}");
    }
    mounts(&["evil"]);
    let usual = format!("{}/{TASKS}/k8s.io/web", &STATE_DIRS[0][1..]);
    write(&format!("{usual}/config.json"), "usual");
    write(&format!("{usual}/init.pid"), "8");
    assert_eq!(found().as_deref(), Some("usual"));
}
