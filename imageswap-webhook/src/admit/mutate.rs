//! `/mutate`: swaps images.

use std::borrow::Cow;

use crate::metrics::Outcome;
use imageswap_policy::Selected;

use super::images::{Asks, Subject};
use super::listed::{Listed, short};
use super::{Admission, Asked, Decided, audit, message, note};
use crate::wire::Verdict;

impl Admission {
    pub(super) fn mutate(
        &self,
        selected: &Selected<'_>,
        subject: Subject,
        asked: &Asked<'_>,
    ) -> (Verdict, Outcome) {
        let mut verdict = Verdict::default();
        let mut swaps = Listed::default();
        let mut kept = Listed::default();
        let lists = (&mut swaps, &mut kept);
        let decided = self.decide(selected, subject, asked, &mut verdict, lists);
        if selected.candidates().next().is_none() {
            tracing::debug!(uid = &*asked.request.uid, "allowed unchanged: out of scope");
            return (verdict, Outcome::Skipped);
        }
        if let Some(cut) = asked.object.cut().filter(|_| selected.swaps()) {
            // Images that were not read cannot be swapped.
            let denied = message::too_many(selected, cut);
            asked.log("", &denied, "refused");
            let verdict = Verdict {
                denied: Some(denied),
                ..Verdict::default()
            };
            return (verdict, Outcome::Denied);
        }
        if decided.is_empty() {
            return (verdict, Outcome::Skipped);
        }
        if let Some(policy) = selected.policy()
            && subject == Subject::Pod
            && policy.swaps()
        {
            note::write(selected, asked, &decided, &mut verdict.patch);
            self.add_pull_secrets(policy, asked, &decided, &mut verdict);
        }
        audit(selected, &mut verdict);
        if swaps.is_empty() {
            tracing::debug!(uid = &*asked.request.uid, "nothing to swap");
        } else {
            let what = if selected.swaps() {
                "images swapped"
            } else {
                "images would be swapped, if the policy were not one for audit"
            };
            let swaps = swaps.finish();
            asked.log(&swaps, "", what);
            verdict.audit.push(("swapped", swaps));
        }
        if !kept.is_empty() {
            let kept = kept.finish();
            asked.log_kept(&kept);
            verdict.audit.push(("not-mirrored", kept));
        }
        let outcome = if verdict.patch.is_empty() {
            Outcome::Unchanged
        } else {
            Outcome::Patched
        };
        (verdict, outcome)
    }

    fn decide<'r>(
        &self,
        selected: &Selected<'r>,
        subject: Subject,
        asked: &Asked<'r>,
        verdict: &mut Verdict,
        (swaps, kept): (&mut Listed, &mut Listed),
    ) -> Vec<Decided<'r>> {
        let patches = selected.swaps();
        let images = subject.images(asked);
        let mut decided = Vec::with_capacity(images.len());
        for asks in images {
            if asked.caller.is_gone() {
                break;
            }
            let mirrored = self.decide_mirrored(selected, &asks);
            let Asks { field, stored } = asks;
            if let Some(result) = mirrored.missing() {
                let from = short(field.image);
                kept.add(field.name, format_args!("{from} -> {result}"));
                if patches {
                    let warning =
                        message::not_mirrored(selected, &field, &mirrored.decision, result);
                    verdict.warnings.push(warning);
                }
            }
            let decision = mirrored.decision;
            self.count(selected, field.image, &decision);
            let mut result = Cow::Borrowed(field.image);
            if decision.swapped() {
                let (from, to) = (short(field.image), &decision.result);
                swaps.add(field.name, format_args!("{from} -> {to}"));
                // An image that cannot change may be written as stored: applying a manifest
                // again repeats what the webhook swapped when the object was created.
                let is_stored = stored == Some(&*decision.result);
                if patches && (is_stored || subject.is_mutable(asked, &field)) {
                    verdict.patch.replace(field, &decision.result);
                    result = decision.result;
                }
            }
            decided.push(Decided { field, result });
        }
        decided
    }
}
