//! Measures the agent on this node: what its probes cost the kernel, how soon a verdict is known,
//! memory and processor time. A design that sends every exec to user space gets the same load, for
//! comparison.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::thread::{scope, sleep};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use imageswap_lab::{
    BpfStatistics, Containerd, ContainerdOptions, HttpClient, Image, Lab, is_root, missing,
    wait_until,
};
use serde_json::{Value, json};

use super::server::{Ended, Server, memory};
use super::{Format, Show};
use crate::process::{Workspace, cargo, run};
use crate::{builder, toolchain, ui};

const IMAGE: &str = "registry.example.com/team/app:1";
/// Starts that measure the time to a verdict, one after the other.
const STARTS: usize = 500;
/// How long nothing happens, to measure the idle agent.
const REST: Duration = Duration::from_secs(10);
/// Number of starts, and the time they are spread over: 20 a second.
const RATE: (u32, Duration) = (300, Duration::from_secs(15));
/// Number of execs, and their time, as a node's health checks and scripts cause them.
const EXECS: (u32, Duration) = (2000, Duration::from_secs(10));
/// Several at a time, because one start takes longer than a twentieth of a second.
const WORKERS: u32 = 4;
const MKDIR: &str = "cgroup_mkdir";
const EXEC: &str = "sched_process_exec";
const START: Duration = Duration::from_secs(30);
/// The project's own limits: net nanoseconds per run, milliseconds, MiB, and percent of a core.
const MAX_EXEC: f64 = 150.0;
const MAX_MKDIR: f64 = 350.0;
const MAX_P99: f64 = 5.0;
const MAX_RESIDENT: f64 = 25.0;
const MAX_AT_REST: f64 = 0.2;

/// Figures of one of the two designs under the load.
#[derive(Debug)]
struct Load {
    /// MiB.
    resident: f64,
    /// Percent of a core: at rest, with [`RATE`], with [`EXECS`].
    processor: [f64; 3],
    /// Starts per second that were reached.
    rate: f64,
}

/// Builds for release, measures and prints.
pub(super) fn run_all(workspace: &Workspace, show: Show) -> Result<ExitCode> {
    ensure!(
        is_root(),
        "probes and containers need root: sudo -E cargo xtask bench agent"
    );
    let object = builder::every_exec(workspace)?;
    let programs = build(workspace)?;

    let lab = Lab::new("bench")?;
    let containerd = Containerd::start(&lab, ContainerdOptions::default())?;
    containerd.import("default", &Image::sleeper("bench")?, IMAGE)?;
    let _counted = BpfStatistics::on()?;

    let (agent, latencies, costs) = measure_agent(&lab, &containerd, &programs)?;
    let (peer, told) = measure_peer(&containerd, &programs, &object)?;
    let report = Report {
        agent,
        peer,
        latencies,
        costs,
        told,
    };
    match show.output {
        Format::Json => println!("{}", report.json()),
        Format::Table => report.table(),
    }
    let missed = report.limits().iter().any(|(_, met)| !met);
    Ok(ExitCode::from(u8::from(missed && show.check)))
}

/// Builds probes, agent and its examples for release, and installs what real containers need. Returns the folder with
/// the programs.
pub(super) fn build(workspace: &Workspace) -> Result<PathBuf> {
    toolchain::provide(&missing(), "real containers")?;
    builder::probes(workspace)?;
    ui::step("building for release");
    let mut build = cargo();
    build.current_dir(&workspace.root).args([
        "build",
        "--release",
        "--quiet",
        "--package=imageswap-agent",
        "--bins",
        "--examples",
    ]);
    run(build.env("IMAGESWAP_PROBES", workspace.probes()))?;
    Ok(workspace.target.join("release"))
}

/// Microseconds of [`STARTS`] verdicts, sorted.
type Latencies = Vec<u64>;

/// Nanoseconds and runs, by program.
type Costs = Vec<(&'static str, f64, f64)>;

fn measure_agent(
    lab: &Lab,
    containerd: &Containerd,
    programs: &Path,
) -> Result<(Load, Latencies, Costs)> {
    // In a folder of its own, as when it is mounted: the agent watches that folder.
    let folder = lab.path().join("policy");
    fs::create_dir(&folder).context("a folder")?;
    let (maps, findings) = (folder.join("maps"), lab.path().join("findings"));
    fs::write(&maps, "default: registry.example.com\n").context("a policy")?;
    let policy = ["--maps".as_ref(), maps.as_os_str()];
    let agent = Server::ready_agent(programs, containerd, &findings, &policy)?.server;
    let http = HttpClient::new(agent.addr)?;

    ui::step(format_args!(
        "the agent: {STARTS} starts, one after the other"
    ));
    for at in 0..STARTS {
        start(containerd, &format!("one-{at}"))?;
    }
    let mut latencies = Vec::new();
    let all = wait_until(START, || {
        latencies = read_latencies(&findings);
        latencies.len() >= STARTS
    });
    ensure!(all, "{} verdicts on {STARTS} starts", latencies.len());
    latencies.sort_unstable();
    let mut before_execs = Costs::new();
    let load = under_load("the agent", containerd, agent.pid(), || {
        before_execs = costs(&http)?;
        Ok(())
    })?;
    let mut costs = costs(&http)?;
    // Nearly every exec on a node happens outside containers, so execs are measured alone.
    for (cost, before) in costs.iter_mut().zip(before_execs) {
        if cost.0 == EXEC {
            *cost = (EXEC, cost.1 - before.1, cost.2 - before.2);
        }
    }
    Ok((load, latencies, costs))
}

/// What the agent's metrics report about its BPF programs.
fn costs(http: &HttpClient) -> Result<Costs> {
    // The agent reads the kernel's counters once a second.
    sleep(Duration::from_secs(2));
    let text = http.get("/metrics")?.text();
    let of = |program| {
        let value = |what: &str| {
            let series = format!("imageswap_agent_probe_{what}_total{{program=\"{program}\"}} ");
            let value = text.lines().find_map(|line| line.strip_prefix(&series));
            value.and_then(|value| value.parse().ok()).unwrap_or(0.0)
        };
        (program, value("run_nanoseconds"), value("runs"))
    };
    Ok([MKDIR, EXEC, "cgroup_rmdir"].map(of).into())
}

fn measure_peer(containerd: &Containerd, programs: &Path, object: &Path) -> Result<(Load, Value)> {
    let mut command = Command::new(programs.join("examples/every_exec"));
    command.arg(object);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut peer = Ended(command.spawn().context("every_exec")?);
    sleep(Duration::from_secs(1));
    if let Some(status) = peer.0.try_wait()? {
        bail!("every_exec: {status}");
    }
    let load = under_load("every exec", containerd, peer.0.id(), || Ok(()))?;
    drop(peer.0.stdin.take());
    let mut text = String::new();
    let mut out = peer.0.stdout.take().context("its output")?;
    out.read_to_string(&mut text)?;
    Ok((
        load,
        serde_json::from_str(&text).context("what it counted")?,
    ))
}

/// Runs rest, starts and execs, and measures the process `pid`.
fn under_load(
    what: &str,
    containerd: &Containerd,
    pid: u32,
    before_execs: impl FnOnce() -> Result<()>,
) -> Result<Load> {
    ui::step(format_args!(
        "{what}: at rest, {} starts, {} execs",
        RATE.0, EXECS.0
    ));
    let mut processor = [0.0; 3];
    let busy = |work: &dyn Fn() -> Result<()>| -> Result<(f64, Duration)> {
        let (before, clock) = (processor_time(pid)?, Instant::now());
        work()?;
        let took = clock.elapsed();
        let spent = processor_time(pid)?.saturating_sub(before);
        Ok((100.0 * spent.as_secs_f64() / took.as_secs_f64(), took))
    };
    (processor[0], _) = busy(&|| {
        sleep(REST);
        Ok(())
    })?;
    let (starts, took) = busy(&|| at_a_rate(RATE, |at| start(containerd, &format!("{pid}-{at}"))))?;
    processor[1] = starts;
    before_execs()?;
    (processor[2], _) = busy(&|| at_a_rate(EXECS, |_| run(&mut Command::new("true"))))?;
    Ok(Load {
        resident: memory(pid, "VmRSS")?,
        processor,
        rate: f64::from(RATE.0) / took.as_secs_f64(),
    })
}

/// Does something `count` times in this time, with several workers.
fn at_a_rate(
    (times, within): (u32, Duration),
    work: impl Fn(u32) -> Result<()> + Sync,
) -> Result<()> {
    let begin = Instant::now();
    scope(|threads| {
        let worker = |first: u32| {
            let work = &work;
            threads.spawn(move || {
                (first..times).step_by(WORKERS as usize).try_for_each(|at| {
                    let due = within * at / times;
                    sleep(due.saturating_sub(begin.elapsed()));
                    work(at)
                })
            })
        };
        let workers: Vec<_> = (0..WORKERS).map(worker).collect();
        for worker in workers {
            match worker.join() {
                Ok(done) => done?,
                Err(_panic) => bail!("a worker panicked"),
            }
        }
        sleep(within.saturating_sub(begin.elapsed()));
        Ok(())
    })
}

/// Starts one container that lives 20 ms.
fn start(containerd: &Containerd, id: &str) -> Result<()> {
    Ok(containerd.run_to_end("default", IMAGE, id, &["sleep", "0.02"])?)
}

fn read_latencies(findings: &PathBuf) -> Latencies {
    let text = fs::read_to_string(findings).unwrap_or_default();
    let lines = text
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let starts = lines.filter(|finding| finding["event"] == "start");
    starts
        .filter_map(|finding| finding["detect_us"].as_u64())
        .collect()
}

/// Processor time of all threads of a process.
fn processor_time(pid: u32) -> Result<Duration> {
    let tasks = format!("/proc/{pid}/task");
    let mut nanoseconds = 0;
    for task in fs::read_dir(&tasks).context(tasks)?.flatten() {
        // A thread may have ended in between.
        let text = fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
        let spent = text.split(' ').next().and_then(|it| it.parse::<u64>().ok());
        nanoseconds += spent.unwrap_or(0);
    }
    Ok(Duration::from_nanos(nanoseconds))
}

/// All results.
struct Report {
    agent: Load,
    peer: Load,
    latencies: Latencies,
    costs: Costs,
    /// What the compared design counted.
    told: Value,
}

impl Report {
    /// Milliseconds within which this percentage of verdicts is known.
    fn percentile(&self, percent: usize) -> f64 {
        let at = (self.latencies.len() * percent / 100).min(self.latencies.len() - 1);
        Duration::from_micros(self.latencies[at]).as_secs_f64() * 1000.0
    }

    /// Nanoseconds that the counting itself takes.
    fn counting(&self) -> f64 {
        self.told["nothing"].as_f64().unwrap_or(0.0)
    }

    fn net(&self, program: &str) -> f64 {
        let cost = self.costs.iter().find(|(name, ..)| *name == program);
        cost.map_or(0.0, |(_, time, runs)| {
            time / runs.max(1.0) - self.counting()
        })
    }

    fn limits(&self) -> [(String, bool); 5] {
        let one = |what: String, figure: f64, limit: f64| (what, figure <= limit);
        let [rest, ..] = self.agent.processor;
        let (exec, mkdir) = (self.net(EXEC), self.net(MKDIR));
        let (p99, resident) = (self.percentile(99), self.agent.resident);
        [
            one(
                format!("{exec:.0} ns an exec, at most {MAX_EXEC}"),
                exec,
                MAX_EXEC,
            ),
            one(
                format!("{mkdir:.0} ns a mkdir, at most {MAX_MKDIR}"),
                mkdir,
                MAX_MKDIR,
            ),
            one(format!("p99 {p99:.2} ms, at most {MAX_P99}"), p99, MAX_P99),
            one(
                format!("{resident:.1} MiB resident, under {MAX_RESIDENT}"),
                resident,
                MAX_RESIDENT,
            ),
            one(
                format!("{rest:.2} % of a core at rest, under {MAX_AT_REST}"),
                rest,
                MAX_AT_REST,
            ),
        ]
    }

    fn table(&self) {
        let percent = |value: f64| format!("{value:.2} %");
        let row = |name: &str, load: &Load, exec: f64| {
            [
                name.to_owned(),
                format!("{exec:.0} ns"),
                percent(load.processor[0]),
                percent(load.processor[1]),
                percent(load.processor[2]),
                format!("{:.1} MiB", load.resident),
            ]
        };
        let peer = self.told["every_exec"].as_f64().unwrap_or(0.0) - self.counting();
        let head = [
            "",
            "an exec",
            "at rest",
            "20 starts/s",
            "200 execs/s",
            "resident",
        ];
        ui::table(&[
            head.map(str::to_owned),
            row("agent", &self.agent, self.net(EXEC)),
            row("every exec", &self.peer, peer),
        ]);
        println!(
            "\n  start to verdict, {STARTS} starts: p50 {:.2} ms, p99 {:.2} ms",
            self.percentile(50),
            self.percentile(99)
        );
        println!(
            "  starts a second that were reached: {:.1} and {:.1}",
            self.agent.rate, self.peer.rate
        );
        for (program, _, runs) in &self.costs {
            println!(
                "  {program}: {runs:.0} runs, {:.0} ns net",
                self.net(program)
            );
        }
        println!(
            "  (net of {:.0} ns that the kernel's counting takes)\n",
            self.counting()
        );
        for (text, met) in self.limits() {
            ui::outcome(text, met);
        }
    }

    fn json(&self) -> Value {
        let load = |load: &Load| {
            json!({
                "resident_mib": load.resident,
                "percent_of_a_core": {
                    "at_rest": load.processor[0],
                    "starts": load.processor[1],
                    "execs": load.processor[2],
                },
                "starts_per_second": load.rate,
            })
        };
        let cost = |(program, _, runs): &(&str, f64, f64)| json!({"program": program, "runs": runs, "net_ns": self.net(program)});
        json!({
            "agent": load(&self.agent),
            "every_exec": load(&self.peer),
            "detect_ms": {"p50": self.percentile(50), "p99": self.percentile(99)},
            "probes": self.costs.iter().map(cost).collect::<Vec<_>>(),
            "counted_by_every_exec": self.told,
            "limits": self.limits().map(|(text, met)| json!({"text": text, "met": met})),
        })
    }
}
