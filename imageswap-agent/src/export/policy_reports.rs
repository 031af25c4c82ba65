//! Reports in the cluster about what drifts now, for `kubectl get reports` and the dashboards that
//! read them: one object for each namespace and node.
//!
//! The agent hands over the complete list whenever it changes, so a missed change cannot leave a
//! report behind. Every agent writes only objects with its node's name, so agents do not compete.

use crate::finding::Finding;
use crate::metrics::AgentMetrics;
use content::Reports;
use imageswap_runtime::policy_report::ReportApi;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::core::DynamicObject;
use kube::{Api, Client, ResourceExt};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

mod content;

/// An object of a kind that is only known at run time.
type ReportObject = DynamicObject;

/// Owner of the fields in server-side apply.
const MANAGER: &str = "imageswap-agent";

/// Pause after the reports were brought up to date: many changes are one write.
const PAUSE: Duration = Duration::from_secs(1);

/// Pause between two requests.
const BETWEEN: Duration = Duration::from_millis(50);

/// Time until failed writes are tried again.
const AGAIN: Duration = Duration::from_secs(10);

/// Time until reports are compared with the cluster again.
const COMPARE: Duration = Duration::from_mins(5);

/// How long reports of an earlier agent stay: after that, everything that still runs was judged.
const TRUST: Duration = Duration::from_secs(20);

/// An API server that takes longer counts as down.
const DEADLINE: Duration = Duration::from_secs(10);

/// Objects per page of a list.
const PAGE: u32 = 200;

const APPLIED: &str = "applied";
const DELETED: &str = "deleted";
const FAILED: &str = "failed";

/// Receives the list of drifting containers, and writes reports in a separate task.
#[derive(Debug)]
pub struct PolicyReports {
    unapproved: watch::Sender<Vec<Finding>>,
}

impl PolicyReports {
    /// Writes with `client`, as the agent on `node`, until this is dropped.
    pub fn spawn(client: Client, node: &str, metrics: AgentMetrics) -> Self {
        metrics.declare_policy_reports(&[APPLIED, DELETED, FAILED]);
        let (unapproved, list) = watch::channel(Vec::new());
        let writer = Writer {
            client,
            node: node.to_owned(),
            metrics,
            api: None,
            written: BTreeMap::new(),
            foreign: BTreeSet::new(),
            began: Instant::now(),
        };
        tokio::spawn(writer.run(list));
        Self { unapproved }
    }

    /// Replaces the list of containers that drift or are unresolved. Never waits.
    pub fn set(&self, unapproved: &[Finding]) {
        self.unapproved.send_replace(unapproved.to_vec());
    }
}

/// A namespace, or `None` for what has no Pod.
type Place = Option<String>;

struct Writer {
    client: Client,
    node: String,
    metrics: AgentMetrics,
    api: Option<ReportApi>,
    /// The objects as they were written last.
    written: BTreeMap<Place, Value>,
    /// Objects of an earlier agent.
    foreign: BTreeSet<Place>,
    began: Instant,
}

impl Writer {
    async fn run(mut self, mut list: watch::Receiver<Vec<Finding>>) {
        loop {
            let unapproved = list.borrow_and_update().clone();
            let is_done = match timeout(DEADLINE, self.prepare()).await {
                Ok(Ok(Some(api))) => self.write(api, &unapproved).await && self.foreign.is_empty(),
                Ok(Ok(None)) => true,
                Ok(Err(error)) => {
                    tracing::debug!(%error, "cannot look for policy reports");
                    false
                }
                Err(_elapsed) => false,
            };
            sleep(PAUSE).await;
            let quiet = if is_done { COMPARE } else { AGAIN };
            match timeout(quiet, list.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_closed)) => return,
                // Somebody may have installed the reports, or deleted some.
                Err(_elapsed) if is_done => self.api = None,
                Err(_elapsed) => {}
            }
        }
    }

    /// Finds the API that the cluster has, and the objects of this node in it.
    async fn prepare(&mut self) -> kube::Result<Option<ReportApi>> {
        if self.api.is_some() {
            return Ok(self.api);
        }
        for api in ReportApi::ALL {
            if is_served(&self.client, api).await? {
                let existing = self.existing(api).await?;
                self.written.retain(|place, _| existing.contains(place));
                let ours = |place: &Place| !self.written.contains_key(place);
                self.foreign = existing.into_iter().filter(ours).collect();
                self.api = Some(api);
                return Ok(self.api);
            }
        }
        Ok(None)
    }

    async fn existing(&self, api: ReportApi) -> kube::Result<BTreeSet<Place>> {
        let mut found = BTreeSet::new();
        let (key, value) = content::node_label(&self.node);
        for is_namespaced in [true, false] {
            let resource = api.resource(is_namespaced);
            let all = Api::<ReportObject>::all_with(self.client.clone(), &resource);
            let mut params = ListParams::default()
                .labels(&format!("{key}={value}"))
                .limit(PAGE);
            loop {
                let page = match all.list_metadata(&params).await {
                    Ok(page) => page,
                    // A cluster may have only one of the two kinds.
                    Err(kube::Error::Api(status)) if status.code == 404 => break,
                    Err(error) => return Err(error),
                };
                found.extend(page.items.iter().map(ResourceExt::namespace));
                match page.metadata.continue_.filter(|it| !it.is_empty()) {
                    Some(next) => params = params.continue_token(&next),
                    None => break,
                }
            }
        }
        Ok(found)
    }

    /// Brings the objects up to date; false if that failed for one of them.
    async fn write(&mut self, api: ReportApi, unapproved: &[Finding]) -> bool {
        let wanted = Reports::of(api, &self.node, unapproved).objects();
        let mut is_done = true;
        for (place, object) in &wanted {
            if self.written.get(place) != Some(object) {
                let applied = self.apply(api, place, object).await;
                is_done &= self.count(APPLIED, &applied);
                if applied.is_ok() {
                    self.foreign.remove(place);
                    self.written.insert(place.clone(), object.clone());
                }
                sleep(BETWEEN).await;
            }
        }
        let is_trusted = self.began.elapsed() >= TRUST;
        let foreign = self.foreign.iter().filter(|_| is_trusted);
        let all: BTreeSet<Place> = self.written.keys().chain(foreign).cloned().collect();
        for place in all.iter().filter(|place| !wanted.contains_key(*place)) {
            let deleted = self.delete(api, place).await;
            is_done &= self.count(DELETED, &deleted);
            if deleted.is_ok() {
                self.written.remove(place);
                self.foreign.remove(place);
            }
            sleep(BETWEEN).await;
        }
        is_done
    }

    fn count(&self, outcome: &'static str, result: &Result<(), String>) -> bool {
        if let Err(error) = result {
            tracing::debug!(error, "cannot write a policy report");
        }
        self.metrics
            .policy_report(if result.is_ok() { outcome } else { FAILED });
        result.is_ok()
    }

    fn objects(&self, api: ReportApi, place: &Place) -> Api<ReportObject> {
        let resource = api.resource(place.is_some());
        match place {
            Some(namespace) => Api::namespaced_with(self.client.clone(), namespace, &resource),
            None => Api::all_with(self.client.clone(), &resource),
        }
    }

    async fn apply(&self, api: ReportApi, place: &Place, object: &Value) -> Result<(), String> {
        let objects = self.objects(api, place);
        let params = PatchParams::apply(MANAGER).force();
        let (name, patch) = (content::name(&self.node), Patch::Apply(object));
        match timeout(DEADLINE, objects.patch(&name, &params, &patch)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_elapsed) => Err("no answer".to_owned()),
        }
    }

    async fn delete(&self, api: ReportApi, place: &Place) -> Result<(), String> {
        let objects = self.objects(api, place);
        let name = content::name(&self.node);
        match timeout(DEADLINE, objects.delete(&name, &DeleteParams::default())).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(kube::Error::Api(status))) if status.code == 404 => Ok(()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_elapsed) => Err("no answer".to_owned()),
        }
    }
}

/// Whether the API server serves reports of this API.
async fn is_served(client: &Client, api: ReportApi) -> kube::Result<bool> {
    let plural = api.resource(true).plural;
    match client.list_api_group_resources(api.api_version()).await {
        Ok(list) => Ok(list.resources.iter().any(|it| it.name == plural)),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(false),
        Err(error) => Err(error),
    }
}
