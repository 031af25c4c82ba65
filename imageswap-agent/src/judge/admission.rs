//! Why admission did not prevent a drifting image.

use super::Case;
use crate::verdict::{Reason, Route};
use imageswap_policy::document::Enforcement;
use imageswap_policy::note::{Entry, Note};
use imageswap_policy::{Decision, Policies, Policy};
use std::sync::Arc;

/// The reason for a drifting image that `decision` is about.
pub(super) fn why(case: &Case<'_>, image: &str, decision: &Decision<'_>) -> Reason {
    if !matches!(case.route, Route::Pod | Route::Ephemeral) {
        return Reason::NotAdmitted;
    }
    let would_act = if decision.swapped() {
        case.selected.swaps()
    } else {
        case.selected.enforcement() == Enforcement::Deny
    };
    if !would_act {
        return Reason::NotEnforced;
    }
    let Some(note) = note(case) else {
        return without_note(case, image);
    };
    // A note that does not parse was not written by admission.
    let note = Note::parse(note).ok();
    let name = case.facts.container_name();
    match name.and_then(|name| note.as_ref()?.get(name)) {
        Some(entry) => noted(case, image, entry, decision),
        None => without_note(case, image),
    }
}

/// The pod's note from the API server, or from when the runtime made the pod.
fn note<'a>(case: &Case<'a>) -> Option<&'a str> {
    match case.facts.owner() {
        Some(pod) => pod.note.as_deref(),
        None => case.facts.trusted().find_map(|claim| claim.note.as_deref()),
    }
}

/// The note is not trusted: its image is decided again, by the revision that it names.
///
/// A note with the image that runs says that admission left it. If the policy allows that for an image that the registry
/// does not have, that is the reason.
fn noted(case: &Case<'_>, image: &str, entry: &Entry<'_>, decision: &Decision<'_>) -> Reason {
    let is_its = |policies: &&Arc<Policies>| {
        let selected = case.asked.select(policies);
        selected.policy().map(Policy::revision) == Some(&*entry.revision)
    };
    let in_force = &case.criteria.policies;
    let Some(policies) = std::iter::once(in_force)
        .chain(&case.criteria.past)
        .find(is_its)
    else {
        // That revision is unknown here, so the decision cannot be repeated.
        return Reason::WebhookSkipped;
    };
    let selected = case.asked.select(policies);
    if decision.conditional && entry.is_kept(&selected, image) {
        return Reason::NotMirrored;
    }
    let explained = entry.explains(&selected, image);
    match (explained, Arc::ptr_eq(policies, in_force)) {
        (true, false) => Reason::PolicyChanged,
        (true, true) => Reason::WebhookSkipped,
        (false, _) => Reason::MutatedAfterAdmission,
    }
}

/// Ephemeral containers cannot have an entry, because their subresource drops annotations: if an
/// earlier policy would have left the image, it was fine then. Any other container has an entry if
/// admission saw it.
fn without_note(case: &Case<'_>, image: &str) -> Reason {
    let was_fine = |policies: &Arc<Policies>| {
        let selected = case.asked.select(policies);
        !selected.decide(image).is_drift()
    };
    if case.route == Route::Ephemeral && case.criteria.past.iter().any(was_fine) {
        Reason::PolicyChanged
    } else {
        Reason::WebhookSkipped
    }
}
