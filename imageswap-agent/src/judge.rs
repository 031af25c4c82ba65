//! Judges the facts about a start: pure, and the same for first sight, late answers and changed
//! policies.

use crate::claim::{Claim, Kind, Source};
use crate::facts::Facts;
use crate::verdict::{Reason, Route, Verdict};
use crate::words::words;
use imageswap_policy::{Date, Decision, PodScope, Policies, Policy, Scope, Selected};
use imageswap_runtime::source::Namespaces;
use schemars::JsonSchema;
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Arc;

mod admission;
mod names;
mod origin;
mod route;

words! {
    /// How sure the agent is of the image.
    pub enum Confidence {
        /// The reference that was asked for, which is also a name of the image's digest.
        High = "high",
        /// Names of the image's digest with the same verdict.
        Medium = "medium",
        /// A user's own record, an annotation of the container, or nothing.
        Low = "low",
    }
}

/// A possible name of the image, with its source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Name {
    /// The reference.
    pub name: String,
    /// The source of the name.
    pub source: &'static str,
}

/// The judgement about one start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judgement {
    /// The policy's verdict.
    pub verdict: Verdict,
    /// How the container was started.
    pub route: Route,
    /// Why.
    pub reason: Reason,
    /// The policy that decided; `None` if no policy applies, or if it is not known which one does.
    pub policy: Option<PolicyVersion>,
    /// Rule of the policy that decided.
    pub rule: Option<String>,
    /// The image, if known.
    pub image: Option<String>,
    /// All names that were considered, the deciding ones first.
    pub names: Vec<Name>,
    /// What should run instead, or the image itself.
    pub expected_image: Option<String>,
    /// How sure the agent is of the image.
    pub confidence: Confidence,
}

/// The version of a policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyVersion {
    /// Name of the policy.
    pub name: String,
    /// Revision of this policy, not of the set.
    pub revision: String,
}

impl From<&Policy> for PolicyVersion {
    fn from(policy: &Policy) -> Self {
        Self {
            name: policy.name().to_owned(),
            revision: policy.revision().to_owned(),
        }
    }
}

/// The context that a start is judged in.
#[derive(Debug, Clone)]
pub struct Criteria {
    /// The policies in force.
    pub policies: Arc<Policies>,
    /// The policies that were in force before, newest first.
    pub past: Vec<Arc<Policies>>,
    /// Labels of the cluster's namespaces.
    pub namespaces: Namespaces,
}

impl Criteria {
    /// The policies in force, without earlier ones and without labels.
    pub fn new(policies: Arc<Policies>) -> Self {
        Self {
            policies,
            past: Vec::new(),
            namespaces: Namespaces::unknown(),
        }
    }
}

/// Judges a start by the policies in force. `today` is in UTC.
pub fn judge(facts: &Facts, criteria: &Criteria, today: Date) -> Judgement {
    let route = route::route(facts);
    let names = names::names(facts);
    let judged = names.judged();
    let owner = Owner::of(facts, criteria);
    let others = Owner::others(facts, criteria);
    let decide = |scope| {
        let asked = Asked {
            scope,
            container: facts.container_name(),
            today,
        };
        let selected = asked.select(&criteria.policies);
        let decisions = judged.iter().map(|name| selected.decide(&name.name));
        let decisions: Vec<_> = decisions.collect();
        (asked, selected, decisions)
    };
    let (mut asked, mut selected, mut decisions) = decide(owner.scope());
    // A client of the CRI can put a container into the sandbox of an exempt Pod.
    let is_exempt = decisions.iter().all(|decision| !decision.in_scope);
    if is_exempt && !names::is_the_pods(facts) {
        (asked, selected, decisions) = decide(Scope::Node);
    }
    // Without the API server's answer, clients of the runtime choose the Pod and so the policy, and the
    // author of a Pod can keep the runtime from naming it. That must not make the answer milder.
    let is_refused = |it: &Decision<'_>| it.in_scope && it.is_drift();
    let may_be_refused = |it: &Decision<'_>| is_refused(it) || is_undecided(it);
    let is_scope_unknown = !decisions.iter().any(is_refused)
        && others
            .iter()
            .any(|other| decide(other.scope()).2.iter().any(may_be_refused));
    let case = Case {
        facts,
        criteria,
        route,
        asked,
        selected: selected.clone(),
        confidence: names.confidence,
    };
    let (verdict, reason) = match case.verdict(judged, &decisions) {
        (Verdict::Exempt, Reason::Sandbox) => (Verdict::Exempt, Reason::Sandbox),
        (Verdict::Approved | Verdict::Exempt, _) if is_scope_unknown => {
            (Verdict::Unresolved, Reason::ScopeUnknown)
        }
        (Verdict::Approved, _)
            if names::other_in_spec(facts).is_some_and(|it| is_refused(&selected.decide(it))) =>
        {
            (Verdict::Unresolved, Reason::Ambiguous)
        }
        // An unread name is never approval.
        (Verdict::Approved, _) if facts.trusted().any(|claim| claim.names_left_out) => {
            (Verdict::Unresolved, Reason::Ambiguous)
        }
        other => other,
    };
    let first = decisions.first();
    let expected_image = if reason == Reason::Retagged {
        origin::expected(facts, &selected)
    } else {
        first.map(|decision| decision.result.clone().into_owned())
    };
    Judgement {
        verdict,
        route,
        reason,
        policy: selected.policy().map(PolicyVersion::from),
        rule: first.and_then(|decision| decision.rule).map(str::to_owned),
        image: judged.first().map(|name| name.name.clone()),
        expected_image,
        confidence: names.confidence,
        names: names.all,
    }
}

/// The subject of a policy decision.
#[derive(Debug, Clone, Copy)]
struct Asked<'a> {
    scope: Scope<'a>,
    container: Option<&'a str>,
    today: Date,
}

impl<'a> Asked<'a> {
    /// The policy of `policies` that decides.
    fn select(&self, policies: &'a Policies) -> Selected<'a> {
        let selected = policies.select(self.scope, self.today);
        match self.container {
            Some(name) if matches!(self.scope, Scope::Pod(_)) => selected.in_container(Some(name)),
            _ => selected,
        }
    }
}

/// The inputs of a verdict, except the names and the policy's decisions about them.
struct Case<'a> {
    facts: &'a Facts,
    criteria: &'a Criteria,
    route: Route,
    asked: Asked<'a>,
    selected: Selected<'a>,
    confidence: Confidence,
}

impl Case<'_> {
    fn verdict(&self, names: &[Name], decisions: &[Decision<'_>]) -> (Verdict, Reason) {
        let facts = self.facts;
        if sandbox(facts) == Some(Source::Cri) {
            return self.sandbox();
        }
        let Some(first) = decisions.first() else {
            return (Verdict::Unresolved, why_unresolved(facts));
        };
        if decisions.iter().any(is_undecided) {
            return (Verdict::Unresolved, Reason::ScopeUnknown);
        }
        if decisions.iter().all(|decision| !decision.in_scope) {
            return self.out_of_scope();
        }
        // The policy would leave some names and change others: it is unknown which one was asked
        // for. Drift is certain only if the approved names were given to content from elsewhere.
        if decisions
            .iter()
            .any(|decision| decision.is_drift() != first.is_drift())
        {
            let both = names.iter().zip(decisions);
            let approved = both.filter(|(_, decision)| !decision.is_drift());
            let approved: Vec<_> = approved.map(|(name, _)| name.clone()).collect();
            return match origin::origin(facts, &approved, &self.selected) {
                origin::Origin::Elsewhere => (Verdict::Drift, Reason::Retagged),
                _ => (Verdict::Unresolved, Reason::Ambiguous),
            };
        }
        if first.is_drift() {
            // Anyone can set containerd's label; only the CRI knows whether it is a sandbox.
            if sandbox(facts).is_some() {
                return (Verdict::Unresolved, Reason::RuntimeUnreachable);
            }
            let image = names.first().map_or("", |name| &name.name);
            return (Verdict::Drift, admission::why(self, image, first));
        }
        // The maker of a bundle writes its annotations: they may show drift, but never approve.
        if self.confidence == Confidence::Low {
            let by_user = facts.claims.contains_key(&Source::User);
            let reason = if by_user {
                Reason::Unverified
            } else {
                why_unresolved(facts)
            };
            return (Verdict::Unresolved, reason);
        }
        if facts.content().is_another() {
            return (Verdict::Unresolved, why_another(facts));
        }
        match origin::origin(facts, names, &self.selected) {
            origin::Origin::Elsewhere => (Verdict::Drift, Reason::Retagged),
            origin::Origin::Undecided => (Verdict::Unresolved, Reason::ScopeUnknown),
            origin::Origin::Ambiguous => (Verdict::Unresolved, Reason::Ambiguous),
            origin::Origin::Nowhere => (Verdict::Approved, Reason::SideLoaded),
            origin::Origin::Fitting | origin::Origin::Unknown => (Verdict::Approved, Reason::Ok),
        }
    }

    /// The image of a sandbox is the node's configuration, if the content matches the name.
    fn sandbox(&self) -> (Verdict, Reason) {
        if self.facts.is_again() {
            return (Verdict::Unresolved, why_another(self.facts));
        }
        // Further claims have any name of the digest.
        let name = self.facts.trusted().find_map(|claim| claim.image.clone());
        self.exempt(name.as_slice(), Reason::Sandbox)
    }

    /// No policy applies on the node, or none in the container's Pod: then the container has to run the
    /// image of the Pod.
    fn out_of_scope(&self) -> (Verdict, Reason) {
        if matches!(self.asked.scope, Scope::Node) {
            return (Verdict::Exempt, Reason::OutOfScope);
        }
        match names::in_spec_of_exempt(self.facts) {
            // The specification has changed since.
            Some((_, false)) => (Verdict::Unresolved, Reason::Ambiguous),
            Some((image, true)) => self.exempt(&[image.to_owned()], Reason::OutOfScope),
            None => {
                let names = names::names_of_digest(self.facts);
                let names: Vec<_> = names.into_iter().map(|name| name.name).collect();
                self.exempt(&names, Reason::OutOfScope)
            }
        }
    }

    /// Exempt if what runs is the content of an image that was pulled under one of these names, as for an
    /// approval.
    fn exempt(&self, names: &[String], reason: Reason) -> (Verdict, Reason) {
        if self.facts.content().is_another() {
            return (Verdict::Unresolved, why_another(self.facts));
        }
        let node = Asked {
            scope: Scope::Node,
            ..self.asked
        };
        let node = node.select(&self.criteria.policies);
        let approves = |source: &str| {
            let own = self.selected.decide(source);
            own.in_scope && !own.is_drift() || !node.decide(source).is_drift()
        };
        if origin::is_of(self.facts, names, approves) {
            (Verdict::Exempt, reason)
        } else {
            (Verdict::Drift, Reason::Retagged)
        }
    }
}

/// Whom a container is judged for.
enum Owner<'a> {
    Node,
    Pod {
        /// Its namespace, if known.
        namespace: Option<&'a str>,
        labels: Option<&'a BTreeMap<String, String>>,
        namespace_labels: Option<Arc<BTreeMap<String, String>>>,
    },
}

impl<'a> Owner<'a> {
    /// The pod from the API server or, without an API server, from the runtime. A pod that the API
    /// server does not know does not count: any client of the runtime can name one.
    fn of(facts: &'a Facts, criteria: &Criteria) -> Self {
        let cri = facts.claims.get(&Source::Cri);
        match (facts.owner(), &facts.pod, cri) {
            (Some(pod), ..) => Self::pod(&pod.namespace, pod.labels.as_ref(), criteria),
            (None, None, Some(cri)) => Self::named(cri, criteria).unwrap_or(Self::Node),
            (None, ..) => Self::Node,
        }
    }

    /// Whose it may be instead, unless the API server confirms whose it is: the node's, or that of the Pod
    /// that a runtime names. It may be any Pod's if the CRI made it and does not name the Pod, or if the
    /// runtime that made it did not answer.
    fn others(facts: &'a Facts, criteria: &Criteria) -> Vec<Self> {
        if facts.owner().is_some() {
            return Vec::new();
        }
        let of_runtime = match facts.claims.get(&Source::Cri) {
            Some(cri) if cri.pod.is_some() => Self::named(cri, criteria),
            _ if facts.trusted().any(|claim| claim.through_cri) || is_unasked(facts) => {
                Some(Self::Pod {
                    namespace: None,
                    labels: None,
                    namespace_labels: None,
                })
            }
            _ => facts.first(|claim| Self::named(claim, criteria)),
        };
        of_runtime.into_iter().chain([Self::Node]).collect()
    }

    fn named(claim: &'a Claim, criteria: &Criteria) -> Option<Self> {
        let pod = claim.pod.as_ref()?;
        Some(Self::pod(&pod.namespace, claim.labels.as_deref(), criteria))
    }

    fn pod(
        namespace: &'a str,
        labels: Option<&'a BTreeMap<String, String>>,
        criteria: &Criteria,
    ) -> Self {
        Self::Pod {
            namespace: Some(namespace),
            labels,
            namespace_labels: criteria.namespaces.labels(namespace),
        }
    }

    fn scope(&self) -> Scope<'_> {
        match self {
            Self::Node => Scope::Node,
            Self::Pod {
                namespace,
                labels,
                namespace_labels,
            } => Scope::Pod(PodScope {
                namespace: *namespace,
                namespace_labels: namespace_labels.as_deref(),
                labels: labels.map(|it| it as _),
            }),
        }
    }
}

/// Whether a source that did not answer may be the one that made the container.
fn is_unasked(facts: &Facts) -> bool {
    let makers = [
        Source::User,
        Source::Cri,
        Source::Containerd,
        Source::Docker,
        Source::Podman,
    ];
    let is_made = makers
        .iter()
        .any(|source| facts.claims.contains_key(source));
    let settled = facts.settled.as_ref();
    !is_made && settled.is_some_and(|settled| !settled.unreachable.is_empty())
}

/// Whether the policy's answer depends on something that is not known.
fn is_undecided(decision: &Decision<'_>) -> bool {
    decision.reason == imageswap_policy::Reason::ScopeUnknown
}

/// The source that reports a pod's sandbox; an annotation in a bundle does not count.
fn sandbox(facts: &Facts) -> Option<Source> {
    let claim = facts.trusted().find(|claim| claim.kind.is_some())?;
    (claim.kind == Some(Kind::Sandbox)).then_some(claim.source)
}

/// Why the image is unknown although a source named it: the content does not match.
fn why_another(facts: &Facts) -> Reason {
    let silent = facts.settled.as_ref();
    let silent = silent.is_some_and(|settled| !settled.unreachable.is_empty());
    // A name that no longer refers to anything.
    if silent || facts.trusted().all(|claim| claim.digest.is_none()) {
        why_unresolved(facts)
    } else {
        Reason::Ambiguous
    }
}

fn why_unresolved(facts: &Facts) -> Reason {
    let settled = facts.settled.as_ref();
    if facts.identity.nested {
        Reason::Nested
    } else if settled.is_some_and(|settled| !settled.unreachable.is_empty()) {
        Reason::RuntimeUnreachable
    } else if facts.removed {
        Reason::Gone
    } else {
        // It runs, no runtime that answered knows its image, and no pod names it.
        Reason::NotAdmitted
    }
}

#[cfg(test)]
mod tests;
