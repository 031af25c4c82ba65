//! Runtimes that are missing, come back, or never existed; policies that change.

use crate::harness::{Agent, DRIFT, EVIL, MAPS, Node, OURS, PATIENCE, pod_spec, words};
use imageswap_lab::{require, wait_until};
use std::fs;
use std::os::unix::net::UnixListener;

#[test]
fn without_a_runtime_socket_it_is_unresolved_and_never_fine() {
    let node = require!(Node::with_images("nosocket"));
    let agent = Agent::start(&node.lab, Agent::command(&node.lab, None));
    node.run(OURS, "nobody-knows");
    let finding = agent.wait_for("nobody-knows", "start");
    assert_eq!(
        (&finding["verdict"], &finding["reason"]),
        (&"unresolved".into(), &"runtime-unreachable".into()),
        "{finding:#}"
    );
    assert!(
        agent.log().contains("no-such.sock"),
        "the log names the socket: {}",
        agent.log()
    );
    node.remove("nobody-knows");
}

/// A socket that accepts connections and never answers.
/// The CRI answers without the shim; but only containerd's answer shows what the process runs on.
#[test]
fn a_container_whose_shim_hangs_is_not_approved() {
    let node = require!(Node::for_test("hungshim", false));
    node.images("k8s.io");
    let cri = node.containerd.cri().unwrap();
    let pod = cri.run(&pod_spec("web", OURS)).unwrap();
    node.containerd.hang_shims(true).unwrap();
    let agent = node.agent();
    for id in [&pod.container_id, &pod.sandbox_id] {
        let finding = agent.wait_for(id, "initial");
        let [verdict, _, reason] = words(&finding);
        let expected = ["unresolved", "runtime-unreachable"];
        assert_eq!([verdict, reason], expected, "{finding:#}");
    }
    node.containerd.hang_shims(false).unwrap();
    agent.expect(&pod.container_id, "rejudged", ["approved", "pod", "ok"]);
    cri.remove(&pod).unwrap();
}

#[test]
fn a_cri_that_hangs_costs_a_verdict_no_more_than_its_patience() {
    let node = require!(Node::for_test("hungcri", false));
    node.images("k8s.io");
    node.images("default");
    let hung = node.lab.path().join("hung.sock");
    let _listens = UnixListener::bind(&hung).unwrap();
    let (mut command, admin) = Agent::command_without_sockets(&node.lab);
    command.arg("--containerd").arg(node.containerd.socket());
    command.arg("--cri").arg(&hung);
    let agent = Agent::start(&node.lab, (command, admin));

    let cri = node.containerd.cri().unwrap();
    let spec = pod_spec("web", OURS);
    let pod = cri.run(&spec).unwrap();
    // Containers that do not need the CRI do not wait for it.
    node.run(EVIL, "beside");
    agent.expect("beside", "start", DRIFT);
    // containerd's own record names the image.
    agent.expect(&pod.container_id, "start", ["approved", "pod", "ok"]);
    assert!(agent.log().contains("hung.sock"), "{}", agent.log());
    node.remove("beside");
    cri.remove(&pod).unwrap();
}

#[test]
fn a_runtime_that_comes_back_resolves_what_was_open() {
    let mut node = require!(Node::with_images("restart"));
    node.run(EVIL, "survivor");
    node.containerd.stop();
    let agent = node.agent();
    let finding = agent.wait_for("survivor", "initial");
    assert_eq!(words(&finding)[0], "unresolved", "{finding:#}");
    node.containerd.start_again().unwrap();
    agent.expect("survivor", "rejudged", DRIFT);
    assert!(agent.metric("imageswap_agent_reconciled_total{cause=\"late-answer\"}") >= 1.0);
    node.remove("survivor");
    agent.wait_for("survivor", "stopped");
}

#[test]
fn a_changed_policy_judges_again_and_a_bad_one_changes_nothing() {
    let node = require!(Node::with_images("policy"));
    let agent = node.agent();
    node.run(EVIL, "judged");
    let finding = agent.wait_for("judged", "start");
    assert_eq!(finding["verdict"], "drift");
    fs::write(&agent.maps, "no separator here\n").unwrap();
    assert!(
        wait_until(PATIENCE, || agent
            .metric("imageswap_policy_reload_failures_total")
            >= 1.0),
        "{}",
        agent.log()
    );
    assert!(agent.log().contains("maps.conf:1:1"), "{}", agent.log());
    assert_eq!(agent.said_of("judged").len(), 1);
    fs::write(&agent.maps, format!("{MAPS}evil.example.net::\n")).unwrap();
    let finding = agent.wait_for("judged", "rejudged");
    assert_eq!(finding["verdict"], "approved", "{finding:#}");
    assert!(
        agent
            .said()
            .iter()
            .all(|finding| finding["schema"] == "imageswap.io/finding/v1")
    );
    node.remove("judged");
}

/// Seconds since the epoch, by this machine's clock.
fn clock() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.unwrap().as_secs()
}

fn set_clock(seconds: u64) {
    let mut date = std::process::Command::new("date");
    let set = date.arg("-s").arg(format!("@{seconds}")).output().unwrap();
    assert!(set.status.success(), "{set:?}");
}

#[test]
#[ignore = "sets the machine's clock, which is the virtual machine's own"]
fn a_clock_that_steps_hides_nothing() {
    const DAY: u64 = 86_400;
    let node = require!(Node::with_images("clock"));
    let agent = node.agent();
    for (id, step) in [("into-the-past", -1_i64), ("and-back", 1)] {
        let (before, running) = (clock(), std::time::Instant::now());
        set_clock(before.checked_add_signed(step * DAY.cast_signed()).unwrap());
        node.run(EVIL, id);
        let finding = agent.expect(id, "start", DRIFT);
        let detected = finding["detect_us"].as_u64().unwrap();
        assert!(
            u128::from(detected) <= running.elapsed().as_micros(),
            "{finding:#}"
        );
        node.remove(id);
        agent.wait_for(id, "stopped");
        assert_eq!(agent.said_of(id).len(), 2, "{:#?}", agent.said_of(id));
    }
}
