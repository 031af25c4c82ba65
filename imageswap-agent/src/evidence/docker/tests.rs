use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};

use imageswap_lab::require;
use serde_json::json;

use super::*;
use crate::evidence::layers;
use crate::evidence::list::MOST_TEXTS;

const ID: &str = "a93b729529347cecd518777dc8631ac0c9e5adc62caebfb91952ad7a4c577d6f";
const IMAGE: &str = "69a10a15fd71ecc7f18759390a9f633dd1f83e88794fd893bef74506199d3726";
const MOUNT: &str = "2858d4faa3e4a5232478908ec51515104f36c50e2fff67dca4395c18f719f4b2";
const DIGEST: &str = "sha256:af539afe882aca47583702623064648efecb143f583344e3300904e81512f8dd";
const REPOSITORIES: &str = "image/overlay2/repositories.json";

/// Where the root file system of the container is.
const ROOT: &str =
    "/srv/docker/overlay2/2858d4faa3e4a5232478908ec51515104f36c50e2fff67dca4395c18f719f4b2/merged";

fn roots() -> Roots {
    Roots {
        folders: ["/srv/docker".into()].into(),
        ..Roots::default()
    }
}

/// A data root of Docker's at `/srv/docker` of a host, with one container.
struct Host(tempfile::TempDir);

impl Host {
    /// `None` after printing that the test is skipped: the store has to belong to root.
    fn for_test(test: &str) -> Option<Self> {
        if !imageswap_lab::is_root() {
            imageswap_lab::skip(test, "needs root");
            return None;
        }
        Some(Self::new())
    }

    fn new() -> Self {
        let host = Self(tempfile::tempdir().unwrap());
        host.container("overlay2");
        let mount = format!("image/overlay2/layerdb/mounts/{ID}/mount-id");
        host.write(&mount, MOUNT);
        let image = format!("image/overlay2/imagedb/content/sha256/{IMAGE}");
        let layers = json!({"rootfs": {"type": "layers", "diff_ids": ["sha256:l1", "sha256:l2"]}});
        host.write(&image, &layers.to_string());
        host
    }

    fn container(&self, driver: &str) {
        self.container_of(driver, &format!("sha256:{IMAGE}"));
    }

    fn container_of(&self, driver: &str, image: &str) {
        let record = json!({
            "ID": ID, "Image": image, "Driver": driver,
            "State": {"Running": true, "Pid": 7}, "Config": {"Image": "registry.example.com/app:1"},
        });
        let file = format!("containers/{ID}/config.v2.json");
        self.write(&file, &record.to_string());
    }

    fn names(&self, names: &[&str]) {
        let id = format!("sha256:{IMAGE}");
        let of_image: BTreeMap<_, _> = names.iter().map(|&name| (name, id.as_str())).collect();
        let other = json!({"nginx:1": "sha256:00"});
        let list = json!({"Repositories": {"x": of_image, "nginx": other}});
        self.write(REPOSITORIES, &list.to_string());
    }

    fn layer(&self, layer: &str, repositories: &[&str]) {
        let entry =
            |name: &&str| json!({"Digest": "sha256:b", "SourceRepository": name, "HMAC": ""});
        let entries: Vec<_> = repositories.iter().map(entry).collect();
        let file = format!("image/overlay2/distribution/v2metadata-by-diffid/sha256/{layer}");
        self.write(&file, &json!(entries).to_string());
    }

    fn path(&self, file: &str) -> PathBuf {
        self.0.path().join("srv/docker").join(file)
    }

    fn write(&self, file: &str, text: &str) {
        let path = self.path(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn read(&self, root: &str) -> Option<DockerContainer> {
        of_root(self.0.path(), &roots(), Path::new(root), ID).unwrap()
    }

    fn image(&self) -> DockerImage {
        match self.read(ROOT).unwrap().store {
            Store::Docker { image, .. } => image.unwrap(),
            Store::Containerd { .. } => panic!("Docker keeps the image itself"),
        }
    }
}

fn from(repositories: &[&str]) -> Vec<ContentSource> {
    repositories.iter().filter_map(|it| source(it)).collect()
}

#[test]
fn a_container_is_known_by_its_root_file_system() {
    let host = require!(Host::for_test(
        "a_container_is_known_by_its_root_file_system"
    ));
    host.names(&["app:1", "registry.example.com/app:1"]);
    let found = host.read(ROOT).unwrap();
    assert_eq!(found.typed, "registry.example.com/app:1");
    assert_eq!(found.image_id, format!("sha256:{IMAGE}"));
    let names = ["app:1", "registry.example.com/app:1"].map(str::to_owned);
    assert_eq!(host.image().names, names.into());

    // Another container's, another driver's, and a forged one below this id and this folder.
    for root in [
        "/srv/docker/overlay2/cc/merged".to_owned(),
        format!("/srv/docker/vfs/dir/{MOUNT}"),
        format!("/srv/docker/volumes/{MOUNT}/_data/overlay2"),
        format!("/srv/docker/rootfs/overlayfs/{ID}"),
        format!("/srv/other/overlay2/{MOUNT}/merged"),
        "/srv/docker".to_owned(),
        "/".to_owned(),
    ] {
        assert_eq!(host.read(&root), None, "{root}");
    }
    let other = of_root(host.0.path(), &roots(), Path::new(ROOT), "../x").unwrap();
    assert_eq!(other, None);
}

#[test]
fn an_image_in_containerds_store_is_left_to_containerd() {
    let host = require!(Host::for_test(
        "an_image_in_containerds_store_is_left_to_containerd"
    ));
    host.container("overlayfs");
    let root = format!("/srv/docker/rootfs/overlayfs/{ID}");
    let snapshotter = "overlayfs".to_owned();
    let expected = Store::Containerd { snapshotter };
    assert_eq!(host.read(&root).unwrap().store, expected);
    assert_eq!(host.read(ROOT), None);
}

#[test]
fn a_digest_in_a_repository_says_where_the_image_is_from() {
    let host = require!(Host::for_test(
        "a_digest_in_a_repository_says_where_the_image_is_from"
    ));
    host.layer("l1", &["docker.io/library/base"]);
    host.layer("l2", &["docker.io/library/base"]);
    let names = [
        &format!("nginx@{DIGEST}"),
        &format!("127.0.0.1:5000/a/b@{DIGEST}"),
    ];
    host.names(&[names[0], names[1], "registry.example.com/app:1"]);
    let image = host.image();
    let expected = from(&["127.0.0.1:5000/a/b", "docker.io/library/nginx"]);
    assert_eq!(image.pulled_from(), expected);
    assert_eq!(image.layers_from, []);
}

#[test]
fn names_of_the_image_are_found_among_many() {
    let host = require!(Host::for_test("names_of_the_image_are_found_among_many"));
    let of = |id: &str, repository: &str, names: &[&str]| {
        let names: BTreeMap<_, _> = names
            .iter()
            .map(|&it| (it, format!("sha256:{id}")))
            .collect();
        format!("\"{repository}\":{}", json!(names))
    };
    let own = of(IMAGE, "b", &["b:1", "b:2"]);
    let others: Vec<_> = (0..100)
        .map(|at| of("00", &format!("x{at}"), &["x"]))
        .collect();
    let write = |parts: &[String]| {
        let list = format!("{{\"Repositories\":{{{}}}}}", parts.join(","));
        host.write(REPOSITORIES, &list);
    };
    for at in [0, 50, 100] {
        let mut parts = others.clone();
        parts.insert(at, own.clone());
        write(&parts);
        assert_eq!(
            host.image().names,
            ["b:1", "b:2"].map(str::to_owned).into(),
            "{at}"
        );
    }
    // The last value of a key that occurs twice.
    write(&[own.clone(), of(IMAGE, "b", &["b:3"])]);
    assert_eq!(host.image().names, ["b:3".to_owned()].into());
    write(&[own.clone(), of("00", "b", &["b:1"])]);
    assert_eq!(host.image().names, [].into());
    let twice = format!("\"b\":{{\"b:1\":\"sha256:{IMAGE}\",\"b:1\":\"sha256:00\"}}");
    write(&[twice]);
    assert_eq!(host.image().names, [].into());
    let many: Vec<_> = (0..=MOST_TEXTS).map(|at| format!("b:{at}")).collect();
    let many: Vec<_> = many.iter().map(String::as_str).collect();
    write(&[of("00", "a", &many), of(IMAGE, "b", &many[1..])]);
    assert_eq!(host.image().names.len(), MOST_TEXTS);
    write(&[of(IMAGE, "b", &many)]);
    let error = of_root(host.0.path(), &roots(), Path::new(ROOT), ID).unwrap_err();
    assert!(error.to_string().contains("more than 1024"), "{error}");
}

#[test]
fn without_one_the_layers_do_as_far_as_they_agree() {
    let host = require!(Host::for_test(
        "without_one_the_layers_do_as_far_as_they_agree"
    ));
    host.names(&["registry.example.com/app:1"]);
    assert_eq!(host.image().layers_from, []);
    host.layer("l1", &["docker.io/library/base", "evil.example.net/miner"]);
    assert_eq!(
        host.image().layers_from,
        [],
        "the second layer was made here"
    );
    host.layer("l2", &["evil.example.net/miner"]);
    assert_eq!(host.image().layers_from, from(&["evil.example.net/miner"]));
    host.layer("l2", &["quay.io/other"]);
    assert_eq!(host.image().layers_from, []);
}

#[test]
fn an_image_that_was_deleted_is_unknown() {
    let host = require!(Host::for_test("an_image_that_was_deleted_is_unknown"));
    let image = format!("image/overlay2/imagedb/content/sha256/{IMAGE}");
    fs::remove_file(host.path(&image)).unwrap();
    let expected = Store::Docker {
        image: None,
        made: None,
    };
    assert_eq!(host.read(ROOT).unwrap().store, expected);
}

#[test]
fn root_file_system_consists_of_the_images_layers() {
    let host = require!(Host::for_test(
        "root_file_system_consists_of_the_images_layers"
    ));
    let diff_ids = ["sha256:l1".to_owned(), "sha256:l2".to_owned()];
    let config = json!({"rootfs": {"type": "layers", "diff_ids": diff_ids}}).to_string();
    let image = layers::sha256(config.as_bytes());
    let hex = image.strip_prefix("sha256:").unwrap();
    host.write(
        &format!("image/overlay2/imagedb/content/sha256/{hex}"),
        &config,
    );
    host.container_of("overlay2", &image);
    let chain = layers::chain_id(&diff_ids).unwrap();
    let layer = |chain: &str, file: &str| {
        let hex = chain.strip_prefix("sha256:").unwrap_or(chain);
        format!("image/overlay2/layerdb/sha256/{hex}/{file}")
    };
    let made = || match host.read(ROOT).unwrap().store {
        Store::Docker { made, .. } => made,
        Store::Containerd { .. } => panic!("Docker keeps the image itself"),
    };
    let parent = format!("image/overlay2/layerdb/mounts/{ID}/parent");
    host.write(&parent, &chain);
    host.write(&layer(&chain, "cache-id"), "c2");
    host.write(&layer(&chain, "parent"), "sha256:l1");
    assert_eq!(made(), None, "a layer is missing");
    host.write(&layer("sha256:l1", "cache-id"), "c1");
    let expected = Made::Overlay {
        home: "/srv/docker/overlay2".into(),
        top: MOUNT.to_owned(),
        layers: vec![format!("{MOUNT}-init"), "c2".to_owned(), "c1".to_owned()],
    };
    assert_eq!(made(), Some(expected));
    host.write(&layer("sha256:l1", "cache-id"), "../c1");
    assert_eq!(made(), None, "a folder elsewhere");
    host.write(&parent, "sha256:l1");
    assert_eq!(made(), None, "the layers of another image");
}

#[test]
fn records_of_somebody_elses_are_not_read() {
    let host = Host::new();
    let file = host.path(&format!("containers/{ID}/config.v2.json"));
    // Only root can give a file away; without root the record already belongs to another user.
    drop(chown(&file, Some(1000), None));
    assert_eq!(host.read(ROOT), None);
}

#[test]
fn a_broken_or_endless_file_is_an_error_that_names_it() {
    let host = require!(Host::for_test(
        "a_broken_or_endless_file_is_an_error_that_names_it"
    ));
    host.names(&[]);
    for (file, text) in [
        (REPOSITORIES, "{".to_owned()),
        (REPOSITORIES, " ".repeat(17 << 20)),
        (
            "image/overlay2/distribution/v2metadata-by-diffid/sha256/l1",
            "{}".to_owned(),
        ),
    ] {
        host.write(file, &text);
        let error = of_root(host.0.path(), &roots(), Path::new(ROOT), ID).unwrap_err();
        assert!(error.to_string().contains(file), "{error}");
        host.names(&[]);
    }
}

#[test]
fn a_folder_that_looks_like_a_data_root_is_none() {
    let host = require!(Host::for_test(
        "a_folder_that_looks_like_a_data_root_is_none"
    ));
    let nowhere = Roots::default();
    let found = of_root(host.0.path(), &nowhere, Path::new(ROOT), ID).unwrap();
    assert_eq!(found, None);
    let out = format!("/srv/docker/../../srv/docker/overlay2/{MOUNT}/merged");
    assert_eq!(host.read(&out), None, "a path that leads out again");
}

#[test]
fn records_of_a_docker_that_maps_users_are_in_a_folder_of_the_mapping() {
    let host = require!(Host::for_test(
        "records_of_a_docker_that_maps_users_are_in_a_folder_of_the_mapping"
    ));
    fs::rename(host.path(""), host.0.path().join("srv/all")).unwrap();
    fs::create_dir(host.path("")).unwrap();
    fs::rename(host.0.path().join("srv/all"), host.path("231072.231072")).unwrap();
    let root = ROOT.replace("docker/", "docker/231072.231072/");
    let found = host.read(&root).unwrap();
    assert_eq!(found.typed, "registry.example.com/app:1");
    assert_eq!(host.read(ROOT), None);
}
