//! The node's Pods from the API server: their admitted state, and the note from admission.

use crate::node;
use imageswap_policy::note;
use k8s_openapi::api::core::v1::{Container, Pod, PodStatus};
use kube::ResourceExt as _;
use schemars::JsonSchema;
use serde::Serialize;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

pub mod watch;

/// How long a deleted Pod is remembered, because its containers outlive a forced deletion.
const KEPT_AFTER_DELETION: Duration = Duration::from_mins(10);

/// The kubelet's annotation on a static Pod's copy in the API; its value is the UID that the
/// kubelet assigned.
const MIRROR: &str = "kubernetes.io/config.mirror";
const HASH: &str = "kubernetes.io/config.hash";

/// The label that distinguishes a Deployment's ReplicaSets; their names end with its value.
const TEMPLATE_HASH: &str = "pod-template-hash";

/// Kubernetes limits the length of each label, but not their number, and annotations to 256 KiB.
/// Longer labels are unknown, and a longer note counts as missing.
const LONGEST_LABELS: usize = 64 << 10;
const LONGEST_NOTE: usize = 64 << 10;

/// A longer text is not a reference.
const LONGEST_IMAGE: usize = 1 << 10;

/// Whether a Pod's labels are short enough to keep.
pub(crate) fn labels_within(labels: &BTreeMap<String, String>) -> bool {
    let lengths = labels.iter().map(|(key, value)| key.len() + value.len());
    lengths.sum::<usize>() <= LONGEST_LABELS
}

/// Whether a Pod's note is short enough to keep.
pub(crate) const fn note_within(note: &str) -> bool {
    note.len() <= LONGEST_NOTE
}

/// A Pod as a runtime names it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PodName {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// UID; for a static Pod the hash that the kubelet assigned.
    pub uid: String,
}

/// The workload that owns a pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Owner {
    /// Kind, such as `Deployment`.
    pub kind: String,
    /// Name.
    pub name: String,
}

/// The stored part of a Pod.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PodRecord {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// UID.
    pub uid: String,
    /// Version of the object; a higher one is newer. 0 if it is not a number.
    pub version: u64,
    /// Labels; `None` if they are too long to keep.
    pub labels: Option<BTreeMap<String, String>>,
    /// Text of the annotation [`note::ANNOTATION`].
    pub note: Option<String>,
    /// For the copy of a static Pod, the UID that the kubelet gave to the original.
    pub mirror_of: Option<String>,
    /// The workload that owns it.
    pub owner: Option<Owner>,
    /// Its containers of every kind, by name.
    pub containers: BTreeMap<String, PodContainer>,
}

/// A container of a Pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodContainer {
    /// The image of the specification.
    pub image: String,
    /// Whether it is an ephemeral container.
    pub ephemeral: bool,
    /// Id of the container that the kubelet last reported, without the runtime's name.
    pub id: Option<String>,
}

/// The answer about the Pod that a container claims to belong to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ownership {
    /// The API server has the Pod.
    Known(Arc<PodRecord>),
    /// The API server was asked, and has no Pod of this UID.
    Absent,
}

/// A change of the node's Pods.
#[derive(Debug, Clone)]
pub enum PodChange {
    /// A Pod's present state.
    Known(Arc<PodRecord>),
    /// A Pod was deleted.
    Deleted(String),
    /// A list is complete: Pods that were not in it are gone.
    Listed(HashSet<String>),
}

/// The Pods of the node, by the UID that the API server gave them. Clones share them.
#[derive(Debug, Default, Clone)]
pub struct Pods(Arc<Mutex<HashMap<String, Kept>>>);

#[derive(Debug)]
struct Kept {
    pod: Arc<PodRecord>,
    deleted_ns: Option<u64>,
}

impl Pods {
    /// Applies a change. `now_ns` is since boot.
    pub fn apply(&self, change: PodChange, now_ns: u64) {
        let mut by_uid = self.lock();
        match change {
            PodChange::Known(pod) => {
                let kept = Kept {
                    pod: Arc::clone(&pod),
                    deleted_ns: None,
                };
                by_uid.insert(pod.uid.clone(), kept);
            }
            PodChange::Deleted(uid) => {
                if let Some(kept) = by_uid.get_mut(&uid) {
                    kept.deleted_ns.get_or_insert(now_ns);
                }
            }
            PodChange::Listed(uids) => {
                let gone = |(uid, _): &(&String, &mut Kept)| !uids.contains(*uid);
                for (_, kept) in by_uid.iter_mut().filter(gone) {
                    kept.deleted_ns.get_or_insert(now_ns);
                }
            }
        }
    }

    /// The Pod that a runtime names for a process that began at `began_ns` since boot, if that is known. One
    /// that was deleted before is not its Pod: any client of the CRI can name it.
    ///
    /// Anyone who may create Pods can create one that claims to be the mirror of any UID. So a
    /// mirror counts only if the API server gave this UID to no Pod.
    pub fn of(&self, named: &PodName, began_ns: Option<u64>) -> Option<Arc<PodRecord>> {
        let by_uid = self.lock();
        let is_its = |kept: &&Kept| {
            let deleted_ns = kept.deleted_ns;
            kept.pod.is(named)
                && deleted_ns.is_none_or(|at| began_ns.is_some_and(|began| began < at))
        };
        let kept = match by_uid.get(&named.uid) {
            Some(kept) => Some(kept).filter(is_its),
            None => by_uid.values().find(is_its),
        };
        Some(Arc::clone(&kept?.pod))
    }

    /// The Pod whose status lists this container, if only one does: whoever may write the status of a Pod
    /// can name any container there.
    pub fn running(&self, id: &str) -> Option<Arc<PodRecord>> {
        let by_uid = self.lock();
        let mut kept = by_uid.values().filter(|kept| kept.pod.runs(id));
        let pod = Arc::clone(&kept.next()?.pod);
        kept.next().is_none().then_some(pod)
    }

    /// Whether any Pod of this node is known.
    pub fn has_any(&self) -> bool {
        !self.lock().is_empty()
    }

    /// Drops Pods that were deleted long enough ago.
    pub fn purge(&self, now_ns: u64) {
        let kept_ns = node::nanos(KEPT_AFTER_DELETION);
        self.lock().retain(|_, kept| {
            kept.deleted_ns
                .is_none_or(|at| now_ns.saturating_sub(at) < kept_ns)
        });
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Kept>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PodRecord {
    /// The UID that its containers carry: for a static Pod the one that the kubelet assigned, not
    /// that of its copy.
    pub fn uid_on_node(&self) -> &str {
        self.mirror_of.as_ref().unwrap_or(&self.uid)
    }

    /// Whether a runtime that names this Pod means this one.
    pub fn is(&self, named: &PodName) -> bool {
        self.uid_on_node() == named.uid
            && self.namespace == named.namespace
            && self.name == named.name
    }

    /// Whether this record counts instead of an earlier one of the same container: it is newer, and
    /// is not a mirror of a Pod that the API server has.
    pub fn replaces(&self, earlier: &Self) -> bool {
        if self.mirror_of.as_ref() == Some(&earlier.uid) {
            return false;
        }
        let is_same = earlier.uid_on_node() == self.uid_on_node();
        earlier.mirror_of.as_ref() == Some(&self.uid)
            || (is_same && earlier.version <= self.version)
    }

    /// Whether the kubelet reported this container id.
    pub fn runs(&self, id: &str) -> bool {
        self.container(id).is_some()
    }

    /// The container that the kubelet reported under this id.
    pub fn container(&self, id: &str) -> Option<&PodContainer> {
        let mut containers = self.containers.values();
        containers.find(|container| container.id.as_deref() == Some(id))
    }
}

impl From<Pod> for PodRecord {
    fn from(pod: Pod) -> Self {
        let annotation = |name: &str| pod.annotations().get(name).cloned();
        let owner = owner(&pod);
        let (note, mirror_of) = (
            annotation(note::ANNOTATION),
            annotation(MIRROR).and_then(|_| annotation(HASH)),
        );
        let version = pod.resource_version();
        let ids = pod.status.as_ref().map(ids).unwrap_or_default();
        let mut containers = BTreeMap::new();
        if let Some(spec) = pod.spec {
            let plain = |it: Container| (it.name, it.image, false);
            let all = spec.containers.into_iter().map(plain);
            let init = spec.init_containers.into_iter().flatten().map(plain);
            let ephemeral = spec.ephemeral_containers.into_iter().flatten();
            let ephemeral = ephemeral.map(|it| (it.name, it.image, true));
            for (name, image, ephemeral) in all.chain(init).chain(ephemeral) {
                let image = image.filter(|image| image.len() <= LONGEST_IMAGE);
                let container = PodContainer {
                    image: image.unwrap_or_default(),
                    ephemeral,
                    id: ids.get(&name).cloned(),
                };
                containers.insert(name, container);
            }
        }
        Self {
            namespace: pod.metadata.namespace.unwrap_or_default(),
            name: pod.metadata.name.unwrap_or_default(),
            uid: pod.metadata.uid.unwrap_or_default(),
            version: version.and_then(|it| it.parse().ok()).unwrap_or_default(),
            labels: Some(pod.metadata.labels.unwrap_or_default()).filter(labels_within),
            note: note.filter(|note| note_within(note)),
            mirror_of,
            owner,
            containers,
        }
    }
}

/// The controller; for a Deployment's ReplicaSet the Deployment, which the labels show without
/// another request.
fn owner(pod: &Pod) -> Option<Owner> {
    let references = pod.owner_references();
    let controller = references.iter().find(|it| it.controller == Some(true))?;
    let of_template = || {
        let hash = pod.labels().get(TEMPLATE_HASH)?;
        let name = controller.name.strip_suffix(hash.as_str())?;
        name.strip_suffix('-').filter(|name| !name.is_empty())
    };
    let deployment = (controller.kind == "ReplicaSet").then(of_template);
    Some(match deployment.flatten() {
        Some(name) => Owner {
            kind: "Deployment".to_owned(),
            name: name.to_owned(),
        },
        None => Owner {
            kind: controller.kind.clone(),
            name: controller.name.clone(),
        },
    })
}

/// Ids of the containers that the kubelet last reported, by container name.
fn ids(status: &PodStatus) -> HashMap<String, String> {
    let all = [
        &status.container_statuses,
        &status.init_container_statuses,
        &status.ephemeral_container_statuses,
    ];
    let all = all.into_iter().flatten().flatten();
    all.filter_map(|it| {
        let (_runtime, id) = it.container_id.as_deref()?.split_once("://")?;
        Some((it.name.clone(), id.to_owned()))
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn record(pod: serde_json::Value) -> PodRecord {
        serde_json::from_value::<Pod>(pod).unwrap().into()
    }

    fn named(name: &str, uid: &str) -> PodName {
        PodName {
            namespace: "shop".to_owned(),
            name: name.to_owned(),
            uid: uid.to_owned(),
        }
    }

    #[test]
    fn a_pod_is_read_with_every_kind_of_container() {
        let pod = record(json!({
            "metadata": {"namespace": "team-a", "name": "web-6d4b75cb6d-x2x7z", "uid": "u1", "resourceVersion": "42",
                "labels": {"app": "web", "pod-template-hash": "6d4b75cb6d"},
                "annotations": {"imageswap.io/note": "{}"},
                "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-6d4b75cb6d",
                    "uid": "r", "controller": true}]},
            "spec": {"containers": [{"name": "web", "image": "nginx"}],
                "initContainers": [{"name": "init", "image": "busybox"}],
                "ephemeralContainers": [{"name": "debug", "image": "alpine"}]},
            "status": {"containerStatuses": [{"name": "web", "image": "nginx", "imageID": "", "ready": true,
                "restartCount": 0, "containerID": "containerd://abc"}]}
        }));
        assert_eq!((pod.version, pod.note.as_deref()), (42, Some("{}")));
        let owner = pod.owner.clone().unwrap();
        assert_eq!((&*owner.kind, &*owner.name), ("Deployment", "web"));
        let kinds: Vec<_> = pod
            .containers
            .iter()
            .map(|(name, it)| (&**name, it.ephemeral))
            .collect();
        assert_eq!(kinds, [("debug", true), ("init", false), ("web", false)]);
        assert!(pod.runs("abc") && !pod.runs("abd"));
    }

    #[test]
    fn of_a_pod_with_megabytes_little_is_kept() {
        let long = "x".repeat(70 << 10);
        let labels: BTreeMap<_, _> = (0..7000)
            .map(|at| {
                (
                    format!("k{at}.example.com/{}", "n".repeat(50)),
                    "v".repeat(60),
                )
            })
            .collect();
        let pod = record(json!({
            "metadata": {"name": "a", "labels": labels, "annotations": {"imageswap.io/note": long}},
            "spec": {"containers": [{"name": "a", "image": long}]}}));
        assert_eq!((&pod.labels, &pod.note), (&None, &None));
        assert_eq!(pod.containers["a"].image, "");
        let pod = record(json!({"metadata": {"name": "a"}}));
        assert_eq!(pod.labels, Some(BTreeMap::new()), "known to have none");
    }

    #[test]
    fn a_replica_set_of_its_own_stays_one() {
        let pod = record(json!({
            "metadata": {"name": "a-1", "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet",
                "name": "a", "uid": "r", "controller": true}]}}));
        assert_eq!(pod.owner.unwrap().kind, "ReplicaSet");
        assert_eq!(record(json!({"metadata": {"name": "bare"}})).owner, None);
    }

    #[test]
    fn a_static_pod_is_found_by_the_uid_that_the_kubelet_made_up() {
        let mirror = record(
            json!({"metadata": {"namespace": "shop", "name": "static-n1", "uid": "api", "annotations": {
            "kubernetes.io/config.mirror": "hash", "kubernetes.io/config.hash": "hash"}}}),
        );
        let pods = Pods::default();
        pods.apply(PodChange::Known(Arc::new(mirror)), 0);
        assert!(pods.of(&named("static-n1", "hash"), None).is_some());
        assert!(pods.of(&named("static-n1", "api"), None).is_none());
        assert!(pods.of(&named("static-n2", "hash"), None).is_none());
    }

    #[test]
    fn a_pod_that_claims_to_be_the_mirror_of_another_does_not_replace_it() {
        let pod = |name: &str, uid: &str, annotations: serde_json::Value| {
            Arc::new(record(
                json!({"metadata": {"namespace": "shop", "name": name, "uid": uid,
                "annotations": annotations}}),
            ))
        };
        let forged =
            json!({"kubernetes.io/config.mirror": "u1", "kubernetes.io/config.hash": "u1"});
        let changes = [
            pod("web", "u1", json!({})),
            // In the same place the API server has one Pod at a time.
            pod("web", "u2", forged.clone()),
            pod("other", "u3", forged),
        ];
        for order in [[0, 1, 2], [2, 1, 0]] {
            let pods = Pods::default();
            for at in order {
                pods.apply(PodChange::Known(Arc::clone(&changes[at])), 0);
            }
            let of = |name: &str| pods.of(&named(name, "u1"), None).map(|pod| pod.uid.clone());
            assert_eq!(of("web").as_deref(), Some("u1"), "{order:?}");
            assert_eq!(of("other"), None, "{order:?}");
            pods.apply(PodChange::Deleted("u1".to_owned()), 10);
            for (began, is_its) in [(Some(9), true), (Some(10), false), (None, false)] {
                let found = pods.of(&named("web", "u1"), began);
                assert_eq!(
                    found.is_some(),
                    is_its,
                    "{began:?}: what began before may still run"
                );
            }
        }
    }

    #[test]
    fn a_container_that_two_pods_name_is_of_neither() {
        let pod = |uid: &str| {
            let container = PodContainer {
                image: "a".to_owned(),
                ephemeral: false,
                id: Some("c1".to_owned()),
            };
            Arc::new(PodRecord {
                uid: uid.to_owned(),
                containers: [("app".to_owned(), container)].into(),
                ..PodRecord::default()
            })
        };
        let pods = Pods::default();
        pods.apply(PodChange::Known(pod("a")), 0);
        assert!(pods.running("c1").is_some() && pods.running("c2").is_none());
        pods.apply(PodChange::Known(pod("b")), 0);
        assert_eq!(pods.running("c1"), None);
        let later = PodRecord {
            version: 9,
            ..(*pod("b")).clone()
        };
        assert!(!later.replaces(&pod("a")), "another Pod");
    }

    #[test]
    fn a_deleted_pod_is_remembered_for_a_while() {
        let pod = |uid: &str| {
            Arc::new(PodRecord {
                namespace: "shop".to_owned(),
                name: uid.to_owned(),
                uid: uid.to_owned(),
                ..PodRecord::default()
            })
        };
        let is_known = |pods: &Pods, uid: &str| pods.of(&named(uid, uid), Some(0)).is_some();
        let deleted_ns = 1;
        let pods = Pods::default();
        for uid in ["a", "b", "c"] {
            pods.apply(PodChange::Known(pod(uid)), 0);
        }
        pods.apply(PodChange::Deleted("a".to_owned()), deleted_ns);
        pods.apply(PodChange::Listed(HashSet::from(["c".to_owned()])), 5);
        let kept = u64::try_from(KEPT_AFTER_DELETION.as_nanos()).unwrap();
        pods.purge(kept);
        assert!(["a", "b", "c"].iter().all(|uid| is_known(&pods, uid)));
        pods.purge(deleted_ns + kept);
        let left: Vec<_> = ["a", "b", "c"]
            .iter()
            .map(|uid| is_known(&pods, uid))
            .collect();
        assert_eq!(left, [false, true, true]);
        pods.apply(PodChange::Known(pod("b")), kept);
        pods.purge(2 * kept);
        assert!(is_known(&pods, "b"), "it is back");
    }
}
