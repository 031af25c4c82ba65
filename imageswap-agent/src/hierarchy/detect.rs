//! Chooses the cgroup hierarchy that shows containers on this node.

use super::{Hierarchy, LARGEST_FILE, LARGEST_LINE, Mode};
use crate::cgroup_path;
use crate::file;
use std::io;
use std::path::{Path, PathBuf};

/// Mounts of cgroup file systems that are looked at. A node has a dozen, and a container as many again.
const MOST_MOUNTS: usize = 256;

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
    /// The agent's own cgroup is unknown, and so is where the paths of processes begin.
    #[error(
        "cannot find the agent's own cgroup below {}: mount the node's whole cgroup tree there, or run the agent in the node's cgroup namespace",
        root.display()
    )]
    Own {
        /// The mount point of the hierarchy.
        root: PathBuf,
    },
    /// No cgroup file system is mounted.
    #[error("no cgroup file system is mounted")]
    None,
}

impl Hierarchy {
    /// Chooses the hierarchy of the node whose root file system is at `host_root`: v2 if it is
    /// mounted, otherwise the v1 hierarchy that runtimes are most likely to use.
    pub fn detect(host_root: &Path) -> Result<Self, HierarchyError> {
        let (own_proc, proc) = (Path::new("/proc"), host_root.join("proc"));
        let path = own_proc.join("self/cgroup");
        let cgroups = file::read_kernel_bytes(&path, LARGEST_FILE)
            .map_err(|source| HierarchyError::Read { path, source })?;
        let cgroups = cgroup_path::text(&cgroups);
        // Our own mounts show what we can walk, the node's show its layout.
        let own = mounts(own_proc.join("self/mountinfo"))?;
        let nodes = || Self::choose(&mounts(proc.join("1/mountinfo")).ok()?, &cgroups, host_root);
        let hierarchy = Self::choose(&own, &cgroups, host_root)
            .or_else(nodes)
            .ok_or(HierarchyError::None)?;
        let pid = std::process::id();
        let own = hierarchy.path_of(own_proc, pid);
        let namespace = hierarchy.namespace_of(&proc, pid, own.as_deref().unwrap_or("/"));
        let Some(namespace) = namespace else {
            let root = hierarchy.root;
            return Err(HierarchyError::Own { root });
        };
        Ok(Self {
            namespace,
            ..hierarchy
        })
    }

    fn choose(mounts: &[Mount], cgroups: &str, host_root: &Path) -> Option<Self> {
        let v1 = mounts.iter().any(|mount| mount.kind == "cgroup");
        if let Some(v2) = mounts.iter().find(|mount| mount.kind == "cgroup2") {
            let mode = if v1 { Mode::Hybrid } else { Mode::V2 };
            return Some(Self {
                mode,
                id: 0,
                root: under(host_root, &v2.target),
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
                    root: under(host_root, &mount.target),
                    line: prefix,
                    namespace: String::new(),
                })
            })
    }
}

/// A mount of a cgroup file system.
struct Mount {
    target: String,
    kind: String,
    options: String,
}

impl Mount {
    /// Parses a line of mountinfo (proc(5)).
    fn parse(line: &str) -> Option<Self> {
        let (before, after) = line.split_once(" - ")?;
        let target = before.split(' ').nth(4)?.to_owned();
        let mut after = after.split_whitespace();
        let kind = after.next().filter(|kind| kind.starts_with("cgroup"))?;
        Some(Self {
            target,
            kind: kind.to_owned(),
            options: after.nth(1)?.to_owned(),
        })
    }
}

/// The mounts of cgroup file systems. A user can mount others (FUSE), on folders of any name.
fn mounts(path: PathBuf) -> Result<Vec<Mount>, HierarchyError> {
    let lines = file::kernel_lines(&path, LARGEST_LINE);
    let lines = lines.map_err(|source| HierarchyError::Read { path, source })?;
    let mounts = lines.filter_map(|line| Mount::parse(str::from_utf8(&line).ok()?));
    Ok(mounts.take(MOST_MOUNTS).collect())
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

    fn choose(mountinfo: impl AsRef<[u8]>) -> Option<(Mode, u32, String)> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&file, mountinfo).unwrap();
        let mounts = mounts(file.path().to_owned()).unwrap();
        let hierarchy = Hierarchy::choose(&mounts, LINES, Path::new("/nonexistent"))?;
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
    fn mounts_of_others_hide_nothing() {
        let others: [&[u8]; 3] = [
            b"40 24 0:50 / /run/user/1/\xff rw - fuse.x x rw\n",
            &[
                &b"41 24 0:51 / /run/user/1/"[..],
                &vec![b'y'; 40_000],
                b" rw - fuse.x x rw\n",
            ]
            .concat(),
            &b"42 24 0:52 / /run/user/1/z rw - fuse.x cgroup2 rw\n".repeat(MOST_MOUNTS),
        ];
        for other in others {
            let expected = Some((Mode::V2, 0, "/sys/fs/cgroup".to_owned()));
            assert_eq!(choose([other, V2.as_bytes()].concat()), expected);
        }
    }
}
