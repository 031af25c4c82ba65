//! Policies from the cluster: ImageSwapPolicy objects and the ConfigMap of a maps file, by watch.
//!
//! Everything received goes into a pure state ([`State`]); the policies that it puts into force are
//! published. If a watch breaks or the API server is down, nothing changes.

mod last_good;
mod once;
mod state;
mod status;

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use imageswap_policy::document::PLURAL;
use imageswap_policy::{Policies, document, maps};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams};
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client, ResourceExt as _};
use tokio::time::{Instant, sleep_until};

use super::compile;
use crate::cluster::{self, Complaint, ObjectName};
use last_good::LastGood;
pub use once::{InForce, OnceError, Wanted};
pub(crate) use state::{State, Texts, Verdict, document_text};

/// The key of the ConfigMap that holds the maps file, as ImageSwap's.
pub const MAPS_KEY: &str = "maps";
/// ConfigMap with the texts in force, in our own namespace.
pub(super) const LAST_GOOD: &str = "imageswap-last-good";
/// Pause before the last good policies are read again.
const RETRY: Duration = Duration::from_secs(2);
/// Changes that came at the same time and come into force together: putting one into force looks at all policies.
const AT_ONCE: usize = 32;
/// Shortest time between two writes of the last good policies: each write has all of them, and people apply many
/// policies at once.
const BETWEEN_WRITES: Duration = Duration::from_secs(1);

/// What to watch.
pub(super) struct ClusterOrigin {
    pub(super) client: Client,
    /// Whether to watch ImageSwapPolicy objects.
    pub(super) documents: bool,
    /// The ConfigMap with the maps file, if any.
    pub(super) maps: Option<ObjectName>,
    /// The ConfigMap that keeps the texts in force.
    pub(super) last_good: ObjectName,
    /// How the maps file is read.
    pub(super) options: maps::Options,
    /// Whether this process writes status and last good texts.
    pub(super) writes: bool,
}

/// A change of the policies in force.
pub(super) enum News {
    /// Other policies may be in force.
    InForce {
        policies: Policies,
        /// Objects whose latest version was rejected.
        refused: usize,
    },
    /// Something was rejected; the text has the reasons.
    Refused(String),
    /// Everything that is watched was listed once.
    Synced,
}

enum Heard {
    Document(watcher::Result<Event<DynamicObject>>),
    Maps(watcher::Result<Event<ConfigMap>>),
}

/// The state and its ConfigMap, while the watch runs.
struct Follower<'a> {
    origin: &'a ClusterOrigin,
    state: State,
    last_good: LastGood,
    kept: Texts,
    /// When the texts are to be kept, if anything may have changed.
    keep_at: Option<Instant>,
    /// When they may be written again.
    next_write: Instant,
    keeping: Complaint,
    writing: Complaint,
    /// Names in the list that is being received.
    listed: BTreeSet<String>,
    maps_listed: bool,
    documents_synced: bool,
    maps_synced: bool,
}

impl ClusterOrigin {
    /// Follows the cluster, and calls `news`; never returns.
    pub(super) async fn follow(&self, mut news: impl FnMut(News)) {
        let mut follower = Follower {
            origin: self,
            state: State::new(self.options.clone()),
            last_good: LastGood::new(self.last_good.clone()),
            kept: Texts::default(),
            keep_at: None,
            next_write: Instant::now(),
            keeping: Complaint::new("keeping the last good policies"),
            writing: Complaint::new("writing the status of policies"),
            listed: BTreeSet::new(),
            maps_listed: false,
            documents_synced: !self.documents,
            maps_synced: self.maps.is_none(),
        };
        follower.restore(&mut news).await;
        let mut events = self.events().ready_chunks(AT_ONCE);
        loop {
            let keep_at = follower.keep_at;
            let due = sleep_until(keep_at.unwrap_or_else(Instant::now));
            tokio::select! {
                all = events.next() => {
                    let Some(all) = all else { return };
                    for heard in all {
                        follower.hear(heard, &mut news).await;
                    }
                    follower.settle(&mut news);
                }
                () = due, if keep_at.is_some() => follower.keep().await,
            }
        }
    }

    /// Both watches.
    fn events(&self) -> BoxStream<'_, Heard> {
        let mut all = Vec::new();
        if self.documents {
            let (api, config) = (self.documents_api(), watcher::Config::default());
            let events = cluster::follow(api, config, "the watch of ImageSwapPolicies");
            all.push(events.map(Heard::Document).boxed());
        }
        if let Some(name) = &self.maps {
            let api = Api::<ConfigMap>::namespaced(self.client.clone(), &name.namespace);
            let config = watcher::Config::default().fields(&format!("metadata.name={}", name.name));
            let events = cluster::follow(api, config, "the watch of the maps ConfigMap");
            all.push(events.map(Heard::Maps).boxed());
        }
        stream::select_all(all).boxed()
    }

    fn documents_api(&self) -> Api<DynamicObject> {
        Api::all_with(self.client.clone(), &resource())
    }
}

impl Follower<'_> {
    /// Starts with the last good policies.
    async fn restore(&mut self, news: &mut impl FnMut(News)) {
        loop {
            match self.last_good.read(&self.origin.client).await {
                Ok(texts) => {
                    self.keeping.over();
                    self.kept = texts.clone();
                    for lost in self.change(move |state| state.restore(&texts)).await {
                        tracing::error!("a last good policy does not load any more: {lost}");
                    }
                    break;
                }
                Err(error @ last_good::LastGoodError::Missing(_)) => {
                    self.keeping.about(&error);
                    break;
                }
                Err(error) => self.keeping.about(&error),
            }
            tokio::time::sleep(RETRY).await;
        }
        if self.kept != Texts::default() {
            news(self.in_force());
        }
    }

    async fn hear(&mut self, heard: Heard, news: &mut impl FnMut(News)) {
        match heard {
            Heard::Document(Ok(event)) => self.hear_document(event, news).await,
            Heard::Maps(Ok(event)) => self.hear_maps(event, news).await,
            Heard::Document(Err(error)) if is_not_found(&error) && !self.documents_synced => {
                tracing::warn!("the cluster has no resource {PLURAL}; it comes with the manifests");
                self.documents_synced = true;
            }
            Heard::Document(Err(_)) | Heard::Maps(Err(_)) => {}
        }
    }

    async fn hear_document(&mut self, event: Event<DynamicObject>, news: &mut impl FnMut(News)) {
        match event {
            Event::Init => self.listed.clear(),
            Event::InitApply(object) => {
                self.listed.insert(object.name_any());
                self.document(&object, news).await;
            }
            Event::InitDone => {
                self.state.only_documents(&self.listed);
                self.documents_synced = true;
            }
            Event::Apply(object) => self.document(&object, news).await,
            Event::Delete(object) => self.state.no_document(&object.name_any()),
        }
    }

    async fn document(&mut self, object: &DynamicObject, news: &mut impl FnMut(News)) {
        let name = object.name_any();
        let text = document_text(&name, &object.data);
        let named = name.clone();
        let compiling = self.change(move |state| state.document(&named, text));
        let verdict = compiling.await;
        let present = object.data.get("status");
        let now = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
        let patch = status::patch(present, object.metadata.generation, &verdict, &now);
        // Already reported: by another replica, or by this one before its restart.
        if let Verdict::Refused { reasons } = verdict
            && patch.is_some()
        {
            news(News::Refused(format!(
                "{} {name}: {reasons}",
                document::KIND
            )));
        }
        let Some(patch) = patch.filter(|_| self.origin.writes) else {
            return;
        };
        let api = self.origin.documents_api();
        let patched = api
            .patch_status(&name, &PatchParams::default(), &Patch::Merge(&patch))
            .await;
        match patched {
            Ok(_) => self.writing.over(),
            // Deleted meanwhile; the watch will report it.
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            Err(error) => self.writing.about(&error),
        }
    }

    /// Changes the account on a thread that may block, because a policy may be compiled for it.
    async fn change<T: Send + 'static>(
        &mut self,
        change: impl FnOnce(&mut State) -> T + Send + 'static,
    ) -> T {
        let mut state = std::mem::take(&mut self.state);
        let changing = compile(move || {
            let changed = change(&mut state);
            (state, changed)
        });
        let changed;
        (self.state, changed) = changing.await;
        changed
    }

    async fn hear_maps(&mut self, event: Event<ConfigMap>, news: &mut impl FnMut(News)) {
        match event {
            Event::Init => self.maps_listed = false,
            Event::InitApply(map) => {
                self.maps_listed = true;
                self.maps(map, news).await;
            }
            Event::Apply(map) => self.maps(map, news).await,
            Event::InitDone => {
                if !self.maps_listed {
                    self.state.no_maps();
                }
                self.maps_synced = true;
            }
            Event::Delete(_) => self.state.no_maps(),
        }
    }

    async fn maps(&mut self, map: ConfigMap, news: &mut impl FnMut(News)) {
        let name = map.name_any();
        let text = map.data.and_then(|mut it| it.remove(MAPS_KEY));
        let Some(text) = text else {
            self.state.refuse_maps();
            return news(News::Refused(format!(
                "ConfigMap {name} has no key {MAPS_KEY}"
            )));
        };
        match self.change(move |state| state.maps(&text)).await {
            Verdict::Refused { reasons } => news(News::Refused(reasons)),
            Verdict::Accepted { warnings, .. } if !warnings.is_empty() => {
                tracing::warn!("the maps ConfigMap loads, with warnings:\n{warnings}");
            }
            Verdict::Accepted { .. } => {}
        }
    }

    fn in_force(&self) -> News {
        News::InForce {
            policies: self.state.policies(),
            refused: self.state.refused(),
        }
    }

    /// Publishes the policies in force, once everything has been listed.
    fn settle(&mut self, news: &mut impl FnMut(News)) {
        if !(self.documents_synced && self.maps_synced) {
            return;
        }
        news(self.in_force());
        news(News::Synced);
        if self.origin.writes {
            let at = self.next_write.max(Instant::now());
            self.keep_at.get_or_insert(at);
        }
    }

    /// Keeps the policies in force.
    async fn keep(&mut self) {
        self.keep_at = None;
        let texts = self.state.texts();
        if texts == self.kept {
            return;
        }
        self.next_write = Instant::now() + BETWEEN_WRITES;
        match self.last_good.write(&self.origin.client, &texts).await {
            Ok(()) => {
                self.keeping.over();
                self.kept = texts;
            }
            Err(error) => self.keeping.about(&error),
        }
    }
}

/// The custom resource.
pub(crate) fn resource() -> ApiResource {
    let version = document::API_VERSION.rsplit('/').next().unwrap_or_default();
    let kind = GroupVersionKind::gvk(document::GROUP, version, document::KIND);
    ApiResource::from_gvk_with_plural(&kind, PLURAL)
}

fn is_not_found(error: &watcher::Error) -> bool {
    matches!(
        error,
        watcher::Error::InitialListFailed(kube::Error::Api(status)) if status.code == 404
    )
}

impl std::fmt::Debug for ClusterOrigin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClusterOrigin")
            .field("documents", &self.documents)
            .field("maps", &self.maps)
            .finish_non_exhaustive()
    }
}
