//! Requests to the API server: get the Pod, create it as a dry run, evict it.

use super::Outcome;
use super::plan::Candidate;
use crate::judge::Criteria;
use imageswap_policy::{PodScope, Scope, note};
use k8s_openapi::api::core::v1::{ObjectReference, Pod};
use kube::api::PostParams;
use kube::runtime::events::{Event, EventType, Recorder};
use kube::{Client, ResourceExt as _};
use serde_json::{Value, json};
use std::time::Duration;
use time::OffsetDateTime;
use tokio::time::timeout;

/// The API server may take as long as its webhooks may.
const DEADLINE: Duration = Duration::from_secs(35);

/// The namespace of the cluster's own components; no Pod there is evicted.
const SYSTEM: &str = "kube-system";

/// The kubelet's annotation on the copy of a static Pod.
const MIRROR: &str = "kubernetes.io/config.mirror";

/// Longest `generateName` that leaves room for what the API server adds.
const LONGEST_PREFIX: usize = 50;

/// Versions of the Eviction API; the first that the cluster knows is used: `policy/v1` exists since
/// Kubernetes 1.22.
const EVICTIONS: [&str; 2] = ["policy/v1", "policy/v1beta1"];

/// The responder's view of the API server.
pub(super) struct Api {
    pub(super) client: Client,
    pub(super) recorder: Recorder,
    pub(super) only_say: bool,
}

impl Api {
    /// Evicts the Pod, if its controller will create a better one.
    pub(super) async fn evict(&self, candidate: &Candidate, criteria: &Criteria) -> Outcome {
        let attempt = self.attempt(candidate, criteria);
        let outcome = match timeout(DEADLINE, attempt).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(error)) => {
                tracing::warn!(%error, pod = candidate.name, "cannot respond to drift");
                Outcome::Failed
            }
            Err(_elapsed) => Outcome::Failed,
        };
        self.say(candidate, outcome).await;
        outcome
    }

    async fn attempt(&self, candidate: &Candidate, criteria: &Criteria) -> kube::Result<Outcome> {
        let api = kube::Api::<Pod>::namespaced(self.client.clone(), &candidate.namespace);
        let Some(pod) = api.get_opt(&candidate.name).await? else {
            return Ok(Outcome::Gone);
        };
        if let Some(outcome) = not_to_be_evicted(&pod, candidate) {
            return Ok(outcome);
        }
        if !has(&pod, candidate) {
            return Ok(Outcome::Foreign);
        }
        let dry_run = PostParams {
            dry_run: true,
            ..PostParams::default()
        };
        let replacement = match api.create(&dry_run, &another(&pod)).await {
            Ok(replacement) => replacement,
            // Refused by a webhook, a quota, or the like: the controller's Pod would be refused,
            // too.
            Err(kube::Error::Api(status))
                if (400..500).contains(&status.code) && status.code != 429 =>
            {
                tracing::info!(
                    status = status.message,
                    pod = candidate.name,
                    "a Pod like this one is refused"
                );
                return Ok(Outcome::Denied);
            }
            Err(error) => return Err(error),
        };
        if !is_better(&pod, &replacement, candidate, criteria) {
            return Ok(Outcome::NotSwapped);
        }
        if self.only_say {
            return Ok(Outcome::WouldEvict);
        }
        self.remove(&api, candidate).await
    }

    async fn remove(&self, api: &kube::Api<Pod>, candidate: &Candidate) -> kube::Result<Outcome> {
        let mut refused = None;
        for version in EVICTIONS {
            let eviction = json!({
                "apiVersion": version,
                "kind": "Eviction",
                "metadata": {"namespace": candidate.namespace, "name": candidate.name},
                "deleteOptions": {"preconditions": {"uid": candidate.uid}},
            });
            let params = PostParams::default();
            let evicted = api
                .create_subresource::<_, Value>("eviction", &candidate.name, &params, &eviction)
                .await;
            match evicted {
                Ok(_) => return Ok(Outcome::Evicted),
                Err(kube::Error::Api(status)) => match status.code {
                    429 => return Ok(Outcome::Blocked),
                    404 | 409 => return Ok(Outcome::Gone),
                    // The API server does not know this version.
                    400 => refused = Some(kube::Error::Api(status)),
                    _ => return Err(kube::Error::Api(status)),
                },
                Err(error) => return Err(error),
            }
        }
        refused.map_or(Ok(Outcome::Failed), Err)
    }

    /// Writes an Event on the Pod: for every action, and once for each reason to do nothing.
    async fn say(&self, candidate: &Candidate, outcome: Outcome) {
        let Some((type_, reason, note)) = words(candidate, outcome) else {
            return;
        };
        let event = Event {
            type_,
            reason: reason.to_owned(),
            note: Some(note),
            action: "Evict".to_owned(),
            secondary: None,
        };
        let pod = ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Pod".to_owned()),
            namespace: Some(candidate.namespace.clone()),
            name: Some(candidate.name.clone()),
            uid: Some(candidate.uid.clone()),
            ..ObjectReference::default()
        };
        if let Err(error) = self.recorder.publish(&event, &pod).await {
            tracing::debug!(%error, "cannot publish an Event");
        }
    }
}

fn words(candidate: &Candidate, outcome: Outcome) -> Option<(EventType, &'static str, String)> {
    let Candidate {
        container, image, ..
    } = candidate;
    let skipped = |why: &str| {
        let note = format!("Container {container} runs {image}; not evicted: {why}");
        Some((EventType::Normal, "ImageSwapEvictionSkipped", note))
    };
    match outcome {
        Outcome::Evicted => {
            let note =
                format!("Evicted: container {container} ran {image}; the next Pod is swapped");
            Some((EventType::Warning, "ImageSwapEvicted", note))
        }
        Outcome::WouldEvict => skipped("only a dry run"),
        Outcome::NotSwapped => skipped("a new Pod would run the same image"),
        Outcome::Foreign => skipped("the Pod's status does not have this container"),
        Outcome::Denied => skipped("a new Pod like this one would be refused"),
        Outcome::Blocked => skipped("a PodDisruptionBudget does not allow it now"),
        Outcome::Refused => skipped("of kube-system, or without a controller"),
        Outcome::Gone | Outcome::Failed => None,
    }
}

/// Why a Pod is never evicted.
fn not_to_be_evicted(pod: &Pod, candidate: &Candidate) -> Option<Outcome> {
    let is_another = pod.metadata.uid.as_deref() != Some(&*candidate.uid);
    if is_another || pod.metadata.deletion_timestamp.is_some() {
        return Some(Outcome::Gone);
    }
    let has_controller = pod
        .owner_references()
        .iter()
        .any(|it| it.controller == Some(true));
    let is_refused =
        candidate.namespace == SYSTEM || pod.annotations().contains_key(MIRROR) || !has_controller;
    is_refused.then_some(Outcome::Refused)
}

/// The Pod that its controller would create, derived from this one.
fn another(pod: &Pod) -> Pod {
    let mut prefix = pod.name_any();
    prefix.truncate(prefix.floor_char_boundary(LONGEST_PREFIX));
    let mut annotations = pod.annotations().clone();
    annotations.remove(note::ANNOTATION);
    let mut spec = pod.spec.clone();
    if let Some(spec) = &mut spec {
        spec.node_name = None;
        // A Pod cannot be created with these.
        spec.ephemeral_containers = None;
    }
    let metadata = kube::core::ObjectMeta {
        generate_name: Some(format!("{prefix}-")),
        namespace: pod.namespace(),
        labels: pod.metadata.labels.clone(),
        annotations: Some(annotations),
        ..kube::core::ObjectMeta::default()
    };
    Pod {
        metadata,
        spec,
        status: None,
    }
}

/// Whether the kubelet reported the container, by its id, under that name. A client of the CRI can
/// put a container of any name into the Pod's sandbox.
fn has(pod: &Pod, candidate: &Candidate) -> bool {
    let Some(status) = &pod.status else {
        return false;
    };
    let init = status.init_container_statuses.iter();
    let mut all = status.container_statuses.iter().chain(init).flatten();
    all.any(|it| {
        let id = it.container_id.as_deref();
        let id = id.and_then(|id| Some(id.split_once("://")?.1));
        it.name == candidate.container && id == Some(&*candidate.container_id)
    })
}

/// The container's image in the specification.
fn image_of<'p>(pod: &'p Pod, name: &str) -> Option<&'p str> {
    let spec = pod.spec.as_ref()?;
    let init = spec.init_containers.iter().flatten();
    let mut all = spec.containers.iter().chain(init);
    all.find(|it| it.name == name)?.image.as_deref()
}

/// Whether admission swaps the drifting container's image in the specification to one that the
/// policy approves. Evicting does not help if a container runs something else than its
/// specification says.
fn is_better(pod: &Pod, replacement: &Pod, candidate: &Candidate, criteria: &Criteria) -> bool {
    let image = |pod| image_of(pod, &candidate.container);
    let (Some(before), Some(after)) = (image(pod), image(replacement)) else {
        return false;
    };
    let namespace_labels = criteria.namespaces.labels(&candidate.namespace);
    let scope = Scope::Pod(PodScope {
        namespace: Some(&candidate.namespace),
        namespace_labels: namespace_labels.as_deref(),
        labels: replacement.metadata.labels.as_ref().map(|it| it as _),
    });
    let today = OffsetDateTime::now_utc().date();
    let selected = criteria.policies.select(scope, today);
    let selected = selected.in_container(Some(&candidate.container));
    let decision = selected.decide(after);
    after != before && after != candidate.image && decision.in_scope && !decision.is_drift()
}

#[cfg(test)]
mod tests {
    use super::*;
    use imageswap_policy::{Policies, maps};
    use std::sync::Arc;

    fn candidate() -> Candidate {
        Candidate {
            start_id: "boot/1".to_owned(),
            drifts: true,
            namespace: "team-a".to_owned(),
            name: "web-1".to_owned(),
            uid: "u".to_owned(),
            owner: None,
            container: "app".to_owned(),
            container_id: "c1".to_owned(),
            image: "nginx".to_owned(),
        }
    }

    fn pod(patch: &Value) -> Pod {
        let mut pod = json!({
            "metadata": {"name": "web-1", "namespace": "team-a", "uid": "u", "resourceVersion": "7",
                "annotations": {"imageswap.io/note": "{}", "a": "b"},
                "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": "r",
                    "controller": true}]},
            "spec": {"nodeName": "n1", "containers": [{"name": "app", "image": "nginx"}],
                "ephemeralContainers": [{"name": "dbg", "image": "x"}]},
            "status": {"phase": "Running", "containerStatuses": [{"name": "app", "containerID": "containerd://c1",
                "image": "nginx", "imageID": "", "ready": true, "restartCount": 0}]},
        });
        for (key, value) in patch.as_object().unwrap() {
            pod["metadata"][key] = value.clone();
        }
        serde_json::from_value(pod).unwrap()
    }

    #[test]
    fn what_must_never_be_evicted_is_left_alone() {
        let system = Candidate {
            namespace: SYSTEM.to_owned(),
            ..candidate()
        };
        #[rustfmt::skip]
        let table = [
            ("an ordinary one", json!({}), candidate(), None),
            ("another of its name", json!({"uid": "v"}), candidate(), Some(Outcome::Gone)),
            ("one that ends", json!({"deletionTimestamp": "2026-01-01T00:00:00Z"}), candidate(), Some(Outcome::Gone)),
            ("a static Pod's copy", json!({"annotations": {MIRROR: "h"}}), candidate(), Some(Outcome::Refused)),
            ("a bare one", json!({"ownerReferences": []}), candidate(), Some(Outcome::Refused)),
            ("the system's", json!({}), system, Some(Outcome::Refused)),
        ];
        for (what, patch, candidate, expected) in table {
            assert_eq!(
                not_to_be_evicted(&pod(&patch), &candidate),
                expected,
                "{what}"
            );
        }
    }

    #[test]
    fn the_dry_run_is_of_a_pod_that_can_be_made() {
        let another = another(&pod(&json!({})));
        let text = serde_json::to_value(&another).unwrap();
        assert_eq!(text["metadata"]["generateName"], "web-1-");
        assert_eq!(text["metadata"]["annotations"], json!({"a": "b"}));
        for gone in ["name", "uid", "resourceVersion", "ownerReferences"] {
            assert_eq!(text["metadata"][gone], Value::Null, "{gone}");
        }
        for gone in ["nodeName", "ephemeralContainers"] {
            assert_eq!(text["spec"][gone], Value::Null, "{gone}");
        }
        assert_eq!(text["status"], Value::Null);
    }

    #[test]
    fn only_an_image_that_the_policy_approves_is_better() {
        let text = "default::registry.example.com\nnoswap_wildcards::registry.example.com\n";
        let policies = Policies::one(maps::load("test", text).unwrap().policy);
        let criteria = Criteria::new(Arc::new(policies));
        for (image, expected) in [
            ("nginx", false),
            ("quay.io/nginx", false),
            ("registry.example.com/nginx", true),
        ] {
            let mut replacement = pod(&json!({}));
            replacement.spec.as_mut().unwrap().containers[0].image = Some(image.to_owned());
            let original = pod(&json!({}));
            let is_better = is_better(&original, &replacement, &candidate(), &criteria);
            assert_eq!(is_better, expected, "{image}");
        }
    }

    /// The container does not run the image of the specification, which is fine already.
    #[test]
    fn a_pod_whose_specification_stays_is_not_better_off() {
        let text = "default::registry.example.com\nnoswap_wildcards::registry.example.com\n";
        let policies = Policies::one(maps::load("test", text).unwrap().policy);
        let criteria = Criteria::new(Arc::new(policies));
        let mut innocent = pod(&json!({}));
        innocent.spec.as_mut().unwrap().containers[0].image =
            Some("registry.example.com/nginx".to_owned());
        assert!(!is_better(&innocent, &innocent, &candidate(), &criteria));
    }

    #[test]
    fn only_what_the_kubelet_reported_is_the_pods_own() {
        let pod = pod(&json!({}));
        let named = |container: &str, id: &str| Candidate {
            container: container.to_owned(),
            container_id: id.to_owned(),
            ..candidate()
        };
        assert!(has(&pod, &named("app", "c1")));
        assert!(!has(&pod, &named("app", "c2")), "put there by somebody");
        assert!(!has(&pod, &named("other", "c1")));
        let fresh = Pod {
            status: None,
            ..pod
        };
        assert!(!has(&fresh, &named("app", "c1")), "not reported yet");
    }
}
