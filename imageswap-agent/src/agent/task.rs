//! Tasks that a containerd reports or lists, and processes that may still be the runtime.
//!
//! Such a process is called like a runtime, and is about to run the container's program. Any program
//! can take such a name, so it is looked at again when it is too old for a runtime's.

use super::Agent;
use super::cgroups::Place;
use crate::evidence::containerd::{TaskRecord, TaskStatus};
use crate::export::CAUSE_RUNTIME_BACK;
use crate::facts::{Confirmation, Process, Sight, StartId};
use crate::node;
use crate::probe::KernelEvent;
use crate::process::{self, Subject};
use std::time::Duration;

/// Processes that may still be the runtime, or are gone; any more are counted as lost.
const MOST_UNSURE: usize = 1024;

/// How long before the report of a task its exec may have been. Much later, another process has its pid.
const RECENT: Duration = Duration::from_mins(1);

/// A process that is called like a runtime, and is looked at again at `due_ns` since boot.
pub(super) struct Unsure {
    of: Sighting,
    process: Subject,
    due_ns: u64,
}

/// How a process was seen that may still be the runtime.
pub(super) enum Sighting {
    /// A runtime reported the start of its task. Whether the probes may not report its exec.
    Task(TaskRecord, bool),
    /// Another program began in its pid namespace, and it lives in this cgroup.
    Exec(u64, Process),
    /// A runtime reported the start of its task after its end. The record of its exec may not have been
    /// read yet.
    Gone,
}

impl Agent {
    /// Handles a task that a runtime has made or lists.
    pub fn task(&mut self, task: &TaskRecord, sight: Sight) {
        let place = self.place_of(task.pid);
        if task.status == TaskStatus::Created {
            self.resolver.prepare(task.clone());
            if let Some(place) = place {
                // It may be one that other containers use, too.
                if self.hierarchy.sees_execs() {
                    self.control.watch(place.0);
                }
                let place = Place {
                    cgroup: place,
                    started: Subject::now(&self.proc, task.pid).started,
                    shows_exec: self.shows_exec(task.pid),
                };
                self.cgroups.place(task.pid, place);
            }
            return;
        }
        let subject = Subject::now(&self.proc, task.pid);
        // The process of a task that has ended is another one that has its pid.
        let is_its = task.status != TaskStatus::Stopped || !subject.runs(&self.proc);
        let place = place.filter(|_| is_its);
        let placed = self.cgroups.take_place(task.pid);
        let gone = Subject {
            pid: task.pid,
            started: placed.as_ref().and_then(|it| it.started),
        };
        let is_hidden = |it: &Place| !it.shows_exec || self.cgroups.is_used(it.cgroup.0);
        let is_hidden = placed.as_ref().map(is_hidden);
        let placed = placed.map(|it| it.cgroup);
        let placed = placed.filter(|_| is_its && !self.hierarchy.sees_execs());
        let Some((cgroup, path)) = place.or(placed) else {
            let is_known = || self.starts.of_process(subject).next().is_some();
            if sight != Sight::Event && is_its && subject.runs(&self.proc) && !is_known() {
                self.unplaced(subject);
            }
            return self.gone(task, gone, sight, is_hidden.unwrap_or(false));
        };
        let time_ns = node::now().boot_ns;
        let comm = process::own_name(&self.proc, task.pid, time_ns);
        // A runtime reports a start after its own process has let go; the exec may still fail.
        if comm.is_none() && self.hierarchy.sees_execs() {
            let may_be_hidden = || !self.shows_exec(task.pid) || self.cgroups.is_used(cgroup);
            let is_hidden = is_hidden.unwrap_or_else(may_be_hidden);
            self.look_again(Sighting::Task(task.clone(), is_hidden), subject);
            return;
        }
        let process = Process {
            by: if self.hierarchy.sees_execs() || !task.status.has_started() {
                Confirmation::Reported
            } else {
                Confirmation::Runtime
            },
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

    /// Whether the probes report the program that a process is about to run. Without privileges, only the pid
    /// namespace of others can be seen.
    fn shows_exec(&self, pid: u32) -> bool {
        self.hierarchy.sees_execs()
            && (process::is_first_of_pid_namespace(&self.proc, pid)
                || process::is_apart(&self.proc, pid))
    }

    /// Handles a task whose process is gone. Its exec was reported or failed, unless it `is_hidden` from the
    /// probes, or a client moved the process to another cgroup. Where it was made may not be known: then it
    /// was most likely a program that the kernel refused.
    fn gone(&mut self, task: &TaskRecord, gone: Subject, sight: Sight, is_hidden: bool) {
        let start = |agent: &Self| agent.starts.of_process(gone).next().map(|(start, _)| start);
        // A list has tasks that ended long ago.
        if sight != Sight::Event || !self.hierarchy.sees_execs() || start(self).is_some() {
            return;
        }
        let now_ns = node::now().boot_ns;
        if let Some(exec) = self.control.seen(task.pid)
            && let KernelEvent::Exec {
                cgroup_id,
                time_ns,
                started_ns,
                ..
            } = exec
            && now_ns.saturating_sub(time_ns) < node::nanos(RECENT)
            && gone
                .started
                .is_none_or(|it| it == process::ticks(started_ns))
        {
            let place = Place {
                cgroup: (cgroup_id, String::new()),
                started: gone.started,
                shows_exec: true,
            };
            self.cgroups.place(task.pid, place);
            self.kernel(exec);
            self.cgroups.take_place(task.pid);
            if let Some(start) = start(self) {
                self.name(start, task);
            }
        } else if is_hidden {
            self.look_again(Sighting::Gone, gone);
        }
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

    /// Keeps a process that may still be the runtime, until it cannot be any longer.
    pub(super) fn look_again(&mut self, of: Sighting, process: Subject) {
        // Clients of a containerd can report any number of tasks that were never there.
        let most = match of {
            Sighting::Gone => MOST_UNSURE / 2,
            _ => MOST_UNSURE,
        };
        if self.unsure.len() >= most {
            self.exports.unplaced();
            return;
        }
        let due = node::now().boot_ns;
        self.unsure.push(Unsure {
            of,
            process,
            due_ns: due.saturating_add(node::nanos(process::RUNTIMES_OWN)),
        });
    }

    /// Looks at those whose time has come.
    pub(super) fn look_at_unsure(&mut self) {
        let now_ns = node::now().boot_ns;
        let due = self.unsure.extract_if(.., |it| it.due_ns <= now_ns);
        for Unsure { of, process, .. } in due.collect::<Vec<_>>() {
            if self.starts.of_process(process).next().is_some() {
                continue;
            }
            match of {
                Sighting::Gone => self.exports.unplaced(),
                // Its exec failed, or it would have been reported.
                Sighting::Task(_, false) if !process.runs(&self.proc) => {}
                _ if !process.runs(&self.proc) => self.exports.unplaced(),
                Sighting::Task(task, _) => self.task(&task, Sight::Reconciled),
                Sighting::Exec(cgroup, process) => {
                    self.began(cgroup, process, true, Sight::Reconciled);
                }
            }
        }
    }
}
