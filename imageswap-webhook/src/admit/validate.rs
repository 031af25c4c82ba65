//! `/validate`: refuses images that are not approved, or warns about them, or only logs them.
//!
//! A Pod is judged by its present images: an image that should have been swapped but was not,
//! because `/mutate` was not called, is refused. A template is judged by what its Pods' images
//! would become, so that a mistake is refused where it is written.

use crate::metrics::Outcome;
use imageswap_policy::document::Enforcement;
use imageswap_policy::{Decision, Selected};

use super::images::Subject;
use super::message::{self, Refused};
use super::mirrored::Mirrored;
use super::{Admission, Asked, audit};
use crate::wire::Verdict;

impl Admission {
    pub(super) fn validate(
        &self,
        selected: &Selected<'_>,
        subject: Subject,
        asked: &Asked<'_>,
    ) -> (Verdict, Outcome) {
        let template = subject == Subject::Template;
        let mut verdict = Verdict::default();
        if selected.candidates().next().is_none() {
            return (verdict, Outcome::Skipped);
        }
        let fails = |decision: &Decision<'_>| {
            decision.in_scope && (!decision.approved || !template && decision.swapped())
        };
        let images = subject.images(asked);
        if images.is_empty() {
            return (verdict, Outcome::Skipped);
        }
        let mut refused = Vec::new();
        for asks in images {
            if asked.caller.is_gone() {
                break;
            }
            let Mirrored {
                decision,
                asked: mirror,
            } = self.decide_mirrored(selected, &asks);
            let field = asks.field;
            if template {
                self.count(selected, field.image, &decision);
            }
            if fails(&decision) {
                refused.push(Refused {
                    field,
                    decision,
                    mirror,
                });
            }
        }
        audit(selected, &mut verdict);
        let cut = asked
            .object
            .cut()
            .map(|cut| message::too_many(selected, cut));
        if refused.is_empty() && cut.is_none() {
            return (verdict, Outcome::Unchanged);
        }
        let listed = cut.clone().unwrap_or_else(|| message::list(&refused));
        let (outcome, what) = match selected.enforcement() {
            Enforcement::Deny => {
                let denial = || message::denial(selected, &refused);
                verdict.denied = Some(cut.unwrap_or_else(denial));
                (Outcome::Denied, "refused")
            }
            Enforcement::Warn => {
                verdict.warnings.extend(cut);
                verdict
                    .warnings
                    .extend(message::warnings(selected, &refused));
                (Outcome::Warned, "let in with a warning")
            }
            Enforcement::Audit => (Outcome::Unchanged, "let in, because the policy only audits"),
        };
        asked.log("", &listed, what);
        verdict.audit.push(("not-approved", listed));
        (verdict, outcome)
    }
}
