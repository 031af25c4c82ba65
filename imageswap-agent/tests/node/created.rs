//! Containers that were created and wait for their start: whoever may use the runtime can change them
//! meanwhile.

use crate::harness::{Node, OURS, PATIENCE, folder_of, words};
use imageswap_lab::{require, wait_until};
use serde_json::json;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

/// runc, but for a start that waits until somebody lets it go on.
const WAITS: &str = "#!/bin/sh\ncase \" $* \" in *\" start \"*) : > \"$0.created\"; while [ ! -e \"$0.go\" ]; do sleep 0.02; done;; esac\n\
     exec runc \"$@\"\n";
/// Makes another root file system the container's, and leaves nothing of the old one.
const ANOTHER_ROOT: &str = "b=/bin/busybox; $b mkdir -p /t && $b mount -t tmpfs t /t && cd /t && $b mkdir bin old && \
    $b cp $b bin/busybox && $b cp $b bin/sleep && $b pivot_root . old && $b umount -l /old";

/// A container of the approved image that waits for its start.
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

/// The first walk that finds its process takes it for the container's.
#[test]
fn a_root_that_is_replaced_before_the_start_approves_nothing() {
    let node = require!(Node::with_images("newroot"));
    let agent = node.agent();
    let waiting = Waiting::create(&node, "newroot", &[OURS, "newroot", "/bin/sleep", "1000"]);
    agent.wait_for("newroot", "reconciled");
    let pid = waiting.pid(&node);
    let mut replace = Command::new("nsenter");
    replace.args(["--target", &pid, "--mount", "/bin/busybox", "sh", "-c"]);
    assert!(replace.arg(ANOTHER_ROOT).status().unwrap().success());
    waiting.start();
    let last = || agent.said_of("newroot").pop().unwrap();
    let is_refused = || words(&last())[0] != "approved";
    assert!(wait_until(PATIENCE, is_refused), "{}", agent.log());
    node.remove("newroot");
}

/// Neither the new cgroup nor a pid namespace shows it, and it ends before anybody looks.
#[test]
fn a_process_that_is_moved_before_the_start_is_not_missed() {
    let node = require!(Node::for_test("moved", false));
    let [root, config] = ["root", "config.json"].map(|it| node.lab.path().join(it));
    fs::create_dir(&root).unwrap();
    imageswap_lab::unpack_root(&root).unwrap();
    let before = format!("/before-moved-{}", std::process::id());
    fs::create_dir(folder_of(&before)).unwrap();
    let agent = node.agent_without_walks();
    let counted = "imageswap_agent_events_lost_total{cause=\"unplaced-exec\"}";
    for (id, to) in [("moved-old", &*before), ("moved-root", "/")] {
        let so_far = agent.metric(counted);
        let kinds = ["mount", "ipc", "uts", "network"].map(|kind| json!({"type": kind}));
        let spec = json!({
            "ociVersion": "1.0.2",
            "process": {"user": {"uid": 0, "gid": 0}, "cwd": "/", "args": ["/bin/sleep", "0.01"]},
            "root": {"path": root},
            "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"}],
            "linux": {"cgroupsPath": format!("/default/{id}"), "namespaces": kinds},
        });
        fs::write(&config, spec.to_string()).unwrap();
        let config = config.display().to_string();
        let waiting = Waiting::create(&node, id, &["--config", &config, id]);
        let procs = Path::new(&folder_of(to)).join("cgroup.procs");
        fs::write(procs, waiting.pid(&node)).unwrap();
        waiting.start();
        let is_known = || {
            let is_reported = agent.said_of(id).iter().any(|it| it["event"] == "start");
            is_reported || agent.metric(counted) > so_far
        };
        assert!(wait_until(PATIENCE, is_known), "{id}: {}", agent.log());
        node.remove(id);
    }
    fs::remove_dir(folder_of(&before)).unwrap();
}
