//! Starts are identified by their processes: a container that only looks like an approved one is
//! not approved, and a container that looks like none is still seen.

use crate::harness::{
    Agent, DRIFT, EVIL, Node, OURS, PATIENCE, expect, pod_spec, wait_called, words,
};
use imageswap_lab::{Bundle, Image, Registry, require, unpack_root, wait_until};
use serde_json::{Value, json};
use std::fs;

const SLEEP: [&str; 2] = ["sleep", "1000"];

/// The first finding about a container, checked to be the only one about its start. crun may write
/// its state after the start, which was then reported without an id; the next finding has it.
fn first(agent: &Agent, id: &str) -> Value {
    let is_first = |finding: &Value| {
        let event = finding["event"].as_str().unwrap_or_default();
        ["start", "initial", "reconciled"].contains(&event)
    };
    let mut firsts = Vec::new();
    wait_until(PATIENCE, || {
        let said = agent.said_of(id);
        firsts = said.iter().filter(|it| is_first(it)).cloned().collect();
        if firsts.is_empty() {
            firsts.extend(said.into_iter().find(|it| it["event"] == "rejudged"));
        }
        !firsts.is_empty()
    });
    assert_eq!(
        firsts.len(),
        1,
        "{id}: {:#?}\n{}",
        agent.said(),
        agent.log()
    );
    firsts.remove(0)
}

fn unique(name: &str) -> String {
    format!("{name}-{}", std::process::id())
}

#[test]
fn a_path_that_ends_like_an_approved_containers_approves_nothing() {
    let node = require!(Node::with_images("ends-like"));
    node.images("other");
    let agent = node.agent();
    let good = unique("good");
    node.containerd.run("default", OURS, &good, &SLEEP).unwrap();
    assert_eq!(first(&agent, &good)["verdict"], "approved");

    let plain = unique("plain");
    let cgroup = format!("/evil/default/{good}");
    let _plain = Bundle::run_forged(&node.lab, &plain, &SLEEP, &cgroup, &[]).unwrap();
    expect(
        first(&agent, &plain),
        ["unresolved", "runc", "not-admitted"],
    );
    let evil = unique("evil");
    let cgroup = format!("/evil2/default/{good}");
    let flags = ["--cgroup", &cgroup];
    node.containerd
        .run_as(&flags, "other", EVIL, &evil, &SLEEP)
        .unwrap();
    expect(first(&agent, &evil), DRIFT);
    assert_eq!(agent.said_of(&good).len(), 1, "{:#?}", agent.said());
    node.containerd.remove("other", &evil).unwrap();
    node.remove(&good);
}

#[test]
fn a_cgroup_that_is_called_like_no_containers_hides_nothing() {
    let node = require!(Node::with_images("called"));
    let agent = node.agent();
    let uid = "4a163a05-439d-484b-8e53-2968bc15824f";
    let hex = format!("{:064x}", std::process::id());
    let cgroups = [
        format!("/{}.service", unique("unit")),
        format!("/{}.slice", unique("unit")),
        format!("/system.slice/{}.mount", unique("unit")),
        format!("/{}/conmon", unique("podman")),
        format!("/system.slice/crio-conmon-{hex}.scope"),
        format!("/kubepods/besteffort/pod{uid}"),
    ];
    let mut bundles = Vec::new();
    for (number, cgroup) in cgroups.iter().enumerate() {
        let id = unique(&format!("called-{number}"));
        // Every second one shares the node's pid namespace.
        let without: &[&str] = if number % 2 == 0 { &[] } else { &["pid"] };
        bundles.push(Bundle::run_without(&node.lab, &id, &SLEEP, cgroup, without).unwrap());
        let finding = first(&agent, &id);
        assert_eq!(words(&finding)[..2], ["unresolved", "runc"], "{finding:#}");
        assert_eq!(finding["cgroup"], *cgroup);
    }
    let later = node.agent();
    for number in 0..cgroups.len() {
        let id = unique(&format!("called-{number}"));
        let finding = first(&later, &id);
        assert_eq!(words(&finding)[0], "unresolved", "{finding:#}");
        // A container that shares the node's pid namespace is known from the runtime's state, which
        // is read after the first walk.
        let events = ["initial", "reconciled"];
        assert!(
            events.iter().any(|it| finding["event"] == *it),
            "{finding:#}"
        );
    }
}

#[test]
fn ctr_is_known_in_whatever_cgroup() {
    let node = require!(Node::with_images("anycgroup"));
    let agent = node.agent();
    let top = unique("/any");
    for (number, path) in ["", "/b", "/b/c", ".service", "/x.slice/y"]
        .iter()
        .enumerate()
    {
        let id = unique(&format!("any-{number}"));
        let cgroup = format!("{top}{number}{path}");
        // With runc's state in its default folder, and without CPU shares, because a hierarchy may lack
        // the controller that they need.
        let shares = ["--cpu-shares", "0"];
        let run = ["run", "--detach", "--cgroup", &cgroup];
        let run = run.into_iter().chain(shares).chain([EVIL, &id]);
        node.containerd.ctr("default", run.chain(SLEEP)).unwrap();
        let finding = expect(first(&agent, &id), DRIFT);
        assert_eq!(
            (&finding["image"], &finding["cgroup"]),
            (&json!(EVIL), &json!(cgroup))
        );
        node.remove(&id);
    }
}

#[test]
fn a_process_that_calls_itself_a_runtime_does_not_vanish() {
    let node = require!(Node::with_images("comm"));
    let id = unique("crun");
    let script = "echo crun > /proc/$$/comm; while :; do sleep 1000; done";
    node.containerd
        .run("default", EVIL, &id, &["sh", "-c", script])
        .unwrap();
    wait_called(&format!("/default/{id}"), "crun");
    let agent = node.agent();
    let finding = expect(first(&agent, &id), DRIFT);
    assert_eq!(finding["process"]["comm"], "crun", "{finding:#}");
    node.remove(&id);
}

#[test]
fn a_container_below_a_running_one_is_a_start_of_its_own() {
    let node = require!(Node::for_test("below", false));
    node.images("k8s.io");
    let agent = node.agent();
    let cri = node.containerd.cri().unwrap();
    let spec = pod_spec("host", OURS);
    let pod = cri.run(&spec).unwrap();
    let host = expect(first(&agent, &pod.container_id), ["approved", "pod", "ok"]);
    let above = host["cgroup"].as_str().unwrap();
    let mut bundles = Vec::new();
    for (number, without) in [&[][..], &["pid"], &[], &["pid"]].into_iter().enumerate() {
        let id = unique(&format!("below-{number}"));
        let cgroup = format!("{above}/{id}");
        bundles.push(Bundle::run_without(&node.lab, &id, &SLEEP, &cgroup, without).unwrap());
        let finding = expect(first(&agent, &id), ["unresolved", "runc", "not-admitted"]);
        assert_eq!(finding["pod"], Value::Null, "{finding:#}");
    }
    drop(bundles);
    assert_eq!(agent.said_of(&pod.container_id).len(), 1);
    cri.remove(&pod).unwrap();
}

#[test]
fn a_folder_that_looks_like_dockers_approves_nothing() {
    let node = require!(Node::for_test("fake-docker", false));
    let agent = node.agent();
    let data = node.lab.path().join("looks-like-docker");
    let id = format!("{:x}a", std::process::id()).repeat(64)[..64].to_owned();
    let [image, mount] = ["b", "c"].map(|digit| digit.repeat(64));
    let write = |file: String, text: String| {
        let file = data.join(file);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
    };
    let record = json!({
        "ID": id, "Image": format!("sha256:{image}"), "Driver": "overlay2", "Config": {"Image": OURS},
    });
    write(
        format!("containers/{id}/config.v2.json"),
        record.to_string(),
    );
    let mounts = format!("image/overlay2/layerdb/mounts/{id}");
    write(format!("{mounts}/mount-id"), mount.clone());
    let config = json!({"rootfs": {"type": "layers", "diff_ids": []}});
    write(
        format!("image/overlay2/imagedb/content/sha256/{image}"),
        config.to_string(),
    );
    let pulled = format!("registry.example.com/team/app@sha256:{}", "d".repeat(64));
    let of_image = format!("sha256:{image}");
    let names = json!({"Repositories": {"x": {OURS: of_image, pulled: of_image}}});
    write(
        "image/overlay2/repositories.json".to_owned(),
        names.to_string(),
    );
    let root = data.join("overlay2").join(&mount).join("merged");
    fs::create_dir_all(&root).unwrap();
    unpack_root(&root).unwrap();
    let root = root.display().to_string();
    node.containerd
        .run_as(&["--rootfs"], "moby", &root, &id, &["/bin/sleep", "1000"])
        .unwrap();
    let finding = first(&agent, &id);
    assert_eq!(words(&finding)[0], "unresolved", "{finding:#}");
    assert_eq!(finding["image"], Value::Null, "{finding:#}");
    node.containerd.remove("moby", &id).unwrap();
}

#[test]
fn a_registry_with_a_port_is_told_from_another_port_of_its_host() {
    let node = require!(Node::for_test("port", false));
    let lab = require!(imageswap_lab::Lab::for_test("port-b"));
    let other = Registry::start(&lab).unwrap();
    other
        .push(&Image::sleeper("evil").unwrap(), "miner", "latest")
        .unwrap();
    let ours = format!("{}/team/app:1", node.registry());
    let evil = format!("{}/miner:latest", other.addr());
    for image in [&ours, &evil] {
        let pull = ["image", "pull", "--plain-http", image];
        node.containerd.ctr("default", pull).unwrap();
    }
    let agent_of = |host: &str| {
        let text = format!(
            "apiVersion: imageswap.io/v1alpha1\nkind: ImageSwapPolicy\nmetadata: {{name: p}}\n\
             spec: {{approved: [\"{host}/**\"]}}\n"
        );
        let policy = node.lab.path().join("policy.yaml");
        fs::write(&policy, text).unwrap();
        let (mut command, admin) = Agent::command_without_policy();
        command.arg("--policy").arg(policy);
        command.arg("--containerd").arg(node.containerd.socket());
        command.arg("--cri").arg(node.containerd.socket());
        Agent::start(&node.lab, (command, admin))
    };
    let agent = agent_of(&node.registry().to_string());
    let id = unique("port");
    node.containerd.run("default", &ours, &id, &SLEEP).unwrap();
    expect(first(&agent, &id), ["approved", "containerd", "ok"]);
    node.remove(&id);
    drop(agent);

    let agent = agent_of("127.0.0.1");
    let renamed = "127.0.0.1/miner:1";
    node.containerd.tag("default", &evil, renamed).unwrap();
    let id = unique("other-port");
    node.containerd
        .run("default", renamed, &id, &SLEEP)
        .unwrap();
    expect(
        first(&agent, &id),
        ["unresolved", "containerd", "ambiguous"],
    );
    node.remove(&id);
}

#[test]
fn an_image_that_was_tagged_anew_before_the_start_is_not_what_runs() {
    let node = require!(Node::with_images("moved-tag"));
    let agent = node.agent();
    let name = "registry.example.com/team/moved:1";
    node.containerd.tag("default", EVIL, name).unwrap();
    let id = unique("moved");
    let create = ["container", "create", name, &id];
    node.containerd
        .ctr("default", create.into_iter().chain(SLEEP))
        .unwrap();
    node.containerd.tag("default", OURS, name).unwrap();
    node.containerd
        .ctr("default", ["task", "start", "--detach", &id])
        .unwrap();
    expect(
        first(&agent, &id),
        ["unresolved", "containerd", "ambiguous"],
    );
    node.remove(&id);
}
