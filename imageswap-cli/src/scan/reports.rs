//! The answer as policy reports, for `kubectl apply`: one object for each namespace.

use super::census::{Census, Key, Verdict};
use crate::verdict::VerdictArgs;
use anyhow::Result;
use imageswap_runtime::policy_report::{Outcome, ReportApi, ReportIdentity, ReportResult, object};
use k8s_openapi::api::core::v1::ObjectReference;
use serde_json::json;
use std::collections::BTreeMap;
use std::io::Write;

/// Name of the objects.
const NAME: &str = "imageswap-scan";

/// Value of the label by which the objects are found.
const MANAGER: &str = "imageswap-scan";

/// The policy if none applies for certain.
const NO_POLICY: &str = "imageswap";

/// Writes the objects as one list. A namespace in which everything is fine has an object without
/// results, so that applying the list also ends what was reported before.
pub(super) fn write(
    census: &Census<'_>,
    api: ReportApi,
    verdict: &VerdictArgs,
    out: &mut impl Write,
) -> Result<()> {
    let mut namespaces: BTreeMap<&str, (u64, Vec<ReportResult>)> = BTreeMap::new();
    for (key, seen) in census.rows() {
        if key.verdict == Verdict::OutOfScope {
            continue;
        }
        let (passed, results) = namespaces.entry(&key.workload.namespace).or_default();
        if key.is_finding(verdict) {
            results.push(result(key, seen.pods));
        } else {
            *passed += 1;
        }
    }
    let objects = namespaces
        .into_iter()
        .map(|(namespace, (passed, results))| {
            let identity = ReportIdentity {
                name: NAME.to_owned(),
                namespace: Some(namespace.to_owned()),
                labels: BTreeMap::from([("app.kubernetes.io/managed-by", MANAGER.to_owned())]),
                owners: Vec::new(),
            };
            object(api, &identity, passed, results)
        });
    let items: Vec<_> = objects.collect();
    let list = json!({"apiVersion": "v1", "kind": "List", "items": items});
    serde_json::to_writer_pretty(&mut *out, &list)?;
    writeln!(out)?;
    Ok(())
}

fn result(key: &Key, pods: usize) -> ReportResult {
    let workload = &key.workload;
    let mut properties = BTreeMap::from([
        ("container", key.container.clone()),
        ("image", key.image.clone()),
        ("pods", pods.to_string()),
        ("reason", key.reason.to_owned()),
        ("verdict", key.verdict.words().to_owned()),
    ]);
    if key.swapped() {
        properties.insert("expectedImage", key.result.clone());
    }
    ReportResult {
        policy: key.policy.clone().unwrap_or_else(|| NO_POLICY.to_owned()),
        rule: key.rule.clone(),
        message: format!(
            "Container {}: {}: {}",
            key.container, key.image, key.explanation
        ),
        outcome: match key.verdict {
            Verdict::Refuse | Verdict::Invalid => Outcome::Fail,
            Verdict::Unknown => Outcome::Error,
            Verdict::Warn
            | Verdict::Audit
            | Verdict::Swap
            | Verdict::Exempt
            | Verdict::Keep
            | Verdict::OutOfScope => Outcome::Warn,
        },
        resource: ObjectReference {
            api_version: Some(api_version(&workload.kind).to_owned()),
            kind: Some(workload.kind.replace("StaticPod", "Pod")),
            namespace: Some(workload.namespace.clone()),
            name: Some(workload.name.clone()),
            ..ObjectReference::default()
        },
        properties,
        seconds: None,
    }
}

/// The API of a workload that a scan reads.
fn api_version(kind: &str) -> &'static str {
    match kind {
        "Deployment" | "ReplicaSet" | "StatefulSet" | "DaemonSet" => "apps/v1",
        "Job" | "CronJob" => "batch/v1",
        _ => "v1",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scan::owners::Owners;
    use crate::scan::sample::{deployment, namespaces, pod};
    use imageswap_policy::{Policies, document};
    use serde_json::Value;

    const POLICY: &str = include_str!("../../tests/data/corp.yaml");

    #[test]
    fn a_namespace_is_one_object_with_its_findings() {
        let policies = document::load("test", POLICY).unwrap().policies;
        let policies = Policies::new(policies);
        let today = imageswap_policy::Date::MIN;
        let mut census = Census::new(&policies, namespaces(), today);
        let web = deployment("web", "quay.example.org/web");
        census.template(
            &crate::scan::owners::Workload::of("Deployment", &web),
            web.template().unwrap(),
        );
        census.pod(
            &Owners::default(),
            &pod("alone", "a", "registry.example.com/a", None),
        );
        census.pod(&Owners::default(), &pod("hub", "a", "busybox", None));
        let mut text = Vec::new();
        let verdict = VerdictArgs::usual(false);
        write(&census, ReportApi::PolicyReports, &verdict, &mut text).unwrap();
        let list: Value = serde_json::from_slice(&text).unwrap();
        let text = format!("{list:#}\n");
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/report/scan.json");
        if std::env::var_os("IMAGESWAP_WRITE").is_some() {
            std::fs::write(path, &text).unwrap();
        }
        let kept = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            kept == text,
            "IMAGESWAP_WRITE=1 cargo test writes it anew\n{text}"
        );
        let report = &list["items"][0];
        assert_eq!(report["summary"]["pass"], 2, "{report:#}");
        assert_eq!(report["results"][0]["resources"][0]["kind"], "Deployment");
    }
}
