//! `cargo xtask soak`: the webhook under load, while everything around it changes.
//!
//! Pods are created through a real API server, with `failurePolicy: Fail` and two replicas.
//! Meanwhile certificate and authority are replaced again and again, the policy becomes invalid and
//! valid again, each replica is restarted (also while the policy is invalid), and the API server is
//! killed. No call of the API server to the webhook may fail, and no image may stay unswapped.

mod load;
mod rotations;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use imageswap_lab::{ControlPlane, wait_until};

use crate::builder::{self, Profile};
use crate::process::Workspace;
use crate::stage::{self, NAMESPACE, Stage};
use crate::ui::{self, Took};
use load::Load;
use rotations::Rotations;

/// Registries that the maps file swaps to, before and after the invalid policy.
const REGISTRIES: [&str; 2] = ["one.example.com", "two.example.com"];
const GARBAGE: &str = "this is neither a maps file nor a policy";
/// How long a restarted replica may take to become ready.
const RESTART: Duration = Duration::from_mins(1);
/// The drain of a stopping replica; the manifests' 20 seconds would be most of a short run.
const DRAIN: [&str; 2] = ["--drain-delay=2", "--drain-timeout=6"];

/// How long and how much.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Options {
    /// Seconds of load
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u64).range(40..=7200))]
    seconds: u64,
    /// Pods per second, or as many as the API server can do
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=2000))]
    rate: u32,
    /// Test an unoptimized build, which builds quickly
    #[arg(long)]
    dev: bool,
}

/// Runs the soak and prints the result; the exit code is 1 if a call failed.
pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<ExitCode> {
    if let Some(code) = stage::isolate()? {
        return Ok(code);
    }
    let profile = if options.dev {
        Profile::Dev
    } else {
        Profile::Release
    };
    let folder = builder::programs(workspace, profile)?;
    let program = folder.join("imageswap-webhook");
    let length = Duration::from_secs(options.seconds);
    // Several authorities in one run, and new certificates all the time.
    let authority = format!("--tls-ca-lifetime={}s", (options.seconds / 4).max(39));
    let arguments = [
        &[
            "--tls-leaf-lifetime=9s",
            "--tls-propagation=2s",
            &authority,
            "--log-level=warn,imageswap_webhook=warn",
        ][..],
        &DRAIN,
    ]
    .concat();
    ui::heading("A cluster with the webhook");
    let mut stage = Stage::start(workspace, &program, &arguments, |what| ui::good(what))?;
    maps(&stage.cluster, &format!("default::{}", REGISTRIES[0]))?;
    namespace(&stage.cluster)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let client = runtime.block_on(stage.cluster.client())?;
    let load = Arc::new(Load::new(REGISTRIES));
    runtime.block_on(load.until_swapped(&client, REGISTRIES[0]))?;
    ui::good("the first Pod is swapped");

    ui::heading(&format!(
        "{} of load, up to {} Pods a second",
        Took(length),
        options.rate
    ));
    let start = Instant::now();
    let rotations = Arc::new(Rotations::default());
    let watching = runtime.spawn(Arc::clone(&rotations).watch(client.clone()));
    let loading = runtime.spawn(Arc::clone(&load).run(client, options.rate, length));
    let played = play(&mut stage, &load, start, length);
    let _pods = runtime.block_on(loading).context("the load")?;
    let took = start.elapsed();
    watching.abort();
    played?;

    ui::heading("Result");
    let failed = load.report(took);
    println!("  {}", rotations.report());
    for pod in stage.kubelet.pods() {
        if let Some(peak) = pod.pid.and_then(peak_memory) {
            println!(
                "  {} took {} MiB of memory at its peak",
                pod.name,
                peak / 1024
            );
        }
    }
    let ended = stage
        .kubelet
        .pods()
        .iter()
        .map(|it| it.restarts)
        .sum::<u32>();
    println!("  {ended} replicas ended by themselves");
    let good = !failed && ended == 0 && rotations.happened();
    if good {
        ui::good("no call to the webhook failed, and no image came out unswapped");
    } else {
        ui::bad("see above");
        for pod in stage.kubelet.pods() {
            println!("  {}: {}", pod.name, last_lines(&pod.log));
        }
    }
    Ok(if good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Events during the run, at fractions of its length.
fn play(stage: &mut Stage, load: &Load, start: Instant, length: Duration) -> Result<()> {
    let at = |percent: u32| {
        let when = length * percent / 100;
        std::thread::sleep(when.saturating_sub(start.elapsed()));
        format!("{:>4} s", start.elapsed().as_secs())
    };
    let now = at(8);
    restart_each(stage)?;
    ui::good(format_args!("{now}  each replica replaced in turn"));
    let now = at(36);
    maps(&stage.cluster, GARBAGE)?;
    ui::good(format_args!("{now}  the maps file is garbage"));
    let now = at(40);
    restart_each(stage)?;
    ui::good(format_args!(
        "{now}  each replica replaced in turn, during the garbage"
    ));
    let now = at(68);
    load.expect_either();
    maps(&stage.cluster, &format!("default::{}", REGISTRIES[1]))?;
    ui::good(format_args!(
        "{now}  the maps file is good again, and another"
    ));
    let now = at(76);
    load.server_away(true);
    stage.cluster.stop_apiserver();
    let away = Instant::now();
    stage.cluster.start_apiserver()?;
    load.server_away(false);
    ui::good(format_args!(
        "{now}  the API server killed; back after {}",
        Took(away.elapsed())
    ));
    Ok(())
}

/// Deletes one Pod after another, as draining a node does, and waits for each successor.
fn restart_each(stage: &Stage) -> Result<()> {
    let names: Vec<_> = stage.kubelet.pods().into_iter().map(|it| it.name).collect();
    for name in names {
        stage
            .cluster
            .kubectl(["-n", NAMESPACE, "delete", "pod", "--wait=false", &name])?;
        let replaced = wait_until(RESTART, || {
            let pods = stage.kubelet.pods();
            let ready = pods.iter().filter(|it| it.ready && it.name != name).count();
            ready >= 2 && pods.iter().all(|it| it.name != name)
        });
        anyhow::ensure!(
            replaced,
            "no replica took the place of {name} in {}",
            Took(RESTART)
        );
    }
    Ok(())
}

fn maps(cluster: &ControlPlane, text: &str) -> Result<()> {
    let text = serde_json::Value::from(text);
    let map = format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: imageswap-maps, namespace: {NAMESPACE}}}\ndata: {{maps: {text}}}"
    );
    if text != GARBAGE {
        cluster.kubectl_with(["apply", "-f", "-"], &map)?;
        return Ok(());
    }
    // The namespace would be refused otherwise: the webhook selects it by this label, and a change
    // takes a moment.
    let label = "kubernetes.io/metadata.name";
    cluster.kubectl(["label", "namespace", NAMESPACE, &format!("{label}-")])?;
    let applied = wait_until(Duration::from_secs(10), || {
        cluster.kubectl_with(["apply", "-f", "-"], &map).is_ok()
    });
    cluster.kubectl([
        "label",
        "namespace",
        NAMESPACE,
        &format!("{label}={NAMESPACE}"),
    ])?;
    anyhow::ensure!(applied, "the garbage was refused");
    Ok(())
}

fn namespace(cluster: &ControlPlane) -> Result<()> {
    cluster.kubectl(["create", "namespace", load::NAMESPACE])?;
    cluster.kubectl([
        "label",
        "namespace",
        load::NAMESPACE,
        "k8s.twr.io/imageswap=enabled",
    ])?;
    Ok(())
}

/// Peak resident memory of a process, in KiB.
fn peak_memory(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|it| it.strip_prefix("VmHWM:"))?;
    line.split_whitespace().next()?.parse().ok()
}

fn last_lines(log: &std::path::Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(5)..].join("\n    ")
}
