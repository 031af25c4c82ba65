//! Messages about images that are not approved: which container, which image, why, and what to do.

use imageswap_policy::{Decision, Policy, Reason, Reference, Selected};
use imageswap_registry::Presence;

use super::listed::{Listed, short};
use crate::wire::{ImageField, MAX_WARNINGS, Object};

/// Containers named in a denial; the others are counted.
const NAMED: usize = 5;
/// Approved registries named in a denial.
const PLACES: usize = 4;

/// An image that is not approved.
pub(super) struct Refused<'r> {
    pub(super) field: ImageField<'r>,
    pub(super) decision: Decision<'r>,
    /// The result that a registry was asked about, and its answer.
    pub(super) mirror: Option<(String, Presence)>,
}

/// The warning about an image that stays because a registry does not have the result.
pub(super) fn not_mirrored(
    selected: &Selected<'_>,
    field: &ImageField<'_>,
    decision: &Decision<'_>,
    result: &str,
) -> String {
    let rule = decision.rule.map(|it| format!(", rule {it}"));
    format!(
        "{}: image {} stays as written, because {} does not have {result}: copy it there (policy {}{})",
        place(field),
        field.image,
        Reference::registry_of(result),
        names(selected),
        rule.unwrap_or_default()
    )
}

/// The denial in one paragraph, which kubectl shows after the webhook's name.
pub(super) fn denial(selected: &Selected<'_>, refused: &[Refused<'_>]) -> String {
    let mut parts = Vec::new();
    let policy = selected.policy();
    // An entry of `denied` has its own message.
    let general = |it: &Refused<'_>| it.decision.denied.is_none_or(|it| it.message.is_none());
    let message = policy.and_then(Policy::message);
    parts.extend(
        message
            .filter(|_| refused.iter().any(general))
            .map(str::to_owned),
    );
    parts.extend(refused.iter().take(NAMED).map(Refused::sentence));
    if refused.len() > NAMED {
        parts.push(format!("and {} more", refused.len() - NAMED));
    }
    match policy {
        Some(policy) => parts.push(advice(policy)),
        None => parts.push(unknown(selected)),
    }
    parts.join("; ")
}

/// A warning for each image; the last one counts those without a warning.
pub(super) fn warnings(selected: &Selected<'_>, refused: &[Refused<'_>]) -> Vec<String> {
    let names = names(selected);
    let general = selected.policy().and_then(Policy::message);
    let general = general.map(|it| format!("{it}: ")).unwrap_or_default();
    let warning = |it: &Refused<'_>| {
        let own = it.decision.denied.and_then(|it| it.message);
        let general = if own.is_some() { "" } else { &general };
        format!("{general}{} (policy {names})", it.sentence())
    };
    if refused.len() <= MAX_WARNINGS {
        return refused.iter().map(warning).collect();
    }
    let shown = MAX_WARNINGS - 1;
    let mut warnings: Vec<_> = refused.iter().take(shown).map(warning).collect();
    let more = refused.len() - shown;
    warnings.push(format!(
        "{general}{more} more images are not approved (policy {names})"
    ));
    warnings
}

/// All images for the log: `web: evil.io/x, init: y`.
pub(super) fn list(refused: &[Refused<'_>]) -> String {
    let mut listed = Listed::default();
    for Refused { field, .. } in refused {
        listed.add(field.name, short(field.image));
    }
    listed.finish()
}

/// Why an object is refused if one of its lists was not read to the end.
pub(super) fn too_many(selected: &Selected<'_>, list: &str) -> String {
    format!(
        "the object has more than {} {list}, and no more are read: policy {} refuses it, because the others could be \
         anything; use fewer",
        Object::MAX_ENTRIES,
        names(selected)
    )
}

/// What is missing to choose the policy.
fn unknown(selected: &Selected<'_>) -> String {
    format!(
        "policy {} decides, depending on {}, which could not be learned from the API server: try again",
        names(selected),
        selected.missing()
    )
}

/// The policy that decides; all candidates if the choice is uncertain.
fn names(selected: &Selected<'_>) -> String {
    let names: Vec<_> = selected.candidates().map(Policy::name).collect();
    names.join(" or ")
}

/// The advice at the end of a denial.
fn advice(policy: &Policy) -> String {
    let name = policy.name();
    let places = policy.approved_places();
    let shown = places
        .iter()
        .take(PLACES)
        .map(String::as_str)
        .collect::<Vec<_>>()
        .join(", ");
    match places.len().saturating_sub(PLACES) {
        _ if places.is_empty() => {
            format!("policy {name} approves no registry; request an exception")
        }
        0 => format!(
            "policy {name} approves {shown}: use an image from there, or request an exception"
        ),
        more => format!(
            "policy {name} approves {shown} and {more} more: use an image from there, or request an exception"
        ),
    }
}

/// The container or volume of an image.
fn place(field: &ImageField<'_>) -> String {
    match (field.name, field.list.item()) {
        ("", item) => item.to_owned(),
        (name, item) => format!("{item} {name}"),
    }
}

impl Refused<'_> {
    /// Why it is not known whether the registry has the result, if the decision depends on that.
    fn not_known(&self) -> Option<&str> {
        match &self.mirror {
            Some((_, Presence::Unknown(why))) => Some(why),
            _ => None,
        }
    }

    fn sentence(&self) -> String {
        let Self {
            field,
            decision,
            mirror,
        } = self;
        let place = place(field);
        let rule = decision.rule.map(|it| format!("rule `{it}`"));
        let rule = rule.unwrap_or_else(|| "the policy".to_owned());
        if let Some(denied) = decision.denied {
            let what = match decision.reason {
                Reason::Swapped => format!(" would become {}, which", decision.result),
                _ => String::new(),
            };
            let message = denied.message.map(|it| format!(": {it}"));
            return format!(
                "{place}: image {}{what} is denied by `{}` ({}){}",
                field.image,
                denied.rule,
                denied.pattern,
                message.unwrap_or_default()
            );
        }
        let why = match decision.reason {
            Reason::NotMirrored => {
                let result = mirror.as_ref().map_or("its result", |it| &it.0);
                format!(
                    "{rule} would replace it by {result}, which {} does not have: copy it there",
                    Reference::registry_of(result)
                )
            }
            Reason::Swapped if self.not_known().is_some() => format!(
                "{rule} replaces it by {}, unless that is missing, which is not known: {}; try again",
                decision.result,
                self.not_known().unwrap_or_default()
            ),
            Reason::Swapped if decision.approved => format!(
                "{rule} replaces it by {}, which has not happened; is the mutating webhook there?",
                decision.result
            ),
            Reason::Swapped => format!(
                "{rule} replaces it by {}, which is not approved either",
                decision.result
            ),
            Reason::NoRule => "no rule matches".to_owned(),
            Reason::Unparsable => "it is not an image reference".to_owned(),
            Reason::InvalidResult => {
                format!("{rule} would produce an image reference that is invalid or does not stay")
            }
            Reason::OptedOut => "a label of the Pod skips the swap".to_owned(),
            Reason::AlreadyTarget => "it lies under a target, where not all is approved".to_owned(),
            Reason::ScopeUnknown => "too little is known about the Pod to decide".to_owned(),
            Reason::Kept
            | Reason::Denied
            | Reason::Excepted
            | Reason::OutOfScope
            | Reason::NoPolicy => {
                format!("{rule} keeps it unchanged")
            }
        };
        format!("{place}: image {} is not approved: {why}", field.image)
    }
}
