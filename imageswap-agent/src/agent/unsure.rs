//! Tasks of a containerd whose processes may still be the runtime: such a process is called like one,
//! and is about to run the container's program. Any program can take such a name, so the task is
//! looked at again when its process is too old for a runtime's.

use super::Agent;
use crate::evidence::containerd::TaskRecord;
use crate::facts::Sight;
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
    /// Keeps a task whose process may still be the runtime, until it cannot be any longer.
    pub(super) fn look_again(&mut self, task: &TaskRecord, process: Subject, now_ns: u64) {
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
