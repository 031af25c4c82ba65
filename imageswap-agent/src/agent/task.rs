//! Tasks that a containerd reports or lists.
//!
//! A task's process may still be the runtime: it is called like one, and is about to run the
//! container's program. Any program can take such a name, so the task is looked at again when its
//! process is too old for a runtime's.

use super::Agent;
use crate::evidence::containerd::{TaskRecord, TaskStatus};
use crate::export::CAUSE_RUNTIME_BACK;
use crate::facts::{Confirmation, Process, Sight, StartId};
use crate::node;
use crate::process::{self, Subject};

/// Tasks whose processes may still be the runtime; any more are counted as lost.
const MOST_UNSURE: usize = 1024;

/// A task whose process is called like a runtime, and is looked at again at `due_ns` since boot.
pub(super) struct Unsure {
    task: TaskRecord,
    process: Subject,
    due_ns: u64,
}

impl Agent {
    /// Handles a task that a runtime has made or lists.
    pub fn task(&mut self, task: &TaskRecord, sight: Sight) {
        let path = self.hierarchy.of_process(&self.proc, task.pid);
        let place = path.and_then(|path| Some((self.hierarchy.id_of(&path)?, path)));
        if task.status == TaskStatus::Created {
            self.resolver.prepare(task.clone());
            if let Some(place) = place {
                self.cgroups.place(task.pid, place);
            }
            return;
        }
        let subject = Subject::now(&self.proc, task.pid);
        // The process of a task that has ended is another one that has its pid.
        if !task.status.has_process() && subject.runs(&self.proc) {
            return;
        }
        let placed = self.cgroups.take_place(task.pid);
        let was_used = placed.as_ref().is_some_and(|it| self.cgroups.is_used(it.0));
        let placed = placed.filter(|_| !self.hierarchy.sees_execs());
        let Some((cgroup, path)) = place.or(placed) else {
            // The process is gone. Its exec was reported or failed, unless a client let another program
            // run in its cgroup first.
            if was_used && self.starts.of_process(subject).next().is_none() {
                self.exports.unplaced();
            }
            return;
        };
        let time_ns = node::now().boot_ns;
        let comm = process::own_name(&self.proc, task.pid, time_ns);
        // A runtime reports a start after its own process has let go; the exec may still fail.
        if comm.is_none() && self.hierarchy.sees_execs() {
            self.look_again(task, subject, time_ns);
            return;
        }
        let process = Process {
            by: Confirmation::Runtime,
            time_ns,
            pid: task.pid,
            comm,
            new_pid_namespace: process::in_own_pid_namespace(&self.proc, task.pid),
            started: subject.started,
            is_first: true,
            leads_pid_namespace: process::is_first_of_pid_namespace(&self.proc, task.pid),
            started_ns: None,
        };
        let start = self.account(cgroup, &path, &process, sight);
        if sight == Sight::Reconciled
            && let Some(row) = self.starts.get_mut(start)
            && row.facts().process.is_none()
        {
            row.late = Some(CAUSE_RUNTIME_BACK);
        }
        self.name(start, task);
        self.confirm(start, process);
    }

    /// Keeps a containerd's name for a start that no runtime has reported otherwise.
    fn name(&mut self, start: StartId, task: &TaskRecord) {
        if let Some(row) = self.starts.get_mut(start)
            && row.facts().trusted().next().is_none()
        {
            row.named = Some(Box::new((task.namespace.clone(), task.id.clone())));
            self.ask(start);
        }
    }

    /// Keeps a task whose process may still be the runtime, until it cannot be any longer.
    fn look_again(&mut self, task: &TaskRecord, process: Subject, now_ns: u64) {
        if self.unsure.len() >= MOST_UNSURE {
            self.exports.unplaced();
            return;
        }
        self.unsure.push(Unsure {
            task: task.clone(),
            process,
            due_ns: now_ns.saturating_add(node::nanos(process::RUNTIMES_OWN)),
        });
    }

    /// Looks at those whose time has come.
    pub(super) fn look_at_unsure(&mut self) {
        let now_ns = node::now().boot_ns;
        let due = self.unsure.extract_if(.., |it| it.due_ns <= now_ns);
        for Unsure { task, process, .. } in due.collect::<Vec<_>>() {
            if self.starts.of_process(process).next().is_some() {
                continue;
            }
            if process.runs(&self.proc) {
                self.task(&task, Sight::Reconciled);
            } else {
                self.exports.unplaced();
            }
        }
    }
}
