//! From what is known to a verdict: pure, the same for first sight, late answers and changed policies.

use crate::facts::{Content, Facts, Kind, Source};
use crate::verdict::{Reason, Route, Verdict};
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

/// How sure the agent is of the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Confidence {
    /// The reference that was asked for, by whoever was asked, and one that the image's digest goes by.
    High,
    /// Names of the image's digest that all lead to the same verdict.
    Medium,
    /// Nobody's word but the container's own, or none.
    Low,
}

impl Confidence {
    /// The confidence as findings spell it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::High => "high",
            Self::Medium => "medium",
            Self::Low => "low",
        }
    }
}

/// A name that the image may go by, and who says so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Name {
    /// The reference.
    pub name: String,
    /// Who says so.
    pub source: &'static str,
}

/// What the agent makes of one start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judgement {
    /// What the policy makes of it.
    pub verdict: Verdict,
    /// The way on which it came to run.
    pub route: Route,
    /// Why.
    pub reason: Reason,
    /// The policy that decided, unless none applies.
    pub policy: Option<String>,
    /// Rule of the policy that decided.
    pub rule: Option<String>,
    /// The image, as far as it is known.
    pub image: Option<String>,
    /// All names that were considered, the telling ones first.
    pub names: Vec<Name>,
    /// What should run instead, or the image itself.
    pub expected_image: Option<String>,
    /// How sure the agent is of the image.
    pub confidence: Confidence,
}

/// By what a start is judged.
#[derive(Debug, Clone)]
pub struct Law {
    /// The policies in force.
    pub policies: Arc<Policies>,
    /// Those that were in force before, newest first.
    pub past: Vec<Arc<Policies>>,
    /// Labels of the cluster's namespaces.
    pub namespaces: Namespaces,
}

impl Law {
    /// The policies in force, and nothing before them or around them.
    pub fn new(policies: Arc<Policies>) -> Self {
        Self {
            policies,
            past: Vec::new(),
            namespaces: Namespaces::unknown(),
        }
    }
}

/// Judges a start by the policies in force. `today` is in UTC.
pub fn judge(facts: &Facts, law: &Law, today: Date) -> Judgement {
    let route = route::route(facts);
    let names = names::names(facts);
    let judged = names.judged();
    let owner = Owner::of(facts, law);
    let decide = |scope| {
        let asked = Asked {
            scope,
            container: facts.container_name(),
            today,
        };
        let selected = asked.select(&law.policies);
        let decisions = judged.iter().map(|name| selected.decide(&name.name));
        let decisions: Vec<_> = decisions.collect();
        (asked, selected, decisions)
    };
    let (mut asked, mut selected, mut decisions) = decide(owner.scope());
    // Whoever calls the CRI can put a container into the sandbox of a Pod that is exempt.
    let is_exempt = decisions.iter().all(|decision| !decision.in_scope);
    if is_exempt && !names::is_the_pods(facts) {
        (asked, selected, decisions) = decide(Scope::Node);
    }
    let case = Case {
        facts,
        law,
        route,
        asked,
        selected: selected.clone(),
        confidence: names.confidence,
    };
    let (verdict, reason) = case.verdict(judged, &decisions);
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
        policy: selected.policy().map(Policy::name).map(str::to_owned),
        rule: first.and_then(|decision| decision.rule).map(str::to_owned),
        image: judged.first().map(|name| name.name.clone()),
        expected_image,
        confidence: names.confidence,
        names: names.all,
    }
}

/// For whom a policy is asked.
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

/// Everything that a verdict rests on, but for the names and what the policy says of them.
struct Case<'a> {
    facts: &'a Facts,
    law: &'a Law,
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
        let is_unknown = |it: &Decision<'_>| it.reason == imageswap_policy::Reason::ScopeUnknown;
        if decisions.iter().any(is_unknown) {
            return (Verdict::Unresolved, Reason::ScopeUnknown);
        }
        if decisions.iter().all(|decision| !decision.in_scope) {
            return (Verdict::Exempt, Reason::OutOfScope);
        }
        // Names that would run as they are and names that would not: nobody can tell which one was asked for.
        if decisions
            .iter()
            .any(|decision| decision.is_drift() != first.is_drift())
        {
            return (Verdict::Unresolved, Reason::Ambiguous);
        }
        if first.is_drift() {
            // Anyone can set containerd's label; whether it is a sandbox only the CRI can tell.
            if sandbox(facts).is_some() {
                return (Verdict::Unresolved, Reason::RuntimeUnreachable);
            }
            let image = names.first().map_or("", |name| &name.name);
            return (Verdict::Drift, admission::why(self, image, first));
        }
        // Whoever makes a bundle writes its annotations: they may accuse, never approve.
        if self.confidence == Confidence::Low {
            return (Verdict::Unresolved, why_unresolved(facts));
        }
        if facts.content() == Content::Another {
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

    /// The image of a sandbox is the node's configuration, if it is what that names.
    fn sandbox(&self) -> (Verdict, Reason) {
        if self.facts.content() == Content::Another {
            (Verdict::Unresolved, why_another(self.facts))
        } else if origin::is_own(self.facts, &self.selected) {
            (Verdict::Exempt, Reason::Sandbox)
        } else {
            (Verdict::Drift, Reason::Retagged)
        }
    }
}

/// The pod for which a container is judged.
struct Owner<'a> {
    namespace: Option<&'a str>,
    labels: Option<&'a BTreeMap<String, String>>,
    namespace_labels: Option<Arc<BTreeMap<String, String>>>,
}

impl<'a> Owner<'a> {
    /// The pod as the API server has it; where nobody asked the API server, as the runtime has it. A pod that the API
    /// server does not know is none: anyone who may call the runtime can name one.
    fn of(facts: &'a Facts, law: &Law) -> Self {
        let (namespace, labels) = match (facts.owner(), &facts.pod) {
            (Some(pod), _) => (Some(&*pod.namespace), Some(&pod.labels)),
            (None, Some(_)) => (None, None),
            (None, None) => {
                let cri = facts.claims.get(&Source::Cri);
                let pod = cri.and_then(|claim| claim.pod.as_ref());
                let labels = cri.and_then(|claim| claim.labels.as_ref());
                (pod.map(|pod| &*pod.namespace), pod.and(labels))
            }
        };
        Self {
            namespace,
            labels,
            namespace_labels: namespace.and_then(|name| law.namespaces.labels(name)),
        }
    }

    fn scope(&self) -> Scope<'_> {
        if self.namespace.is_none() {
            return Scope::Node;
        }
        Scope::Pod(PodScope {
            namespace: self.namespace,
            namespace_labels: self.namespace_labels.as_deref(),
            labels: self.labels,
        })
    }
}

/// Who says that the container is a pod's sandbox; an annotation in a bundle does not.
fn sandbox(facts: &Facts) -> Option<Source> {
    let claim = facts.trusted().find(|claim| claim.kind.is_some())?;
    (claim.kind == Some(Kind::Sandbox)).then_some(claim.source)
}

/// Why an image is not known that a source named: it is not what runs.
fn why_another(facts: &Facts) -> Reason {
    let silent = facts.settled.as_ref();
    let silent = silent.is_some_and(|settled| !settled.unreachable.is_empty());
    // A name that stands for nothing any more.
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
        // It runs, every runtime that answered does not know its image, and no pod tells.
        Reason::NotAdmitted
    }
}

#[cfg(test)]
mod tests;
