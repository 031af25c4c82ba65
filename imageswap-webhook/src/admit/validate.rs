//! `/validate`: what is not approved is refused, warned about, or only told.
//!
//! Of a Pod the images are judged as they now stand: one that should have been swapped and was not, for `/mutate` was
//! not asked, is not what the policy wants. Of a template what counts is what its Pods would become, so that a mistake
//! is refused where it is written.

use imageswap_policy::document::Enforcement;
use imageswap_policy::{Decision, Policies};
use imageswap_runtime::metrics::Outcome;

use super::images::Subject;
use super::message::{self, Refused};
use super::{Admission, Asked};
use crate::wire::Verdict;

impl Admission {
    pub(super) fn validate(&self, policies: &Policies, asked: &Asked<'_>) -> (Verdict, Outcome) {
        let subject = Subject::of(asked);
        let template = subject == Subject::Template;
        let labels = match subject {
            Subject::BareEphemeralContainers => None,
            Subject::Template => Some(asked.object.template_labels()),
            _ => Some(asked.object.labels()),
        };
        let selected = self.select(policies, asked, labels);
        let mut verdict = Verdict::default();
        let Some(policy) = selected.policy() else {
            return (verdict, Outcome::Skipped);
        };
        let fails = |decision: &Decision<'_>| {
            decision.in_scope && (!decision.approved || !template && decision.swapped())
        };
        let images = subject.images(asked);
        if images.is_empty() {
            return (verdict, Outcome::Skipped);
        }
        let mut refused = Vec::new();
        for field in images {
            if asked.caller.is_gone() {
                break;
            }
            let decision = selected.decide(field.image);
            if template {
                self.count(&selected, field.image, &decision);
            }
            if fails(&decision) {
                refused.push(Refused { field, decision });
            }
        }
        verdict.audit.push(("policy", policy.name().to_owned()));
        verdict
            .audit
            .push(("revision", policy.revision().to_owned()));
        if refused.is_empty() {
            return (verdict, Outcome::Unchanged);
        }
        let listed = message::list(&refused);
        let (outcome, what) = match policy.enforcement() {
            Enforcement::Deny => {
                verdict.denied = Some(message::denial(policy, &refused));
                (Outcome::Denied, "refused")
            }
            Enforcement::Warn => {
                verdict.warnings = message::warnings(policy, &refused);
                (Outcome::Warned, "let in with a warning")
            }
            Enforcement::Audit => (
                Outcome::Unchanged,
                "let in, for the policy is one for audit",
            ),
        };
        asked.log("", &listed, what);
        verdict.audit.push(("not-approved", listed));
        (verdict, outcome)
    }
}
