//! Finds the workload that a Pod belongs to, by owner references and never by names.

use super::objects::{Object, Reference};
use std::collections::HashMap;

/// A workload has few owners above it; a longer chain would be a circle.
const DEPTH: usize = 8;

/// An object that a person wrote: a Deployment, a CronJob, a single Pod.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Workload {
    pub(super) namespace: String,
    pub(super) kind: String,
    pub(super) name: String,
}

/// Controllers of intermediate objects: a ReplicaSet's Deployment, a Job's CronJob.
#[derive(Debug, Default)]
pub(super) struct Owners(HashMap<String, Reference>);

impl Owners {
    /// Records an object's controller.
    pub(super) fn add(&mut self, object: &Object) {
        if let Some(controller) = object.controller() {
            self.0
                .insert(object.metadata.uid.clone(), controller.clone());
        }
    }

    /// The workload of a Pod: the topmost known owner, or the Pod itself.
    pub(super) fn of_pod(&self, pod: &Object) -> Workload {
        let namespace = pod.metadata.namespace.clone();
        // A static Pod belongs to its node, which is not a workload.
        if pod.is_mirror() {
            return Workload {
                namespace,
                kind: "StaticPod".to_owned(),
                name: pod.metadata.name.clone(),
            };
        }
        let Some(mut owner) = pod.controller() else {
            return Workload {
                namespace,
                kind: "Pod".to_owned(),
                name: pod.metadata.name.clone(),
            };
        };
        for _ in 0..DEPTH {
            match self.0.get(&owner.uid) {
                Some(above) => owner = above,
                None => break,
            }
        }
        Workload {
            namespace,
            kind: owner.kind.clone(),
            name: owner.name.clone(),
        }
    }
}

impl Workload {
    /// The object itself, of a kind that list items do not repeat.
    pub(super) fn of(kind: &str, object: &Object) -> Self {
        Self {
            namespace: object.metadata.namespace.clone(),
            kind: kind.to_owned(),
            name: object.metadata.name.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn object(uid: &str, owners: &[(&str, &str, bool)], annotations: &Value) -> Object {
        let owners: Vec<_> = owners
            .iter()
            .map(|(uid, kind, controller)| {
                json!({"kind": kind, "name": format!("name-{uid}"), "uid": uid, "controller": controller})
            })
            .collect();
        serde_json::from_value(json!({"metadata": {
            "name": format!("name-{uid}"), "namespace": "ns", "uid": uid, "annotations": annotations,
            "ownerReferences": owners,
        }}))
        .unwrap()
    }

    #[test]
    fn a_pod_is_its_topmost_controllers() {
        let mut owners = Owners::default();
        owners.add(&object(
            "rs",
            &[("deploy", "Deployment", true)],
            &Value::Null,
        ));
        owners.add(&object("job", &[("cron", "CronJob", true)], &Value::Null));
        owners.add(&object(
            "loop",
            &[("loop", "ReplicaSet", true)],
            &Value::Null,
        ));
        owners.add(&object("lone", &[], &Value::Null));
        let mirror = json!({"kubernetes.io/config.mirror": "0123"});
        #[rustfmt::skip]
        let rows = [
            (&[("rs", "ReplicaSet", true)][..], Value::Null, "Deployment name-deploy"),
            (&[("job", "Job", true)], Value::Null, "CronJob name-cron"),
            (&[("lone", "ReplicaSet", true)], Value::Null, "ReplicaSet name-lone"),
            (&[("x", "Rollout", true)], Value::Null, "Rollout name-x"),
            (&[("x", "Thing", false), ("rs", "ReplicaSet", true)], json!({"a": "b"}), "Deployment name-deploy"),
            (&[("x", "Thing", false)], Value::Null, "Pod name-pod"),
            (&[], Value::Null, "Pod name-pod"),
            (&[("n", "Node", true)], mirror, "StaticPod name-pod"),
            (&[("loop", "ReplicaSet", true)], Value::Null, "ReplicaSet name-loop"),
        ];
        for (references, annotations, expected) in rows {
            let found = owners.of_pod(&object("pod", references, &annotations));
            assert_eq!(format!("{} {}", found.kind, found.name), expected);
            assert_eq!(found.namespace, "ns");
        }
    }
}
