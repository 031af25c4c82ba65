//! Image pull Secrets for the registries of a Pod's swapped images.

use std::collections::HashSet;

use crate::metrics::Operation;
use imageswap_policy::{Policy, Reference};
use serde_json::json;

use super::{Admission, Asked, Decided};
use crate::wire::Verdict;

impl Admission {
    /// Adds Secrets that the policy names and the Pod lacks. Only to a new Pod, because Kubernetes
    /// does not allow changing them later.
    pub(super) fn add_pull_secrets(
        &self,
        policy: &Policy,
        asked: &Asked<'_>,
        decided: &[Decided<'_>],
        verdict: &mut Verdict,
    ) {
        if asked.operation != Operation::Create || policy.pull_secrets().is_empty() {
            return;
        }
        let images = decided
            .iter()
            .filter_map(|it| Reference::parse(&it.result).ok());
        let registries: HashSet<String> = images.map(|it| it.registry().to_owned()).collect();
        let mut present: Vec<&str> = Vec::new();
        let mut listed = false;
        if let Some(names) = asked.object.pull_secrets() {
            present.extend(names);
            listed = true;
        }
        for secret in policy.pull_secrets() {
            let name = secret.name();
            if present.contains(&name) || !registries.contains(secret.registry()) {
                continue;
            }
            if listed {
                let end = "/spec/imagePullSecrets/-";
                verdict.patch.add_member(end, "name", name);
            } else {
                let list = json!([{"name": name}]);
                verdict.patch.add("/spec/imagePullSecrets", &list);
                listed = true;
            }
            present.push(name);
            if let Some(namespace) = asked.namespace
                && self.pull_secrets.exists(namespace, name) == Some(false)
            {
                verdict.warnings.push(format!(
                    "images from {} need the Secret {name}, which namespace {namespace} does not have",
                    secret.registry()
                ));
            }
        }
    }
}
