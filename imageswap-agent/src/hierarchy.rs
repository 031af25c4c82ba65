//! Reads the cgroup hierarchy that shows containers on this node.

mod detect;
mod namespace;

pub use detect::HierarchyError;

use crate::cgroup_path;
use crate::cgroup_tree::{self, LIMITS, Limits};
use crate::file;
use std::fs;
use std::io;
use std::ops::ControlFlow;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// How much below one cgroup is searched for processes: the main loop waits for it, and anyone to whom
/// the cgroup is delegated can make tens of thousands below it.
const FEW: Limits = Limits {
    cgroups: 64,
    name_bytes: 64 * 255,
};

/// Processes below one cgroup that are looked at.
const MOST_PROCESSES: usize = 4096;

/// How much of `cgroup.procs` is read: half a million processes.
const LARGEST_FILE: u64 = 4 << 20;

/// How much of one line of `/proc/PID/cgroup` is read. The kernel writes no path of more than 4 KB.
const LARGEST_LINE: u64 = 8 << 10;

/// How cgroups are laid out on the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Cgroup v2 alone.
    V2,
    /// Controllers on v1, and a v2 hierarchy beside them.
    Hybrid,
    /// No v2 hierarchy: every task's v2 cgroup is the root, so an exec does not show its container.
    V1,
}

impl Mode {
    /// The mode as a word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::V2 => "cgroup v2",
            Self::Hybrid => "cgroup v1 and v2 (hybrid)",
            Self::V1 => "cgroup v1",
        }
    }
}

/// The watched hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hierarchy {
    /// How cgroups are laid out.
    pub mode: Mode,
    /// Kernel id of the hierarchy; 0 is v2.
    pub id: u32,
    /// Its mount point, including the host root.
    pub root: PathBuf,
    /// The beginning of its lines in `/proc/PID/cgroup`: `0::`, or `ID:CONTROLLERS:` on v1.
    line: String,
    /// The root of our own cgroup namespace, which all paths in `/proc/PID/cgroup` are relative to;
    /// empty for the node's.
    namespace: String,
}

/// A cgroup directory that a walk found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cgroup {
    /// Path in the hierarchy, beginning with `/`.
    pub path: String,
    /// Inode number of the directory.
    pub id: u64,
}

impl Hierarchy {
    /// A hierarchy of cgroup v2 in a folder.
    #[cfg(test)]
    pub(crate) fn at(root: &Path) -> Self {
        Self {
            mode: Mode::V2,
            id: 0,
            root: root.to_owned(),
            line: "0::".to_owned(),
            namespace: String::new(),
        }
    }

    /// Whether an exec in a new cgroup shows its container, which v1 alone does not allow.
    pub fn sees_execs(&self) -> bool {
        self.mode != Mode::V1
    }

    /// Path of a process's cgroup in this hierarchy; `None` once the process is gone, or if the path has
    /// more than 4 KB.
    pub fn of_process(&self, proc: &Path, pid: u32) -> Option<String> {
        absolute(&self.namespace, &self.path_of(proc, pid)?)
    }

    /// The same relative to the root of our own cgroup namespace.
    fn path_of(&self, proc: &Path, pid: u32) -> Option<String> {
        let file = proc.join(format!("{pid}/cgroup"));
        let mut lines = file::kernel_lines(&file, LARGEST_LINE).ok()?;
        let path = |line: Vec<u8>| {
            let path = line.strip_prefix(self.line.as_bytes())?;
            Some(cgroup_path::text(path.strip_suffix(b"\n")?))
        };
        lines.find_map(path)
    }

    /// Directory of a cgroup.
    pub fn directory(&self, path: &str) -> PathBuf {
        self.root.join(cgroup_path::relative(path))
    }

    /// Id of the cgroup that is at `path` now.
    pub fn id_of(&self, path: &str) -> Option<u64> {
        fs::metadata(self.directory(path))
            .ok()
            .map(|metadata| metadata.ino())
    }

    /// Processes in the cgroup itself, not below it.
    pub fn processes(&self, path: &str) -> Vec<u32> {
        processes_in(&self.directory(path)).unwrap_or_default()
    }

    /// Processes in a cgroup and below it, where cgroups may vanish meanwhile; none if it was removed
    /// itself.
    ///
    /// # Errors
    /// Its own cannot be read, or there are many cgroups or processes.
    pub fn processes_below(&self, path: &str) -> io::Result<Vec<u32>> {
        processes_below(&self.directory(path))
    }

    /// Calls `visit` for every existing cgroup, the root first, until it returns `Break`. Cgroups
    /// that vanish meanwhile are left out. Returns the number of cgroups below which others may
    /// have been left out: a hostile container can make any number of cgroups, at any depth.
    pub fn walk(&self, visit: impl FnMut(Cgroup) -> ControlFlow<()>) -> io::Result<usize> {
        self.walk_within(LIMITS, visit)
    }

    fn walk_within(
        &self,
        limits: Limits,
        mut visit: impl FnMut(Cgroup) -> ControlFlow<()>,
    ) -> io::Result<usize> {
        cgroup_tree::walk(&self.root, limits, |path, id| {
            let path = match path {
                [] => "/".to_owned(),
                path => cgroup_path::text(path),
            };
            visit(Cgroup { path, id })
        })
    }

    /// The first cgroup that matches `is_it`.
    pub fn find(&self, mut is_it: impl FnMut(&Cgroup) -> bool) -> Option<Cgroup> {
        let mut found = None;
        let walked = self.walk(|cgroup| {
            if !is_it(&cgroup) {
                return ControlFlow::Continue(());
            }
            found = Some(cgroup);
            ControlFlow::Break(())
        });
        walked.ok().and(found)
    }
}

/// Processes in the cgroup with this folder, not below it.
fn processes_in(cgroup: &Path) -> io::Result<Vec<u32>> {
    let text = file::read_kernel(&cgroup.join("cgroup.procs"), LARGEST_FILE)?;
    Ok(text.lines().filter_map(|line| line.parse().ok()).collect())
}

/// Processes in the cgroup with this folder and below it, where cgroups may vanish meanwhile; none if
/// it was removed itself.
///
/// # Errors
/// Its own cannot be read, or there are more than [`FEW`] cgroups or [`MOST_PROCESSES`].
pub(crate) fn processes_below(cgroup: &Path) -> io::Result<Vec<u32>> {
    let mut pids = match processes_in(cgroup) {
        Err(error) if is_gone(&error) => Vec::new(),
        processes => processes?,
    };
    let walked = cgroup_tree::walk(cgroup, FEW, |path, _id| {
        if !path.is_empty() {
            let found = processes_in(&cgroup_tree::below(cgroup, path));
            pids.extend(found.unwrap_or_default());
        }
        if pids.len() > MOST_PROCESSES {
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    });
    let left_out = match walked {
        Err(error) if is_gone(&error) => 0,
        left_out => left_out?,
    };
    if left_out > 0 || pids.len() > MOST_PROCESSES {
        return Err(io::Error::other("too many cgroups or processes"));
    }
    Ok(pids)
}

/// Whether an error is that of a cgroup that was removed.
fn is_gone(error: &io::Error) -> bool {
    let removed = rustix::io::Errno::NODEV.raw_os_error();
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(removed)
}

/// The path from the root of the hierarchy, for a path in a cgroup namespace, which has a `..` for
/// each level above its root (cgroup_namespaces(7)). `None` if it is outside.
fn absolute(namespace: &str, path: &str) -> Option<String> {
    let mut parts: Vec<&str> = Vec::new();
    for part in namespace.split('/').chain(path.split('/')) {
        match part {
            "" => {}
            ".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    Some(format!("/{}", parts.join("/")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_a_cgroup_namespace_are_made_absolute() {
        let own = "/kubepods/burstable/pod1/agent";
        for (path, expected) in [
            ("/", own),
            ("/below", "/kubepods/burstable/pod1/agent/below"),
            ("/../other", "/kubepods/burstable/pod1/other"),
            (
                "/../../../../system.slice/x.service",
                "/system.slice/x.service",
            ),
            ("/../../../..", "/"),
            ("/..a/...", "/kubepods/burstable/pod1/agent/..a/..."),
        ] {
            assert_eq!(absolute(own, path).as_deref(), Some(expected), "{path}");
        }
        assert_eq!(absolute("", "/kubepods/x").as_deref(), Some("/kubepods/x"));
        assert_eq!(absolute("/a", "/../../b"), None, "outside of what we see");
    }

    #[test]
    fn a_walk_finds_every_directory_with_its_inode() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("a/b")).unwrap();
        let hierarchy = Hierarchy::at(root.path());
        let (found, left_out) = walked(&hierarchy, LIMITS);
        assert_eq!(left_out, 0);
        let first = hierarchy.find(|_| true);
        assert_eq!(first.as_ref(), found.first(), "parents before children");
        let paths: Vec<_> = found.iter().map(|cgroup| cgroup.path.as_str()).collect();
        assert_eq!(paths, ["/", "/a", "/a/b"]);
        for cgroup in found {
            assert_eq!(Some(cgroup.id), hierarchy.id_of(&cgroup.path));
        }
    }

    fn walked(hierarchy: &Hierarchy, limits: Limits) -> (Vec<Cgroup>, usize) {
        let mut found = Vec::new();
        let keep = |cgroup| {
            found.push(cgroup);
            ControlFlow::Continue(())
        };
        let left_out = hierarchy.walk_within(limits, keep).unwrap();
        (found, left_out)
    }

    #[test]
    fn a_name_that_is_not_utf_8_hides_nothing() {
        use std::ffi::OsStr;
        use std::os::unix::ffi::OsStrExt as _;
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join(OsStr::from_bytes(b"a\xff")).join("b");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("cgroup.procs"), "7\n").unwrap();
        let hierarchy = Hierarchy::at(root.path());
        let (found, left_out) = walked(&hierarchy, LIMITS);
        assert_eq!((found.len(), left_out), (3, 0));
        let last = &found[2].path;
        assert_eq!(cgroup_path::shown(last), "/a\\xff/b");
        assert_eq!(hierarchy.processes(last), [7]);
        assert_eq!(hierarchy.processes_below("/").unwrap(), [7]);
        assert_eq!(hierarchy.id_of(last), Some(found[2].id));
        let proc = tempfile::tempdir().unwrap();
        fs::create_dir(proc.path().join("7")).unwrap();
        fs::write(proc.path().join("7/cgroup"), b"1:x:/\n0::/a\xff/b\n").unwrap();
        assert_eq!(hierarchy.of_process(proc.path(), 7).as_ref(), Some(last));
    }

    #[test]
    fn few_cgroups_are_searched_for_processes() {
        let root = tempfile::tempdir().unwrap();
        let hierarchy = Hierarchy::at(root.path());
        fs::write(root.path().join("cgroup.procs"), "1\n").unwrap();
        for at in 1..FEW.cgroups {
            let folder = root.path().join(at.to_string());
            fs::create_dir(&folder).unwrap();
            fs::write(folder.join("cgroup.procs"), "2\n").unwrap();
        }
        let found = hierarchy.processes_below("/").unwrap();
        assert_eq!(found.len(), FEW.cgroups);
        fs::create_dir(root.path().join("more")).unwrap();
        assert!(hierarchy.processes_below("/").is_err());
        let many = "3\n".repeat(MOST_PROCESSES + 1);
        fs::write(root.path().join("9/cgroup.procs"), many).unwrap();
        assert!(hierarchy.processes_below("/9").is_err());
        assert!(hierarchy.processes_below("/gone").unwrap().is_empty());
    }

    #[test]
    fn no_depth_hides_a_cgroup() {
        let root = tempfile::tempdir().unwrap();
        let deep = "/d".repeat(100);
        fs::create_dir_all(root.path().join(&deep[1..])).unwrap();
        let (found, left_out) = walked(&Hierarchy::at(root.path()), LIMITS);
        assert_eq!((found.len(), left_out), (101, 0));
        assert_eq!(found[100].path, deep);
    }

    #[test]
    fn what_a_walk_leaves_out_lies_deep_and_is_counted() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("a/b/c")).unwrap();
        fs::create_dir_all(root.path().join("z")).unwrap();
        for (cgroups, name_bytes, paths, left_out) in [
            (5, 4, &["/", "/a", "/z", "/a/b", "/a/b/c"][..], 0),
            (4, 4, &["/", "/a", "/z", "/a/b"], 1),
            (5, 3, &["/", "/a", "/z", "/a/b"], 1),
            (3, 4, &["/", "/a", "/z"], 1),
        ] {
            let limits = Limits {
                cgroups,
                name_bytes,
            };
            let (found, out) = walked(&Hierarchy::at(root.path()), limits);
            let mut names: Vec<_> = found.iter().map(|cgroup| cgroup.path.as_str()).collect();
            names.sort_by_key(|path| (path.len(), (*path).to_owned()));
            assert_eq!((&*names, out), (paths, left_out), "{limits:?}");
        }
    }
}
