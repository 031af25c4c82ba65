//! The cgroup hierarchies of this machine: v2, v1 or both.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::process::Pid;

/// The processes in the cgroup `/<path>` itself, in any hierarchy.
pub(crate) fn processes(path: &str) -> Vec<Pid> {
    roots()
        .filter_map(|root| fs::read_to_string(root.join(path).join("cgroup.procs")).ok())
        .flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>())
        .filter_map(|line| Pid::from_raw(line.parse().ok()?))
        .collect()
}

/// Removes the empty cgroups at and below `/<path>` in every hierarchy. Parents stay, because
/// another lab's runtime may be about to make its own cgroup in them.
pub(crate) fn remove(path: &str) {
    roots().for_each(|root| remove_below(&root.join(path)));
}

/// The usual mount points of hierarchies.
pub(crate) fn roots() -> impl Iterator<Item = PathBuf> {
    let below = fs::read_dir("/sys/fs/cgroup").into_iter().flatten();
    let below = below.flatten().map(|entry| entry.path());
    below.chain(["/sys/fs/cgroup".into()])
}

fn remove_below(cgroup: &Path) {
    let Ok(entries) = fs::read_dir(cgroup) else {
        return;
    };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_below(&entry.path());
        }
    }
    drop(fs::remove_dir(cgroup));
}
