//! Growth of the agent's table: containers of one node, its Pods, and the time until a service is ready.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use imageswap_lab::{
    Containerd, ContainerdOptions, Cri, CriPod, Image, Lab, PodSpec, Registry, is_root, wait_until,
};
use serde_json::{Value, json};

use super::webhook::Cluster;
use super::{Column, Name, Table, Unit, number, when_calm};
use crate::bench::server::{self, Ready, Server};
use crate::bench::{admission, agent, write};
use crate::process::Workspace;
use crate::ui;

const CONTAINERS: [usize; 4] = [10, 100, 1000, 5000];
/// Containers that are started before the agent has to have reported them.
const BATCH: usize = 50;
const PODS: [usize; 4] = [10, 50, 100, 300];
const RULES: [usize; 4] = [10, 100, 1000, 10_000];
/// Starts of a service, of which the median counts.
const STARTS: usize = 9;
/// Seconds from exec to ready that a service may take with the fewest rules.
const BUDGETS: [(&str, f64); 2] = [("webhook", 0.15), ("agent", 0.5)];
/// Seconds between two walks: none, so that only starts and ends are measured, and the default.
const NO_WALK: &str = "3600";
const WALKS: &str = "30";
/// How long an agent at rest is measured: one walk and what comes with it.
const REST: Duration = Duration::from_secs(30);
const PATIENCE: Duration = Duration::from_mins(3);
const NODE: &str = "growth";
const IMAGE: &str = "registry.example.com/team/app:1";
const POLICY: &str = "\
apiVersion: imageswap.io/v1alpha1
kind: ImageSwapPolicy
metadata: {name: growth}
spec: {approved: [registry.example.com/**]}
";
/// The table of a node with many containers.
const ON_NODE: [Column; 6] = [
    ("starts", Unit::Processor),
    ("starts per core", Unit::PerSecond),
    ("resident", Unit::Mebibytes),
    ("found in", Unit::Seconds),
    ("its processor", Unit::Processor),
    ("30 s of rest", Unit::Processor),
];
/// What the findings about these containers have in common.
const OF_CONTAINER: &str = "\"cgroup\":\"/growth-";
const OF_POD: &str = "\"name\":\"app\",\"kind\":\"container\"";
const BEGINS: &[&str] = &["start", "initial", "reconciled"];

/// Runs in the background, in cgroups below `$1` that are called `$2` to `$3`.
const START: &str = r#"
i=$2
while [ "$i" -lt "$3" ]; do
    mkdir "$1/$i" || exit 1
    sh -c 'echo $$ > "$1/cgroup.procs" && exec unshare --pid --fork --kill-child -- unshare --mount -- sleep 1000000' sh "$1/$i" &
    i=$((i + 1))
done"#;

/// Processes in cgroups and pid namespaces of their own, of which no runtime knows.
pub(super) fn containers(workspace: &Workspace) -> Result<Table> {
    let node = Node::start(workspace)?;
    let mut rows = Vec::new();
    for size in CONTAINERS {
        ui::step(format_args!("{size} containers"));
        let (agent, mut findings) = node.agent("first", NO_WALK, OF_CONTAINER)?;
        let before = when_calm(&agent.server)?;
        let mut made = Made::new()?;
        made.start(size, &mut findings)?;
        let mut figures = node.figures(&agent.server, before, OF_CONTAINER, size)?;
        let before = when_calm(&agent.server)?;
        drop(made);
        findings.wait_for(&["stopped"], size)?;
        figures.push(when_calm(&agent.server)? - before);
        rows.push((size, figures));
    }
    let columns = [&ON_NODE[..], &[("ends", Unit::Processor)]].concat();
    Ok(Table::new(Name::Containers, columns, rows))
}

/// Pods of the API server, whose containers a containerd runs.
pub(super) fn pods(workspace: &Workspace) -> Result<Table> {
    let cluster = Cluster::start(workspace)?;
    let mut node = Node::start(workspace)?;
    let kubeconfig = cluster.plane.kubeconfig().display().to_string();
    node.flags = vec!["--kubeconfig".to_owned(), kubeconfig];
    let (agent, mut findings) = node.agent("first", NO_WALK, OF_POD)?;
    let before = when_calm(&agent.server)?;
    let mut pods = Pods {
        cri: node.containerd.cri()?,
        all: Vec::new(),
    };
    let mut rows = Vec::new();
    for size in PODS {
        ui::step(format_args!("{size} Pods"));
        pods.start(&cluster, size)?;
        findings.wait_for(BEGINS, size)?;
        rows.push((size, node.figures(&agent.server, before, OF_POD, size)?));
    }
    Ok(Table::new(Name::Pods, ON_NODE.to_vec(), rows))
}

/// The median time from exec to ready, with policies of different sizes.
pub(super) fn startup(workspace: &Workspace) -> Result<Table> {
    server::build(workspace)?;
    let node = Node::start(workspace)?;
    let mut rows = Vec::new();
    for size in RULES {
        ui::step(format_args!("{STARTS} starts with {size} rules"));
        write(&node.policy, &admission::policy_text(size))?;
        let mut took = [const { Vec::new() }; 2];
        let mut resident = [0.0; 2];
        for _ in 0..STARTS {
            let services = [node.webhook()?, node.agent("first", NO_WALK, OF_POD)?.0];
            for (at, service) in services.iter().enumerate() {
                took[at].push(service.took.as_secs_f64());
                resident[at] = service.server.memory("VmRSS")?;
            }
        }
        let median = took.map(|mut took| {
            took.sort_by(f64::total_cmp);
            took[STARTS / 2]
        });
        rows.push((size, [median, resident].concat()));
    }
    let columns = [
        ("webhook", Unit::Seconds),
        ("agent", Unit::Seconds),
        ("webhook's memory", Unit::Mebibytes),
        ("agent's memory", Unit::Mebibytes),
    ];
    let table = Table::new(Name::Startup, columns.to_vec(), rows);
    Ok(Table {
        budgets: BUDGETS.to_vec(),
        ..table
    })
}

/// A containerd, and the agents that ask it.
struct Node {
    containerd: Containerd,
    _registry: Registry,
    lab: Lab,
    programs: PathBuf,
    policy: PathBuf,
    /// Further flags of the agents.
    flags: Vec<String>,
}

impl Node {
    fn start(workspace: &Workspace) -> Result<Self> {
        ensure!(
            is_root(),
            "probes and containers need root: sudo -E cargo xtask bench growth"
        );
        let programs = agent::build(workspace)?;
        let lab = Lab::new("growth-node")?;
        let policy = lab.path().join("policy.yaml");
        write(&policy, POLICY)?;
        let registry = Registry::start(&lab)?;
        registry.push(&Image::sleeper("growth")?, "team/app", "1")?;
        let options = ContainerdOptions {
            mirrors: vec![("registry.example.com".to_owned(), registry.addr())],
            cri: true,
            ..ContainerdOptions::default()
        };
        let containerd = Containerd::start(&lab, options)?;
        containerd.pull("k8s.io", IMAGE)?;
        Ok(Self {
            containerd,
            _registry: registry,
            lab,
            programs,
            policy,
            flags: Vec::new(),
        })
    }

    /// An agent with so many seconds between two walks, and its findings that contain `of`.
    fn agent(&self, name: &str, walks: &str, of: &'static str) -> Result<(Ready, Findings)> {
        let path = self.lab.path().join(name);
        write(&path, "")?;
        let mut options = [
            "--node-name",
            NODE,
            "--reconcile-interval",
            walks,
            "--policy",
        ]
        .map(OsStr::new)
        .to_vec();
        options.push(self.policy.as_ref());
        options.extend(self.flags.iter().map(OsStr::new));
        let ready = Server::ready_agent(&self.programs, &self.containerd, &path, &options)?;
        Ok((ready, Findings::read(&path, of)?))
    }

    fn webhook(&self) -> Result<Ready> {
        let policy = ["--policy".as_ref(), self.policy.as_os_str()];
        Server::ready_webhook(&self.programs, self.lab.path(), &policy)
    }

    /// The figures of [`ON_NODE`] for an agent that has seen `size` starts since it had used `before` seconds.
    fn figures(
        &self,
        agent: &Server,
        before: f64,
        of: &'static str,
        size: usize,
    ) -> Result<Vec<f64>> {
        let starts = when_calm(agent)? - before;
        let resident = agent.memory("VmRSS")?;
        let (second, mut findings) = self.agent("second", WALKS, of)?;
        let waited = findings.wait_for(BEGINS, size)?;
        let found = (second.took + waited).as_secs_f64();
        let processor = second.server.processor_time()?;
        let calm = when_calm(&second.server)?;
        sleep(REST);
        let rest = second.server.processor_time()? - calm;
        let rate = number(size) / starts.max(Unit::Processor.least());
        Ok(vec![starts, rate, resident, found, processor, rest])
    }
}

/// Cgroups with one container each; dropping them ends the containers.
struct Made(PathBuf);

impl Made {
    fn new() -> Result<Self> {
        let unified = Path::new("/sys/fs/cgroup/unified");
        let root = if unified.is_dir() {
            unified
        } else {
            Path::new("/sys/fs/cgroup")
        };
        let folder = root.join(format!("growth-{}", std::process::id()));
        fs::create_dir(&folder).with_context(|| folder.display().to_string())?;
        Ok(Self(folder))
    }

    fn start(&mut self, count: usize, findings: &mut Findings) -> Result<()> {
        for first in (0..count).step_by(BATCH) {
            let last = count.min(first + BATCH);
            let mut script = Command::new("sh");
            script.args(["-c", START, "sh"]).arg(&self.0);
            script.args([first.to_string(), last.to_string()]);
            script
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null());
            let status = script.status().context("cannot run sh")?;
            ensure!(status.success(), "cannot start containers: {status}");
            findings.wait_for(BEGINS, last)?;
        }
        Ok(())
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        let removed = fs::write(self.0.join("cgroup.kill"), "1").and_then(|()| {
            for cgroup in fs::read_dir(&self.0)?.flatten() {
                // Its processes may not have ended yet. What is not a cgroup stays.
                wait_until(PATIENCE, || {
                    fs::remove_dir(cgroup.path()).is_ok() || cgroup.path().is_file()
                });
            }
            fs::remove_dir(&self.0)
        });
        if let Err(error) = removed {
            eprintln!("{}: {error}", self.0.display());
        }
    }
}

/// Pods that run; dropping them ends them.
struct Pods {
    cri: Cri,
    all: Vec<CriPod>,
}

impl Pods {
    /// Creates Pods until there are `count`, first in the API server and then on the node.
    fn start(&mut self, cluster: &Cluster, count: usize) -> Result<()> {
        let objects = (self.all.len()..count).map(|at| pod(at, NODE));
        for created in cluster.create("/api/v1/namespaces/default/pods", objects)? {
            let of = |field: &str| created["metadata"][field].as_str().unwrap_or_default();
            let spec = PodSpec {
                namespace: "default",
                name: of("name"),
                container: "app",
                image: IMAGE,
                command: &[],
            };
            self.all.push(self.cri.run_pod(&spec, of("uid"))?);
        }
        Ok(())
    }
}

impl Drop for Pods {
    fn drop(&mut self) {
        for pod in &self.all {
            if let Err(error) = self.cri.remove(pod) {
                eprintln!("{}: {error}", pod.sandbox_id);
            }
        }
    }
}

/// A Pod of one container on a node.
pub(super) fn pod(at: usize, node: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": format!("growth-{at}"), "labels": {"app": "growth"}},
        "spec": {
            "nodeName": node,
            "automountServiceAccountToken": false,
            "containers": [{"name": "app", "image": IMAGE}],
        },
    })
}

/// The findings that an agent has written so far, of one kind.
struct Findings {
    file: BufReader<File>,
    of: &'static str,
    line: String,
    /// By event.
    counts: HashMap<String, usize>,
}

impl Findings {
    fn read(path: &Path, of: &'static str) -> Result<Self> {
        let file = File::open(path).with_context(|| path.display().to_string())?;
        Ok(Self {
            file: BufReader::new(file),
            of,
            line: String::new(),
            counts: HashMap::new(),
        })
    }

    /// Waits until there are `count` findings with one of these events; returns how long that took.
    fn wait_for(&mut self, events: &[&str], count: usize) -> Result<Duration> {
        let begin = std::time::Instant::now();
        let seen = |counts: &HashMap<String, usize>| -> usize {
            events.iter().filter_map(|event| counts.get(*event)).sum()
        };
        let mut failed = None;
        let came = wait_until(PATIENCE, || {
            failed = self.count().err();
            failed.is_some() || seen(&self.counts) >= count
        });
        if let Some(error) = failed {
            return Err(error);
        }
        ensure!(
            came,
            "{} of {count} findings: {:?}",
            seen(&self.counts),
            self.counts
        );
        Ok(begin.elapsed())
    }

    /// Counts the lines that were written since. A line may be written in two parts.
    fn count(&mut self) -> Result<()> {
        while self.file.read_line(&mut self.line)? > 0 && self.line.ends_with('\n') {
            if self.line.contains(self.of) {
                let event = self.line.split("\"event\":\"").nth(1);
                let event = event
                    .and_then(|rest| rest.split('"').next())
                    .unwrap_or_default();
                *self.counts.entry(event.to_owned()).or_default() += 1;
            }
            self.line.clear();
        }
        Ok(())
    }
}
