//! Compares the table of starts with the cgroups that exist.

use super::{Agent, container_root};
use crate::container::classify;
use crate::facts::{Evidence, Sight, StartId};
use crate::hierarchy::{Cgroup, Hierarchy};
use std::collections::HashSet;
use std::io;
use std::ops::ControlFlow;

/// Cgroups without a process that are watched for the first one. The probes have room for twice as many cgroups in all;
/// a container that begins in a further one is found by the next look.
const MOST_EMPTY: usize = 4096;

/// What a look at the cgroup tree found of containers. It holds little of what is no container's, or an empty one's,
/// for there may be any number of such cgroups.
#[derive(Debug, Default)]
pub struct Look {
    /// Cgroups of containers, their own and those below, that have processes.
    populated: Vec<Cgroup>,
    /// Containers' own cgroups that have none.
    empty: Vec<u64>,
    /// All cgroups.
    exists: HashSet<u64>,
}

impl Look {
    /// Walks the tree. `of_runc` are the cgroups of which runc or crun keep state, whatever they are called.
    pub fn take(hierarchy: &Hierarchy, of_runc: &HashSet<String>) -> io::Result<Self> {
        let mut look = Self::default();
        hierarchy.walk(|cgroup| {
            look.exists.insert(cgroup.id);
            let is_root = classify(&cgroup.path).is_container_root;
            let is_root = is_root.or_else(|| of_runc.contains(&cgroup.path).then_some(true));
            let Some(is_root) = is_root else {
                return ControlFlow::Continue(());
            };
            if !hierarchy.processes(&cgroup.path).is_empty() {
                look.populated.push(cgroup);
            } else if is_root && look.empty.len() < MOST_EMPTY {
                look.empty.push(cgroup.id);
            }
            ControlFlow::Continue(())
        })?;
        Ok(look)
    }
}

impl Agent {
    /// Takes in what a look at the tree found. `cause` is why the look was taken, unless the agent has just started.
    pub fn walked(&mut self, look: &Look, cause: Option<&'static str>) {
        let sight = if cause.is_some() {
            Sight::Reconciled
        } else {
            Sight::Initial
        };
        for cgroup in &look.populated {
            let root = container_root(&cgroup.path);
            let known = self.starts.at(root);
            let known = known.filter(|start| self.is_at(start.cgroup, root));
            if known.is_none()
                && let Some(id) = self.hierarchy.id_of(root)
            {
                if let Some(cause) = cause {
                    self.late.insert(StartId::of(id), cause);
                }
                self.made(id, root, sight);
                self.control.watch(id);
            }
        }
        for id in &look.empty {
            if self.starts.facts(StartId::of(*id)).is_none() {
                self.control.watch(*id);
            }
        }
        let shared = self.starts.shared();
        self.end_what_left(&shared);
        for cgroup in &look.populated {
            let Some(start) = self.starts.at(container_root(&cgroup.path)) else {
                continue;
            };
            // Whose process it is that runs in a cgroup with several containers cannot be told.
            if !shared.contains(&start.cgroup)
                && self
                    .starts
                    .facts(start)
                    .is_some_and(|facts| facts.process.is_none())
                && let Some(process) = self.container_process(&cgroup.path)
            {
                self.confirm(start, process);
            }
        }
        let missing: Vec<_> = self
            .starts
            .alive()
            .filter(|(start, facts)| !self.is_at(start.cgroup, &facts.cgroup))
            .map(|(start, _)| start)
            .collect();
        for start in missing {
            self.observe(start, Evidence::Removed);
        }
        self.inner.retain(|id, _| look.exists.contains(id));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_empty_cgroups_few_are_kept() {
        let root = tempfile::tempdir().unwrap();
        let hierarchy = Hierarchy::at(root.path());
        let make = |path: &str, processes: &str| {
            let folder = root.path().join(path);
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(folder.join("cgroup.procs"), processes).unwrap();
        };
        for at in 0..MOST_EMPTY + 10 {
            make(&format!("kubepods/podu/{at:064x}"), "");
        }
        make("kubepods/podu/running/below", "");
        make("system.slice/cron.service", "7\n");
        make("by-hand", "8\n");
        let id = "a".repeat(64);
        make(&format!("docker/{id}"), "");
        make(&format!("docker/{id}/init.scope"), "9\n");
        let of_runc = HashSet::from(["/by-hand".to_owned()]);
        let look = Look::take(&hierarchy, &of_runc).unwrap();
        let mut populated: Vec<_> = look.populated.iter().map(|it| &*it.path).collect();
        populated.sort_unstable();
        let inner = format!("/docker/{id}/init.scope");
        assert_eq!(populated, ["/by-hand", &inner]);
        assert_eq!(look.empty.len(), MOST_EMPTY);
    }
}
