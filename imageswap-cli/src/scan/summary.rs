//! How many images there are of each verdict, in all and by registry.

use super::census::{Census, Verdict};
use serde::Serialize;
use std::collections::BTreeMap;

/// What stands for the registry of what is no image reference.
const NO_REGISTRY: &str = "(none)";

/// The counts of a scan. An image counts once for each container of a workload that has it, however many its Pods are.
#[derive(Debug, Serialize)]
pub(super) struct Summary {
    pub(super) images: usize,
    pub(super) workloads: usize,
    /// Pods that were judged.
    pub(super) pods: usize,
    /// Pods that have ended, and were not.
    pub(super) finished_pods: usize,
    /// Images for which the exit code is 1.
    pub(super) findings: usize,
    pub(super) verdicts: Counts,
    /// By the registry that the image comes from now.
    pub(super) registries: BTreeMap<String, Counts>,
}

/// Images by verdict; one that did not occur is not there.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub(super) struct Counts(BTreeMap<Verdict, usize>);

impl Summary {
    pub(super) fn of(census: &Census<'_>, deny_swaps: bool) -> Self {
        let mut summary = Self {
            images: 0,
            workloads: census.workloads(),
            pods: census.pods(),
            finished_pods: census.finished(),
            findings: 0,
            verdicts: Counts::default(),
            registries: BTreeMap::new(),
        };
        for (key, _) in census.rows() {
            summary.images += 1;
            summary.findings += usize::from(key.is_finding(deny_swaps));
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
    /// How many images have one of these verdicts.
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
