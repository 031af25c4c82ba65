//! Uses a real API server, and real containers that the test starts as a kubelet would.

use crate::harness::{Agent, DRIFT, EVIL, Node, OURS, expect, words};
use imageswap_lab::{
    Bundle, ControlPlane, ControlPlaneOptions, Image, Machine, NodeNetwork, PodSpec, require,
};
use serde_json::{Value, json};
use std::cell::RefCell;

pub(crate) const NODE: &str = "node-1";
const MIRRORED: &str = "registry.example.com/team/mirror:1";

const POLICY: &str = "\
apiVersion: imageswap.io/v1alpha1
kind: ImageSwapPolicy
metadata: {name: corp}
spec:
  match:
    namespaceSelector:
      matchExpressions: [{key: free, operator: DoesNotExist}]
  rules: [{from: evil.example.net/**, to: registry.example.com/evil}]
  approved: [registry.example.com/**]
";

const OBJECTS: &str = "\
apiVersion: v1
kind: Namespace
metadata: {name: team-a}
---
apiVersion: v1
kind: Namespace
metadata: {name: free, labels: {free: 'yes'}}
";

/// A node whose kubelet is the test itself.
const MACHINE: &str = "\
apiVersion: v1
kind: Node
metadata: {name: node-1}
";

/// A node with an API server, and an agent that asks it.
pub(crate) struct Cluster {
    pub(crate) agent: Agent,
    /// The real kubelet, if any. Dropped before what its Pods need.
    pub(crate) machine: Option<Machine>,
    pub(crate) plane: ControlPlane,
    pub(crate) node: Node,
    _network: Option<NodeNetwork>,
}

impl Cluster {
    fn for_test(test: &str) -> Option<Self> {
        let node = Node::for_test(test, false)?;
        let plane = ControlPlane::for_test(test, ControlPlaneOptions::default())?;
        plane.apply(MACHINE).unwrap();
        Some(Self::of(node, plane, &[]))
    }

    /// With an API server that was prepared before the agent begins, and further flags.
    pub(crate) fn with(
        test: &str,
        flags: &[&str],
        prepare: impl FnOnce(&ControlPlane),
    ) -> Option<Self> {
        let node = Node::for_test(test, false)?;
        let plane = ControlPlane::for_test(test, ControlPlaneOptions::default())?;
        plane.apply(MACHINE).unwrap();
        prepare(&plane);
        Some(Self::of(node, plane, flags))
    }

    /// With controllers, scheduler and kubelet, and Pods with addresses of their own.
    pub(crate) fn with_kubelet(test: &str, flags: &[&str]) -> Option<Self> {
        let node = Node::for_test_alone(test)?;
        let network = NodeNetwork::new().unwrap();
        let options = ControlPlaneOptions {
            address: network.here(),
            controllers: true,
            scheduler: true,
            ..ControlPlaneOptions::default()
        };
        let plane = ControlPlane::for_test(test, options)?;
        let machine = Machine::start(&plane, &network, &node.containerd, NODE);
        let machine = machine.unwrap_or_else(|error| panic!("{error}"));
        let cluster = Self::of(node, plane, flags);
        Some(Self {
            machine: Some(machine),
            _network: Some(network),
            ..cluster
        })
    }

    fn of(node: Node, plane: ControlPlane, flags: &[&str]) -> Self {
        node.images("k8s.io");
        node.push_as(&Image::sleeper("evil").unwrap(), "team/mirror", "1");
        plane.apply(OBJECTS).unwrap();
        let policy = node.lab.path().join("policy.yaml");
        std::fs::write(&policy, POLICY).unwrap();
        let (mut command, admin) = Agent::command_without_policy();
        let socket = node.containerd.socket();
        command.arg("--policy").arg(policy);
        command.arg("--containerd").arg(&socket);
        command.arg("--cri").arg(&socket);
        command.arg("--kubeconfig").arg(plane.kubeconfig());
        command.args(["--node-name", NODE]).args(flags);
        let agent = Agent::start(&node.lab, (command, admin));
        Self {
            agent,
            machine: None,
            plane,
            node,
            _network: None,
        }
    }

    /// Creates a Pod bound to this node; returns its UID.
    pub(crate) fn pod(
        &self,
        namespace: &str,
        name: &str,
        image: &str,
        note: Option<&Value>,
    ) -> String {
        let annotations = note.map(|note| json!({"imageswap.io/note": note.to_string()}));
        let pod = json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "namespace": namespace,
                "name": name,
                "annotations": annotations.unwrap_or_default(),
            },
            "spec": {
                "nodeName": NODE,
                "automountServiceAccountToken": false,
                "containers": [{"name": "app", "image": image}],
            },
        });
        let create = ["create", "--validate=false", "-f", "-"];
        self.plane.kubectl_with(create, &pod.to_string()).unwrap();
        let uid = [
            "-n",
            namespace,
            "get",
            "pod",
            name,
            "-o",
            "jsonpath={.metadata.uid}",
        ];
        self.plane.kubectl(uid).unwrap()
    }
}

pub(crate) fn spec<'a>(
    namespace: &'a str,
    name: &'a str,
    container: &'a str,
    image: &'a str,
) -> PodSpec<'a> {
    PodSpec {
        namespace,
        name,
        container,
        image,
        command: &["sleep", "1000"],
    }
}

fn note(image: &str, revision: &str) -> Value {
    json!({"v": 1, "containers": {"app": {"image": image, "revision": revision}}})
}

#[test]
fn the_api_server_says_whose_a_container_is_and_admission_why() {
    let cluster = require!(Cluster::for_test("pods"));
    let Cluster {
        agent, plane, node, ..
    } = &cluster;
    let cri = node.containerd.cri().unwrap();
    let pods = RefCell::new(Vec::new());
    let run = |namespace: &str, name: &str, container: &str, image: &str, uid: &str| {
        let pod = cri
            .run_pod(&spec(namespace, name, container, image), uid)
            .unwrap();
        let finding = agent.wait_for(&pod.container_id, "start");
        pods.borrow_mut().push(pod);
        finding
    };

    let uid = cluster.pod("team-a", "skipped", EVIL, None);
    let skipped = expect(
        run("team-a", "skipped", "app", EVIL, &uid),
        ["drift", "pod", "webhook-skipped"],
    );
    assert_eq!(
        skipped["expected_image"],
        "registry.example.com/evil/miner:latest"
    );

    let revision = skipped["policy"]["revision"].as_str().unwrap();

    let uid = cluster.pod("free", "exempt", EVIL, None);
    expect(
        run("free", "exempt", "app", EVIL, &uid),
        ["exempt", "pod", "out-of-scope"],
    );

    // This Pod exists only in the runtime.
    let forged = expect(
        run(
            "free",
            "forged",
            "app",
            EVIL,
            "4a163a05-439d-484b-8e53-2968bc15824f",
        ),
        ["drift", "cri", "not-admitted"],
    );
    assert_eq!(forged["pod"], Value::Null);

    // Admitted correctly, then changed without admission: another container in the same Pod.
    let uid = cluster.pod("team-a", "changed", OURS, Some(&note(OURS, revision)));
    let before = run("team-a", "changed", "app", OURS, &uid);
    assert_eq!(words(&before), ["approved", "pod", "ok"], "{before:#}");
    let image = format!("app={EVIL}");
    plane
        .kubectl(["-n", "team-a", "set", "image", "pod/changed", &image])
        .unwrap();
    let changed = pods.borrow().last().unwrap().clone();
    cri.remove_container(&changed.container_id).unwrap();
    let id = cri
        .add_container(&changed, &spec("team-a", "changed", "app", EVIL))
        .unwrap();
    let after = agent.expect(&id, "start", ["drift", "pod", "mutated-after-admission"]);
    assert_eq!(after["pod"]["uid"], before["pod"]["uid"]);
    assert_ne!(after["start_id"], before["start_id"]);

    // A container that the Pod does not have, put into its sandbox.
    let id = cri
        .add_container(&changed, &spec("team-a", "changed", "guest", EVIL))
        .unwrap();
    agent.expect(&id, "start", ["drift", "cri", "not-admitted"]);

    // The ephemeral container that `kubectl debug` adds to a Pod.
    let image = format!("--image={EVIL}");
    let debug = [
        "-n",
        "team-a",
        "debug",
        "changed",
        &image,
        "--container=dbg",
    ];
    plane.kubectl(debug).unwrap();
    let id = cri
        .add_container(&changed, &spec("team-a", "changed", "dbg", EVIL))
        .unwrap();
    agent.expect(&id, "start", ["drift", "ephemeral", "webhook-skipped"]);

    // One digest, two names: the specification settles which of them it is.
    node.containerd.pull("k8s.io", MIRRORED).unwrap();
    let uid = cluster.pod("team-a", "mirrored", MIRRORED, None);
    let good = run("team-a", "mirrored", "app", MIRRORED, &uid);
    assert_eq!(words(&good), ["approved", "pod", "ok"], "{good:#}");
    assert_eq!(
        (&good["image"], &good["confidence"]),
        (&MIRRORED.into(), &"high".into())
    );
    assert_eq!(good["names"][0]["source"], "pod-spec", "{good:#}");

    for pod in pods.borrow().iter() {
        cri.remove(pod).unwrap();
    }
}

#[test]
fn while_the_api_server_is_away_the_runtimes_word_does() {
    let mut cluster = require!(Cluster::for_test("apiaway"));
    let known = cluster.pod("team-a", "known", EVIL, None);
    let cri = cluster.node.containerd.cri().unwrap();
    let first = cri
        .run_pod(&spec("team-a", "known", "app", EVIL), &known)
        .unwrap();
    cluster.agent.wait_for(&first.container_id, "start");

    cluster.plane.stop_apiserver();
    let id = cri
        .add_container(&first, &spec("team-a", "known", "app", OURS))
        .err();
    assert!(
        id.is_some(),
        "the name of a container is taken until it is removed"
    );
    cri.remove_container(&first.container_id).unwrap();
    let again = cri
        .add_container(&first, &spec("team-a", "known", "app", EVIL))
        .unwrap();
    let finding = cluster.agent.wait_for(&again, "start");
    assert_eq!(
        words(&finding),
        ["drift", "pod", "webhook-skipped"],
        "what was heard before still holds: {finding:#}"
    );
    let nobodys = "4a163a05-439d-484b-8e53-2968bc15824f";
    let forged = cri
        .run_pod(&spec("free", "forged", "app", EVIL), nobodys)
        .unwrap();
    let finding = cluster.agent.wait_for(&forged.container_id, "start");
    assert_eq!(
        finding["route"], "pod",
        "nobody can say otherwise: {finding:#}"
    );

    cluster.plane.start_apiserver().unwrap();
    cluster.agent.expect(
        &forged.container_id,
        "rejudged",
        ["drift", "cri", "not-admitted"],
    );
    for pod in [&first, &forged] {
        cri.remove(pod).unwrap();
    }
}

/// Any user who may create Pods can write the kubelet's annotations into one.
#[test]
fn a_pod_that_claims_to_be_the_mirror_of_another_changes_nothing() {
    let cluster = require!(Cluster::for_test("forged-mirror"));
    let Cluster {
        agent, node, plane, ..
    } = &cluster;
    let cri = node.containerd.cri().unwrap();
    let uid = cluster.pod("team-a", "real", EVIL, None);
    let pod = cri
        .run_pod(&spec("team-a", "real", "app", EVIL), &uid)
        .unwrap();
    agent.wait_for(&pod.container_id, "start");
    for (namespace, name) in [("free", "mirror"), ("free", "real"), ("team-a", "mirror")] {
        let mirror = json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"namespace": namespace, "name": name, "annotations": {
                "kubernetes.io/config.mirror": uid, "kubernetes.io/config.hash": uid,
                "kubernetes.io/config.source": "file",
            }},
            "spec": {
                "nodeName": NODE,
                "automountServiceAccountToken": false,
                "containers": [{"name": "app", "image": OURS}],
            },
        });
        let create = ["create", "--validate=false", "-f", "-"];
        plane.kubectl_with(create, &mirror.to_string()).unwrap();
    }
    // The agent has heard of the mirrors when it knows a later Pod.
    let later = cluster.pod("team-a", "later", EVIL, None);
    let other = cri
        .run_pod(&spec("team-a", "later", "app", EVIL), &later)
        .unwrap();
    agent.wait_for(&other.container_id, "start");
    cri.remove_container(&pod.container_id).unwrap();
    let id = cri
        .add_container(&pod, &spec("team-a", "real", "app", EVIL))
        .unwrap();
    for id in [&pod.container_id, &id] {
        let finding = agent.wait_for(id, "start");
        let last = agent
            .said_of(id)
            .into_iter()
            .rfind(|it| it["event"] != "stopped");
        for finding in [Some(finding), last].into_iter().flatten() {
            let finding = expect(finding, ["drift", "pod", "webhook-skipped"]);
            assert_eq!(finding["pod"]["namespace"], "team-a", "{finding:#}");
        }
    }
    for pod in [&pod, &other] {
        cri.remove(pod).unwrap();
    }
}

/// A Pod of an exempt namespace exempts no other container.
#[test]
fn the_uid_of_an_exempt_pod_in_a_path_exempts_nothing() {
    let cluster = require!(Cluster::for_test("exempt-path"));
    let Cluster { agent, node, .. } = &cluster;
    let cri = node.containerd.cri().unwrap();
    let uid = cluster.pod("free", "real", OURS, None);
    let pod = cri
        .run_pod(&spec("free", "real", "app", OURS), &uid)
        .unwrap();
    let real = &pod.container_id;
    agent.expect(real, "start", ["exempt", "pod", "out-of-scope"]);

    let path = |id: &str| format!("/kubepods/besteffort/pod{uid}/{id}");
    for (namespace, end) in [("k8s.io", 'e'), ("other", 'f')] {
        let id = format!("{:x}{end}", std::process::id()).repeat(64)[..64].to_owned();
        let cgroup = path(&id);
        node.images(namespace);
        let sleep = ["sleep", "1000"];
        node.containerd
            .run_as(&["--cgroup", &cgroup], namespace, EVIL, &id, &sleep)
            .unwrap();
        let finding = agent.expect(&id, "start", DRIFT);
        assert_eq!(finding["pod"], Value::Null, "{finding:#}");
        node.containerd.remove(namespace, &id).unwrap();
        agent.wait_for(&id, "stopped");
    }
    let id = format!("exempt-{}", std::process::id());
    let cgroup = path(&"0e".repeat(32));
    let _plain = Bundle::run_forged(&node.lab, &id, &["sleep", "1000"], &cgroup, &[]).unwrap();
    agent.expect(&id, "start", ["unresolved", "runc", "not-admitted"]);
    // Another image under the name of the Pod's own container, started by a client of the CRI.
    cri.remove_container(&pod.container_id).unwrap();
    let id = cri
        .add_container(&pod, &spec("free", "real", "app", EVIL))
        .unwrap();
    let finding = agent.wait_for(&id, "start");
    assert_eq!(words(&finding)[0], "drift", "{finding:#}");
    cri.remove(&pod).unwrap();
}
