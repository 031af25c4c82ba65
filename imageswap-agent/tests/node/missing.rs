//! No start is missed: with a tiny ring buffer, a killed agent, two agents at once.

use crate::harness::{Agent, DRIFT, EVIL, Node, OURS, PATIENCE, brief_containers, peak, pod_spec};
use imageswap_lab::{BpfStatistics, Bundle, Cgroup, Cri, CriPod, require, wait_until};
use serde_json::Value;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Tens of starts per step by default; `IMAGESWAP_ROUNDS=50` takes minutes.
const ROUNDS: usize = 2;

/// The smallest ring buffer there is: a page, seven records of new cgroups.
const SMALL_RING: &str = "4096";

/// Starts that an agent finds when it begins, and how much they may add to its peak memory, in KiB.
const EARLIER: usize = 600;
const GROWTH: usize = 4096;

/// The test's own BPF file system.
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

fn rounds() -> usize {
    let asked = std::env::var("IMAGESWAP_ROUNDS").ok();
    asked.map_or(ROUNDS, |rounds| rounds.parse().unwrap())
}

/// Containers started by every route that needs no cluster.
#[derive(Default)]
struct Load {
    /// How many containers began.
    started: usize,
    /// Containers that stay, with the expected words about them.
    staying: Vec<(String, &'static str)>,
    ctr: Vec<String>,
    pods: Vec<CriPod>,
    bundles: Vec<Bundle>,
}

impl Load {
    /// Starts containers in rounds of ten, most of which live 20 ms.
    fn run(&mut self, node: &Node, cri: &Cri, prefix: &str, rounds: usize) {
        for at in 0..rounds * 10 {
            let id = format!("{prefix}-{at}");
            let (image, verdict) = if at % 20 < 10 {
                (OURS, "approved")
            } else {
                (EVIL, "drift")
            };
            self.started += 1;
            match at % 10 {
                0 => {
                    node.run(image, &id);
                    self.ctr.push(id.clone());
                    self.staying.push((id, verdict));
                }
                3 => {
                    let spec = pod_spec(&id, image);
                    let pod = cri.run(&spec).unwrap();
                    self.started += 1;
                    self.staying.push((pod.sandbox_id.clone(), "exempt"));
                    self.staying.push((pod.container_id.clone(), verdict));
                    self.pods.push(pod);
                }
                5 => {
                    let bundle = Bundle::run(&node.lab, &id, &["sleep", "1000"], node.pure_v2);
                    self.bundles.push(bundle.unwrap());
                    self.staying.push((id, "unresolved"));
                }
                _ => node
                    .containerd
                    .run_to_end("default", image, &id, &["sleep", "0.02"])
                    .unwrap(),
            }
        }
    }

    fn end(self, node: &Node, cri: &Cri) {
        for id in &self.ctr {
            node.remove(id);
        }
        for pod in &self.pods {
            cri.remove(pod).unwrap();
        }
    }
}

/// How often each container with this name prefix was reported as started, by all agents together.
fn told(agents: &[&Agent], prefix: &str) -> HashMap<String, usize> {
    let mut told = HashMap::new();
    for finding in agents.iter().flat_map(|agent| agent.said()) {
        let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let cgroup = word(&finding["cgroup"]);
        let is_ours = cgroup.contains(prefix) || word(&finding["pod"]["name"]).starts_with(prefix);
        if is_ours && ["start", "reconciled"].contains(&&*word(&finding["event"])) {
            // If a container was gone at once, only its cgroup may be known, which is named after
            // the container.
            let id = cgroup.rsplit('/').next().unwrap_or_default();
            *told.entry(id.to_owned()).or_default() += 1;
        }
    }
    told
}

fn lost(agent: &Agent, cause: &str) -> f64 {
    agent.metric(&format!(
        "imageswap_agent_events_lost_total{{cause=\"{cause}\"}}"
    ))
}

/// How many starts are counted as lost. A lost mkdir or rmdir does not count: each start is
/// reported by its exec, or counted as lost or unplaced.
fn starts_lost(agent: &Agent) -> usize {
    let causes = ["ring-full-exec", "pending-full", "unplaced-exec"];
    let lost: f64 = causes.into_iter().map(|cause| lost(agent, cause)).sum();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a counter of thousands at most"
    )]
    let lost = lost as usize;
    lost
}

#[test]
fn what_does_not_fit_the_ring_is_counted_and_found() {
    // Cgroups of other tests would not fit either, also between the two agents.
    let node = require!(Node::for_test_alone("smallring"));
    node.images("default");
    let cri = node.containerd.cri().unwrap();
    let bpf = BpfFileSystem::mount(node.lab.path());
    let flags = ["--ring-bytes", SMALL_RING, "--pin", &bpf.pins()];
    let _counted = BpfStatistics::on().unwrap();
    let agent = agent(&node, &flags);
    let mut load = Load::default();
    // An agent that gets no time to read, as on an overloaded node.
    agent.signal("STOP");
    load.run(&node, &cri, "ring-a", rounds());
    agent.signal("CONT");
    load.run(&node, &cri, "ring-b", rounds());
    let untold = || {
        let told = told(&[&agent], "ring-");
        let staying = load.staying.iter().map(|(id, _)| id);
        staying
            .filter(|id| !told.contains_key(*id))
            .cloned()
            .collect::<Vec<_>>()
    };
    let all = wait_until(PATIENCE, || untold().is_empty());
    assert!(all, "{:?}\n{}", untold(), agent.log());
    // Containers that have ended may be told, or counted, later than those that stay.
    let known = || told(&[&agent], "ring-").len() + starts_lost(&agent);
    let all = wait_until(PATIENCE, || known() >= load.started);
    assert!(all, "{} of {}\n{}", known(), load.started, agent.log());
    let told = told(&[&agent], "ring-");
    assert!(
        lost(&agent, "ring-full-mkdir") > 0.0,
        "the ring was to be too small"
    );
    let kept = agent.metric("imageswap_agent_reconciled_total{cause=\"overflow\"}");
    assert!(kept > 0.0, "what the ring has no room for is kept");
    // The findings say so, too.
    let recorded = || -> u64 {
        let records = agent.said_of_itself().into_iter();
        let lost = records.filter(|it| it["lost"]["cause"] == "ring-full-mkdir");
        lost.filter_map(|it| it["lost"]["events"].as_u64()).sum()
    };
    #[expect(clippy::cast_precision_loss, reason = "a counter of thousands at most")]
    let counted = || (recorded() as f64 - lost(&agent, "ring-full-mkdir")).abs() < f64::EPSILON;
    assert!(wait_until(PATIENCE, counted), "{} recorded", recorded());
    let starts_lost = starts_lost(&agent);
    let Load { started, .. } = load;
    println!(
        "{started} starts: {} told, {starts_lost} counted as lost; {kept} kept beside the ring",
        told.len()
    );
    let twice: Vec<_> = told.iter().filter(|(_, times)| **times != 1).collect();
    assert!(twice.is_empty(), "{twice:?}");
    for (id, verdict) in &load.staying {
        let latest = || agent.said_of(id).pop();
        let is_right = || latest().is_some_and(|finding| finding["verdict"] == *verdict);
        assert!(
            wait_until(PATIENCE, is_right),
            "{id}: {:#?}",
            agent.said_of(id)
        );
    }
    agent.kill();
    let next = self::agent(&node, &flags);
    assert!(next.log().contains("resumed=true"), "{}", next.log());
    // It reads the counters of losses together with these.
    let runs = "imageswap_agent_probe_runs_total{program=\"sched_process_exec\"}";
    assert!(wait_until(PATIENCE, || next.metric(runs) > 0.0));
    std::thread::sleep(Duration::from_secs(1));
    let again = lost(&next, "ring-full-mkdir");
    assert!(again < f64::EPSILON, "{again} were reported before");
    load.end(&node, &cri);
    next.kill();
    drop(bpf);
}

#[test]
fn what_starts_while_no_agent_runs_is_told_by_the_next_one() {
    let node = require!(Node::with_images("killed"));
    let cri = node.containerd.cri().unwrap();
    let bpf = BpfFileSystem::mount(node.lab.path());
    let pin = ["--pin", &bpf.pins()];
    let _counted = BpfStatistics::on().unwrap();
    let first = agent(&node, &pin);
    let (mut before, mut after) = (Load::default(), Load::default());
    before.run(&node, &cri, "first", rounds());
    let all = wait_until(PATIENCE, || {
        told(&[&first], "first-").len() == before.started
    });
    let of_first = told(&[&first], "first-");
    assert!(all, "{of_first:#?}\n{}", first.log());
    let costs = ["runs", "run_nanoseconds"].map(|what| {
        format!("imageswap_agent_probe_{what}_total{{program=\"sched_process_exec\"}}")
    });
    let counts = |agent: &Agent| {
        let counted = || costs.iter().all(|series| agent.metric(series) > 0.0);
        wait_until(PATIENCE, counted)
    };
    assert!(counts(&first), "{}", first.log());
    first.kill();
    after.run(&node, &cri, "then-between", rounds());
    let second = agent(&node, &pin);
    assert!(second.log().contains("resumed=true"), "{}", second.log());
    let [record] = &second.said_of_itself()[..1] else {
        panic!("{:#?}", second.said_of_itself())
    };
    assert_eq!(
        [&record["event"], &record["resumed"]],
        [&Value::from("agent-started"), &Value::from(true)]
    );
    after.run(&node, &cri, "then-second", rounds());

    // A container that is gone when the second agent starts is known only by its cgroup.
    let known = || told(&[&second], "then-").len() + starts_lost(&second);
    let all = wait_until(PATIENCE, || known() >= after.started);
    let of_second = told(&[&second], "then-");
    assert!(
        all,
        "{} of {}: {of_second:#?}\n{}",
        known(),
        after.started,
        second.log()
    );
    println!(
        "{} starts: {} told before, {} after, {} counted as lost",
        before.started + after.started,
        of_first.len(),
        of_second.len(),
        starts_lost(&second),
    );
    let all = of_first.iter().chain(&of_second);
    let twice: Vec<_> = all.filter(|(_, times)| **times != 1).collect();
    assert!(twice.is_empty(), "{twice:?}");
    for (id, verdict) in before.staying.iter().chain(&after.staying) {
        let latest = || second.said_of(id).pop();
        let is_right = || latest().is_some_and(|finding| finding["verdict"] == *verdict);
        assert!(
            wait_until(PATIENCE, is_right),
            "{id}: {:#?}",
            second.said_of(id)
        );
    }
    assert!(counts(&second), "{}", second.log());
    before.end(&node, &cri);
    after.end(&node, &cri);
    second.kill();
    drop(bpf);
}

#[test]
fn a_new_container_does_not_wait_for_those_from_before_the_agent() {
    let node = require!(Node::with_images("backlog"));
    let bpf = BpfFileSystem::mount(node.lab.path());
    let pin = ["--pin", &bpf.pins()];
    let name = format!("backlog-{}", std::process::id());
    let _parent = Cgroup::make(&node.lab, &name).unwrap();
    let first = agent(&node, &pin);
    let before = peak(first.pid());
    first.kill();
    let made = brief_containers(&name, EARLIER).status().unwrap();
    assert!(made.success());
    let second = agent(&node, &pin);
    node.run(EVIL, "newest");
    let newest = second.expect("newest", "start", DRIFT);
    let told = || told(&[&second], &name);
    // Those that were told while it waited: on a busy machine it may begin long after the agent.
    let said = second.said().into_iter();
    let others = said.take_while(|it| it["start_id"] != newest["start_id"]);
    let began = newest["started"].as_str();
    let sooner = others.filter(|it| it["time"].as_str() > began).count();
    assert!(sooner < EARLIER / 3, "{sooner} of them came first");
    let known = || told().len() + starts_lost(&second);
    let all = wait_until(2 * PATIENCE, || known() >= EARLIER);
    assert!(all, "{} of {EARLIER}: {}", known(), second.log());
    assert!(told().values().all(|times| *times == 1), "{:?}", told());
    let after = peak(second.pid());
    println!(
        "{EARLIER} starts: {sooner} told while a new one waited, {} in all; {before} KiB, then {after}",
        told().len()
    );
    assert!(after < before + GROWTH, "{before} KiB, then {after}");
    node.remove("newest");
    second.kill();
    drop(bpf);
}

#[test]
fn a_second_agent_does_no_harm() {
    let node = require!(Node::with_images("second"));
    let bpf = BpfFileSystem::mount(node.lab.path());
    let pin = ["--pin", &bpf.pins()];
    let first = agent(&node, &pin);
    let second = agent(&node, &pin);
    assert!(
        second.log().contains("another agent has its probes"),
        "{}",
        second.log()
    );
    node.run(EVIL, "both");
    for agent in [&first, &second] {
        agent.expect("both", "start", DRIFT);
    }
    node.remove("both");
    // The pins exist until the file system is unmounted.
    first.kill();
    second.kill();
    std::thread::sleep(Duration::from_millis(10));
    drop(bpf);
}
