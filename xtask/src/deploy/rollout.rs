//! Waits for a release, and shows the Pods that keep it from being ready.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::Cluster;

/// A Deployment or DaemonSet of a release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Workload {
    namespace: String,
    /// With its kind: `deployment/imageswap-webhook`.
    pub(super) name: String,
}

/// Selects the release's objects, and the Pods of its workloads.
fn selector(release: &str) -> String {
    format!("app.kubernetes.io/instance={release},app.kubernetes.io/part-of=imageswap")
}

/// The workloads of a release, in every namespace.
pub(super) fn workloads(cluster: &Cluster, release: &str) -> Result<Vec<Workload>> {
    let each = r#"{range .items[*]}{.metadata.namespace} {.kind}/{.metadata.name}{"\n"}{end}"#;
    let list = cluster.kubectl(&[
        "get",
        "deployments,daemonsets",
        "--all-namespaces",
        &format!("--selector={}", selector(release)),
        &format!("--output=jsonpath={each}"),
    ])?;
    let list = list.lines().filter_map(|line| line.split_once(' '));
    let workloads = list.map(|(namespace, name)| Workload {
        namespace: namespace.to_owned(),
        name: name.to_lowercase(),
    });
    Ok(workloads.collect())
}

/// Waits, and shows kubectl's progress.
pub(super) fn wait(
    cluster: &Cluster,
    release: &str,
    workload: &Workload,
    limit: Duration,
) -> Result<()> {
    let Workload { namespace, name } = workload;
    let timeout = format!("--timeout={}s", limit.as_secs());
    let args = [
        "--namespace",
        namespace,
        "rollout",
        "status",
        name,
        &timeout,
    ];
    // Progress goes to standard error; standard output is for the result.
    let status = cluster
        .kubectl_command(&args)
        .stdin(Stdio::null())
        .stdout(std::io::stderr())
        .status()
        .context("cannot run kubectl")?;
    if status.success() {
        return Ok(());
    }
    let selector = format!("--selector={}", selector(release));
    let pods = cluster.kubectl(&["--namespace", namespace, "get", "pods", &selector]);
    bail!(
        "{name} in {namespace} is not rolled out; kubectl -n {namespace} describe pods says more\n{}",
        pods.unwrap_or_default()
    )
}
