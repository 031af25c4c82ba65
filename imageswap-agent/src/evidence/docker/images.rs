//! Docker's store of images and layers: the files of one storage driver.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use imageswap_policy::Reference;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{DockerImage, source};
use crate::claim::ContentSource;
use crate::evidence::layers::{self, Blob};
use crate::evidence::list::{self, ALL_TEXTS, MOST_TEXTS, Texts};
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
        drop(bytes);
        let mut image = DockerImage {
            names: self.names_of(hex)?,
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
            let layers = config.rootfs.and_then(|it| it.diff_ids?.0);
            image.layers_from = self.sources_of(&layers.unwrap_or_default())?;
        }
        Ok(Some(image))
    }

    /// The names of the image with this id, in hex.
    fn names_of(&self, hex: &str) -> Result<BTreeSet<String>, EvidenceError> {
        let file = self.0.join("repositories.json");
        let bytes = read_of_root(&file, LARGEST_NAMES)?.unwrap_or_else(|| b"{}".to_vec());
        let list: Repositories<'_> = parse_json(&file, &bytes)?;
        let mut found = BTreeMap::new();
        let (mut count, mut length) = (0, 0);
        let of_repository = |repository, names: &RawValue| {
            let mut own = BTreeSet::new();
            let take = |name: String, id: &str| {
                own.remove(&name);
                if id.strip_prefix("sha256:") == Some(hex) {
                    (count, length) = (count + 1, length + name.len());
                    if count > MOST_TEXTS || length > ALL_TEXTS {
                        return Err(list::too_many(&format!("names of sha256:{hex}")));
                    }
                    own.insert(name);
                }
                Ok(())
            };
            list::each_value(&file, names.get().as_bytes(), take)
                .map_err(|error| error.to_string())?;
            // A key that occurs twice has its last value.
            found.remove(&repository);
            if !own.is_empty() {
                found.insert(repository, own);
            }
            Ok(())
        };
        if let Some(repositories) = list.repositories {
            list::each_value(&file, repositories.get().as_bytes(), of_repository)?;
        }
        Ok(found.into_values().flatten().collect())
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
        let mut repositories = BTreeSet::new();
        let take = |entry: LayerSource| {
            repositories.insert(entry.repository);
            Ok(())
        };
        list::each(&file, &bytes, take)?;
        Ok(repositories)
    }
}

/// The text of a small file, without the space around it.
fn read_name(file: &Path) -> Result<Option<String>, EvidenceError> {
    let bytes = read_of_root(file, LARGEST_MOUNT)?;
    Ok(bytes.map(|bytes| String::from_utf8_lossy(&bytes).trim().to_owned()))
}

#[derive(Deserialize)]
struct Repositories<'b> {
    /// By repository, then by full name: the image's id.
    #[serde(borrow, rename = "Repositories")]
    repositories: Option<&'b RawValue>,
}

#[derive(Deserialize)]
struct Configuration {
    rootfs: Option<RootFs>,
}

#[derive(Deserialize)]
struct RootFs {
    diff_ids: Option<Texts>,
}

#[derive(Deserialize)]
struct LayerSource {
    #[serde(rename = "SourceRepository")]
    repository: String,
}
