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
//! | `image/<driver>/repositories.json` | the names of all images, `repository@digest` for what was pulled or pushed |
//! | `image/<driver>/imagedb/content/sha256/<image>` | the image's configuration, with its layers |
//! | `image/<driver>/distribution/v2metadata-by-diffid/sha256/<layer>` | the repositories that a layer was pulled from |
//!
//! Where dockerd leaves images to containerd there is nothing below `image`: the image's id is then a digest that
//! containerd knows.
//!
//! Clients of containerd can make a container with any id and in any cgroup, and dockerd then takes
//! it as its own. So a record counts only if the container's root file system is the one that
//! Docker made for it, below a data root that a dockerd of this node uses: anybody can make a
//! folder that looks like one.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

use imageswap_policy::Reference;
use serde::Deserialize;

use super::containerd::ContentSource;
use super::file::read_of;
use super::layers::{self, Blob};
use super::{EvidenceError, is_component, on_host, parse_json, read_of_root};
use crate::process;

/// dockerd's default data root and configuration file.
const DATA_ROOT: &str = "/var/lib/docker";
const CONFIGURATION: &str = "/etc/docker/daemon.json";

/// The daemon's program.
const PROGRAM: &str = "dockerd";

/// Environment, labels and mounts of one container: usually a few kilobytes.
const LARGEST_CONTAINER: u64 = 4 << 20;

/// About 200 bytes for each name of each image.
const LARGEST_NAMES: u64 = 16 << 20;

/// The configuration of an image, with its history.
const LARGEST_IMAGE: u64 = 4 << 20;

/// dockerd keeps 50 repositories for a layer.
const LARGEST_LAYER: u64 = 1 << 20;

/// Storage drivers allow less than half of this.
const MOST_LAYERS: usize = 512;

/// A name of 64 hex digits and a line's end.
const LARGEST_MOUNT: u64 = 4096;

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
    /// Whether the container's root file system consists of the image's layers; `None` if Docker
    /// does not record that.
    pub runs_on_its_layers: Option<bool>,
}

/// The store of a container's image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Store {
    /// Docker itself; `None` for an image that has been deleted.
    Docker(Option<DockerImage>),
    /// containerd, in the namespace of the container.
    Containerd,
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

/// The data roots of the dockerds of this node, as the host names them.
#[derive(Clone, Debug)]
pub struct Roots(BTreeSet<PathBuf>);

impl Roots {
    /// Docker's default, the one in its configuration, and those that running dockerds were started
    /// with. `proc` is the node's /proc.
    pub fn of_node(host_root: &Path, proc: &Path) -> Self {
        let mut roots = BTreeSet::from([PathBuf::from(DATA_ROOT)]);
        roots.extend(configured(&on_host(host_root, Path::new(CONFIGURATION))));
        for words in process::commands(proc, PROGRAM) {
            for name in ["--data-root", "--graph", "-g"] {
                roots.extend(option(&words, name));
            }
            if let Some(file) = option(&words, "--config-file") {
                roots.extend(configured(&on_host(host_root, &file)));
            }
        }
        Self(roots)
    }

    /// The data root that contains a path.
    fn above(&self, path: &Path) -> Option<&Path> {
        let mut roots = self.0.iter().filter(|root| path != root.as_path());
        roots
            .find(|root| path.starts_with(root))
            .map(PathBuf::as_path)
    }
}

/// The path after an option, as a separate word or after `=`.
fn option(words: &[String], name: &str) -> Option<PathBuf> {
    let mut words = words.iter();
    let rest = words.by_ref().find_map(|word| {
        let rest = word.strip_prefix(name)?;
        (rest.is_empty() || rest.starts_with('=')).then_some(rest)
    })?;
    let value = rest
        .strip_prefix('=')
        .or_else(|| words.next().map(String::as_str));
    value.map(PathBuf::from)
}

/// The data root in a configuration file of dockerd.
fn configured(file: &Path) -> Option<PathBuf> {
    let bytes = read_of_root(file, LARGEST_CONTAINER).ok()??;
    let configuration: Daemon = serde_json::from_slice(&bytes).ok()?;
    configuration.data_root.or(configuration.graph)
}

/// The record of the container `id` that runs on the root file system `root`, as the host names it.
/// `None` if Docker did not make that one for this container, or if Docker does not run as root.
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
    let Some(data) = roots.above(root) else {
        return Ok(None);
    };
    let folder = on_host(host_root, data);
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
    let images = Images(folder.join("image").join(&record.driver));
    let below = root.strip_prefix(data).unwrap_or(root);
    let mount = images.mount_of(id)?;
    let place = mount.as_deref().map_or((ROOTFS, id), |mount| {
        // Each driver has a folder of its own, with a layout of its own.
        (record.driver.as_str(), mount)
    });
    if !is_at(below, place) {
        return Ok(None);
    }
    let (store, runs_on_its_layers) = match mount {
        Some(_) => {
            let chain = images.chain_of(image)?;
            let parent = images.parent_of(id)?;
            (Store::Docker(images.read(image)?), Some(parent == chain))
        }
        None => (Store::Containerd, None),
    };
    Ok(Some(DockerContainer {
        typed: record.config.image,
        image_id: record.image,
        store,
        runs_on_its_layers,
    }))
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

/// The folder of a storage driver's images.
struct Images(PathBuf);

impl Images {
    /// The name of the container's own layer; `None` if another store has it.
    fn mount_of(&self, id: &str) -> Result<Option<String>, EvidenceError> {
        let file = self.0.join("layerdb/mounts").join(id).join("mount-id");
        let bytes = read_of_root(&file, LARGEST_MOUNT)?;
        let name = bytes.map(|bytes| String::from_utf8_lossy(&bytes).trim().to_owned());
        Ok(name.filter(|name| is_component(name)))
    }

    /// The layers below the container's own, as the digest of their chain.
    fn parent_of(&self, id: &str) -> Result<Option<String>, EvidenceError> {
        let file = self.0.join("layerdb/mounts").join(id).join("parent");
        let bytes = read_of_root(&file, LARGEST_MOUNT)?;
        Ok(bytes.map(|bytes| String::from_utf8_lossy(&bytes).trim().to_owned()))
    }

    /// The chain of layers of the image whose configuration has this digest, in hex.
    fn chain_of(&self, hex: &str) -> Result<Option<String>, EvidenceError> {
        let config = self.0.join("imagedb/content/sha256").join(hex);
        let bytes = read_of_root(&config, LARGEST_IMAGE)?.unwrap_or_default();
        Ok(match layers::read(&format!("sha256:{hex}"), &bytes) {
            Some(Blob::Configuration { diff_ids }) => layers::chain_id(&diff_ids),
            _ => None,
        })
    }

    /// The image whose configuration has this digest, in hex.
    fn read(&self, hex: &str) -> Result<Option<DockerImage>, EvidenceError> {
        let config = self.0.join("imagedb/content/sha256").join(hex);
        let Some(bytes) = read_of_root(&config, LARGEST_IMAGE)? else {
            return Ok(None);
        };
        let config: Configuration = parse_json(&config, &bytes)?;
        let file = self.0.join("repositories.json");
        let list: Repositories = match read_of_root(&file, LARGEST_NAMES)? {
            Some(bytes) => parse_json(&file, &bytes)?,
            None => Repositories::default(),
        };
        let is_its = |id: &String| id.strip_prefix("sha256:") == Some(hex);
        let names = list.repositories.unwrap_or_default();
        let names = names.into_values().flatten();
        let names = names.filter(|(_, id)| is_its(id)).map(|(name, _)| name);
        let mut image = DockerImage {
            names: names.collect(),
            ..DockerImage::default()
        };
        for name in &image.names {
            if let Ok(reference) = Reference::parse(name)
                && let Some(digest) = reference.digest()
            {
                let repository = reference.canonical_name();
                image.digests.insert((repository, digest.to_owned()));
            }
        }
        if image.digests.is_empty() {
            let layers = config.rootfs.and_then(|it| it.diff_ids);
            image.layers_from = self.sources_of(&layers.unwrap_or_default())?;
        }
        Ok(Some(image))
    }

    /// The repositories that all of the layers were pulled from or pushed to; empty if one of them
    /// was made here.
    fn sources_of(&self, layers: &[String]) -> Result<Vec<ContentSource>, EvidenceError> {
        let mut common: Option<BTreeSet<String>> = None;
        for layer in layers.iter().take(MOST_LAYERS) {
            let of_layer = self.sources_of_layer(layer)?;
            let both = match common {
                Some(common) => common.intersection(&of_layer).cloned().collect(),
                None => of_layer,
            };
            if both.is_empty() {
                return Ok(Vec::new());
            }
            common = Some(both);
        }
        let common = common.filter(|_| layers.len() <= MOST_LAYERS);
        let common = common.unwrap_or_default();
        Ok(common.iter().filter_map(|it| source(it)).collect())
    }

    fn sources_of_layer(&self, layer: &str) -> Result<BTreeSet<String>, EvidenceError> {
        let hex = layer.strip_prefix("sha256:").unwrap_or_default();
        if !is_component(hex) {
            return Ok(BTreeSet::new());
        }
        let folder = self.0.join("distribution/v2metadata-by-diffid/sha256");
        let file = folder.join(hex);
        let Some(bytes) = read_of_root(&file, LARGEST_LAYER)? else {
            return Ok(BTreeSet::new());
        };
        let entries: Vec<LayerSource> = parse_json(&file, &bytes)?;
        Ok(entries.into_iter().map(|it| it.repository).collect())
    }
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

#[derive(Deserialize)]
struct Daemon {
    #[serde(rename = "data-root")]
    data_root: Option<PathBuf>,
    /// The name before Docker 17.05.
    graph: Option<PathBuf>,
}

#[derive(Default, Deserialize)]
struct Repositories {
    /// By repository, then by full name: the image's id.
    #[serde(rename = "Repositories")]
    repositories: Option<BTreeMap<String, BTreeMap<String, String>>>,
}

#[derive(Deserialize)]
struct Configuration {
    rootfs: Option<RootFs>,
}

#[derive(Deserialize)]
struct RootFs {
    diff_ids: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct LayerSource {
    #[serde(rename = "SourceRepository")]
    repository: String,
}

#[cfg(test)]
mod tests;
