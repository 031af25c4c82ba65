//! Swaps that depend on a registry: with `ifMissing: keep` the image stays if the registry does not have the result.
//!
//! `decide` is pure, so the registry is asked here: first all images of a review whose answers are not known, together
//! and up to a deadline; then each image is decided by the answer. Without an answer it is swapped as usual.

use std::collections::BTreeSet;

use imageswap_policy::{Decision, Policy, Reference, Selected};
use imageswap_registry::Presence;
use tokio::time::Instant;

use super::images::{Asks, Subject};
use super::{Admission, Asked, decide};
use crate::limits::{MAX_REGISTRY_QUESTIONS, REGISTRY_WAIT};
use crate::wire::ImageField;

/// The policy's decision about an image, after the registry's answer.
pub(super) struct Mirrored<'r> {
    pub(super) decision: Decision<'r>,
    /// The result that a registry was asked about, and its answer; `None` if the decision does not depend on it.
    pub(super) asked: Option<(String, Presence)>,
}

impl Mirrored<'_> {
    /// The result that the registry does not have.
    pub(super) fn missing(&self) -> Option<&str> {
        let (result, presence) = self.asked.as_ref()?;
        (*presence == Presence::Missing).then_some(result)
    }
}

impl Admission {
    /// The results of conditional swaps about which no answer is known, each once.
    pub(super) fn unanswered(
        &self,
        selected: &Selected<'_>,
        subject: Subject,
        asked: &Asked<'_>,
    ) -> Vec<String> {
        let Some(mirrors) = &self.mirrors else {
            return Vec::new();
        };
        if !selected.candidates().any(Policy::asks_registries) {
            return Vec::new();
        }
        let images = subject.images(asked);
        let results = images.iter().filter_map(|it| {
            let decision = decide(selected, &it.field);
            is_open(&decision, it).then(|| decision.result.into_owned())
        });
        let unknown: BTreeSet<_> = results.filter(|it| mirrors.known(it).is_none()).collect();
        unknown.into_iter().take(MAX_REGISTRY_QUESTIONS).collect()
    }

    /// Asks about images; returns once all have answers, and at the latest after [`REGISTRY_WAIT`] or at `until`.
    pub(super) async fn ask_registries(&self, images: &[String], until: Instant) {
        if let Some(mirrors) = &self.mirrors {
            let until = until.min(Instant::now() + REGISTRY_WAIT);
            mirrors.ask(images.iter().cloned(), until).await;
        }
    }

    /// The decision about an image, by the registry's answer if it depends on one.
    pub(super) fn decide_mirrored<'r>(
        &self,
        selected: &Selected<'r>,
        asks: &Asks<'r>,
    ) -> Mirrored<'r> {
        let decision = decide(selected, &asks.field);
        if !is_open(&decision, asks) {
            return Mirrored {
                decision,
                asked: None,
            };
        }
        let result = decision.result.to_string();
        let known = self.mirrors.as_ref().and_then(|it| it.known(&result));
        let presence = known.unwrap_or_else(|| {
            let registry = Reference::registry_of(&result);
            Presence::Unknown(format!("{registry} has not answered in time").into())
        });
        self.metrics.registry_answer(presence.as_str());
        let decision = if presence == Presence::Missing {
            in_container(selected, &asks.field).decide_missing(asks.field.image)
        } else {
            decision
        };
        Mirrored {
            decision,
            asked: Some((result, presence)),
        }
    }
}

/// Whether a registry's answer changes the decision. A stored image was swapped when it was there, and stays so.
fn is_open(decision: &Decision<'_>, asks: &Asks<'_>) -> bool {
    decision.conditional && asks.stored != Some(&*decision.result)
}

pub(super) fn in_container<'r>(selected: &Selected<'r>, field: &ImageField<'r>) -> Selected<'r> {
    selected.in_container(field.list.container(field.name))
}
