//! What a CRI runtime's records claim about a container.

use super::{CriContainer, CriImage, CriSandbox};
use crate::claim::{Claim, Content, Kind, Naming, Source};
use std::sync::Arc;

/// The kubelet's annotation for the source of each pod: `api`, or else `file` or `http`.
const POD_SOURCE: &str = "kubernetes.io/config.source";

impl CriContainer {
    /// The claim about a container of this image, in this sandbox.
    pub fn claim(self, image: Option<CriImage>, sandbox: Option<CriSandbox>) -> Claim {
        // Without the image the other names of the digest are unknown.
        let content = match image {
            Some(_) if !self.is_restored => Content::Unknown,
            _ => Content::Another,
        };
        // The client of the CRI chooses the name that was asked for; the names of the digest show
        // whether it is possible.
        let names = image.map(|image| image.repo_tags.into_iter().chain(image.repo_digests));
        let digest = self.image_ref.rsplit_once('@');
        let claim = Claim {
            kind: Some(Kind::Container),
            through_cri: true,
            naming: Naming::of(self.user_specified_image.is_some()),
            digest: digest.map(|(_, digest)| digest.to_owned()),
            // CRI-O sends an empty name for an image without names.
            image: (self.user_specified_image).or(Some(self.image).filter(|it| !it.is_empty())),
            names: names.into_iter().flatten().collect(),
            content,
            container_name: Some(self.name),
            ..Claim::new(Source::Cri, self.id, "cri")
        };
        match sandbox {
            Some(sandbox) => sandbox.with_pod(claim),
            None => claim,
        }
    }
}

impl CriSandbox {
    /// The claim about the sandbox itself.
    pub fn claim(mut self) -> Claim {
        let id = std::mem::take(&mut self.id);
        let claim = Claim {
            kind: Some(Kind::Sandbox),
            through_cri: true,
            image: self.image.take(),
            naming: Naming::AnyOfDigest,
            ..Claim::new(Source::Cri, id, "cri")
        };
        self.with_pod(claim)
    }

    fn with_pod(self, claim: Claim) -> Claim {
        let annotation = |key| self.annotations.get(key).map(String::as_str);
        Claim {
            note: annotation(imageswap_policy::note::ANNOTATION).map(Arc::from),
            static_pod: annotation(POD_SOURCE).map(|source| source != "api"),
            pod: Some(self.pod),
            labels: Some(Arc::new(self.labels)),
            ..claim
        }
    }
}
