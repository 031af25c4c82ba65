//! The whole answer, which `-o json` prints unchanged.

use super::containers::{End, Row};
use super::lines::FileSummary;
use super::watch::{Gap, Loss, PolicyChange};
use crate::finding::NO_POD;
use crate::moment::Moment;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// The schema's name and version.
pub(super) const SCHEMA: &str = "imageswap.io/report/v1";

/// The answer. Field order is the order in the JSON.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) schema: &'static str,
    pub(super) since: Moment,
    pub(super) until: Moment,
    /// Whether every file was read without a problem.
    pub(super) complete: bool,
    /// Whether every node was watched all the time, without a lost event.
    pub(super) watched: bool,
    /// Number of nodes with records, or that were expected.
    pub(super) nodes: usize,
    /// Number of container starts that the files know, approved or not.
    pub(super) starts: usize,
    pub(super) summary: Summary,
    pub(super) unwatched: Vec<Gap>,
    pub(super) lost: Vec<Loss>,
    pub(super) policy_changes: Vec<PolicyChange>,
    /// What was not approved, one row per container, oldest first.
    pub(super) containers: Vec<Row>,
    pub(super) files: Vec<FileSummary>,
}

/// Counts of images that were not approved.
#[derive(Debug, Default, Serialize)]
pub(super) struct Summary {
    pub(super) drift: u64,
    pub(super) unresolved: u64,
    /// Of both, those that still run at the end.
    pub(super) running: u64,
    /// Different images.
    pub(super) images: usize,
    pub(super) namespaces: Vec<Count>,
    pub(super) registries: Vec<Count>,
    pub(super) reasons: Vec<Count>,
}

/// Counts of one namespace, registry or reason.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(super) struct Count {
    pub(super) name: String,
    pub(super) drift: u64,
    pub(super) unresolved: u64,
    /// Time of all these containers together.
    pub(super) seconds: u64,
}

impl Count {
    pub(super) const fn containers(&self) -> u64 {
        self.drift + self.unresolved
    }
}

impl Summary {
    pub(super) fn of(rows: &[Row]) -> Self {
        let drift = rows.iter().filter(|it| it.verdict == "drift").count() as u64;
        let images: BTreeSet<_> = rows.iter().filter_map(|it| it.image.as_deref()).collect();
        Self {
            drift,
            unresolved: rows.len() as u64 - drift,
            running: rows.iter().filter(|it| it.end == End::Running).count() as u64,
            images: images.len(),
            namespaces: count(rows, |row| row.namespace.as_deref().unwrap_or(NO_POD)),
            registries: count(rows, |row| &row.registry),
            reasons: count(rows, |row| &row.reason),
        }
    }
}

/// Counts by a name, most first.
fn count<'r>(rows: &'r [Row], name: impl Fn(&'r Row) -> &'r str) -> Vec<Count> {
    let mut counts: BTreeMap<&str, Count> = BTreeMap::new();
    for row in rows {
        let count = counts.entry(name(row)).or_default();
        match row.verdict {
            "drift" => count.drift += 1,
            _ => count.unresolved += 1,
        }
        count.seconds = count.seconds.saturating_add(row.seconds);
    }
    let mut counts: Vec<_> = counts
        .into_iter()
        .map(|(name, count)| Count {
            name: name.to_owned(),
            ..count
        })
        .collect();
    counts.sort_by_key(|it| std::cmp::Reverse(it.containers()));
    counts
}
