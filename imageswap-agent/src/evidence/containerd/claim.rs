//! What containerd's records claim about a container.

use super::ContainerRecord;
use crate::claim::{Claim, Content, ContentSource, Kind, Naming, Source};
use crate::evidence::sandbox;
use crate::pods::PodName;

/// What a containerd knows about an image.
#[derive(Debug, Default)]
pub struct Named {
    /// Its digest.
    pub digest: Option<String>,
    /// The names of the digest; `None` if containerd did not answer, or was not asked.
    pub names: Option<Names>,
    /// Where its content was pulled from, if that is known.
    pub pulled_from: Option<Vec<ContentSource>>,
}

/// The names of a digest.
#[derive(Debug, Default)]
pub struct Names {
    /// Those that were read.
    pub known: Vec<String>,
    /// Whether there are too many to read.
    pub left_out: bool,
}

impl ContainerRecord {
    /// The claim about a container whose recorded image is `image`. `content` is whether it runs on
    /// that image's layers.
    pub fn claim(&self, image: Named, content: Content) -> Claim {
        let label = |key: &str| self.labels.get(key).cloned();
        let cri_kind = label(sandbox::KIND);
        // A native client records the reference that was typed; the CRI plugin any name of the
        // digest. Either may record an id that the CRI plugin gave the image as a further name.
        let as_asked = cri_kind.is_none() && !is_id(&self.image);
        // The pod that the kubelet names.
        let pod = || {
            Some(PodName {
                namespace: label("io.kubernetes.pod.namespace")?,
                name: label("io.kubernetes.pod.name")?,
                uid: label("io.kubernetes.pod.uid")?,
            })
        };
        let names = image.names.unwrap_or_default();
        Claim {
            runtime_namespace: Some(self.namespace.clone()),
            kind: Some(Kind::of(cri_kind.as_deref() == Some(sandbox::SANDBOX))),
            through_cri: cri_kind.is_some(),
            image: Some(self.image.clone()).filter(|image| !image.is_empty()),
            naming: Naming::of(as_asked),
            names_left_out: names.left_out,
            names: names.known.into_iter().collect(),
            digest: image.digest,
            content,
            pulled_from: image.pulled_from,
            container_name: cri_kind
                .as_ref()
                .and_then(|_| label("io.kubernetes.container.name")),
            pod: cri_kind.and_then(|_| pod()),
            ..Claim::new(Source::Containerd, self.id.clone(), "containerd")
        }
    }
}

/// The claim of a record with forged labels: a native client's, with the image that it named.
pub fn without_labels(claim: Claim) -> Claim {
    Claim {
        kind: Some(Kind::Container),
        through_cri: false,
        naming: Naming::of(!claim.image.as_deref().is_some_and(is_id)),
        container_name: None,
        pod: None,
        ..claim
    }
}

/// Whether a record has an image's id in the place of its name.
fn is_id(image: &str) -> bool {
    image.starts_with("sha256:")
}
