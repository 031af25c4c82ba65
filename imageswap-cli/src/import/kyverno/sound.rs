//! What is left of an imported policy once everything is taken out that does not load.
//!
//! Wildcards and expressions of Kyverno can say what no pattern or target of ours is. One such thing must not cost
//! the rest of the policy, and none goes without a note.

use super::note::Notes;
use imageswap_policy::document::{self, ImageSwapPolicy};
use imageswap_policy::yaml::Span;
use imageswap_policy::{Diagnostic, Severity};

/// Stands in for a name that no object can have.
const NAME: &str = "imported";

/// The policy without what does not load; `None` where nothing of it is left. `at` is where the policy is written.
pub(super) fn settle(
    mut policy: ImageSwapPolicy,
    at: Span,
    notes: &mut Notes,
) -> Option<ImageSwapPolicy> {
    let approved = policy.spec.approved.as_ref().map_or(0, Vec::len);
    // Each turn takes one thing out.
    for _ in 0..policy.spec.rules.len() + approved + 2 {
        let text = serde_json::to_string(&policy).ok()?;
        let Err(found) = document::load(&policy.metadata.name, &text) else {
            return Some(policy)
                .filter(|it| it.spec.approved.is_some() || !it.spec.rules.is_empty());
        };
        let error = found.iter().find(|it| it.severity == Severity::Error)?;
        let field = error.field.as_deref().unwrap_or_default();
        if let Some(rule) = index(field, "spec.rules[") {
            policy
                .spec
                .rules
                .remove(rule.min(policy.spec.rules.len().checked_sub(1)?));
        } else if let Some(pattern) = index(field, "spec.approved[") {
            let approved = policy.spec.approved.as_mut()?;
            approved.remove(pattern.min(approved.len().checked_sub(1)?));
            if approved.is_empty() {
                policy.spec.approved = None;
            }
        } else if field.starts_with("metadata.name") {
            NAME.clone_into(&mut policy.metadata.name);
        } else if field.starts_with("spec.message") {
            policy.spec.message = None;
        } else {
            // Without its scope a policy would decide for Pods that it was not written for.
            lost(error, at, notes);
            return None;
        }
        lost(error, at, notes);
    }
    None
}

fn lost(error: &Diagnostic, at: Span, notes: &mut Notes) {
    let field = error.field.as_deref().unwrap_or("the policy");
    let message = format!("{field} would not load: {}", error.message);
    notes.lost(at, "does-not-load", message);
}

/// The number in `list[3].to`, where `list[` is the beginning.
fn index(field: &str, list: &str) -> Option<usize> {
    let rest = field.strip_prefix(list)?;
    rest.split(']').next()?.parse().ok()
}
