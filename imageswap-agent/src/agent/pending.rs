//! Cgroups that wait for a container's first program.
//!
//! The probes report every program that begins in a pending cgroup, in another mount namespace than its
//! parent. The first one need not be the container's: between the creation of a container and its
//! start, others can run programs in its cgroup. So the mark stays until the sources have answered
//! about the first one, and those that follow wait for that answer.

use super::Agent;
use crate::facts::{Process, Sight, StartId};
use crate::node;
use crate::process::{self, Subject};
use crate::starts::Start;
use std::collections::HashMap;
use std::sync::Arc;

/// Processes of a cgroup among which one that is about to begin is looked for.
const MOST_PROCESSES: usize = 64;

/// Programs that wait for the answer about an earlier one; any more are counted as lost.
const MOST_FOLLOWERS: usize = 1024;

/// Programs that began in a cgroup after another one that the sources are being asked about.
#[derive(Default)]
pub(super) struct Followers {
    by_cgroup: HashMap<u64, Vec<(Process, Sight)>>,
    count: usize,
}

impl Followers {
    /// Keeps one; false if there are too many.
    fn add(&mut self, cgroup: u64, process: Process, sight: Sight) -> bool {
        if self.count >= MOST_FOLLOWERS {
            return false;
        }
        self.count += 1;
        let its = self.by_cgroup.entry(cgroup).or_default();
        its.push((process, sight));
        true
    }

    fn take(&mut self, cgroup: u64) -> Vec<(Process, Sight)> {
        let its = self.by_cgroup.remove(&cgroup).unwrap_or_default();
        self.count -= its.len();
        its
    }
}

/// Whether a runtime waits in a cgroup to begin a container's program, or has begun one that the probes
/// are about to report.
#[derive(Debug, PartialEq, Eq)]
enum Waits {
    Yes,
    No,
    /// It has more than [`MOST_PROCESSES`].
    Unknown,
}

/// What a program is that began in a cgroup after another one.
pub(super) enum Later {
    /// A program in the container that is known.
    Within,
    /// Unknown until the sources have answered about the other one.
    Open,
    /// One that is asked about for itself.
    Another,
}

impl Agent {
    /// What a program is that began in the cgroup of the start `own`, which has another process.
    pub(super) fn later(&self, own: StartId, process: &Process) -> Later {
        let Some(row) = self.starts.get(own) else {
            return Later::Another;
        };
        if self.cgroups.is_placed(own.cgroup, process.pid) {
            return Later::Another;
        }
        let facts = row.facts();
        let first = facts.process.as_ref().map(|first| first.pid);
        let is_beside = |first| {
            process::in_own_pid_namespace(&self.proc, process.pid)
                && process::share_pid_namespace(&self.proc, process.pid, first)
        };
        if row.is_known() || first.is_some_and(is_beside) {
            Later::Within
        } else if row.is_asked {
            Later::Open
        } else {
            Later::Another
        }
    }

    /// Keeps a program until the sources have answered about the first one in its cgroup.
    pub(super) fn follow(&mut self, cgroup: u64, process: Process, sight: Sight) {
        if !self.followers.add(cgroup, process, sight) {
            self.exports.unplaced();
        }
    }

    /// The sources have answered about a start with this process, in this cgroup. Programs that followed
    /// one that is not a container's, or that no source knows, are asked about as well.
    pub(super) fn answered(&mut self, cgroup: u64, about: Option<(Arc<str>, Subject)>) {
        let own = self.starts.get(StartId::of(cgroup));
        if own.is_some_and(|row| row.is_asked) {
            return;
        }
        let is_known = own.is_some_and(Start::is_known);
        for (process, sight) in self.followers.take(cgroup) {
            if !is_known {
                self.began(cgroup, process, false, sight);
            }
        }
        if let Some((path, process)) = about {
            self.let_go(cgroup, &path, process, is_known);
        }
    }

    /// Takes the mark away, unless a container may still begin in the cgroup. That is looked at before
    /// and after, because the probes report nothing in between.
    fn let_go(&mut self, cgroup: u64, path: &str, answered: Subject, is_known: bool) {
        let mut waits = self.waits(cgroup, path, answered);
        if waits == Waits::No {
            self.control.forget(cgroup);
            waits = self.waits(cgroup, path, answered);
        } else if waits == Waits::Unknown && is_known {
            // A large container, and not another one that waits.
            self.control.forget(cgroup);
        }
        tracing::debug!(path, ?waits, "the sources have answered");
        // Of the cgroups that were there before any container, some have many processes: those stay as
        // they are.
        if waits == Waits::Yes {
            self.control.watch(cgroup);
            self.cgroups.made(cgroup, Some(path.to_owned()));
        }
    }

    /// `answered` is the process about which the sources have just answered.
    fn waits(&self, cgroup: u64, path: &str, answered: Subject) -> Waits {
        if self.hierarchy.id_of(path) != Some(cgroup) {
            return Waits::No;
        }
        let pids = self.hierarchy.processes(path);
        let now_ns = node::now().boot_ns;
        let begins = |pid: u32| {
            let process = Subject::now(&self.proc, pid);
            let is_young = process
                .age(now_ns)
                .is_some_and(|it| it < process::RUNTIMES_OWN);
            let is_unknown =
                || process != answered && self.starts.of_process(process).next().is_none();
            is_young && is_unknown() && process::is_apart(&self.proc, pid)
        };
        let is_about_to =
            |pid: u32| process::is_called_like_runtime(&self.proc, pid) || begins(pid);
        if pids.len() > MOST_PROCESSES {
            Waits::Unknown
        } else if pids.into_iter().any(is_about_to) {
            Waits::Yes
        } else {
            Waits::No
        }
    }
}
