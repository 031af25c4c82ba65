//! The folder that a lab's parts live in.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tempfile::TempDir;

use crate::error::{Error, Result};
use crate::leftovers::{self, unmount_below};
use crate::needs::{CONTAINERS, are_installed_for, is_root};
use crate::skip::skip;

/// A folder for parts, removed when the last of them is dropped.
///
/// Cloning is cheap; every part holds a clone, so that the folder outlives it.
#[derive(Debug, Clone)]
pub struct Lab {
    folder: Arc<Folder>,
}

#[derive(Debug)]
struct Folder {
    dir: TempDir,
    own_groups: bool,
    /// Holds the lock that shows that the owner lives.
    _owner: File,
}

impl Lab {
    /// Makes a folder for parts in the system's folder for temporary files.
    pub fn new(name: &str) -> Result<Self> {
        Self::create(name, false)
    }

    /// Like [`Lab::new`], with each process in its own process group: Ctrl-C in the terminal then
    /// reaches only the caller, which can stop the parts in order.
    pub fn new_with_own_groups(name: &str) -> Result<Self> {
        Self::create(name, true)
    }

    /// A lab for `test`, or `None` after printing that the test is skipped because it needs root or
    /// a missing program.
    ///
    /// # Panics
    ///
    /// If the folder cannot be made, and if skipping is a failure (see [`skip`]).
    pub fn for_test(test: &str) -> Option<Self> {
        if !is_root() {
            skip(test, "needs root");
            return None;
        }
        are_installed_for(test, &CONTAINERS)
            .then(|| Self::new(test).unwrap_or_else(|error| panic!("{test}: {error}")))
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        self.folder.dir.path()
    }

    /// The folder's name, which is unique on the machine.
    pub fn name(&self) -> String {
        let name = self.path().file_name().unwrap_or_default();
        name.to_string_lossy().into_owned()
    }

    /// The file that the process `name` writes its output to.
    pub fn log_path(&self, name: &str) -> PathBuf {
        self.path().join(format!("{name}.log"))
    }

    pub(crate) fn own_groups(&self) -> bool {
        self.folder.own_groups
    }

    /// Makes a folder below the lab's.
    pub(crate) fn make_dir(&self, name: &str) -> Result<PathBuf> {
        let path = self.path().join(name);
        fs::create_dir_all(&path).map_err(Error::io(path.display().to_string()))?;
        Ok(path)
    }

    fn create(name: &str, own_groups: bool) -> Result<Self> {
        // Short, because the path of a Unix socket holds 108 bytes.
        let short: String = name
            .chars()
            .filter(char::is_ascii_alphanumeric)
            .take(12)
            .collect();
        let temporary = std::env::temp_dir();
        leftovers::sweep(&temporary);
        let dir = tempfile::Builder::new()
            .prefix(&format!("{}{short}-", leftovers::PREFIX))
            .tempdir_in(&temporary)
            .map_err(Error::io(format!("a folder in {}", temporary.display())))?;
        let owner = leftovers::own(dir.path())?;
        let folder = Folder {
            dir,
            own_groups,
            _owner: owner,
        };
        Ok(Self {
            folder: Arc::new(folder),
        })
    }
}

impl Drop for Folder {
    /// Unmounts leftovers first: removing the folder would otherwise descend into a container's
    /// root.
    fn drop(&mut self) {
        unmount_below(self.dir.path());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_goes_with_the_last_clone() {
        let lab = Lab::new("a name, much too long for a socket").unwrap();
        let path = lab.path().to_owned();
        let part = lab.clone();
        drop(lab);
        assert!(path.is_dir());
        assert!(path.as_os_str().len() < std::env::temp_dir().as_os_str().len() + 32);
        drop(part);
        assert!(!path.exists());
    }
}
