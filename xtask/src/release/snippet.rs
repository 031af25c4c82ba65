//! Runs the commands with which docs/cli.md installs the command from a release.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use imageswap_lab::skip;

use super::archive::Archive;
use super::{Folder, VERSION};
use crate::image::Architecture;
use crate::process::{Workspace, find};

const PAGE: &str = "docs/cli.md";

/// The commands, with another address.
fn commands(url: &str) -> String {
    let root = Workspace::find().unwrap().root;
    let page = fs::read_to_string(root.join(PAGE)).unwrap();
    let (_, block) = page.split_once("```sh\nurl=").unwrap();
    let (block, _) = block.split_once("```").unwrap();
    let (_, commands) = block.split_once('\n').unwrap();
    format!("url={url}\n{commands}")
}

/// A folder with the archives of a release whose command prints its architecture.
fn release(folder: &Path) {
    let out = Folder {
        path: folder.to_owned(),
    };
    for architecture in Architecture::all() {
        let name = format!("imageswap-{VERSION}-linux-{}", architecture.name());
        let mut archive = Archive::new(&name, 1);
        for program in ["imageswap", "imageswap-agent"] {
            let script = format!("#!/bin/sh\necho {program} {}\n", architecture.name());
            let path = format!("bin/{program}");
            archive.file(&path, 0o755, script.as_bytes()).unwrap();
        }
        archive.link("bin/kubectl-imageswap", "imageswap").unwrap();
        let archive = archive.finish().unwrap();
        out.write(&format!("{name}.tar.gz"), &archive).unwrap();
    }
    let sums = out.sums().unwrap();
    out.write("SHA256SUMS", sums.as_bytes()).unwrap();
}

fn run(from: &Path, home: &Path) -> Output {
    let url = format!("file://{}", from.display());
    Command::new("sh")
        .args(["-c", &commands(&url)])
        .current_dir(home)
        .env("HOME", home)
        .output()
        .unwrap()
}

#[test]
fn command_of_this_architecture_is_installed_if_the_checksum_fits() {
    let test = "command_of_this_architecture_is_installed_if_the_checksum_fits";
    if find("curl").is_none() {
        return skip(test, "needs curl");
    }
    let from = tempfile::tempdir().unwrap();
    release(from.path());
    let home = tempfile::tempdir().unwrap();
    let output = run(from.path(), home.path());
    assert!(output.status.success(), "{output:?}");
    let installed = home.path().join(".local/bin/imageswap");
    let said = Command::new(&installed).output().unwrap().stdout;
    let native = Architecture::native()[0].name();
    assert_eq!(
        String::from_utf8(said).unwrap(),
        format!("imageswap {native}\n")
    );

    // A damaged archive, one that the list does not name, and one that is missing.
    let archive = format!("imageswap-{VERSION}-linux-{native}.tar.gz");
    let sums = fs::read_to_string(from.path().join("SHA256SUMS")).unwrap();
    let others: Vec<_> = sums.lines().filter(|it| !it.ends_with(&archive)).collect();
    let mut damaged = fs::read(from.path().join(&archive)).unwrap();
    *damaged.last_mut().unwrap() ^= 1;
    let damage: [(&str, Option<Vec<u8>>); 3] = [
        (&archive, Some(damaged)),
        ("SHA256SUMS", Some(others.join("\n").into_bytes())),
        (&archive, None),
    ];
    for (name, content) in damage {
        let bad = tempfile::tempdir().unwrap();
        release(bad.path());
        match content {
            Some(content) => fs::write(bad.path().join(name), content).unwrap(),
            None => fs::remove_file(bad.path().join(name)).unwrap(),
        }
        let home = tempfile::tempdir().unwrap();
        let output = run(bad.path(), home.path());
        assert!(!output.status.success(), "{name}: {output:?}");
        assert!(!home.path().join(".local").exists(), "{name}: {output:?}");
    }
}
