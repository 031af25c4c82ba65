//! The store of podman and related tools: a container's image, and the names of that image.
//!
//! Three files of the Go library `containers/storage`, all JSON lists, in `<store>/<driver>-containers/containers.json`
//! and `<store>/<driver>-images/images.json`; podman puts the name of the image into a container's `metadata`, which
//! is JSON in a string. A container's bundle is `<store>/<driver>-containers/<id>/userdata`.
//!
//! Only root's store is read: any other user could write anything into his own.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::{EvidenceError, on_host, parse_json, read_of_root};
use crate::process;

/// Both lists grow with what is stored, by about a kilobyte for each.
const LARGEST_LIST: u64 = 16 << 20;

/// The name of a container's bundle in its folder.
const BUNDLE: &str = "userdata";

const CONTAINERS: &str = "-containers";

/// A container's image, as the store knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredImage {
    /// The name that was asked for.
    pub name: Option<String>,
    /// All names that the image has or had in this store, which does not keep where an image came from.
    pub names: BTreeSet<String>,
    /// Digest of its manifest.
    pub digest: Option<String>,
    /// Whether the container's root file system consists of the image's layers.
    pub runs_on_its_layers: bool,
}

/// podman's default store and root's configuration file.
const STORE: &str = "/var/lib/containers/storage";
const CONFIGURATIONS: [&str; 2] = [
    "/usr/share/containers/storage.conf",
    "/etc/containers/storage.conf",
];

/// The process that watches a podman container, with podman's own options in its command line.
const MONITOR: &str = "conmon";

const LARGEST_CONFIGURATION: u64 = 1 << 20;

/// The stores that podman uses on this node, as this process sees them: from its configuration, and
/// from the options that it gave to the monitor of the process `pid`.
pub fn roots(host_root: &Path, proc: &Path, pid: u32) -> Vec<PathBuf> {
    let mut roots = vec![PathBuf::from(STORE)];
    for file in CONFIGURATIONS {
        let text = read_of_root(&on_host(host_root, Path::new(file)), LARGEST_CONFIGURATION);
        let text = text.ok().flatten().unwrap_or_default();
        roots.extend(String::from_utf8_lossy(&text).lines().find_map(graph_root));
    }
    let monitor = process::ancestors(proc, pid).next();
    let words = monitor.and_then(|monitor| process::command(proc, monitor, MONITOR));
    let words = words.unwrap_or_default();
    // The words of the clean-up command follow this one.
    let mut words = words.iter().filter(|word| *word != "--exit-command-arg");
    if words.by_ref().any(|word| word == "--root") {
        roots.extend(words.next().map(PathBuf::from));
    }
    roots.iter().map(|root| on_host(host_root, root)).collect()
}

/// The value of `graphroot = "<path>"`.
fn graph_root(line: &str) -> Option<PathBuf> {
    let value = line.trim().strip_prefix("graphroot")?.trim_start();
    let value = value.strip_prefix('=')?.trim().strip_prefix('"')?;
    let (path, _) = value.split_once('"')?;
    Some(PathBuf::from(path))
}

/// The image of the container `id` that was started from `bundle`, as this process sees it. `None`
/// if that is not a container of one of these stores, or if the store does not belong to root.
pub fn of_bundle(
    roots: &[PathBuf],
    bundle: &Path,
    id: &str,
) -> Result<Option<StoredImage>, EvidenceError> {
    let Some([containers, images, layers]) = lists(bundle, id) else {
        return Ok(None);
    };
    let store = containers.parent().and_then(Path::parent);
    if !roots.iter().any(|root| Some(root.as_path()) == store) {
        return Ok(None);
    }
    let Some(bytes) = read_of_root(&containers, LARGEST_LIST)? else {
        return Ok(None);
    };
    let all: Vec<Container<'_>> = parse_json(&containers, &bytes)?;
    let Some(container) = all.into_iter().find(|container| container.id == id) else {
        return Ok(None);
    };
    let metadata: Metadata = serde_json::from_str(&container.metadata).unwrap_or_default();
    let Some(bytes) = read_of_root(&images, LARGEST_LIST)? else {
        return Ok(None);
    };
    let all: Vec<Image> = parse_json(&images, &bytes)?;
    let image = all.into_iter().find(|image| image.id == container.image);
    let image = image.unwrap_or_default();
    let all: Vec<Layer> = match read_of_root(&layers, LARGEST_LIST)? {
        Some(bytes) => parse_json(&layers, &bytes)?,
        None => Vec::new(),
    };
    let layer = all.into_iter().find(|layer| layer.id == container.layer);
    let parent = layer.and_then(|layer| layer.parent);
    Ok(Some(StoredImage {
        runs_on_its_layers: parent.is_some() && parent == image.layer,
        name: metadata.image_name.filter(|name| !name.is_empty()),
        names: image.names.into_iter().chain(image.former).collect(),
        digest: image.digest.filter(|digest| !digest.is_empty()),
    }))
}

/// The store's three lists.
fn lists(bundle: &Path, id: &str) -> Option<[PathBuf; 3]> {
    if bundle.file_name()? != BUNDLE || bundle.parent()?.file_name()? != id {
        return None;
    }
    let containers = bundle.parent()?.parent()?;
    let driver = containers.file_name()?.to_str()?.strip_suffix(CONTAINERS)?;
    let beside = |what: &str| containers.with_file_name(format!("{driver}-{what}"));
    Some([
        containers.join("containers.json"),
        beside("images").join("images.json"),
        beside("layers").join("layers.json"),
    ])
}

#[derive(Deserialize)]
struct Container<'a> {
    id: &'a str,
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

    fn store() -> (tempfile::TempDir, PathBuf) {
        let store = tempfile::tempdir().unwrap();
        let bundle = store.path().join("overlay-containers/c1/userdata");
        fs::create_dir_all(&bundle).unwrap();
        fs::create_dir_all(store.path().join("overlay-images")).unwrap();
        fs::create_dir_all(store.path().join("overlay-layers")).unwrap();
        let containers = r#"[{"id": "c0", "image": "i0"}, {"id": "c1", "image": "i1", "layer": "l2",
            "metadata": "{\"image-name\":\"quay.io/a/b:1\"}"}]"#;
        let layers = r#"[{"id": "l1"}, {"id": "l2", "parent": "l1"}]"#;
        let images = r#"[{"id": "i1", "layer": "l1", "digest": "sha256:ab", "names": ["quay.io/a/b:1"],
            "names-history": ["docker.io/x/y:2", "quay.io/a/b:1"]}]"#;
        let write = |name: &str, text: &str| fs::write(store.path().join(name), text).unwrap();
        write("overlay-containers/containers.json", containers);
        write("overlay-images/images.json", images);
        write("overlay-layers/layers.json", layers);
        (store, bundle)
    }

    fn read(
        store: &tempfile::TempDir,
        bundle: &Path,
        id: &str,
    ) -> Result<Option<StoredImage>, EvidenceError> {
        of_bundle(&[store.path().to_owned()], bundle, id)
    }

    #[test]
    fn the_image_of_a_bundle_has_all_its_names() {
        let (store, bundle) = store();
        let image = read(&store, &bundle, "c1").unwrap();
        // If the tests do not run as root, the store does not belong to root.
        if !rustix::process::geteuid().is_root() {
            assert_eq!(image, None);
            return;
        }
        let names = ["docker.io/x/y:2", "quay.io/a/b:1"].map(str::to_owned);
        let expected = StoredImage {
            name: Some("quay.io/a/b:1".to_owned()),
            names: names.into(),
            digest: Some("sha256:ab".to_owned()),
            runs_on_its_layers: true,
        };
        assert_eq!(image.as_ref(), Some(&expected));
        assert_eq!(read(&store, &bundle, "c2").unwrap(), None);
        let above = bundle.parent().unwrap();
        assert_eq!(read(&store, above, "c1").unwrap(), None);
        assert_eq!(
            of_bundle(&[], &bundle, "c1").unwrap(),
            None,
            "no store of podman's"
        );
        let layers = r#"[{"id": "l1"}, {"id": "l2", "parent": "l0"}]"#;
        fs::write(store.path().join("overlay-layers/layers.json"), layers).unwrap();
        let other = read(&store, &bundle, "c1").unwrap().unwrap();
        assert!(!other.runs_on_its_layers);
    }

    #[test]
    fn a_store_of_somebody_elses_is_not_read() {
        let (store, bundle) = store();
        let list = store.path().join("overlay-images/images.json");
        // Only root can give a file away; without root the store already belongs to another user.
        drop(std::os::unix::fs::chown(&list, Some(1000), None));
        assert_eq!(read(&store, &bundle, "c1").unwrap(), None);
    }

    #[test]
    fn a_broken_list_is_an_error_that_names_it() {
        let (store, bundle) = store();
        fs::write(
            store.path().join("overlay-containers/containers.json"),
            "[{",
        )
        .unwrap();
        if rustix::process::geteuid().is_root() {
            let error = read(&store, &bundle, "c1").unwrap_err().to_string();
            assert!(error.contains("containers.json"), "{error}");
        }
    }

    #[test]
    fn stores_are_those_that_podmans_configuration_names() {
        let host = tempfile::tempdir().unwrap();
        let etc = host.path().join("etc/containers");
        fs::create_dir_all(&etc).unwrap();
        let text = "[storage]\n# graphroot = \"/no\"\ngraphroot = \"/srv/store\"\n";
        fs::write(etc.join("storage.conf"), text).unwrap();
        let own = std::process::id();
        let roots = roots(host.path(), Path::new("/proc"), own);
        let expected = [STORE, "/srv/store"].map(|root| on_host(host.path(), Path::new(root)));
        // The configuration belongs to the test's user, who may not be root.
        if rustix::process::geteuid().is_root() {
            assert_eq!(roots, expected);
        }
    }
}
