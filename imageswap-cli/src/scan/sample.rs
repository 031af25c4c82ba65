//! Objects for tests, in the namespace `shop`.

use super::objects::Object;
use crate::scope::{NamespaceArgs, Namespaces};
use serde_json::{Value, json};
use std::sync::LazyLock;

/// No labels of namespaces on the command line.
pub(super) fn namespaces() -> Namespaces<'static> {
    static NONE: LazyLock<NamespaceArgs> = LazyLock::new(NamespaceArgs::default);
    Namespaces::new(&NONE)
}

pub(super) fn object(value: Value) -> Object {
    serde_json::from_value(value).expect("the sample is an object")
}

pub(super) fn namespace(name: &str, label: &str, value: &str) -> Object {
    object(json!({"metadata": {"name": name, "labels": {label: value}}}))
}

pub(super) fn pod(name: &str, container: &str, image: &str, replica_set: Option<&str>) -> Object {
    let owners: Vec<_> = replica_set
        .iter()
        .map(|uid| json!({"kind": "ReplicaSet", "name": uid, "uid": uid, "controller": true}))
        .collect();
    object(json!({
        "metadata": {"name": name, "namespace": "shop", "uid": name, "ownerReferences": owners},
        "spec": {"containers": [{"name": container, "image": image}]},
        "status": {"phase": "Running"},
    }))
}

/// The Pod, once its containers have ended.
pub(super) fn finished(mut pod: Object) -> Object {
    pod.finish();
    pod
}

/// A `ReplicaSet` whose Deployment has this name.
pub(super) fn replica_set(uid: &str, deployment: &str) -> Object {
    let owner = json!({"kind": "Deployment", "name": deployment, "uid": "d", "controller": true});
    object(json!({"metadata": {
        "name": uid, "namespace": "shop", "uid": uid, "ownerReferences": [owner],
    }}))
}

pub(super) fn deployment(name: &str, image: &str) -> Object {
    object(json!({
        "metadata": {"name": name, "namespace": "shop", "uid": "d"},
        "spec": {"template": {"spec": {"containers": [{"name": "web", "image": image}]}}},
    }))
}
