//! Containers in the place of a Pod's sandbox, which any client of containerd can make.

use crate::harness::{Agent, EVIL, Node, OURS, PATIENCE, expect, pod_spec, walks, words};
use imageswap_lab::{Cri, CriPod, require, wait_until};
use serde_json::Value;

/// The image of sandboxes in the lab's configuration of containerd.
const PAUSE: &str = "registry.k8s.io/pause:3.9";

/// A Pod whose sandbox is replaced.
struct Place {
    node: Node,
    agent: Agent,
    cri: Cri,
    pod: CriPod,
}

impl Place {
    fn for_test(test: &str) -> Option<Self> {
        let node = Node::for_test(test, false)?;
        node.images("k8s.io");
        let agent = node.agent();
        let cri = node.containerd.cri().unwrap();
        let pod = cri.run(&pod_spec("web", OURS)).unwrap();
        let place = Self {
            node,
            agent,
            cri,
            pod,
        };
        expect(place.settled(0), ["exempt", "pod", "sandbox"]);
        Some(place)
    }

    fn starts(&self) -> usize {
        starts_in(&self.agent.said_of(&self.pod.sandbox_id)).count()
    }

    /// The last finding about the latest start, once there are more starts than `before` and every
    /// source has answered.
    fn settled(&self, before: usize) -> Value {
        let mut last = Value::Null;
        let is_settled = wait_until(PATIENCE, || {
            let said = self.agent.said_of(&self.pod.sandbox_id);
            // The end of the start before may be reported after this one's first finding.
            let Some(latest) = starts_in(&said).skip(before).last() else {
                return false;
            };
            let of_latest = |it: &&Value| it["start_id"] == latest["start_id"];
            last = said.iter().rfind(of_latest).cloned().unwrap();
            last["reason"] != "runtime-unreachable"
        });
        assert!(is_settled, "{last:#}\n{}", self.agent.log());
        last
    }

    /// Makes its container again, with the labels of a sandbox, and returns the finding about it.
    fn put(&self, kind: &str, flags: &[&str], image: &str, command: &[&str]) -> Value {
        let id = &*self.pod.sandbox_id;
        let before = self.starts();
        self.node.containerd.remove("k8s.io", id).unwrap();
        let labels = [
            format!("io.cri-containerd.kind={kind}"),
            format!("io.kubernetes.pod.uid={}", self.pod.uid),
            "io.kubernetes.pod.namespace=team-a".to_owned(),
            "io.kubernetes.pod.name=web".to_owned(),
        ];
        let labels = labels.iter().flat_map(|label| ["--label", label]);
        let flags: Vec<_> = labels.chain(flags.iter().copied()).collect();
        self.node
            .containerd
            .run_as(&flags, "k8s.io", image, id, command)
            .unwrap();
        self.settled(before)
    }

    fn remove(&self) {
        let id = &self.pod.sandbox_id;
        self.node.containerd.remove("k8s.io", id).unwrap();
        self.cri.remove(&self.pod).unwrap();
    }
}

fn starts_in(said: &[Value]) -> impl Iterator<Item = &Value> {
    said.iter().filter(|it| it["event"] == "start")
}

#[test]
fn a_sandbox_that_was_made_again_is_not_exempt() {
    let place = require!(Place::for_test("again"));
    let volume = place.node.lab.path().join("volume");
    std::fs::create_dir(&volume).unwrap();
    let volume = format!(
        "type=bind,src={},dst=/volume,options=rbind:ro",
        volume.display()
    );
    let own = ["/bin/sleep", "2147483647"];
    let other = ["/bin/sleep", "1000"];
    for (what, kind, flags, command) in [
        ("another command", "sandbox", &[][..], other),
        ("a volume", "sandbox", &["--mount", &*volume][..], own),
        ("another label", "container", &[][..], other),
        // Only the CRI shows that the process is another one.
        ("nothing changed", "sandbox", &[][..], own),
    ] {
        let finding = place.put(kind, flags, PAUSE, &command);
        let expected = ["unresolved", "pod", "ambiguous"];
        assert_eq!(words(&finding), expected, "{what}: {finding:#}");
    }
    place.remove();
}

/// The CRI plugin of a containerd that restarts takes any running task of a sandbox for the one that
/// it started.
#[test]
fn a_sandbox_that_was_started_again_is_not_exempt_once_containerd_restarts() {
    let mut place = require!(Place::for_test("restarted"));
    let id = place.pod.sandbox_id.clone();
    let before = place.starts();
    let task = |args: &[&str]| place.node.containerd.ctr("k8s.io", args);
    // The CRI plugin deletes a task that has ended, so that either command may find it gone.
    drop(task(&["task", "kill", "--signal", "KILL", &id]));
    let is_gone = || {
        let tasks = task(&["task", "ls", "--quiet"]);
        tasks.is_ok_and(|tasks| !String::from_utf8_lossy(&tasks.stdout).contains(&*id))
    };
    assert!(wait_until(PATIENCE, is_gone));
    // A task is off containerd's list before its folder is removed, and cannot start until then.
    let start = || task(&["task", "start", "--detach", "--null-io", &id]).is_ok();
    assert!(wait_until(PATIENCE, start));
    let expected = ["unresolved", "pod", "ambiguous"];
    expect(place.settled(before), expected);
    place.node.containerd.stop();
    place.node.containerd.start_again().unwrap();
    place.cri = place.node.containerd.cri().unwrap();
    // Only this agent knows that it has another process.
    let later = place.node.agent();
    let finding = later.wait_for(&id, "initial");
    assert_eq!(words(&finding)[0], "exempt", "{finding:#}");
    walks(&place.agent, 3);
    expect(place.settled(before), expected);
    place.cri.remove(&place.pod).unwrap();
}

#[test]
fn another_image_in_the_place_of_a_sandbox_is_not_exempt() {
    let place = require!(Place::for_test("instead"));
    let finding = place.put("sandbox", &[], EVIL, &[]);
    // Later versions do not show which image they use for sandboxes.
    let expected = if place.node.containerd.version().unwrap() < [2, 0] {
        ["drift", "cri", "not-admitted"]
    } else {
        ["unresolved", "pod", "ambiguous"]
    };
    assert_eq!(words(&finding), expected, "{finding:#}");
    assert_eq!(finding["image"], EVIL, "{finding:#}");
    assert_eq!(finding["pod"]["name"], "web", "{finding:#}");
    place.remove();
}
