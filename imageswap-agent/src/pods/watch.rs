//! Watches the node's Pods, and asks for a Pod that the watch has not reported yet.

use super::{Ownership, PodChange, PodRecord};
use futures::TryStreamExt as _;
use imageswap_runtime::cluster::Complaint;
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt as _, watcher as follow_api};
use kube::{Api, Client, ResourceExt as _};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::timeout;

/// How long the API server may take to answer for a Pod; a verdict waits for it.
const DEADLINE: Duration = Duration::from_secs(2);

/// Sends the Pods of `node` until the receiver is gone. While the API server is down, the last
/// state holds.
pub async fn follow(client: Client, node: String, changes: mpsc::Sender<PodChange>) {
    let api = Api::<Pod>::all(client);
    let config = watcher::Config::default().fields(&format!("spec.nodeName={node}"));
    let events = follow_api(api, config).default_backoff();
    tokio::pin!(events);
    let mut complaint = Complaint::new("the watch of Pods");
    let mut listed = Vec::new();
    loop {
        let event = tokio::select! {
            event = events.try_next() => event,
            () = changes.closed() => return,
        };
        let event = match event {
            Ok(Some(event)) => event,
            Ok(None) => return,
            Err(error) => {
                complaint.about_watch(&error);
                continue;
            }
        };
        // The start of a list is reported before the API server has answered.
        if !matches!(event, Event::Init) {
            complaint.over();
        }
        let change = match event {
            Event::Init => {
                listed.clear();
                continue;
            }
            Event::InitApply(pod) => {
                listed.push(pod.uid().unwrap_or_default());
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

/// Asks the API server for one Pod; `None` if it did not answer.
pub async fn ask(client: &Client, namespace: &str, name: &str, uid: &str) -> Option<Ownership> {
    let api = Api::<Pod>::namespaced(client.clone(), namespace);
    let answer = timeout(DEADLINE, api.get_opt(name)).await;
    let pod = answer
        .map_err(|_elapsed| tracing::debug!(namespace, name, "the API server did not answer"))
        .ok()?
        .inspect_err(|error| tracing::debug!(namespace, name, %error, "cannot get a Pod"))
        .ok()?;
    // Another Pod of the same name does not count.
    let pod = pod
        .map(PodRecord::from)
        .filter(|pod| pod.uid_on_node() == uid);
    Some(pod.map_or(Ownership::Absent, |pod| Ownership::Known(Arc::new(pod))))
}
