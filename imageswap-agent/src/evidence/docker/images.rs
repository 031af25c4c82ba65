//! Docker's store of images and layers: the files of one storage driver.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use imageswap_policy::Reference;
use serde::Deserialize;

use super::{DockerImage, source};
use crate::claim::ContentSource;
use crate::evidence::layers::{self, Blob};
use crate::evidence::{EvidenceError, is_component, parse_json, read_of_root};

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

/// The folder of a storage driver's images.
pub(super) struct Images(PathBuf);

impl Images {
    /// The images of `driver` below the data root `data`, as this process sees it.
    pub(super) fn new(data: &Path, driver: &str) -> Self {
        Self(data.join("image").join(driver))
    }

    /// The name of the container's own layer; `None` if another store has it.
    pub(super) fn mount_of(&self, id: &str) -> Result<Option<String>, EvidenceError> {
        self.name(&Path::new("layerdb/mounts").join(id).join("mount-id"))
    }

    /// The layers below the container's own, as the digest of their chain.
    pub(super) fn parent_of(&self, id: &str) -> Result<Option<String>, EvidenceError> {
        let file = self.0.join("layerdb/mounts").join(id).join("parent");
        read_name(&file)
    }

    /// The names under which the driver keeps a chain of layers, topmost first; `None` if one of
    /// them is unknown.
    pub(super) fn folders_of(&self, chain: &str) -> Result<Option<Vec<String>>, EvidenceError> {
        let mut folders = Vec::new();
        let mut chain = Some(chain.to_owned());
        while let Some(digest) = chain {
            let layer = digest.strip_prefix("sha256:").filter(|it| is_component(it));
            let Some(layer) = layer.filter(|_| folders.len() < MOST_LAYERS) else {
                return Ok(None);
            };
            let layer = Path::new("layerdb/sha256").join(layer);
            let Some(folder) = self.name(&layer.join("cache-id"))? else {
                return Ok(None);
            };
            folders.push(folder);
            chain = read_name(&self.0.join(layer).join("parent"))?;
        }
        Ok(Some(folders))
    }

    /// A file that holds the name of a folder.
    fn name(&self, file: &Path) -> Result<Option<String>, EvidenceError> {
        Ok(read_name(&self.0.join(file))?.filter(|name| is_component(name)))
    }

    /// The chain of layers of the image whose configuration has this digest, in hex.
    pub(super) fn chain_of(&self, hex: &str) -> Result<Option<String>, EvidenceError> {
        let config = self.0.join("imagedb/content/sha256").join(hex);
        let bytes = read_of_root(&config, LARGEST_IMAGE)?.unwrap_or_default();
        Ok(match layers::read(&format!("sha256:{hex}"), &bytes) {
            Some(Blob::Configuration { diff_ids, .. }) => layers::chain_id(&diff_ids),
            _ => None,
        })
    }

    /// The image whose configuration has this digest, in hex.
    pub(super) fn read(&self, hex: &str) -> Result<Option<DockerImage>, EvidenceError> {
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

/// The text of a small file, without the space around it.
fn read_name(file: &Path) -> Result<Option<String>, EvidenceError> {
    let bytes = read_of_root(file, LARGEST_MOUNT)?;
    Ok(bytes.map(|bytes| String::from_utf8_lossy(&bytes).trim().to_owned()))
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
