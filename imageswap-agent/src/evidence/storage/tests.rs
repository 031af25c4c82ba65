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
fn the_first_entry_counts_wherever_it_is() {
    if !is_read() {
        return;
    }
    let folder = Folder::new();
    let others = |kind: &str, from: usize| -> Vec<String> {
        let ids = (from..from + 100).map(|at| format!(r#"{{"id": "{kind}{at}"}}"#));
        ids.collect()
    };
    for (before, after) in [(0, 100), (50, 50), (100, 0)] {
        for (list, entry, later) in [
            (
                "containers",
                r#"{"id": "c1", "image": "i1", "layer": "l2"}"#,
                r#"{"id": "c1", "image": "evil"}"#,
            ),
            (
                "images",
                r#"{"id": "i1", "layer": "l1", "names": ["quay.io/a/b:1"]}"#,
                r#"{"id": "i1", "names": ["evil.example.net/x"]}"#,
            ),
            (
                "layers",
                r#"{"id": "l2", "parent": "l1"}"#,
                r#"{"id": "l2", "parent": "evil"}"#,
            ),
        ] {
            let mut entries = others("x", 0)[..before].to_vec();
            entries.extend([entry.to_owned(), later.to_owned()]);
            entries.extend_from_slice(&others("y", 0)[..after]);
            let file = format!("graph/overlay-{list}/{list}.json");
            folder.write(&file, &format!("[{}]", entries.join(",")));
        }
        let image = folder.read(&folder.bundle("graph"), "c1").unwrap().unwrap();
        assert_eq!(image.names, ["quay.io/a/b:1".to_owned()].into(), "{before}");
        let made = Some(Made::Overlay {
            home: "/graph/overlay".into(),
            top: "l2".to_owned(),
            layers: vec!["l1".to_owned()],
        });
        assert_eq!(image.made, made, "{before}");
    }
}

#[test]
fn what_is_too_much_to_keep_is_an_error_of_its_own_entry() {
    if !is_read() {
        return;
    }
    let folder = Folder::new();
    folder.write("graph/overlay-containers/containers.json", LISTED);
    let names = |count: usize| {
        let names: Vec<_> = (0..count).map(|at| format!("quay.io/a/b:{at}")).collect();
        serde_json::json!(names)
    };
    let images = |of_another: usize, own: usize| {
        let (other, own) = (names(of_another), names(own));
        let text = format!(
            r#"[{{"id": "i0", "names": {other}}}, {{"id": "i1", "layer": "l1", "names": {own}}}]"#
        );
        folder.write("graph/overlay-images/images.json", &text);
        folder.read(&folder.bundle("graph"), "c1")
    };
    let most = list::MOST_TEXTS;
    assert_eq!(images(most + 1, most).unwrap().unwrap().names.len(), most);
    let error = images(1, most + 1).unwrap_err().to_string();
    assert!(
        error.contains("images.json") && error.contains("more than 1024"),
        "{error}"
    );
    folder.write("graph/overlay-images/images.json", "[]");
    folder.layers("l2");
    let read = folder.read(&folder.bundle("graph"), "c1").unwrap();
    assert_eq!(read.unwrap().made, None, "a layer below itself");
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

/// CRI-O's containers lie in the same store as podman's.
#[test]
fn a_container_with_a_pod_is_not_podmans() {
    let folder = Folder::new();
    let listed = LISTED.replace(
        r#"{\"image-name"#,
        r#"{\"pod-name\":\"web\",\"pod-id\":\"0b\",\"image-name"#,
    );
    assert_ne!(listed, LISTED);
    folder.write("graph/overlay-containers/containers.json", &listed);
    assert_eq!(folder.read(&folder.bundle("run"), "c1").unwrap(), None);
}
