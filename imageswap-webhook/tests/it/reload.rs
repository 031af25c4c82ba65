//! The maps file changes while the webhook serves.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use crate::client::{Server, TIMES, eventually};

const FAILURES: &str = "imageswap_policy_reload_failures_total";

fn default_to(target: &str) -> String {
    format!("default::{target}\n")
}

/// Text that no maps file may have: a target that cannot begin a reference.
const BAD: &str = "default::https://UPPER CASE/\n";

#[tokio::test]
async fn a_plain_write_and_a_rename() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("maps");
    fs::write(&path, default_to("one.example.com")).unwrap();
    let server = Server::with_maps_file(path.clone(), TIMES).await;
    assert_eq!(server.swap("nginx").await, "one.example.com/nginx");

    fs::write(&path, default_to("two.example.com")).unwrap();
    server.until_swapped("nginx", "two.example.com/nginx").await;

    let beside = dir.path().join(".maps.swp");
    fs::write(&beside, default_to("three.example.com")).unwrap();
    fs::rename(&beside, &path).unwrap();
    server
        .until_swapped("nginx", "three.example.com/nginx")
        .await;
    server.until_metric(&format!("{FAILURES} 0")).await;
}

/// The kubelet writes a new folder, links `..data_tmp` to it and renames that over `..data`.
fn project(volume: &Path, generation: &str, maps: &str) {
    fs::create_dir(volume.join(generation)).unwrap();
    fs::write(volume.join(generation).join("maps"), maps).unwrap();
    symlink(generation, volume.join("..data_tmp")).unwrap();
    fs::rename(volume.join("..data_tmp"), volume.join("..data")).unwrap();
}

#[tokio::test]
async fn a_mounted_config_map() {
    let volume = tempfile::tempdir().unwrap();
    project(
        volume.path(),
        "..2026_01_01",
        &default_to("one.example.com"),
    );
    symlink("..data/maps", volume.path().join("maps")).unwrap();
    let server = Server::with_maps_file(volume.path().join("maps"), TIMES).await;
    assert_eq!(server.swap("nginx").await, "one.example.com/nginx");

    project(
        volume.path(),
        "..2026_01_02",
        &default_to("two.example.com"),
    );
    fs::remove_dir_all(volume.path().join("..2026_01_01")).unwrap();
    server.until_swapped("nginx", "two.example.com/nginx").await;
}

#[tokio::test]
async fn a_bad_edit_keeps_the_last_good_one() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("maps");
    fs::write(&path, default_to("one.example.com")).unwrap();
    let server = Server::with_maps_file(path.clone(), TIMES).await;

    fs::write(&path, BAD).unwrap();
    server.until_metric(&format!("{FAILURES} 1")).await;
    assert_eq!(server.swap("nginx").await, "one.example.com/nginx");

    // The same bad text written again is not reported; another one is.
    fs::write(&path, BAD).unwrap();
    fs::write(&path, format!("# {BAD}{BAD}")).unwrap();
    server.until_metric(&format!("{FAILURES} 2")).await;
    assert_eq!(server.swap("nginx").await, "one.example.com/nginx");

    fs::write(&path, [0xff, 0xfe]).unwrap();
    server.until_metric(&format!("{FAILURES} 3")).await;

    fs::remove_file(&path).unwrap();
    server.until_metric(&format!("{FAILURES} 4")).await;
    assert_eq!(server.swap("nginx").await, "one.example.com/nginx");

    fs::write(&path, default_to("two.example.com")).unwrap();
    server.until_swapped("nginx", "two.example.com/nginx").await;
    server.until_metric(&format!("{FAILURES} 4")).await;
    let info = |text: &str| {
        text.lines()
            .filter(|it| it.starts_with("imageswap_policy_info{"))
            .count()
    };
    eventually("one policy is in force", async || {
        info(&server.exporter.render()) == 1
    })
    .await;
}

fn policy(name: &str, spec: &str) -> String {
    format!(
        "apiVersion: imageswap.io/v1alpha1\nkind: ImageSwapPolicy\nmetadata: {{name: {name}}}\nspec: {spec}\n"
    )
}

#[tokio::test]
async fn a_folder_of_policies() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name);
    let to = |host: &str| format!("{{rules: [{{from: '**', to: {host}}}]}}");
    fs::write(file("a.yaml"), policy("a", &to("one.example.com"))).unwrap();
    fs::write(file("notes.txt"), "no policy").unwrap();
    let server = Server::with_policies(folder.path().to_owned()).await;
    let image = "quay.io/a/b";
    assert_eq!(server.swap(image).await, "one.example.com/a/b");

    let first = to("two.example.com").replacen('{', "{priority: 1, ", 1);
    fs::write(file("b.yaml"), policy("b", &first)).unwrap();
    server.until_swapped(image, "two.example.com/a/b").await;

    // One name twice is an error, and changes nothing.
    fs::write(file("c.yaml"), policy("a", "{}")).unwrap();
    server.until_metric(&format!("{FAILURES} 1")).await;
    assert_eq!(server.swap(image).await, "two.example.com/a/b");

    fs::remove_file(file("c.yaml")).unwrap();
    fs::remove_file(file("b.yaml")).unwrap();
    server.until_swapped(image, "one.example.com/a/b").await;
}

#[tokio::test]
async fn under_audit_nothing_is_changed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("p.yaml");
    let spec = "{enforcement: audit, rules: [{from: '**', to: one.example.com}]}";
    fs::write(&path, policy("p", spec)).unwrap();
    let server = Server::with_policies(path.clone()).await;
    assert_eq!(server.swap("quay.io/a").await, "quay.io/a");
    fs::write(&path, policy("p", &spec.replace("audit", "warn"))).unwrap();
    server.until_swapped("quay.io/a", "one.example.com/a").await;
}
