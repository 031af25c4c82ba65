//! Containers put into an existing cgroup, which no mkdir reports.

use crate::harness::{Agent, DRIFT, EVIL, Node, OURS, PATIENCE, expect};
use imageswap_lab::{Bundle, Cgroup, Process, in_pure_v2, require, wait_until};
use serde_json::Value;
use std::path::Path;
use std::process::{Command, Stdio};

/// How many containers of plain runc are put beside another one.
const STRANGERS: usize = 10;

/// The last pid that the kernel gave, from which it counts on; writable for root.
const LAST_PID: &str = "/proc/sys/kernel/ns_last_pid";
/// How often a pid is tried for.
const MOST_TRIES: usize = 100;

#[test]
fn a_container_put_into_another_ones_cgroup_is_a_start_of_its_own() {
    let node = require!(Node::with_images("put"));
    let agent = node.agent();
    let cgroup = "/default/put-host";
    // Its first process continues as another program, which is not a second start.
    let host = ["sh", "-c", "sleep 1; exec sleep 1000"];
    node.containerd
        .run("default", OURS, "put-host", &host)
        .unwrap();
    let first = agent.expect("put-host", "start", ["approved", "containerd", "ok"]);

    let flags = ["--cgroup", cgroup];
    node.containerd
        .run_as(&flags, "default", EVIL, "put-guest", &["sleep", "1000"])
        .unwrap();
    let guest = agent.expect("put-guest", "start", DRIFT);
    assert_eq!(
        (&guest["image"], &guest["cgroup"]),
        (&Value::from(EVIL), &Value::from(cgroup))
    );
    assert_ne!(guest["start_id"], first["start_id"]);

    // Evidence about the cgroup's own container must not approve the others. Several, because runc
    // may be just about to exit when the container's program begins, and has no namespaces left to
    // compare with.
    for number in 0..STRANGERS {
        let id = format!("put-stranger-{number}");
        let _stranger =
            Bundle::run_forged(&node.lab, &id, &["sleep", "1000"], cgroup, &[]).unwrap();
        // crun may write its state after the start, which was then reported without an id.
        let named = || {
            let said = agent.said().into_iter();
            let is_named = |it: &Value| it["event"] == "start" || it["event"] == "rejudged";
            said.filter(is_named)
                .find(|it| it["container"]["id"] == id.as_str())
        };
        assert!(wait_until(PATIENCE, || named().is_some()), "{id}");
        expect(named().unwrap(), ["unresolved", "runc", "not-admitted"]);
    }
    let all = |event: &str| said_in(&agent, cgroup, event).len();
    // crun removes a container with all that runs in its cgroup, so that the other two may have ended as well.
    for number in 0..STRANGERS {
        agent.wait_for(&format!("put-stranger-{number}"), "stopped");
    }
    for id in ["put-guest", "put-host"] {
        node.remove(id);
    }
    assert!(wait_until(PATIENCE, || all("stopped") == STRANGERS + 2));
    assert_eq!(all("start"), STRANGERS + 2, "{:#?}", agent.said());
}

/// Two containers in one cgroup get the same pid, one after the other.
#[test]
fn a_pid_that_is_used_again_is_another_start() {
    // Other processes of these tests would take the pids.
    let node = require!(Node::for_test_alone("reused"));
    if !Path::new(LAST_PID).exists() {
        imageswap_lab::skip("reused", "the kernel lets nobody choose pids");
        return;
    }
    let agent = node.agent();
    let path = format!("/reused-{}.service", std::process::id());
    let cgroup = Cgroup::make(&node.lab, &path).unwrap();
    let start = || {
        let mut unshare = Command::new("unshare");
        unshare.args(["--pid", "--mount", "--fork", "--kill-child", "--"]);
        unshare.args(["sleep", "1000"]);
        let known = said_in(&agent, &path, "start").len();
        let process = Process::start(&node.lab, "reused", cgroup.with_process(&unshare)).unwrap();
        let is_seen = || said_in(&agent, &path, "start").len() > known;
        assert!(wait_until(PATIENCE, is_seen), "{}", agent.log());
        let finding = said_in(&agent, &path, "start").pop().unwrap();
        (process, finding)
    };
    // The start that the cgroup belongs to.
    let _own = start();
    let (mut first, finding) = start();
    let pid = finding["process"]["pid"].as_u64().unwrap();
    first.stop();
    let mut again = None;
    // Other processes of the machine may begin meanwhile.
    for _ in 0..MOST_TRIES {
        std::fs::write(LAST_PID, (pid - 2).to_string()).unwrap();
        let (process, finding) = start();
        if finding["process"]["pid"] == pid {
            again = Some((process, finding));
            break;
        }
    }
    let (mut second, again) = again.expect("no process got the pid");
    assert_ne!(again["start_id"], finding["start_id"]);
    second.stop();
    for finding in [finding, again] {
        let has_stopped = || {
            let said = said_in(&agent, &path, "stopped").into_iter();
            said.filter(|it| it["start_id"] == finding["start_id"])
                .count()
                == 1
        };
        assert!(wait_until(PATIENCE, has_stopped), "{finding:#}");
    }
}

/// The findings of one kind about containers in a cgroup.
fn said_in(agent: &Agent, cgroup: &str, event: &str) -> Vec<Value> {
    let said = agent.said().into_iter();
    let said = said.filter(|it| it["cgroup"] == cgroup && it["event"] == event);
    said.collect()
}

#[test]
fn a_cgroup_that_was_left_over_hides_nothing() {
    let node = require!(Node::for_test("leftover", false));
    let kept = Cgroup::make(&node.lab, "/kept-by-somebody").unwrap();
    is_seen_in(&node, &node.agent(), "/kept-by-somebody");
    drop(kept);
}

/// Tests of `hierarchy` cover how paths look from inside a namespace.
#[test]
fn an_agent_in_a_cgroup_namespace_of_its_own_sees_what_others_do() {
    let node = require!(Node::for_test("cgroupns", false));
    let kept = Cgroup::make(&node.lab, "/kept-for-others").unwrap();
    let own = Cgroup::make(&node.lab, "/pods/of-the-agent").unwrap();
    let (command, admin) = Agent::command(&node.lab, Some(node.containerd.socket()));
    let agent = Agent::start(&node.lab, (own.with_namespace(&command), admin));
    is_seen_in(&node, &agent, "/kept-for-others");
    drop(agent);
    drop((own, kept));
}

#[test]
fn a_hand_made_path_that_looks_like_a_containers_is_nobodys_word() {
    let node = require!(Node::for_test("lookalike", false));
    is_seen_in(&node, &node.agent(), "/k8s.io/somebody-else");
}

/// A container in a cgroup whose path does not show its owner: only its process does.
fn is_seen_in(node: &Node, agent: &Agent, path: &str) {
    node.images("default");
    let id = format!(
        "tenant-of-{}",
        path.trim_start_matches('/').replace('/', "-")
    );
    let flags = ["--cgroup", path];
    let sleep = ["sleep", "1000"];
    node.containerd
        .run_as(&flags, "default", EVIL, &id, &sleep)
        .unwrap();
    let finding = agent.expect(&id, "start", DRIFT);
    assert_eq!(finding["cgroup"], path, "{finding:#}");
    node.remove(&id);
}

/// crun makes no cgroup then, so that the container begins in its caller's.
#[test]
fn a_container_without_a_cgroup_of_its_own_is_a_start() {
    let node = require!(Node::for_test("nocgroup", false));
    if !Path::new("/usr/bin/crun").exists() {
        imageswap_lab::skip("nocgroup", "crun is not installed");
        return;
    }
    let agent = node.agent();
    let own = std::process::id();
    let path = format!("/nocgroup-{own}.service");
    let cgroup = Cgroup::make(&node.lab, &path).unwrap();
    let template = Bundle::run(
        &node.lab,
        &format!("template-{own}"),
        &["sleep", "1000"],
        false,
    );
    let template = template.unwrap();
    let pid = node.lab.path().join("nocgroup.pid");
    // crun works with cgroup v2 alone.
    let mut crun = in_pure_v2("crun");
    crun.arg("--cgroup-manager=disabled")
        .arg("--root")
        .arg(node.lab.path().join("crun"))
        .args(["run", "--detach", "--pid-file"])
        .arg(&pid)
        .arg("--bundle")
        .arg(template.dir())
        .arg(format!("nocgroup-{own}"));
    let log = std::fs::File::create(node.lab.path().join("nocgroup.log")).unwrap();
    let mut crun = cgroup.with_process(&crun);
    let ran = crun.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    let ran = ran.status().unwrap();
    let log = std::fs::read_to_string(node.lab.path().join("nocgroup.log")).unwrap();
    assert!(ran.success(), "{log}");
    let pid = std::fs::read_to_string(&pid).unwrap();
    let number: u64 = pid.trim().parse().unwrap();
    let is_its = |finding: &Value| finding["process"]["pid"] == number;
    let mut said = Vec::new();
    wait_until(PATIENCE, || {
        said = agent.said().into_iter().filter(is_its).collect();
        !said.is_empty()
    });
    // To delete it with crun would end everything in the cgroup of the test.
    let killed = Command::new("kill")
        .args(["-s", "KILL", pid.trim()])
        .status();
    assert!(killed.unwrap().success());
    assert_eq!(said.len(), 1, "{said:#?}\n{}", agent.log());
    assert_eq!(said[0]["event"], "start", "{said:#?}");
    assert_eq!(said[0]["verdict"], "unresolved", "{said:#?}");
    assert_eq!(said[0]["cgroup"], path, "{said:#?}");
}
