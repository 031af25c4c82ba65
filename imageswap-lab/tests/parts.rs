//! Starts each part once for real: leftovers of one would disturb the next.

#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::fs;
use std::time::Duration;

use imageswap_lab::{
    Bundle, Containerd, ContainerdOptions, CriPod, Image, Lab, PodSpec, Registry, is_pure_v2,
    require, wait_until,
};

const HOST: &str = "registry.example.com";
const LIMIT: Duration = Duration::from_secs(30);

fn start(lab: &Lab, pure_cgroup_v2: bool) -> (Registry, Containerd) {
    let registry = Registry::start(lab).unwrap();
    let options = ContainerdOptions {
        mirrors: vec![(HOST.to_owned(), registry.addr())],
        pure_cgroup_v2,
        cri: true,
        ..ContainerdOptions::default()
    };
    let containerd = Containerd::start(lab, options).unwrap();
    (registry, containerd)
}

/// Runs a container in each way, and leaves one of each for `Drop`.
fn every_way(lab: &Lab, pure: bool) -> CriPod {
    let (registry, containerd) = start(lab, pure);
    let image = Image::sleeper("parts").unwrap();
    registry.push(&image, "library/app", "1.0").unwrap();
    let reference = format!("{HOST}/library/app:1.0");

    let namespace = lab.path().file_name().unwrap().to_str().unwrap();
    containerd.pull(namespace, &reference).unwrap();
    containerd
        .run(namespace, &reference, "free-form", &[])
        .unwrap();
    let tasks = containerd.ctr(namespace, ["task", "ls"]).unwrap().stdout;
    let tasks = String::from_utf8(tasks).unwrap();
    assert!(
        tasks.contains("free-form") && tasks.contains("RUNNING"),
        "{tasks}"
    );
    containerd
        .run_to_end(namespace, &reference, "short", &["/bin/true"])
        .unwrap();
    containerd.remove(namespace, "free-form").unwrap();
    containerd.run(namespace, &reference, "left", &[]).unwrap();

    let nothing = containerd.run(namespace, &reference, "wrong", &["/no/such/program"]);
    assert!(
        nothing
            .unwrap_err()
            .to_string()
            .contains("/no/such/program")
    );
    containerd.remove(namespace, "wrong").unwrap();

    let cri = containerd.cri().unwrap();
    let pod = PodSpec {
        namespace: "team-a",
        name: "web",
        container: "app",
        image: &reference,
        command: &[],
    };
    let first = cri.run(&pod).unwrap();
    assert_eq!(first.image_id, image.id());
    cri.remove(&first).unwrap();
    let wrong = PodSpec {
        image: "registry.example.com/no/such:1",
        ..pod.clone()
    };
    assert!(cri.run(&wrong).unwrap_err().to_string().contains("no/such"));

    let _bundle = Bundle::run(
        lab,
        &format!("bundle-{namespace}"),
        &["/bin/sleep", "600"],
        pure,
    )
    .unwrap();
    cri.run(&pod).unwrap()
}

fn leaves_nothing(test: &str, pure: bool) {
    let lab = require!(Lab::for_test(test));
    let path = lab.path().to_owned();
    let pod = every_way(&lab, pure);
    drop(lab);
    assert!(!path.exists());
    let gone = || {
        !cgroups()
            .iter()
            .any(|cgroup| cgroup.contains(&pod.container_id))
    };
    assert!(wait_until(LIMIT, gone));
    assert!(
        !fs::read_to_string("/proc/self/mountinfo")
            .unwrap()
            .contains(&*path.to_string_lossy())
    );
    // A shim that was killed ends a moment later.
    let left = || processes_that_name(&path.to_string_lossy());
    assert!(wait_until(LIMIT, || left().is_empty()), "{:?}", left());
}

#[test]
fn every_way_here() {
    leaves_nothing("every_way_here", false);
}

#[test]
fn every_way_on_pure_v2() {
    if !is_pure_v2() {
        leaves_nothing("every_way_on_pure_v2", true);
    }
}

fn processes_that_name(path: &str) -> Vec<String> {
    let own = std::process::id().to_string();
    fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy() != own)
        .filter_map(|entry| fs::read(entry.path().join("cmdline")).ok())
        .map(|line| String::from_utf8_lossy(&line).replace('\0', " "))
        .filter(|line| line.contains(path))
        .collect()
}

fn cgroups() -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![std::path::PathBuf::from("/sys/fs/cgroup")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                found.push(entry.path().to_string_lossy().into_owned());
                folders.push(entry.path());
            }
        }
    }
    found
}
