//! Other programs that begin in a container's cgroup before the container's own, or in its place. None of
//! them hides a container. No walk finds one here.

use crate::harness::{Agent, Node, OURS, PATIENCE, folder_of, words};
use crate::hidden::UNSHARE;
use imageswap_lab::{Bundle, require, wait_until};
use serde_json::{Value, json};
use std::process::{Child, Command};
use std::time::Duration;

/// Moves itself into a cgroup, and runs a program in another mount namespace than its parent's.
const APART: &str = "echo 0 > \"$0/cgroup.procs\" && exec unshare --mount \"$@\"";
/// The first process of a pid namespace stays where it is and runs no program; its child runs one in
/// another cgroup. Then the first process waits, with a name of its choice.
const FOREIGN: &str = "syscall(0 + $ARGV[0], 0x20000000); my $first = fork;
    if (!$first) {
        $0 = $ARGV[2];
        my $child = fork;
        if (!$child) {
            if ($ARGV[1]) { open(my $to, '>', \"$ARGV[1]/cgroup.procs\") or die; print $to '0'; close $to; }
            exec '/bin/true';
        }
        waitpid $child, 0; sleep $ARGV[3]; exit 0;
    }
    waitpid $first, 0";

fn starts_in(agent: &Agent, path: &str) -> Vec<Value> {
    let said = agent.said().into_iter();
    said.filter(|it| it["cgroup"] == path && it["event"] == "start")
        .collect()
}

fn apart(cgroup: &str, program: &[&str]) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", APART]).arg(folder_of(cgroup));
    command.args(program);
    command
}

fn foreign(cgroup: Option<&str>, name: &str, seconds: u32) -> Command {
    let mut command = Command::new("perl");
    command.args(["-e", FOREIGN, UNSHARE]);
    let cgroup = cgroup.map(folder_of).unwrap_or_default();
    command.arg(cgroup).arg(name).arg(seconds.to_string());
    command
}

#[test]
fn a_decoy_in_a_created_containers_cgroup_does_not_take_its_place() {
    let node = require!(Node::for_test("decoy", false));
    let agent = node.agent_without_walks();
    for round in 0..3 {
        for (kind, decoys) in [("apart", 1), ("many", 70), ("foreign", 1)] {
            let id = format!("decoy-{kind}{round}-{}", std::process::id());
            let path = format!("/{id}.service");
            let sleep = ["sleep", "1000"];
            let bundle = Bundle::create_without(&node.lab, &id, &sleep, &path, &["pid"]).unwrap();
            for _ in 0..decoys {
                let mut decoy = match kind {
                    "foreign" => foreign(Some(&path), "first", 0),
                    _ => apart(&path, &["true"]),
                };
                assert!(decoy.status().unwrap().success(), "{kind}");
            }
            bundle.begin().unwrap();
            let own = || {
                let said = starts_in(&agent, &path).into_iter();
                said.filter(|it| it["process"]["comm"] == "sleep").count()
            };
            // More than the probes report of one cgroup is counted, and a walk follows.
            let counted = "imageswap_agent_events_lost_total{cause=\"pending-full\"}";
            let is_counted = || agent.metric(counted) > 0.0;
            let is_seen = || own() > 0 || (decoys > 64 && is_counted());
            assert!(wait_until(PATIENCE, is_seen), "{kind}: {}", agent.log());
            assert!(own() <= 1, "{kind}: {:#?}", starts_in(&agent, &path));
        }
    }
}

/// Neither is a container, and no cgroup waits for one afterwards: that of a service whose program has
/// mounts of its own, and one with many processes that was there before the first process of a pid namespace.
#[test]
fn programs_with_namespaces_of_their_own_leave_no_cgroup_waiting() {
    let node = require!(Node::for_test("service", false));
    let [service, many] = ["service", "many"].map(|it| format!("/{it}-{}", std::process::id()));
    let start = |command: &mut Command| command.spawn().unwrap();
    let made = |path: &str| std::fs::create_dir(folder_of(path)).unwrap();
    made(&many);
    let mut children: Vec<_> = (0..70)
        .map(|_| start(&mut apart(&many, &["sleep", "1000"])))
        .collect();
    // All of them were there before the agent.
    let sleeps = |child: &Child| {
        let comm = std::fs::read_to_string(format!("/proc/{}/comm", child.id()));
        comm.is_ok_and(|it| it == "sleep\n")
    };
    assert!(wait_until(PATIENCE, || children.iter().all(sleeps)));
    let agent = node.agent_without_walks();
    made(&service);
    children.push(start(&mut apart(&service, &["sleep", "1000"])));
    let first = ["unshare", "--pid", "--fork", "sleep", "1"];
    children.push(start(&mut apart(&many, &first)));
    let is_answered = |path: &str| {
        let line = format!("the sources have answered path={path:?}");
        agent.log().lines().any(|it| it.contains(&line))
    };
    let are_answered = || is_answered(&service) && is_answered(&many);
    let are_answered = wait_until(PATIENCE, are_answered);
    let log = agent.log();
    let wait = [&service, &many].map(|path| log.contains(&format!("path={path:?} waits=Yes")));
    for mut child in children {
        child.kill().unwrap();
        child.wait().unwrap();
    }
    for path in [&service, &many] {
        let is_removed = || std::fs::remove_dir(folder_of(path)).is_ok();
        assert!(wait_until(PATIENCE, is_removed), "{path}");
    }
    assert!(are_answered && wait == [false; 2], "{log}");
}

/// The cgroup has a container already, and the others share the node's pid namespace.
#[test]
fn short_containers_in_a_used_cgroup_are_seen() {
    let node = require!(Node::for_test("usedcg", false));
    node.images("default");
    let root = node.lab.path().join("root");
    std::fs::create_dir(&root).unwrap();
    imageswap_lab::unpack_root(&root).unwrap();
    let agent = node.agent_without_walks();
    let ctr = |args: &[&str]| node.containerd.ctr("default", args).unwrap();
    node.containerd
        .run("default", OURS, "usedcg", &["sleep", "1000"])
        .unwrap();
    agent.wait_for("usedcg", "start");
    for (at, seconds) in ["0.01", "0.03", "0.1", "0.5"].into_iter().enumerate() {
        let id = format!("usedcg-{at}");
        let kinds = ["mount", "ipc", "uts", "network"].map(|kind| json!({"type": kind}));
        let spec = json!({
            "ociVersion": "1.0.2",
            "process": {"user": {"uid": 0, "gid": 0}, "cwd": "/", "args": ["/bin/sleep", seconds]},
            "root": {"path": root},
            "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"}],
            "linux": {"cgroupsPath": "/default/usedcg", "namespaces": kinds},
        });
        let config = node.lab.path().join("config.json");
        std::fs::write(&config, spec.to_string()).unwrap();
        ctr(&[
            "run",
            "--detach",
            "--config",
            &config.display().to_string(),
            &id,
        ]);
        let finding = agent.wait_for(&id, "start");
        assert_eq!(words(&finding)[0], "unresolved", "{finding:#}");
        assert_eq!(finding["cgroup"], "/default/usedcg", "{finding:#}");
        node.containerd.remove("default", &id).unwrap();
    }
    node.containerd.remove("default", "usedcg").unwrap();
}

#[test]
fn a_first_process_called_like_a_runtime_is_seen() {
    let node = require!(Node::for_test("called", false));
    let agent = node.agent_without_walks();
    let mut maker = foreign(None, "runc", 40).spawn().unwrap();
    let pid = maker.id();
    let is_its = |finding: &Value| {
        let first = finding["process"]["pid"].to_string();
        let stat = std::fs::read_to_string(format!("/proc/{first}/stat")).unwrap_or_default();
        stat.contains(&format!(") S {pid} "))
    };
    let is_seen = || agent.said().iter().any(is_its);
    // It counts as the runtime for ten seconds.
    let is_seen = wait_until(PATIENCE + Duration::from_secs(10), is_seen);
    let children = format!("/proc/{pid}/task/{pid}/children");
    for child in std::fs::read_to_string(children)
        .unwrap()
        .split_whitespace()
    {
        let killed = Command::new("kill").args(["-s", "KILL", child]).status();
        assert!(killed.unwrap().success());
    }
    maker.wait().unwrap();
    assert!(is_seen, "{}", agent.log());
}
