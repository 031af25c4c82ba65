//! Nothing is missed: a ring buffer that is too small, an agent that is killed, two at once.

use crate::harness::{Agent, EVIL, Node, OURS, PATIENCE, words};
use imageswap_lab::{BpfStatistics, wait_until};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Starts of a run, where nobody says otherwise; `IMAGESWAP_STARTS=1000` is a matter of minutes.
const STARTS: usize = 60;

/// The smallest ring buffer there is: a page, seven records of new cgroups.
const SMALL_RING: &str = "4096";

/// A BPF file system of this test's own.
struct BpfFileSystem(PathBuf);

impl BpfFileSystem {
    fn mount(lab: &Path) -> Self {
        let at = lab.join("bpf");
        std::fs::create_dir_all(&at).unwrap();
        let mut mount = Command::new("mount");
        let mounted = mount.args(["-t", "bpf", "bpf"]).arg(&at).status().unwrap();
        assert!(mounted.success());
        Self(at)
    }

    fn pins(&self) -> String {
        self.0.join("imageswap").display().to_string()
    }
}

impl Drop for BpfFileSystem {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg(&self.0).status();
        assert!(unmounted.is_ok_and(|status| status.success()));
    }
}

fn agent(node: &Node, flags: &[&str]) -> Agent {
    let (mut command, admin) = Agent::command(&node.lab, Some(node.containerd.socket()));
    command.args(flags);
    Agent::start(&node.lab, (command, admin))
}

fn starts() -> usize {
    let asked = std::env::var("IMAGESWAP_STARTS").ok();
    asked.map_or(STARTS, |starts| starts.parse().unwrap())
}

/// Starts containers, of which every tenth stays and the others live 20 ms; ids of those that stay.
fn run_many(node: &Node, prefix: &str, starts: usize) -> Vec<String> {
    let mut staying = Vec::new();
    for at in 0..starts {
        let id = format!("{prefix}-{at}");
        let image = if at % 20 == 0 { OURS } else { EVIL };
        if at % 10 == 0 {
            node.containerd.run("default", image, &id, &[]).unwrap();
            staying.push(id);
        } else {
            node.containerd
                .run_to_end("default", image, &id, &["sleep", "0.02"])
                .unwrap();
        }
    }
    staying
}

/// How often each container of `prefix` was told as started, by all agents together.
fn told(agents: &[&Agent], prefix: &str) -> HashMap<String, usize> {
    let mut told = HashMap::new();
    for finding in agents.iter().flat_map(|agent| agent.said()) {
        let id = finding["container"]["id"].as_str().unwrap_or_default();
        if id.starts_with(prefix)
            && ["start", "reconciled"].contains(&finding["event"].as_str().unwrap_or_default())
        {
            *told.entry(id.to_owned()).or_default() += 1;
        }
    }
    told
}

fn verdict_of(at: &str) -> &'static str {
    let number: usize = at.rsplit('-').next().unwrap().parse().unwrap();
    if number.is_multiple_of(20) {
        "approved"
    } else {
        "drift"
    }
}

#[test]
fn what_does_not_fit_the_ring_is_counted_and_found() {
    let Some(node) = Node::for_test("smallring", false) else {
        return;
    };
    node.images("default");
    let agent = agent(&node, &["--ring-bytes", SMALL_RING]);
    let starts = starts();
    // An agent that gets no time to read, as on a node that is overloaded.
    agent.signal("STOP");
    let mut staying = run_many(&node, "ring-a", starts / 2);
    agent.signal("CONT");
    staying.extend(run_many(&node, "ring-b", starts / 2));
    let lost = || agent.sum("imageswap_agent_events_lost_total");
    let all = wait_until(PATIENCE, || {
        let told = told(&[&agent], "ring-");
        staying.iter().all(|id| told.contains_key(id))
    });
    assert!(all, "{}", agent.log());
    assert!(lost() > 0.0, "the ring was to be too small");
    let told = told(&[&agent], "ring-");
    println!(
        "{starts} starts: {} seen, {} events lost",
        told.len(),
        lost()
    );
    #[expect(clippy::cast_precision_loss, reason = "thousands at most")]
    let known = told.len() as f64 + lost();
    #[expect(clippy::cast_precision_loss, reason = "thousands at most")]
    let started = starts as f64;
    assert!(known >= started, "{known} of {started}");
    for id in &staying {
        assert_eq!(told.get(id), Some(&1), "{id}: {:#?}", agent.said_of(id));
        let finding = agent.said_of(id).pop().unwrap();
        assert_eq!(finding["verdict"], verdict_of(id), "{finding:#}");
        node.containerd.remove("default", id).unwrap();
    }
}

#[test]
fn what_starts_while_no_agent_runs_is_told_by_the_next_one() {
    let Some(node) = Node::for_test("killed", false) else {
        return;
    };
    node.images("default");
    let bpf = BpfFileSystem::mount(node.lab.path());
    let pin = ["--pin", &bpf.pins()];
    let _counted = BpfStatistics::on().unwrap();
    let first = agent(&node, &pin);
    let starts = starts() / 3;
    let mut staying = run_many(&node, "first", starts);
    assert!(wait_until(PATIENCE, || {
        told(&[&first], "first-").len() == starts
    }));
    let of_first = told(&[&first], "first-");
    let costs = ["runs", "run_nanoseconds"].map(|what| {
        format!("imageswap_agent_probe_{what}_total{{program=\"sched_process_exec\"}}")
    });
    let counts = |agent: &Agent| {
        let counted = || costs.iter().all(|series| agent.metric(series) > 0.0);
        wait_until(PATIENCE, counted)
    };
    assert!(counts(&first), "{}", first.log());
    first.kill();
    staying.extend(run_many(&node, "between", starts));
    let second = agent(&node, &pin);
    assert!(second.log().contains("resumed=true"), "{}", second.log());
    staying.extend(run_many(&node, "second", starts));

    let all = wait_until(PATIENCE, || {
        told(&[&second], "between-").len() == starts && told(&[&second], "second-").len() == starts
    });
    let mut of_second = told(&[&second], "between-");
    of_second.extend(told(&[&second], "second-"));
    assert!(all, "{of_second:#?}\n{}", second.log());
    println!(
        "{} starts: {} seen before, {} after",
        starts * 3,
        of_first.len(),
        of_second.len()
    );
    let twice: Vec<_> = of_second.iter().filter(|(_, times)| **times != 1).collect();
    assert!(twice.is_empty(), "{twice:?}");
    for id in &staying {
        assert!(
            wait_until(PATIENCE, || {
                let last = second.said_of(id).pop();
                last.is_some_and(|last| last["verdict"] == verdict_of(id))
            }),
            "{id}: {:#?}",
            second.said_of(id)
        );
        node.containerd.remove("default", id).unwrap();
    }
    assert!(counts(&second), "{}", second.log());
    second.kill();
    drop(bpf);
}

#[test]
fn a_second_agent_does_no_harm() {
    let Some(node) = Node::for_test("second", false) else {
        return;
    };
    node.images("default");
    let bpf = BpfFileSystem::mount(node.lab.path());
    let pin = ["--pin", &bpf.pins()];
    let first = agent(&node, &pin);
    let second = agent(&node, &pin);
    assert!(
        second.log().contains("another agent has its probes"),
        "{}",
        second.log()
    );
    node.containerd.run("default", EVIL, "both", &[]).unwrap();
    for agent in [&first, &second] {
        let finding = agent.wait_for("both", "start");
        assert_eq!(
            words(&finding),
            ["drift", "containerd", "not-admitted"],
            "{finding:#}"
        );
    }
    node.containerd.remove("default", "both").unwrap();
    // The pins outlive them until the file system goes.
    first.kill();
    second.kill();
    std::thread::sleep(Duration::from_millis(10));
    drop(bpf);
}
