//! Many or long forged events, long records, and many pid namespaces: findings about others are neither
//! lost nor milder.

use crate::harness::{Agent, DRIFT, EVIL, Node, OURS, PATIENCE, memory, words};
use imageswap_lab::{Cgroup, require, wait_until};
use prost::Message;
use serde_json::Value;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;
use tokio::runtime::Runtime;
use tonic::Request;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};
use tonic_prost::ProstCodec;

#[derive(Clone, PartialEq, Message)]
struct PublishRequest {
    #[prost(string, tag = "1")]
    topic: String,
    #[prost(message, optional, tag = "2")]
    event: Option<Any>,
}

#[derive(Clone, PartialEq, Message)]
struct Any {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

/// The events of a new and of a started task have the pid in different fields.
#[derive(Clone, PartialEq, Message)]
struct TaskCreate {
    #[prost(string, tag = "1")]
    container_id: String,
    #[prost(uint32, tag = "6")]
    pid: u32,
}

#[derive(Clone, PartialEq, Message)]
struct TaskStart {
    #[prost(string, tag = "1")]
    container_id: String,
    #[prost(uint32, tag = "2")]
    pid: u32,
}

#[derive(Clone, PartialEq, Message)]
struct UpdateContainerRequest {
    #[prost(message, optional, tag = "1")]
    container: Option<Container>,
    #[prost(message, optional, tag = "2")]
    update_mask: Option<FieldMask>,
}

#[derive(Clone, PartialEq, Message)]
struct Container {
    #[prost(string, tag = "1")]
    id: String,
    #[prost(message, optional, tag = "5")]
    spec: Option<Any>,
}

#[derive(Clone, PartialEq, Message)]
struct FieldMask {
    #[prost(string, repeated, tag = "1")]
    paths: Vec<String>,
}

/// Longer than the agent reads, and not longer than containerd accepts.
const LONG: usize = 14 << 20;

/// How much the agent may grow, in KB.
const GROWTH: usize = 32 << 10;

/// A client of containerd that publishes events about tasks and changes records, as any client can.
pub(crate) struct Publisher {
    runtime: Runtime,
    channel: Channel,
}

impl Publisher {
    pub(crate) fn connect(socket: &Path) -> Self {
        let runtime = Runtime::new().unwrap();
        let socket = format!("unix://{}", socket.display());
        let endpoint = Endpoint::from_shared(socket).unwrap();
        let channel = runtime.block_on(endpoint.connect()).unwrap();
        Self { runtime, channel }
    }

    fn publish(&self, topic: &str, kind: &str, value: Vec<u8>) {
        let event = Any {
            type_url: format!("containerd.events.{kind}"),
            value,
        };
        let request = PublishRequest {
            topic: topic.to_owned(),
            event: Some(event),
        };
        self.call("/containerd.services.events.v1.Events/Publish", request);
    }

    /// Changes a container's OCI configuration.
    pub(crate) fn specify(&self, id: &str, spec: &Value) {
        let spec = Any {
            type_url: "types.containerd.io/opencontainers/runtime-spec/1/Spec".to_owned(),
            value: spec.to_string().into(),
        };
        let request = UpdateContainerRequest {
            container: Some(Container {
                id: id.to_owned(),
                spec: Some(spec),
            }),
            update_mask: Some(FieldMask {
                paths: vec!["spec".to_owned()],
            }),
        };
        self.call(
            "/containerd.services.containers.v1.Containers/Update",
            request,
        );
    }

    fn call<Q: Message + Default + 'static>(&self, method: &'static str, request: Q) {
        let mut request = Request::new(request);
        let metadata = request.metadata_mut();
        metadata.insert("containerd-namespace", "default".parse().unwrap());
        let mut client = Grpc::new(self.channel.clone());
        let call = async {
            client.ready().await.unwrap();
            let path = PathAndQuery::from_static(method);
            let codec = ProstCodec::<Q, ()>::default();
            drop(client.unary(request, path, codec).await);
        };
        self.runtime.block_on(call);
    }
}

fn resident(agent: &Agent) -> usize {
    memory(agent.pid(), "VmRSS:")
}

/// Runs short containers of both images while `flood` runs, and checks that nothing changes for them.
fn nothing_changes(node: &Node, agent: &Agent, name: &str, flood: impl Fn(&AtomicBool) + Sync) {
    let is_over = AtomicBool::new(false);
    let ids =
        |image: &'static str| (0..4).map(move |at| (image, format!("{name}-{at}-{image:.4}")));
    std::thread::scope(|scope| {
        scope.spawn(|| flood(&is_over));
        std::thread::sleep(Duration::from_secs(1));
        for (image, id) in ids(EVIL).chain(ids(OURS)) {
            let ran = node
                .containerd
                .run_to_end("default", image, &id, &["sleep", "0.02"]);
            if ran.is_err() {
                is_over.store(true, Ordering::Relaxed);
            }
            ran.unwrap();
        }
        is_over.store(true, Ordering::Relaxed);
    });
    for (_, id) in ids(EVIL) {
        let finding = agent.wait_for(&id, "start");
        assert_eq!(words(&finding), DRIFT, "{finding:#}\n{}", agent.log());
    }
    for (_, id) in ids(OURS) {
        let finding = agent.wait_for(&id, "start");
        assert_ne!(words(&finding)[0], "drift", "{finding:#}");
    }
}

#[test]
fn a_flood_of_published_events_costs_neither_memory_nor_verdicts() {
    let node = require!(Node::with_images("events"));
    // A container without a task.
    let decoy = ["container", "create", EVIL, "decoy"];
    node.containerd.ctr("default", decoy).unwrap();
    let agent = node.agent();
    let socket = node.containerd.socket();
    let before = resident(&agent);
    let published = AtomicU32::new(0);
    nothing_changes(&node, &agent, "events", |is_over| {
        let client = Publisher::connect(&socket);
        while !is_over.load(Ordering::Relaxed) {
            let number = published.fetch_add(1, Ordering::Relaxed);
            // Below 300, where the kernel makes no new process once it has used all pids: an event with the
            // pid of a container of the test is about that container.
            let (mut container_id, pid) = ("decoy".to_owned(), 2 + number % 298);
            if number % 100 == 7 {
                container_id = "x".repeat(LONG);
            }
            let (topic, kind, value) = match number % 4 {
                0 => (
                    "/tasks/start",
                    "TaskStart",
                    TaskStart { container_id, pid }.encode_to_vec(),
                ),
                // This is not an event, and does not end the stream.
                1 => ("/tasks/create", "TaskCreate", vec![0xff]),
                _ => (
                    "/tasks/create",
                    "TaskCreate",
                    TaskCreate { container_id, pid }.encode_to_vec(),
                ),
            };
            client.publish(topic, kind, value);
        }
    });
    let grown = resident(&agent).saturating_sub(before);
    let published = published.load(Ordering::Relaxed);
    println!("{grown} KB after {published} events");
    assert!(grown < GROWTH, "{grown} KB after {published} events");
    let log = agent.log();
    assert!(!log.contains("cannot follow a containerd"), "{log}");
    assert_eq!(log.matches("bytes are left out").count(), 1, "{log}");
    node.containerd
        .ctr("default", ["container", "rm", "decoy"])
        .unwrap();
}

#[test]
fn long_records_cost_little_memory() {
    let node = require!(Node::with_images("records"));
    let agent = node.agent();
    let prefix = format!("records-{}-", std::process::id());
    let ids: Vec<_> = (0..8).map(|at| format!("{prefix}{at}")).collect();
    let client = Publisher::connect(&node.containerd.socket());
    let ctr = |args: &[&str]| node.containerd.ctr("default", args).unwrap();
    for id in &ids {
        ctr(&["container", "create", EVIL, id, "sleep", "1000"]);
        let spec = ctr(&["container", "info", "--spec", id]).stdout;
        let mut spec: Value = serde_json::from_slice(&spec).unwrap();
        spec["annotations"]["long"] = "x".repeat(LONG).into();
        client.specify(id, &spec);
    }
    let before = resident(&agent);
    std::thread::scope(|scope| {
        for id in &ids {
            scope.spawn(|| ctr(&["task", "start", "--detach", id]));
        }
    });
    let found = || {
        let mut said = agent.said();
        let is_its = |it: &Value| it["cgroup"].as_str().unwrap().contains(&prefix);
        said.retain(|it| is_its(it) && it["event"] == "start");
        said
    };
    let all_seen = wait_until(PATIENCE, || found().len() == ids.len());
    assert!(all_seen, "{:#?}\n{}", found(), agent.log());
    let grown = resident(&agent).saturating_sub(before);
    println!("{grown} KB after {} records", ids.len());
    assert!(grown < GROWTH, "{grown} KB");
    for finding in found() {
        let expected = ["unresolved", "unknown", "runtime-unreachable"];
        assert_eq!(words(&finding), expected, "{finding:#}");
    }
    for id in &ids {
        node.remove(id);
    }
}

/// An ordinary container can do this, if its seccomp profile permits user namespaces.
#[test]
fn many_pid_namespaces_in_one_cgroup_do_not_delay_others() {
    const MANY: usize = 300;
    let node = require!(Node::with_images("namespaces"));
    let agent = node.agent();
    let path = format!("/namespaces-{}.service", std::process::id());
    let cgroup = Cgroup::make(&node.lab, &path).unwrap();
    nothing_changes(&node, &agent, "namespaces", |_| {
        let mut makes = Command::new("sh");
        let one = "unshare --pid --mount --fork true";
        makes.args(["-c", &format!("for i in $(seq {MANY}); do {one}; done")]);
        let made = cgroup.with_process(&makes).status().unwrap();
        assert!(made.success());
    });
    let started = || {
        let mut said = agent.said();
        said.retain(|finding| finding["cgroup"] == path.as_str() && finding["event"] == "start");
        said.len()
    };
    let all_seen = wait_until(2 * PATIENCE, || started() >= MANY);
    assert!(all_seen, "{} of {MANY}\n{}", started(), agent.log());
}
