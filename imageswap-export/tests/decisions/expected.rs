//! What `decide` and the webhook's rules say about a Pod.

use crate::generate::{Pod, today};
use imageswap_policy::document::Enforcement;
use imageswap_policy::{PodScope, Policies, Scope, Selected};
use std::collections::BTreeMap;

/// The expected outcome of a request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Expected {
    /// The images after the change, in the order of the Pod's.
    pub(crate) images: Vec<String>,
    /// Whether an image is refused, warned about or noted.
    pub(crate) fails: bool,
    pub(crate) enforcement: Enforcement,
    /// Image pull Secrets that are added.
    pub(crate) secrets: Vec<String>,
}

/// Labels of every namespace.
static NO_LABELS: BTreeMap<String, String> = BTreeMap::new();

/// The policy that decides about a Pod.
pub(crate) fn selected<'a>(policies: &'a Policies, pod: &'a Pod) -> Selected<'a> {
    let scope = Scope::Pod(PodScope {
        namespace: Some(pod.namespace),
        namespace_labels: Some(&NO_LABELS),
        labels: Some(&pod.labels),
    });
    policies.select(scope, today())
}

pub(crate) fn expected(policies: &Policies, pod: &Pod) -> Expected {
    let selected = selected(policies, pod);
    let mut images = Vec::new();
    let mut fails = false;
    let mut secrets = Vec::new();
    for item in &pod.images {
        let (list, name, image) = item;
        let is_stored = |image: &str| {
            let stored = pod.stored.iter().flatten();
            stored
                .into_iter()
                .any(|it| it.0 == *list && it.1 == *name && it.2 == image)
        };
        if is_stored(image) {
            images.push(image.clone());
            continue;
        }
        let selected = selected.in_container((*list != "volumes").then_some(name.as_str()));
        let decision = selected.decide(image);
        let mutable = pod.stored.is_none() || *list != "volumes" || is_stored(&decision.result);
        let result = if selected.swaps() && mutable {
            decision.result.clone().into_owned()
        } else {
            image.clone()
        };
        // An update back to the stored image changes nothing that is judged.
        if !is_stored(&result) {
            let judged = selected.decide(&result);
            fails |= judged.in_scope && (judged.swapped() || !judged.approved);
        }
        if let Some(policy) = selected
            .policy()
            .filter(|it| it.swaps() && pod.stored.is_none())
        {
            let registry = imageswap_policy::Reference::parse(&decision.result).ok();
            for secret in policy.pull_secrets() {
                let name = secret.name().to_owned();
                if registry
                    .as_ref()
                    .is_some_and(|it| it.registry() == secret.registry())
                    && !secrets.contains(&name)
                {
                    secrets.push(name);
                }
            }
        }
        images.push(result);
    }
    secrets.sort();
    Expected {
        images,
        fails,
        enforcement: selected.enforcement(),
        secrets,
    }
}
