//! Visits the folders of a cgroup tree in little memory: anyone to whom a part of the tree is delegated
//! can make tens of thousands of cgroups there, each with a path of 4 KB.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// Cgroups that one walk visits; the kernel has no more than this with the memory controller.
pub(crate) const MOST_CGROUPS: usize = 1 << 16;

/// Bytes of their names, of which each has up to 255.
const MOST_NAME_BYTES: usize = 16 << 20;

/// How much a walk visits.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Number of cgroups.
    pub(crate) cgroups: usize,
    /// Bytes of their names.
    pub(crate) name_bytes: usize,
}

/// The usual limits.
pub(crate) const LIMITS: Limits = Limits {
    cgroups: MOST_CGROUPS,
    name_bytes: MOST_NAME_BYTES,
};

/// The cgroups of a walk, the root first, each with the one above it. Paths are put together from names.
struct Visited {
    nodes: Vec<Node>,
    names: Vec<u8>,
}

struct Node {
    above: u32,
    /// Where its name begins; it ends where the next one begins.
    name: u32,
}

impl Visited {
    fn has_room(&self, name: &[u8], limits: Limits) -> bool {
        self.nodes.len() < limits.cgroups && self.names.len() + name.len() <= limits.name_bytes
    }

    fn add(&mut self, above: usize, name: &[u8]) {
        // Both are far below the limits of a walk.
        let [above, at] = [above, self.names.len()].map(|it| u32::try_from(it).unwrap_or(u32::MAX));
        self.nodes.push(Node { above, name: at });
        self.names.extend_from_slice(name);
    }

    fn name(&self, at: usize) -> &[u8] {
        let begin = |at: usize| self.nodes.get(at).map(|node| node.name as usize);
        let end = begin(at + 1).unwrap_or(self.names.len());
        let name = begin(at).and_then(|begin| self.names.get(begin..end));
        name.unwrap_or_default()
    }

    /// The path of a cgroup, which begins with `/`; empty for the root.
    fn path(&self, mut at: usize) -> Vec<u8> {
        let mut above = Vec::new();
        while at > 0 {
            above.push(at);
            at = self.nodes.get(at).map_or(0, |node| node.above as usize);
        }
        let parts = above.iter().rev().flat_map(|at| [b"/", self.name(*at)]);
        parts.collect::<Vec<_>>().concat()
    }
}

/// Calls `visit` with path and inode number of every folder below `root` and of `root` itself, whose
/// path is empty, level by level, until it returns `Break`. Folders that vanish meanwhile are left
/// out. Returns the number of folders below which others may have been left out.
///
/// # Errors
/// `root` cannot be read.
pub(crate) fn walk(
    root: &Path,
    limits: Limits,
    mut visit: impl FnMut(&[u8], u64) -> ControlFlow<()>,
) -> io::Result<usize> {
    let mut entries = fs::read_dir(root)?;
    if visit(b"", fs::metadata(root)?.ino()).is_break() {
        return Ok(0);
    }
    let mut visited = Visited {
        nodes: Vec::new(),
        names: Vec::new(),
    };
    visited.add(0, b"");
    let (mut left_out, mut at, mut path) = (0, 0, Vec::new());
    loop {
        let above = path.len();
        for entry in entries.by_ref().flatten() {
            if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                continue;
            }
            let Ok(metadata) = entry.metadata() else {
                continue;
            };
            let name = entry.file_name();
            let name = name.as_bytes();
            if !visited.has_room(name, limits) {
                left_out += 1;
                break;
            }
            visited.add(at, name);
            path.push(b'/');
            path.extend_from_slice(name);
            if visit(&path, metadata.ino()).is_break() {
                return Ok(left_out);
            }
            path.truncate(above);
        }
        // The next one that still exists.
        loop {
            at += 1;
            if at == visited.nodes.len() {
                return Ok(left_out);
            }
            path = visited.path(at);
            match fs::read_dir(below(root, &path)) {
                Ok(found) => {
                    entries = found;
                    break;
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                // Its path is too long, for instance.
                Err(_) => left_out += 1,
            }
        }
    }
}

/// The folder with a path of [`walk`].
pub(crate) fn below(root: &Path, path: &[u8]) -> PathBuf {
    root.join(OsStr::from_bytes(path.strip_prefix(b"/").unwrap_or(path)))
}
