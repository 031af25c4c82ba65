//! Gzipped tars whose bytes depend only on their files.

use std::io::{self, Read, Write as _};

use anyhow::{Context, Result};
use flate2::read::GzDecoder;
use flate2::{Compression, GzBuilder};
use tar::{EntryType, Header};

/// An archive in the making: all files lie in one folder, have no owner, and have the same time.
pub(super) struct Archive {
    tar: tar::Builder<Vec<u8>>,
    folder: String,
    seconds: u64,
}

impl Archive {
    /// An empty archive; an empty `folder` means no folder.
    pub(super) fn new(folder: &str, seconds: u64) -> Self {
        Self {
            tar: tar::Builder::new(Vec::new()),
            folder: folder.to_owned(),
            seconds,
        }
    }

    pub(super) fn file(&mut self, path: &str, mode: u32, content: &[u8]) -> io::Result<()> {
        let mut header = self.header(mode);
        header.set_size(content.len() as u64);
        let path = self.path(path);
        self.tar.append_data(&mut header, path, content)
    }

    pub(super) fn link(&mut self, path: &str, to: &str) -> io::Result<()> {
        let mut header = self.header(0o777);
        header.set_entry_type(EntryType::Symlink);
        let path = self.path(path);
        self.tar.append_link(&mut header, path, to)
    }

    pub(super) fn finish(self) -> io::Result<Vec<u8>> {
        let tar = self.tar.into_inner()?;
        let mut packed = GzBuilder::new()
            .mtime(0)
            .write(Vec::new(), Compression::best());
        packed.write_all(&tar)?;
        packed.finish()
    }

    fn path(&self, path: &str) -> String {
        if self.folder.is_empty() {
            path.to_owned()
        } else {
            format!("{}/{path}", self.folder)
        }
    }

    fn header(&self, mode: u32) -> Header {
        let mut header = Header::new_gnu();
        header.set_mode(mode);
        header.set_size(0);
        header.set_mtime(self.seconds);
        header
    }
}

/// The same files as in `packed`, with a fixed order and time.
pub(super) fn repack(packed: &[u8], seconds: u64) -> Result<Vec<u8>> {
    let mut files = Vec::new();
    for entry in tar::Archive::new(GzDecoder::new(packed)).entries()? {
        let mut entry = entry?;
        if entry.header().entry_type() != EntryType::Regular {
            continue;
        }
        let path = entry.path()?.display().to_string();
        let mut content = Vec::new();
        entry
            .read_to_end(&mut content)
            .with_context(|| path.clone())?;
        files.push((path, content));
    }
    // Helm takes the name and version from the first matching file.
    files.sort_by_key(|(path, _)| (!path.ends_with("/Chart.yaml"), path.clone()));
    let mut archive = Archive::new("", seconds);
    for (path, content) in &files {
        archive.file(path, 0o644, content)?;
    }
    Ok(archive.finish()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(packed: &[u8]) -> Vec<String> {
        let mut archive = tar::Archive::new(GzDecoder::new(packed));
        let entries = archive.entries().unwrap();
        entries
            .map(|it| it.unwrap().path().unwrap().display().to_string())
            .collect()
    }

    fn packed(order: &[&str], seconds: u64) -> Vec<u8> {
        let mut archive = Archive::new("chart", seconds);
        for path in order {
            archive.file(path, 0o644, path.as_bytes()).unwrap();
        }
        archive.finish().unwrap()
    }

    #[test]
    fn time_and_order_of_packing_do_not_count() {
        let one = packed(&["a", "Chart.yaml", "b"], 1);
        let other = packed(&["b", "Chart.yaml", "a"], 2);
        assert_ne!(one, other);
        let again = repack(&one, 7).unwrap();
        assert_eq!(again, repack(&other, 7).unwrap());
        assert_eq!(names(&again), ["chart/Chart.yaml", "chart/a", "chart/b"]);
    }

    #[test]
    fn links_and_modes_are_kept() {
        let mut archive = Archive::new("x-1", 5);
        archive.file("tool", 0o755, b"#!").unwrap();
        archive.link("kubectl-tool", "tool").unwrap();
        let bytes = archive.finish().unwrap();
        let folder = tempfile::tempdir().unwrap();
        tar::Archive::new(GzDecoder::new(bytes.as_slice()))
            .unpack(folder.path())
            .unwrap();
        let link = folder.path().join("x-1/kubectl-tool");
        assert_eq!(std::fs::read_link(&link).unwrap().to_str(), Some("tool"));
        assert_eq!(std::fs::read(&link).unwrap(), b"#!");
    }
}
