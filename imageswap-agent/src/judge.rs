//! From what is known to a verdict: pure, the same for first sight, late answers and changed policies.

use crate::container::RuntimeHint;
use crate::facts::{Claim, Facts, Kind, Naming, Source};
use crate::verdict::{Reason, Route, Verdict};
use imageswap_policy::{Date, Decision, PodScope, Policies, Policy, Reference, Scope};
use serde::Serialize;
use std::collections::BTreeSet;

/// How sure the agent is of the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Confidence {
    /// The reference that was asked for, from the runtime that was asked.
    High,
    /// Names of the image's digest that all lead to the same verdict.
    Medium,
    /// Nobody's word but the container's own, or none.
    Low,
}

/// A name that the image may go by, and who says so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
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
    /// All names that were considered.
    pub names: Vec<Name>,
    /// What should run instead, or the image itself.
    pub expected_image: Option<String>,
    /// How sure the agent is of the image.
    pub confidence: Confidence,
}

/// Judges a start by the policies in force. `today` is in UTC.
pub fn judge(facts: &Facts, policies: &Policies, today: Date) -> Judgement {
    let route = route(facts);
    let names = names(facts);
    let image = names.names.first().map(|name| name.name.clone());
    let selected = policies.select(scope(facts), today);
    let decisions: Vec<_> = names
        .names
        .iter()
        .map(|name| selected.decide(&name.name))
        .collect();
    let (verdict, reason) = verdict(facts, route, names.confidence, &decisions);
    let first = decisions.first();
    Judgement {
        verdict,
        route,
        reason,
        policy: selected.policy().map(Policy::name).map(str::to_owned),
        rule: first.and_then(|decision| decision.rule).map(str::to_owned),
        image,
        expected_image: first.map(|decision| decision.result.clone().into_owned()),
        confidence: names.confidence,
        names: names.names.clone(),
    }
}

fn verdict(
    facts: &Facts,
    route: Route,
    confidence: Confidence,
    decisions: &[Decision<'_>],
) -> (Verdict, Reason) {
    if is_sandbox(facts) {
        return (Verdict::Exempt, Reason::Sandbox);
    }
    let Some(first) = decisions.first() else {
        return (Verdict::Unresolved, why_unresolved(facts));
    };
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
        let admitted = route == Route::Pod;
        return (
            Verdict::Drift,
            if admitted {
                Reason::WebhookSkipped
            } else {
                Reason::NotAdmitted
            },
        );
    }
    // Whoever makes a bundle writes its annotations: they may accuse, never approve.
    if confidence == Confidence::Low {
        return (Verdict::Unresolved, why_unresolved(facts));
    }
    (Verdict::Approved, Reason::Ok)
}

/// Only the runtime's own record makes a sandbox; an annotation in a bundle does not.
fn is_sandbox(facts: &Facts) -> bool {
    facts.first(|claim| claim.kind.filter(|_| claim.source != Source::Bundle))
        == Some(Kind::Sandbox)
}

fn why_unresolved(facts: &Facts) -> Reason {
    if facts.identity.nested {
        Reason::Nested
    } else if facts
        .settled
        .as_ref()
        .is_some_and(|unreachable| !unreachable.is_empty())
    {
        Reason::RuntimeUnreachable
    } else if facts.removed {
        Reason::Gone
    } else {
        // It runs, every runtime that answered does not know it, and no pod owns it.
        Reason::NotAdmitted
    }
}

fn route(facts: &Facts) -> Route {
    let through_cri = facts.first(|claim| match claim.source {
        Source::Cri => Some(true),
        Source::Containerd => Some(claim.through_cri),
        Source::Runc | Source::Bundle => None,
    });
    let in_pod = facts.identity.pod_uid.is_some();
    match (through_cri, facts.identity.runtime) {
        // Docker keeps its containers in a containerd too.
        (Some(false), RuntimeHint::Docker) if !in_pod => Route::Docker,
        // A record of containerd's that the CRI did not make is no pod's, in whatever cgroup it was put.
        (Some(false), _) => Route::Containerd,
        (_, _) if in_pod && facts.identity.static_pod => Route::StaticPod,
        (_, _) if in_pod => Route::Pod,
        (Some(true), _) | (None, RuntimeHint::CriO) => Route::Cri,
        (None, RuntimeHint::Docker) => Route::Docker,
        (None, RuntimeHint::Podman) => Route::Podman,
        (None, RuntimeHint::Nerdctl) => Route::Containerd,
        (None, _) => match facts.claims.get(&Source::Runc).map(|claim| claim.runtime) {
            Some("containerd") => Route::Containerd,
            Some(_) => Route::Runc,
            None => Route::Unknown,
        },
    }
}

fn scope(facts: &Facts) -> Scope<'_> {
    let of_runtime = |claim: &'_ Claim| claim.source != Source::Bundle;
    match facts.first(|claim| claim.pod.as_ref().filter(|_| of_runtime(claim))) {
        Some(pod) => Scope::Pod(PodScope {
            namespace: Some(&pod.namespace),
            namespace_labels: None,
            labels: facts.first(|claim| claim.labels.as_ref().filter(|_| of_runtime(claim))),
        }),
        None => Scope::Node,
    }
}

struct Names {
    names: Vec<Name>,
    confidence: Confidence,
}

/// The names to judge, most telling first: the one that was asked for, else all that the digest has.
fn names(facts: &Facts) -> Names {
    let by = |source: Source, name: &str| Name {
        name: name.to_owned(),
        source: source.as_str(),
    };
    let trusted = || {
        facts
            .claims
            .values()
            .filter(|claim| claim.source != Source::Bundle)
    };
    let asked = trusted().find_map(|claim| {
        Some((claim, claim.image.as_deref()?)).filter(|(claim, _)| claim.naming == Naming::AsAsked)
    });
    if let Some((claim, image)) = asked {
        return Names {
            names: vec![by(claim.source, image)],
            confidence: Confidence::High,
        };
    }
    let mut names: Vec<Name> = Vec::new();
    for claim in trusted() {
        for name in claim
            .image
            .iter()
            .chain(&claim.names)
            .filter(|name| is_name(name))
        {
            if !names.iter().any(|known| known.name == *name) {
                names.push(by(claim.source, name));
            }
        }
    }
    // `repo@digest` beside `repo:tag` is the runtime's own second name for the same thing.
    let tagged: BTreeSet<_> = names
        .iter()
        .filter_map(|name| repository_of_tag(&name.name))
        .collect();
    names.retain(|name| {
        Reference::parse(&name.name).is_ok_and(|reference| {
            reference.digest().is_none() || !tagged.contains(&reference.canonical_name())
        })
    });
    if !names.is_empty() {
        return Names {
            names,
            confidence: Confidence::Medium,
        };
    }
    let annotated = facts
        .claims
        .get(&Source::Bundle)
        .and_then(|claim| claim.image.as_deref())
        .filter(|image| is_name(image));
    let names = annotated
        .map(|image| by(Source::Bundle, image))
        .into_iter()
        .collect();
    Names {
        names,
        confidence: Confidence::Low,
    }
}

/// Whether this is a name at all and not the id of an image, which reads like a repository `sha256` with a tag.
fn is_name(text: &str) -> bool {
    !text.starts_with("sha256:") && Reference::parse(text).is_ok()
}

/// The repository of a name that has a tag and no digest.
fn repository_of_tag(name: &str) -> Option<String> {
    let reference = Reference::parse(name).ok()?;
    reference
        .digest()
        .is_none()
        .then(|| reference.canonical_name())
}

#[cfg(test)]
mod tests;
