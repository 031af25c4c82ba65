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

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::file::read_of;
use super::root::Made;
use super::{EvidenceError, on_host, parse_json, read_of_root};
use crate::claim::{Claim, Content, Kind, Naming, Source};
use crate::process::{self, CommandLine};

/// Both lists grow with what is stored, by about a kilobyte for each.
const LARGEST_LIST: u64 = 16 << 20;

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
/// if that is not a container of one of these stores, or if a list does not belong to the store's
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
            found = entry(store.owner, &list, |container: &Container| {
                container.id == id
            })?;
        }
    }
    let Some(container) = found else {
        return Ok(None);
    };
    let list = |what: &str| {
        let folder = store.graph.join(format!("{driver}-{what}"));
        folder.join(format!("{what}.json"))
    };
    let metadata: Metadata = serde_json::from_str(&container.metadata).unwrap_or_default();
    let is_its = |image: &Image| image.id == container.image;
    let image = entry(store.owner, &list("images"), is_its)?.unwrap_or_default();
    let layers = all(store.owner, &list("layers"))?.unwrap_or_default();
    let layers = below(&layers, &container.layer);
    let is_on_image = image.layer.is_some() && layers.first() == image.layer.as_ref();
    Ok(Some(StoredImage {
        made: is_on_image.then(|| made(&store.home, driver, container.layer, layers)),
        name: metadata.image_name.filter(|name| !name.is_empty()),
        names: image.names.into_iter().chain(image.former).collect(),
        digest: image.digest.filter(|digest| !digest.is_empty()),
    }))
}

/// The layers below one, topmost first; not more than there are.
fn below(all: &[Layer], layer: &str) -> Vec<String> {
    let of = |id: &str| all.iter().find(|layer| layer.id == id);
    let parent = |id: &String| of(id)?.parent.clone().filter(|it| !it.is_empty());
    std::iter::successors(parent(&layer.to_owned()), parent)
        .take(all.len())
        .collect()
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

/// The entry that `is_it` accepts in a list of this user's; `None` if there is no such list.
fn entry<T: DeserializeOwned>(
    owner: u32,
    list: &Path,
    is_it: impl Fn(&T) -> bool,
) -> Result<Option<T>, EvidenceError> {
    let all = all(owner, list)?.unwrap_or_default();
    Ok(all.into_iter().find(is_it))
}

/// A list of this user's; `None` if there is no such list.
fn all<T: DeserializeOwned>(owner: u32, list: &Path) -> Result<Option<Vec<T>>, EvidenceError> {
    let Some(bytes) = read_of(owner, list, LARGEST_LIST)? else {
        return Ok(None);
    };
    parse_json(list, &bytes).map(Some)
}

#[derive(Deserialize)]
struct Container {
    id: String,
    #[serde(default)]
    image: String,
    #[serde(default)]
    layer: String,
    #[serde(default)]
    metadata: String,
}

#[derive(Deserialize)]
struct Layer {
    id: String,
    parent: Option<String>,
}

#[derive(Default, Deserialize)]
struct Metadata {
    #[serde(rename = "image-name")]
    image_name: Option<String>,
}

#[derive(Default, Deserialize)]
struct Image {
    id: String,
    digest: Option<String>,
    /// The topmost one.
    layer: Option<String>,
    #[serde(default)]
    names: Vec<String>,
    #[serde(default, rename = "names-history")]
    former: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    const LISTED: &str = r#"[{"id": "c0", "image": "i0"}, {"id": "c1", "image": "i1", "layer": "l2",
        "metadata": "{\"image-name\":\"quay.io/a/b:1\"}"}]"#;

    /// A folder for a store, with an image and no container.
    struct Folder(tempfile::TempDir);

    impl Folder {
        fn new() -> Self {
            let folder = Self(tempfile::tempdir().unwrap());
            folder.layers("l1");
            let images = r#"[{"id": "i1", "layer": "l1", "digest": "sha256:ab", "names": ["quay.io/a/b:1"],
                "names-history": ["docker.io/x/y:2", "quay.io/a/b:1"]}]"#;
            folder.write("graph/overlay-images/images.json", images);
            folder
        }

        fn write(&self, name: &str, text: &str) {
            let path = self.0.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }

        fn layers(&self, parent: &str) {
            let layers = format!(
                r#"[{{"id": "l0"}}, {{"id": "l1", "parent": "l0"}}, {{"id": "l2", "parent": "{parent}"}}]"#
            );
            self.write("graph/overlay-layers/layers.json", &layers);
        }

        fn bundle(&self, below: &str) -> PathBuf {
            let bundle = format!("{below}/overlay-containers/c1/userdata");
            self.0.path().join(bundle)
        }

        fn read(&self, bundle: &Path, id: &str) -> Result<Option<StoredImage>, EvidenceError> {
            let store = Store::new(self.0.path(), Path::new("/graph"), Path::new("/run"), 0);
            of_bundle(&[store], bundle, id)
        }
    }

    /// Only root's store is read; it is root's if root runs the tests.
    fn is_read() -> bool {
        rustix::process::geteuid().is_root()
    }

    #[test]
    fn the_image_of_a_bundle_has_all_its_names() {
        for (below, list) in [
            ("graph", "graph/overlay-containers/containers.json"),
            ("graph", "graph/overlay-containers/volatile-containers.json"),
            ("run", "run/overlay-containers/volatile-containers.json"),
        ] {
            let folder = Folder::new();
            let bundle = folder.bundle(below);
            assert_eq!(folder.read(&bundle, "c1").unwrap(), None, "not listed");
            folder.write("graph/overlay-containers/containers.json", "[]");
            folder.write(list, LISTED);
            let image = folder.read(&bundle, "c1").unwrap();
            let names = ["docker.io/x/y:2", "quay.io/a/b:1"].map(str::to_owned);
            let expected = StoredImage {
                name: Some("quay.io/a/b:1".to_owned()),
                names: names.into(),
                digest: Some("sha256:ab".to_owned()),
                made: Some(Made::Overlay {
                    home: "/graph/overlay".into(),
                    top: "l2".to_owned(),
                    layers: vec!["l1".to_owned(), "l0".to_owned()],
                }),
            };
            assert_eq!(image, is_read().then_some(expected), "{list}");
            assert_eq!(folder.read(&bundle, "c2").unwrap(), None);
            let above = bundle.parent().unwrap();
            assert_eq!(folder.read(above, "c1").unwrap(), None);
            assert_eq!(of_bundle(&[], &bundle, "c1").unwrap(), None);
            for other in ["l0", "l2", "l9"] {
                folder.layers(other);
                let image = folder.read(&bundle, "c1").unwrap();
                assert_eq!(image.and_then(|image| image.made), None, "{other}");
            }
        }
    }

    #[test]
    fn a_store_of_somebody_elses_is_not_read() {
        let folder = Folder::new();
        folder.write("graph/overlay-containers/containers.json", LISTED);
        let list = folder
            .0
            .path()
            .join("graph/overlay-containers/containers.json");
        // Only root can give a file away; without root the store already belongs to another user.
        drop(std::os::unix::fs::chown(&list, Some(1000), None));
        assert_eq!(folder.read(&folder.bundle("graph"), "c1").unwrap(), None);
    }

    #[test]
    fn a_broken_list_is_an_error_that_names_it() {
        let folder = Folder::new();
        folder.write("graph/overlay-containers/containers.json", "[{");
        if is_read() {
            let error = folder.read(&folder.bundle("graph"), "c1").unwrap_err();
            assert!(error.to_string().contains("containers.json"), "{error}");
        }
    }

    #[test]
    fn stores_are_those_that_podmans_configuration_names() {
        let host = tempfile::tempdir().unwrap();
        let etc = host.path().join("etc/containers");
        fs::create_dir_all(&etc).unwrap();
        let text = "[storage]\n# graphroot = \"/no\"\ngraphroot = \"/srv/store\"\n";
        fs::write(etc.join("storage.conf"), text).unwrap();
        let stores = stores(host.path(), Path::new("/proc"), std::process::id());
        let store = |graph| Store::new(host.path(), Path::new(graph), Path::new(RUN), 0);
        let [default, other] = [GRAPH, "/srv/store"].map(store);
        // The configuration belongs to the test's user, who may not be root.
        if is_read() {
            assert_eq!(stores, [default, other]);
        }
    }
}
