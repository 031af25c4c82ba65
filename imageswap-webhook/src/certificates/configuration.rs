//! Keeps the caBundle of a webhook configuration right, even if others write to it.
//!
//! The patch contains only each webhook's name and caBundle. It carries the version of the
//! configuration that was read before the Secret: a replica with an outdated Secret cannot put an
//! older bundle over a newer one.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use imageswap_runtime::cluster::follow_one;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use serde_json::{Value, json};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::state::Content;
use crate::configurations::{Configuration, patch_of, write};
use crate::wait::{Backoff, RequestError, request, status_code};

/// Two foreign changes within this time are a fight.
const FIGHT: Duration = Duration::from_secs(10);

/// A bundle, and since when it is required or held.
#[derive(Debug, Clone)]
pub(super) struct Bundle {
    pub(super) pem: Arc<str>,
    pub(super) since: Instant,
}

/// The inputs of a keeper.
#[derive(Clone)]
pub(super) struct CaBundleTarget {
    pub(super) secrets: Api<Secret>,
    pub(super) secret: String,
    /// `None` until the Secret has our content.
    pub(super) wanted: watch::Receiver<Option<Bundle>>,
    /// Notified when the held bundle changes.
    pub(super) changed: Arc<Notify>,
}

/// Keeps the caBundle of the configuration `name`; `held` is its bundle, if all its webhooks have
/// the required one. A configuration that does not exist counts as right, because no API server
/// uses it.
pub(super) async fn keep<K: Configuration>(
    api: Api<K>,
    name: String,
    target: CaBundleTarget,
    held: watch::Sender<Option<Bundle>>,
) {
    let mut keeper = Keeper {
        api,
        name,
        target,
        held,
        backoff: Backoff::default(),
        repaired: None,
        fight: Backoff::default(),
    };
    keeper.run().await;
}

/// The known state of a configuration.
enum Seen<K> {
    Unknown,
    Absent,
    There(K),
}

struct Keeper<K> {
    api: Api<K>,
    name: String,
    target: CaBundleTarget,
    held: watch::Sender<Option<Bundle>>,
    backoff: Backoff,
    /// When a caBundle was last restored.
    repaired: Option<Instant>,
    /// Growing pauses in a fight with another writer.
    fight: Backoff,
}

impl<K: Configuration> Keeper<K> {
    async fn run(&mut self) {
        let mut seen = Seen::Unknown;
        let what = "the watch of a webhook configuration";
        let mut events = Box::pin(follow_one(self.api.clone(), &self.name, what));
        loop {
            let retry = self.tend(&mut seen).await;
            tokio::select! {
                Some(event) = events.next() => match event {
                    Ok(Some(object)) => seen = Seen::There(object),
                    Ok(None) => {
                        if !matches!(seen, Seen::Absent) {
                            tracing::warn!(kind = K::KIND, name = self.name, "webhook configuration does not exist");
                        }
                        seen = Seen::Absent;
                    }
                    Err(_) => {}
                },
                Ok(()) = self.target.wanted.changed() => {}
                () = tokio::time::sleep(retry) => {}
            }
        }
    }

    /// Compares and repairs; returns when to try again if nothing happens before.
    async fn tend(&mut self, seen: &mut Seen<K>) -> Duration {
        let wanted = self.target.wanted.borrow_and_update().clone();
        let (Some(wanted), Seen::There(object)) = (&wanted, &mut *seen) else {
            let absent = matches!(seen, Seen::Absent);
            self.set_held(wanted.filter(|_| absent).map(|wanted| wanted.pem));
            return Backoff::LONGEST;
        };
        if holds(object, &wanted.pem) {
            self.set_held(Some(Arc::clone(&wanted.pem)));
            return Backoff::LONGEST;
        }
        self.set_held(None);
        match self.repair(object).await {
            Ok(Some(repaired)) => {
                *object = repaired;
                self.backoff.reset();
                if holds(object, &wanted.pem) {
                    self.set_held(Some(Arc::clone(&wanted.pem)));
                }
                Backoff::LONGEST
            }
            Ok(None) => self.backoff.next(),
            Err(error) => {
                // After a conflict, the watch will bring the change.
                if !matches!(status_code(&error), Some(404 | 409)) {
                    tracing::error!(
                        kind = K::KIND,
                        name = self.name,
                        "cannot put the caBundle into a webhook configuration: {error}"
                    );
                }
                self.backoff.next()
            }
        }
    }

    /// Reads the Secret after the object, and patches if the two differ.
    async fn repair(&mut self, object: &K) -> Result<Option<K>, RequestError> {
        if self.repaired.is_some_and(|last| last.elapsed() < FIGHT) {
            tokio::time::sleep(self.fight.next()).await;
        } else {
            self.fight.reset();
        }
        let secret = request(self.target.secrets.get(&self.target.secret)).await?;
        let Content::Managed(state) = Content::read(&secret) else {
            return Ok(None);
        };
        let bundle = state.bundle();
        let Some(patch) = patch(object, &bundle) else {
            return Ok(None);
        };
        let patched = write(&self.api, &self.name, &patch).await?;
        self.repaired = Some(Instant::now());
        let empty = object.webhooks().iter().all(|it| it.bundle.is_empty());
        let before = if empty { "nothing" } else { "something else" };
        tracing::info!(
            kind = K::KIND,
            name = self.name,
            before,
            "caBundle put into a webhook configuration"
        );
        Ok(Some(patched))
    }

    fn set_held(&self, pem: Option<Arc<str>>) {
        let changed = self.held.send_if_modified(|held| {
            if held.as_ref().map(|held| &held.pem) == pem.as_ref() {
                return false;
            }
            *held = pem.map(|pem| Bundle {
                pem,
                since: Instant::now(),
            });
            true
        });
        if changed {
            self.target.changed.notify_one();
        }
    }
}

fn holds<K: Configuration>(object: &K, bundle: &str) -> bool {
    let webhooks = object.webhooks();
    webhooks.iter().all(|it| it.bundle == bundle.as_bytes())
}

/// The patch that sets the bundle in every webhook; `None` if all have it.
fn patch<K: Configuration>(object: &K, bundle: &str) -> Option<Value> {
    let bundle_json = ByteString(bundle.as_bytes().to_owned());
    let webhooks: Vec<_> = object
        .webhooks()
        .into_iter()
        .filter(|it| it.bundle != bundle.as_bytes())
        .map(|it| json!({"name": it.name, "clientConfig": {"caBundle": bundle_json}}))
        .collect();
    (!webhooks.is_empty()).then(|| patch_of(object, &webhooks))
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::admissionregistration::v1::{
        MutatingWebhookConfiguration, ValidatingWebhookConfiguration,
    };

    #[test]
    fn a_patch_names_what_differs_and_nothing_else() {
        let object: MutatingWebhookConfiguration = serde_json::from_value(json!({
            "metadata": {"name": "imageswap", "resourceVersion": "7"},
            "webhooks": [
                {"name": "a", "clientConfig": {"caBundle": "Ynl0ZXM="}, "sideEffects": "None", "admissionReviewVersions": ["v1"]},
                {"name": "b", "clientConfig": {"url": "https://x"}, "sideEffects": "None", "admissionReviewVersions": ["v1"]},
                {"name": "c", "clientConfig": {"caBundle": "Z2FyYmFnZQ=="}, "sideEffects": "None", "admissionReviewVersions": ["v1"]},
            ],
        }))
        .unwrap();
        assert!(!holds(&object, "bytes"));
        let webhook = |name| json!({"name": name, "clientConfig": {"caBundle": "Ynl0ZXM="}});
        assert_eq!(
            patch(&object, "bytes"),
            Some(json!({
                "metadata": {"resourceVersion": "7"},
                "webhooks": [webhook("b"), webhook("c")],
            }))
        );
        let none = ValidatingWebhookConfiguration::default();
        assert!(holds(&none, "bytes"));
        assert_eq!(patch(&none, "bytes"), None);
    }
}
