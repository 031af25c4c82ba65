//! Builds the images once more, elsewhere, and compares.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::{Built, Commit, What, build_in};
use crate::process::{Workspace, output};
use crate::ui;

/// Builds the images again from the same files, in another folder with nothing built in it, and
/// compares the digests.
pub(super) fn verify(
    workspace: &Workspace,
    what: &What,
    commit: &Commit,
    images: &[Built],
) -> Result<()> {
    let folder = tempfile::Builder::new()
        .prefix("imageswap-elsewhere-")
        .tempdir()
        .context("a temporary folder")?;
    let root = folder.path().join("copy");
    copy(workspace, &root)?;
    ui::step(format_args!("building again in {}", root.display()));
    let elsewhere = Workspace {
        target: root.join("target"),
        root,
    };
    let again = build_in(&elsewhere, what, commit)?;
    for (one, other) in images.iter().zip(&again) {
        ensure!(
            one.digest() == other.digest(),
            "{} has the digest {} here and {} elsewhere",
            one.reference,
            one.digest(),
            other.digest()
        );
    }
    ui::good("built twice, in two folders: the same digests");
    Ok(())
}

/// Copies the files that git knows, in their present state.
fn copy(workspace: &Workspace, to: &std::path::Path) -> Result<()> {
    let mut command = Command::new("git");
    command.current_dir(&workspace.root);
    // New files were part of the build, whether or not they are committed.
    let listed = output(command.args([
        "ls-files",
        "-z",
        "--cached",
        "--others",
        "--exclude-standard",
    ]))?;
    for path in listed.split('\0').filter(|it| !it.is_empty()) {
        let from = workspace.root.join(path);
        // Deleted, but not yet committed.
        if !from.exists() {
            continue;
        }
        let to = to.join(path);
        if let Some(folder) = to.parent() {
            fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        }
        fs::copy(&from, &to).with_context(|| from.display().to_string())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_copy_is_what_git_knows_of() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("one");
        fs::create_dir(&root).unwrap();
        let git =
            |args: &[&str]| output(Command::new("git").current_dir(&root).args(args)).unwrap();
        git(&["init", "--quiet"]);
        for (path, text) in [
            (".gitignore", "ignored\n"),
            ("sub/kept", "1"),
            ("gone", "2"),
            ("ignored", "3"),
            ("new", "4"),
        ] {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        git(&["add", "sub", "gone", ".gitignore"]);
        fs::remove_file(root.join("gone")).unwrap();
        let workspace = Workspace {
            target: root.join("target"),
            root: root.clone(),
        };
        let to = folder.path().join("two");
        copy(&workspace, &to).unwrap();
        let has = |path: &str| to.join(path).exists();
        assert!(has("sub/kept") && has("new") && has(".gitignore"));
        assert!(!has("gone") && !has("ignored") && !has(".git"));
    }
}
