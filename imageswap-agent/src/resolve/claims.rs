//! Turns the records of sources into claims.

use super::Asked;
use super::described::Snapshot;
use crate::evidence::EvidenceError;
use crate::evidence::bundle::Bundle;
use crate::evidence::containerd::{
    Configuration, ContainerRecord, Containerd, ContentSource, ImageRecord,
};
use crate::evidence::cri::{Cri, CriContainer, CriSandbox};
use crate::evidence::runc::RuncState;
use crate::evidence::sandbox;
use crate::evidence::storage::StoredImage;
use crate::evidence::user::UserContainer;
use crate::facts::{Claim, Content, Kind, Naming, Source};
use crate::pods::PodName;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tokio::join;

/// The containerd namespace of the CRI plugin.
pub(super) const CRI_NAMESPACE: &str = "k8s.io";

/// A containerd's claim, and what it is based on.
pub(super) struct OfRecord {
    pub claim: Claim,
    /// The configuration of the image, if the container runs on its layers.
    pub image: Option<Configuration>,
}

/// The names of a digest.
#[derive(Default)]
pub(super) struct Names {
    pub known: Vec<String>,
    /// Whether there are too many to read.
    pub left_out: bool,
}

/// What a containerd knows about the name in a record.
#[derive(Default)]
pub(super) struct Named {
    digest: Option<String>,
    /// `None` if containerd did not answer, or was not asked.
    names: Option<Names>,
    pulled_from: Option<Vec<ContentSource>>,
}

/// The kubelet's annotation for the source of each pod: `api`, or else `file` or `http`.
const POD_SOURCE: &str = "kubernetes.io/config.source";

impl Asked {
    /// containerd's claim about a container whose process runs on `layers`.
    pub(super) async fn containerd_claim(
        &self,
        containerd: &Containerd,
        record: &ContainerRecord,
        image: Named,
        layers: Option<&str>,
    ) -> OfRecord {
        let cri_kind = record.labels.get(sandbox::KIND).map(String::as_str);
        // A native client records the reference that was typed; the CRI plugin any name of the
        // digest. Either may record an id that the CRI plugin gave the image as a further name.
        let as_asked = cri_kind.is_none() && !record.image.starts_with("sha256:");
        let Named {
            digest,
            names,
            pulled_from,
        } = image;
        let image = match &digest {
            // Unknown names and sources could speak against the image.
            Some(digest) if names.is_some() && pulled_from.is_some() => {
                self.image_on(containerd, &record.namespace, digest, layers)
                    .await
            }
            _ => None,
        };
        let label = |key: &str| record.labels.get(key).cloned();
        let claim = Claim {
            runtime_namespace: Some(record.namespace.clone()),
            kind: Some(if cri_kind == Some(sandbox::SANDBOX) {
                Kind::Sandbox
            } else {
                Kind::Container
            }),
            through_cri: cri_kind.is_some(),
            image: Some(&record.image)
                .filter(|image| !image.is_empty())
                .cloned(),
            naming: if as_asked {
                Naming::AsAsked
            } else {
                Naming::AnyOfDigest
            },
            names_left_out: names.as_ref().is_some_and(|names| names.left_out),
            names: names.map_or_else(BTreeSet::new, |names| names.known.into_iter().collect()),
            digest,
            content: content(image.as_ref()),
            pulled_from,
            container_name: cri_kind.and_then(|_| label("io.kubernetes.container.name")),
            pod: cri_kind.and_then(|_| pod_of_labels(&record.labels)),
            labels: None,
            ..Claim::new(Source::Containerd, record.id.clone(), "containerd")
        };
        OfRecord { claim, image }
    }

    /// The image of a container's record: its digest, and that digest's names and sources.
    pub(super) async fn named(&self, containerd: &Containerd, record: &ContainerRecord) -> Named {
        let socket = containerd.socket().display();
        let namespace = record.namespace.as_str();
        let image = match record.image.as_str() {
            "" => None,
            name => self.remote(&socket, containerd.image(namespace, name).await),
        };
        let Some(ImageRecord { digest, .. }) = image.flatten() else {
            return Named::default();
        };
        let (names, sources) = join!(
            self.names_of(containerd, namespace, &digest),
            containerd.sources(namespace, &digest)
        );
        Named {
            names,
            pulled_from: self.remote(&socket, sources).flatten(),
            digest: Some(digest),
        }
    }

    pub(super) async fn names_of(
        &self,
        containerd: &Containerd,
        namespace: &str,
        digest: &str,
    ) -> Option<Names> {
        let names = containerd.names_of(namespace, digest).await;
        let left_out = matches!(names, Err(EvidenceError::TooLarge { .. }));
        let known = if left_out {
            Vec::new()
        } else {
            self.remote(containerd.socket().display(), names)?
        };
        Some(Names { known, left_out })
    }

    /// The snapshot below another one.
    pub(super) async fn parent_of(
        &self,
        containerd: &Containerd,
        snapshot: Snapshot<'_>,
    ) -> Option<String> {
        let Snapshot {
            namespace,
            snapshotter,
            key,
        } = snapshot;
        let parent = containerd.parent_of(namespace, snapshotter, key).await;
        self.remote(containerd.socket().display(), parent).flatten()
    }

    /// Whether these are the layers of the container's recorded image: the name may have been given
    /// to another image since, and clients of containerd can record any image.
    pub(super) async fn runs_on(
        &self,
        containerd: &Containerd,
        namespace: &str,
        digest: &str,
        layers: Option<&str>,
    ) -> Content {
        let image = self.image_on(containerd, namespace, digest, layers).await;
        content(image.as_ref())
    }

    /// The configuration of the image `digest`, if these are its layers.
    async fn image_on(
        &self,
        containerd: &Containerd,
        namespace: &str,
        digest: &str,
        layers: Option<&str>,
    ) -> Option<Configuration> {
        let images = containerd.configurations(namespace, digest).await;
        let images = self.remote(containerd.socket().display(), images);
        let mut images = images.into_iter().flatten();
        images.find(|image| Some(&*image.chain) == layers)
    }

    /// The claim, and the id of the image.
    pub(super) async fn cri_claim(
        &self,
        cri: &Cri,
        container: CriContainer,
        sandbox: Option<CriSandbox>,
    ) -> (Claim, String) {
        let asked_for = container
            .user_specified_image
            .clone()
            .filter(|image| !image.is_empty());
        let image = container
            .image_id
            .as_deref()
            .unwrap_or(&container.image_ref);
        let image = cri.image(image).await;
        let names_left_out = matches!(image, Err(EvidenceError::TooLarge { .. }));
        let image = match image {
            Err(EvidenceError::TooLarge { .. }) => None,
            image => self.remote(cri.socket().display(), image).flatten(),
        };
        let id = image
            .as_ref()
            .map_or_else(String::new, |image| image.id.clone());
        // Without the image the other names of the digest are unknown.
        let content = if image.is_some() {
            Content::Unknown
        } else {
            Content::Another
        };
        // The client of the CRI chooses the name that was asked for; the names of the digest show
        // whether it is possible.
        let names = image.map(|image| image.repo_tags.into_iter().chain(image.repo_digests));
        let names = names.into_iter().flatten().collect();
        let digest = container
            .image_ref
            .rsplit_once('@')
            .map(|(_, digest)| digest.to_owned());
        let claim = Claim {
            kind: Some(Kind::Container),
            through_cri: true,
            naming: if asked_for.is_some() {
                Naming::AsAsked
            } else {
                Naming::AnyOfDigest
            },
            // CRI-O sends an empty name for an image without names.
            image: asked_for.or(Some(container.image).filter(|image| !image.is_empty())),
            names,
            names_left_out,
            digest,
            content,
            container_name: Some(container.name),
            pod: sandbox.as_ref().map(pod_of),
            note: sandbox.as_ref().and_then(note_of),
            static_pod: sandbox.as_ref().and_then(is_static),
            labels: sandbox.map(|sandbox| Arc::new(sandbox.labels)),
            ..Claim::new(Source::Cri, container.id, "cri")
        };
        (claim, id)
    }
}

fn content(image: Option<&Configuration>) -> Content {
    image.map_or(Content::Another, |_| Content::Its)
}

pub(super) fn of_sandbox(sandbox: CriSandbox) -> Claim {
    Claim {
        kind: Some(Kind::Sandbox),
        through_cri: true,
        image: sandbox.image.clone(),
        naming: Naming::AnyOfDigest,
        pod: Some(pod_of(&sandbox)),
        note: note_of(&sandbox),
        static_pod: is_static(&sandbox),
        labels: Some(Arc::new(sandbox.labels)),
        ..Claim::new(Source::Cri, sandbox.id, "cri")
    }
}

/// The claim without forged labels: a native client's, with the image that it named.
pub(super) fn without_labels(claim: Claim) -> Claim {
    let is_id = |image: &String| image.starts_with("sha256:");
    Claim {
        kind: Some(Kind::Container),
        through_cri: false,
        naming: if claim.image.as_ref().is_some_and(is_id) {
            Naming::AnyOfDigest
        } else {
            Naming::AsAsked
        },
        container_name: None,
        pod: None,
        ..claim
    }
}

fn note_of(sandbox: &CriSandbox) -> Option<Arc<str>> {
    let note = sandbox
        .annotations
        .get(imageswap_policy::note::ANNOTATION)?;
    Some(note.as_str().into())
}

fn is_static(sandbox: &CriSandbox) -> Option<bool> {
    let source = sandbox.annotations.get(POD_SOURCE)?;
    Some(source != "api")
}

pub(super) fn of_bundle(bundle: Bundle) -> Claim {
    let claim = Claim::new(Source::Bundle, bundle.id, "containerd");
    let Some(cri) = bundle.cri else {
        return Claim {
            runtime_namespace: bundle.namespace,
            ..claim
        };
    };
    Claim {
        runtime_namespace: bundle.namespace,
        kind: Some(if cri.sandbox {
            Kind::Sandbox
        } else {
            Kind::Container
        }),
        image: cri.image_name,
        naming: Naming::AnyOfDigest,
        container_name: cri.container_name,
        pod: match (cri.pod_namespace, cri.pod_name, cri.pod_uid) {
            (Some(namespace), Some(name), Some(uid)) => Some(PodName {
                namespace,
                name,
                uid,
            }),
            _ => None,
        },
        ..claim
    }
}

/// `is_on_layers` is whether the process runs on the root file system that podman made for it.
pub(super) fn of_podman(state: &RuncState, image: StoredImage, is_on_layers: bool) -> Claim {
    Claim {
        kind: Some(Kind::Container),
        image: image.name,
        // The requested name may have been added to the image a moment before.
        naming: Naming::AnyOfDigest,
        names: image.names,
        digest: image.digest,
        content: if is_on_layers {
            Content::Its
        } else {
            Content::Another
        },
        ..Claim::new(Source::Podman, state.id.clone(), "podman")
    }
}

/// The user can write all of it, so it is never [`Facts::trusted`](crate::facts::Facts::trusted).
pub(super) fn of_user(container: UserContainer) -> Claim {
    Claim {
        kind: Some(Kind::Container),
        image: container.image,
        naming: Naming::AnyOfDigest,
        names: container.names,
        digest: container.digest,
        ..Claim::new(Source::User, container.id, container.runtime)
    }
}

pub(super) fn of_runc(state: &RuncState) -> Claim {
    // containerd's shim lets runc keep its state in a folder per namespace, below Docker's folder
    // for Docker.
    let is_below = |name: &str| state.root.iter().any(|part| part == name);
    let runtime = ["containerd", "docker"].into_iter().find(|it| is_below(it));
    Claim {
        kind: Some(Kind::Container),
        ..Claim::new(Source::Runc, state.id.clone(), runtime.unwrap_or("runc"))
    }
}

fn pod_of(sandbox: &CriSandbox) -> PodName {
    PodName {
        namespace: sandbox.namespace.clone(),
        name: sandbox.name.clone(),
        uid: sandbox.uid.clone(),
    }
}

/// The pod that the kubelet names in a container's labels.
fn pod_of_labels(labels: &BTreeMap<String, String>) -> Option<PodName> {
    let get = |key: &str| labels.get(key).cloned();
    Some(PodName {
        namespace: get("io.kubernetes.pod.namespace")?,
        name: get("io.kubernetes.pod.name")?,
        uid: get("io.kubernetes.pod.uid")?,
    })
}
