//! Docker's own records: a container's image, the names of that image, and where it was pulled
//! from.
//!
//! dockerd keeps them below its data root (`/var/lib/docker`), `<id>` being a container's and `<driver>` the storage
//! driver's name:
//!
//! | file | holds |
//! |---|---|
//! | `containers/<id>/config.v2.json` | what was typed, and the id of the image that it meant then |
//! | `image/<driver>/layerdb/mounts/<id>/mount-id` | under which name the driver has the container's root file system |
//! | `image/<driver>/layerdb/sha256/<chain>/cache-id` | under which name the driver has a layer of an image |
//! | `image/<driver>/repositories.json` | the names of all images, `repository@digest` for what was pulled or pushed |
//! | `image/<driver>/imagedb/content/sha256/<image>` | the image's configuration, with its layers |
//! | `image/<driver>/distribution/v2metadata-by-diffid/sha256/<layer>` | the repositories that a layer was pulled from |
//!
//! Where dockerd leaves images to containerd there is nothing below `image`: the image's id is then a digest that
//! containerd knows.
//!
//! Clients of containerd can make a container with any id and in any cgroup, and dockerd then takes
//! it as its own. So a record counts only if the container's root file system is the one that
//! Docker made for it, below a data root that a dockerd of this node uses (`roots`): anybody can
//! make a folder that looks like one.

use std::collections::BTreeSet;
use std::path::{Component, Path};

use images::Images;
use imageswap_policy::Reference;
use serde::Deserialize;

use super::file::read_of;
use super::root::Made;
use super::{EvidenceError, is_component, on_host, parse_json, read_of_root};
use crate::claim::ContentSource;

pub use claim::{Known, is_id, without_image};
pub use roots::{DataRoots, Roots};

mod claim;
mod images;
mod roots;

/// Environment, labels and mounts of one container: usually a few kilobytes.
const LARGEST_CONTAINER: u64 = 4 << 20;

/// Below the data root if containerd keeps the images: the mounted root file systems.
const ROOTFS: &str = "rootfs";

/// A container as Docker recorded it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DockerContainer {
    /// The image as the client named it: a reference, or the beginning of an id.
    pub typed: String,
    /// The image that `typed` referred to when the container was made: `sha256:` and the digest of
    /// its configuration or, if containerd keeps the images, of its manifest or index.
    pub image_id: String,
    /// The store that keeps the image.
    pub store: Store,
}

/// The store of a container's image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Store {
    /// Docker itself.
    Docker {
        /// `None` for an image that has been deleted.
        image: Option<DockerImage>,
        /// The root file system, if it consists of the image's layers.
        made: Option<Made>,
    },
    /// containerd, in the namespace of the container.
    Containerd {
        /// The one that keeps the container's snapshot, under the container's id.
        snapshotter: String,
    },
}

/// An image in Docker's own store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DockerImage {
    /// All its names, with `repository@digest` for each repository that it was pulled from or pushed to.
    pub names: BTreeSet<String>,
    /// Those repositories, each with the digest of the image's manifest there.
    pub digests: BTreeSet<(String, String)>,
    /// The repositories that all its layers came from, if the image has no repository of its own
    /// any more: `docker rmi` removes the digest with the repository's last tag.
    pub layers_from: Vec<ContentSource>,
}

impl DockerImage {
    /// The repositories that the image itself was pulled from or pushed to.
    pub fn pulled_from(&self) -> Vec<ContentSource> {
        let repositories: BTreeSet<_> = self.digests.iter().map(|(name, _)| name).collect();
        repositories
            .into_iter()
            .filter_map(|it| source(it))
            .collect()
    }
}

/// The record of the container `id` that runs on the root file system `root`, as the host names it.
/// `None` if Docker did not make that one for this container, or if Docker does not run as root; an
/// error if not every data root is known.
pub fn of_root(
    host_root: &Path,
    roots: &Roots,
    root: &Path,
    id: &str,
) -> Result<Option<DockerContainer>, EvidenceError> {
    // A recorded root file system could escape the data root with `..`.
    let is_plain = |part| matches!(part, Component::RootDir | Component::Normal(_));
    if !is_component(id) || !root.components().all(is_plain) {
        return Ok(None);
    }
    let Some(data) = roots.above(root)? else {
        return Ok(None);
    };
    let folder = on_host(host_root, &data);
    let file = folder.join("containers").join(id).join("config.v2.json");
    let Some(bytes) = read_of_root(&file, LARGEST_CONTAINER)? else {
        return Ok(None);
    };
    let record: Container = parse_json(&file, &bytes)?;
    let Some(image) = record.image.strip_prefix("sha256:") else {
        return Ok(None);
    };
    if record.id != id || !is_component(image) || !is_component(&record.driver) {
        return Ok(None);
    }
    let images = Images::new(&folder, &record.driver);
    let below = root.strip_prefix(&data).unwrap_or(root);
    let mount = images.mount_of(id)?;
    let place = mount.as_deref().map_or((ROOTFS, id), |mount| {
        // Each driver has a folder of its own, with a layout of its own.
        (record.driver.as_str(), mount)
    });
    if !is_at(below, place) {
        return Ok(None);
    }
    let store = match mount {
        Some(mount) => {
            let chain = images.chain_of(image)?;
            let layers = match images
                .parent_of(id)?
                .filter(|it| Some(it) == chain.as_ref())
            {
                Some(parent) => images.folders_of(&parent)?,
                None => None,
            };
            Store::Docker {
                image: images.read(image)?,
                made: layers.map(|layers| made(&data, &record.driver, &mount, layers)),
            }
        }
        None => Store::Containerd {
            snapshotter: record.driver,
        },
    };
    Ok(Some(DockerContainer {
        typed: record.config.image,
        image_id: record.image,
        store,
    }))
}

/// What Docker's storage driver mounts for a container on these layers.
fn made(data: &Path, driver: &str, mount: &str, mut layers: Vec<String>) -> Made {
    let home = data.join(driver);
    match driver {
        "overlay2" => {
            // Files that Docker puts into every container, such as `/.dockerenv`.
            layers.insert(0, format!("{mount}-init"));
            Made::Overlay {
                home,
                top: mount.to_owned(),
                layers,
            }
        }
        "vfs" => Made::Folder(home.join("dir").join(mount)),
        "btrfs" => Made::Folder(home.join("subvolumes").join(mount)),
        _ => Made::Otherwise,
    }
}

/// The image as the client named it for the container `id`, by the record below the data root `data`
/// of a Docker that the user `owner` runs.
pub(super) fn typed(data: &Path, id: &str, owner: u32) -> Result<Option<String>, EvidenceError> {
    let file = data.join("containers").join(id).join("config.v2.json");
    let Some(bytes) = read_of(owner, &file, LARGEST_CONTAINER)? else {
        return Ok(None);
    };
    let record: Container = parse_json(&file, &bytes)?;
    Ok(Some(record.config.image).filter(|_| record.id == id))
}

/// Whether a path begins with the first name, and has the second one further on.
fn is_at(path: &Path, (first, name): (&str, &str)) -> bool {
    let mut parts = path.iter();
    parts.next().is_some_and(|part| part == first) && parts.any(|part| part == name)
}

/// A repository's name. dockerd writes it with its host, except for Docker Hub's in the list of
/// names.
fn source(repository: &str) -> Option<ContentSource> {
    let name = Reference::parse(repository).ok()?.canonical_name();
    let (host, repository) = name.split_once('/')?;
    Some(ContentSource {
        host: host.to_owned(),
        repository: repository.to_owned(),
        has_port: true,
    })
}

#[derive(Deserialize)]
struct Container {
    #[serde(rename = "ID")]
    id: String,
    #[serde(rename = "Config")]
    config: ContainerConfig,
    #[serde(rename = "Image", default)]
    image: String,
    #[serde(rename = "Driver", default)]
    driver: String,
}

#[derive(Deserialize)]
struct ContainerConfig {
    #[serde(rename = "Image", default)]
    image: String,
}

#[cfg(test)]
mod tests;
