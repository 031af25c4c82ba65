//! Finds the start that a process belongs to.

use super::Agent;
use super::pending::Later;
use crate::cgroup_path;
use crate::container::classify;
use crate::facts::{Confirmation, Evidence, Facts, Process, Sight, StartId};
use crate::process::{self, Subject};
use crate::starts::Start;
use std::io;
use std::path::Path;

/// Processes in a container's cgroup that are looked at.
const MOST_OTHERS: usize = 64;

impl Agent {
    /// A container's process began in a cgroup. `is_first` says whether it is the first one of its
    /// pid namespace.
    pub(super) fn began(&mut self, cgroup: u64, process: Process, is_first: bool, sight: Sight) {
        let own = StartId::of(cgroup);
        self.cgroups.began(cgroup, process.pid);
        let known = self.starts.facts(own).map(|facts| facts.cgroup.to_string());
        let path = self.cgroups.take(cgroup).or(known);
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
            let known = facts.process.as_ref().map(Process::subject);
            known.is_some_and(|known| !known.may_be(process.subject()))
        };
        if !is_first && self.starts.facts(own).is_some_and(runs) {
            match self.later(own, &process) {
                Later::Within => return,
                Later::Open => return self.follow(cgroup, process, sight),
                Later::Another => {}
            }
        }
        let start = self.account(cgroup, &path, &process, sight);
        self.confirm(start, process);
        self.let_go_above(&path);
        self.may_have_left |= start != own;
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
        let is_another = |facts: &Facts| {
            let known = facts.process.as_ref();
            known.is_some_and(|known| !leads(&self.proc, process, known))
        };
        let start = if self.starts.facts(own).is_some_and(is_another) {
            StartId {
                process: Some(process.subject()),
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
        self.cgroups.take(cgroup);
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
            let known = facts.process.as_ref();
            !facts.removed && known.is_none_or(|known| !known.is_known_other(process))
        };
        let mut starts = self.starts.of_process(process.subject());
        starts.find(|(_, facts)| is_its(facts)).map(|(id, _)| id)
    }

    /// Whether a container runs in a cgroup above this path.
    fn runs_above(&self, path: &str) -> bool {
        let above = cgroup_path::above(path);
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
            && self.cgroups.take(id).is_some()
        {
            self.control.forget(id);
        }
    }

    /// Whether the cgroup of a start had processes before the container's first one. That is asked
    /// once: later, root can move an older process into a container's own cgroup.
    pub(super) fn is_shared(&self, start: StartId, first: &Process) -> bool {
        let Some(facts) = self.starts.facts(start) else {
            return false;
        };
        let is_known = facts.process.as_ref().is_some_and(|known| known.is_first);
        if is_known || !first.is_first || first.leads_pid_namespace || start.process.is_some() {
            return false;
        }
        let has_older = || {
            let Ok(others) = self.hierarchy.processes_below(&facts.cgroup) else {
                return true;
            };
            let is_older = |other: Subject| other.runs(&self.proc) && other.started < first.started;
            let few = others.iter().take(MOST_OTHERS);
            let mut few = few.map(|pid| Subject::now(&self.proc, *pid));
            // Of more, one may be older; a container that has just begun has few.
            others.len() > MOST_OTHERS || few.any(is_older)
        };
        self.budget.spend(has_older).unwrap_or(true)
    }

    /// Ends containers whose processes have ended, whether or not their cgroups still exist.
    pub(super) fn end_what_left(&mut self) {
        let is_over = |(id, start): &(StartId, &Start)| {
            let facts = start.facts();
            let others = || {
                let is_there = self.hierarchy.id_of(&facts.cgroup) == Some(id.cgroup);
                let below = || self.hierarchy.processes_below(&facts.cgroup);
                if is_there { below() } else { Ok(Vec::new()) }
            };
            let process = facts.process.as_ref().filter(|process| process.is_first);
            let ends_with_first = id.process.is_some() || start.is_shared;
            process.is_some_and(|it| {
                has_ended(&self.proc, it, ends_with_first, |first| {
                    // What is not looked at now is looked at later.
                    self.budget
                        .spend(|| has_others(&self.proc, first, others))
                        .unwrap_or(true)
                })
            })
        };
        let alive = self.starts.alive().filter(is_over);
        let ended: Vec<_> = alive.map(|(start, _)| start).collect();
        for start in ended {
            self.observe(start, Evidence::Removed);
        }
        self.may_have_left |= self.budget.is_spent();
    }

    /// Ends those of the containers whose process does not run either: root can move a process to
    /// another cgroup and remove its own.
    pub(super) fn end_without_cgroup(&mut self, starts: Vec<StartId>) {
        for start in starts {
            let process = self.starts.facts(start).and_then(|it| it.process.as_ref());
            if !process.is_some_and(|process| process.subject().runs(&self.proc)) {
                self.observe(start, Evidence::Removed);
            }
        }
    }
}

/// Whether `process` is the first one of the container in which a walk found `known`: a walk may find
/// any process of a container. A younger one is not, and a runtime lists a container's first process
/// even if the others have lost their parents.
fn leads(proc: &Path, process: &Process, known: &Process) -> bool {
    if known.by != Confirmation::Walk || known.is_first {
        return false;
    }
    let is_younger = || match (process.started, known.started) {
        (Some(process), Some(known)) => process > known,
        _ => true,
    };
    // Another process may have the pid of one that has ended.
    let is_alive = known.subject().is_alive(proc);
    let is_of_runtime = matches!(process.by, Confirmation::Runtime | Confirmation::Reported);
    let is_in_its_namespace =
        || !is_alive || process::share_pid_namespace(proc, process.pid, known.pid);
    (is_alive && process::ancestors(proc, known.pid).any(|above| above == process.pid))
        || (is_of_runtime && !is_younger() && is_in_its_namespace())
}

/// Whether a container has ended, by its first process. If that does not lead a pid namespace, and the
/// cgroup is the container's own, the container's `others` may run on in it. A process that is older
/// than the first one is not the container's: somebody moved it there.
fn has_ended(
    proc: &Path,
    first: &Process,
    ends_with_first: bool,
    has_others: impl FnOnce(&Process) -> bool,
) -> bool {
    !first.subject().runs(proc)
        && (ends_with_first || first.leads_pid_namespace || !has_others(first))
}

/// Whether one of the processes in a container's cgroup runs that is not older than its first one; true if
/// there are too many to look at.
fn has_others(proc: &Path, first: &Process, others: impl FnOnce() -> io::Result<Vec<u32>>) -> bool {
    let Ok(others) = others() else {
        return true;
    };
    let few = others.iter().take(MOST_OTHERS);
    let few = few.map(|pid| Subject::now(proc, *pid));
    let mut its = few.filter(|other| other.started >= first.started);
    others.len() > MOST_OTHERS || its.any(|other| other.runs(proc))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pid, state, number of threads and start time of a process.
    type Stat = (u32, char, u32, u64);

    fn proc_of(processes: &[Stat]) -> tempfile::TempDir {
        let proc = tempfile::tempdir().unwrap();
        for (pid, state, threads, started) in processes {
            let folder = proc.path().join(pid.to_string());
            std::fs::create_dir_all(&folder).unwrap();
            let zeros = "0 ".repeat(15);
            let stat = format!("{pid} (x) {state} 1 {zeros}{threads} 0 {started} 4096 1\n");
            std::fs::write(folder.join("stat"), stat).unwrap();
        }
        proc
    }

    #[test]
    fn a_walks_process_gives_way_to_the_first_of_its_own_container_only() {
        // The parent of each process is 1.
        let proc = proc_of(&[(7, 'S', 1, 100), (8, 'S', 1, 200), (9, 'S', 1, 300)]);
        let link = |pid: u32, parent: u32, namespace: &str| {
            let folder = proc.path().join(pid.to_string());
            std::fs::create_dir_all(folder.join("ns")).unwrap();
            std::os::unix::fs::symlink(namespace, folder.join("ns/pid")).unwrap();
            let stat = std::fs::read_to_string(folder.join("stat")).unwrap();
            let stat = stat.replace(") S 1 ", &format!(") S {parent} "));
            std::fs::write(folder.join("stat"), stat).unwrap();
        };
        link(7, 1, "pid:[1]");
        link(8, 7, "pid:[1]");
        link(9, 1, "pid:[2]");
        let process = |pid: u32, by, is_first| Process {
            by,
            time_ns: 0,
            pid,
            comm: None,
            new_pid_namespace: false,
            started: Subject::now(proc.path(), pid).started,
            is_first,
            leads_pid_namespace: false,
            started_ns: None,
        };
        let [exec, runtime, walk] = [
            Confirmation::Exec,
            Confirmation::Runtime,
            Confirmation::Walk,
        ];
        let reused = Process {
            started: Some(400),
            ..process(9, runtime, true)
        };
        let ended = Process {
            started: Some(150),
            ..process(8, walk, false)
        };
        #[rustfmt::skip]
        let rows = [
            ("above another one with its pid", process(7, exec, true), ended,                      false),
            ("its ancestor",                process(7, exec, true),    process(8, walk, false),    true),
            ("its ancestor, as it is known", process(7, exec, true),   process(8, walk, true),     false),
            ("known by the runtime",        process(7, exec, true),    process(8, runtime, false), false),
            ("a younger one",               process(8, exec, true),    process(7, walk, false),    false),
            ("a runtime's, younger",        process(8, runtime, true), process(7, walk, false),    false),
            ("a runtime's, older",          process(7, runtime, true), process(8, walk, false),    true),
            ("in another pid namespace",    process(7, runtime, true), process(9, walk, false),    false),
            ("a younger one with its pid",  reused,                    process(9, walk, false),    false),
        ];
        for (what, process, known, expected) in rows {
            assert_eq!(leads(proc.path(), &process, &known), expected, "{what}");
        }
    }

    #[test]
    fn a_container_ends_with_its_last_process() {
        const FIRST: Stat = (7, 'S', 1, 100);
        const ZOMBIE: Stat = (7, 'Z', 1, 100);
        const LEADER_GONE: Stat = (7, 'Z', 2, 100);
        const ANOTHER: Stat = (7, 'S', 1, 900);
        const CHILD: Stat = (8, 'S', 1, 200);
        const DEAD_CHILD: Stat = (8, 'Z', 1, 200);
        const OLDER: Stat = (9, 'S', 1, 50);
        #[rustfmt::skip]
        let rows = [
            ("its first process runs",             false, false, &[FIRST][..],          false),
            ("another thread of it runs",          false, true,  &[LEADER_GONE],        false),
            ("it is a zombie",                     false, true,  &[ZOMBIE],             true),
            ("its pid is another process's",       false, true,  &[ANOTHER],            true),
            ("all have ended",                     false, false, &[],                   true),
            ("others run on",                      false, false, &[CHILD],              false),
            ("others are zombies",                 false, false, &[ZOMBIE, DEAD_CHILD], true),
            ("an older one was moved there",       false, false, &[OLDER, CHILD],       false),
            ("only that one is left",              false, false, &[OLDER],              true),
            ("others in a shared cgroup",          true,  false, &[OLDER, CHILD],       true),
            ("others, but it led a pid namespace", false, true,  &[CHILD],              true),
        ];
        for (what, ends_with_first, leads_pid_namespace, processes, expected) in rows {
            let proc = proc_of(processes);
            let first = Process {
                by: Confirmation::Runtime,
                time_ns: 0,
                pid: 7,
                comm: None,
                new_pid_namespace: leads_pid_namespace,
                started: Some(100),
                is_first: true,
                leads_pid_namespace,
                started_ns: None,
            };
            let others = || Ok(processes.iter().map(|process| process.0).collect());
            let ended = has_ended(proc.path(), &first, ends_with_first, |first| {
                has_others(proc.path(), first, others)
            });
            assert_eq!(ended, expected, "{what}");
        }
    }
}
