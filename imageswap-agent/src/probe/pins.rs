//! Keeps maps and links in a BPF file system, so that the next agent learns what happened while
//! none ran.
//!
//! The kernel keeps filling the ring buffer; the next reader continues where the last one stopped.

use rustix::fs::{Access, FlockOperation, access, flock, statfs};
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hasher as _};
use std::io;
use std::path::{Path, PathBuf};

/// `BPF_FS_MAGIC` of linux/magic.h.
const BPF_FILE_SYSTEM: i64 = 0xcafe_4a11;

/// Why nothing is pinned.
#[derive(Debug, thiserror::Error)]
pub(super) enum PinsError {
    /// The folder is not in a BPF file system.
    #[error("{} is in no BPF file system", .0.display())]
    NoBpfFileSystem(PathBuf),
    /// Another agent keeps its probes there.
    #[error("another agent has its probes in {}", .0.display())]
    Taken(PathBuf),
    /// Any other error, such as a read-only file system.
    #[error("{}: {source}", path.display())]
    Io {
        /// The folder or file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
}

/// Checks that `root` is, or can become, a folder of a writable BPF file system. Changes nothing.
pub(super) fn can_pin(root: &Path) -> Result<(), PinsError> {
    let above = root.parent().unwrap_or(root);
    let in_bpf = |path: &&Path| statfs(*path).is_ok_and(|it| it.f_type == BPF_FILE_SYSTEM);
    let Some(there) = [root, above].into_iter().find(in_bpf) else {
        return Err(PinsError::NoBpfFileSystem(root.to_owned()));
    };
    access(there, Access::WRITE_OK).map_err(|errno| PinsError::Io {
        path: there.to_owned(),
        source: errno.into(),
    })
}

/// A folder of a BPF file system that this agent alone uses.
#[derive(Debug)]
pub(super) struct Pins {
    root: PathBuf,
    /// For these exact probes: pins of another version cannot be used.
    dir: PathBuf,
    /// Held as long as the agent lives.
    _lock: File,
}

impl Pins {
    /// Takes the folder `root`, and creates it if missing. `probes` has to be equal for one agent
    /// to reuse the probes of another.
    pub(super) fn take(root: &Path, probes: impl std::hash::Hash) -> Result<Self, PinsError> {
        let failed = |source: io::Error| PinsError::Io {
            path: root.to_owned(),
            source,
        };
        can_pin(root)?;
        fs::create_dir_all(root).map_err(failed)?;
        let lock = File::open(root).map_err(failed)?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Err(PinsError::Taken(root.to_owned())),
            Err(errno) => return Err(failed(errno.into())),
        }
        let mut hasher = DefaultHasher::new();
        probes.hash(&mut hasher);
        Ok(Self {
            dir: root.join(format!("{:016x}", hasher.finish())),
            root: root.to_owned(),
            _lock: lock,
        })
    }

    /// Whether all of these names exist.
    pub(super) fn hold(&self, names: impl IntoIterator<Item = String>) -> bool {
        names.into_iter().all(|name| self.path(&name).exists())
    }

    /// The path for a map, a link or a program of this name.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Makes the folder, empty.
    pub(super) fn make(&self) -> Result<(), PinsError> {
        self.clear();
        fs::create_dir(&self.dir).map_err(|source| PinsError::Io {
            path: self.dir.clone(),
            source,
        })
    }

    /// Removes the folder's content: unread records are lost, and links that no other process holds
    /// are detached.
    pub(super) fn clear(&self) {
        remove(&self.dir);
    }

    /// Removes the pins of other versions.
    pub(super) fn clear_others(&self) {
        let entries = fs::read_dir(&self.root).into_iter().flatten().flatten();
        for entry in entries.filter(|entry| entry.path() != self.dir) {
            remove(&entry.path());
        }
    }
}

/// Removes a folder of pins; it may be missing.
fn remove(dir: &Path) {
    if let Err(error) = fs::remove_dir_all(dir)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(%error, dir = %dir.display(), "cannot remove old probes");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ordinary_folder_keeps_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("imageswap");
        let error = Pins::take(&root, 1).unwrap_err();
        assert!(matches!(error, PinsError::NoBpfFileSystem(_)), "{error}");
        assert!(!root.exists());
    }
}
