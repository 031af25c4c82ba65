//! Chooses the cgroup hierarchy that shows containers on this node, and reads it.

use crate::evidence::file;
use std::fs;
use std::io;
use std::ops::ControlFlow;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// Cgroups below this depth are up to the container; nested runtimes need about ten levels.
const MAX_DEPTH: usize = 24;

/// How much of one kernel file is read: a line for each hierarchy, or about ten thousand processes.
const LARGEST_FILE: u64 = 128 << 10;

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
        let text = file::read_kernel(&proc.join(format!("{pid}/cgroup")), LARGEST_FILE).ok()?;
        self.line_of(&text)
            .map(|path| absolute(&self.namespace, path))
    }

    /// The path of this hierarchy in a text of `/proc/PID/cgroup`.
    fn line_of<'t>(&self, text: &'t str) -> Option<&'t str> {
        text.lines().find_map(|line| line.strip_prefix(&self.line))
    }

    /// Directory of a cgroup.
    pub fn directory(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    /// Id of the cgroup that is at `path` now.
    pub fn id_of(&self, path: &str) -> Option<u64> {
        fs::metadata(self.directory(path))
            .ok()
            .map(|metadata| metadata.ino())
    }

    /// Processes in the cgroup itself, not below it.
    pub fn processes(&self, path: &str) -> Vec<u32> {
        let file = self.directory(path).join("cgroup.procs");
        let text = file::read_kernel(&file, LARGEST_FILE).unwrap_or_default();
        text.lines().filter_map(|line| line.parse().ok()).collect()
    }

    /// Calls `visit` for every existing cgroup, parents before children, until it returns `Break`.
    /// Cgroups that vanish meanwhile are left out. At most one directory per level is open at a
    /// time.
    pub fn walk(&self, mut visit: impl FnMut(Cgroup) -> ControlFlow<()>) -> io::Result<()> {
        // The root itself must be readable; anything below it may come and go.
        let mut open = vec![(String::new(), fs::read_dir(&self.root)?)];
        while let Some((above, entries)) = open.last_mut() {
            let Some(entry) = entries.next() else {
                open.pop();
                continue;
            };
            let Ok(entry) = entry else { continue };
            if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                continue;
            }
            let Ok(metadata) = entry.metadata() else {
                continue;
            };
            let path = format!("{above}/{}", entry.file_name().to_string_lossy());
            if open.len() <= MAX_DEPTH
                && let Ok(below) = fs::read_dir(entry.path())
            {
                open.push((path.clone(), below));
            }
            let id = metadata.ino();
            if visit(Cgroup { path, id }).is_break() {
                break;
            }
        }
        Ok(())
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
        let mut found = Vec::new();
        let keep = |cgroup| {
            found.push(cgroup);
            ControlFlow::Continue(())
        };
        hierarchy.walk(keep).unwrap();
        assert_eq!(found.first().map(|cgroup| &*cgroup.path), Some("/a"));
        let first = hierarchy.find(|_| true);
        assert_eq!(first.as_ref(), found.first(), "parents before children");
        let paths: Vec<_> = found.iter().map(|cgroup| cgroup.path.as_str()).collect();
        assert_eq!(paths, ["/a", "/a/b"]);
        assert_eq!(Some(found[1].id), hierarchy.id_of("/a/b"));
    }
}
