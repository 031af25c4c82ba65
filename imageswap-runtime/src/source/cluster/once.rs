//! The cluster's present policies, for a program that asks once and ends.

use super::last_good::{LastGood, LastGoodError};
use super::state::{State, Verdict, document_text};
use super::{LAST_GOOD, MAPS_KEY, resource};
use crate::cluster::{DEFAULT_NAMESPACE, ObjectName};
use imageswap_policy::Policies;
use imageswap_policy::document::{KIND, PLURAL};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{DynamicObject, ListParams};
use kube::{Api, Client, ResourceExt as _};

/// Policies are few and written by people; longer lists are read in pages.
const PAGE: u32 = 500;

/// What to read from the cluster.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Whether to read ImageSwapPolicy objects.
    pub documents: bool,
    /// The ConfigMap with the maps file, if any.
    pub maps: Option<ObjectName>,
    /// The namespace of the services, which keep the last good policies there.
    pub services: String,
}

/// The policies in force in a cluster.
#[derive(Debug)]
pub struct InForce {
    /// The policies; empty if the cluster has none.
    pub policies: Policies,
    /// Rejected versions and warnings, one message each.
    pub messages: Vec<String>,
}

/// Why the policies in force are unknown.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {what}: {source}")]
pub struct OnceError {
    what: String,
    source: Box<kube::Error>,
}

impl Wanted {
    /// Reads the policies in force, as the services would: if a policy does not load, its last good
    /// version.
    ///
    /// # Errors
    /// The API server cannot be asked, or does not allow reading. A missing object is not an error.
    pub async fn read(&self, client: &Client) -> Result<InForce, OnceError> {
        let mut state = State::default();
        let mut messages = Vec::new();
        let kept = LastGood::new(ObjectName {
            namespace: self.services.clone(),
            name: LAST_GOOD.to_owned(),
        });
        match kept.read(client).await {
            Ok(mut texts) => {
                if self.maps.is_none() {
                    texts.maps = None;
                }
                if !self.documents {
                    texts.documents.clear();
                }
                messages.extend(state.restore(&texts));
            }
            // If nothing is installed, or only administrators may read it, the objects in the
            // cluster have to do.
            Err(LastGoodError::Missing(_)) => {}
            Err(error) => messages.push(format!("what was last good is not known: {error}")),
        }
        if self.documents {
            let listed = documents(client).await?;
            state.only_documents(&listed.iter().map(kube::ResourceExt::name_any).collect());
            for object in listed {
                let name = object.name_any();
                let verdict = state.document(&name, document_text(&name, &object.data));
                report(&format!("{KIND} {name}"), verdict, &mut messages);
            }
        }
        if let Some(name) = &self.maps {
            match maps_text(client, name).await? {
                None => state.no_maps(),
                Some(None) => messages.push(format!("ConfigMap {name} has no key {MAPS_KEY}")),
                Some(Some(text)) => {
                    let verdict = state.maps(&text);
                    report(&format!("ConfigMap {name}"), verdict, &mut messages);
                }
            }
        }
        Ok(InForce {
            policies: state.policies(),
            messages,
        })
    }
}

impl Default for Wanted {
    /// Everything that the services read with the shipped manifests.
    fn default() -> Self {
        let services = DEFAULT_NAMESPACE.to_owned();
        Self {
            documents: true,
            maps: Some(ObjectName {
                namespace: services.clone(),
                name: "imageswap-maps".to_owned(),
            }),
            services,
        }
    }
}

async fn documents(client: &Client) -> Result<Vec<DynamicObject>, OnceError> {
    let api = Api::<DynamicObject>::all_with(client.clone(), &resource());
    let mut all = Vec::new();
    let mut page = ListParams::default().limit(PAGE);
    loop {
        let list = match api.list(&page).await {
            Ok(list) => list,
            // The resource is installed by the manifests.
            Err(kube::Error::Api(status)) if status.code == 404 => return Ok(all),
            Err(error) => return Err(OnceError::of(PLURAL, error)),
        };
        all.extend(list.items);
        match list.metadata.continue_.filter(|it| !it.is_empty()) {
            Some(next) => page = page.continue_token(&next),
            None => return Ok(all),
        }
    }
}

/// `None` without the ConfigMap, `Some(None)` without its key.
async fn maps_text(
    client: &Client,
    name: &ObjectName,
) -> Result<Option<Option<String>>, OnceError> {
    let api = Api::<ConfigMap>::namespaced(client.clone(), &name.namespace);
    let map = api.get_opt(&name.name).await;
    let map = map.map_err(|error| OnceError::of(&format!("ConfigMap {name}"), error))?;
    Ok(map.map(|it| it.data.and_then(|mut data| data.remove(MAPS_KEY))))
}

fn report(what: &str, verdict: Verdict, messages: &mut Vec<String>) {
    match verdict {
        Verdict::Accepted { warnings, .. } => {
            messages.extend(warnings.lines().map(|it| format!("{what}: {it}")));
        }
        Verdict::Refused { reasons } => {
            messages.push(format!("{what} is not in force: {reasons}"));
        }
    }
}

impl OnceError {
    fn of(what: &str, source: kube::Error) -> Self {
        Self {
            what: what.to_owned(),
            source: Box::new(source),
        }
    }
}
