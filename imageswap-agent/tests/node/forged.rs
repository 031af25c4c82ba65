//! Forged evidence, and names that have moved: neither approves anything.

use crate::harness::{Agent, DRIFT, EVIL, Node, OURS, PATIENCE, pod_spec, words};
use imageswap_lab::{Bundle, Containerd, ContainerdOptions, Image, require, wait_until};
use serde_json::Value;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::Duration;

#[test]
fn an_image_that_was_only_tagged_anew_drifts() {
    let node = require!(Node::with_images("retag"));
    let alias = "registry.example.com/team/alias:2";
    let renamed = "registry.example.com/other/name:1";
    node.containerd.tag("default", EVIL, alias).unwrap();
    node.containerd.tag("default", OURS, renamed).unwrap();
    let agent = node.agent();
    node.run(alias, "alias");
    node.run(renamed, "renamed");

    let finding = agent.expect("alias", "start", ["drift", "containerd", "retagged"]);
    assert_eq!(finding["image"], alias);
    assert_eq!(
        finding["expected_image"], "registry.example.com/miner",
        "what should have run: {finding:#}"
    );
    // Its content came from an approved repository, under another name.
    agent.expect("renamed", "start", ["approved", "containerd", "ok"]);
    for id in ["alias", "renamed"] {
        node.remove(id);
    }
}

#[test]
fn an_image_that_was_never_pulled_is_told_apart() {
    let node = require!(Node::for_test("sideload", false));
    let tar = node.lab.path().join("loaded.tar");
    let name = "registry.example.com/team/loaded:1";
    let image = Image::sleeper("side-loaded").unwrap();
    image.write_tar(&tar, name).unwrap();
    let tar = tar.display().to_string();
    node.containerd
        .ctr("default", ["image", "import", &tar])
        .unwrap();
    let agent = node.agent();
    node.run(name, "loaded");
    let finding = agent.expect("loaded", "start", ["approved", "containerd", "side-loaded"]);
    assert_eq!(finding["provenance"], "imported");
    node.remove("loaded");
}

#[test]
fn annotations_of_a_bundle_approve_nothing() {
    let node = require!(Node::for_test("annotated", false));
    let agent = node.agent();
    let id = format!("annotated-{}", std::process::id());
    let uid = "4a163a05-439d-484b-8e53-2968bc15824f";
    let annotations = [
        ("io.kubernetes.cri.container-type", "sandbox"),
        ("io.kubernetes.cri.image-name", OURS),
        ("io.kubernetes.cri.sandbox-namespace", "kube-system"),
        ("io.kubernetes.cri.sandbox-name", "etcd"),
        ("io.kubernetes.cri.sandbox-uid", uid),
    ];
    let cgroup = format!("/kubepods/pod{uid}/{id}");
    let bundle =
        Bundle::run_forged(&node.lab, &id, &["sleep", "1000"], &cgroup, &annotations).unwrap();
    let finding = agent.wait_for(&id, "start");
    assert_eq!(finding["verdict"], "unresolved", "{finding:#}");
    assert_eq!(finding["pod"], Value::Null, "{finding:#}");
    drop(bundle);
    agent.wait_for(&id, "stopped");
}

#[test]
fn labels_and_the_cgroup_of_a_pod_make_no_pod() {
    let node = require!(Node::for_test("labels", false));
    node.images("k8s.io");
    let agent = node.agent();
    let cri = node.containerd.cri().unwrap();
    let pod = cri.run(&pod_spec("real", OURS)).unwrap();
    agent.wait_for(&pod.container_id, "start");

    let uid = format!("io.kubernetes.pod.uid={}", pod.uid);
    for kind in ["container", "sandbox"] {
        let id = format!("forged-{kind}");
        let kind = format!("io.cri-containerd.kind={kind}");
        let cgroup = format!("/kubepods/besteffort/pod{}/{id}", pod.uid);
        let labels = [
            &*kind,
            &*uid,
            "io.kubernetes.pod.namespace=team-a",
            "io.kubernetes.pod.name=real",
            "io.kubernetes.container.name=app",
        ];
        let mut flags = vec!["--cgroup", &cgroup];
        flags.extend(labels.iter().flat_map(|label| ["--label", label]));
        node.containerd
            .run_as(&flags, "k8s.io", EVIL, &id, &[])
            .unwrap();
        let finding = agent.expect(&id, "start", DRIFT);
        assert_eq!(finding["pod"], Value::Null, "{finding:#}");
        node.containerd.remove("k8s.io", &id).unwrap();
    }
    cri.remove(&pod).unwrap();
}

#[test]
fn names_that_share_a_digest_are_all_told() {
    let node = require!(Node::for_test("shared", false));
    node.images("k8s.io");
    // An upstream image and its mirror: one digest, two names.
    let mirrored = "registry.example.com/team/mirror:1";
    node.push_as(&Image::sleeper("evil").unwrap(), "team/mirror", "1");
    node.containerd.pull("k8s.io", mirrored).unwrap();
    let agent = node.agent();
    let cri = node.containerd.cri().unwrap();
    let pod = cri.run(&pod_spec("mirrored", mirrored)).unwrap();
    let finding = agent.wait_for(&pod.container_id, "start");
    // containerd keeps the name that was asked for since 1.7. Before, only an API server can tell.
    let (expected, confidence) = if node.containerd.version().unwrap() < [1, 7] {
        (["unresolved", "pod", "ambiguous"], "medium")
    } else {
        (["approved", "pod", "ok"], "high")
    };
    assert_eq!(words(&finding), expected, "{finding:#}");
    assert_eq!(finding["confidence"], confidence);
    let names: Vec<_> = finding["names"]
        .as_array()
        .unwrap()
        .iter()
        .map(|name| name["name"].as_str().unwrap().to_owned())
        .collect();
    assert!(
        [EVIL, mirrored]
            .iter()
            .all(|&name| names.iter().any(|it| it == name)),
        "{names:?}"
    );
    cri.remove(&pod).unwrap();
}

#[test]
fn a_runtime_whose_socket_appears_later_is_asked_from_then_on() {
    let node = require!(Node::for_test("later", false));
    // The agent looks for sockets below its host root.
    let root = node.lab.path().join("root");
    let found = root.join("run/containerd");
    std::fs::create_dir_all(&found).unwrap();
    for name in ["proc", "sys"] {
        std::os::unix::fs::symlink(format!("/{name}"), root.join(name)).unwrap();
    }
    node.images("default");
    let (mut command, admin) = Agent::command_without_sockets(&node.lab);
    command.arg("--host-root").arg(&root);
    let agent = Agent::start(&node.lab, (command, admin));
    node.run(EVIL, "late");
    let finding = agent.wait_for("late", "start");
    assert_eq!(
        (&finding["verdict"], &finding["reason"]),
        (&"unresolved".into(), &"runtime-unreachable".into())
    );
    std::os::unix::fs::symlink(node.containerd.socket(), found.join("containerd.sock")).unwrap();
    agent.expect("late", "rejudged", DRIFT);
    node.remove("late");
}

#[test]
fn two_containerds_are_told_apart() {
    let node = require!(Node::for_test("two", false));
    let lab = require!(imageswap_lab::Lab::for_test("two-b"));
    node.images("default");
    let options = ContainerdOptions {
        mirrors: node.mirrors(),
        ..ContainerdOptions::default()
    };
    let other = Containerd::start(&lab, options).unwrap();
    other.pull("default", OURS).unwrap();
    let (mut command, admin) = Agent::command(&node.lab, Some(node.containerd.socket()));
    command.arg("--containerd").arg(other.socket());
    let agent = Agent::start(&node.lab, (command, admin));
    node.run(EVIL, "of-a");
    other.run("default", OURS, "of-b", &[]).unwrap();
    assert_eq!(agent.wait_for("of-a", "start")["verdict"], "drift");
    assert_eq!(agent.wait_for("of-b", "start")["verdict"], "approved");
    node.remove("of-a");
    other.remove("default", "of-b").unwrap();
    assert!(wait_until(Duration::from_secs(30), || {
        ["of-a", "of-b"]
            .iter()
            .all(|id| agent.said_of(id).iter().any(|it| it["event"] == "stopped"))
    }));
}

/// Publishes that containerd has made a task, as any client of containerd can.
fn publish_task(node: &Node, id: &str, pid: u32) {
    let mut event = vec![0x0a, u8::try_from(id.len()).unwrap()];
    event.extend(id.as_bytes());
    event.push(0x30);
    let mut rest = pid;
    while rest >= 0x80 {
        event.push((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    event.push(u8::try_from(rest).unwrap());
    let kind = b"containerd.events.TaskCreate";
    let mut message = vec![0x0a, u8::try_from(kind.len()).unwrap()];
    message.extend(kind);
    message.extend([0x12, u8::try_from(event.len()).unwrap()]);
    message.extend(event);
    let mut publish = Command::new("containerd")
        .arg("--address")
        .arg(node.containerd.socket())
        .args([
            "publish",
            "--namespace",
            "default",
            "--topic",
            "/tasks/create",
        ])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    publish.stdin.take().unwrap().write_all(&message).unwrap();
    assert!(publish.wait().unwrap().success());
}

/// The event says that the process is an approved container's.
#[test]
fn a_published_event_approves_nothing() {
    let node = require!(Node::with_images("published"));
    let own = std::process::id();
    let good = format!("published-{own}");
    node.run(OURS, &good);
    let agent = node.agent();
    agent.wait_for(&good, "initial");
    let programs: [(&str, &[&str]); 2] = [("lives", &["sleep", "1000"]), ("ends", &["true"])];
    for (name, program) in programs {
        let id = format!("published-{name}-{own}");
        let evil = Bundle::create(&node.lab, &id, program).unwrap();
        publish_task(&node, &good, evil.pid().unwrap().unwrap());
        // The agent has taken the event in by then.
        std::thread::sleep(Duration::from_millis(300));
        evil.begin().unwrap();
        let is_its = |finding: &Value| {
            let cgroup = finding["cgroup"].as_str().unwrap_or_default();
            cgroup.contains(&id)
        };
        let mut said = Vec::new();
        wait_until(PATIENCE, || {
            said = agent.said().into_iter().filter(is_its).collect();
            !said.is_empty()
        });
        assert!(!said.is_empty(), "{id}\n{}", agent.log());
        let is_unknown = |finding: &Value| finding["verdict"] == "unresolved";
        assert!(said.iter().all(is_unknown), "{said:#?}");
    }
    assert_eq!(agent.said_of(&good)[0]["verdict"], "approved");
    node.remove(&good);
}
