//! Counts how often certificate and authority were replaced, in the Secret and in the
//! configuration's caBundle.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client};

use crate::site::NAMESPACE;

const LOOK: Duration = Duration::from_millis(500);

/// The distinct values seen.
#[derive(Default)]
pub(super) struct Rotations {
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    leaves: BTreeSet<Vec<u8>>,
    bundles: BTreeSet<Vec<u8>>,
}

impl Rotations {
    /// Watches until aborted.
    pub(super) async fn watch(self: Arc<Self>, client: Client) {
        let secrets = Api::<Secret>::namespaced(client.clone(), NAMESPACE);
        let configurations = Api::<MutatingWebhookConfiguration>::all(client);
        loop {
            // While the API server is down, nothing changes.
            if let Ok(secret) = secrets.get("imageswap-webhook-tls").await {
                let leaf = secret.data.unwrap_or_default().remove("tls.crt");
                self.lock().leaves.extend(leaf.map(|it| it.0));
            }
            if let Ok(configuration) = configurations.get("imageswap").await {
                let webhooks = configuration.webhooks.unwrap_or_default();
                let bundles = webhooks
                    .into_iter()
                    .filter_map(|it| it.client_config.ca_bundle);
                self.lock().bundles.extend(bundles.map(|it| it.0));
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Whether anything was replaced at all.
    pub(super) fn happened(&self) -> bool {
        let seen = self.lock();
        seen.leaves.len() > 1 && seen.bundles.len() > 2
    }

    pub(super) fn report(&self) -> String {
        let seen = self.lock();
        format!(
            "{} certificates and {} caBundles were in use, one after the other",
            seen.leaves.len(),
            seen.bundles.len()
        )
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
