//! A small kubelet and scheduler that run Pods of one namespace as processes of this machine.
//!
//! Deployments roll out, Pods become ready, Services find their endpoints and a deleted Pod gets
//! its grace period, all by the controllers of the control plane. A Pod has one container; the
//! caller makes its command from the spec. Images, volumes, and probes other than the readiness
//! probe are ignored.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{JoinHandle, sleep};
use std::time::{Duration, Instant};

use ::kube::Api;
use ::kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions};
use k8s_openapi::api::core::v1::{Container, Node, Pod};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use super::ControlPlane;
use crate::error::{Error, Result};
use crate::http::{HttpClient, runtime};
use crate::process::Process;
use crate::workspace::Lab;

/// The node that Pods are bound to.
const NODE: &str = "lab";
const POLL: Duration = Duration::from_millis(100);
/// Least time between two starts of a process that keeps ending.
const RESTART_DELAY: Duration = Duration::from_secs(1);
/// Kubernetes' own defaults.
const PROBE_PERIOD: u32 = 10;
const PROBE_TIMEOUT: u32 = 1;
const GRACE_PERIOD: Duration = Duration::from_secs(30);

/// Which Pods to run, and how.
pub struct KubeletOptions {
    /// Their namespace.
    pub namespace: String,
    /// Addresses of this machine, one for each Pod that runs at a time. A Service's endpoints may not be loopback
    /// addresses.
    pub addresses: Vec<Ipv4Addr>,
    /// Makes the command for a Pod.
    pub command: Box<dyn Fn(&PodStart) -> Command + Send>,
}

/// The parts of a Pod that its command is made from.
#[derive(Debug, Clone)]
pub struct PodStart {
    /// The Pod's name.
    pub name: String,
    /// Its address.
    pub address: Ipv4Addr,
    /// Its container's arguments.
    pub args: Vec<String>,
    /// Its container's environment, including values from the Pod's fields.
    pub env: Vec<(String, String)>,
}

/// A Pod and its process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodProcess {
    /// The Pod's name.
    pub name: String,
    /// Its address.
    pub address: Ipv4Addr,
    /// The process, unless it has ended.
    pub pid: Option<u32>,
    /// Whether the readiness probe succeeds and the Pod is not being deleted.
    pub ready: bool,
    /// How often the process has ended by itself or was killed.
    pub restarts: u32,
    /// The process's log file.
    pub log: PathBuf,
}

/// Runs Pods as processes; dropping it ends them.
pub struct Kubelet {
    pods: Arc<Mutex<Vec<PodProcess>>>,
    kill: Arc<Mutex<Vec<String>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Kubelet {
    /// Registers a node, and runs the Pods of the namespace from now on.
    pub fn start(cluster: &ControlPlane, options: KubeletOptions) -> Result<Self> {
        let runtime = runtime()?;
        let client = runtime.block_on(async {
            let client = cluster.client().await?;
            let mut node = Node::default();
            node.metadata.name = Some(NODE.to_owned());
            Api::<Node>::all(client.clone())
                .create(&PostParams::default(), &node)
                .await
                .map_err(Error::api("a node"))?;
            Ok::<_, Error>(client)
        })?;
        let mut kubelet = Self {
            pods: Arc::default(),
            kill: Arc::default(),
            stop: Arc::default(),
            thread: None,
        };
        let work = Work {
            runtime,
            lab: cluster.lab.clone(),
            api: Api::namespaced(client, &options.namespace),
            options,
            running: BTreeMap::new(),
        };
        let (pods, kill, stop) = (
            Arc::clone(&kubelet.pods),
            Arc::clone(&kubelet.kill),
            Arc::clone(&kubelet.stop),
        );
        kubelet.thread = Some(std::thread::spawn(move || work.run(&pods, &kill, &stop)));
        Ok(kubelet)
    }

    /// The Pods that run now, by name.
    pub fn pods(&self) -> Vec<PodProcess> {
        lock(&self.pods).clone()
    }

    /// Kills a Pod's process, as the kernel does when memory runs out; it is started again.
    pub fn kill(&self, pod: &str) {
        lock(&self.kill).push(pod.to_owned());
    }
}

impl Drop for Kubelet {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            eprintln!("the lab's kubelet has panicked");
        }
    }
}

/// State of the thread.
struct Work {
    runtime: Runtime,
    lab: Lab,
    api: Api<Pod>,
    options: KubeletOptions,
    /// By the Pods' ids.
    running: BTreeMap<String, Running>,
}

/// A Pod with an address.
struct Running {
    start: PodStart,
    container: String,
    process: Option<Process>,
    ended: Option<Instant>,
    restarts: u32,
    probe: Option<Probe>,
    ready: bool,
    /// When it is killed at the latest, once it has to end.
    deadline: Option<Instant>,
    /// The status that the API server has.
    reported: Option<Value>,
}

struct Probe {
    client: HttpClient,
    path: String,
    period: Duration,
    failures: u32,
    threshold: u32,
    next: Instant,
}

impl Work {
    fn run(mut self, pods: &Mutex<Vec<PodProcess>>, kill: &Mutex<Vec<String>>, stop: &AtomicBool) {
        while !stop.load(Ordering::Relaxed) {
            // While the API server is down, everything keeps running.
            let listed = self
                .runtime
                .block_on(self.api.list(&ListParams::default().match_any()));
            if let Ok(listed) = listed {
                self.sync(&listed.items);
            }
            for name in lock(kill).drain(..) {
                let named = self.running.values_mut().find(|it| it.start.name == name);
                if let Some(process) = named.and_then(|it| it.process.as_mut()) {
                    process.kill();
                }
            }
            for pod in self.running.values_mut() {
                pod.advance(&self.lab, &self.options);
            }
            self.report();
            *lock(pods) = self
                .running
                .values()
                .map(|it| it.shown(&self.lab))
                .collect();
            sleep(POLL);
        }
        // The cluster ends too, so nobody needs a drain.
        for process in self
            .running
            .values_mut()
            .filter_map(|it| it.process.as_mut())
        {
            process.kill();
        }
    }

    fn sync(&mut self, pods: &[Pod]) {
        self.running
            .retain(|id, _| pods.iter().any(|it| it.metadata.uid.as_ref() == Some(id)));
        for pod in pods {
            let (Some(id), Some(name)) = (&pod.metadata.uid, &pod.metadata.name) else {
                continue;
            };
            if let Some(running) = self.running.get_mut(id) {
                if pod.metadata.deletion_timestamp.is_some() && running.deadline.is_none() {
                    let grace = pod.metadata.deletion_grace_period_seconds;
                    let grace = grace.and_then(|it| u64::try_from(it).ok());
                    running.end(grace.map_or(GRACE_PERIOD, Duration::from_secs));
                }
            } else if pod.metadata.deletion_timestamp.is_some() {
                self.finish(id, name);
            } else if let Some(address) = self.free_address()
                && let Some(running) = Running::new(pod, address)
            {
                self.bind(pod, name);
                self.running.insert(id.clone(), running);
            }
        }
        let gone: Vec<_> = self
            .running
            .iter()
            .filter(|(_, it)| it.deadline.is_some() && it.process.is_none())
            .map(|(id, it)| (id.clone(), it.start.name.clone()))
            .collect();
        for (id, name) in gone {
            if self.finish(&id, &name) {
                self.running.remove(&id);
            }
        }
    }

    fn free_address(&self) -> Option<Ipv4Addr> {
        let taken = |it: &Ipv4Addr| self.running.values().any(|pod| pod.start.address == *it);
        self.options.addresses.iter().copied().find(|it| !taken(it))
    }

    /// Binds a Pod to the node; binding twice is refused and does no harm.
    fn bind(&self, pod: &Pod, name: &str) {
        if pod.spec.as_ref().is_some_and(|it| it.node_name.is_some()) {
            return;
        }
        let binding = json!({
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": name},
            "target": {"apiVersion": "v1", "kind": "Node", "name": NODE},
        });
        let params = PostParams::default();
        let bound = self
            .api
            .create_subresource::<_, Value>("binding", name, &params, &binding);
        if let Err(error) = self.runtime.block_on(bound) {
            eprintln!("binding of Pod {name}: {error}");
        }
    }

    /// Deletes a Pod whose process has ended from the API; returns whether that is done.
    fn finish(&self, id: &str, name: &str) -> bool {
        let params = DeleteParams {
            grace_period_seconds: Some(0),
            preconditions: Some(Preconditions {
                uid: Some(id.to_owned()),
                ..Preconditions::default()
            }),
            ..DeleteParams::default()
        };
        match self.runtime.block_on(self.api.delete(name, &params)) {
            Ok(_) => true,
            // Gone, or replaced by another Pod of the same name.
            Err(::kube::Error::Api(status)) => matches!(status.code, 404 | 409),
            Err(_) => false,
        }
    }

    fn report(&mut self) {
        let (runtime, api) = (&self.runtime, &self.api);
        for (id, pod) in &mut self.running {
            let status = pod.status();
            if pod.reported.as_ref() == Some(&status) {
                continue;
            }
            // The uid keeps the patch from another Pod of the same name.
            let patch = Patch::Merge(json!({"metadata": {"uid": id}, "status": status}));
            let params = PatchParams::default();
            let done = api.patch_status(&pod.start.name, &params, &patch);
            if runtime.block_on(done).is_ok() {
                pod.reported = Some(status);
            }
        }
    }
}

impl Running {
    /// `None` for a Pod without a container, which no API server admits.
    fn new(pod: &Pod, address: Ipv4Addr) -> Option<Self> {
        let container = pod.spec.as_ref()?.containers.first()?;
        Some(Self {
            start: PodStart {
                name: pod.metadata.name.clone()?,
                address,
                args: container.args.clone().unwrap_or_default(),
                env: environment(pod, container, address),
            },
            container: container.name.clone(),
            process: None,
            ended: None,
            restarts: 0,
            probe: Probe::of(container, address),
            ready: false,
            deadline: None,
            reported: None,
        })
    }

    /// Starts to end the process.
    fn end(&mut self, grace: Duration) {
        if let Some(process) = &self.process {
            process.terminate();
        }
        self.deadline = Some(Instant::now() + grace);
    }

    fn advance(&mut self, lab: &Lab, options: &KubeletOptions) {
        if self.process.as_mut().is_some_and(|it| !it.is_running()) {
            self.process = None;
            self.ended = Some(Instant::now());
            self.restarts += u32::from(self.deadline.is_none());
        }
        if let Some(deadline) = self.deadline {
            self.ready = false;
            if let Some(process) = self.process.as_mut()
                && Instant::now() >= deadline
            {
                process.kill();
                self.process = None;
            }
            return;
        }
        if self.process.is_none() && self.ended.is_none_or(|it| it.elapsed() >= RESTART_DELAY) {
            match Process::start(lab, &self.start.name, (options.command)(&self.start)) {
                Ok(process) => self.process = Some(process),
                Err(error) => {
                    eprintln!("Pod {}: {error}", self.start.name);
                    self.ended = Some(Instant::now());
                }
            }
        }
        self.ready = match (&self.process, &mut self.probe) {
            (None, _) => false,
            (Some(_), None) => true,
            (Some(_), Some(probe)) => probe.holds(self.ready),
        };
    }

    fn status(&self) -> Value {
        let yes = |is: bool| if is { "True" } else { "False" };
        let address = self.start.address.to_string();
        let state = if self.process.is_some() {
            json!({"running": {}})
        } else {
            json!({"waiting": {"reason": "CrashLoopBackOff"}})
        };
        json!({
            "phase": "Running",
            "podIP": address,
            "podIPs": [{"ip": address}],
            "conditions": [
                {"type": "PodScheduled", "status": "True"},
                {"type": "Initialized", "status": "True"},
                {"type": "ContainersReady", "status": yes(self.ready)},
                {"type": "Ready", "status": yes(self.ready)},
            ],
            "containerStatuses": [{
                "name": self.container,
                "ready": self.ready,
                "restartCount": self.restarts,
                "image": "",
                "imageID": "",
                "state": state,
            }],
        })
    }

    fn shown(&self, lab: &Lab) -> PodProcess {
        PodProcess {
            name: self.start.name.clone(),
            address: self.start.address,
            pid: self.process.as_ref().map(Process::pid),
            ready: self.ready,
            restarts: self.restarts,
            log: lab.log_path(&self.start.name),
        }
    }
}

impl Probe {
    /// The container's readiness probe, if it is an HTTP probe.
    fn of(container: &Container, address: Ipv4Addr) -> Option<Self> {
        let probe = container.readiness_probe.as_ref()?;
        let get = probe.http_get.as_ref()?;
        let port = match &get.port {
            IntOrString::Int(port) => *port,
            IntOrString::String(name) => {
                let mut ports = container.ports.iter().flatten();
                ports
                    .find(|it| it.name.as_ref() == Some(name))?
                    .container_port
            }
        };
        let address = SocketAddr::new(address.into(), u16::try_from(port).ok()?);
        let number = |given: Option<i32>, default| {
            given
                .and_then(|it| u32::try_from(it).ok())
                .unwrap_or(default)
        };
        let limit = number(probe.timeout_seconds, PROBE_TIMEOUT);
        let period = number(probe.period_seconds, PROBE_PERIOD);
        Some(Self {
            client: HttpClient::new(address)
                .ok()?
                .with_limit(Duration::from_secs(limit.into())),
            path: get.path.clone().unwrap_or_else(|| "/".to_owned()),
            period: Duration::from_secs(period.into()),
            failures: 0,
            threshold: number(probe.failure_threshold, 3),
            next: Instant::now(),
        })
    }

    /// Whether the Pod is ready; `before` is the last result.
    fn holds(&mut self, before: bool) -> bool {
        // Until it is ready for the first time, it is probed as often as possible, to save time.
        if before && Instant::now() < self.next {
            return before;
        }
        self.next = Instant::now() + self.period;
        let answer = self.client.get(&self.path);
        if answer.is_ok_and(|it| it.status.is_success()) {
            self.failures = 0;
            return true;
        }
        self.failures += 1;
        before && self.failures < self.threshold
    }
}

/// A container's variables: literal ones, and those that refer to the Pod's fields.
fn environment(pod: &Pod, container: &Container, address: Ipv4Addr) -> Vec<(String, String)> {
    let field = |path: &str| match path {
        "metadata.name" => pod.metadata.name.clone(),
        "metadata.namespace" => pod.metadata.namespace.clone(),
        "metadata.uid" => pod.metadata.uid.clone(),
        "spec.nodeName" => Some(NODE.to_owned()),
        "status.podIP" => Some(address.to_string()),
        _ => None,
    };
    let variables = container.env.iter().flatten();
    variables
        .filter_map(|variable| {
            let from = variable.value_from.as_ref();
            let value = match from.and_then(|it| it.field_ref.as_ref()) {
                Some(reference) => field(&reference.field_path)?,
                None => variable.value.clone()?,
            };
            Some((variable.name.clone(), value))
        })
        .collect()
}

/// The value is valid even after a panic: it is replaced, never changed in steps.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
