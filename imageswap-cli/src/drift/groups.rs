//! Containers that differ only in their Pod: a workload's image, and why it is not approved.

use crate::finding::{Finding, workload_title};
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
    /// When the first of them began.
    pub(super) since: Moment,
}

/// The groups, by workload; containers without a Pod come first.
pub(super) fn groups(findings: &[Finding]) -> Vec<Group<'_>> {
    let mut groups: BTreeMap<_, Group<'_>> = BTreeMap::new();
    for finding in findings {
        let pod = finding.pod.as_ref();
        let (namespace, name_of_pod) = (pod.map(|it| &*it.namespace), pod.map(|it| &*it.name));
        let workload = workload_title(namespace, finding.workload(), name_of_pod);
        let container = name(finding);
        let key = (
            workload.clone(),
            container,
            finding.image.as_deref(),
            finding.expected_image.as_deref(),
            [finding.verdict.as_str(), &*finding.route, &*finding.reason],
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
        group.pods.extend(name_of_pod);
        group.nodes.insert(&finding.node);
        group.processes.extend(finding.process());
        group.since = group.since.min(finding.since());
    }
    groups.into_values().collect()
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
