//! Containers whose processes do unusual things at their start or before their end.

use crate::harness::{EVIL, Node, OURS, PATIENCE, folder_of, walks, words};
use imageswap_lab::{Bundle, Cgroup, Process, require, wait_until};
use serde_json::Value;
use std::fs;
use std::process::Command;

/// Makes a first process that is a fork of the shell, which runs no program of its own. The shell
/// ends with the container.
const FORKS: &str = "(sleep 300 & wait) & wait";
const STAYS: &str = "(while :; do read line < \"$0\"; done) & wait";
/// The first process lives in one pid namespace and has unshared another one when it runs a program.
const UNSHARES: &str =
    "my $p = fork; if (!$p) { syscall(0 + $ARGV[0], 0x20000000); exec 'sleep', '300' } wait";

/// The number of the system call `unshare`.
pub(crate) const UNSHARE: &str = if cfg!(target_arch = "x86_64") {
    "272"
} else {
    "97"
};

#[test]
fn a_first_process_without_a_program_of_its_own_hides_nothing() {
    let node = require!(Node::for_test("forks", false));
    let agent = node.agent();
    walks(&agent, 1);
    let fifo = node.lab.path().join("forks.fifo");
    let made = Command::new("mkfifo").arg(&fifo).status().unwrap();
    assert!(made.success());
    let fifo = fifo.display().to_string();
    let rows: [(&str, &[&str], &str); 3] = [
        ("forks", &["sh", "-c", FORKS], "start"),
        ("unshares", &["perl", "-e", UNSHARES, UNSHARE], "start"),
        ("stays", &["sh", "-c", STAYS, &fifo], "reconciled"),
    ];
    for (name, command, event) in rows {
        let path = format!("/{name}-{}.service", std::process::id());
        let cgroup = Cgroup::make(&node.lab, &path).unwrap();
        // The agent knows this cgroup as one without a container.
        walks(&agent, 2);
        let mut unshare = Command::new("unshare");
        unshare.args(["--pid", "--mount", "--"]).args(command);
        let mut maker = Process::start(&node.lab, name, cgroup.with_process(&unshare)).unwrap();
        let said = || {
            let said = agent.said().into_iter();
            said.filter(|finding| finding["cgroup"] == path.as_str())
                .collect::<Vec<Value>>()
        };
        let is_seen = wait_until(PATIENCE, || !said().is_empty());
        assert!(is_seen, "{name}: {}", agent.log());
        let finding = &said()[0];
        assert_eq!(finding["event"], event, "{name}: {finding:#}");
        assert_eq!(
            words(finding),
            ["unresolved", "unknown", "not-admitted"],
            "{name}: {finding:#}"
        );
        // Both are about the first process of the namespace, so that a walk finds nothing new.
        walks(&agent, 2);
        assert_eq!(said().len(), 1, "{name}: {:#?}", said());
        let pid = finding["process"]["pid"].to_string();
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let ids = status.lines().find(|line| line.starts_with("NSpid:"));
        assert!(ids.unwrap().ends_with("\t1"), "{name}: {ids:?}");
        kill(&pid);
        maker.stop();
        let has_stopped = || said().iter().any(|it| it["event"] == "stopped");
        assert!(wait_until(PATIENCE, has_stopped), "{name}: {:#?}", said());
    }
}

#[test]
fn a_container_that_is_moved_to_another_cgroup_runs_on() {
    let node = require!(Node::with_images("moved"));
    let agent = node.agent();
    let path = format!("/moved-{}.service", std::process::id());
    let cgroup = Cgroup::make(&node.lab, &path).unwrap();
    let sleep = ["sleep", "1000"];
    node.containerd
        .run("default", EVIL, "moved", &sleep)
        .unwrap();
    let finding = agent.wait_for("moved", "start");
    assert_eq!(words(&finding)[0], "drift", "{finding:#}");
    let pid = finding["process"]["pid"].to_string();
    fs::write(folder_of(&path).join("cgroup.procs"), &pid).unwrap();
    fs::remove_dir(folder_of("/default/moved")).unwrap();
    // A later event of the same kind has been handled.
    node.containerd
        .run("default", OURS, "after-moved", &sleep)
        .unwrap();
    agent.wait_for("after-moved", "start");
    node.remove("after-moved");
    agent.wait_for("after-moved", "stopped");
    walks(&agent, 2);
    assert_eq!(agent.said_of("moved").len(), 1, "{:#?}", agent.said());
    node.remove("moved");
    agent.wait_for("moved", "stopped");
    drop(cgroup);
}

#[test]
fn a_container_from_before_in_a_cgroup_that_cannot_be_read_is_counted_once() {
    // The counter is of the whole machine.
    let node = require!(Node::for_test_alone("toodeep"));
    node.images("default");
    let path = format!("/toodeep-{}.service", std::process::id());
    let cgroup = Cgroup::make(&node.lab, &path).unwrap();
    let sleep = ["sleep", "1000"];
    node.containerd
        .run("default", EVIL, "toodeep", &sleep)
        .unwrap();
    let pid = fs::read_to_string(folder_of("/default/toodeep").join("cgroup.procs")).unwrap();
    let below = |script: &str| {
        let mut sh = Command::new("sh");
        let name = "d".repeat(250);
        sh.args(["-c", script, "sh", &name, pid.trim()])
            .current_dir(folder_of(&path));
        assert!(sh.status().unwrap().success(), "{script}");
    };
    below("for i in $(seq 20); do mkdir $1 && cd -P $1 || exit 1; done; echo $2 > cgroup.procs");
    let agent = node.agent();
    let lost = || agent.metric("imageswap_agent_events_lost_total{cause=\"unplaced-exec\"}");
    assert!(wait_until(PATIENCE, || lost() > 0.0), "{}", agent.log());
    walks(&agent, 2);
    assert!(lost() < 1.5, "{}", agent.log());
    node.remove("toodeep");
    below("find . -mindepth 1 -depth -type d -delete");
    drop(cgroup);
}

#[test]
fn a_container_without_a_pid_namespace_runs_until_its_last_process_ends() {
    let node = require!(Node::for_test("lastone", false));
    let agent = node.agent();
    let id = format!("lastone-{}", std::process::id());
    let script = ["sh", "-c", "sleep 300 & sleep 3"];
    let cgroup = format!("/{id}");
    let _bundle = Bundle::run_without(&node.lab, &id, &script, &cgroup, &["pid"]).unwrap();
    // crun may write its state after the start, so that the first finding has no id.
    let is_known = || !agent.said_of(&id).is_empty();
    assert!(wait_until(PATIENCE, is_known), "{}", agent.log());
    let finding = agent.said_of(&id).remove(0);
    let pid = finding["process"]["pid"].to_string();
    assert!(wait_until(PATIENCE, || has_ended(&pid)));
    walks(&agent, 2);
    let has_stopped = |finding: &Value| finding["event"] == "stopped";
    assert!(!agent.said_of(&id).iter().any(has_stopped));
    let others = fs::read_to_string(folder_of(&cgroup).join("cgroup.procs")).unwrap();
    assert!(!others.trim().is_empty());
    for pid in others.lines() {
        kill(pid);
    }
    agent.wait_for(&id, "stopped");
}

/// Root can move any process into a container's cgroup. Its container stays what it is, and does not
/// keep the other one from ending.
#[test]
fn a_process_that_is_moved_into_a_container_is_not_its() {
    let node = require!(Node::with_images("joins"));
    let agent = node.agent();
    let sleep = ["sleep", "1000"];
    node.containerd
        .run("default", EVIL, "joins", &sleep)
        .unwrap();
    let guest = agent.wait_for("joins", "start");
    assert_eq!(words(&guest)[0], "drift", "{guest:#}");
    let id = format!("joined-by-{}", std::process::id());
    let script = ["sh", "-c", "sleep 300 & exec sleep 3"];
    let cgroup = format!("/{id}");
    let _bundle = Bundle::run_without(&node.lab, &id, &script, &cgroup, &["pid"]).unwrap();
    let is_known = || !agent.said_of(&id).is_empty();
    assert!(wait_until(PATIENCE, is_known), "{}", agent.log());
    let first = agent.said_of(&id)[0]["process"]["pid"].to_string();
    let guest = guest["process"]["pid"].to_string();
    let procs = folder_of(&cgroup).join("cgroup.procs");
    fs::write(&procs, &guest).unwrap();
    assert!(wait_until(PATIENCE, || has_ended(&first)));
    walks(&agent, 2);
    let has_stopped = |finding: &Value| finding["event"] == "stopped";
    assert!(!agent.said_of(&id).iter().any(has_stopped));
    let members = fs::read_to_string(&procs).unwrap();
    assert!(members.lines().any(|pid| pid == guest), "{members}");
    members.lines().filter(|pid| *pid != guest).for_each(kill);
    agent.wait_for(&id, "stopped");
    assert!(!has_ended(&guest));
    assert_eq!(agent.said_of("joins").len(), 1, "{:#?}", agent.said());
    node.remove("joins");
    agent.wait_for("joins", "stopped");
}

/// Whether a process is gone or a zombie.
fn has_ended(pid: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.is_empty() || stat.contains(") Z ")
}

fn kill(pid: &str) {
    let killed = Command::new("kill").args(["-s", "KILL", pid]).status();
    assert!(killed.unwrap().success());
}

/// A client of a runtime can run programs in a container that was only created.
#[test]
fn a_program_before_the_containers_own_hides_no_start() {
    let node = require!(Node::for_test("before", false));
    let agent = node.agent_without_walks();
    let id = format!("before-{}", std::process::id());
    let path = format!("/{id}.service");
    let program = ["sleep", "1000"];
    let bundle = Bundle::create_without(&node.lab, &id, &program, &path, &["pid"]).unwrap();
    for times in 1..=3 {
        bundle.exec(&["true"]).unwrap();
        // The agent has asked about it, and no source knows it.
        let line = format!("path={path:?} waits=Yes");
        let waits = || agent.log().matches(&line).count() >= times;
        assert!(wait_until(PATIENCE, waits), "{}", agent.log());
    }
    bundle.begin().unwrap();
    let said = || {
        let said = agent.said().into_iter();
        said.filter(|it| it["cgroup"] == path.as_str() && it["event"] == "start")
            .collect::<Vec<Value>>()
    };
    assert!(
        wait_until(PATIENCE, || !said().is_empty()),
        "{}",
        agent.log()
    );
    let [finding] = &said()[..] else {
        panic!("{:#?}", said())
    };
    assert_eq!(finding["process"]["comm"], "sleep", "{finding:#}");
    assert_eq!(words(finding)[0], "unresolved", "{finding:#}");
}
