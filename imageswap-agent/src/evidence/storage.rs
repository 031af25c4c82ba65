//! The store of podman and its kin: which image a container was made of, and what that image is called.
//!
//! Two files of the Go library `containers/storage`, both JSON lists, in `<store>/<driver>-containers/containers.json`
//! and `<store>/<driver>-images/images.json`; podman puts the name of the image into a container's `metadata`, which
//! is JSON in a string. A container's bundle is `<store>/<driver>-containers/<id>/userdata`.
//!
//! A store of anybody but root is not read: the user whose container it is could write there what he likes.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::{EvidenceError, parse_json, read_of_root};

/// Both lists grow with what is stored, by about a kilobyte for each.
const LARGEST_LIST: u64 = 16 << 20;

/// What a container's bundle is called in its folder.
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
}

/// The image of the container `id` that was started from `bundle`, as this process sees it; `None` where that is no
/// container of a store of root's.
pub fn of_bundle(bundle: &Path, id: &str) -> Result<Option<StoredImage>, EvidenceError> {
    let Some((containers, images)) = lists(bundle, id) else {
        return Ok(None);
    };
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
    Ok(Some(StoredImage {
        name: metadata.image_name.filter(|name| !name.is_empty()),
        names: image.names.into_iter().chain(image.former).collect(),
        digest: image.digest.filter(|digest| !digest.is_empty()),
    }))
}

/// The store's two lists.
fn lists(bundle: &Path, id: &str) -> Option<(PathBuf, PathBuf)> {
    if bundle.file_name()? != BUNDLE || bundle.parent()?.file_name()? != id {
        return None;
    }
    let containers = bundle.parent()?.parent()?;
    let driver = containers.file_name()?.to_str()?.strip_suffix(CONTAINERS)?;
    let images = containers.with_file_name(format!("{driver}-images"));
    Some((
        containers.join("containers.json"),
        images.join("images.json"),
    ))
}

#[derive(Deserialize)]
struct Container<'a> {
    id: &'a str,
    #[serde(default)]
    image: String,
    #[serde(default)]
    metadata: String,
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
        let containers = r#"[{"id": "c0", "image": "i0"},
            {"id": "c1", "image": "i1", "metadata": "{\"image-name\":\"quay.io/a/b:1\"}"}]"#;
        let images = r#"[{"id": "i1", "digest": "sha256:ab", "names": ["quay.io/a/b:1"],
            "names-history": ["docker.io/x/y:2", "quay.io/a/b:1"]}]"#;
        let write = |name: &str, text: &str| fs::write(store.path().join(name), text).unwrap();
        write("overlay-containers/containers.json", containers);
        write("overlay-images/images.json", images);
        (store, bundle)
    }

    #[test]
    fn the_image_of_a_bundle_has_all_its_names() {
        let (_store, bundle) = store();
        let image = of_bundle(&bundle, "c1").unwrap();
        // Where the tests do not run as root the store is not root's.
        if !rustix::process::geteuid().is_root() {
            assert_eq!(image, None);
            return;
        }
        let names = ["docker.io/x/y:2", "quay.io/a/b:1"].map(str::to_owned);
        let expected = StoredImage {
            name: Some("quay.io/a/b:1".to_owned()),
            names: names.into(),
            digest: Some("sha256:ab".to_owned()),
        };
        assert_eq!(image, Some(expected));
        assert_eq!(of_bundle(&bundle, "c2").unwrap(), None);
        assert_eq!(of_bundle(bundle.parent().unwrap(), "c1").unwrap(), None);
    }

    #[test]
    fn a_store_of_somebody_elses_is_not_read() {
        let (store, bundle) = store();
        let list = store.path().join("overlay-images/images.json");
        // Only root can give a file away; anybody's store is somebody else's already.
        drop(std::os::unix::fs::chown(&list, Some(1000), None));
        assert_eq!(of_bundle(&bundle, "c1").unwrap(), None);
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
            let error = of_bundle(&bundle, "c1").unwrap_err().to_string();
            assert!(error.contains("containers.json"), "{error}");
        }
    }
}
