//! Containers that were created and wait for their start: whoever may use the runtime can change them
//! meanwhile.

use crate::harness::{Agent, Node, PATIENCE, folder_of};
use imageswap_lab::{require, wait_until};
use serde_json::json;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

/// runc, but for a start that waits until somebody lets it go on.
const WAITS: &str = "#!/bin/sh\ncase \" $* \" in *\" start \"*) : > \"$0.created\"; while [ ! -e \"$0.go\" ]; do sleep 0.02; done;; esac\n\
     exec runc \"$@\"\n";
const COUNTED: &str = "imageswap_agent_events_lost_total{cause=\"unplaced-exec\"}";

/// A container that waits for its start.
struct Waiting {
    id: &'static str,
    runtime: PathBuf,
    started: thread::JoinHandle<()>,
}

impl Waiting {
    fn create(node: &Node, id: &'static str, container: &[&str]) -> Self {
        let runtime = node.lab.path().join(format!("runc-{id}"));
        fs::write(&runtime, WAITS).unwrap();
        fs::set_permissions(&runtime, fs::Permissions::from_mode(0o755)).unwrap();
        let mut run = Command::new("ctr");
        run.arg("--address").arg(node.containerd.socket());
        run.args(["run", "--detach", "--runc-binary"]).arg(&runtime);
        run.arg("--runc-root").arg(node.lab.path().join("waiting"));
        run.args(container);
        let started = thread::spawn(move || assert!(run.status().unwrap().success()));
        let waiting = Self {
            id,
            runtime,
            started,
        };
        let created = waiting.file("created");
        assert!(wait_until(PATIENCE, || created.exists()));
        waiting
    }

    fn file(&self, end: &str) -> PathBuf {
        PathBuf::from(format!("{}.{end}", self.runtime.display()))
    }

    /// Its first process.
    fn pid(&self, node: &Node) -> String {
        let tasks = node
            .containerd
            .state()
            .join("io.containerd.runtime.v2.task");
        fs::read_to_string(tasks.join("default").join(self.id).join("init.pid")).unwrap()
    }

    fn start(self) {
        fs::write(self.file("go"), "").unwrap();
        self.started.join().unwrap();
    }
}

/// Neither the new cgroup nor a pid namespace shows it, and it ends before anybody looks.
#[test]
fn a_process_that_is_moved_before_the_start_is_not_missed() {
    let node = require!(Node::for_test_alone("moved"));
    imageswap_lab::unpack_root(&root_of(&node)).unwrap();
    let before = format!("/before-moved-{}", std::process::id());
    fs::create_dir(folder_of(&before)).unwrap();
    let agent = node.agent_without_walks();
    for (id, to) in [("moved-old", &*before), ("moved-root", "/")] {
        let so_far = agent.metric(COUNTED);
        let kinds = ["mount", "ipc", "uts", "network"];
        let config = configuration(&node, id, &kinds, &["/bin/sleep", "0.01"]);
        let waiting = Waiting::create(&node, id, &["--config", &config, id]);
        let procs = Path::new(&folder_of(to)).join("cgroup.procs");
        fs::write(procs, waiting.pid(&node)).unwrap();
        waiting.start();
        let is_known = || {
            let is_reported = agent.said_of(id).iter().any(|it| it["event"] == "start");
            is_reported || agent.metric(COUNTED) > so_far
        };
        assert!(wait_until(PATIENCE, is_known), "{id}: {}", agent.log());
        node.remove(id);
    }
    fs::remove_dir(folder_of(&before)).unwrap();
}

/// As in a crash loop of a program for another architecture. The chart's agent has no other capabilities.
#[test]
fn a_program_that_the_kernel_refuses_is_no_loss() {
    let node = require!(Node::for_test_alone("garbage"));
    let root = root_of(&node);
    imageswap_lab::unpack_root(&root).unwrap();
    let garbage = root.join("garbage");
    fs::write(&garbage, "neither a program nor a script").unwrap();
    fs::set_permissions(&garbage, fs::Permissions::from_mode(0o755)).unwrap();
    let (usual, admin) = Agent::command(&node.lab, Some(node.containerd.socket()));
    let mut command = Command::new("setpriv");
    command.args(["--bounding-set=-all,+bpf,+perfmon", "--inh-caps=-all"]);
    command.arg(usual.get_program()).args(usual.get_args());
    let agent = Agent::start(&node.lab, (command, admin));
    let kinds = ["pid", "mount", "ipc", "uts", "network"];
    for (id, program) in [("garbage", "/garbage"), ("after-garbage", "/bin/true")] {
        let config = configuration(&node, id, &kinds, &[program]);
        let run = ["run", "--detach", "--config", &config, id];
        node.containerd.ctr("default", run).unwrap();
    }
    agent.wait_for("after-garbage", "start");
    // A start that was reported after its end is counted ten seconds later.
    thread::sleep(Duration::from_secs(12));
    let counted = agent.metric(COUNTED);
    for id in ["garbage", "after-garbage"] {
        node.remove(id);
    }
    assert!(counted == 0.0, "{counted}: {}", agent.log());
}

fn root_of(node: &Node) -> PathBuf {
    let root = node.lab.path().join("root");
    fs::create_dir_all(&root).unwrap();
    root
}

/// A file with the OCI configuration of a container with these namespaces.
fn configuration(node: &Node, id: &str, namespaces: &[&str], program: &[&str]) -> String {
    let namespaces = namespaces.iter().map(|kind| json!({"type": kind}));
    let spec = json!({
        "ociVersion": "1.0.2",
        "process": {"user": {"uid": 0, "gid": 0}, "cwd": "/", "args": program},
        "root": {"path": root_of(node)},
        "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"}],
        "linux": {"cgroupsPath": format!("/default/{id}"), "namespaces": namespaces.collect::<Vec<_>>()},
    });
    let file = node.lab.path().join(format!("{id}.json"));
    fs::write(&file, spec.to_string()).unwrap();
    file.display().to_string()
}
