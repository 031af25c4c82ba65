//! The store of podman and related tools: a container's image, and the names of that image.
//!
//! The files are those of the Go library `containers/storage`; all are JSON lists. The graph root,
//! which keeps images and containers, has `<driver>-images/images.json`,
//! `<driver>-layers/layers.json` and `<driver>-containers/containers.json`. Containers that are
//! removed when they end (`--rm`) are listed in `<driver>-containers/volatile-containers.json`
//! instead, below the graph root or, with `transient_store`, below the run root. Podman puts the name
//! of the image into a container's `metadata`, which is JSON in a string. A container's bundle is
//! `<driver>-containers/<id>/userdata` below either root.
//!
//! Only root's store is evidence: any other user could write anything into his own. [`super::user`]
//! reads those.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};

use super::file::read_of;
use super::list::{self, Text, Texts};
use super::root::Made;
use super::{EvidenceError, on_host, read_of_root};
use crate::claim::{Claim, Content, Kind, Naming, Source};
use crate::process::{self, CommandLine};

/// The lists grow with what is stored, by about a kilobyte for each.
const LARGEST_LIST: u64 = 16 << 20;

/// More layers than a list of that size has.
const MOST_LAYERS: usize = 1 << 16;

/// Storage drivers allow at most this depth.
const DEEPEST: usize = 512;

/// The name of a container's bundle in its folder.
const BUNDLE: &str = "userdata";

const CONTAINERS: &str = "-containers";

/// A container's image, as the store knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoredImage {
    /// The name that was asked for.
    pub name: Option<String>,
    /// All names that the image has or had in this store, which does not keep where an image came from.
    pub names: BTreeSet<String>,
    /// Digest of its manifest.
    pub digest: Option<String>,
    /// The container's root file system, if it consists of the image's layers.
    pub made: Option<Made>,
}

impl StoredImage {
    /// The claim about root's container `id`. `is_on_layers` is whether its process runs on the root
    /// file system that podman made for it.
    pub fn claim(self, id: &str, is_on_layers: bool) -> Claim {
        Claim {
            kind: Some(Kind::Container),
            image: self.name,
            // The requested name may have been added to the image a moment before.
            naming: Naming::AnyOfDigest,
            names: self.names,
            digest: self.digest,
            content: Content::of(is_on_layers),
            ..Claim::new(Source::Podman, id, "podman")
        }
    }
}

/// The two folders of one store, as this process sees them, and the user whose store it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Store {
    /// Images and containers.
    graph: PathBuf,
    /// The same, as the host names it.
    home: PathBuf,
    /// What does not survive a restart of the node.
    run: PathBuf,
    owner: u32,
}

impl Store {
    /// The store of the user `owner` in the options that podman gave to a container's monitor.
    pub(super) fn of_monitor(host_root: &Path, command: &CommandLine, owner: u32) -> Option<Self> {
        let (graph, run) = options(command);
        let graph = Path::new(graph?);
        let run = run.map_or(graph, Path::new);
        Some(Self::new(host_root, graph, run, owner))
    }

    /// A store at these places of the host.
    fn new(host_root: &Path, graph: &Path, run: &Path, owner: u32) -> Self {
        Self {
            graph: on_host(host_root, graph),
            home: graph.to_owned(),
            run: on_host(host_root, run),
            owner,
        }
    }
}

/// Root's store by default.
const GRAPH: &str = "/var/lib/containers/storage";
const RUN: &str = "/run/containers/storage";
const CONFIGURATIONS: [&str; 2] = [
    "/usr/share/containers/storage.conf",
    "/etc/containers/storage.conf",
];

/// The process that watches a podman container, with podman's own options in its command line.
pub(super) const MONITOR: &str = "conmon";

const LARGEST_CONFIGURATION: u64 = 1 << 20;

/// The stores that podman uses on this node: the default one, those of its configuration, and the
/// one in the options that it gave to the monitor of the process `pid`.
pub fn stores(host_root: &Path, proc: &Path, pid: u32) -> Vec<Store> {
    let store = |graph: Option<String>, run: Option<String>| {
        let graph = graph.as_deref().unwrap_or(GRAPH);
        let run = run.as_deref().unwrap_or(RUN);
        Store::new(host_root, Path::new(graph), Path::new(run), 0)
    };
    let mut stores = vec![store(None, None)];
    for file in CONFIGURATIONS {
        let text = read_of_root(&on_host(host_root, Path::new(file)), LARGEST_CONFIGURATION);
        let text = text.ok().flatten().unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let value = |key| text.lines().find_map(|line| value_of(line, key));
        stores.push(store(value("graphroot"), value("runroot")));
    }
    let monitor = process::ancestors(proc, pid).next();
    if let Some(command) = monitor.and_then(|monitor| process::command(proc, monitor, MONITOR)) {
        let (graph, run) = options(&command);
        stores.push(store(graph.map(str::to_owned), run.map(str::to_owned)));
    }
    stores.dedup();
    stores
}

/// Graph root and run root in podman's options, which are in the command line of a monitor.
fn options(command: &CommandLine) -> (Option<&str>, Option<&str>) {
    // The words of the clean-up command follow this one.
    let words = command.words().filter(|word| *word != "--exit-command-arg");
    let value = |option| words.clone().skip_while(|word| *word != option).nth(1);
    (value("--root"), value("--runroot"))
}

/// The value of a line `<key> = "<path>"`.
fn value_of(line: &str, key: &str) -> Option<String> {
    let value = line.trim().strip_prefix(key)?.trim_start();
    let value = value.strip_prefix('=')?.trim().strip_prefix('"')?;
    let (path, _) = value.split_once('"')?;
    Some(path.to_owned())
}

/// The image of the container `id` that was started from `bundle`, as this process sees it. `None`
/// if that is not a container of podman's in one of these stores, or if a list does not belong to the store's
/// owner.
///
/// # Errors
/// A list of the store cannot be read, or is not what it should be.
pub fn of_bundle(
    stores: &[Store],
    bundle: &Path,
    id: &str,
) -> Result<Option<StoredImage>, EvidenceError> {
    let Some((root, driver)) = root_of(bundle, id) else {
        return Ok(None);
    };
    let mine = stores
        .iter()
        .find(|store| store.graph == root || store.run == root);
    let Some(store) = mine else {
        return Ok(None);
    };
    let containers = format!("{driver}{CONTAINERS}");
    let volatile = "volatile-containers.json";
    let mut found = None;
    for list in [
        store.graph.join(&containers).join("containers.json"),
        store.graph.join(&containers).join(volatile),
        store.run.join(&containers).join(volatile),
    ] {
        if found.is_none() {
            found = entry::<Container>(store.owner, &list, id)?;
        }
    }
    let Some(container) = found else {
        return Ok(None);
    };
    let list = |what: &str| {
        let folder = store.graph.join(format!("{driver}-{what}"));
        folder.join(format!("{what}.json"))
    };
    let metadata: Metadata = serde_json::from_str(&container.metadata.0).unwrap_or_default();
    if metadata.pod.is_some() {
        return Ok(None);
    }
    let images = list("images");
    let image: Image = entry(store.owner, &images, &container.image.0)?.unwrap_or_default();
    // Only root's containers are compared with their layers.
    let layers = match store.owner {
        0 => below(&list("layers"), &container.layer.0)?,
        _ => Vec::new(),
    };
    let top = image.layer.map(|layer| layer.0);
    let is_on_image = top.is_some() && layers.first() == top.as_ref();
    let names = image.names.all(&images, "names of the image")?;
    let former = image.former.all(&images, "former names of the image")?;
    Ok(Some(StoredImage {
        made: is_on_image.then(|| made(&store.home, driver, container.layer.0, layers)),
        name: metadata.image_name.filter(|name| !name.is_empty()),
        names: names.into_iter().chain(former).collect(),
        digest: image.digest.map(|it| it.0).filter(|it| !it.is_empty()),
    }))
}

/// The layers below one in a list of root's, topmost first.
fn below(list: &Path, layer: &str) -> Result<Vec<String>, EvidenceError> {
    let bytes = read_of_root(list, LARGEST_LIST)?.unwrap_or_else(|| b"[]".to_vec());
    let mut parents = HashMap::new();
    list::each(list, &bytes, |layer: Layer<'_>| {
        parents.entry(layer.id).or_insert(layer.parent);
        if parents.len() > MOST_LAYERS {
            return Err(format!("more than {MOST_LAYERS} layers"));
        }
        Ok(())
    })?;
    let parent = |id: &&str| {
        parents
            .get(id)
            .copied()
            .flatten()
            .filter(|it| !it.is_empty())
    };
    let layers = std::iter::successors(parent(&layer), parent).take(DEEPEST);
    Ok(layers.map(str::to_owned).collect())
}

/// What the storage driver of the store at `home` mounts for the layer `top`.
fn made(home: &Path, driver: &str, top: String, layers: Vec<String>) -> Made {
    let home = home.join(driver);
    match driver {
        "overlay" => Made::Overlay { home, top, layers },
        "vfs" => Made::Folder(home.join("dir").join(top)),
        "btrfs" => Made::Folder(home.join("subvolumes").join(top)),
        _ => Made::Otherwise,
    }
}

/// The root of the store that `bundle` lies in, and the name of the store's driver.
fn root_of<'b>(bundle: &'b Path, id: &str) -> Option<(&'b Path, &'b str)> {
    let container = bundle.parent()?;
    if bundle.file_name()? != BUNDLE || container.file_name()? != id {
        return None;
    }
    let containers = container.parent()?;
    let driver = containers.file_name()?.to_str()?.strip_suffix(CONTAINERS)?;
    Some((containers.parent()?, driver))
}

/// The entry with this id in a list of this user's; `None` if there is no such list.
fn entry<T: DeserializeOwned>(
    owner: u32,
    list: &Path,
    id: &str,
) -> Result<Option<T>, EvidenceError> {
    let bytes = read_of(owner, list, LARGEST_LIST)?;
    bytes.map_or(Ok(None), |bytes| list::with_id(list, &bytes, id))
}

#[derive(Deserialize)]
struct Container {
    #[serde(default)]
    image: Text,
    #[serde(default)]
    layer: Text,
    #[serde(default)]
    metadata: Text,
}

#[derive(Deserialize)]
struct Layer<'b> {
    id: &'b str,
    parent: Option<&'b str>,
}

#[derive(Default, Deserialize)]
struct Metadata {
    #[serde(rename = "image-name")]
    image_name: Option<String>,
    /// CRI-O keeps its containers in the same store, and names their Pods: the CRI answers about them.
    #[serde(rename = "pod-id")]
    pod: Option<IgnoredAny>,
}

#[derive(Default, Deserialize)]
struct Image {
    digest: Option<Text>,
    /// The topmost one.
    layer: Option<Text>,
    #[serde(default)]
    names: Texts,
    #[serde(default, rename = "names-history")]
    former: Texts,
}

#[cfg(test)]
mod tests;
