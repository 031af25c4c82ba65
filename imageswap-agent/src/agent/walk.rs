//! A walk over the node, which finds containers that no event reported.

use super::Agent;
use crate::container::classify;
use crate::evidence::runc::RuncState;
use crate::export::CAUSE_PERIODIC;
use crate::facts::{Confirmation, Process, Sight, StartId};
use crate::hierarchy::{Cgroup, Hierarchy};
use crate::node;
use crate::process::{self, Subject};
use std::collections::{HashMap, HashSet};
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Cgroups without a process that are watched for the first one. The probes have room for twice as
/// many cgroups in all; a container that begins in any other cgroup is found by the next walk.
const MOST_EMPTY: usize = 4096;

/// Running processes without a known cgroup that are counted.
const MOST_UNPLACED: usize = 1024;

/// One of so many periodic walks looks at every process.
const FULL_EVERY: u32 = 10;

/// The input of a walk.
#[derive(Debug)]
pub struct Looking {
    /// Whether a process is looked at again that was not a container's in an earlier walk.
    pub is_full: bool,
    /// The watched hierarchy.
    pub hierarchy: Hierarchy,
    /// Where the node's /proc is.
    pub proc: PathBuf,
    /// Containers that run according to the state of runc or crun.
    pub states: Vec<RuncState>,
    /// Cgroups in which an earlier walk found no container process, with their processes.
    pub empty: Arc<HashMap<u64, Vec<u32>>>,
}

/// The result of a walk. It stores little about cgroups without containers, because there may be
/// any number of them.
#[derive(Debug, Default)]
pub struct Look {
    /// Containers' processes.
    found: Vec<Process>,
    /// Cgroups that look like a container's own and have no processes.
    waiting: Vec<u64>,
    /// Cgroups without a container process, with the processes that they have.
    empty: HashMap<u64, Vec<u32>>,
    /// The ids of all cgroups.
    exists: HashSet<u64>,
    /// Cgroups below which others were left out.
    left_out: usize,
}

impl Look {
    /// Walks the tree. If runc's or crun's state has a living process, that is a container, in any
    /// cgroup and namespaces.
    pub fn take(looking: &Looking) -> io::Result<Self> {
        let mut look = Self::default();
        for state in &looking.states {
            let init = state.init.and_then(|init| {
                let process = process_of(&looking.proc, init.pid)?;
                (process.subject() == init).then_some(process)
            });
            look.found.extend(init.map(|process| Process {
                by: Confirmation::Reported,
                is_first: true,
                ..process
            }));
        }
        look.left_out = looking.hierarchy.walk(|cgroup| {
            look.exists.insert(cgroup.id);
            let known = looking.empty.get(&cgroup.id).filter(|_| !looking.is_full);
            let known = known.map(Vec::as_slice);
            look.at(looking, &cgroup, known);
            ControlFlow::Continue(())
        })?;
        Ok(look)
    }

    /// The first process of each pid namespace in a cgroup belongs to a container. Otherwise, if
    /// the path looks like a container's, any process may. `known` are the processes of an earlier
    /// walk, none of which is a container's.
    fn at(&mut self, looking: &Looking, cgroup: &Cgroup, known: Option<&[u32]>) {
        let Looking {
            hierarchy, proc, ..
        } = looking;
        let mut pids = hierarchy.processes(&cgroup.path);
        pids.sort_unstable();
        let is_new = |pid: &u32| known.is_none_or(|known| known.binary_search(pid).is_err());
        if known.is_some() && !pids.iter().any(is_new) {
            self.empty.insert(cgroup.id, pids);
            return;
        }
        let looks_like_one = classify(&cgroup.path).is_container_root == Some(true);
        let is_first = |pid: &u32| is_new(pid) && process::is_first_of_pid_namespace(proc, *pid);
        let firsts: Vec<u32> = pids.iter().copied().filter(is_first).collect();
        let own = |pid: u32| process_of(proc, pid);
        let found: Vec<_> = if firsts.is_empty() && looks_like_one {
            pids.iter().copied().find_map(own).into_iter().collect()
        } else {
            firsts.iter().copied().filter_map(own).collect()
        };
        // A process that is left out still looks like the runtime.
        let is_settled = found.len() == firsts.len() && (pids.is_empty() || !looks_like_one);
        if is_settled && found.is_empty() {
            self.empty.insert(cgroup.id, pids);
            if looks_like_one && self.waiting.len() < MOST_EMPTY {
                self.waiting.push(cgroup.id);
            }
        }
        self.found.extend(found);
    }
}

impl Agent {
    /// The input of the next walk, which has this cause. A process that takes the pid of an earlier
    /// one in the same cgroup is found by one of the regular full walks.
    pub fn looking(
        &mut self,
        cause: Option<&'static str>,
    ) -> impl Future<Output = Looking> + Send + use<> {
        self.partial_walks += 1;
        let is_full = cause != Some(CAUSE_PERIODIC) || self.partial_walks >= FULL_EVERY;
        if is_full {
            self.partial_walks = 0;
        }
        let states = self.resolver.states();
        let (hierarchy, proc) = (self.hierarchy.clone(), self.proc.clone());
        let empty = self.cgroups.empty();
        async move {
            Looking {
                is_full,
                hierarchy,
                proc,
                states: states.await,
                empty,
            }
        }
    }

    /// Applies the result of a walk. `cause` says why it was taken; `None` at start-up.
    pub fn walked(&mut self, look: Look, cause: Option<&'static str>) {
        let sight = if cause.is_some() {
            Sight::Reconciled
        } else {
            Sight::Initial
        };
        self.end_what_left();
        let left_out = self.starts.take_left_out();
        self.unplaced.retain(|process| process.runs(&self.proc));
        for process in &look.found {
            let subject = process.subject();
            let gave_way = process.by == Confirmation::Walk && left_out.contains(&subject);
            if gave_way && !self.starts.has_room() {
                self.starts.leave_out(subject);
            } else {
                self.found(process, sight, cause);
            }
        }
        for id in &look.waiting {
            if self.starts.facts(StartId::of(*id)).is_none() {
                self.control.watch(*id);
            }
        }
        let is_there = |id: u64, path: &str| {
            look.exists.contains(&id) || self.hierarchy.id_of(path) == Some(id)
        };
        let missing: Vec<_> = self
            .starts
            .alive()
            .filter(|(id, start)| !is_there(id.cgroup, &start.facts().cgroup))
            .map(|(id, _)| id)
            .collect();
        let runs = |process: Subject| process.runs(&self.proc);
        self.cgroups
            .walked(look.empty, look.left_out, is_there, runs);
        self.end_without_cgroup(missing);
    }

    /// Counts a container's process without a known cgroup. Each walk and each list finds it again.
    pub(super) fn unplaced(&mut self, process: Subject) {
        if self.unplaced.len() < MOST_UNPLACED && self.unplaced.insert(process) {
            self.exports.unplaced();
        }
    }

    /// Handles a container's process that a walk found.
    fn found(&mut self, process: &Process, sight: Sight, cause: Option<&'static str>) {
        // It may have ended since, and another process may have its pid.
        if self.start_of(process).is_some() || !process.subject().runs(&self.proc) {
            return;
        }
        let Some((cgroup, path)) = self.place_of(process.pid) else {
            if process.subject().runs(&self.proc) {
                self.unplaced(process.subject());
            }
            return;
        };
        // Any process of a container whose first process is known.
        if !process.is_first && self.starts.facts(StartId::of(cgroup)).is_some() {
            return;
        }
        let start = self.account(cgroup, &path, process, sight);
        if let Some(row) = self.starts.get_mut(start) {
            row.late = cause.or(row.late);
        }
        self.confirm(start, process.clone());
    }
}

/// A container's own process; `None` if it may still be the runtime.
fn process_of(proc: &Path, pid: u32) -> Option<Process> {
    let time_ns = node::now().boot_ns;
    let comm = process::own_name(proc, pid, time_ns)?;
    let is_first = process::is_first_of_pid_namespace(proc, pid);
    Some(Process {
        by: Confirmation::Walk,
        time_ns,
        pid,
        comm: Some(comm),
        new_pid_namespace: process::in_own_pid_namespace(proc, pid),
        started: Subject::now(proc, pid).started,
        is_first,
        leads_pid_namespace: is_first,
        started_ns: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_empty_cgroups_few_are_kept() {
        let root = tempfile::tempdir().unwrap();
        let make = |path: &str, processes: &str| {
            let folder = root.path().join(path);
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(folder.join("cgroup.procs"), processes).unwrap();
        };
        for at in 0..MOST_EMPTY + 10 {
            make(&format!("kubepods/podu/{at:064x}"), "");
        }
        let own = std::process::id();
        make("system.slice/cron.service", &format!("{own}\n"));
        let mut looking = Looking {
            is_full: true,
            hierarchy: Hierarchy::at(root.path()),
            proc: "/proc".into(),
            states: Vec::new(),
            empty: Arc::default(),
        };
        let empty = |look: &Look| look.empty.keys().copied().collect::<HashSet<_>>();
        let look = Look::take(&looking).unwrap();
        assert_eq!((look.found.len(), look.waiting.len()), (0, MOST_EMPTY));
        assert_eq!(look.exists, empty(&look), "none has a container's process");
        looking.empty = Arc::new(look.empty);
        looking.is_full = false;
        let again = Look::take(&looking).unwrap();
        assert!(again.waiting.is_empty());
        assert_eq!(again.exists, empty(&again));
    }

    /// A /proc with processes that have lived for long; `firsts` are the first ones of pid
    /// namespaces.
    fn proc_of(pids: &[u32], firsts: &[u32]) -> tempfile::TempDir {
        let proc = tempfile::tempdir().unwrap();
        for pid in pids {
            let folder = proc.path().join(pid.to_string());
            std::fs::create_dir_all(&folder).unwrap();
            let inner = if firsts.contains(pid) { "\t1" } else { "" };
            let write = |file: &str, text: String| std::fs::write(folder.join(file), text).unwrap();
            write("status", format!("Name:\tx\nNSpid:\t{pid}{inner}\n"));
            write("comm", "x\n".to_owned());
            let zeros = "0 ".repeat(17);
            write("stat", format!("{pid} (x) S 1 {zeros}1 4096 1\n"));
        }
        proc
    }

    #[test]
    fn a_process_that_joined_a_known_cgroup_is_looked_at() {
        let root = tempfile::tempdir().unwrap();
        let proc = proc_of(&[7, 8, 9], &[8, 9]);
        for path in ["", "old.service"] {
            std::fs::create_dir_all(root.path().join(path)).unwrap();
            let procs = |pids: &str| {
                std::fs::write(root.path().join(path).join("cgroup.procs"), pids).unwrap();
            };
            procs("7\n");
            let mut looking = Looking {
                is_full: true,
                hierarchy: Hierarchy::at(root.path()),
                proc: proc.path().to_owned(),
                states: Vec::new(),
                empty: Arc::default(),
            };
            let look = Look::take(&looking).unwrap();
            assert!(look.found.is_empty(), "{path}");
            looking.empty = Arc::new(look.empty);
            procs("9\n7\n");
            for is_full in [false, true] {
                looking.is_full = is_full;
                let look = Look::take(&looking).unwrap();
                let found: Vec<_> = look.found.iter().map(|process| process.pid).collect();
                assert_eq!(found, [9], "{path}");
            }
            procs("7\n");
        }
    }
}
