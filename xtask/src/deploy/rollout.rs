//! Waits for a release, and reports what keeps it from being ready.

use std::fmt::{self, Display};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::Cluster;

/// A Deployment or DaemonSet of a release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Workload {
    kind: String,
    pub(super) namespace: String,
    name: String,
    /// Selects its Pods.
    selector: String,
}

impl Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind, self.name)
    }
}

/// The workloads of a release, in every namespace.
pub(super) fn workloads(cluster: &Cluster, release: &str) -> Result<Vec<Workload>> {
    let selector =
        format!("app.kubernetes.io/instance={release},app.kubernetes.io/part-of=imageswap");
    let list = [
        "get",
        "deployments,daemonsets",
        "--all-namespaces",
        "--selector",
        &selector,
    ];
    Ok(parse(&cluster.json(&list)?))
}

fn parse(list: &Value) -> Vec<Workload> {
    let items = list["items"].as_array().into_iter().flatten();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    items
        .map(|it| {
            let labels = it["spec"]["selector"]["matchLabels"].as_object();
            let selector: Vec<_> = labels
                .into_iter()
                .flatten()
                .map(|(key, value)| format!("{key}={}", text(value)))
                .collect();
            Workload {
                kind: text(&it["kind"]).to_lowercase(),
                namespace: text(&it["metadata"]["namespace"]),
                name: text(&it["metadata"]["name"]),
                selector: selector.join(","),
            }
        })
        .collect()
}

/// Waits, and shows kubectl's progress.
pub(super) fn wait(cluster: &Cluster, workload: &Workload, limit: Duration) -> Result<()> {
    let timeout = format!("--timeout={}s", limit.as_secs());
    let name = workload.to_string();
    let args = [
        "--namespace",
        &workload.namespace,
        "rollout",
        "status",
        &name,
        &timeout,
    ];
    let mut command = cluster.kubectl_command(&args);
    // Progress goes to standard error; standard output is for the result.
    let status = command
        .stdin(Stdio::null())
        .stdout(std::io::stderr())
        .status()
        .context("cannot run kubectl")?;
    if status.success() {
        return Ok(());
    }
    let pods = [
        "--namespace",
        &workload.namespace,
        "get",
        "pods",
        "--selector",
        &workload.selector,
    ];
    let reasons = cluster.json(&pods).map(|it| reasons(&it));
    match reasons {
        Ok(reasons) if !reasons.is_empty() => bail!(
            "{workload} in {} is not rolled out:\n  {}",
            workload.namespace,
            reasons.join("\n  ")
        ),
        _ => bail!(
            "{workload} in {} is not rolled out; kubectl -n {} describe {workload} says more",
            workload.namespace,
            workload.namespace
        ),
    }
}

/// Why Pods are not ready, one line each.
fn reasons(pods: &Value) -> Vec<String> {
    let mut lines = Vec::new();
    for pod in pods["items"].as_array().into_iter().flatten() {
        let name = pod["metadata"]["name"].as_str().unwrap_or_default();
        let status = &pod["status"];
        let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
        let mut found = false;
        for container in list(&status["containerStatuses"]) {
            for (state, field) in [("waiting", "state"), ("terminated", "lastState")] {
                let state = &container[field][state];
                if let Some(reason) = state["reason"].as_str() {
                    let message = state["message"].as_str().unwrap_or_default().trim();
                    let code = state["exitCode"].as_i64();
                    let code = code.map_or(String::new(), |it| format!(" with exit code {it}"));
                    lines.push(
                        format!("{name}: {reason}{code} {message}")
                            .trim()
                            .to_owned(),
                    );
                    found = true;
                }
            }
        }
        if found {
            continue;
        }
        for condition in list(&status["conditions"]) {
            if condition["status"] == "False"
                && let Some(message) = condition["message"].as_str()
            {
                lines.push(format!("{name}: {message}"));
                break;
            }
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn workloads_are_read_from_a_list() {
        let list = json!({"items": [{
            "kind": "DaemonSet",
            "metadata": {"name": "imageswap-agent", "namespace": "imageswap-agent"},
            "spec": {"selector": {"matchLabels": {"a": "1", "b": "2"}}},
        }]});
        let workloads = parse(&list);
        assert_eq!(workloads[0].to_string(), "daemonset/imageswap-agent");
        assert_eq!(workloads[0].selector, "a=1,b=2");
        assert!(parse(&json!({"items": []})).is_empty());
    }

    #[test]
    fn what_keeps_a_pod_is_said() {
        let pods = json!({"items": [
            {"metadata": {"name": "pulls"}, "status": {"containerStatuses": [
                {"state": {"waiting": {"reason": "ImagePullBackOff", "message": "Back-off pulling image \"x\""}}},
            ]}},
            {"metadata": {"name": "crashes"}, "status": {"containerStatuses": [{
                "state": {"waiting": {"reason": "CrashLoopBackOff"}},
                "lastState": {"terminated": {"reason": "Error", "exitCode": 2}},
            }]}},
            {"metadata": {"name": "waits"}, "status": {"conditions": [
                {"type": "PodScheduled", "status": "False", "message": "0/3 nodes are available"},
            ]}},
            {"metadata": {"name": "fine"}, "status": {"containerStatuses": [{"state": {"running": {}}}],
                "conditions": [{"type": "Ready", "status": "True"}]}},
        ]});
        assert_eq!(
            reasons(&pods),
            [
                "pulls: ImagePullBackOff Back-off pulling image \"x\"",
                "crashes: CrashLoopBackOff",
                "crashes: Error with exit code 2",
                "waits: 0/3 nodes are available",
            ]
        );
    }
}
