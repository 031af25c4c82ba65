//! Where the content of an image came from, whatever it is called now.
//!
//! containerd labels what it pulls with the registry and repository of the reference that was asked for. An image that
//! was tagged anew keeps the labels of its old name; one that was built or imported has none. Docker keeps the digest
//! under which an image was pulled from a repository for as long as the image has a name there, and the repositories
//! of each layer for good.

use super::Name;
use crate::evidence::containerd::ContentSource;
use crate::facts::{Claim, Facts};
use imageswap_policy::{Reason, Reference, Selected};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// Pulled under the name that it goes by, or under another approved one.
    Fitting,
    /// Pulled, and only under names that the policy does not approve.
    Elsewhere,
    /// Pulled under another name, of which the policy's answer is not known.
    Undecided,
    /// Never pulled.
    Nowhere,
    /// Nobody keeps that.
    Unknown,
}

/// Compares an image's approved names with where its content was pulled from.
pub(super) fn origin(facts: &Facts, names: &[Name], selected: &Selected<'_>) -> Origin {
    let Some(claim) = claim(facts) else {
        return Origin::Unknown;
    };
    let sources = claim.pulled_from.as_deref().unwrap_or_default();
    if sources.is_empty() {
        return Origin::Nowhere;
    }
    let repositories: Vec<String> = names
        .iter()
        .filter_map(|name| Some(Reference::parse(&name.name).ok()?.canonical_name()))
        .collect();
    let fits = |source: &ContentSource| {
        let name = source.name();
        repositories.contains(&name) || !selected.decide(&name).is_drift()
    };
    let is_unknown =
        |source: &ContentSource| selected.decide(&source.name()).reason == Reason::ScopeUnknown;
    match sources.iter().any(fits) {
        // Anybody can build an image on an approved one, without a layer of its own.
        true if claim.only_layers => Origin::Nowhere,
        true => Origin::Fitting,
        false if sources.iter().any(is_unknown) => Origin::Undecided,
        false => Origin::Elsewhere,
    }
}

/// What should run instead of an image that was pulled elsewhere.
pub(super) fn expected(facts: &Facts, selected: &Selected<'_>) -> Option<String> {
    let source = claim(facts)?.pulled_from.as_ref()?.first()?.name();
    Some(selected.decide(&source).result.into_owned())
}

/// The most trusted claim that says where the content came from.
fn claim(facts: &Facts) -> Option<&Claim> {
    facts.trusted().find(|claim| claim.pulled_from.is_some())
}
