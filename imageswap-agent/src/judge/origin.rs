//! Where the content of an image came from, whatever it is called now.
//!
//! containerd labels what it pulls with the registry and repository of the reference that was asked for. An image that
//! was tagged anew keeps the labels of its old name; one that was built or imported has none.

use super::Name;
use crate::evidence::containerd::ContentSource;
use crate::facts::Facts;
use imageswap_policy::{Reference, Selected};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// Pulled under the name that it goes by, or under another approved one.
    Fitting,
    /// Pulled, and only under names that the policy does not approve.
    Elsewhere,
    /// Never pulled.
    Nowhere,
    /// Nobody keeps that.
    Unknown,
}

/// Compares an image's approved names with where its content was pulled from.
pub(super) fn origin(facts: &Facts, names: &[Name], selected: &Selected<'_>) -> Origin {
    let Some(sources) = pulled_from(facts) else {
        return Origin::Unknown;
    };
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
    if sources.iter().any(fits) {
        Origin::Fitting
    } else {
        Origin::Elsewhere
    }
}

/// What should run instead of an image that was pulled elsewhere.
pub(super) fn expected(facts: &Facts, selected: &Selected<'_>) -> Option<String> {
    let source = pulled_from(facts)?.first()?.name();
    Some(selected.decide(&source).result.into_owned())
}

fn pulled_from(facts: &Facts) -> Option<&[ContentSource]> {
    let claimed = facts.trusted().find_map(|claim| claim.pulled_from.as_ref());
    claimed.map(Vec::as_slice)
}
