//! `cargo xtask soak`: the webhook under load, while everything around it changes.
//!
//! Pods are created through a real API server, with `failurePolicy: Fail` and two replicas.
//! Meanwhile certificate and authority are replaced again and again, the policy becomes invalid and
//! valid again, each replica is restarted (also while the policy is invalid), and the API server is
//! killed. No call of the API server to the webhook may fail, and no image may stay unswapped.

mod load;
mod rotations;

use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use imageswap_lab::{ControlPlane, wait_until};
use serde_json::{Value, json};

use crate::deploy;
use crate::image::What;
use crate::process::Workspace;
use crate::site::{self, NAMESPACE, Site};
use crate::ui::{self, Took};
use load::Load;
use rotations::Rotations;

/// Registries that the maps file swaps to, before and after the invalid policy.
const REGISTRIES: [&str; 2] = ["one.example.com", "two.example.com"];
const GARBAGE: &str = "this is neither a maps file nor a policy";
/// How long a restarted replica may take to become ready, and its predecessor to end.
const RESTART: Duration = Duration::from_mins(3);
/// The webhook's program as the kernel shows it: 15 characters.
const PROGRAM: &str = "imageswap-webho";

/// How long and how much.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Options {
    /// Seconds of load, besides those that replacing the replicas takes
    #[arg(long, default_value_t = 240, value_parser = clap::value_parser!(u64).range(20..=7200))]
    seconds: u64,
    /// Pods per second, or as many as the API server can do
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=2000))]
    rate: u32,
    /// Test a build that is optimized little, which builds quickly
    #[arg(long)]
    dev: bool,
}

/// Runs the soak and prints the result; the exit code is 1 if a call failed.
pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<ExitCode> {
    let what = What {
        quick: options.dev,
        ..What::default()
    };
    if let Some(code) = site::isolate(workspace, &what)? {
        return Ok(code);
    }
    let length = Duration::from_secs(options.seconds);
    ui::heading("A cluster on this machine");
    let mut site = Site::start("soak")?;
    let values = site.values_file("soak", &values(options.seconds))?;
    let deployment = site.deployment(vec![values], &[], Some(what));
    deploy::deploy(workspace, &deployment, &site.cluster()?)?;
    maps(&site.plane, &format!("default::{}", REGISTRIES[0]))?;
    namespace(&site.plane)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let client = runtime.block_on(site.plane.client())?;
    let load = Arc::new(Load::new(REGISTRIES));
    runtime.block_on(load.until_swapped(&client, REGISTRIES[0]))?;
    ui::good("the first Pod is swapped");

    ui::heading(&format!(
        "At least {} of load, up to {} Pods a second",
        Took(length),
        options.rate
    ));
    let start = Instant::now();
    let rotations = Arc::new(Rotations::default());
    let watching = runtime.spawn(Arc::clone(&rotations).watch(client.clone()));
    let loading = runtime.spawn(Arc::clone(&load).run(client, options.rate));
    let played = play(&mut site, &load, start, length);
    load.end();
    runtime.block_on(loading).context("the load")?;
    let took = start.elapsed();
    watching.abort();
    played?;

    ui::heading("Result");
    let failed = load.report(took);
    println!("  {}", rotations.report());
    for peak in peaks(&site) {
        println!("  a replica took {} MiB of memory at its peak", peak / 1024);
    }
    let ended: u64 = replicas(&site.plane)?.iter().map(|it| it.restarts).sum();
    println!("  {ended} replicas ended by themselves");
    let good = !failed && ended == 0 && rotations.happened();
    if good {
        ui::good("no call to the webhook failed, and no image came out unswapped");
    } else {
        ui::bad("see above");
        site.show_logs();
    }
    Ok(ExitCode::from(u8::from(!good)))
}

/// Events during the run. The time between them is a part of `length`; the events themselves take
/// as long as they take, so that a slow machine leaves none of them without load.
fn play(site: &mut Site, load: &Load, start: Instant, length: Duration) -> Result<()> {
    let after = |percent: u32| {
        std::thread::sleep(length * percent / 100);
        format!("{:>4} s", start.elapsed().as_secs())
    };
    let now = after(10);
    restart_each(&site.plane)?;
    ui::good(format_args!("{now}  each replica replaced in turn"));
    let now = after(20);
    maps(&site.plane, GARBAGE)?;
    ui::good(format_args!("{now}  the maps file is garbage"));
    let now = after(5);
    restart_each(&site.plane)?;
    ui::good(format_args!(
        "{now}  each replica replaced in turn, during the garbage"
    ));
    let now = after(20);
    load.expect_either();
    maps(&site.plane, &format!("default::{}", REGISTRIES[1]))?;
    ui::good(format_args!(
        "{now}  the maps file is good again, and another"
    ));
    let now = after(15);
    load.server_away(true);
    site.plane.stop_apiserver();
    let away = Instant::now();
    site.plane.start_apiserver()?;
    load.server_away(false);
    ui::good(format_args!(
        "{now}  the API server killed; back after {}",
        Took(away.elapsed())
    ));
    after(30);
    Ok(())
}

/// Values of the chart: several authorities in one run, and new certificates all the time. The
/// chart's drain of 20 seconds would be most of a short run.
fn values(seconds: u64) -> Value {
    let authority = format!("{}s", (seconds / 4).max(39));
    json!({
        "agent": {"enabled": false},
        "webhook": {"drain": {"delay": 2, "timeout": 6}},
        "log": {"level": "warn,imageswap_webhook=warn"},
        "certificates": {"selfManaged": {
            "leafLifetime": "9s", "caLifetime": authority, "propagation": "2s",
        }},
    })
}

/// A Pod of the webhook.
struct Replica {
    name: String,
    /// And not being deleted.
    ready: bool,
    /// How often it has ended by itself.
    restarts: u64,
}

fn replicas(plane: &ControlPlane) -> Result<Vec<Replica>> {
    let selector = "app.kubernetes.io/name=imageswap-webhook";
    let pods = plane.kubectl(["-n", NAMESPACE, "get", "pods", "-l", selector, "-o", "json"])?;
    let pods: Value = serde_json::from_str(&pods).context("the replicas")?;
    let pods = pods["items"].as_array().into_iter().flatten();
    let replicas = pods.map(|pod| {
        let status = &pod["status"]["containerStatuses"][0];
        Replica {
            name: pod["metadata"]["name"]
                .as_str()
                .unwrap_or_default()
                .to_owned(),
            ready: status["ready"] == true && pod["metadata"]["deletionTimestamp"].is_null(),
            restarts: status["restartCount"].as_u64().unwrap_or_default(),
        }
    });
    Ok(replicas.collect())
}

/// Deletes one Pod after another, as draining a node does, and waits for each successor.
fn restart_each(plane: &ControlPlane) -> Result<()> {
    for Replica { name, .. } in replicas(plane)? {
        plane.kubectl(["-n", NAMESPACE, "delete", "pod", "--wait=false", &name])?;
        let replaced = wait_until(RESTART, || {
            let now = replicas(plane).unwrap_or_default();
            now.iter().filter(|it| it.ready).count() >= 2 && now.iter().all(|it| it.name != name)
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
    let text = Value::from(text);
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

/// Peak resident memory of each replica that runs, in KiB.
fn peaks(site: &Site) -> Vec<u64> {
    let own = site.lab.name();
    let peak = |process: &Path| {
        let read = |name: &str| fs::read_to_string(process.join(name)).ok();
        let is_replica = read("comm")?.trim_end() == PROGRAM && read("cgroup")?.contains(&*own);
        let status = read("status").filter(|_| is_replica)?;
        let line = status.lines().find_map(|it| it.strip_prefix("VmHWM:"))?;
        line.split_whitespace().next()?.parse().ok()
    };
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    processes.filter_map(|it| peak(&it.path())).collect()
}
