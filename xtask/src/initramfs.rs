//! The initial file system of a virtual machine: a cpio archive with kernel modules.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::process::output;

/// A cpio archive in the "new ASCII" format that Linux unpacks; see the
/// kernel's Documentation/driver-api/early-userspace/buffer-format.rst.
#[derive(Debug, Default)]
pub(crate) struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

const DIRECTORY: u32 = 0o040_755;
const EXECUTABLE: u32 = 0o100_755;

impl Archive {
    /// Adds a folder.
    pub(crate) fn dir(&mut self, name: &str) {
        self.entry(name, DIRECTORY, &[]);
    }

    /// Adds an executable file.
    pub(crate) fn file(&mut self, name: &str, content: &[u8]) {
        self.entry(name, EXECUTABLE, content);
    }

    /// The archive with its end mark.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, &[]);
        self.bytes
    }

    fn entry(&mut self, name: &str, mode: u32, content: &[u8]) {
        self.entries += 1;
        let size = u32::try_from(content.len()).unwrap_or(u32::MAX);
        let name_size = u32::try_from(name.len() + 1).unwrap_or(u32::MAX);
        // ino, mode, uid, gid, nlink, mtime, filesize, four device numbers, namesize, check
        let fields = [
            self.entries,
            mode,
            0,
            0,
            1,
            0,
            size,
            0,
            0,
            0,
            0,
            name_size,
            0,
        ];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes
                .extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(content);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

/// The modules of the kernel tree `folder` named in `wanted`, and their dependencies, each before
/// its dependents: file name and content.
pub(crate) fn modules(folder: &Path, wanted: &[&str]) -> Result<Vec<(String, Vec<u8>)>> {
    let mut files = BTreeMap::new();
    collect(folder, &mut files)?;
    let mut loaded = Vec::new();
    for name in wanted {
        load(name, &files, &mut loaded)?;
    }
    Ok(loaded)
}

fn load(
    name: &str,
    files: &BTreeMap<String, PathBuf>,
    loaded: &mut Vec<(String, Vec<u8>)>,
) -> Result<()> {
    let file = format!("{name}.ko");
    if loaded.iter().any(|(known, _)| *known == file) {
        return Ok(());
    }
    // What is built into the kernel has no file.
    let Some(path) = files.get(name) else {
        return Ok(());
    };
    let content = read(path)?;
    for needed in depends(&content) {
        load(&needed, files, loaded)?;
    }
    loaded.push((file, content));
    Ok(())
}

/// Newer releases of Debian compress their modules.
fn read(path: &Path) -> Result<Vec<u8>> {
    if path.extension().is_some_and(|extension| extension == "xz") {
        let out = Command::new("xz")
            .arg("-dc")
            .arg(path)
            .output()
            .context("cannot run xz")?;
        ensure!(
            out.status.success(),
            "xz -dc {}: {}",
            path.display(),
            out.status
        );
        return Ok(out.stdout);
    }
    fs::read(path).with_context(|| path.display().to_string())
}

/// The names in `depends=` of a module's `.modinfo` section.
fn depends(module: &[u8]) -> Vec<String> {
    const KEY: &[u8] = b"\0depends=";
    let Some(start) = module.windows(KEY.len()).position(|part| part == KEY) else {
        return Vec::new();
    };
    let value = module[start + KEY.len()..]
        .split(|byte| *byte == 0)
        .next()
        .unwrap_or_default();
    let names = String::from_utf8_lossy(value);
    names
        .split(',')
        .filter(|name| !name.is_empty())
        .map(|name| name.replace('-', "_"))
        .collect()
}

fn collect(folder: &Path, files: &mut BTreeMap<String, PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let entry = entry.with_context(|| folder.display().to_string())?;
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            collect(&entry.path(), files)?;
        } else if let Some((name, _)) = entry.file_name().to_string_lossy().split_once(".ko") {
            files.insert(name.replace('-', "_"), entry.path());
        }
    }
    Ok(())
}

/// Unpacks a Debian package's files into `folder`.
pub(crate) fn unpack(package: &Path, folder: &Path) -> Result<()> {
    output(
        Command::new("dpkg-deb")
            .arg("--extract")
            .arg(package)
            .arg(folder),
    )
    .map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_holds_names_and_content_at_multiples_of_four() {
        let mut archive = Archive::default();
        archive.dir("bin");
        archive.file("init", b"#!/bin/sh\n");
        let bytes = archive.finish();
        let text = String::from_utf8(bytes).unwrap();
        assert_eq!(text.len() % 4, 0);
        for part in text.match_indices("070701") {
            assert_eq!(part.0 % 4, 0);
        }
        assert_eq!(text.matches("070701").count(), 3);
        assert!(text.contains("init\0"));
        assert!(text.contains("0000000a"));
    }

    #[test]
    fn a_module_comes_after_what_it_depends_on() {
        let dir = tempfile::tempdir().unwrap();
        let module = |name: &str, depends: &str| {
            fs::write(
                dir.path().join(name),
                format!("ELF\0depends={depends}\0name=x\0"),
            )
            .unwrap();
        };
        module("top.ko", "in-between,base");
        module("in-between.ko", "base");
        module("base.ko", "");
        let found = modules(dir.path(), &["base", "top", "built_in"]).unwrap();
        let names: Vec<_> = found.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["base.ko", "in_between.ko", "top.ko"]);
    }
}
