//! The agent's half: probes in this kernel, and containers by a real runtime.

use std::io::{BufRead, BufReader};
use std::net::Ipv4Addr;
use std::process::{ChildStdout, Command};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use imageswap_lab::{
    Containerd, ContainerdOptions, HttpClient, Image, PodSpec, Process, Registry, free_address,
};
use serde_json::Value;

use super::Demo;
use crate::ui::{self, Took};

/// An image of a Pod's container, as the webhook writes it.
const APPROVED: (&str, &str, &str) = ("registry.example.com", "team/app", "1");
/// An image that the webhook was never asked about.
const REFUSED: (&str, &str, &str) = ("quay.io", "acme/miner", "latest");
/// Id of the container that is started without Kubernetes.
const MINER: &str = "miner";
/// Beginnings of the series that count starts of drifting containers and containers that drift now.
const DRIFT: [&str; 2] = [
    "imageswap_agent_container_starts_total{verdict=\"drift\"",
    "imageswap_agent_drift_containers{",
];
/// Long enough for a machine that does ten other things.
const LIMIT: Duration = Duration::from_secs(30);

/// Findings as the agent writes them.
#[derive(Debug, Clone, Default)]
struct Findings {
    lines: Arc<Mutex<Vec<(Instant, Value)>>>,
}

/// Starts registries, containerd and agent, then a container from an approved registry and one from
/// another, and shows the agent's findings.
pub(super) fn show(demo: &mut Demo) -> Result<()> {
    ui::heading("Node: the agent, its probes in this kernel, real containers");
    let (_registries, containerd) = start_runtime(demo)?;
    ui::good("a registry for each host and containerd, of this demo's own");
    let (_agent, findings, admin) = start_agent(demo, &containerd).context("imageswap-agent")?;
    ui::good("the agent is ready: its probes are in the kernel");

    let image = reference(APPROVED);
    println!("\n  A Pod, started over CRI as a kubelet does:\n    {image}");
    let cri = containerd.cri()?;
    let before = Instant::now();
    let pod = PodSpec {
        namespace: "team-a",
        name: "web",
        container: "app",
        image: &image,
        command: &[],
    };
    let pod = cri.run(&pod)?;
    let found = wait_for(demo, &findings, &pod.container_id)?;
    say(found.as_ref(), before);
    demo.check(
        "the container from the approved registry is approved",
        is(found.as_ref(), "approved", &image),
    );
    let sandbox = wait_for(demo, &findings, &pod.sandbox_id)?;
    demo.check(
        "the Pod's sandbox is exempt",
        verdict(sandbox.as_ref()) == Some("exempt"),
    );

    let image = reference(REFUSED);
    println!("\n  A container behind Kubernetes' back: ctr run {image}");
    containerd.pull("default", &image)?;
    let before = Instant::now();
    containerd.run("default", &image, MINER, &[])?;
    let found = wait_for(demo, &findings, MINER)?;
    say(found.as_ref(), before);
    demo.check(
        "the container from another registry drifts",
        is(found.as_ref(), "drift", &image),
    );
    let expected = found
        .as_ref()
        .and_then(|(_, finding)| finding["expected_image"].as_str());
    demo.check(
        "the finding says what should run instead",
        expected == Some("registry.example.com/acme/miner:latest"),
    );
    show_metrics(demo, &admin)
}

fn start_runtime(demo: &Demo) -> Result<(Vec<Registry>, Containerd)> {
    let mut registries = Vec::new();
    let mut mirrors = Vec::new();
    for (salt, (host, repository, tag)) in [("approved", APPROVED), ("refused", REFUSED)] {
        let registry = Registry::start(&demo.lab)?;
        registry.push(&Image::sleeper(salt)?, repository, tag)?;
        mirrors.push((host.to_owned(), registry.addr()));
        registries.push(registry);
    }
    let options = ContainerdOptions {
        mirrors,
        cri: true,
        ..ContainerdOptions::default()
    };
    Ok((registries, Containerd::start(&demo.lab, options)?))
}

fn start_agent(demo: &Demo, containerd: &Containerd) -> Result<(Process, Findings, HttpClient)> {
    let admin = free_address(Ipv4Addr::LOCALHOST)?;
    let mut command = Command::new(demo.binaries.join("imageswap-agent"));
    command
        .args(["run", "--admin", &admin.to_string(), "--findings", "-"])
        // The demo leaves nothing in the kernel.
        .args(["--pin", "off"])
        .arg("--maps")
        .arg(&demo.maps)
        .arg("--containerd")
        .arg(containerd.socket())
        .arg("--cri")
        .arg(containerd.socket());
    let mut agent = Process::start_piped(&demo.lab, "agent", command)?;
    let findings = Findings::default();
    findings.read(agent.take_stdout().context("it has no output")?);
    let admin = HttpClient::new(admin)?;
    demo.wait_ready(&mut agent, &admin)?;
    Ok((agent, findings, admin))
}

fn show_metrics(demo: &mut Demo, admin: &HttpClient) -> Result<()> {
    println!("\n  The agent's /metrics:");
    let mut shown = Vec::new();
    demo.wait(LIMIT, || {
        let text = admin
            .get("/metrics")
            .map(|answer| answer.text())
            .unwrap_or_default();
        shown = raised(&text);
        counts_both(&shown)
    })?;
    for (series, value) in &shown {
        println!("    {}", series.replacen('{', "\n      {", 1));
        println!("      {value}");
    }
    demo.check("both metrics count the drift", counts_both(&shown));
    Ok(())
}

/// Whether there is a series of either metric.
fn counts_both(series: &[(String, String)]) -> bool {
    DRIFT
        .iter()
        .all(|begin| series.iter().any(|(series, _)| series.starts_with(begin)))
}

/// The series for drift that are above 0.
fn raised(metrics: &str) -> Vec<(String, String)> {
    metrics
        .lines()
        .filter(|line| DRIFT.iter().any(|begin| line.starts_with(begin)))
        .filter_map(|line| line.rsplit_once(' '))
        .filter(|(_, value)| value.parse::<f64>().is_ok_and(|value| value > 0.0))
        .map(|(series, value)| (series.to_owned(), value.to_owned()))
        .collect()
}

impl Findings {
    /// Reads the findings on a thread, until the agent ends.
    fn read(&self, output: ChildStdout) {
        let lines = Arc::clone(&self.lines);
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if let Ok(finding) = serde_json::from_str(&line) {
                    lines
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .push((Instant::now(), finding));
                }
            }
        });
    }

    /// The first finding about the start of `container`.
    fn start_of(&self, container: &str) -> Option<(Instant, Value)> {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let mut lines = lines.iter();
        lines
            .find(|(_, finding)| {
                finding["container"]["id"] == container && finding["event"] == "start"
            })
            .cloned()
    }
}

fn wait_for(demo: &Demo, findings: &Findings, container: &str) -> Result<Option<(Instant, Value)>> {
    demo.wait(LIMIT, || findings.start_of(container).is_some())?;
    Ok(findings.start_of(container))
}

/// Shows a finding, and how long after `before` it was read.
fn say(found: Option<&(Instant, Value)>, before: Instant) {
    let Some((seen, finding)) = found else {
        println!("    no finding in {} s", LIMIT.as_secs());
        return;
    };
    let word = |pointer: &str| match finding.pointer(pointer) {
        None | Some(Value::Null) => "-".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    };
    let id: String = word("/container/id").chars().take(12).collect();
    let pod = format!("{}/{}", word("/pod/namespace"), word("/pod/name"));
    let read = format!("read {} after the call", Took(seen.duration_since(before)));
    // If the probes saw the cgroup but not the exec, the time of the start is unknown.
    let seen = match finding["detect_us"].as_u64() {
        Some(micros) => format!("{micros} us after its start; {read}"),
        None => read,
    };
    let rows = [
        ("verdict", word("/verdict")),
        (
            "route, reason",
            format!("{}, {}", word("/route"), word("/reason")),
        ),
        ("image", word("/image")),
        ("expected", word("/expected_image")),
        (
            "container",
            if finding["pod"].is_null() {
                id
            } else {
                format!("{id} of Pod {pod}")
            },
        ),
        ("seen", seen),
    ];
    for (name, value) in rows {
        println!("    {name:14} {value}");
    }
}

fn is(found: Option<&(Instant, Value)>, expected: &str, image: &str) -> bool {
    verdict(found) == Some(expected) && found.is_some_and(|(_, finding)| finding["image"] == image)
}

fn verdict(found: Option<&(Instant, Value)>) -> Option<&str> {
    found?.1["verdict"].as_str()
}

fn reference((host, repository, tag): (&str, &str, &str)) -> String {
    format!("{host}/{repository}:{tag}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_series_of_drift_above_zero_are_shown() {
        let text = "\
# TYPE imageswap_agent_drift_containers gauge
imageswap_agent_drift_containers{route=\"containerd\"} 1
imageswap_agent_container_starts_total{verdict=\"drift\",route=\"pod\"} 0
imageswap_agent_container_starts_total{verdict=\"approved\",route=\"cri\"} 3
";
        let series = raised(text);
        assert!(!counts_both(&series));
        assert_eq!(
            series,
            [(
                "imageswap_agent_drift_containers{route=\"containerd\"}".to_owned(),
                "1".to_owned()
            )]
        );
    }
}
