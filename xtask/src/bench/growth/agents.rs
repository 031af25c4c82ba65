//! Growth of what the API server does for the agents: their real watches, many in one process.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::node::pod;
use super::webhook::Cluster;
use super::{Name, Table, Unit, number, sum};
use crate::bench::agent;
use crate::bench::server::Ended;
use crate::process::Workspace;
use crate::ui;

const AGENTS: [usize; 4] = [10, 50, 200, 500];
/// Pods of each agent's node.
const PODS: usize = 10;
/// Watches of each agent.
const WATCHES: usize = 3;
const REST: Duration = Duration::from_secs(30);
/// How long the API server is down, and how long the agents may take to come back.
const DOWN: Duration = Duration::from_secs(10);
const BACK: Duration = Duration::from_mins(2);
const BETWEEN: Duration = Duration::from_millis(500);

pub(super) fn agents(workspace: &Workspace) -> Result<Table> {
    let programs = agent::build(workspace)?;
    let mut cluster = Cluster::start(workspace)?;
    let mut rows = Vec::new();
    let mut nodes = 0;
    for size in AGENTS {
        ui::step(format_args!("{size} agents"));
        let pods = (nodes * PODS..size * PODS).map(|at| pod(at, &format!("growth-{}", at / PODS)));
        cluster.create("/api/v1/namespaces/default/pods", pods)?;
        nodes = size;
        let before = Seen::of(&cluster)?;
        let watchers = watch(
            Command::new(programs.join("examples/watchers"))
                .arg(cluster.plane.kubeconfig())
                .arg(size.to_string()),
        )?;
        let listed = Seen::of(&cluster)?;
        sleep(REST);
        let rested = Seen::of(&cluster)?;
        let all = before.watches + number(WATCHES * size);
        let back = restart(&mut cluster, all)?;
        drop(watchers);
        rows.push((
            size,
            vec![
                listed.requests - before.requests,
                listed.bytes - before.bytes,
                listed.processor - before.processor,
                rested.resident,
                rested.requests - listed.requests,
                back.within,
                back.busiest,
            ],
        ));
    }
    let columns = [
        ("requests", Unit::Count),
        ("bytes", Unit::Mebibytes),
        ("processor", Unit::Processor),
        ("server", Unit::Mebibytes),
        ("30 s of rest", Unit::Count),
        ("back", Unit::Seconds),
        ("in a second", Unit::Count),
    ];
    Ok(Table::new(Name::Agents, columns.to_vec(), rows))
}

/// What the API server has counted.
struct Seen {
    requests: f64,
    /// MiB of answers, without watches.
    bytes: f64,
    /// Seconds.
    processor: f64,
    /// MiB.
    resident: f64,
    /// Watches that are open.
    watches: f64,
}

impl Seen {
    fn of(cluster: &Cluster) -> Result<Self> {
        let text = cluster.metrics()?;
        let mebibytes = |bytes: f64| bytes / f64::from(1 << 20);
        Ok(Self {
            requests: sum(&text, "apiserver_request_total", &[]),
            bytes: mebibytes(sum(&text, "apiserver_response_sizes_sum", &[])),
            processor: sum(&text, "process_cpu_seconds_total", &[]),
            resident: mebibytes(sum(&text, "process_resident_memory_bytes", &[])),
            watches: watches(&text),
        })
    }
}

/// Before Kubernetes 1.23 the metric had another name.
fn watches(text: &str) -> f64 {
    let metrics = [
        "apiserver_longrunning_gauge",
        "apiserver_longrunning_requests",
    ];
    let of = |metric: &&str| sum(text, metric, &["verb=\"WATCH\""]);
    metrics.iter().map(of).sum()
}

/// How the agents come back.
struct Back {
    /// Seconds from the API server's first answer until all watches are open again.
    within: f64,
    /// The most watches that were opened in one second.
    busiest: f64,
}

/// Restarts the API server, and waits until so many watches are open again.
fn restart(cluster: &mut Cluster, all: f64) -> Result<Back> {
    cluster.plane.stop_apiserver();
    sleep(DOWN);
    cluster.plane.start_apiserver()?;
    let begin = Instant::now();
    let (mut open, mut at, mut busiest) = (0.0, 0.0, 0.0_f64);
    loop {
        let now = watches(&cluster.metrics()?);
        let seconds = begin.elapsed().as_secs_f64();
        // Watches from before the first answer are not counted: it is not known how long they took.
        if at > 0.0 {
            busiest = busiest.max((now - open) / (seconds - at).max(1.0));
        }
        (open, at) = (now, seconds);
        if open >= all {
            return Ok(Back {
                within: at,
                busiest,
            });
        }
        ensure!(begin.elapsed() < BACK, "{open} of {all} watches are open");
        sleep(BETWEEN);
    }
}

/// Starts the process with the agents' watches, and waits until everything is listed.
fn watch(command: &mut Command) -> Result<Ended> {
    let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let mut watchers = Ended(child.context("watchers")?);
    let output = watchers.0.stdout.take().context("its output")?;
    let mut line = String::new();
    BufReader::new(output).read_line(&mut line)?;
    ensure!(line == "listed\n", "the watchers ended");
    Ok(watchers)
}
