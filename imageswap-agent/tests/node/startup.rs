//! Containers from before the agent, and nodes that lack something.

use crate::harness::{Agent, DRIFT, EVIL, Node, OURS, free_address, wait_called};
use imageswap_lab::{Lab, require};
use std::process::{Command, Output};

#[test]
fn what_ran_before_the_agent_is_initial_and_no_start() {
    let node = require!(Node::with_images("initial"));
    node.run(EVIL, "before");
    let agent = node.agent();
    agent.expect("before", "initial", DRIFT);
    node.run(OURS, "after");
    agent.wait_for("after", "start");
    assert_eq!(
        agent.said_of("before").len(),
        1,
        "{:#?}",
        agent.said_of("before")
    );
    let started = "imageswap_agent_container_starts_total{verdict=\"drift\",route=\"containerd\",reason=\"not-admitted\"}";
    assert!(
        agent.metric(started).abs() < f64::EPSILON,
        "first sight counts no start"
    );
    node.remove("before");
    node.remove("after");
}

/// Its program is not a file of its own any more, as that of a runtime about to run the container's.
const LIKE_RUNC: &str = "cp /bin/busybox /busybox && exec /busybox sh -c \
    'rm /busybox; printf runc:[2:INIT] > /proc/$$/comm; while :; do sleep 1000; done'";

#[test]
fn a_container_that_is_called_like_its_runtime_is_looked_at_again() {
    let node = require!(Node::with_images("likerunc"));
    let (mut command, admin) = Agent::command(&node.lab, Some(node.containerd.socket()));
    // No later walk finds it.
    let args: Vec<_> = command.get_args().map(ToOwned::to_owned).collect();
    let args = args
        .iter()
        .map(|arg| if arg == "2" { "3600".as_ref() } else { &**arg });
    command = Command::new(command.get_program());
    command.args(args);
    let run = ["sh", "-c", LIKE_RUNC];
    node.containerd
        .run("default", EVIL, "likerunc", &run)
        .unwrap();
    wait_called("/default/likerunc", "runc:[2:INIT]");
    let agent = Agent::start(&node.lab, (command, admin));
    let finding = agent.expect("likerunc", "reconciled", DRIFT);
    assert_eq!(finding["process"]["comm"], "runc:[2:INIT]", "{finding:#}");
    node.remove("likerunc");
    agent.wait_for("likerunc", "stopped");
}

#[test]
fn cgroup_v1_alone_takes_the_runtimes_word() {
    let node = require!(Node::for_test("v1", false));
    if imageswap_lab::is_pure_v2() {
        imageswap_lab::skip("v1", "this machine has cgroup v2 alone");
        return;
    }
    node.images("default");
    // A mount namespace without the v2 hierarchy looks like a node with v1 alone.
    let (agent, admin) = Agent::command(&node.lab, Some(node.containerd.socket()));
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c"]);
    command.arg("for m in $(awk '$9 == \"cgroup2\" || $10 == \"cgroup2\" {print $5}' /proc/self/mountinfo); do umount -l $m; done; exec \"$@\"");
    command
        .arg("sh")
        .arg(agent.get_program())
        .args(agent.get_args());
    let agent = Agent::start(&node.lab, (command, admin));
    assert!(agent.log().contains("cgroup v1"), "{}", agent.log());
    node.run(EVIL, "on-v1");
    agent.expect("on-v1", "start", DRIFT);
    let failed = node
        .containerd
        .run("default", EVIL, "never-on-v1", &["/no/such/program"]);
    assert!(failed.is_err());
    node.remove("on-v1");
    agent.wait_for("on-v1", "stopped");
    assert!(agent.said_of("never-on-v1").is_empty());
}

fn output(mut command: Command) -> (Option<i32>, String) {
    let Output { status, stderr, .. } = command.output().unwrap();
    (status.code(), String::from_utf8_lossy(&stderr).into_owned())
}

#[test]
fn a_bad_policy_ends_it_before_a_port_is_bound() {
    let folder = tempfile::tempdir().unwrap();
    let maps = folder.path().join("maps.conf");
    std::fs::write(
        &maps,
        "default::registry.example.com\nthis line says nothing\n",
    )
    .unwrap();
    // The port is taken: had it been bound first, the message would be about the port.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_imageswap-agent"));
    command
        .args([
            "run",
            "--admin",
            &taken.local_addr().unwrap().to_string(),
            "--maps",
        ])
        .arg(&maps);
    let (code, text) = output(command);
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("maps.conf:2:1"), "{text}");
}

#[test]
fn without_privilege_it_says_so_in_a_sentence() {
    let lab = require!(Lab::for_test("noprivilege"));
    let maps = lab.path().join("maps.conf");
    std::fs::write(&maps, "default::registry.example.com\n").unwrap();
    let mut command = Command::new("setpriv");
    command.args([
        "--bounding-set=-all",
        "--inh-caps=-all",
        env!("CARGO_BIN_EXE_imageswap-agent"),
    ]);
    command
        .args(["run", "--admin", &free_address().to_string(), "--maps"])
        .arg(maps);
    let (code, text) = output(command);
    assert_eq!(code, Some(1), "{text}");
    let last = text.lines().last().unwrap_or_default();
    assert!(last.contains("CAP_BPF and CAP_PERFMON"), "{text}");
}

#[test]
fn the_doctor_says_what_there_is_and_what_not() {
    let node = require!(Node::for_test("doctor", false));
    let socket = node.containerd.socket().display().to_string();
    let examine = |program: &[&str], flags: &[&str]| {
        let mut command = Command::new("setpriv");
        command
            .args(program)
            .arg(env!("CARGO_BIN_EXE_imageswap-agent"));
        let Output { status, stdout, .. } = command.args(["doctor"]).args(flags).output().unwrap();
        let text = String::from_utf8(stdout).unwrap();
        assert!(
            text.lines()
                .all(|line| line.chars().count() <= 80 || line.starts_with('{')),
            "{text}"
        );
        (status.code(), text)
    };
    let sockets = ["--containerd", &socket, "--cri", &socket];
    // Two capabilities are enough for root.
    let two = ["--bounding-set=-all,+bpf,+perfmon", "--inh-caps=-all"];
    let (code, text) = examine(&two, &sockets);
    assert_eq!(code, Some(0), "{text}");
    let has = |start: &str, end: &str| {
        text.lines()
            .any(|line| line.starts_with(start) && line.contains(end))
    };
    assert!(has("ok       probes ", "loaded and attached"), "{text}");
    assert!(has("ok       containerd ", "1."), "{text}");
    assert!(has("ok       cri ", "containerd"), "{text}");
    assert!(has("lacking  privileges ", "CAP_SYS_PTRACE"), "{text}");

    let (code, text) = examine(&["--bounding-set=-all", "--inh-caps=-all"], &["-o", "json"]);
    assert_eq!(code, Some(1), "{text}");
    let checks: Vec<serde_json::Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let probes = checks
        .iter()
        .find(|check| check["name"] == "probes")
        .unwrap();
    assert_eq!(probes["status"], "missing", "{probes}");
}
