//! What the API server sees of many agents: each has a client of its own, and watches policies, namespaces and the
//! Pods of its node as an agent does.
//!
//! `watchers KUBECONFIG COUNT` prints a line once everything was listed, and ends with its standard input. The nodes are
//! called `growth-0` and so on, and the last good policies are in the ConfigMap `default/imageswap-last-good`.

use anyhow::Context as _;
use imageswap_agent::pods::{PodChange, watch};
use imageswap_runtime::admin::Condition;
use imageswap_runtime::cluster::ClusterArgs;
use imageswap_runtime::drain::Drain;
use imageswap_runtime::metrics::Exporter;
use imageswap_runtime::source::{Namespaces, PolicyArgs};
use std::io::Read as _;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::sleep;

/// Changes of Pods that may wait.
const WAITING: usize = 64;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let cluster = ClusterArgs {
        kubeconfig: arguments.next().map(Into::into),
        context: None,
    };
    let count: usize = arguments.next().context("no number of agents")?.parse()?;
    let mut listed = JoinSet::new();
    for at in 0..count {
        listed.spawn(start(cluster.clone(), format!("growth-{at}")));
    }
    while let Some(agent) = listed.join_next().await {
        agent??;
    }
    println!("listed");
    spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new())).await??;
    Ok(())
}

/// Starts an agent's watches; returns once each has listed everything.
async fn start(cluster: ClusterArgs, node: String) -> anyhow::Result<()> {
    let client = cluster.client().await?;
    let policy = PolicyArgs {
        policy_from_cluster: true,
        last_good_configmap: Some("default/imageswap-last-good".parse()?),
        only_follow: true,
        ..PolicyArgs::default()
    };
    let policy = policy.load(Some(&client))?;
    let (drain, ready) = (Drain::new(), Condition::default());
    let metrics = Exporter::new().policy_metrics();
    tokio::spawn(policy.watch(drain.clone(), metrics, ready.clone()));
    let namespaces = Namespaces::unknown();
    let synced = Condition::default();
    tokio::spawn(namespaces.clone().watch(client.clone(), synced, drain));
    let (changes, mut pods) = mpsc::channel(WAITING);
    tokio::spawn(watch::follow(client, node, changes));
    namespaces.listed().await;
    while !matches!(pods.recv().await, Some(PodChange::Listed(_))) {}
    while !ready.holds() {
        sleep(Duration::from_millis(10)).await;
    }
    tokio::spawn(async move { while pods.recv().await.is_some() {} });
    Ok(())
}
