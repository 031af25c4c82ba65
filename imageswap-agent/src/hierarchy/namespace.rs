//! Finds the root of the agent's own cgroup namespace, which the paths of all processes are relative to.
//!
//! The tree is not searched for it: anyone to whom a part is delegated can make any number of cgroups
//! there. The kernel begins the path of a process outside of the namespace with a `..` for each level, up
//! to the first cgroup above both (cgroup_namespaces(7)). The name that follows is that of a cgroup which
//! is not above ours. A cgroup without processes below it is not above ours, either. So of each level one
//! cgroup is left.

use super::{Hierarchy, absolute};
use crate::cgroup_path;
use crate::file;
use crate::process::{self, Subject};
use std::collections::HashSet;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

/// Cgroups of one level that may be above ours: those that have their first process meanwhile, or only
/// processes with a path that is too long to read.
const MOST_LEFT: usize = 1 << 12;

/// How much of `cgroup.events` is read.
const LARGEST_EVENTS: u64 = 4 << 10;

impl Hierarchy {
    /// The root of the cgroup namespace in which the process `pid`, one of ours, has its cgroup at `own`;
    /// empty for that of the mounted hierarchy. `None` if it is not found.
    pub(super) fn namespace_of(&self, proc: &Path, pid: u32, own: &str) -> Option<String> {
        let is_above = |root: &String| {
            absolute(root, own).is_some_and(|path| self.processes(&path).contains(&pid))
        };
        let mut left = vec![String::new()];
        if left.iter().any(is_above) {
            return left.pop();
        }
        let beside = self.beside(proc);
        let depth = beside.iter().map(|(levels, _)| *levels).max();
        for levels in (1..=depth.unwrap_or(0)).rev() {
            let below = left.iter().flat_map(|above| self.below(above));
            let may_be = |(above, name): (&String, String)| {
                let path = format!("{above}/{name}");
                (!beside.contains(&(levels, name)) && self.may_have_processes(&path))
                    .then_some(path)
            };
            left = below.filter_map(may_be).take(MOST_LEFT).collect();
        }
        left.into_iter().find(is_above)
    }

    /// For each process the number of levels from the root of our namespace up to the first cgroup above
    /// both, and the name of the cgroup below that one in which the process is.
    fn beside(&self, proc: &Path) -> HashSet<(usize, String)> {
        let place = |pid| {
            let path = self.path_of(proc, pid)?;
            // A zombie of a removed cgroup shows its name, which a new cgroup can have.
            if path.ends_with(" (deleted)") && !Subject::now(proc, pid).runs(proc) {
                return None;
            }
            let mut parts = path.split('/').skip(1).peekable();
            let levels = std::iter::from_fn(|| parts.next_if_eq(&"..")).count();
            Some((levels, parts.next().unwrap_or_default().to_owned()))
        };
        process::all(proc).filter_map(place).collect()
    }

    /// The names of the cgroups right below one, each with its path.
    fn below<'a>(&self, above: &'a String) -> impl Iterator<Item = (&'a String, String)> + use<'a> {
        let entries = fs::read_dir(self.directory(above))
            .into_iter()
            .flatten()
            .flatten();
        let folders = entries.filter(|it| it.file_type().is_ok_and(|kind| kind.is_dir()));
        folders.map(move |it| (above, cgroup_path::text(it.file_name().as_bytes())))
    }

    /// Not if the kernel says that no cgroup below has one, which v1 does not.
    fn may_have_processes(&self, path: &str) -> bool {
        let events = self.directory(path).join("cgroup.events");
        let events = file::read_kernel(&events, LARGEST_EVENTS);
        !events.is_ok_and(|events| events.lines().any(|line| line == "populated 0"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Cgroups and processes with these contents.
    fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (file, text) in files {
            let file = root.path().join(file);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        }
        root
    }

    #[test]
    fn the_root_of_our_namespace_is_where_our_process_is() {
        let root = tree(&[("pods/agent/inner/cgroup.procs", "7\n42\n")]);
        let hierarchy = Hierarchy::at(root.path());
        for (own, other, expected) in [
            ("/pods/agent/inner", "/", Some("")),
            ("/inner", "/../..", Some("/pods/agent")),
            ("/", "/../../../x", Some("/pods/agent/inner")),
            ("/inner", "/../x", None),
            ("/../inner", "/../..", None),
        ] {
            let proc = tree(&[("1/cgroup", &format!("0::{other}\n"))]);
            let found = hierarchy.namespace_of(proc.path(), 42, own);
            assert_eq!(found.as_deref(), expected, "{own} {other}");
        }
    }

    #[test]
    fn only_what_can_be_above_us_is_searched() {
        // All of them claim our process: whichever is looked at is found.
        let names = ["a", "b", "us", "y", "z"];
        let root = tempfile::tempdir().unwrap();
        for name in names {
            for inner in names {
                let folder = root.path().join(name).join(inner);
                fs::create_dir_all(&folder).unwrap();
                fs::write(folder.join("cgroup.procs"), "42\n").unwrap();
            }
        }
        let write = |file: &str, text: &str| fs::write(root.path().join(file), text).unwrap();
        write("us/cgroup.events", "populated 1\nfrozen 0\n");
        for empty in ["a", "us/a"] {
            write(&format!("{empty}/cgroup.events"), "populated 0\nfrozen 0\n");
        }
        let proc = tree(&[
            ("1/cgroup", "0::/../../b/s (deleted)\n"),
            ("1/stat", &format!("1 (x) S 0 {}1 0", "0 ".repeat(17))),
            ("2/cgroup", "0::/../../y/d/d\n"),
            ("3/cgroup", "0::/../../z\n"),
            ("4/cgroup", "0::/../b\n"),
            ("5/cgroup", "0::/../y/us\n"),
            ("6/cgroup", "0::/../z\n"),
            ("7/cgroup", "0::/us\n"),
            ("9/cgroup", "0::/../../us/us (deleted)\n"),
            ("9/stat", &format!("9 (x) Z 0 {}1 0", "0 ".repeat(17))),
        ]);
        let hierarchy = Hierarchy::at(root.path());
        let found = || hierarchy.namespace_of(proc.path(), 42, "/");
        assert_eq!(found().as_deref(), Some("/us/us"));
        write("us/us/cgroup.procs", "");
        assert_eq!(found(), None);
    }
}
