//! Containers that were put into the cgroup of another one: nothing tells of them by the cgroup's own life.

use super::{Agent, container_root};
use crate::evidence::containerd::TaskRecord;
use crate::facts::{Confirmation, Evidence, Facts, Sight, StartId};
use std::collections::BTreeSet;

impl Agent {
    /// The start that a task belongs to which runs in the cgroup of `first`: another one, where that is known by
    /// another name and began with another process.
    pub(super) fn start_of_task(&mut self, first: StartId, task: &TaskRecord) -> StartId {
        let is_another = |facts: &Facts| {
            let process = facts.process.as_ref();
            let claimed = facts.trusted().map(|claim| &*claim.id);
            let mut ids = claimed
                .chain(facts.identity.container_id.as_deref())
                .peekable();
            process
                .is_some_and(|process| process.by != Confirmation::Walk && process.pid != task.pid)
                && ids.peek().is_some()
                && ids.all(|id| id != task.id)
        };
        if self.starts.facts(first).is_some_and(is_another) {
            self.put(first, task.pid)
        } else {
            first
        }
    }

    /// Registers the container of this process, which was put into the cgroup of `first`.
    pub(super) fn put(&mut self, first: StartId, pid: u32) -> StartId {
        let start = StartId {
            put: Some(pid),
            ..first
        };
        if let Some(facts) = self.starts.facts(first)
            && self.starts.facts(start).is_none()
        {
            let path = facts.cgroup.clone();
            self.starts.begin(start, &path);
            self.observe(start, Evidence::Seen(Sight::Event));
        }
        start
    }

    /// Where several containers share a cgroup, its removal does not tell when one of them ends; its process does.
    pub(super) fn end_what_left(&mut self, shared: &BTreeSet<u64>) {
        let runs = |facts: &Facts| {
            facts.process.as_ref().is_none_or(|process| {
                let path = self.hierarchy.of_process(&self.proc, process.pid);
                path.is_some_and(|path| container_root(&path) == facts.cgroup)
            })
        };
        let ended: Vec<_> = self
            .starts
            .alive()
            .filter(|(start, facts)| shared.contains(&start.cgroup) && !runs(facts))
            .map(|(start, _)| start)
            .collect();
        for start in ended {
            self.observe(start, Evidence::Removed);
        }
    }
}
