//! Containers that differ only in their Pod, for people: a workload's image and why it is not
//! approved.

use super::containers::{End, Row};
use crate::finding::{Workload, workload_title};
use crate::moment::Moment;
use std::collections::{BTreeMap, BTreeSet};

/// Containers of a workload with the same image for the same reason.
#[derive(Debug)]
pub(super) struct Group<'r> {
    /// Namespace and workload.
    pub(super) owner: String,
    /// A container of the group, with everything that all of them share.
    pub(super) row: &'r Row,
    pub(super) containers: u64,
    pub(super) running: u64,
    pub(super) unseen: u64,
    pub(super) nodes: BTreeSet<&'r str>,
    pub(super) from: Moment,
    pub(super) from_is_exact: bool,
    pub(super) to: Moment,
    /// Time of all containers together.
    pub(super) seconds: u64,
}

type Key<'r> = (
    Option<&'r str>,
    Option<&'r Workload>,
    Option<&'r str>,
    Option<&'r str>,
    Option<&'r str>,
    [&'r str; 3],
);

/// The groups, by namespace and workload.
pub(super) fn groups(rows: &[Row]) -> Vec<Group<'_>> {
    let mut groups: BTreeMap<Key<'_>, Group<'_>> = BTreeMap::new();
    for row in rows {
        let workload = row.workload.as_ref();
        // Bare Pods are workloads of their own, and containers without one are known by their id.
        let pod = row.pod.as_deref().filter(|_| workload.is_none());
        let key = (
            row.namespace.as_deref(),
            workload,
            pod,
            name(row),
            row.image.as_deref(),
            [row.verdict, &*row.route, &*row.reason],
        );
        let group = groups.entry(key).or_insert_with(|| Group {
            owner: workload_title(row.namespace.as_deref(), workload, row.pod.as_deref()),
            row,
            containers: 0,
            running: 0,
            unseen: 0,
            nodes: BTreeSet::new(),
            from: row.from,
            from_is_exact: row.from_is_exact,
            to: row.to,
            seconds: 0,
        });
        group.containers += 1;
        group.running += u64::from(row.end == End::Running);
        group.unseen += u64::from(row.end == End::Unseen);
        group.nodes.insert(&row.node);
        if row.from < group.from {
            (group.from, group.from_is_exact) = (row.from, row.from_is_exact);
        }
        group.to = group.to.max(row.to);
        group.seconds = group.seconds.saturating_add(row.seconds);
    }
    let mut groups: Vec<_> = groups.into_values().collect();
    groups.sort_by(|a, b| (&a.owner, container(a)).cmp(&(&b.owner, container(b))));
    groups
}

/// Name of the container in its Pod, or its id.
fn name(row: &Row) -> Option<&str> {
    let of_pod = row.container.as_deref().filter(|_| row.pod.is_some());
    of_pod.or(row.container_id.as_deref())
}

/// The name of a group's container.
pub(super) fn container<'r>(group: &Group<'r>) -> &'r str {
    name(group.row).unwrap_or("a container")
}
