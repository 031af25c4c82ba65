//! Containers that differ only in their Pod: a workload's image, and why it is not approved.

use super::Finding;
use crate::moment::Moment;
use std::collections::{BTreeMap, BTreeSet};

/// Containers of a workload with the same image for the same reason.
#[derive(Debug)]
pub(super) struct Group<'f> {
    /// Namespace and workload.
    pub(super) workload: String,
    pub(super) container: &'f str,
    /// One of them, with what all of them share.
    pub(super) finding: &'f Finding,
    pub(super) containers: usize,
    pub(super) pods: BTreeSet<&'f str>,
    pub(super) nodes: BTreeSet<&'f str>,
    pub(super) processes: BTreeSet<&'f str>,
    /// When the first of them began; `None` if that is not known of one of them.
    pub(super) since: Option<Moment>,
}

/// The groups, by workload; containers without a Pod come first.
pub(super) fn groups(findings: &[Finding]) -> Vec<Group<'_>> {
    let mut groups: BTreeMap<_, Group<'_>> = BTreeMap::new();
    for finding in findings {
        let workload = workload(finding);
        let container = name(finding);
        let key = (
            workload.clone(),
            container,
            finding.image.as_deref(),
            finding.expected_image.as_deref(),
            [&*finding.verdict, &*finding.route, &*finding.reason],
            finding.rule.as_deref(),
        );
        let group = groups.entry(key).or_insert_with(|| Group {
            workload,
            container,
            finding,
            containers: 0,
            pods: BTreeSet::new(),
            nodes: BTreeSet::new(),
            processes: BTreeSet::new(),
            since: finding.since(),
        });
        group.containers += 1;
        group
            .pods
            .extend(finding.pod.as_ref().map(|pod| &*pod.name));
        group.nodes.insert(&finding.node);
        group
            .processes
            .extend(finding.process.as_ref().and_then(|it| it.comm.as_deref()));
        // The first of all, if all are known.
        group.since = group.since.zip(finding.since()).map(|(a, b)| a.min(b));
    }
    groups.into_values().collect()
}

fn workload(finding: &Finding) -> String {
    match &finding.pod {
        None => "(no Pod)".to_owned(),
        Some(pod) => match &pod.owner {
            Some(owner) => format!("{}/{} {}", pod.namespace, owner.kind, owner.name),
            None => format!("{}/Pod {}", pod.namespace, pod.name),
        },
    }
}

/// Name of the container in its Pod, or its id.
fn name(finding: &Finding) -> &str {
    let container = &finding.container;
    container
        .name
        .as_deref()
        .or(container.id.as_deref())
        .unwrap_or("a container")
}
