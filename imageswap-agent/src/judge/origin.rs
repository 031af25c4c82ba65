//! Where the content of an image came from, independent of its present name.
//!
//! containerd labels pulled content with the registry and repository of the requested reference. A
//! retagged image keeps the labels of its old name; a built or imported image has none. Docker
//! keeps the digest under which an image was pulled from a repository as long as the image has a
//! name there, and the repositories of each layer forever.

use super::{Name, names};
use crate::claim::Claim;
use crate::claim::ContentSource;
use crate::facts::Facts;
use imageswap_policy::{Reason, Reference, Selected};
use std::collections::BTreeSet;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// Pulled under its present name, or under another approved one.
    Fitting,
    /// Pulled, but only under names that the policy does not approve.
    Elsewhere,
    /// Pulled under another name, about which the policy's answer is unknown.
    Undecided,
    /// Pulled from one of several places, which the policy judges differently.
    Ambiguous,
    /// Never pulled.
    Nowhere,
    /// Not recorded.
    Unknown,
}

/// Compares an image's approved names with the sources of its content.
pub(super) fn origin(facts: &Facts, names: &[Name], selected: &Selected<'_>) -> Origin {
    let Some(claim) = claim(facts) else {
        return Origin::Unknown;
    };
    let sources = claim.pulled_from.as_deref().unwrap_or_default();
    if sources.is_empty() {
        return Origin::Nowhere;
    }
    let known = names::names_of_digest(facts);
    let known = names.iter().chain(&known);
    let repositories: BTreeSet<String> = known.filter_map(|name| repository(&name.name)).collect();
    let judged: Vec<String> = names
        .iter()
        .filter_map(|name| repository(&name.name))
        .collect();
    let of = |source| of_source(source, &repositories, &judged, selected);
    let of_sources: Vec<_> = sources.iter().map(of).collect();
    if of_sources.contains(&Origin::Fitting) {
        // Anybody can build an image on an approved one, without a layer of its own.
        return if claim.only_layers {
            Origin::Nowhere
        } else {
            Origin::Fitting
        };
    }
    for unclear in [Origin::Undecided, Origin::Ambiguous] {
        if of_sources.contains(&unclear) {
            return unclear;
        }
    }
    Origin::Elsewhere
}

/// The origin by one source, given all names of the image. containerd does not record ports: the
/// content may come from any matching repository.
fn of_source(
    source: &ContentSource,
    known: &BTreeSet<String>,
    judged: &[String],
    selected: &Selected<'_>,
) -> Origin {
    let mut repositories: BTreeSet<_> = known
        .iter()
        .filter(|it| source.can_be(it))
        .cloned()
        .collect();
    if repositories.is_empty() {
        repositories.insert(source.name());
        let hosts = known.iter().filter_map(|it| it.split_once('/'));
        let hosts = hosts
            .map(|(host, _)| host)
            .filter(|host| source.is_at(host));
        repositories.extend(hosts.map(|host| format!("{host}/{}", source.repository)));
    }
    let is_unknown =
        |it: &String| !judged.contains(it) && selected.decide(it).reason == Reason::ScopeUnknown;
    if repositories.iter().any(is_unknown) {
        return Origin::Undecided;
    }
    let fits = |it: &String| judged.contains(it) || !selected.decide(it).is_drift();
    match repositories.iter().filter(|it| fits(it)).count() {
        0 => Origin::Elsewhere,
        all if all == repositories.len() => Origin::Fitting,
        _ => Origin::Ambiguous,
    }
}

/// Whether the content of an exempt container is that of one of these names, if that is recorded: pulled
/// under it or under an approved name, or never pulled.
pub(super) fn is_of(facts: &Facts, names: &[String], approves: impl Fn(&str) -> bool) -> bool {
    let sources = claim(facts).and_then(|claim| claim.pulled_from.as_deref());
    let names: Vec<String> = names.iter().filter_map(|name| repository(name)).collect();
    let is_its = |source: &ContentSource| {
        names.iter().any(|name| source.can_be(name)) || approves(&source.name())
    };
    sources.is_none_or(|sources| sources.is_empty() || sources.iter().any(is_its))
}

fn repository(name: &str) -> Option<String> {
    Some(Reference::parse(name).ok()?.canonical_name())
}

/// The expected image for one that was pulled elsewhere.
pub(super) fn expected(facts: &Facts, selected: &Selected<'_>) -> Option<String> {
    let source = claim(facts)?.pulled_from.as_ref()?.first()?.name();
    let decision = selected.decide(&source);
    decision.in_scope.then(|| decision.result.into_owned())
}

/// The most trusted claim that records where the content came from.
fn claim(facts: &Facts) -> Option<&Claim> {
    facts.of_image().find(|claim| claim.pulled_from.is_some())
}
