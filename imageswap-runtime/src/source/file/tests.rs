//! Changes of files in the ways in which people and kubelets make them.

use std::fs::{self, create_dir, hard_link, rename};
use std::os::unix::fs::symlink;

use tempfile::TempDir;
use tokio::time::timeout;

use super::*;

/// Longer than an event takes, shorter than the poll.
const SOON: Duration = Duration::from_secs(4);

async fn next(changes: &mut Changes<'_>, within: Duration) -> Option<String> {
    let texts = timeout(within, changes.next()).await.ok()?.unwrap();
    Some(texts.into_iter().map(|it| it.text).collect())
}

/// Changes of `path`, which has been looked at and reports events.
async fn watched(files: &PolicyFiles) -> Changes<'_> {
    let mut changes = Changes::new(files, files.read().unwrap());
    while changes.events.is_none() {
        assert_eq!(next(&mut changes, LOOK_INTERVAL * 2).await, None);
    }
    changes
}

async fn reports_soon(path: PathBuf, change: impl FnOnce()) {
    let files = PolicyFiles::new(path);
    let mut changes = watched(&files).await;
    change();
    assert_eq!(next(&mut changes, SOON).await.as_deref(), Some("new"));
}

/// A folder like that of a mounted ConfigMap with one file.
fn config_map() -> (TempDir, PathBuf) {
    let folder = TempDir::new().unwrap();
    let of = |name: &str| folder.path().join(name);
    for (version, text) in [("..1", "old"), ("..2", "new")] {
        create_dir(of(version)).unwrap();
        fs::write(of(version).join("a.yaml"), text).unwrap();
    }
    symlink("..1", of("..data")).unwrap();
    symlink("..data/a.yaml", of("a.yaml")).unwrap();
    let file = of("a.yaml");
    (folder, file)
}

fn swap(folder: &Path, version: &str) {
    symlink(version, folder.join("..data_tmp")).unwrap();
    rename(folder.join("..data_tmp"), folder.join("..data")).unwrap();
}

#[tokio::test]
async fn a_config_map_of_another_version_is_a_change() {
    let (folder, file) = config_map();
    reports_soon(file, || swap(folder.path(), "..2")).await;
    let (folder, _file) = config_map();
    reports_soon(folder.path().to_owned(), || swap(folder.path(), "..2")).await;
}

#[tokio::test]
async fn a_file_that_is_written_or_replaced_is_a_change() {
    let folder = TempDir::new().unwrap();
    let of = |name: &str| folder.path().join(name);
    fs::write(of("a.yaml"), "old").unwrap();
    reports_soon(of("a.yaml"), || fs::write(of("a.yaml"), "new").unwrap()).await;
    fs::write(of("b.yaml"), "old").unwrap();
    fs::write(of("c"), "new").unwrap();
    reports_soon(of("b.yaml"), || rename(of("c"), of("b.yaml")).unwrap()).await;
}

#[tokio::test]
async fn a_file_that_is_written_under_another_name_is_a_change() {
    let (one, other) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let (file, name) = (one.path().join("a"), other.path().join("b"));
    fs::write(&file, "old").unwrap();
    hard_link(&file, &name).unwrap();
    reports_soon(file, || fs::write(&name, "new").unwrap()).await;
}

#[tokio::test]
async fn what_no_event_reports_is_found_later() {
    let folder = TempDir::new().unwrap();
    let of = |name: &str| folder.path().join(name);
    for (version, text) in [("1", "old"), ("2", "new")] {
        create_dir(of(version)).unwrap();
        fs::write(of(version).join("a"), text).unwrap();
    }
    symlink("1", of("..data")).unwrap();
    let files = PolicyFiles::new(of("..data/a"));
    let mut changes = watched(&files).await;
    swap(folder.path(), "2");
    assert_eq!(next(&mut changes, SOON).await, None);
    changes.poll = LOOK_INTERVAL;
    assert_eq!(next(&mut changes, SOON).await.as_deref(), Some("new"));
}
