//! Evidence that is deleted or changed after the start.

use crate::flood::Publisher;
use crate::harness::{EVIL, Node, OURS, PATIENCE, expect, pod_spec, words};
use imageswap_lab::{require, wait_until};
use serde_json::{Value, json};
use std::time::Duration;

/// The image's name is approved, but its content is from elsewhere. Without the record this is
/// unknown.
#[test]
fn a_record_that_is_deleted_excuses_nothing() {
    let node = require!(Node::with_images("deleted"));
    let again = "registry.example.com/team/again:1";
    node.containerd.tag("default", EVIL, again).unwrap();
    let first = node.agent();
    node.run(again, "deleted");
    first.expect("deleted", "start", ["drift", "containerd", "retagged"]);
    for name in [again, EVIL] {
        node.containerd
            .ctr("default", ["images", "rm", "--sync", name])
            .unwrap();
    }
    // Several checks later the verdict is still the same.
    std::thread::sleep(Duration::from_secs(5));
    expect(
        first.said_of("deleted").pop().unwrap(),
        ["drift", "containerd", "retagged"],
    );
    first.kill();
    let second = node.agent();
    let finding = second.wait_for("deleted", "initial");
    assert_eq!(words(&finding)[0], "unresolved", "{finding:#}");
    node.remove("deleted");
}

/// containerd's record of a Pod's container has one of the names, which may be removed. The CRI knows the
/// image by its id.
#[test]
fn a_name_that_is_removed_does_not_hide_where_a_pods_image_came_from() {
    let node = require!(Node::with_images("untagged"));
    node.images("k8s.io");
    let names = [1, 2].map(|tag| format!("registry.example.com/team/again:{tag}"));
    for name in &names {
        node.containerd.tag("k8s.io", EVIL, name).unwrap();
    }
    let remove = |name: &str| {
        let remove = ["images", "rm", "--sync", name];
        node.containerd.ctr("k8s.io", remove).unwrap();
    };
    // The CRI learns of new names by containerd's events.
    let cri = node.containerd.cri().unwrap();
    let are_known = || names.iter().all(|name| cri.has_image(name).unwrap());
    assert!(wait_until(PATIENCE, are_known));
    remove(EVIL);
    let first = node.agent();
    let pod = cri.run(&pod_spec("untagged", &names[0])).unwrap();
    let retagged = ["drift", "pod", "retagged"];
    first.expect(&pod.container_id, "start", retagged);
    let info = ["containers", "info", &pod.container_id];
    let info = node.containerd.ctr("k8s.io", info).unwrap();
    let info: Value = serde_json::from_slice(&info.stdout).unwrap();
    remove(info["Image"].as_str().unwrap());
    first.kill();
    let second = node.agent();
    second.expect(&pod.container_id, "initial", retagged);
    cri.remove(&pod).unwrap();
}

/// The snapshot below a container's own.
pub(crate) fn parent(node: &Node, namespace: &str, id: &str) -> String {
    let info = ["snapshots", "info", id];
    let info = node.containerd.ctr(namespace, info).unwrap();
    let info: Value = serde_json::from_slice(&info.stdout).unwrap();
    info["Parent"].as_str().unwrap().to_owned()
}

/// The record, its snapshot and its image are approved, but the process runs on another snapshot.
#[test]
fn a_root_that_is_not_the_snapshot_is_not_the_images() {
    let node = require!(Node::with_images("swapped"));
    let ctr = |args: &[&str]| node.containerd.ctr("default", args).unwrap();
    for id in ["swapped", "ours", "evil"] {
        let image = if id == "evil" { EVIL } else { OURS };
        ctr(&["container", "create", image, id]);
    }
    let [ours, evil] = ["ours", "evil"].map(|id| parent(&node, "default", id));
    let put = |parent: &str| {
        ctr(&["snapshots", "rm", "swapped"]);
        ctr(&["snapshots", "prepare", "swapped", parent]);
    };
    put(&evil);
    let first = node.agent();
    for id in ["swapped", "ours"] {
        ctr(&["task", "start", "--detach", id]);
    }
    let finding = first.wait_for("swapped", "start");
    assert_eq!(words(&finding)[0], "unresolved", "{finding:#}");
    let finding = first.wait_for("ours", "start");
    assert_eq!(words(&finding)[0], "approved", "{finding:#}");
    first.kill();
    // The process keeps its root.
    put(&ours);
    let second = node.agent();
    let finding = second.wait_for("swapped", "initial");
    assert_eq!(words(&finding)[0], "unresolved", "{finding:#}");
    let finding = second.wait_for("ours", "initial");
    assert_eq!(words(&finding)[0], "approved", "{finding:#}");
    for id in ["swapped", "ours"] {
        node.remove(id);
    }
}

/// The task has the image's snapshot, and its configuration mounts another root on top of that.
#[test]
fn a_mount_over_the_root_approves_nothing() {
    let node = require!(Node::with_images("overroot"));
    let root = node.lab.path().join("root");
    std::fs::create_dir(&root).unwrap();
    imageswap_lab::unpack_root(&root).unwrap();
    let agent = node.agent();
    let mount = format!("type=bind,src={},dst=/,options=rbind:rw", root.display());
    let run = [
        "run", "--detach", "--mount", &mount, OURS, "overroot", "sleep", "1000",
    ];
    // Newer versions of runc refuse it.
    if node.containerd.ctr("default", run).is_err() {
        let said = agent.said_of("overroot");
        let is_approved = |finding: &Value| finding["verdict"] == "approved";
        assert!(!said.iter().any(is_approved), "{said:#?}");
        return;
    }
    let finding = agent.wait_for("overroot", "start");
    assert_eq!(words(&finding)[0], "unresolved", "{finding:#}");
    node.remove("overroot");
}

/// The process runs on a folder of the approved overlay: its own mount has the same options.
#[test]
fn a_folder_of_the_root_is_not_the_root() {
    let node = require!(Node::with_images("subfolder"));
    let id = format!("subfolder-{}", std::process::id());
    let root = "io.containerd.runtime.v2.task/default";
    let folder = node
        .containerd
        .state()
        .join(root)
        .join(&id)
        .join("rootfs/bin");
    let agent = node.agent();
    let mount = format!("type=bind,src={},dst=/,options=rbind:rw", folder.display());
    // The mount hides the earlier one of /proc, which runc needs.
    let proc = "type=proc,src=proc,dst=/proc,options=nosuid";
    let flags = ["run", "--detach", "--mount", &mount, "--mount", proc];
    let program = [OURS, &id, "/busybox", "sleep", "1000"];
    let run = flags.iter().chain(&program);
    // Newer versions of runc refuse it.
    if node.containerd.ctr("default", run).is_err() {
        let said = agent.said_of(&id);
        let is_approved = |finding: &Value| finding["verdict"] == "approved";
        assert!(!said.iter().any(is_approved), "{said:#?}");
        return;
    }
    let finding = agent.wait_for(&id, "start");
    assert_eq!(words(&finding)[0], "unresolved", "{finding:#}");
    node.remove(&id);
}

/// A hook in the container replaces the root, and the program has ended when its root is compared.
#[test]
fn a_root_that_a_hook_replaces_is_not_the_images() {
    const TIMES: usize = 6;
    let node = require!(Node::with_images("hooked"));
    let root = node.lab.path().join("root");
    std::fs::create_dir_all(root.join("old")).unwrap();
    imageswap_lab::unpack_root(&root).unwrap();
    let agent = node.agent();
    let client = Publisher::connect(&node.containerd.socket());
    let ctr = |args: &[&str]| node.containerd.ctr("default", args).unwrap();
    // runc goes on to use /proc.
    let pivot = "exec 2>/tmp/said; cd /tmp && busybox pivot_root . old && cd / \
                 && busybox mount -t proc proc /proc && busybox umount -l /old";
    let program = "busybox sleep 1000 & exit 0";
    for at in 0..TIMES {
        let id = format!("hooked-{}-{at}", std::process::id());
        ctr(&["container", "create", OURS, &id, "sleep", "1000"]);
        let spec = ctr(&["container", "info", "--spec", &id]).stdout;
        let mut spec: Value = serde_json::from_slice(&spec).unwrap();
        spec["process"]["args"] = json!(["/bin/busybox", "sh", "-c", program]);
        for set in ["bounding", "effective", "permitted"] {
            spec["process"]["capabilities"][set] = json!(["CAP_SYS_ADMIN"]);
        }
        let namespaces = spec["linux"]["namespaces"].as_array_mut().unwrap();
        // The first process of a pid namespace leaves no others behind.
        namespaces.retain(|it| it["type"] != "pid");
        let mounts = spec["mounts"].as_array_mut().unwrap();
        mounts.push(json!({
            "destination": "/tmp",
            "type": "bind",
            "source": root,
            "options": ["rbind", "rw"],
        }));
        spec["hooks"] = json!({
            "startContainer": [{
                "path": "/bin/busybox",
                "args": ["busybox", "sh", "-c", pivot],
                "env": ["PATH=/bin"],
            }],
        });
        client.specify(&id, &spec);
        ctr(&["task", "start", "--detach", "--null-io", &id]);
        let finding = agent.wait_for(&id, "start");
        assert_eq!(words(&finding)[0], "unresolved", "{finding:#}");
        node.remove(&id);
    }
}
