//! Asks real runtimes about real containers, and compares the answers with what was started.

#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use imageswap_agent::claim::ContentSource;
use imageswap_agent::container::{RuntimeHint, classify};
use imageswap_agent::evidence::EvidenceError;
use imageswap_agent::evidence::bundle::{Bundles, read_bundle};
use imageswap_agent::evidence::containerd::{Containerd, TaskEvent, TaskEventKind, TaskStatus};
use imageswap_agent::evidence::cri::Cri;
use imageswap_agent::evidence::runc::RuncStates;
use imageswap_agent::process::Subject;
use imageswap_lab::{
    Bundle, ContainerdOptions, CriPod, Image, Lab, PodSpec, Registry, require, wait_until,
};
use tokio::runtime::Runtime;

const HOST: &str = "registry.example.com";
const APP: &str = "registry.example.com/team/app:1";
const ALIAS: &str = "a.example.com/alias:1";
const LIMIT: Duration = Duration::from_secs(30);

/// A containerd that has [`APP`] for the pulling.
struct Node {
    containerd: imageswap_lab::Containerd,
    image: Image,
    // Ends after containerd, which pulls from it.
    _registry: Registry,
}

impl Node {
    fn start(lab: &Lab) -> Self {
        let registry = Registry::start(lab).unwrap();
        let image = Image::sleeper("evidence").unwrap();
        registry.push(&image, "team/app", "1").unwrap();
        let options = ContainerdOptions {
            mirrors: vec![(HOST.to_owned(), registry.addr())],
            cri: true,
            ..ContainerdOptions::default()
        };
        let containerd = imageswap_lab::Containerd::start(lab, options).unwrap();
        Self {
            containerd,
            image,
            _registry: registry,
        }
    }

    fn run_pod(&self) -> CriPod {
        let pod = PodSpec {
            namespace: "team",
            name: "web",
            container: "app",
            image: APP,
            command: &[],
        };
        self.containerd.cri().unwrap().run(&pod).unwrap()
    }

    fn client(&self, runtime: &Runtime) -> Containerd {
        let _context = runtime.enter();
        Containerd::connect(self.containerd.socket())
    }

    fn bundles(&self) -> Bundles {
        Bundles::new(Path::new("/"), [self.containerd.state()])
    }
}

/// Names that are unique on the machine, because the cgroup is named after both.
fn unique(lab: &Lab, name: &str) -> String {
    format!("{}-{name}", lab.name())
}

fn cgroups_of(pid: u32) -> Vec<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    text.lines().map(str::to_owned).collect()
}

#[test]
fn containerd_knows_the_containers_of_every_namespace() {
    let lab = require!(Lab::for_test(
        "containerd_knows_the_containers_of_every_namespace"
    ));
    let node = Node::start(&lab);
    let digest = node.image.digest();
    let (one, two) = (unique(&lab, "one"), unique(&lab, "two"));
    node.containerd.pull(&one, APP).unwrap();
    node.containerd.tag(&one, APP, ALIAS).unwrap();
    node.containerd
        .import(&two, &node.image, "imported.example.com/app:2")
        .unwrap();
    node.containerd.run(&one, APP, "same-id", &[]).unwrap();
    node.containerd
        .run(&two, "imported.example.com/app:2", "same-id", &[])
        .unwrap();
    node.containerd
        .run(&one, ALIAS, "free_form.id-1", &[])
        .unwrap();

    let runtime = Runtime::new().unwrap();
    let client = node.client(&runtime);
    runtime.block_on(async {
        assert!(!client.version().await.unwrap().is_empty());
        let namespaces = client.namespaces().await.unwrap();
        assert!(
            [&one, &two].iter().all(|name| namespaces.contains(name)),
            "{namespaces:?}"
        );

        let record = client
            .container(&one, "free_form.id-1")
            .await
            .unwrap()
            .unwrap();
        assert_eq!(
            (record.namespace.as_str(), record.image.as_str()),
            (one.as_str(), ALIAS)
        );
        let (snapshotter, key) = record.snapshot.unwrap();
        let snapshot = client.snapshot(&one, &snapshotter, &key).await.unwrap();
        assert!(
            snapshot.as_ref().is_some_and(|it| it.created.0 > 0),
            "{snapshot:?}"
        );
        let layers = snapshot.map(|it| it.parent);
        // By the digests of the manifest and of the configuration.
        for digest in [&digest, &node.image.id()] {
            let images = client.configurations(&one, digest).await.unwrap();
            let image = images.into_iter().next().unwrap();
            assert_eq!(Some(&image.chain), layers.as_ref(), "{digest}");
            assert_eq!(image.command, ["/bin/sleep", "2147483647"], "{digest}");
        }
        assert_eq!(
            client.snapshot(&one, &snapshotter, "no").await.unwrap(),
            None
        );
        // Views of one parent have equal mounts; one that gets the key of another is made later.
        let parent = layers.unwrap();
        let mut views = Vec::new();
        let ctr = |args: &[&str]| node.containerd.ctr(&one, args);
        // containerd removes what nothing refers to, at any time.
        for _ in 0..20 {
            ctr(&["snapshots", "view", "a-view", &parent]).unwrap();
            let view = client.snapshot(&one, &snapshotter, "a-view").await;
            let mounts = client.mounts_of(&one, &snapshotter, "a-view").await;
            views.extend(view.unwrap().zip(mounts.unwrap()));
            drop(ctr(&["snapshots", "rm", "a-view"]));
            if views.len() == 2 {
                break;
            }
        }
        let [(first, mounts), (second, others)] = &views[..] else {
            panic!("{views:?}")
        };
        assert_eq!((&first.parent, mounts), (&second.parent, others));
        assert!(first.created < second.created, "{views:?}");
        assert_eq!(
            client.container(&two, "free_form.id-1").await.unwrap(),
            None
        );
        assert_eq!(
            client.container("no-such-namespace", "x").await.unwrap(),
            None
        );

        for (namespace, image) in [(&one, APP), (&two, "imported.example.com/app:2")] {
            let record = client.container(namespace, "same-id").await.unwrap();
            assert_eq!(record.unwrap().image, image);
        }

        let list = || async { client.tasks_from_now().await.unwrap() };
        let (own, later, same) = tokio::join!(list(), list(), list());
        assert!(Arc::ptr_eq(&later, &same), "they waited for one list");
        assert!(!Arc::ptr_eq(&own, &later), "it was begun before they asked");
        assert_eq!(own.len(), 3);

        let tasks = client.tasks().await.unwrap();
        assert_eq!(tasks.len(), 3, "{tasks:?}");
        for task in tasks {
            assert_eq!(task.status, TaskStatus::Running, "{task:?}");
            let again = client.task(&task.namespace, &task.id).await.unwrap();
            assert_eq!(again.as_ref(), Some(&task));
            let unified = cgroups_of(task.pid).pop().unwrap();
            let identity = classify(&unified);
            assert_eq!(identity.runtime, RuntimeHint::ContainerdNative, "{unified}");
            assert_eq!(identity.container_id.as_deref(), Some(task.id.as_str()));
            assert_eq!(
                identity.containerd_namespace.as_deref(),
                Some(task.namespace.as_str())
            );
            let process = Subject::now(Path::new("/proc"), task.pid);
            let bundle = node.bundles().of_process(process).unwrap().unwrap();
            assert_eq!(bundle.id, task.id);
            assert_eq!(bundle.namespace.as_deref(), Some(task.namespace.as_str()));
        }

        let image = client.image(&one, ALIAS).await.unwrap();
        assert_eq!(image.as_ref(), Some(&digest));
        assert_eq!(client.image(&two, ALIAS).await.unwrap(), None);
        assert_eq!(client.names_of(&one, &digest).await.unwrap(), [ALIAS, APP]);
        let pulled = ContentSource {
            host: HOST.to_owned(),
            repository: "team/app".to_owned(),
            has_port: false,
        };
        assert_eq!(
            client.sources(&one, &digest).await.unwrap(),
            Some(vec![pulled])
        );
        // The same content in a namespace where it was never pulled.
        assert_eq!(client.sources(&two, &digest).await.unwrap(), Some(vec![]));
        let absent = format!("sha256:{}", "0".repeat(64));
        assert_eq!(client.sources(&one, &absent).await.unwrap(), None);
        assert!(client.names_of(&one, &absent).await.unwrap().is_empty());
    });
}

#[test]
fn cri_and_the_bundle_know_what_the_kubelet_made() {
    let lab = require!(Lab::for_test(
        "cri_and_the_bundle_know_what_the_kubelet_made"
    ));
    let node = Node::start(&lab);
    let pod = node.run_pod();
    node.containerd.tag("k8s.io", APP, ALIAS).unwrap();

    let runtime = Runtime::new().unwrap();
    let containerd = node.client(&runtime);
    let cri = {
        let _context = runtime.enter();
        Cri::connect(node.containerd.socket())
    };
    runtime.block_on(async {
        assert_eq!(cri.version().await.unwrap().runtime, "containerd");

        let container = cri.container(&pod.container_id).await.unwrap().unwrap();
        assert_eq!(container.name, "app");
        assert_eq!(container.sandbox_id.as_ref(), Some(&pod.sandbox_id));
        let exact = format!("{HOST}/team/app@{}", node.image.digest());
        assert_eq!(container.image_ref, exact);
        let line = cgroups_of(container.pid.unwrap()).pop().unwrap();
        let identity = classify(&line);
        assert_eq!(identity.container_id.as_ref(), Some(&pod.container_id));
        assert_eq!(identity.pod_uid.as_ref(), Some(&pod.uid));

        let sandbox = cri.sandbox(&pod.sandbox_id).await.unwrap().unwrap();
        let of = [&sandbox.pod.namespace, &sandbox.pod.name, &sandbox.pod.uid];
        assert_eq!(of, ["team", "web", &pod.uid]);
        assert!(sandbox.image.unwrap().contains("pause"));
        let task = containerd.task("k8s.io", &pod.sandbox_id).await.unwrap();
        let pid = sandbox.pid.unwrap();
        assert_eq!(task.unwrap().pid, pid);
        let record = containerd.container("k8s.io", &pod.sandbox_id).await;
        let command = record.unwrap().unwrap().sandbox_command.unwrap();
        assert_eq!(command, ["/bin/sleep", "2147483647"]);
        let process = Subject::now(Path::new("/proc"), pid);
        let read = |id: &str| {
            node.bundles()
                .configuration("k8s.io", id, process, 1 << 20)
                .unwrap()
        };
        assert!(read(&pod.sandbox_id).is_some());
        assert!(read(&pod.container_id).is_none(), "another process");

        // A sandbox is not a container, and the beginning of an id is not an id.
        assert_eq!(cri.container(&pod.sandbox_id).await.unwrap(), None);
        assert_eq!(cri.sandbox(&pod.container_id).await.unwrap(), None);
        assert_eq!(cri.container(&pod.container_id[..12]).await.unwrap(), None);

        let image = cri.image(&pod.image_id).await.unwrap().unwrap();
        assert_eq!(image.id, node.image.id());
        assert!(image.repo_digests.contains(&exact), "{image:?}");
        assert_eq!(cri.image("no.example.com/such:1").await.unwrap(), None);

        // The plugin stores the image under its id and its digest too.
        let mut names = containerd
            .names_of("k8s.io", &node.image.digest())
            .await
            .unwrap();
        names.sort();
        assert_eq!(names, [ALIAS, APP, &exact]);
    });

    let tasks = node
        .containerd
        .state()
        .join("io.containerd.runtime.v2.task");
    let bundle = |id: &str| {
        read_bundle(&tasks.join("k8s.io").join(id))
            .unwrap()
            .unwrap()
    };
    let cri = bundle(&pod.container_id).cri.unwrap();
    assert!(!cri.sandbox);
    assert_eq!(cri.container_name.as_deref(), Some("app"));
    assert_eq!(cri.image_name.as_deref(), Some(APP));
    let named = cri.pod.unwrap();
    assert_eq!(
        [named.namespace, named.name, named.uid],
        ["team", "web", &pod.uid]
    );
    assert!(bundle(&pod.sandbox_id).cri.unwrap().sandbox);
}

#[test]
fn events_tell_each_start_and_end_and_a_restart_ends_them() {
    let lab = require!(Lab::for_test(
        "events_tell_each_start_and_end_and_a_restart_ends_them"
    ));
    let mut node = Node::start(&lab);
    let namespace = unique(&lab, "events");
    node.containerd.pull(&namespace, APP).unwrap();
    let runtime = Runtime::new().unwrap();
    let client = node.client(&runtime);
    let run =
        |node: &Node, id: &str, cmd: &str| node.containerd.run_to_end(&namespace, APP, id, &[cmd]);

    let (events, ended) = subscribe(&runtime, &client);
    // The moment from which a subscription is active is unknown: try until an event is seen.
    let mut tries = 0;
    while events.recv_timeout(Duration::from_millis(500)).is_err() {
        tries += 1;
        assert!(tries <= 20, "no event of {tries} containers");
        run(&node, &format!("try-{tries}"), "/bin/true").unwrap();
    }
    node.containerd.run(&namespace, APP, "long", &[]).unwrap();
    run(&node, "short", "/bin/true").unwrap();
    run(&node, "wrong", "/no/such/program").unwrap_err();
    node.containerd
        .ctr(
            &namespace,
            ["task", "exec", "--exec-id", "e", "long", "/bin/true"],
        )
        .unwrap();
    node.containerd.remove(&namespace, "long").unwrap();

    let mut seen = Vec::new();
    let is_last =
        |event: &TaskEvent| event.container_id == "long" && event.kind == TaskEventKind::Delete;
    while !seen.last().is_some_and(is_last) {
        seen.push(events.recv_timeout(LIMIT).unwrap());
    }
    let of = |id: &str| -> Vec<TaskEventKind> {
        seen.iter()
            .filter(|event| event.container_id == id)
            .map(|event| event.kind)
            .collect()
    };
    let ends_with = |status| {
        vec![
            TaskEventKind::Create,
            TaskEventKind::Start,
            TaskEventKind::Exit { status },
            TaskEventKind::Delete,
        ]
    };
    assert_eq!(of("short"), ends_with(0));
    assert_eq!(of("long"), ends_with(137));
    assert!(!of("wrong").contains(&TaskEventKind::Start), "{seen:?}");
    assert!(seen.iter().all(|event| event.namespace == namespace));

    node.containerd.stop();
    let error = ended.recv_timeout(LIMIT).unwrap();
    assert!(
        matches!(
            error,
            EvidenceError::Unreachable { .. } | EvidenceError::Ended { .. }
        ),
        "{error:?}"
    );
    let error = runtime.block_on(client.version()).unwrap_err();
    assert!(
        matches!(error, EvidenceError::Unreachable { .. }),
        "{error:?}"
    );
    node.containerd.start_again().unwrap();
    assert!(wait_until(LIMIT, || runtime
        .block_on(client.version())
        .is_ok()));
}

/// Receivers of the events and of the error that ends them.
fn subscribe(
    runtime: &Runtime,
    client: &Containerd,
) -> (mpsc::Receiver<TaskEvent>, mpsc::Receiver<EvidenceError>) {
    let (event, events) = mpsc::channel();
    let (end, ended) = mpsc::channel();
    let mut stream = runtime.block_on(async { client.events() });
    runtime.spawn(async move {
        loop {
            match stream.next().await {
                Ok(next) => event.send(next).unwrap(),
                Err(error) => return end.send(error).unwrap(),
            }
        }
    });
    (events, ended)
}

#[test]
fn runc_alone_keeps_a_state_that_leads_to_the_bundle() {
    let lab = require!(Lab::for_test(
        "runc_alone_keeps_a_state_that_leads_to_the_bundle"
    ));
    for pure_v2 in [false, true] {
        let id = unique(&lab, if pure_v2 { "pure" } else { "plain" });
        let container = Bundle::run_hidden(&lab, &id, &["/bin/sleep", "600"], pure_v2).unwrap();
        let none: [&Path; 0] = [];
        let states = RuncStates::with_roots(Path::new("/"), [container.dir().join("state")], none);
        let (listed, _) = states.list();
        let [state] = listed.as_slice() else {
            panic!("{listed:?}")
        };
        assert_eq!(state.id, id);
        assert_eq!(state.bundle.as_deref(), Some(container.dir()));
        let init = state.init.unwrap();
        assert!(init.is_alive(Path::new("/proc")));
        assert_eq!(states.of_process(init, None).unwrap().as_ref(), Some(state));
        let lines = cgroups_of(init.pid);
        let own = format!("/{id}");
        assert!(lines.iter().any(|line| line.ends_with(&own)), "{lines:?}");
        let bundle = read_bundle(container.dir()).unwrap().unwrap();
        assert_eq!(bundle.cri, None);
    }
}
