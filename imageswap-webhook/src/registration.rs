//! Lets the API server call the webhook for Pods only while a policy is in force.
//!
//! The chart ships the webhooks for Pods without rules, so the API server does not call them: a
//! webhook whose image cannot be pulled blocks no Pod of a cluster that has no policy yet. Their
//! rules are in an annotation of the configuration. When a policy comes into force, every replica
//! writes them; after the last policy is gone, every replica removes them. A webhook without a
//! caBundle waits for it, because every call would fail. The patch has only rules,
//! so that an apply of the manifests, which have none, leaves them alone.

mod configuration;

use std::collections::BTreeMap;
use std::time::Duration;

use crate::metrics::WebhookMetrics;
use futures::StreamExt as _;
use imageswap_runtime::admin::Condition;
use imageswap_runtime::cluster::{Complaint, follow_one};
use imageswap_runtime::drain::Drain;
use imageswap_runtime::source::PolicySource;
use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhookConfiguration, RuleWithOperations, ValidatingWebhookConfiguration,
};
use kube::{Api, Client};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::configurations::{Configuration, patch_of, write};
use crate::wait::{Backoff, RequestError, status_code};
use configuration::{Difference, RulesError, difference};

/// How long there has to be no policy before the rules are removed. A policy that is replaced by
/// another one leaves no gap, and replicas hear of a new policy at different moments.
const GRACE: Duration = Duration::from_secs(5);
/// Time between two looks at whether the policies are known.
const LOOK: Duration = Duration::from_secs(1);

/// The configurations whose rules are kept.
#[derive(Debug, Clone, Default)]
pub struct Registration {
    /// Name of the MutatingWebhookConfiguration.
    pub mutating: Option<String>,
    /// Name of the ValidatingWebhookConfiguration.
    pub validating: Option<String>,
}

/// What the process knows about policies.
#[derive(Clone)]
pub struct Known {
    /// The policies in force.
    pub policies: PolicySource,
    /// Whether the source was read completely.
    pub synced: Condition,
}

impl Registration {
    /// Whether a configuration is named.
    pub fn is_wanted(&self) -> bool {
        self.mutating.is_some() || self.validating.is_some()
    }

    /// Keeps the rules until the drain begins. After that nobody follows the policies.
    pub async fn keep(self, client: Client, known: Known, metrics: WebhookMetrics, drain: Drain) {
        let mut keepers = JoinSet::new();
        if let Some(name) = self.mutating {
            let api = Api::<MutatingWebhookConfiguration>::all(client.clone());
            keepers.spawn(Keeper::new(api, name, known.clone(), metrics.clone()).run());
        }
        if let Some(name) = self.validating {
            let api = Api::<ValidatingWebhookConfiguration>::all(client);
            keepers.spawn(Keeper::new(api, name, known, metrics).run());
        }
        drain.signaled().await;
    }
}

/// What the rules have to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The policies are not known yet: the rules stay as they are.
    Unknown,
    /// Those of the annotation.
    Registered,
    /// As they are, for this long.
    Leaving(Duration),
    /// None.
    Unregistered,
}

/// `none_for`: how long there has been no policy.
fn phase(in_force: bool, synced: bool, none_for: Duration) -> Phase {
    match (in_force, synced) {
        (true, _) => Phase::Registered,
        (false, false) => Phase::Unknown,
        (false, true) if none_for < GRACE => Phase::Leaving(GRACE.saturating_sub(none_for)),
        (false, true) => Phase::Unregistered,
    }
}

struct Keeper<K> {
    api: Api<K>,
    name: String,
    known: Known,
    metrics: WebhookMetrics,
    /// Since when there has been no policy.
    none_since: Option<Instant>,
    backoff: Backoff,
    complaint: Complaint,
}

impl<K: Configuration> Keeper<K> {
    fn new(api: Api<K>, name: String, known: Known, metrics: WebhookMetrics) -> Self {
        Self {
            api,
            name,
            known,
            metrics,
            none_since: None,
            backoff: Backoff::default(),
            complaint: Complaint::new("the registration for Pods"),
        }
    }

    async fn run(mut self) {
        let mut object = None;
        let mut changes = self.known.policies.subscribe();
        let what = "the watch of a webhook configuration";
        let mut events = Box::pin(follow_one(self.api.clone(), &self.name, what));
        loop {
            let pause = self.tend(&mut object).await;
            tokio::select! {
                Some(event) = events.next() => if let Ok(seen) = event {
                    object = seen;
                },
                Ok(()) = changes.changed() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Compares and writes; returns when to look again if nothing happens before.
    async fn tend(&mut self, object: &mut Option<K>) -> Duration {
        let in_force = self.known.policies.current().iter().next().is_some();
        let none_for = if in_force || !self.known.synced.holds() {
            self.none_since = None;
            Duration::ZERO
        } else {
            self.none_since.get_or_insert_with(Instant::now).elapsed()
        };
        let register = match phase(in_force, self.known.synced.holds(), none_for) {
            Phase::Unknown => return LOOK,
            Phase::Leaving(rest) => return rest,
            Phase::Registered => true,
            Phase::Unregistered => false,
        };
        let Some(present) = object else {
            self.metrics.set_unregistered(K::LABEL, in_force);
            return Backoff::LONGEST;
        };
        match self.write(present, register).await {
            Ok(Written {
                object: after,
                waits,
            }) => {
                self.backoff.reset();
                self.complaint.over();
                self.metrics.set_unregistered(K::LABEL, waits);
                if let Some(after) = after {
                    *object = Some(after);
                }
                Backoff::LONGEST
            }
            // The watch will bring the change.
            Err(KeepError::Request(error)) if matches!(status_code(&error), Some(404 | 409)) => {
                self.backoff.next()
            }
            Err(error) => {
                self.complaint.about(&error);
                self.metrics.set_unregistered(K::LABEL, register);
                self.backoff.next()
            }
        }
    }

    async fn write(&self, present: &K, register: bool) -> Result<Written<K>, KeepError> {
        let shipped = configuration::shipped(present)?;
        let none = |name: &String| (name.clone(), Vec::new());
        let wanted: BTreeMap<String, Vec<RuleWithOperations>> = if register {
            shipped
        } else {
            shipped.keys().map(none).collect()
        };
        let Difference { webhooks, waits } = difference(present, &wanted);
        if webhooks.is_empty() {
            return Ok(Written {
                object: None,
                waits,
            });
        }
        let patch = patch_of(present, &webhooks);
        let written = write(&self.api, &self.name, &patch).await?;
        let (kind, name) = (K::KIND, &self.name);
        if register {
            tracing::info!(kind, name, "a policy is in force: registered for Pods");
        } else {
            tracing::info!(
                kind,
                name,
                "no policy is in force: no longer registered for Pods"
            );
        }
        Ok(Written {
            object: Some(written),
            waits,
        })
    }
}

/// The outcome of a comparison.
struct Written<K> {
    /// The configuration afterwards, if it was changed.
    object: Option<K>,
    /// Whether a webhook waits for its caBundle.
    waits: bool,
}

/// Why the rules could not be written.
#[derive(Debug, thiserror::Error)]
enum KeepError {
    #[error(transparent)]
    Rules(#[from] RulesError),
    #[error(transparent)]
    Request(#[from] RequestError),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_removed_only_if_there_is_surely_no_policy() {
        let seconds = Duration::from_secs;
        for (in_force, synced, none_for, expected) in [
            (true, true, seconds(0), Phase::Registered),
            // Last good policies, while the API server does not answer.
            (true, false, seconds(0), Phase::Registered),
            (true, true, seconds(60), Phase::Registered),
            (false, false, seconds(60), Phase::Unknown),
            (false, true, seconds(0), Phase::Leaving(GRACE)),
            (false, true, seconds(4), Phase::Leaving(seconds(1))),
            (false, true, seconds(5), Phase::Unregistered),
        ] {
            assert_eq!(
                phase(in_force, synced, none_for),
                expected,
                "{in_force} {synced} {none_for:?}"
            );
        }
    }
}
