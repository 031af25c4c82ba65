//! What Docker's records claim about a container.

use super::{DockerContainer, DockerImage};
use crate::claim::{Claim, Content, ContentSource, Kind, Naming, Source};
use crate::evidence::containerd::Names;
use imageswap_policy::Reference;
use std::collections::BTreeSet;

/// dockerd's name for an image in containerd's store that has no other name.
const NAMELESS: &str = "moby-dangling@";

/// What the store that keeps an image knows about it.
#[derive(Debug)]
pub struct Known {
    names: BTreeSet<String>,
    names_left_out: bool,
    digest: Option<String>,
    pulled_from: Vec<ContentSource>,
    only_layers: bool,
}

impl Known {
    /// Docker's own store. The same image may have another manifest in each registry.
    pub fn of_docker(found: &DockerContainer, image: &DockerImage) -> Self {
        let pulled_from = image.pulled_from();
        let only_layers = pulled_from.is_empty() && !image.layers_from.is_empty();
        let typed = Reference::parse(&found.typed).ok();
        let digest_typed = typed.as_ref().and_then(Reference::digest);
        let repository = typed.as_ref().map(Reference::canonical_name);
        let fit = |(name, digest): &&(String, String)| {
            let has_digest = digest_typed == Some(digest);
            (has_digest, repository.as_ref() == Some(name))
        };
        Self {
            names_left_out: false,
            names: image.names.clone(),
            digest: image.digests.iter().max_by_key(fit).map(|it| it.1.clone()),
            pulled_from: if only_layers {
                image.layers_from.clone()
            } else {
                pulled_from
            },
            only_layers,
        }
    }

    /// containerd's store.
    pub fn of_containerd(
        found: &DockerContainer,
        names: Names,
        pulled_from: Vec<ContentSource>,
    ) -> Self {
        let known = names.known.into_iter();
        Self {
            names_left_out: names.left_out,
            names: known.filter(|name| !name.starts_with(NAMELESS)).collect(),
            digest: Some(found.image_id.clone()),
            pulled_from,
            only_layers: false,
        }
    }
}

impl DockerContainer {
    /// The claim about the container `id`, without an image if the store does not have that any more:
    /// nothing shows then whether the name was ever its own. `is_on_layers` is whether the process
    /// runs on the root file system that Docker made for it of the image's layers.
    pub fn claim(self, id: &str, known: Option<Known>, is_on_layers: bool) -> Claim {
        let claim = Claim {
            kind: Some(Kind::Container),
            content: Content::of(is_on_layers),
            ..Claim::new(Source::Docker, id, "docker")
        };
        let Some(known) = known else {
            return claim;
        };
        let by_id = self.is_by_id(&known.names);
        Claim {
            image: Some(if by_id { self.image_id } else { self.typed }),
            naming: Naming::of(!by_id),
            names: known.names,
            names_left_out: known.names_left_out,
            digest: known.digest,
            pulled_from: Some(known.pulled_from),
            only_layers: known.only_layers,
            ..claim
        }
    }

    /// Whether the typed text is the beginning of the image's id, which looks like a name on Docker
    /// Hub. Docker prefers an existing name.
    fn is_by_id(&self, names: &BTreeSet<String>) -> bool {
        let typed = self.typed.strip_prefix("sha256:");
        let hex = typed.unwrap_or(&self.typed);
        let id = self.image_id.strip_prefix("sha256:");
        let begins = !hex.is_empty() && id.is_some_and(|id| id.starts_with(hex));
        begins && (typed.is_some() || !has_name(names, &self.typed))
    }
}

/// The claim of the containerd that runs a container of Docker, without the image: containerd would
/// only know the present meaning of the typed name.
pub fn without_image(claim: Claim) -> Claim {
    Claim {
        runtime: "docker",
        image: None,
        names: BTreeSet::new(),
        names_left_out: false,
        digest: None,
        content: Content::Unknown,
        pulled_from: None,
        ..claim
    }
}

/// Whether a container's id can be Docker's: 64 hex digits.
pub fn is_id(id: &str) -> bool {
    id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Whether one of the names is in the repository that `text` names.
fn has_name(names: &BTreeSet<String>, text: &str) -> bool {
    let repository = |name: &str| Some(Reference::parse(name).ok()?.canonical_name());
    let wanted = repository(text);
    wanted.is_some() && names.iter().any(|name| repository(name) == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evidence::docker::Store;

    const ID: &str = "sha256:69a10a15fd71ecc7f18759390a9f633dd1f83e88794fd893bef74506199d3726";

    fn found(typed: &str) -> DockerContainer {
        DockerContainer {
            typed: typed.to_owned(),
            image_id: ID.to_owned(),
            store: Store::Containerd {
                snapshotter: "overlayfs".to_owned(),
            },
        }
    }

    #[test]
    fn an_id_is_told_from_a_name() {
        let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        for (typed, known, by_id) in [
            ("69a10a15fd71", &["registry.example.com/app:1"][..], true),
            (ID, &["registry.example.com/app:1"], true),
            ("sha256:69a1", &["sha256:69a1"], true),
            // An image with such a name.
            (
                "69a10a15fd71",
                &["docker.io/library/69a10a15fd71:latest"],
                false,
            ),
            ("69a1:1", &[], false),
            ("registry.example.com/app:1", &[], false),
            ("", &[], false),
        ] {
            assert_eq!(found(typed).is_by_id(&names(known)), by_id, "{typed}");
        }
    }

    #[test]
    fn the_digest_is_the_one_in_the_repository_that_was_typed() {
        let of = |repository: &str, digest: &str| (repository.to_owned(), digest.to_owned());
        let [d1, d2] = ["1", "2"].map(|digit| format!("sha256:{}", digit.repeat(64)));
        let image = DockerImage {
            digests: [of("a.example.com/x", &d1), of("b.example.com/x", &d2)].into(),
            ..DockerImage::default()
        };
        for (typed, expected) in [
            ("a.example.com/x:1".to_owned(), &d1),
            ("b.example.com/x".to_owned(), &d2),
            (format!("c.example.com/x@{d1}"), &d1),
        ] {
            let known = Known::of_docker(&found(&typed), &image);
            assert_eq!(known.digest.as_ref(), Some(expected), "{typed}");
        }
    }
}
