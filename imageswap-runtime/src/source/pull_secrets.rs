//! Which namespaces have the Secrets that policies name, by watch.
//!
//! Each named Secret has its own watch, so that a role can be limited to these Secrets. Only
//! metadata is read.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::{Arc, PoisonError, RwLock};

use futures::StreamExt as _;
use imageswap_policy::{Policies, Policy, PullSecret};
use k8s_openapi::api::core::v1::Secret;
use kube::api::PartialObjectMeta;
use kube::runtime::watcher::{Config, Event};
use kube::{Api, Client, ResourceExt as _};
use tokio::task::JoinSet;

use super::PolicySource;
use crate::cluster;
use crate::drain::Drain;

type ByName = HashMap<String, HashSet<String>>;

/// The Secrets that policies name, with their namespaces. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct PullSecrets {
    /// The namespaces with a Secret of that name; names that are missing here are unknown. Changed in place: each name
    /// may have as many entries as the cluster has namespaces.
    known: Arc<RwLock<ByName>>,
}

impl PullSecrets {
    /// Knows no Secrets.
    pub fn unknown() -> Self {
        Self::default()
    }

    /// Secrets that do not change, for tests and tools: names, each with its namespaces.
    pub fn fixed(secrets: impl IntoIterator<Item = (String, HashSet<String>)>) -> Self {
        Self {
            known: Arc::new(RwLock::new(secrets.into_iter().collect())),
        }
    }

    /// Whether the namespace has the Secret; `None` if that is unknown, because it may not be read
    /// or has not been read yet.
    pub fn exists(&self, namespace: &str, name: &str) -> Option<bool> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        Some(known.get(name)?.contains(namespace))
    }

    /// Watches the Secrets that the policies in force name, until the drain begins.
    pub async fn watch(self, client: Client, source: PolicySource, drain: Drain) {
        let mut policies = source.subscribe();
        let mut watches = BTreeMap::new();
        let mut tasks = JoinSet::new();
        loop {
            let wanted = names(&source.current());
            watches.retain(|name, task: &mut tokio::task::AbortHandle| {
                let stays = wanted.contains(name);
                if !stays {
                    task.abort();
                    self.change(|known| _ = known.remove(name));
                }
                stays
            });
            for name in wanted {
                let start = || tasks.spawn(self.clone().follow(client.clone(), name.clone()));
                watches.entry(name.clone()).or_insert_with(start);
            }
            tokio::select! {
                changed = policies.changed() => if changed.is_err() { return },
                () = drain.signaled() => return,
            }
        }
    }

    async fn follow(self, client: Client, name: String) {
        let api = Api::<PartialObjectMeta<Secret>>::all(client);
        let config = Config::default().fields(&format!("metadata.name={name}"));
        let events = cluster::follow(api, config, "the watch of image pull Secrets");
        tokio::pin!(events);
        let mut listed = HashSet::new();
        while let Some(event) = events.next().await {
            if let Ok(event) = event {
                self.apply(&name, event, &mut listed);
            }
        }
    }

    fn apply(
        &self,
        name: &str,
        event: Event<PartialObjectMeta<Secret>>,
        listed: &mut HashSet<String>,
    ) {
        let namespace = |it: &PartialObjectMeta<Secret>| it.namespace().unwrap_or_default();
        match event {
            Event::Init => listed.clear(),
            Event::InitApply(it) => _ = listed.insert(namespace(&it)),
            Event::InitDone => {
                let listed = std::mem::take(listed);
                self.change(|known| _ = known.insert(name.to_owned(), listed));
            }
            Event::Apply(it) => self.change(|known| {
                known
                    .entry(name.to_owned())
                    .or_default()
                    .insert(namespace(&it));
            }),
            Event::Delete(it) => self.change(|known| {
                known
                    .entry(name.to_owned())
                    .or_default()
                    .remove(&namespace(&it));
            }),
        }
    }

    /// Several watches change the map, each its own name.
    fn change(&self, change: impl FnOnce(&mut ByName)) {
        change(&mut self.known.write().unwrap_or_else(PoisonError::into_inner));
    }
}

fn names(policies: &Policies) -> BTreeSet<String> {
    let secrets = policies.iter().flat_map(Policy::pull_secrets);
    secrets.map(PullSecret::name).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use kube::core::ObjectMeta;

    use super::*;

    #[test]
    fn what_nobody_listed_is_not_known() {
        let secret = |namespace: &str| PartialObjectMeta::<Secret> {
            metadata: ObjectMeta {
                name: Some("pull".to_owned()),
                namespace: Some(namespace.to_owned()),
                ..ObjectMeta::default()
            },
            ..PartialObjectMeta::default()
        };
        let secrets = PullSecrets::unknown();
        let mut listed = HashSet::new();
        let mut apply = |event| secrets.apply("pull", event, &mut listed);
        apply(Event::Init);
        apply(Event::InitApply(secret("a")));
        assert_eq!(secrets.exists("a", "pull"), None);
        apply(Event::InitDone);
        assert_eq!(secrets.exists("a", "pull"), Some(true));
        assert_eq!(secrets.exists("b", "pull"), Some(false));
        assert_eq!(secrets.exists("a", "other"), None);
        apply(Event::Apply(secret("b")));
        apply(Event::Delete(secret("a")));
        assert_eq!(secrets.exists("a", "pull"), Some(false));
        assert_eq!(secrets.exists("b", "pull"), Some(true));
    }
}
