//! The policy's decision about every image, aggregated: equal containers of a workload's Pods are
//! one row.

use super::objects::{Content, Named, Object};
use super::owners::{Owners, Workload};
use crate::scope::{Namespaces, Undecided};
use crate::verdict::{FailOn, VerdictArgs};
use imageswap_policy::document::Enforcement;
use imageswap_policy::manifest::List;
use imageswap_policy::{Date, Decision, Policies, Reason, Reference};
use serde::Serialize;
use std::collections::BTreeMap;
use strum::IntoStaticStr;

/// Admission's action on a container with this image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, IntoStaticStr)]
#[serde(rename_all = "kebab-case")]
#[strum(serialize_all = "kebab-case")]
pub(super) enum Verdict {
    /// Refuse it: not approved, under `enforcement: deny`.
    Refuse,
    /// Let it in with a warning: not approved, under `enforcement: warn`.
    Warn,
    /// Let it in and only log: not approved, or not swapped, under `enforcement: audit`.
    Audit,
    /// It is not an image reference; neither swapped nor approved.
    Invalid,
    /// Too little is known of the Pod to decide; admission asks the API server.
    Unknown,
    /// Replace it by an approved image.
    Swap,
    /// Leave it: an exception, or a label that opts out of the swap with the policy's permission.
    Exempt,
    /// Leave it: the policy approves it.
    Keep,
    /// Leave it: no policy applies to this Pod.
    OutOfScope,
}

/// One row: a container of a workload, with an image.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    pub(super) workload: Workload,
    /// Index of the list in a Pod, so that rows have the order of a Pod.
    list: usize,
    pub(super) container: String,
    pub(super) image: String,
    pub(super) verdict: Verdict,
    pub(super) result: String,
    pub(super) approved: bool,
    pub(super) reason: &'static str,
    pub(super) policy: Option<String>,
    pub(super) enforcement: Option<&'static str>,
    pub(super) rule: Option<String>,
    /// Further explanation of the verdict.
    pub(super) explanation: String,
}

/// Where a row was found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Seen {
    /// Pods that have it.
    pub(super) pods: usize,
    /// Whether the workload's template has it, and so its next Pods.
    pub(super) template: bool,
}

/// Everything read so far.
#[derive(Debug)]
pub(super) struct Census<'p> {
    policies: &'p Policies,
    today: Date,
    /// The enforcement that counts instead of the policies'.
    verdict: Option<&'p VerdictArgs>,
    namespaces: Namespaces<'p>,
    undecided: Undecided,
    rows: BTreeMap<Key, Seen>,
    /// Images of templates, by workload and container.
    templates: BTreeMap<(Workload, String), String>,
    /// Number of Pods per workload.
    workloads: BTreeMap<Workload, usize>,
    pods: usize,
    finished: usize,
}

impl<'p> Census<'p> {
    pub(super) fn new(policies: &'p Policies, namespaces: Namespaces<'p>, today: Date) -> Self {
        Self {
            policies,
            today,
            verdict: None,
            namespaces,
            undecided: Undecided::default(),
            rows: BTreeMap::new(),
            templates: BTreeMap::new(),
            workloads: BTreeMap::new(),
            pods: 0,
            finished: 0,
        }
    }

    /// Judges as these flags say.
    pub(super) fn judging(mut self, verdict: &'p VerdictArgs) -> Self {
        self.verdict = Some(verdict);
        self
    }

    /// Adds the labels of a namespace; must precede its Pods.
    pub(super) fn namespace(&mut self, namespace: &Object) {
        let name = namespace.metadata.name.clone();
        self.namespaces.extend([(name, namespace.labels())]);
    }

    /// Adds the template of a workload.
    pub(super) fn template(&mut self, workload: &Workload, content: Content<'_>) {
        for named in content.images() {
            self.templates.insert(
                (workload.clone(), named.container.to_owned()),
                named.image.to_owned(),
            );
            self.see(workload, content, named).template = true;
        }
        self.workloads.entry(workload.clone()).or_default();
    }

    /// Adds a Pod. A finished Pod is only counted.
    pub(super) fn pod(&mut self, owners: &Owners, pod: &Object) {
        if pod.is_finished() {
            self.finished += 1;
            return;
        }
        let Some(content) = pod.pod() else { return };
        let workload = owners.of_pod(pod);
        for named in content.images() {
            self.see(&workload, content, named).pods += 1;
        }
        *self.workloads.entry(workload).or_default() += 1;
        self.pods += 1;
    }

    /// The rows, ordered by namespace, workload and container.
    pub(super) fn rows(&self) -> impl Iterator<Item = (&Key, Seen)> {
        self.rows.iter().map(|(key, seen)| (key, *seen))
    }

    /// The template's image for a container, if it differs from the Pods'.
    pub(super) fn other_in_template(&self, key: &Key, seen: Seen) -> Option<&str> {
        if seen.template {
            return None;
        }
        let place = (key.workload.clone(), key.container.clone());
        self.templates.get(&place).map(String::as_str)
    }

    pub(super) fn workloads(&self) -> usize {
        self.workloads.len()
    }

    /// Number of Pods of a workload.
    pub(super) fn pods_of(&self, workload: &Workload) -> usize {
        self.workloads.get(workload).copied().unwrap_or_default()
    }

    /// What is missing to decide about some of the images.
    pub(super) fn undecided(&self) -> &Undecided {
        &self.undecided
    }

    /// Number of judged Pods.
    pub(super) fn pods(&self) -> usize {
        self.pods
    }

    /// Number of finished Pods, which are not judged.
    pub(super) fn finished(&self) -> usize {
        self.finished
    }

    fn see(&mut self, workload: &Workload, content: Content<'_>, named: Named<'_>) -> &mut Seen {
        let namespace = &workload.namespace;
        let selected =
            self.namespaces
                .select(self.policies, self.today, namespace, Some(content.labels()));
        let selected = selected.in_container(named.list.container(named.container));
        let policy = selected.policy();
        let decision = selected.decide(named.image);
        if decision.reason == Reason::ScopeUnknown {
            self.undecided.add(
                &selected,
                Some(namespace),
                Some("the right to read namespaces"),
            );
        }
        let list = List::ALL.iter().position(|it| *it == named.list);
        let effective = |own| self.verdict.map_or(own, |it| it.effective(own));
        let enforcement = effective(selected.enforcement());
        let swaps = match self.verdict {
            Some(verdict) if verdict.is_overridden() => enforcement != Enforcement::Audit,
            _ => selected.swaps(),
        };
        let key = Key {
            workload: workload.clone(),
            list: list.unwrap_or_default(),
            container: named.container.to_owned(),
            image: named.image.to_owned(),
            verdict: verdict(&decision, enforcement, swaps),
            result: decision.result.to_string(),
            approved: decision.approved,
            reason: decision.reason.as_str(),
            policy: policy.map(|it| it.name().to_owned()),
            enforcement: policy.map(|it| effective(it.enforcement()).as_str()),
            rule: decision.rule.map(str::to_owned),
            explanation: decision.explain(),
        };
        self.rows.entry(key).or_default()
    }
}

impl Key {
    pub(super) fn list(&self) -> List {
        List::ALL[self.list]
    }

    /// Whether another image would run.
    pub(super) fn swapped(&self) -> bool {
        self.reason == Reason::Swapped.as_str()
    }

    /// Whether it causes exit code 1, as in `check`.
    pub(super) fn is_finding(&self, verdict: &VerdictArgs) -> bool {
        let refused = matches!(
            self.verdict,
            Verdict::Refuse | Verdict::Invalid | Verdict::Unknown
        );
        let denied = verdict.fails(FailOn::Denied) || refused && verdict.fails(FailOn::Refused);
        self.in_scope()
            && (!self.approved && denied || self.swapped() && verdict.fails(FailOn::Swap))
    }

    /// Whether it is not approved, whatever the enforcement is.
    pub(super) fn unapproved(&self) -> bool {
        self.in_scope() && !self.approved
    }

    fn in_scope(&self) -> bool {
        self.verdict != Verdict::OutOfScope
    }

    /// The present registry of the image; `None` if it is not a reference.
    pub(super) fn registry(&self) -> Option<&str> {
        Reference::parse(&self.image).ok().map(|it| it.registry())
    }
}

impl Verdict {
    /// A sentence for people.
    pub(super) fn words(self) -> &'static str {
        match self {
            Self::OutOfScope => "out of scope",
            verdict => verdict.as_str(),
        }
    }

    /// The word in JSON.
    pub(super) fn as_str(self) -> &'static str {
        self.into()
    }
}

fn verdict(decision: &Decision<'_>, enforcement: Enforcement, swaps: bool) -> Verdict {
    let unapproved = || match enforcement {
        Enforcement::Deny => Verdict::Refuse,
        Enforcement::Warn => Verdict::Warn,
        Enforcement::Audit => Verdict::Audit,
    };
    match decision.reason {
        Reason::ScopeUnknown => Verdict::Unknown,
        _ if !decision.in_scope => Verdict::OutOfScope,
        Reason::Unparsable => Verdict::Invalid,
        _ if !decision.approved => unapproved(),
        Reason::Swapped if swaps => Verdict::Swap,
        Reason::Swapped => Verdict::Audit,
        Reason::Excepted | Reason::OptedOut => Verdict::Exempt,
        _ => Verdict::Keep,
    }
}

#[cfg(test)]
mod tests;
