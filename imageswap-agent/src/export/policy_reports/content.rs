//! What the reports of a node say.

use crate::export::pod_events;
use crate::finding::Finding;
use crate::verdict::{Route, Verdict};
use imageswap_runtime::policy_report::{Outcome, ReportApi, ReportIdentity, ReportResult, object};
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::UNIX_EPOCH;

/// Namespaces with a report from one node; more have none.
const MOST_REPORTS: usize = 200;

/// Owners of a report: with more, it is deleted by the agent alone.
const MOST_OWNERS: usize = 50;

/// Longest value of a label.
const LONGEST_LABEL: usize = 63;

/// Longest name of an object.
const LONGEST_NAME: usize = 253;

const PREFIX: &str = "imageswap-";

/// The name of a policy if none is known.
const NO_POLICY: &str = "imageswap";

/// The reports of one node.
pub(super) struct Reports<'f> {
    api: ReportApi,
    node: &'f str,
    by_place: BTreeMap<Option<String>, Vec<&'f Finding>>,
}

impl<'f> Reports<'f> {
    pub(super) fn of(api: ReportApi, node: &'f str, unapproved: &'f [Finding]) -> Self {
        let mut by_place: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for finding in unapproved {
            let namespace = finding.pod.as_ref().map(|pod| pod.namespace.clone());
            by_place.entry(namespace).or_default().push(finding);
        }
        Self {
            api,
            node,
            by_place,
        }
    }

    /// The objects, by namespace.
    pub(super) fn objects(self) -> BTreeMap<Option<String>, Value> {
        let Self {
            api,
            node,
            by_place,
        } = self;
        if by_place.len() > MOST_REPORTS {
            tracing::warn!(
                namespaces = by_place.len(),
                "policy reports are written for {MOST_REPORTS} namespaces"
            );
        }
        let reports = by_place.into_iter().take(MOST_REPORTS);
        let objects = reports.map(|(namespace, findings)| {
            let (key, value) = node_label(node);
            let identity = ReportIdentity {
                name: name(node),
                namespace: namespace.clone(),
                labels: BTreeMap::from([
                    ("app.kubernetes.io/managed-by", "imageswap-agent".to_owned()),
                    (key, value),
                ]),
                owners: owners(&findings),
            };
            let results = findings.into_iter().map(|it| result(it, node)).collect();
            (namespace, object(api, &identity, 0, results))
        });
        objects.collect()
    }
}

/// The Pods, so that the cluster deletes the report with the last of them even if the node is gone.
/// None if one of the findings is about a Pod whose UID in the cluster is not known.
fn owners(findings: &[&Finding]) -> Vec<OwnerReference> {
    let mut owners = BTreeMap::new();
    for finding in findings {
        let Some(pod) = finding
            .pod
            .as_ref()
            .filter(|_| finding.route != Route::StaticPod)
        else {
            return Vec::new();
        };
        owners.entry(&pod.uid).or_insert_with(|| OwnerReference {
            api_version: "v1".to_owned(),
            kind: "Pod".to_owned(),
            name: pod.name.clone(),
            uid: pod.uid.clone(),
            ..OwnerReference::default()
        });
    }
    if owners.len() > MOST_OWNERS {
        return Vec::new();
    }
    owners.into_values().collect()
}

fn result(finding: &Finding, node: &str) -> ReportResult {
    let container = &finding.container;
    let container = container.name.as_ref().or(container.id.as_ref());
    let image = finding.image.as_ref();
    let process = finding.process.as_ref().and_then(|it| it.comm.as_ref());
    let expected = finding.expected_image.as_ref();
    let texts = [
        ("container", container),
        ("image", image),
        ("expectedImage", expected.filter(|it| Some(*it) != image)),
        ("process", process),
        ("node", Some(&finding.node)),
    ];
    let mut properties: BTreeMap<_, _> = texts
        .into_iter()
        .filter_map(|(name, text)| Some((name, text?.clone())))
        .collect();
    properties.insert("route", finding.route.as_str().to_owned());
    properties.insert("reason", finding.reason.as_str().to_owned());
    let since = finding.started.unwrap_or(finding.time);
    ReportResult {
        policy: finding
            .policy
            .name
            .clone()
            .unwrap_or_else(|| NO_POLICY.to_owned()),
        rule: finding.rule.clone(),
        message: pod_events::note(finding),
        outcome: match finding.verdict {
            Verdict::Drift => Outcome::Fail,
            Verdict::Unresolved | Verdict::Approved | Verdict::Exempt => Outcome::Error,
        },
        resource: pod_events::pod_of(finding).unwrap_or_else(|| ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Node".to_owned()),
            name: Some(node.to_owned()),
            ..ObjectReference::default()
        }),
        properties,
        seconds: since.duration_since(UNIX_EPOCH).ok().map(|it| it.as_secs()),
    }
}

/// The name of the objects of a node.
pub(super) fn name(node: &str) -> String {
    format!("{PREFIX}{}", short(node, LONGEST_NAME - PREFIX.len()))
}

/// The label by which the objects of a node are found.
pub(super) fn node_label(node: &str) -> (&'static str, String) {
    ("imageswap.io/node", short(node, LONGEST_LABEL))
}

/// The node's name if it is short enough and valid, otherwise its beginning and a hash.
fn short(node: &str, longest: usize) -> String {
    const HASH: usize = 16;
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let is_valid = node.chars().all(|c| is_plain(c) || c == '-' || c == '.')
        && node.starts_with(is_plain)
        && node.ends_with(is_plain)
        && !node.contains("..")
        && !node.contains("-.")
        && !node.contains(".-");
    if is_valid && node.len() <= longest {
        return node.to_owned();
    }
    let mut text: String = node
        .chars()
        .filter(|c| is_plain(*c))
        .take((longest - HASH - 1).min(40))
        .collect();
    if !text.is_empty() {
        text.push('-');
    }
    for byte in Sha256::digest(node).iter().take(HASH / 2) {
        _ = write!(text, "{byte:02x}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_valid_and_differ_as_nodes_do() {
        for (node, expected) in [
            ("n1", "imageswap-n1"),
            (
                "ip-10-0-0-1.eu-west-1.compute.internal",
                "imageswap-ip-10-0-0-1.eu-west-1.compute.internal",
            ),
            ("My_Node", "imageswap-yode-"),
            ("a..b", "imageswap-ab-"),
            ("", "imageswap-"),
        ] {
            let name = name(node);
            assert!(name.starts_with(expected), "{name}");
            let is_hashed = name.len() > expected.len();
            assert_eq!(is_hashed, expected.ends_with('-'), "{name}");
        }
        assert_ne!(name("a_b"), name("ab"));
        let long = "a".repeat(253);
        assert!(name(&long).len() <= LONGEST_NAME);
        assert!(node_label(&long).1.len() <= LONGEST_LABEL);
    }
}
