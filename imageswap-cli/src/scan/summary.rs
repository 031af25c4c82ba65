//! Counts of images by verdict, in total and by registry.

use super::census::{Census, Verdict};
use crate::verdict::VerdictArgs;
use serde::Serialize;
use std::collections::BTreeMap;

/// Shown instead of a registry for texts that are not image references.
const NO_REGISTRY: &str = "(none)";

/// The counts of a scan. An image counts once for each container of a workload, however many Pods
/// it has.
#[derive(Debug, Serialize)]
pub(super) struct Summary {
    pub(super) images: usize,
    pub(super) workloads: usize,
    /// Number of judged Pods.
    pub(super) pods: usize,
    /// Number of finished Pods.
    pub(super) finished_pods: usize,
    /// Number of images that cause exit code 1.
    pub(super) findings: usize,
    /// Number of images that would be swapped, whatever the enforcement is.
    pub(super) swapped: usize,
    /// Number of images that are not approved, whatever the enforcement is.
    pub(super) not_approved: usize,
    pub(super) verdicts: Counts,
    /// By the image's present registry.
    pub(super) registries: BTreeMap<String, Counts>,
}

/// Number of images by verdict; verdicts that did not occur are missing.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub(super) struct Counts(BTreeMap<Verdict, usize>);

impl Summary {
    pub(super) fn of(census: &Census<'_>, verdict: &VerdictArgs) -> Self {
        let mut summary = Self {
            images: 0,
            workloads: census.workloads(),
            pods: census.pods(),
            finished_pods: census.finished(),
            findings: 0,
            swapped: 0,
            not_approved: 0,
            verdicts: Counts::default(),
            registries: BTreeMap::new(),
        };
        for (key, _) in census.rows() {
            summary.images += 1;
            summary.findings += usize::from(key.is_finding(verdict));
            summary.swapped += usize::from(key.swapped() && !key.unapproved());
            summary.not_approved += usize::from(key.unapproved());
            summary.verdicts.add(key.verdict);
            let registry = key.registry().unwrap_or(NO_REGISTRY).to_owned();
            summary
                .registries
                .entry(registry)
                .or_default()
                .add(key.verdict);
        }
        summary
    }
}

impl Counts {
    /// Number of images with one of these verdicts.
    pub(super) fn of(&self, verdicts: &[Verdict]) -> usize {
        verdicts.iter().filter_map(|it| self.0.get(it)).sum()
    }

    pub(super) fn all(&self) -> usize {
        self.0.values().sum()
    }

    /// `3 swap, 1 refuse`: those that occurred.
    pub(super) fn words(&self) -> String {
        let words = self.0.iter();
        let words = words.map(|(verdict, count)| format!("{count} {}", verdict.words()));
        words.collect::<Vec<_>>().join(", ")
    }

    fn add(&mut self, verdict: Verdict) {
        *self.0.entry(verdict).or_default() += 1;
    }
}
