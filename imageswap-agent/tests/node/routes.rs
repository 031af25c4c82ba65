//! One test per route: one start each, and the right image.

use crate::harness::{Agent, DRIFT, EVIL, Node, OURS, PATIENCE, pod_spec, program, words};
use imageswap_lab::{Bundle, Image, OtlpReceiver, Podman, require, wait_until};
use serde_json::Value;

fn ctr_in_two_namespaces(test: &str, pure_v2: bool) {
    let node = require!(Node::for_test(test, pure_v2));
    node.images("default");
    node.images("team_b-1.0");
    let agent = node.agent();
    let free_form = format!("my.free-form_{test}");
    let plain = format!("plain-{test}");
    node.run(OURS, &plain);
    node.containerd
        .run("team_b-1.0", EVIL, &free_form, &[])
        .unwrap();

    let good = agent.expect(&plain, "start", ["approved", "containerd", "ok"]);
    assert_eq!(
        (&good["image"], &good["runtime_namespace"]),
        (&Value::from(OURS), &Value::from("default"))
    );
    assert_eq!(good["provenance"], "pulled");
    assert_eq!(good["confidence"], "high");
    let bad = agent.expect(&free_form, "start", DRIFT);
    assert_eq!(
        (&bad["image"], &bad["runtime_namespace"]),
        (&Value::from(EVIL), &Value::from("team_b-1.0"))
    );
    assert_eq!(bad["expected_image"], "registry.example.com/miner:latest");
    assert!(bad["process"]["pid"].is_u64(), "{bad:#}");
    assert_eq!(
        bad["process"]["comm"], "sleep",
        "the container's program, not the runtime: {bad:#}"
    );
    assert!(
        bad["digest"]
            .as_str()
            .is_some_and(|digest| digest.starts_with("sha256:")),
        "{bad:#}"
    );
    let gauge = "imageswap_agent_drift_containers{workload_namespace=\"\",route=\"containerd\",reason=\"not-admitted\"}";
    assert!(wait_until(PATIENCE, || agent.metric(gauge) >= 1.0));

    node.containerd.remove("team_b-1.0", &free_form).unwrap();
    agent.wait_for(&free_form, "stopped");
    for id in [&plain, &free_form] {
        assert_eq!(agent.starts_of(id).len(), 1, "{:#?}", agent.said_of(id));
    }
    node.remove(&plain);
}

#[test]
fn ctr_is_seen_in_every_namespace_with_any_id() {
    ctr_in_two_namespaces("ctr", false);
}

#[test]
fn ctr_is_seen_on_pure_cgroup_v2() {
    ctr_in_two_namespaces("ctr-v2", true);
}

fn a_pod_as_a_kubelet_makes_it(test: &str, pure_v2: bool) {
    let node = require!(Node::for_test(test, pure_v2));
    node.images("k8s.io");
    let agent = node.agent();
    let cri = node.containerd.cri().unwrap();
    let good = cri.run(&pod_spec("good", OURS)).unwrap();
    let bad = cri.run(&pod_spec("bad", EVIL)).unwrap();

    let pause = agent.expect(&good.sandbox_id, "start", ["exempt", "pod", "sandbox"]);
    assert_eq!(pause["container"]["kind"], "sandbox");
    let finding = agent.expect(&good.container_id, "start", ["approved", "pod", "ok"]);
    assert_eq!(
        (&finding["image"], &finding["container"]["name"]),
        (&Value::from(OURS), &Value::from("app"))
    );
    let pod = &finding["pod"];
    assert_eq!(
        (&pod["namespace"], &pod["name"], &pod["uid"]),
        (&"team-a".into(), &"good".into(), &good.uid.clone().into())
    );
    let finding = agent.expect(
        &bad.container_id,
        "start",
        ["drift", "pod", "webhook-skipped"],
    );
    assert_eq!(finding["image"], EVIL);

    cri.remove(&bad).unwrap();
    cri.remove(&good).unwrap();
    agent.wait_for(&bad.container_id, "stopped");
}

#[test]
fn a_pod_is_seen_with_its_name_and_its_sandbox_is_exempt() {
    a_pod_as_a_kubelet_makes_it("cri", false);
}

#[test]
fn a_pod_is_seen_on_pure_cgroup_v2() {
    a_pod_as_a_kubelet_makes_it("cri-v2", true);
}

fn plain_runc(test: &str, pure_v2: bool) {
    let node = require!(Node::for_test(test, pure_v2));
    let agent = node.agent();
    let id = format!("plain-{test}-{}", std::process::id());
    let bundle = Bundle::run(&node.lab, &id, &["sleep", "1000"], node.pure_v2).unwrap();
    let finding = agent.expect(&id, "start", ["unresolved", "runc", "not-admitted"]);
    assert_eq!(finding["image"], Value::Null);
    drop(bundle);
    agent.wait_for(&id, "stopped");
    assert_eq!(agent.said_of(&id).len(), 2, "{:#?}", agent.said_of(&id));
}

#[test]
fn plain_runc_is_unresolved() {
    plain_runc("runc", false);
}

#[test]
fn plain_runc_is_unresolved_on_pure_cgroup_v2() {
    plain_runc("runc-v2", true);
}

#[test]
fn a_container_that_nothing_knows_is_told_by_its_cgroup() {
    let node = require!(Node::for_test("hidden", false));
    let agent = node.agent();
    let id = format!("hidden-{}", std::process::id());
    let bundle = Bundle::run_hidden(&node.lab, &id, &["sleep", "1000"], node.pure_v2).unwrap();
    let of_cgroup = |finding: &Value| {
        finding["cgroup"]
            .as_str()
            .is_some_and(|path| path.ends_with(&id))
    };
    let said = || {
        agent
            .said()
            .into_iter()
            .filter(of_cgroup)
            .collect::<Vec<_>>()
    };
    assert!(
        wait_until(PATIENCE, || !said().is_empty()),
        "{}",
        agent.log()
    );
    let finding = &said()[0];
    assert_eq!(
        words(finding),
        ["unresolved", "unknown", "not-admitted"],
        "{finding:#}"
    );
    assert_eq!(finding["container"]["id"], Value::Null);
    drop(bundle);
    assert!(wait_until(PATIENCE, || said().len() == 2), "{:#?}", said());
}

#[test]
fn a_container_that_lives_twenty_milliseconds_is_not_missed() {
    let node = require!(Node::with_images("short"));
    let agent = node.agent();
    let labels = "route=\"containerd\",reason=\"not-admitted\"}";
    let starts = format!("imageswap_agent_container_starts_total{{verdict=\"drift\",{labels}");
    let stopped = format!("imageswap_agent_drift_stopped_total{{{labels}");
    // Containers of others count, too.
    let before = [&starts, &stopped].map(|series| agent.metric(series));
    for round in 0..5 {
        let id = format!("short-{round}");
        node.containerd
            .run_to_end("default", EVIL, &id, &["sleep", "0.02"])
            .unwrap();
        agent.expect(&id, "start", DRIFT);
        agent.wait_for(&id, "stopped");
    }
    // The gauge may never have moved: these two counters show an alert that a container came and
    // went.
    for (series, before) in [&starts, &stopped].into_iter().zip(before) {
        let more = agent.metric(series) - before;
        assert!((more - 5.0).abs() < f64::EPSILON, "{series}: {more}");
    }
}

/// On most of these starts the runtime runs itself again inside the new cgroup; on the others it
/// does not.
const FAILED_STARTS: usize = 12;

fn no_start_without_an_entrypoint(test: &str, pure_v2: bool) {
    let node = require!(Node::for_test(test, pure_v2));
    node.images("default");
    let agent = node.agent();
    let id = |round: usize| format!("never-{test}-{round}");
    for round in 0..FAILED_STARTS {
        let failed = node
            .containerd
            .run("default", EVIL, &id(round), &["/no/such/program"]);
        assert!(failed.is_err(), "the runtime must have refused");
    }
    // Events come in order: when this start is reported, earlier ones have been judged.
    let after = format!("after-{test}");
    node.run(OURS, &after);
    agent.wait_for(&after, "start");
    let never = |finding: &Value| {
        let cgroup = finding["cgroup"].as_str().unwrap_or_default();
        cgroup.contains(&format!("never-{test}"))
    };
    let said: Vec<_> = agent.said().into_iter().filter(never).collect();
    assert_eq!(said, Vec::<Value>::new());
    node.remove(&after);
}

#[test]
fn an_entrypoint_that_does_not_exist_is_no_start() {
    no_start_without_an_entrypoint("noentry", false);
}

#[test]
fn an_entrypoint_that_does_not_exist_is_no_start_on_pure_cgroup_v2() {
    no_start_without_an_entrypoint("noentry-v2", true);
}

#[test]
fn two_hundred_starts_are_two_hundred_findings() {
    let node = require!(Node::with_images("burst"));
    let agent = node.agent();
    let ids: Vec<_> = (0..200).map(|round| format!("burst-{round}")).collect();
    for id in &ids {
        node.containerd
            .run_to_end("default", EVIL, id, &["true"])
            .unwrap();
    }
    let starts = |id: &String| agent.starts_of(id).len();
    wait_until(PATIENCE, || ids.iter().all(|id| starts(id) == 1));
    let wrong: Vec<_> = ids.iter().filter(|id| starts(id) != 1).collect();
    assert!(
        wrong.is_empty(),
        "not one start each: {wrong:?}\n{}",
        agent.log()
    );
    let is_unknown = |id: &&String| agent.said_of(id)[0]["verdict"] != "drift";
    let unknown: Vec<_> = ids.iter().filter(is_unknown).collect();
    // They are deleted as soon as they end, which may be before the agent of a busy machine can ask.
    assert!(
        unknown.len() <= ids.len() / 20,
        "{} unknown: {unknown:?}\n{}",
        unknown.len(),
        agent.log()
    );
    assert!(agent.sum("imageswap_agent_events_lost_total").abs() < f64::EPSILON);
    // If the runtime's event came first, the time of the start is unknown.
    let mut latencies: Vec<_> = ids
        .iter()
        .filter_map(|id| agent.said_of(id)[0]["detect_us"].as_u64())
        .collect();
    latencies.sort_unstable();
    assert!(
        latencies.len() > 150,
        "the kernel told of {} starts",
        latencies.len()
    );
    let of_hundred = |percent: usize| latencies.get(latencies.len() * percent / 100);
    println!(
        "start to finding: p50 {:?} us, p99 {:?} us, n={}",
        of_hundred(50),
        of_hundred(99),
        latencies.len()
    );
}

#[test]
fn the_same_container_started_again_is_a_second_start() {
    let node = require!(Node::with_images("again"));
    let agent = node.agent();
    node.run(OURS, "again");
    let first = agent.wait_for("again", "start");
    node.containerd
        .ctr("default", ["task", "rm", "--force", "again"])
        .unwrap();
    agent.wait_for("again", "stopped");
    node.containerd
        .ctr("default", ["task", "start", "--detach", "again"])
        .unwrap();
    let starts = || agent.starts_of("again");
    assert!(
        wait_until(PATIENCE, || starts().len() == 2),
        "{:#?}",
        agent.said_of("again")
    );
    assert_ne!(starts()[1]["start_id"], first["start_id"]);
    node.remove("again");
}

#[test]
fn a_finding_is_a_log_record_too() {
    let node = require!(Node::with_images("otlp"));
    let collector = OtlpReceiver::start().unwrap();
    let (mut command, admin) = Agent::command(&node.lab, Some(node.containerd.socket()));
    command.args(["--otlp-endpoint", &collector.endpoint()]);
    command.env("OTEL_BLRP_SCHEDULE_DELAY", "100");
    let agent = Agent::start(&node.lab, (command, admin));
    node.run(EVIL, "logged");
    let finding = agent.wait_for("logged", "start");
    let mut logged = None;
    wait_until(PATIENCE, || {
        let of_start = |log: &imageswap_lab::ReceivedLog| {
            log.attributes
                .get("container.id")
                .is_some_and(|id| id == "logged")
        };
        logged = collector.logs().into_iter().find(of_start);
        logged.is_some()
    });
    let log = logged.expect("a log record");
    assert_eq!((&*log.event, &*log.severity), ("imageswap.finding", "WARN"));
    assert_eq!(log.resource["service.name"], "imageswap-agent");
    let digest = finding["digest"].as_str().unwrap();
    for (name, value) in [
        ("container.image.name", "evil.example.net/miner"),
        ("container.image.tags", "latest"),
        (
            "container.image.repo_digests",
            &format!("evil.example.net/miner@{digest}"),
        ),
        ("imageswap.verdict", "drift"),
        ("imageswap.route", "containerd"),
        ("imageswap.start_id", finding["start_id"].as_str().unwrap()),
        ("security_rule.name", "maps:1 default"),
    ] {
        assert_eq!(
            log.attributes.get(name).map(String::as_str),
            Some(value),
            "{name}"
        );
    }
    assert!(
        log.body.contains("runs evil.example.net/miner:latest"),
        "{}",
        log.body
    );
    node.remove("logged");
}

#[test]
fn the_command_line_lists_what_runs_and_should_not() {
    let node = require!(Node::with_images("drift"));
    let agent = node.agent();
    let imageswap = program("imageswap");
    let drift = |flags: &[&str]| {
        let mut command = std::process::Command::new(&imageswap);
        let output = command
            .args(["drift", "--agent", &agent.url()])
            .args(flags)
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        (
            output.status.code(),
            text,
            String::from_utf8(output.stderr).unwrap(),
        )
    };
    node.run(EVIL, "listed");
    agent.wait_for("listed", "start");
    let listed = || drift(&["-o", "json"]).1.contains("\"id\":\"listed\"");
    assert!(wait_until(PATIENCE, listed), "{:?}", drift(&[]));
    let (code, text, _) = drift(&[]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains(&format!("runs {EVIL}")), "{text}");
    assert!(
        text.lines().all(|line| line.chars().count() <= 80),
        "{text}"
    );
    let (_, text, _) = drift(&["-o", "json"]);
    let answer: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(answer["agents"], 1);
    node.remove("listed");
    assert!(wait_until(PATIENCE, || !listed()), "{:?}", drift(&[]));
    // An agent that does not answer must not look like one without drift.
    let (code, _, errors) = drift(&["--agent", "http://127.0.0.1:1"]);
    assert_eq!(code, Some(2), "{errors}");
    assert!(
        errors.contains("http://127.0.0.1:1 did not answer"),
        "{errors}"
    );
}

#[test]
fn podman_is_known_by_its_store() {
    let node = require!(Node::for_test("podman", false));
    let podman = Podman::new(&node.lab).unwrap();
    podman.load(&Image::sleeper("ours").unwrap(), OURS).unwrap();
    podman.load(&Image::sleeper("evil").unwrap(), EVIL).unwrap();
    let agent = node.agent();
    for (image, expected) in [
        (OURS, ["approved", "podman", "ok"]),
        (EVIL, ["drift", "podman", "not-admitted"]),
    ] {
        let id = podman.run(image, &["sleep", "1000"]).unwrap();
        let finding = agent.expect(&id, "start", expected);
        assert_eq!(finding["image"], image);
        assert_eq!(finding["confidence"], "medium");
    }
    // `--rm` uses another list of the store, and a Pod's containers lie below the Pod's cgroup.
    podman
        .podman(["pod", "create", "--infra=false", "--name=pod"])
        .unwrap();
    for option in ["--rm", "--pod=pod"] {
        let id = podman
            .run_with(&[option], EVIL, &["sleep", "1000"])
            .unwrap();
        let finding = agent.wait_for(&id, "start");
        let expected = ["drift", "podman", "not-admitted"];
        assert_eq!(words(&finding), expected, "{option}: {finding:#}");
    }
    // Another root under the id of one of podman's containers, with podman's own monitor.
    let id = podman.create(OURS, &["sleep", "1000"]).unwrap();
    let forged = podman.run_forged(&id, &["sleep", "1000"]).unwrap();
    let finding = agent.expect(&id, "start", ["unresolved", "podman", "ambiguous"]);
    assert_eq!(finding["image"], OURS);
    drop(forged);
    // An approved name for an image that is not approved: the store has both names.
    let renamed = "registry.example.com/team/renamed:1";
    podman.podman(["tag", EVIL, renamed]).unwrap();
    let id = podman.run(renamed, &["sleep", "1000"]).unwrap();
    agent.expect(&id, "start", ["unresolved", "podman", "ambiguous"]);
}
