//! Pods as in any cluster: a real API server with its controllers, scheduler and kubelet, real
//! containers, and the real webhook, running or stopped.

use crate::cluster::Cluster;
use crate::harness::{EVIL, OURS, PATIENCE, expect};
use crate::webhook::Webhook;
use imageswap_lab::{Image, require, wait_until};
use serde_json::{Value, json};

/// The policy's result for the image that is not approved.
const SWAPPED: &str = "registry.example.com/evil/miner:latest";

/// A Pod's spec without its containers.
fn spec(containers: &Value) -> Value {
    json!({
        "automountServiceAccountToken": false,
        "terminationGracePeriodSeconds": 1,
        "containers": containers,
    })
}

fn pod(namespace: &str, name: &str, spec: &Value) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"namespace": namespace, "name": name},
        "spec": spec,
    })
}

fn deployment() -> Value {
    let labels = json!({"app": "web"});
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"namespace": "team-a", "name": "web"},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": spec(&json!([{"name": "app", "image": EVIL}])),
            },
        },
    })
}

impl Cluster {
    /// Creates an object; kubectl as old as 1.20 refuses valid Pods in its validation.
    fn create(&self, object: &Value) {
        let create = ["create", "--validate=false", "-f", "-"];
        self.plane
            .kubectl_with(create, &object.to_string())
            .unwrap();
    }

    /// The first matching finding about a container of a Pod with this name prefix.
    fn first(&self, pod: &str, container: &str, fits: impl Fn(&Value) -> bool) -> Value {
        let mut found = None;
        wait_until(PATIENCE, || {
            let mut findings = self.agent.said().into_iter();
            found = findings.find(|finding| {
                let name = finding["pod"]["name"].as_str().unwrap_or_default();
                name.starts_with(pod)
                    && finding["container"]["name"] == container
                    && finding["event"] == "start"
                    && fits(finding)
            });
            found.is_some()
        });
        found.unwrap_or_else(|| {
            panic!(
                "no start of {container} in {pod}; the agent said {:#?}\n{}\n{}",
                self.agent.said(),
                self.agent.log(),
                self.machine.as_ref().unwrap().log(),
            )
        })
    }

    fn events(&self, pod: &str) -> String {
        let field = format!("involvedObject.name={pod}");
        let of = ["-n", "team-a", "get", "events", "--field-selector", &field];
        let lines = "jsonpath={range .items[*]}{.reason}: {.message}{\"\\n\"}{end}";
        self.plane
            .kubectl(of.into_iter().chain(["-o", lines]))
            .unwrap()
    }
}

#[test]
fn what_slipped_in_while_the_webhook_was_away_is_healed_when_it_is_back() {
    let respond = ["--respond", "evict", "--respond-interval", "1"];
    let cluster = require!(Cluster::with_kubelet("heal", &respond));
    let Cluster {
        agent, plane, node, ..
    } = &cluster;
    let mut webhook = Webhook::start(&node.lab, plane);
    node.push_as(&Image::sleeper("evil").unwrap(), "evil/miner", "latest");

    webhook.goes();
    cluster.create(&deployment());
    let finding = expect(
        cluster.first("web-", "app", |_| true),
        ["drift", "pod", "webhook-skipped"],
    );
    assert_eq!(
        finding["pod"]["owner"],
        json!({"kind": "Deployment", "name": "web"})
    );
    assert_eq!(finding["expected_image"], SWAPPED);
    let slipped_in = finding["pod"]["name"].as_str().unwrap();
    let outcome = |outcome: &str| {
        format!("imageswap_agent_responses_total{{action=\"evict\",outcome=\"{outcome}\"}}")
    };
    // The agent looks again after 5 s, 10 s, 20 s and 40 s.
    let has_come = |series: &str| wait_until(2 * PATIENCE, || agent.metric(series) >= 1.0);
    assert!(has_come(&outcome("not-swapped")), "{}", agent.log());
    assert!(
        agent.metric(&outcome("evicted")).abs() < f64::EPSILON,
        "it never evicts while the webhook is away"
    );
    let is_told = |what: &str| wait_until(PATIENCE, || cluster.events(slipped_in).contains(what));
    assert!(is_told("ImageSwapDrift"), "{}", cluster.events(slipped_in));

    webhook.comes();
    assert!(has_come(&outcome("evicted")), "{}", agent.log());
    assert!(
        is_told("ImageSwapEvicted"),
        "{}",
        cluster.events(slipped_in)
    );
    let healed = cluster.first("web-", "app", |finding| finding["image"] == SWAPPED);
    expect(healed, ["approved", "pod", "ok"]);
    let available = [
        "-n",
        "team-a",
        "rollout",
        "status",
        "deployment/web",
        "--timeout=30s",
    ];
    plane.kubectl(available).unwrap();
    webhook.goes();
}

#[test]
fn every_kind_of_container_that_a_kubelet_starts_is_told_apart() {
    let cluster = require!(Cluster::with_kubelet("kinds", &[]));
    let Cluster { plane, node, .. } = &cluster;
    let evil = json!([{"name": "app", "image": EVIL}]);
    let ours = json!([{"name": "app", "image": OURS}]);
    let any = |_: &Value| true;

    // Admitted correctly, and changed while the webhook was stopped.
    let mut webhook = Webhook::start(&node.lab, plane);
    cluster.create(&pod("team-a", "patched", &spec(&ours)));
    let admitted = cluster.first("patched", "app", any);
    let admitted = expect(admitted, ["approved", "pod", "ok"]);
    webhook.goes();
    let image = format!("app={EVIL}");
    plane
        .kubectl(["-n", "team-a", "set", "image", "pod/patched", &image])
        .unwrap();
    let changed = expect(
        cluster.first("patched", "app", |finding| finding["image"] == EVIL),
        ["drift", "pod", "mutated-after-admission"],
    );
    assert_eq!(changed["pod"]["uid"], admitted["pod"]["uid"]);
    assert_eq!(changed["confidence"], "high", "{changed:#}");

    // A static Pod never went through admission, and its file may claim anything.
    let manifests = cluster.machine.as_ref().unwrap().manifests();
    let manifest = pod("team-a", "static", &spec(&evil)).to_string();
    std::fs::write(manifests.join("static.json"), manifest).unwrap();
    let found = expect(
        cluster.first("static-", "app", any),
        ["drift", "static-pod", "not-admitted"],
    );
    assert_eq!(found["confidence"], "medium", "{found:#}");

    let mut every = spec(&json!([
        {"name": "app", "image": OURS},
        {"name": "beside", "image": EVIL},
    ]));
    every["hostPID"] = true.into();
    every["initContainers"] =
        json!([{"name": "before", "image": EVIL, "command": ["sleep", "0.02"]}]);
    cluster.create(&pod("team-a", "every", &every));
    for (container, expected) in [
        ("before", ["drift", "pod", "webhook-skipped"]),
        ("app", ["approved", "pod", "ok"]),
        ("beside", ["drift", "pod", "webhook-skipped"]),
    ] {
        let found = expect(cluster.first("every", container, any), expected);
        assert_eq!(found["confidence"], "high", "{found:#}");
    }

    cluster.create(&pod("free", "exempt", &spec(&evil)));
    let found = cluster.first("exempt", "app", any);
    assert_eq!(found["verdict"], "exempt", "{found:#}");
    assert_eq!(found["route"], "pod", "{found:#}");

    // Sandboxes are not containers of users, and were reported as sandboxes.
    let said = cluster.agent.said();
    let sandboxes = said
        .iter()
        .filter(|finding| finding["container"]["kind"] == "sandbox" && finding["event"] == "start");
    let mut sandboxes = sandboxes.peekable();
    assert!(sandboxes.peek().is_some());
    for sandbox in sandboxes {
        assert_eq!(sandbox["verdict"], "exempt", "{sandbox:#}");
    }
}
