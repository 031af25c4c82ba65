//! `imageswap-agent run`: checks the configuration, attaches the probes, walks the tree, lists the
//! runtimes, and then loops.

use crate::agent::walk::Look;
use crate::agent::{Agent, Parts};
use crate::agent_record::StopReason;
use crate::cli::RunArgs;
use crate::evidence::containerd::Containerd;
use crate::evidence::cri::Cri;
use crate::evidence::discover;
use crate::export::pod_events::{self, PodEvents};
use crate::export::policy_reports::PolicyReports;
use crate::export::shown;
use crate::export::{CAUSE_LOST, CAUSE_PERIODIC, Exports};
use crate::hierarchy::Hierarchy;
use crate::judge::Criteria;
use crate::metrics::{ActivityGauge, AgentMetrics};
use crate::node;
use crate::offsets::Offsets;
use crate::places::NodeArgs;
use crate::pods::{self, Pods};
use crate::probe::{Options, Probes};
use crate::resolve::{Answer, Resolver};
use crate::respond::Responder;
use crate::starts::Starts;
use crate::tasks;
use anyhow::Context as _;
use imageswap_runtime::admin::{Activity, Admin, Condition, Liveness, Readiness};
use imageswap_runtime::drain::Drain;
use imageswap_runtime::metrics::Exporter;
use imageswap_runtime::source::PolicySource;
use kube::Client;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::{JoinError, spawn_blocking};
use tokio::time::{MissedTickBehavior, interval, timeout};

/// Events of the kernel that may wait for the table; the ring buffer behind them holds more.
const EVENTS_WAITING: usize = 4096;

/// Events of the kernel that are handled before other inputs get a turn, and of both.
const MOST_IN_ROW: usize = 64;
const ALL_IN_ROW: usize = 2 * MOST_IN_ROW;

/// The value of `--pin` that disables pinning.
const NO_PIN: &str = "off";

/// How long the agent waits for the labels of namespaces before the first walk; it judges again
/// when they come.
const NAMESPACES_PATIENCE: Duration = Duration::from_secs(2);

/// Interval between two checks of the lost-event counters.
const LOST_INTERVAL: Duration = Duration::from_secs(1);

/// How long a turn of the main loop may take; usually milliseconds.
const LONGEST_TURN: Duration = Duration::from_mins(1);

/// How long a walk over the cgroups may be overdue; one over 50,000 cgroups takes some seconds.
const LONGEST_WALK: Duration = Duration::from_mins(2);

/// Runs the agent until it receives a signal. The policy is valid; no port is bound yet.
///
/// `client` is asked for the node's Pods; without it only the runtimes' knowledge is used.
pub async fn run(
    args: RunArgs,
    policy: PolicySource,
    client: Option<Client>,
    exporter: Exporter,
) -> anyhow::Result<()> {
    let RunArgs {
        admin,
        policy: _,
        cluster: _,
        log: _,
        otlp,
        node_name,
        node:
            NodeArgs {
                containerd,
                cri,
                host_root,
                pin,
            },
        in_cluster: _,
        findings,
        findings_level,
        findings_heartbeat,
        policy_reports,
        reconcile_interval,
        ring_bytes,
        respond,
    } = args;
    let drain = Drain::on_signals().context("cannot listen for signals")?;
    let proc = host_root.join("proc");
    let origin = node::origin(&proc, node_name).context("cannot identify this node")?;
    let hierarchy = Hierarchy::detect(&host_root)?;
    let offsets = Offsets::of_kernel(Path::new("/sys/kernel/btf/vmlinux"))?;
    let options = Options {
        hierarchy: hierarchy.id,
        confirm: hierarchy.sees_execs(),
        ring_bytes,
        pin: (pin != Path::new(NO_PIN)).then_some(pin),
    };
    let mut probes = Probes::load(&offsets, &options)?;
    let attached = node::now();
    let backlog = probes.backlog();
    let metrics = AgentMetrics::new(&exporter);
    metrics.set_node(&origin.node);
    let heartbeat = Duration::from_secs(findings_heartbeat);
    let mut exports = Exports::open(
        &findings,
        findings_level,
        origin.clone(),
        heartbeat,
        metrics.clone(),
    )
    .with_context(|| format!("cannot write findings to {}", findings.display()))?;
    if let Some(otlp) = otlp.load("imageswap-agent")? {
        exports.to_collector(otlp.logs(&exporter)?);
    }
    let readiness = Readiness::new();
    let watching = readiness.condition("watching");
    let admin = Admin::bind(admin).with_context(|| format!("cannot listen on {admin}"))?;
    let liveness = Liveness::new();
    let repeated = |name, limit| Repeated {
        activity: liveness.activity(name, limit),
        gauge: metrics.activity(name, limit),
    };
    let turn = repeated("loop", LONGEST_TURN);
    let reconcile_interval = Duration::from_secs(reconcile_interval);
    let walk = repeated("walk", reconcile_interval + LONGEST_WALK);
    let admin = admin.with_liveness(liveness);
    let page = exports.page();
    let admin = admin.with_page(shown::PATH, shown::CONTENT_TYPE, move || page.get());
    tracing::info!(
        node = origin.node,
        cgroups = hierarchy.mode.as_str(),
        admin = %admin.local_addr(),
        set_revision = policy.current().set_revision(),
        pinned = probes.pinned(),
        resumed = probes.resumed(),
        "probes attached"
    );

    let (events, mut kernel) = mpsc::channel(EVENTS_WAITING);
    let (answers, mut answered) = mpsc::channel::<Answer>(EVENTS_WAITING);
    let (running, mut started) = mpsc::channel(EVENTS_WAITING);
    let resumed = probes.resumed();
    let (control, reader, pump) = probes.run(events);
    let mut pump = tokio::spawn(pump);
    let (pod_changes, mut known_pods) = mpsc::channel(EVENTS_WAITING);
    let mut sockets = Sockets::new(&host_root, containerd, cri);
    let grace = if hierarchy.sees_execs() {
        tasks::KERNEL_FIRST
    } else {
        Duration::ZERO
    };
    let node_pods = Pods::default();
    let node = &origin.node;
    let asker = |client: &Client| pods::watch::Asker::new(client.clone(), node.clone());
    let api = client.as_ref().map(asker);
    let resolver = Resolver::new(&host_root, node_pods.clone(), api, answers);
    let mut policies = policy.subscribe();
    let criteria = Criteria::new(policy.current());
    let mut namespaces = criteria.namespaces.subscribe();
    if let Some(client) = client {
        // Not a condition of readiness: the agent also works with the runtimes' knowledge alone.
        let synced = Condition::default();
        let namespaces = criteria.namespaces.clone();
        tokio::spawn(namespaces.watch(client.clone(), synced, drain.clone()));
        if criteria.policies.need_namespace_labels().next().is_some() {
            // Running containers are judged once, by known labels.
            _ = timeout(NAMESPACES_PATIENCE, criteria.namespaces.listed()).await;
        }
        let node = origin.node.clone();
        let events = PodEvents::spawn(client.clone(), &node, metrics.clone());
        if policy_reports {
            let reports = PolicyReports::spawn(client.clone(), &node, metrics.clone());
            exports.to_policy_reports(reports);
        }
        let (policies, namespaces) = (policy.subscribe(), criteria.namespaces.clone());
        let responder = Responder::spawn(
            &respond,
            client.clone(),
            pod_events::recorder(client.clone(), &node),
            policies,
            namespaces,
            metrics,
        );
        exports.to_cluster(events, responder);
        tokio::spawn(pods::watch::follow(client, node, pod_changes));
    }
    let mut agent = Agent::new(Parts {
        starts: Starts::new(origin),
        hierarchy: hierarchy.clone(),
        proc,
        control,
        attached_ns: attached.boot_ns,
        resolver,
        exports,
        criteria,
        pods: node_pods,
    });
    let unlisted = Arc::<AtomicU64>::default();
    let mut connect = |agent: &mut Agent| {
        let (containerds, cris) = sockets.appeared();
        for containerd in &containerds {
            tokio::spawn(tasks::follow(
                containerd.clone(),
                running.clone(),
                reader.clone(),
                grace,
                Arc::clone(&unlisted),
            ));
        }
        agent.runtimes(containerds, cris);
    };
    connect(&mut agent);
    let policy_ready = readiness.condition("policy");
    tokio::spawn(policy.watch(drain.clone(), exporter.policy_metrics(), policy_ready));
    tokio::spawn(admin.serve(readiness, exporter, drain.clone()));

    agent.started(attached, resumed);
    // Records since the last agent come before the walk, which would otherwise report those starts
    // as found late.
    for event in backlog {
        agent.kernel(event);
    }
    let mut look = Some(None);
    let mut walking: Option<Walking> = None;
    let mut reconcile = interval(reconcile_interval);
    reconcile.set_missed_tick_behavior(MissedTickBehavior::Delay);
    reconcile.reset();
    let mut lost = interval(LOST_INTERVAL);
    lost.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut in_row = 0_usize;
    let ended: anyhow::Result<()> = async {
        loop {
            turn.finished();
            // Events first, because the other inputs are compared with them. After many in a row, as many
            // other inputs come first.
            if in_row < MOST_IN_ROW
                && let Ok(event) = kernel.try_recv()
            {
                agent.kernel(event);
                in_row += 1;
                continue;
            }
            in_row = match in_row {
                0..MOST_IN_ROW | ALL_IN_ROW.. => 0,
                _ => in_row + 1,
            };
            if walking.is_none()
                && let Some(cause) = look.take()
            {
                let looking = agent.looking(cause);
                walking = Some(Box::pin(async move {
                    let looking = looking.await;
                    let look = spawn_blocking(move || Look::take(&looking)).await;
                    (look, cause)
                }));
            }
            // In no fixed order: one input that never ends must not keep the others from their turns.
            tokio::select! {
                () = drain.signaled() => return Ok(()),
                Some((task, sight)) = started.recv() => agent.task(&task, sight),
                Some(change) = known_pods.recv() => agent.pods(change),
                Some(answer) = answered.recv() => agent.answer(answer),
                Ok(()) = policies.changed() => {
                    let policy = policies.borrow_and_update().clone();
                    agent.policy(policy);
                }
                Ok(()) = namespaces.changed() => agent.namespaces(),
                Some((taken, cause)) = async { Some(walking.as_mut()?.await) } => {
                    walking = None;
                    let taken = taken.context("a walk of the cgroups panicked")?;
                    let taken = taken.with_context(|| format!("cannot walk {}", hierarchy.root.display()))?;
                    // Records from before the walk are read first, so that the walk does not count them
                    // as its own finds.
                    let mut caught_up = pin!(reader.catch_up());
                    loop {
                        tokio::select! {
                            Some(event) = kernel.recv() => agent.kernel(event),
                            () = &mut caught_up => break,
                        }
                    }
                    for _ in 0..kernel.len() {
                        if let Ok(event) = kernel.try_recv() {
                            agent.kernel(event);
                        }
                    }
                    agent.walked(taken, cause);
                    walk.finished();
                    watching.set(true);
                }
                _ = lost.tick() => {
                    agent.show();
                    agent.unlisted(unlisted.swap(0, Relaxed));
                    if agent.count() { look = Some(Some(CAUSE_LOST)); }
                }
                _ = reconcile.tick() => {
                    connect(&mut agent);
                    agent.refresh();
                    look = Some(Some(CAUSE_PERIODIC));
                }
                Some(event) = kernel.recv() => agent.kernel(event),
                ended = &mut pump => {
                    ended.context("the reader of the probes' events panicked")?.context("cannot read the probes' events")?;
                    anyhow::bail!("the probes' events ended");
                }
            }
        }
    }
    .await;
    agent.shutdown(match ended {
        Ok(()) => StopReason::Signal,
        Err(_) => StopReason::Error,
    });
    tracing::info!("stopped watching");
    ended
}

/// A repeated activity, monitored by when it last finished.
struct Repeated {
    activity: Activity,
    gauge: ActivityGauge,
}

impl Repeated {
    fn finished(&self) {
        self.activity.finished();
        self.gauge.finished();
    }
}

/// A walk in progress, and its reason.
type Walking = Pin<
    Box<dyn Future<Output = (Result<io::Result<Look>, JoinError>, Option<&'static str>)> + Send>,
>;

/// The runtimes' sockets: the named ones, or those that are found, now or later.
struct Sockets {
    host_root: PathBuf,
    named: [Vec<PathBuf>; 2],
    known: [Vec<PathBuf>; 2],
    looked: bool,
}

impl Sockets {
    fn new(host_root: &Path, containerd: Vec<PathBuf>, cri: Vec<PathBuf>) -> Self {
        Self {
            host_root: host_root.to_owned(),
            named: [containerd, cri],
            known: [Vec::new(), Vec::new()],
            looked: false,
        }
    }

    /// Sockets that have appeared. A named socket counts from the start, whether it exists or not.
    fn appeared(&mut self) -> (Vec<Containerd>, Vec<Cri>) {
        let found = [discover::containerd_sockets, discover::cri_sockets];
        let mut news = [Vec::new(), Vec::new()];
        for (at, what) in ["containerd", "CRI"].into_iter().enumerate() {
            let all = if self.named[at].is_empty() {
                found[at](&self.host_root)
            } else {
                self.named[at].clone()
            };
            if all.is_empty() && !self.looked {
                tracing::warn!("no {what} socket found: what only {what} knows stays unresolved");
            }
            for socket in all.into_iter().filter(|it| !self.known[at].contains(it)) {
                tracing::info!(socket = %socket.display(), "asking {what}");
                news[at].push(socket);
            }
            self.known[at].extend(news[at].iter().cloned());
        }
        self.looked = true;
        let [containerds, cris] = news;
        (
            containerds.into_iter().map(Containerd::connect).collect(),
            cris.into_iter().map(Cri::connect).collect(),
        )
    }
}
