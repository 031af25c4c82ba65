//! Watches the node's Pods, and asks for a Pod that the watch has not reported yet.

use super::{Ownership, PodChange, PodName, PodRecord};
use futures::StreamExt as _;
use imageswap_runtime::cluster;
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client, ResourceExt as _};
use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

/// How long the API server may take to answer for a Pod; a verdict waits for it.
const DEADLINE: Duration = Duration::from_secs(2);

/// How long the API server is not asked after it did not answer in time.
const PAUSE: Duration = Duration::from_secs(5);

/// Sends the Pods of `node` until the receiver is gone. While the API server is down, the last
/// state holds.
pub async fn follow(client: Client, node: String, changes: mpsc::Sender<PodChange>) {
    let api = Api::<Pod>::all(client);
    // The API server answers from its cache, by node, as it does for a kubelet. The most recent list is read from etcd,
    // with the Pods of all nodes. What the cache lacks follows as changes.
    let config = watcher::Config::default()
        .fields(&format!("spec.nodeName={node}"))
        .any_semantic();
    let events = cluster::follow(api, config, "the watch of Pods");
    tokio::pin!(events);
    let mut listed = HashSet::new();
    loop {
        let event = tokio::select! {
            event = events.next() => event,
            () = changes.closed() => return,
        };
        let event = match event {
            Some(Ok(event)) => event,
            Some(Err(_)) => continue,
            None => return,
        };
        let change = match event {
            Event::Init => {
                listed.clear();
                continue;
            }
            Event::InitApply(pod) => {
                listed.insert(pod.uid().unwrap_or_default());
                PodChange::Known(Arc::new(pod.into()))
            }
            Event::InitDone => PodChange::Listed(std::mem::take(&mut listed)),
            Event::Apply(pod) => PodChange::Known(Arc::new(pod.into())),
            Event::Delete(pod) => PodChange::Deleted(pod.uid().unwrap_or_default()),
        };
        if changes.send(change).await.is_err() {
            return;
        }
    }
}

/// Asks the API server for single Pods.
pub struct Asker {
    client: Client,
    /// Name of this node.
    node: String,
    /// When it last did not answer in time.
    silent: Mutex<Option<Instant>>,
    /// Whether it was said that this node may have another name.
    warned: AtomicBool,
}

impl Asker {
    /// Nothing is asked yet.
    pub const fn new(client: Client, node: String) -> Self {
        let silent = Mutex::new(None);
        Self {
            client,
            node,
            silent,
            warned: AtomicBool::new(false),
        }
    }

    /// One Pod of this node; `None` if it is on another one and the watch has not shown any Pod of this
    /// node (`has_pods`), as with a wrong node name. Also `None` if the API server did not answer. After it did not answer in time, it is not
    /// asked for a while: otherwise each of many starts would wait for it.
    pub async fn ask(&self, named: &PodName, has_pods: bool) -> Option<Ownership> {
        let silent = || self.silent.lock().unwrap_or_else(PoisonError::into_inner);
        if silent().is_some_and(|since| since.elapsed() < PAUSE) {
            return None;
        }
        let (namespace, name) = (&*named.namespace, &*named.name);
        let api = Api::<Pod>::namespaced(self.client.clone(), namespace);
        let Ok(answer) = timeout(DEADLINE, api.get_opt(name)).await else {
            tracing::debug!(namespace, name, "the API server did not answer");
            *silent() = Some(Instant::now());
            return None;
        };
        let pod = answer
            .inspect_err(|error| tracing::debug!(namespace, name, %error, "cannot get a Pod"))
            .ok()?;
        let node = pod
            .as_ref()
            .and_then(|pod| pod.spec.as_ref()?.node_name.clone());
        let Some(pod) = pod.map(PodRecord::from).filter(|pod| pod.is(named)) else {
            return Some(Ownership::Absent);
        };
        // Any client of the CRI can name a Pod of another node.
        if node.as_ref() == Some(&self.node) {
            return Some(Ownership::Known(Arc::new(pod)));
        }
        if !has_pods && !self.warned.swap(true, Relaxed) {
            let (own, node) = (&self.node, node.unwrap_or_default());
            tracing::warn!(
                namespace,
                name,
                node,
                "a Pod of this node is on another one, by the API server: is `{own}` this node's name? Set \
                 --node-name"
            );
        }
        has_pods.then_some(Ownership::Absent)
    }
}
