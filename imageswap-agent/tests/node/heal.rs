//! What slipped in while the webhook was away is healed once it is back: a real API server and its controllers, the
//! real webhook, real containers. The test itself does what a scheduler and a kubelet do.

use crate::cluster::{Cluster, spec};
use crate::harness::{EVIL, PATIENCE, free_port, program, words};
use base64::Engine as _;
use imageswap_lab::{ControlPlaneOptions, CriPod, Process, wait_until};
use serde_json::{Value, json};
use std::process::Command;

const SWAPPED: &str = "registry.example.com/evil/miner:latest";

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
                "spec": {
                    "automountServiceAccountToken": false,
                    "containers": [{"name": "app", "image": EVIL}],
                },
            },
        },
    })
}

fn configuration(url: &str, ca: &[u8]) -> Value {
    let rule = json!({"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"],
        "resources": ["pods"]});
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingWebhookConfiguration",
        "metadata": {"name": "imageswap"},
        "webhooks": [{
            "name": "mutate.imageswap.io",
            "clientConfig": {"url": url, "caBundle": base64::engine::general_purpose::STANDARD.encode(ca)},
            "rules": [rule],
            "failurePolicy": "Ignore",
            "sideEffects": "None",
            "timeoutSeconds": 5,
            "admissionReviewVersions": ["v1"],
        }],
    })
}

impl Cluster {
    /// Waits for the Deployment's one Pod that is not on its way out, and binds and runs it; its name and its parts.
    fn run_next(&self) -> (String, CriPod) {
        let mut found = None;
        wait_until(PATIENCE, || {
            let list = ["-n", "team-a", "get", "pods", "-l", "app=web", "-o", "json"];
            let list: Value = serde_json::from_str(&self.plane.kubectl(list).unwrap()).unwrap();
            let is_new = |pod: &&Value| {
                pod["metadata"]["deletionTimestamp"].is_null() && pod["spec"]["nodeName"].is_null()
            };
            found = list["items"]
                .as_array()
                .unwrap()
                .iter()
                .find(is_new)
                .cloned();
            found.is_some()
        });
        let pod = found.expect("a Pod to run");
        let field = |value: &Value| value.as_str().unwrap().to_owned();
        let name = field(&pod["metadata"]["name"]);
        let binding = json!({
            "apiVersion": "v1", "kind": "Binding", "metadata": {"name": name},
            "target": {"apiVersion": "v1", "kind": "Node", "name": crate::cluster::NODE},
        });
        let path = format!("/api/v1/namespaces/team-a/pods/{name}/binding");
        let create = ["create", "--raw", &path, "-f", "-"];
        self.plane
            .kubectl_with(create, &binding.to_string())
            .unwrap();
        let image = field(&pod["spec"]["containers"][0]["image"]);
        let uid = field(&pod["metadata"]["uid"]);
        let cri = self.node.containerd.cri().unwrap();
        let ran = cri
            .run_pod(&spec("team-a", &name, "app", &image), &uid)
            .unwrap();
        (name, ran)
    }

    fn events(&self, pod: &str) -> String {
        let field = format!("involvedObject.name={pod}");
        let get = [
            "-n",
            "team-a",
            "get",
            "events",
            "--field-selector",
            &field,
            "-o",
            "jsonpath={range .items[*]}{.reason}: {.message}{\"\\n\"}{end}",
        ];
        self.plane.kubectl(get).unwrap()
    }
}

#[test]
fn what_slipped_in_while_the_webhook_was_away_is_healed_when_it_is_back() {
    let respond = ["--respond", "evict", "--respond-interval", "1"];
    let options = ControlPlaneOptions {
        controllers: true,
        ..ControlPlaneOptions::default()
    };
    let Some(cluster) = Cluster::for_test_with("heal", options, &respond) else {
        return;
    };
    let Cluster { agent, plane, node } = &cluster;
    let webhook = program("imageswap-webhook", "imageswap-webhook");
    let (listen, admin) = (free_port(), free_port());
    let tls = node.lab.path().join("webhook-tls");
    std::fs::create_dir_all(&tls).unwrap();
    let serve = || {
        let mut command = Command::new(&webhook);
        command.args([
            "serve",
            "--listen",
            &listen.to_string(),
            "--admin",
            &admin.to_string(),
        ]);
        command.arg("--tls-self-signed").arg(&tls);
        command
            .arg("--policy")
            .arg(node.lab.path().join("policy.yaml"));
        let mut process = Process::start(&node.lab, "webhook", command).unwrap();
        let ready = || std::net::TcpStream::connect(listen).is_ok();
        process.wait_ready(PATIENCE, ready).unwrap();
        process
    };
    let mut first = serve();
    let ca = std::fs::read(tls.join("ca.crt")).unwrap();
    first.stop();
    let configuration = configuration(&format!("https://{listen}/mutate"), &ca);
    plane.apply(&configuration.to_string()).unwrap();

    // The webhook is away, and the API server lets everything in.
    let create = ["create", "--validate=false", "-f", "-"];
    plane
        .kubectl_with(create, &deployment().to_string())
        .unwrap();
    let (name, ran) = cluster.run_next();
    let finding = agent.wait_for(&ran.container_id, "start");
    assert_eq!(
        words(&finding),
        ["drift", "pod", "webhook-skipped"],
        "{finding:#}"
    );
    assert_eq!(
        finding["pod"]["owner"],
        json!({"kind": "Deployment", "name": "web"})
    );
    assert_eq!(finding["expected_image"], SWAPPED);
    let skipped = "imageswap_agent_responses_total{action=\"evict\",outcome=\"not-swapped\"}";
    assert!(
        wait_until(PATIENCE, || agent.metric(skipped) >= 1.0),
        "{}",
        agent.log()
    );
    let evicted = "imageswap_agent_responses_total{action=\"evict\",outcome=\"evicted\"}";
    assert!(
        agent.metric(evicted).abs() < f64::EPSILON,
        "it never evicts while the webhook is away"
    );
    assert!(
        wait_until(PATIENCE, || cluster
            .events(&name)
            .contains("ImageSwapDrift")),
        "{}",
        cluster.events(&name)
    );

    let certificate = std::fs::read(tls.join("ca.crt")).unwrap();
    let mut again = serve();
    assert_eq!(
        std::fs::read(tls.join("ca.crt")).unwrap(),
        certificate,
        "the same authority"
    );
    assert!(
        wait_until(PATIENCE, || agent.metric(evicted) >= 1.0),
        "{}",
        agent.log()
    );
    assert!(
        wait_until(PATIENCE, || cluster
            .events(&name)
            .contains("ImageSwapEvicted")),
        "{}",
        cluster.events(&name)
    );
    // A kubelet's part: the Pod ends.
    node.containerd.cri().unwrap().remove(&ran).unwrap();
    let delete = [
        "-n",
        "team-a",
        "delete",
        "pod",
        &name,
        "--grace-period=0",
        "--force",
        "--wait=false",
    ];
    plane.kubectl(delete).unwrap();

    node.push_as(
        &imageswap_lab::Image::sleeper("evil").unwrap(),
        "evil/miner",
        "latest",
    );
    let (_, healed) = cluster.run_next();
    let finding = agent.wait_for(&healed.container_id, "start");
    assert_eq!(words(&finding), ["approved", "pod", "ok"], "{finding:#}");
    assert_eq!(finding["image"], SWAPPED);
    node.containerd.cri().unwrap().remove(&healed).unwrap();
    again.stop();
}
