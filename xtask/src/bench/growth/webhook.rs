//! Growth of a policy, of the set of policies, and of what the webhook keeps about a cluster.

use std::collections::BTreeSet;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use imageswap_lab::{ControlPlane, Lab};
use kube::Client;
use kube::api::{PostParams, Request};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use super::{Column, Name, Table, Unit, sum, when_calm};
use crate::bench::Report;
use crate::bench::server::{self, Ready, Server};
use crate::process::Workspace;
use crate::{kubernetes, ui};

/// The definition of ImageSwapPolicies.
const DEFINITION: &str = "deploy/charts/imageswap/crds/imageswappolicies.yaml";
const POLICIES: [usize; 4] = [1, 10, 100, 500];
const NAMESPACES: [usize; 4] = [10, 100, 1000, 10_000];
const RULES: usize = 10;
/// Objects that are created at the same time.
const AT_ONCE: usize = 8;
/// What a webhook costs that follows the cluster's objects, and one that starts when they exist.
const FOLLOWING: [Column; 5] = [
    ("following", Unit::Processor),
    ("writes", Unit::Count),
    ("to ready", Unit::Seconds),
    ("its processor", Unit::Processor),
    ("resident", Unit::Mebibytes),
];

/// Loading a policy, and deciding by it.
pub(super) fn rules(workspace: &Workspace) -> Result<Table> {
    ui::step("rules: building for release, then measuring (two minutes)");
    let columns = [
        ("policy loads", "policy: load"),
        ("keeps", "policy: keep"),
        ("swaps", "policy: swap"),
        ("maps load", "maps: load"),
        ("keep", "maps: keep"),
        ("swap", "maps: swap"),
    ];
    let rows = of_bench(workspace, "growth", &columns.map(|it| it.1))?;
    let columns = columns.map(|it| (it.0, Unit::Seconds)).to_vec();
    Ok(Table::new(Name::Rules, columns, rows))
}

/// The rows of the benchmark of decisions that are called `names`, by size, in seconds.
fn of_bench(workspace: &Workspace, which: &str, names: &[&str]) -> Result<Vec<(usize, Vec<f64>)>> {
    let printed = crate::bench::policy(workspace, &[which])?;
    let report: Report = serde_json::from_str(&printed).context("what the benchmark printed")?;
    let figure = |name: &str, size| {
        let mut rows = report.rows.iter();
        let row = rows.find(|row| row.what == name && row.rules == size);
        row.map_or(f64::NAN, |row| row.nanoseconds.median / 1e9)
    };
    let sizes: BTreeSet<_> = report.rows.iter().map(|row| row.rules).collect();
    let row = |size| (size, names.iter().map(|name| figure(name, size)).collect());
    Ok(sizes.into_iter().map(row).collect())
}

/// Policies of ten rules, each of which applies to one namespace.
pub(super) fn policies(workspace: &Workspace) -> Result<Table> {
    ui::step("policies: building for release");
    let decisions = of_bench(workspace, "sets", &["set: decide"])?;
    server::build(workspace)?;
    let cluster = Cluster::start(workspace)?;
    let mut rows = cluster.follow(
        &POLICIES,
        "/apis/imageswap.io/v1alpha1/imageswappolicies",
        policy,
    )?;
    for (row, decision) in rows.iter_mut().zip(decisions) {
        ensure!(row.0 == decision.0, "the sizes differ");
        row.1.splice(..0, decision.1);
    }
    let decides = ("decides", Unit::Seconds);
    let columns = [&[decides][..], &FOLLOWING].concat();
    Ok(Table::new(Name::Policies, columns, rows))
}

fn policy(at: usize) -> Value {
    let rule = |rule: usize| {
        let (from, to) = (
            format!("r{rule}.example.net/**"),
            format!("registry.example.com/{at}/{rule}"),
        );
        json!({"from": from, "to": to})
    };
    let rules: Vec<_> = (0..RULES).map(rule).collect();
    json!({
        "apiVersion": "imageswap.io/v1alpha1",
        "kind": "ImageSwapPolicy",
        "metadata": {"name": format!("team-{at}")},
        "spec": {"match": {"namespaces": [format!("team-{at}")]}, "rules": rules},
    })
}

/// Namespaces with a few labels each, and a policy that selects by them.
pub(super) fn namespaces(workspace: &Workspace) -> Result<Table> {
    server::build(workspace)?;
    let cluster = Cluster::start(workspace)?;
    let mut selects = policy(0);
    selects["spec"]["match"] = json!({"namespaceSelector": {"matchLabels": {"team": "0"}}});
    cluster.plane.apply(&selects.to_string())?;
    let namespace = |at: usize| {
        let labels =
            json!({"team": at.to_string(), "environment": "production", "tier": "backend"});
        json!({
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": format!("growth-{at}"), "labels": labels},
        })
    };
    let rows = cluster.follow(&NAMESPACES, "/api/v1/namespaces", namespace)?;
    Ok(Table::new(Name::Namespaces, FOLLOWING.to_vec(), rows))
}

/// An API server, and the programs that follow it.
pub(super) struct Cluster {
    pub(super) plane: ControlPlane,
    pub(super) lab: Lab,
    pub(super) programs: PathBuf,
    client: Client,
    runtime: Runtime,
}

impl Cluster {
    pub(super) fn start(workspace: &Workspace) -> Result<Self> {
        kubernetes::find_or_build()?;
        let lab = Lab::new("growth")?;
        let plane = ControlPlane::start(&lab)?;
        let definition = workspace.root.join(DEFINITION).display().to_string();
        plane.kubectl(["apply", "-f", &definition])?;
        let established = [
            "wait",
            "--for=condition=established",
            "--timeout=60s",
            "-f",
            &definition,
        ];
        plane.kubectl(established)?;
        plane.kubectl(["create", "configmap", "imageswap-last-good"])?;
        let runtime = Runtime::new()?;
        let client = runtime.block_on(plane.client())?;
        let programs = workspace.target.join("release");
        Ok(Self {
            plane,
            lab,
            programs,
            client,
            runtime,
        })
    }

    /// Creates objects up to each size, and measures a webhook that follows them and one that starts then.
    fn follow(
        &self,
        sizes: &[usize],
        path: &str,
        object: impl Fn(usize) -> Value,
    ) -> Result<Vec<(usize, Vec<f64>)>> {
        let follower = self.webhook()?;
        let (at_first, writes) = (when_calm(&follower.server)?, self.writes()?);
        let (mut rows, mut made) = (Vec::new(), 0);
        for &size in sizes {
            ui::step(format_args!("{size} of {path}"));
            self.create(path, (made..size).map(&object))?;
            made = size;
            let following = when_calm(&follower.server)? - at_first;
            let fresh = self.webhook()?;
            let processor = when_calm(&fresh.server)?;
            let resident = fresh.server.memory("VmRSS")?;
            let figures = [
                following,
                self.writes()? - writes,
                fresh.took.as_secs_f64(),
                processor,
                resident,
            ];
            rows.push((size, figures.to_vec()));
        }
        Ok(rows)
    }

    fn webhook(&self) -> Result<Ready> {
        let options = [
            "--policy-from-cluster".as_ref(),
            "--last-good-configmap=default/imageswap-last-good".as_ref(),
            "--kubeconfig".as_ref(),
            self.plane.kubeconfig().as_os_str(),
        ];
        Server::ready_webhook(&self.programs, self.lab.path(), &options)
    }

    /// How often a ConfigMap was written.
    fn writes(&self) -> Result<f64> {
        let labels = ["resource=\"configmaps\"", "verb=\"PUT\""];
        Ok(sum(&self.metrics()?, "apiserver_request_total", &labels))
    }

    /// The API server's own metrics.
    pub(super) fn metrics(&self) -> Result<String> {
        Ok(self.plane.kubectl(["get", "--raw", "/metrics"])?)
    }

    /// Creates objects by the API path of their list; returns them as the API server has them.
    pub(super) fn create(
        &self,
        path: &str,
        objects: impl Iterator<Item = Value>,
    ) -> Result<Vec<Value>> {
        let objects: Vec<_> = objects.collect();
        let share = objects.len().div_ceil(AT_ONCE).max(1);
        self.runtime.block_on(async {
            let mut tasks = Vec::new();
            for share in objects.chunks(share) {
                let (client, path, share) = (self.client.clone(), path.to_owned(), share.to_vec());
                tasks.push(tokio::spawn(async move {
                    let mut created = Vec::new();
                    for object in share {
                        let create = Request::new(path.as_str())
                            .create(&PostParams::default(), object.to_string().into());
                        created.push(client.request::<Value>(create?).await?);
                    }
                    Ok::<_, anyhow::Error>(created)
                }));
            }
            let mut all = Vec::new();
            for task in tasks {
                all.extend(task.await??);
            }
            Ok(all)
        })
    }
}
