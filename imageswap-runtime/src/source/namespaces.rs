//! Labels of namespaces, by watch; for a namespace that the watch has not reported yet, by asking
//! the API server.

mod asked;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, PoisonError, RwLock};

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::PartialObjectMeta;
use kube::runtime::watcher::{Config, Event};
use kube::{Api, Client, ResourceExt as _};
use tokio::sync::watch;

use crate::admin::Condition;
use crate::cluster::follow;
use crate::drain::Drain;
use asked::Asked;

type Labels = BTreeMap<String, String>;
type ByName = HashMap<String, Arc<Labels>>;

/// The labels of every namespace of the cluster. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Namespaces {
    /// `None` until the first list is complete, and always if there is no watch. Changed in place, because a copy for
    /// each change would be as long as the list.
    known: Arc<RwLock<Option<ByName>>>,
    /// Notifies of each change of `known`.
    changed: watch::Sender<()>,
    /// Asks about a namespace that is not known.
    asked: Option<Arc<Asked>>,
}

impl Namespaces {
    /// Knows no namespaces.
    pub fn unknown() -> Self {
        Self::default()
    }

    /// Knows no namespaces yet; [`Self::learn`] asks the API server.
    pub fn of_cluster(client: Client) -> Self {
        Self {
            asked: Some(Arc::new(Asked::new(client))),
            ..Self::default()
        }
    }

    /// Namespaces that do not change, for tests and tools.
    pub fn fixed(labels: impl IntoIterator<Item = (String, Labels)>) -> Self {
        let known = labels.into_iter().map(|(name, it)| (name, Arc::new(it)));
        Self {
            known: Arc::new(RwLock::new(Some(known.collect()))),
            ..Self::default()
        }
    }

    /// The labels of one namespace; `None` if they are not known.
    pub fn labels(&self, namespace: &str) -> Option<Arc<Labels>> {
        let watched = self.read(|known| known.as_ref()?.get(namespace).cloned());
        let asked = || self.asked.as_ref()?.labels(namespace);
        watched.or_else(asked)
    }

    /// Whether there is an API server to ask.
    pub fn can_ask(&self) -> bool {
        self.asked.is_some()
    }

    /// Asks the API server about a namespace whose labels are not known. Returns once it has
    /// answered or reached its deadline; [`Self::labels`] then returns the result.
    pub async fn learn(&self, namespace: &str) {
        if let Some(asked) = &self.asked
            && self.labels(namespace).is_none()
        {
            asked.ask(namespace).await;
        }
    }

    /// Notified of every change from now on.
    pub fn subscribe(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Waits until every namespace was listed once.
    pub async fn listed(&self) {
        let mut changed = self.subscribe();
        while self.read(Option::is_none) {
            if changed.changed().await.is_err() {
                return;
            }
        }
    }

    /// Follows the cluster until the drain begins; known labels are kept while the API server is
    /// down.
    pub async fn watch(self, client: Client, synced: Condition, drain: Drain) {
        let api = Api::<PartialObjectMeta<Namespace>>::all(client);
        let events = follow(api, Config::default(), "the watch of namespaces");
        tokio::pin!(events);
        let mut listed = HashMap::new();
        loop {
            let event = tokio::select! {
                event = events.next() => event,
                () = drain.signaled() => return,
            };
            match event {
                Some(Ok(event)) => {
                    if self.apply(event, &mut listed) {
                        synced.set(true);
                    }
                }
                Some(Err(_)) => {}
                None => return,
            }
        }
    }

    /// Returns whether this event completes a list.
    fn apply(&self, event: Event<PartialObjectMeta<Namespace>>, listed: &mut ByName) -> bool {
        let labels = |it: &PartialObjectMeta<Namespace>| {
            Arc::new(it.metadata.labels.clone().unwrap_or_default())
        };
        match event {
            Event::Init => listed.clear(),
            Event::InitApply(it) => {
                listed.insert(it.name_any(), labels(&it));
            }
            Event::InitDone => {
                self.change(|known| *known = std::mem::take(listed));
                return true;
            }
            Event::Apply(it) => self.change(|known| {
                known.insert(it.name_any(), labels(&it));
            }),
            Event::Delete(it) => self.change(|known| {
                known.remove(&it.name_any());
            }),
        }
        false
    }

    fn read<T>(&self, read: impl FnOnce(&Option<ByName>) -> T) -> T {
        read(&self.known.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn change(&self, change: impl FnOnce(&mut ByName)) {
        let known = self.known.write();
        change(
            known
                .unwrap_or_else(PoisonError::into_inner)
                .get_or_insert_default(),
        );
        self.changed.send_replace(());
    }
}

#[cfg(test)]
mod tests {
    use kube::core::ObjectMeta;

    use super::*;

    fn namespace(name: &str, value: &str) -> PartialObjectMeta<Namespace> {
        PartialObjectMeta {
            metadata: ObjectMeta {
                name: Some(name.to_owned()),
                labels: Some(Labels::from([("k".to_owned(), value.to_owned())])),
                ..ObjectMeta::default()
            },
            ..PartialObjectMeta::default()
        }
    }

    #[test]
    fn a_list_replaces_what_was_known_when_it_is_complete() {
        let namespaces = Namespaces::unknown();
        let mut listed = HashMap::new();
        let label = |name: &str| namespaces.labels(name).map(|it| it["k"].clone());
        let mut apply = |event| namespaces.apply(event, &mut listed);
        assert!(!apply(Event::Init));
        assert!(!apply(Event::InitApply(namespace("a", "1"))));
        assert_eq!(label("a"), None);
        assert!(apply(Event::InitDone));
        assert_eq!(label("a").as_deref(), Some("1"));
        apply(Event::Apply(namespace("a", "2")));
        apply(Event::Apply(namespace("b", "3")));
        assert_eq!(
            (label("a"), label("b")),
            (Some("2".into()), Some("3".into()))
        );
        apply(Event::Init);
        apply(Event::InitApply(namespace("b", "4")));
        assert_eq!(
            label("a").as_deref(),
            Some("2"),
            "until the list is complete"
        );
        apply(Event::InitDone);
        assert_eq!((label("a"), label("b")), (None, Some("4".into())));
        apply(Event::Delete(namespace("b", "4")));
        assert_eq!(label("b"), None);
    }
}
