//! Claims about Docker's containers: from dockerd's records and, if containerd keeps the images,
//! from containerd.

use super::claims::Names;
use super::described::{Root, Snapshot};
use super::{Asked, Sources};
use crate::evidence::containerd::{ContainerRecord, Containerd, ContentSource};
use crate::evidence::docker::{self, DockerContainer, DockerImage, Roots, Store};
use crate::facts::{Claim, Content, Kind, Naming, Source};
use crate::process::Subject;
use imageswap_policy::Reference;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

/// dockerd's name for an image in containerd's store that has no other name.
const NAMELESS: &str = "moby-dangling@";

/// The store's answer about an image.
struct Known {
    names: BTreeSet<String>,
    names_left_out: bool,
    digest: Option<String>,
    pulled_from: Option<Vec<ContentSource>>,
    only_layers: bool,
}

impl Sources {
    /// Docker's claim about the container `id` with this process, if Docker made the root file
    /// system `root` that the container was started on, and that root, if the process runs on it and
    /// it consists of the image's layers. `keeper` is the containerd that runs it, and its record.
    pub(super) async fn of_docker(
        self: &Arc<Self>,
        asked: &Asked,
        root: &Path,
        id: &str,
        process: Subject,
        keeper: Option<(&Containerd, &ContainerRecord)>,
    ) -> Option<(Claim, Option<Root>)> {
        let (root, of) = (root.to_owned(), id.to_owned());
        let found = move |it: &Self| {
            let roots = Roots::of_node(&it.host_root, &it.proc);
            let found = docker::of_root(&it.host_root, &roots, &root, &of)?;
            let made = match found.as_ref().map(|found| &found.store) {
                Some(Store::Docker { made, .. }) => made.clone().map(Root::Made),
                Some(Store::Containerd { .. }) | None => None,
            };
            let made = made.filter(|made| made.is_of(&it.host_root, &it.proc, process));
            Ok(found.map(|found| (found, made)))
        };
        let (found, mut root) = self.read(asked, found).await.flatten()?;
        let known = match (&found.store, keeper) {
            (Store::Docker { image, .. }, _) => {
                image.as_ref().map(|image| of_docker(&found, image))
            }
            (Store::Containerd { snapshotter }, Some((containerd, record))) => {
                let namespace = &record.namespace;
                root = self
                    .dockers_snapshot(asked, containerd, record, snapshotter, &found, process)
                    .await;
                of_containerd(asked, &found, containerd, namespace).await
            }
            (Store::Containerd { .. }, None) => None,
        };
        let claim = Claim {
            kind: Some(Kind::Container),
            runtime_namespace: keeper.map(|(_, record)| record.namespace.clone()),
            content: if root.is_some() {
                Content::Its
            } else {
                Content::Another
            },
            ..Claim::new(Source::Docker, id, "docker")
        };
        // If the image is gone from the store, nothing shows whether the name was ever its own.
        let claim = match known {
            Some(known) => with_image(claim, found, known),
            None => claim,
        };
        Some((claim, root))
    }

    /// The snapshot that dockerd made in containerd, if it is the root of the process and has the
    /// image's layers: between the two lies a layer with files that Docker puts into every
    /// container.
    async fn dockers_snapshot(
        self: &Arc<Self>,
        asked: &Asked,
        containerd: &Containerd,
        record: &ContainerRecord,
        snapshotter: &str,
        found: &DockerContainer,
        process: Subject,
    ) -> Option<Root> {
        let key = Snapshot {
            namespace: &record.namespace,
            snapshotter,
            key: &record.id,
        };
        let layers = async {
            let own = asked.parent_of(containerd, key).await?;
            let own = Snapshot { key: &own, ..key };
            asked.parent_of(containerd, own).await
        };
        let found_on = self.snapshot_of(asked, containerd, key, process, layers);
        let (root, layers) = found_on.await?;
        let image = &found.image_id;
        let content = asked.runs_on(containerd, &record.namespace, image, layers.as_deref());
        (content.await == Content::Its).then_some(root)
    }
}

/// Whether a container's id can be Docker's: 64 hex digits.
pub(super) fn is_id(id: &str) -> bool {
    id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// The claim of the containerd that runs a container of Docker, without the image: containerd would
/// only know the present meaning of the typed name.
pub(super) fn without_image(claim: Claim) -> Claim {
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

fn with_image(claim: Claim, found: DockerContainer, known: Known) -> Claim {
    let by_id = is_by_id(&found, &known.names);
    Claim {
        image: Some(if by_id { found.image_id } else { found.typed }),
        naming: if by_id {
            Naming::AnyOfDigest
        } else {
            Naming::AsAsked
        },
        names: known.names,
        names_left_out: known.names_left_out,
        digest: known.digest,
        pulled_from: known.pulled_from,
        only_layers: known.only_layers,
        ..claim
    }
}

fn of_docker(found: &DockerContainer, image: &DockerImage) -> Known {
    let pulled_from = image.pulled_from();
    let only_layers = pulled_from.is_empty() && !image.layers_from.is_empty();
    let typed = Reference::parse(&found.typed).ok();
    let digest_typed = typed.as_ref().and_then(Reference::digest);
    let repository = typed.as_ref().map(Reference::canonical_name);
    // The same image may have another manifest in each registry.
    let fit = |(name, digest): &&(String, String)| {
        let has_digest = digest_typed == Some(digest);
        (has_digest, repository.as_ref() == Some(name))
    };
    Known {
        names_left_out: false,
        names: image.names.clone(),
        digest: image.digests.iter().max_by_key(fit).map(|it| it.1.clone()),
        pulled_from: Some(if only_layers {
            image.layers_from.clone()
        } else {
            pulled_from
        }),
        only_layers,
    }
}

/// `None` if containerd does not have the image, or did not answer.
async fn of_containerd(
    asked: &Asked,
    found: &DockerContainer,
    containerd: &Containerd,
    namespace: &str,
) -> Option<Known> {
    let socket = containerd.socket().display();
    let digest = found.image_id.as_str();
    let Names { known, left_out } = asked.names_of(containerd, namespace, digest).await?;
    let sources = asked.remote(&socket, containerd.sources(namespace, digest).await)?;
    let names = known.into_iter();
    Some(Known {
        names_left_out: left_out,
        names: names.filter(|name| !name.starts_with(NAMELESS)).collect(),
        digest: Some(digest.to_owned()),
        pulled_from: Some(sources?),
        only_layers: false,
    })
}

/// Whether the typed text is the beginning of the image's id, which looks like a name on Docker
/// Hub. Docker prefers an existing name.
fn is_by_id(found: &DockerContainer, names: &BTreeSet<String>) -> bool {
    let typed = found.typed.strip_prefix("sha256:");
    let hex = typed.unwrap_or(&found.typed);
    let id = found.image_id.strip_prefix("sha256:");
    let begins = !hex.is_empty() && id.is_some_and(|id| id.starts_with(hex));
    begins && (typed.is_some() || !has_name(names, &found.typed))
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
            assert_eq!(is_by_id(&found(typed), &names(known)), by_id, "{typed}");
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
            let known = of_docker(&found(&typed), &image);
            assert_eq!(known.digest.as_ref(), Some(expected), "{typed}");
        }
    }
}
