//! Finds the start that a process belongs to.

use super::Agent;
use crate::container::classify;
use crate::facts::{Confirmation, Evidence, Facts, Process, Sight, StartId};
use crate::process;

impl Agent {
    /// A container's process began in a cgroup. `is_first` says whether it is the first one of its
    /// pid namespace.
    pub(super) fn began(&mut self, cgroup: u64, process: Process, is_first: bool) {
        let own = StartId::of(cgroup);
        let known = self.starts.facts(own).map(|facts| facts.cgroup.clone());
        let path = self.made.remove(&cgroup).or(known);
        // The record of its mkdir was lost, or preceded the probes.
        let path = path.or_else(|| self.hierarchy.of_process(&self.proc, process.pid));
        let Some(path) = path else {
            // It was gone before its path could be read.
            self.exports.unplaced();
            return;
        };
        // In a running container, any exec into it can be the first program in a cgroup.
        let new_pid_namespace = process.new_pid_namespace && (is_first || !self.runs_above(&path));
        let process = Process {
            new_pid_namespace,
            ..process
        };
        let runs = |facts: &Facts| {
            facts
                .process
                .as_ref()
                .is_some_and(|it| it.pid != process.pid)
        };
        // The probes may report an exec into a container a moment after a walk has found the
        // container.
        if !is_first && self.starts.facts(own).is_some_and(runs) {
            return;
        }
        let start = self.account(cgroup, &path, &process, Sight::Event);
        self.confirm(start, process);
        self.let_go_above(&path);
        if start != own {
            self.end_what_left();
        }
    }

    /// The start of this process: the known one, or a new one that owns the cgroup or was put into
    /// it.
    pub(super) fn account(
        &mut self,
        cgroup: u64,
        path: &str,
        process: &Process,
        sight: Sight,
    ) -> StartId {
        if let Some(known) = self.start_of(process) {
            return known;
        }
        let own = StartId::of(cgroup);
        // A walk over a cgroup may have found any process of its container.
        let is_another = |facts: &Facts| {
            let known = facts.process.as_ref();
            known.is_some_and(|known| known.by != Confirmation::Walk || known.is_first)
        };
        let start = if self.starts.facts(own).is_some_and(is_another) {
            StartId {
                put: Some(process.pid),
                ..own
            }
        } else {
            own
        };
        if self.starts.facts(start).is_none() {
            self.starts.begin(start, path);
            let sight = self.sight_of(process, sight);
            self.observe(start, Evidence::Seen(sight));
        }
        self.made.remove(&cgroup);
        start
    }

    /// The first walk and the first list of tasks also contain what started after the probes were
    /// attached. The start time of the process decides whether it ran before.
    fn sight_of(&self, process: &Process, sight: Sight) -> Sight {
        let attached = process::ticks(self.attached_ns);
        let is_new = process.is_first && process.started.is_some_and(|at| at >= attached);
        if sight == Sight::Initial && is_new {
            Sight::Event
        } else {
            sight
        }
    }

    /// The running start with this process.
    pub(super) fn start_of(&self, process: &Process) -> Option<StartId> {
        let is_its = |facts: &Facts| {
            let known = facts.process.as_ref().map(Process::subject);
            known.is_some_and(|known| known.may_be(process.subject()))
        };
        let mut alive = self.starts.alive();
        alive.find(|(_, facts)| is_its(facts)).map(|(id, _)| id)
    }

    /// Whether a container runs in a cgroup above this path.
    fn runs_above(&self, path: &str) -> bool {
        let above = path.match_indices('/').map(|(end, _)| &path[..end]);
        let runs = |start| {
            let facts = self.starts.facts(start);
            facts.is_some_and(|facts| facts.process.is_some() && !facts.removed)
        };
        above.filter_map(|path| self.starts.at(path)).any(runs)
    }

    /// A runtime may make a cgroup for a container and start it in a child cgroup. Then no
    /// container begins in the parent, but an exec into the container may.
    fn let_go_above(&mut self, path: &str) {
        let identity = classify(path);
        let root = identity.root_of(path);
        if identity.is_container_root == Some(false)
            && let Some(id) = self.hierarchy.id_of(root)
            && self.made.remove(&id).is_some()
        {
            self.control.forget(id);
        }
    }

    /// A container that was put into an existing cgroup ends with its process, not with the cgroup.
    pub(super) fn end_what_left(&mut self) {
        let is_over = |facts: &Facts| {
            let process = facts.process.as_ref().filter(|process| process.is_first);
            process.is_some_and(|process| !process.subject().is_alive(&self.proc))
        };
        let alive = self.starts.alive().filter(|(_, facts)| is_over(facts));
        let ended: Vec<_> = alive.map(|(start, _)| start).collect();
        for start in ended {
            self.observe(start, Evidence::Removed);
        }
    }
}
