//! Chooses the cgroup hierarchy that shows containers on this node, and reads it.

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

/// How much of one kernel file is read: a line for each hierarchy, or half a million processes.
const LARGEST_FILE: u64 = 4 << 20;

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

/// Why no hierarchy could be chosen.
#[derive(Debug, thiserror::Error)]
pub enum HierarchyError {
    /// A file under /proc cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// No cgroup file system is mounted.
    #[error("no cgroup file system is mounted")]
    None,
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
    /// Chooses the hierarchy of the node whose root file system is at `host_root`: v2 if it is
    /// mounted, otherwise the v1 hierarchy that runtimes are most likely to use.
    pub fn detect(host_root: &Path) -> Result<Self, HierarchyError> {
        let read = |path: PathBuf| {
            fs::read_to_string(&path).map_err(|source| HierarchyError::Read { path, source })
        };
        let mounts = read(host_root.join("proc/1/mountinfo"))
            .or_else(|_| read("/proc/self/mountinfo".into()))?;
        let own = read("/proc/self/mountinfo".into())?;
        let cgroups = read("/proc/self/cgroup".into())?;
        // The host's mounts show the node's layout, our own show what we can walk.
        let hierarchy = Self::choose(&own, &cgroups, host_root)
            .or_else(|| Self::choose(&mounts, &cgroups, host_root))
            .ok_or(HierarchyError::None)?;
        let own = hierarchy.line_of(&cgroups).unwrap_or("/").to_owned();
        let namespace = hierarchy.namespace_of(std::process::id(), &own);
        Ok(Self {
            namespace,
            ..hierarchy
        })
    }

    /// The root of the cgroup namespace in which the process `pid`, one of ours, has its cgroup at `path`.
    fn namespace_of(&self, pid: u32, path: &str) -> String {
        if self.processes(path).contains(&pid) {
            return String::new();
        }
        if let Some(found) = self.find(|cgroup| self.processes(&cgroup.path).contains(&pid)) {
            let root = found.path.strip_suffix(path.trim_end_matches('/'));
            return root.unwrap_or(&found.path).to_owned();
        }
        let root = self.root.display();
        tracing::warn!("our own cgroup is not below {root}: cgroups of processes are unknown");
        String::new()
    }

    fn choose(mountinfo: &str, cgroups: &str, host_root: &Path) -> Option<Self> {
        let mounts: Vec<_> = mountinfo.lines().filter_map(Mount::parse).collect();
        let v1 = mounts.iter().any(|mount| mount.kind == "cgroup");
        if let Some(v2) = mounts.iter().find(|mount| mount.kind == "cgroup2") {
            let mode = if v1 { Mode::Hybrid } else { Mode::V2 };
            return Some(Self {
                mode,
                id: 0,
                root: under(host_root, v2.target),
                line: "0::".to_owned(),
                namespace: String::new(),
            });
        }
        ["name=systemd", "pids", "memory", "cpu", "freezer"]
            .iter()
            .find_map(|&controller| {
                let line = cgroups.lines().find(|line| {
                    line.split(':')
                        .nth(1)
                        .is_some_and(|names| names.split(',').any(|name| name == controller))
                })?;
                let id = line.split(':').next()?.parse().ok()?;
                let mount = mounts.iter().find(|mount| {
                    mount.kind == "cgroup"
                        && mount.options.split(',').any(|option| option == controller)
                })?;
                let prefix = line.split(':').take(2).collect::<Vec<_>>().join(":") + ":";
                Some(Self {
                    mode: Mode::V1,
                    id,
                    root: under(host_root, mount.target),
                    line: prefix,
                    namespace: String::new(),
                })
            })
    }

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

    /// Path of a process's cgroup in this hierarchy; `None` once the process is gone.
    pub fn of_process(&self, proc: &Path, pid: u32) -> Option<String> {
        let lines = proc.join(format!("{pid}/cgroup"));
        let lines = file::read_kernel_bytes(&lines, LARGEST_FILE).ok()?;
        self.line_of(&cgroup_path::text(&lines))
            .map(|path| absolute(&self.namespace, path))
    }

    /// The path of this hierarchy in a text of `/proc/PID/cgroup`.
    fn line_of<'t>(&self, text: &'t str) -> Option<&'t str> {
        text.lines().find_map(|line| line.strip_prefix(&self.line))
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

/// The relevant parts of a line of mountinfo (proc(5)).
struct Mount<'a> {
    target: &'a str,
    kind: &'a str,
    options: &'a str,
}

impl<'a> Mount<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let (before, after) = line.split_once(" - ")?;
        let target = before.split(' ').nth(4)?;
        let mut after = after.split(' ');
        Some(Self {
            target,
            kind: after.next()?,
            options: after.nth(1)?,
        })
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
/// each level above its root (cgroup_namespaces(7)).
fn absolute(namespace: &str, path: &str) -> String {
    if namespace.is_empty() {
        return path.to_owned();
    }
    let mut parts: Vec<&str> = Vec::new();
    for part in namespace.split('/').chain(path.split('/')) {
        match part {
            "" => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

/// The target of a mount as this process sees it; targets that it sees itself need no prefix.
fn under(host_root: &Path, target: &str) -> PathBuf {
    let prefixed = host_root.join(target.trim_start_matches('/'));
    if prefixed.is_dir() {
        prefixed
    } else {
        PathBuf::from(target)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
30 24 0:26 / /sys/fs/cgroup ro,nosuid shared:9 - tmpfs tmpfs ro,mode=755
31 30 0:27 / /sys/fs/cgroup/unified rw,nosuid shared:10 - cgroup2 cgroup2 rw
32 30 0:28 / /sys/fs/cgroup/systemd rw,nosuid shared:11 - cgroup cgroup rw,xattr,name=systemd
";
    const V1: &str = "\
32 30 0:28 / /sys/fs/cgroup/memory rw,nosuid shared:11 - cgroup cgroup rw,memory
33 30 0:29 / /sys/fs/cgroup/pids rw,nosuid shared:12 - cgroup cgroup rw,pids
";
    const V2: &str = "31 30 0:27 / /sys/fs/cgroup rw,nosuid shared:10 - cgroup2 cgroup2 rw\n";
    const LINES: &str = "9:name=systemd:/a\n8:pids:/a\n4:cpu,memory:/a\n0::/\n";

    fn choose(mountinfo: &str) -> Option<(Mode, u32, String)> {
        let hierarchy = Hierarchy::choose(mountinfo, LINES, Path::new("/nonexistent"))?;
        Some((
            hierarchy.mode,
            hierarchy.id,
            hierarchy.root.display().to_string(),
        ))
    }

    #[test]
    fn v2_is_taken_wherever_it_is_mounted() {
        assert_eq!(choose(V2), Some((Mode::V2, 0, "/sys/fs/cgroup".to_owned())));
        assert_eq!(
            choose(HYBRID),
            Some((Mode::Hybrid, 0, "/sys/fs/cgroup/unified".to_owned()))
        );
    }

    #[test]
    fn v1_alone_is_one_hierarchy_by_name() {
        assert_eq!(
            choose(V1),
            Some((Mode::V1, 8, "/sys/fs/cgroup/pids".to_owned()))
        );
        assert_eq!(choose(""), None);
    }

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
        ] {
            assert_eq!(absolute(own, path), expected, "{path}");
        }
        assert_eq!(absolute("", "/kubepods/x"), "/kubepods/x");
    }

    #[test]
    fn the_root_of_our_namespace_is_where_our_process_stands() {
        let root = tempfile::tempdir().unwrap();
        let hierarchy = Hierarchy::at(root.path());
        let own = root.path().join("pods/agent/inner");
        fs::create_dir_all(&own).unwrap();
        fs::write(own.join("cgroup.procs"), "7\n42\n").unwrap();
        assert_eq!(hierarchy.namespace_of(42, "/pods/agent/inner"), "");
        assert_eq!(hierarchy.namespace_of(42, "/inner"), "/pods/agent");
        assert_eq!(hierarchy.namespace_of(42, "/"), "/pods/agent/inner");
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
