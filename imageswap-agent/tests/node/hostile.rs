//! What root on the node can do against the agent: files and sockets that never answer, oversized
//! answers, huge numbers of cgroups, and deleted evidence.

use crate::harness::{
    Agent, DRIFT, EVIL, Node, OURS, PATIENCE, brief_containers, hierarchy, peak, pod_spec, walks,
    words,
};
use imageswap_lab::{Cgroup, Image, PodSpec, Podman, require, wait_until};
use serde_json::json;
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::net::UnixListener;
use std::process::Command;

/// Starts that end at once while a source hangs.
const STARTS: usize = 300;

/// Cgroups that look like containers but are not; `IMAGESWAP_ROUNDS=20` makes 50,000.
const CGROUPS: usize = 2500;

/// How much a walk over them may add to resident memory, in KiB.
const GROWTH: usize = 4096;

/// The agent's command, run where `/run/runc` holds only what `script` makes, so that other agents
/// of this machine do not see it.
fn with_states(script: &str, agent: &Command) -> Command {
    let mut command = Command::new("unshare");
    let script = format!(
        r#"mkdir -p /run/runc && mount -t tmpfs none /run/runc && {script} && exec "$0" "$@""#
    );
    command
        .args(["--mount", "--propagation", "private", "--", "sh", "-c"])
        .arg(script)
        .arg(agent.get_program())
        .args(agent.get_args());
    command
}

/// State that names the bundle of a container of podman's which does not run.
#[test]
fn a_record_of_podmans_hides_no_record_of_containerd() {
    let Some(node) = Node::for_test("podmans-id", false) else {
        return;
    };
    node.images("default");
    let podman = Podman::new(&node.lab).unwrap();
    podman.load(&Image::sleeper("ours").unwrap(), OURS).unwrap();
    let id = podman.create(OURS, &["sleep", "1000"]).unwrap();
    let said = |args: &[&str]| {
        let output = podman.podman(args).unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    let bundle = said(&["inspect", "--format={{.StaticDir}}", &id]);
    let graph = said(&["info", "--format={{.Store.GraphRoot}}"]);
    node.containerd.run("default", EVIL, &id, &[]).unwrap();
    let tasks = node.containerd.ctr("default", ["task", "ls"]).unwrap();
    let tasks = String::from_utf8(tasks.stdout).unwrap();
    let task = tasks.lines().find(|line| line.starts_with(&id)).unwrap();
    let pid: u32 = task.split_whitespace().nth(1).unwrap().parse().unwrap();
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let started = stat.rsplit(')').next().unwrap().split_whitespace().nth(19);
    let started: u64 = started.unwrap().parse().unwrap();
    let folder = node.lab.path().join("state");
    fs::create_dir(&folder).unwrap();
    let state = json!({
        "init_process_pid": pid, "init_process_start": started,
        "config": {"labels": [format!("bundle={bundle}")]},
    });
    fs::write(folder.join("state.json"), state.to_string()).unwrap();
    let storage = format!("[storage]\ngraphroot = \"{graph}\"\n");
    fs::write(folder.join("storage.conf"), storage).unwrap();
    let folder = folder.display();
    let script = format!(
        "mkdir /run/runc/{id} && cp {folder}/state.json /run/runc/{id} && mkdir -p /etc/containers \
         && mount -t tmpfs none /etc/containers && cp {folder}/storage.conf /etc/containers"
    );
    let (command, admin) = Agent::command(&node.lab, Some(node.containerd.socket()));
    let agent = Agent::start(&node.lab, (with_states(&script, &command), admin));
    let finding = agent.wait_for(&id, "initial");
    assert_eq!(
        words(&finding),
        ["drift", "containerd", "not-admitted"],
        "{finding:#}"
    );
    assert_eq!(finding["image"], EVIL);
}

#[test]
fn files_that_block_or_are_none_stop_nothing() {
    let node = require!(Node::with_images("fifo"));
    let (command, admin) = Agent::command(&node.lab, Some(node.containerd.socket()));
    let states = "mkdir -p /run/runc/a /run/runc/b/state.json /run/runc/c && mkfifo /run/runc/a/state.json \
                  /run/runc/c/status && ln -s /dev/zero /run/runc/c/state.json";
    let agent = Agent::start(&node.lab, (with_states(states, &command), admin));
    node.run(EVIL, "fifo-first");
    agent.expect("fifo-first", "start", DRIFT);

    // Its bundle becomes a FIFO too, which every later walk finds.
    let tasks = node
        .containerd
        .state()
        .join("io.containerd.runtime.v2.task");
    let config = tasks.join("default/fifo-first/config.json");
    fs::rename(&config, config.with_extension("kept")).unwrap();
    let made = Command::new("mkfifo").arg(&config).status().unwrap();
    assert!(made.success());
    node.run(EVIL, "fifo-second");
    agent.expect("fifo-second", "start", DRIFT);
    assert_eq!(agent.status("/livez"), Some(200));
    fs::rename(config.with_extension("kept"), &config).unwrap();
    for id in ["fifo-first", "fifo-second"] {
        node.remove(id);
        agent.wait_for(id, "stopped");
    }
}

/// JSON makes six characters of each of these, and the CRI's verbose answer has all of them twice.
#[test]
fn a_container_with_two_megabytes_of_arguments_is_known() {
    let node = require!(Node::for_test("large", false));
    node.images("k8s.io");
    let agent = node.agent();
    let cri = node.containerd.cri().unwrap();
    let large = "<".repeat(120_000);
    let mut command = vec!["/bin/sh", "-c", "sleep 1000"];
    command.extend(std::iter::repeat_n(&*large, 15));
    let spec = PodSpec {
        command: &command,
        ..pod_spec("large", EVIL)
    };
    let pod = cri.run(&spec).unwrap();
    let finding = agent.wait_for(&pod.container_id, "start");
    assert_eq!(words(&finding)[..2], ["drift", "pod"], "{finding:#}");
    assert_eq!(finding["pod"]["name"], "large", "{finding:#}");
    cri.remove(&pod).unwrap();
}

/// A hung CRI and a hung containerd, as real sockets, beside the node's own.
#[test]
fn starts_are_all_accounted_for_while_sources_hang() {
    let node = require!(Node::with_images("hung"));
    let hung =
        ["containerd.sock", "cri.sock"].map(|name| node.lab.path().join(format!("hung-{name}")));
    let _listen = hung.clone().map(|path| UnixListener::bind(path).unwrap());
    let (mut command, admin) = Agent::command_without_sockets(&node.lab);
    command.arg("--containerd").arg(&hung[0]);
    command.arg("--containerd").arg(node.containerd.socket());
    command.arg("--cri").arg(&hung[1]);
    let agent = Agent::start(&node.lab, (command, admin));

    // Containers that no source knows, each in a cgroup of its own that is gone at once.
    let name = node.lab.name();
    let _parent = Cgroup::make(&node.lab, &name).unwrap();
    // In addition, some of the containerd that does answer.
    let mut starts = brief_containers(&name, STARTS).spawn().unwrap();
    for at in 0..3 {
        let id = format!("hung-beside-{at}");
        node.run(EVIL, &id);
        let finding = agent.expect(&id, "start", DRIFT);
        println!("{id}: {} us beside sources that hang", finding["detect_us"]);
        node.remove(&id);
    }
    assert!(starts.wait().unwrap().success());
    let told = || {
        let ours = format!("/{name}/");
        let said = agent.said().into_iter().filter(|finding| {
            let cgroup = finding["cgroup"].as_str().unwrap_or_default();
            cgroup.starts_with(&ours)
                && ["start", "reconciled"].contains(&finding["event"].as_str().unwrap())
        });
        let said: Vec<_> = said.collect();
        for finding in &said {
            assert_eq!(finding["verdict"], "unresolved", "{finding:#}");
        }
        let ids: BTreeSet<_> = said
            .iter()
            .map(|finding| finding["start_id"].to_string())
            .collect();
        assert_eq!(ids.len(), said.len(), "a start was told twice");
        ids.len()
    };
    let lost = || {
        let of = |cause| format!("imageswap_agent_events_lost_total{{cause=\"{cause}\"}}");
        let causes = [
            "ring-full-exec",
            "pending-full",
            "unplaced-exec",
            "unanswered",
        ];
        causes
            .iter()
            .map(|cause| agent.metric(&of(cause)))
            .sum::<f64>()
    };
    #[expect(clippy::cast_precision_loss, reason = "some hundred")]
    let all = || told() as f64 + lost() >= STARTS as f64;
    // Twice as long: starts without an answer are reported before they are forgotten, 30 s after
    // their end.
    let seen = wait_until(2 * PATIENCE, all);
    println!(
        "{STARTS} starts: {} told, {} counted as lost",
        told(),
        lost()
    );
    assert!(seen, "{}", agent.log());
}

#[test]
fn cgroups_without_number_neither_fill_nor_stop_it() {
    let node = require!(Node::with_images("many"));
    let rounds = std::env::var("IMAGESWAP_ROUNDS").map_or(2, |rounds| rounds.parse().unwrap());
    let name = node.lab.name();
    let _parent = Cgroup::make(&node.lab, &name).unwrap();
    let parent = hierarchy().join(&name);
    let before = {
        let agent = node.agent();
        peak(agent.pid())
    };
    let pod = parent.join("kubepods/pod11111111-1111-1111-1111-111111111111");
    fs::create_dir_all(&pod).unwrap();
    for at in 0..rounds * CGROUPS {
        fs::create_dir(pod.join(format!("{at:064x}"))).unwrap();
    }
    let agent = node.agent();
    node.run(EVIL, "among-many");
    agent.expect("among-many", "start", DRIFT);
    // Some further walks.
    walks(&agent, 2);
    assert_eq!(agent.status("/livez"), Some(200));
    let after = peak(agent.pid());
    println!(
        "{} cgroups: {before} KiB resident without them, {after} with",
        rounds * CGROUPS
    );
    assert!(after < before + GROWTH, "{before} KiB, then {after}");
    node.remove("among-many");
}

/// The requested digest is the finding's digest, whatever else is known about the image.
#[test]
fn a_digest_in_the_name_is_the_findings() {
    let node = require!(Node::for_test("digest", false));
    let image = Image::sleeper("digest").unwrap();
    node.push_as(&image, "team/pinned", "1");
    let name = format!("evil.example.net/team/pinned@{}", image.digest());
    node.containerd.pull("default", &name).unwrap();
    node.run(&name, "pinned");
    node.containerd
        .ctr("default", ["images", "rm", "--sync", &*name])
        .unwrap();
    let agent = node.agent();
    let finding = agent.wait_for("pinned", "initial");
    assert_eq!(finding["verdict"], "drift", "{finding:#}");
    assert_eq!(finding["digest"], image.digest(), "{finding:#}");
    node.remove("pinned");
}
