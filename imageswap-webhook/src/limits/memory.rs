//! How much memory the process may take.

use std::fs;
use std::path::Path;

/// Bytes if the process has no limit.
pub(super) const DEFAULT: usize = 512 << 20;
/// The mount point of cgroups.
const MOUNTED: &str = "/sys/fs/cgroup";

/// The limit of the process's cgroup, in bytes: the least of it and the cgroups above. `None` means unlimited.
pub(super) fn of_cgroup() -> Option<usize> {
    let cgroups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    limit(&cgroups, |path| {
        let text = fs::read_to_string(Path::new(MOUNTED).join(path)).ok()?;
        // `max` in version 2.
        text.trim().parse().ok()
    })
}

/// Version 1 writes unlimited as a number larger than any memory.
const UNLIMITED: u64 = 1 << 60;

fn limit(cgroups: &str, read: impl Fn(&str) -> Option<u64>) -> Option<usize> {
    // `hierarchy:controllers:path`; version 2 has no controllers.
    let places = cgroups.lines().filter_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, path) = (parts.next()?, parts.next()?);
        let (below, file) = match controllers {
            "" => ("", "memory.max"),
            _ if controllers.split(',').any(|it| it == "memory") => {
                ("memory", "memory.limit_in_bytes")
            }
            _ => return None,
        };
        Some((below, path.trim_matches('/'), file))
    });
    let limits = places.flat_map(|(below, path, file)| {
        // In a container the path may be the host's, while the mount begins at the container's
        // cgroup.
        let mut paths = vec![path];
        while let Some(&path) = paths.last().filter(|path| !path.is_empty()) {
            paths.push(path.rsplit_once('/').map_or("", |(above, _)| above));
        }
        let file = |path: &str| {
            let parts = [below, path, file].into_iter().filter(|it| !it.is_empty());
            parts.collect::<Vec<_>>().join("/")
        };
        paths
            .into_iter()
            .filter_map(|path| read(&file(path)))
            .collect::<Vec<_>>()
    });
    let least = limits.filter(|bytes| *bytes < UNLIMITED).min()?;
    usize::try_from(least).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_limit_of_the_cgroup_and_those_above() {
        let v1 = "12:cpu,cpuacct:/a\n9:memory:/kubepods/pod1/c1\n1:name=systemd:/x\n0::/\n";
        for (cgroups, files, expected) in [
            ("0::/\n", &[("memory.max", 7)][..], Some(7)),
            ("0::/\n", &[], None),
            (
                "0::/a/b\n",
                &[("a/b/memory.max", 9), ("a/memory.max", 8)],
                Some(8),
            ),
            // A container that sees its own cgroup as the root, and the host's path.
            ("0::/a/b\n", &[("memory.max", 6)], Some(6)),
            (
                v1,
                &[
                    ("memory/kubepods/pod1/c1/memory.limit_in_bytes", 5),
                    ("memory/memory.limit_in_bytes", 0x7fff_ffff_ffff_f000),
                ],
                Some(5),
            ),
            (
                v1,
                &[("memory/memory.limit_in_bytes", 0x7fff_ffff_ffff_f000)],
                None,
            ),
            (v1, &[("memory.max", 4)], Some(4)),
            ("", &[("memory.max", 3)], None),
        ] {
            let read = |path: &str| {
                let file = files.iter().find(|it| it.0 == path);
                file.map(|it| it.1)
            };
            assert_eq!(limit(cgroups, read), expected, "{cgroups:?} {files:?}");
        }
    }
}
