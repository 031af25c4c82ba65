//! Cgroups in which no container has begun: most of a node's cgroups, of which most never get one.

use crate::process::Subject;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// New cgroups whose paths are remembered; the probes keep as many. The path of any other cgroup is
/// looked up from its process.
const MOST_MADE: usize = 8192;

/// Processes whose places are remembered: more than wait for their start on a node. Clients of a containerd
/// can report any.
const MOST_PLACED: usize = 4096;

/// Cgroups without a container. Id and path of each one come from different inputs.
#[derive(Default)]
pub(super) struct Cgroups {
    /// Paths of new ones, by id.
    made: HashMap<u64, String>,
    /// Those in which a walk found no container process, with their processes then.
    empty: Arc<HashMap<u64, Vec<u32>>>,
    /// Those of processes that a runtime has made, because they may be gone when their start is
    /// reported, which may be long after they were made.
    placed: HashMap<u32, Place>,
    /// Those in which another program began while a runtime waited to begin the container's own.
    used: HashSet<u64>,
    /// How many the last walk did not look below.
    left_out: usize,
}

/// Where a runtime has made a process.
pub(super) struct Place {
    /// Id and path of its cgroup.
    pub(super) cgroup: (u64, String),
    /// When the process began, in ticks since boot.
    pub(super) started: Option<u64>,
    /// Whether the probes report the program that it runs, if it does so there.
    pub(super) shows_exec: bool,
}

impl Cgroups {
    /// A cgroup was made.
    pub(super) fn made(&mut self, id: u64, path: Option<String>) {
        self.forget_empty(id);
        if let Some(path) = path
            && self.made.len() < MOST_MADE
        {
            self.made.insert(id, path);
        }
    }

    /// A cgroup was removed.
    pub(super) fn removed(&mut self, id: u64) {
        self.made.remove(&id);
        self.used.remove(&id);
        self.forget_empty(id);
    }

    /// A program began in a cgroup. It may not be the one of the process that a runtime made there.
    pub(super) fn began(&mut self, id: u64, pid: u32) {
        let mut placed = self.placed.iter();
        if placed.any(|(made, place)| place.cgroup.0 == id && *made != pid) {
            self.used.insert(id);
        }
    }

    /// Whether another program began there first.
    pub(super) fn is_used(&self, id: u64) -> bool {
        self.used.contains(&id)
    }

    /// A container begins in a cgroup, or will not. Returns the path of a new one.
    pub(super) fn take(&mut self, id: u64) -> Option<String> {
        self.made.remove(&id)
    }

    /// A runtime has made a process here.
    pub(super) fn place(&mut self, pid: u32, place: Place) {
        if self.placed.len() < MOST_PLACED || self.placed.contains_key(&pid) {
            self.placed.insert(pid, place);
        }
    }

    /// Whether a runtime has made this process in this cgroup.
    pub(super) fn is_placed(&self, cgroup: u64, pid: u32) -> bool {
        self.placed
            .get(&pid)
            .is_some_and(|it| it.cgroup.0 == cgroup)
    }

    /// Where a runtime has made a process.
    pub(super) fn take_place(&mut self, pid: u32) -> Option<Place> {
        self.placed.remove(&pid)
    }

    /// Those in which the last walk found no container process.
    pub(super) fn empty(&self) -> Arc<HashMap<u64, Vec<u32>>> {
        Arc::clone(&self.empty)
    }

    /// A walk found these without a container process, and did not look below `left_out` others. What is
    /// known of a process is forgotten once it does not run.
    pub(super) fn walked(
        &mut self,
        empty: HashMap<u64, Vec<u32>>,
        left_out: usize,
        is_there: impl Fn(u64, &str) -> bool,
        runs: impl Fn(Subject) -> bool,
    ) {
        self.made.retain(|id, path| is_there(*id, path));
        self.placed.retain(|pid, place| {
            runs(Subject {
                pid: *pid,
                started: place.started,
            })
        });
        let places: HashSet<u64> = self.placed.values().map(|place| place.cgroup.0).collect();
        self.used.retain(|id| places.contains(id));
        self.empty = Arc::new(empty);
        if std::mem::replace(&mut self.left_out, left_out) != left_out {
            tracing::warn!(
                cgroups = left_out,
                "a walk left out what lies below some cgroups; containers there are seen only when \
                 they start"
            );
        }
    }

    /// A walk may hold the map, which is then copied: only if it has to change.
    fn forget_empty(&mut self, id: u64) {
        if self.empty.contains_key(&id) {
            Arc::make_mut(&mut self.empty).remove(&id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(cgroup: u64) -> Place {
        Place {
            cgroup: (cgroup, format!("/{cgroup}")),
            started: Some(5),
            shows_exec: true,
        }
    }

    #[test]
    fn a_place_is_known_as_long_as_its_process_runs() {
        let mut cgroups = Cgroups::default();
        for (pid, cgroup) in [(7, 1), (8, 2)] {
            cgroups.place(pid, place(cgroup));
            // Another program begins there.
            cgroups.began(cgroup, 9);
        }
        let runs = |process: Subject| process.pid == 7 && process.started == Some(5);
        cgroups.walked(HashMap::new(), 0, |_, _| true, runs);
        assert_eq!([1, 2].map(|id| cgroups.is_used(id)), [true, false]);
        assert!(cgroups.is_placed(1, 7));
        assert!(!cgroups.is_placed(2, 8));
    }

    #[test]
    fn places_are_bounded() {
        let mut cgroups = Cgroups::default();
        let most = u32::try_from(MOST_PLACED).unwrap();
        for pid in 1..=most + 1 {
            cgroups.place(pid, place(1));
        }
        cgroups.place(1, place(2));
        assert!(cgroups.is_placed(2, 1), "a known one moves");
        assert!(!cgroups.is_placed(1, most + 1));
    }
}
