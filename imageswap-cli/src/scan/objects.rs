//! The fields of API objects that a scan needs; others are not kept.

use imageswap_policy::manifest::List;
use serde::Deserialize;
use serde::de::IgnoredAny;
use std::collections::BTreeMap;

/// One page of a list.
#[derive(Debug, Deserialize)]
pub(super) struct Page {
    #[serde(default)]
    pub(super) metadata: PageMetadata,
    #[serde(default)]
    items: Option<Vec<Object>>,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct PageMetadata {
    /// Token of the next page; empty or absent on the last one.
    #[serde(rename = "continue")]
    pub(super) next: Option<String>,
}

/// A namespace, a Pod, or a workload.
#[derive(Debug, Deserialize)]
pub(super) struct Object {
    pub(super) metadata: Metadata,
    spec: Option<Spec>,
    status: Option<Status>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Metadata {
    pub(super) name: String,
    pub(super) namespace: String,
    pub(super) uid: String,
    labels: Option<BTreeMap<String, String>>,
    annotations: Option<Annotations>,
    owner_references: Option<Vec<Reference>>,
}

/// The owner of an object.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Reference {
    pub(super) kind: String,
    pub(super) name: String,
    pub(super) uid: String,
    #[serde(default)]
    controller: Option<bool>,
}

#[derive(Debug, Deserialize)]
struct Annotations {
    /// On the copy of a Pod that the kubelet started from a file.
    #[serde(rename = "kubernetes.io/config.mirror")]
    mirror: Option<IgnoredAny>,
}

/// The `spec` of a Pod, or of an object with a Pod template.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    init_containers: Option<Vec<Container>>,
    containers: Option<Vec<Container>>,
    ephemeral_containers: Option<Vec<Container>>,
    volumes: Option<Vec<Volume>>,
    template: Option<Box<Template>>,
    job_template: Option<JobTemplate>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Template {
    metadata: Metadata,
    spec: Spec,
}

#[derive(Debug, Deserialize)]
struct JobTemplate {
    spec: Option<Box<Spec>>,
}

#[derive(Debug, Deserialize)]
struct Container {
    #[serde(default)]
    name: String,
    image: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Volume {
    #[serde(default)]
    name: String,
    image: Option<VolumeImage>,
}

#[derive(Debug, Deserialize)]
struct VolumeImage {
    reference: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Status {
    phase: Option<String>,
}

/// An image that a Pod or a template names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Named<'a> {
    pub(super) list: List,
    pub(super) container: &'a str,
    pub(super) image: &'a str,
}

/// Labels and images of a Pod or a template.
#[derive(Debug, Clone, Copy)]
pub(super) struct Content<'a> {
    labels: Option<&'a BTreeMap<String, String>>,
    spec: &'a Spec,
}

impl Page {
    pub(super) fn items(self) -> Vec<Object> {
        self.items.unwrap_or_default()
    }

    /// The token of the next page, if there is one.
    pub(super) fn next(&self) -> Option<String> {
        self.metadata.next.clone().filter(|it| !it.is_empty())
    }
}

impl Object {
    /// The owner that controls it.
    pub(super) fn controller(&self) -> Option<&Reference> {
        let owners = self.metadata.owner_references.iter().flatten();
        owners.into_iter().find(|it| it.controller == Some(true))
    }

    /// Whether it is the copy of a Pod that a kubelet started from a file.
    pub(super) fn is_mirror(&self) -> bool {
        let annotations = self.metadata.annotations.as_ref();
        annotations.is_some_and(|it| it.mirror.is_some())
    }

    /// Whether all containers of this Pod have ended for good.
    pub(super) fn is_finished(&self) -> bool {
        let phase = self.status.as_ref().and_then(|it| it.phase.as_deref());
        matches!(phase, Some("Succeeded" | "Failed"))
    }

    /// Marks the containers of this Pod as ended.
    #[cfg(test)]
    pub(super) fn finish(&mut self) {
        let phase = Some("Succeeded".to_owned());
        self.status = Some(Status { phase });
    }

    pub(super) fn labels(&self) -> BTreeMap<String, String> {
        self.metadata.labels.clone().unwrap_or_default()
    }

    /// The content of a Pod.
    pub(super) fn pod(&self) -> Option<Content<'_>> {
        self.spec.as_ref().map(|it| Content {
            labels: self.metadata.labels.as_ref(),
            spec: it,
        })
    }

    /// The content of a workload's future Pods.
    pub(super) fn template(&self) -> Option<Content<'_>> {
        let spec = self.spec.as_ref()?;
        let spec = match &spec.job_template {
            Some(job) => job.spec.as_deref()?,
            None => spec,
        };
        spec.template.as_ref().map(|it| Content {
            labels: it.metadata.labels.as_ref(),
            spec: &it.spec,
        })
    }
}

impl<'a> Content<'a> {
    /// Its labels. An object without labels has none, which is not unknown.
    pub(super) fn labels(&self) -> &'a BTreeMap<String, String> {
        static NONE: BTreeMap<String, String> = BTreeMap::new();
        self.labels.unwrap_or(&NONE)
    }

    /// Its images, in the order of reading a Pod.
    pub(super) fn images(&self) -> impl Iterator<Item = Named<'a>> {
        let spec = self.spec;
        let containers = [
            (List::InitContainers, &spec.init_containers),
            (List::Containers, &spec.containers),
            (List::EphemeralContainers, &spec.ephemeral_containers),
        ];
        let containers = containers.into_iter().flat_map(|(list, containers)| {
            containers.iter().flatten().filter_map(move |it| {
                Some(Named {
                    list,
                    container: &it.name,
                    image: it.image.as_deref()?,
                })
            })
        });
        let volumes = spec.volumes.iter().flatten().filter_map(|it| {
            Some(Named {
                list: List::Volumes,
                container: &it.name,
                image: it.image.as_ref()?.reference.as_deref()?,
            })
        });
        containers.chain(volumes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn object(value: Value) -> Object {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn every_list_of_a_pod_is_read_and_null_ones_too() {
        let pod = object(
            json!({"metadata": {"name": "a", "labels": {"app": "a"}}, "spec": {
                "nodeName": "n",
                "initContainers": [{"name": "i", "image": "a"}],
                "containers": [{"name": "c", "image": "b", "env": []}, {"name": "none"}],
                "ephemeralContainers": [{"name": "e", "image": "c"}],
                "volumes": [{"name": "v", "image": {"reference": "d"}}, {"name": "w", "emptyDir": {}}],
            }}),
        );
        let content = pod.pod().unwrap();
        let images: Vec<_> = content
            .images()
            .map(|it| (it.container, it.image))
            .collect();
        assert_eq!(images, [("i", "a"), ("c", "b"), ("e", "c"), ("v", "d")]);
        assert_eq!(content.labels()["app"], "a");
        let pod = object(
            json!({"metadata": {"labels": null}, "spec": {"containers": null, "volumes": null}}),
        );
        assert_eq!(pod.pod().unwrap().images().count(), 0);
        assert!(!pod.is_mirror() && !pod.is_finished() && pod.controller().is_none());
    }

    #[test]
    fn templates_lie_where_the_kind_has_them() {
        let template = json!({"metadata": {"creationTimestamp": null, "labels": {"x": "y"}},
            "spec": {"containers": [{"name": "c", "image": "a"}]}});
        for spec in [
            json!({"replicas": 0, "template": template}),
            json!({"schedule": "* * * * *", "jobTemplate": {"spec": {"template": template}}}),
        ] {
            let workload = object(json!({"metadata": {"name": "w"}, "spec": spec}));
            let content = workload.template().unwrap();
            assert_eq!(content.images().count(), 1);
            assert_eq!(content.labels()["x"], "y");
        }
        assert!(object(json!({"metadata": {}})).template().is_none());
    }
}
