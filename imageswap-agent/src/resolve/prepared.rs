//! Tasks that a containerd reports as made, asked about before their programs begin.
//!
//! Every client of a containerd can publish such reports: any number of them, about any process. So
//! few are asked about at a time, everything that waits is bounded, and what does not fit is left
//! out: its container is asked about when it begins. A start comes before reports: it takes those
//! about its own process out of the queue.

use super::Asked;
use super::described::Described;
use crate::evidence::containerd::TaskRecord;
use crate::process::Subject;
use std::collections::{HashMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// Reports about which one containerd is asked at a time: fewer than its calls at a time, so that
/// questions about starts always get their turns.
const AT_ONCE: usize = 8;

/// Reports of one containerd that wait for their turn.
const MOST_WAITING: usize = 256;

/// Reports about one process that wait for their turn.
const MOST_OF_ONE: usize = 4;

/// Answers that wait for their start, and the bytes of their claims: more than a node starts at a
/// time.
const MOST_KEPT: usize = 1024;
const ALL_KEPT: usize = 8 << 20;

/// Reported tasks, and the answers about them.
#[derive(Clone, Default)]
pub(super) struct Prepared {
    tasks: Arc<Mutex<Tasks>>,
    /// Signalled when a question about a report has ended.
    ended: Arc<Notify>,
}

#[derive(Default)]
struct Tasks {
    /// By socket.
    reports: HashMap<PathBuf, Reports>,
    /// How many reports are waiting or being asked about, by pid.
    under_way: HashMap<u32, usize>,
    /// By pid.
    kept: HashMap<u32, (u64, Kept)>,
    /// What those take.
    bytes: usize,
    /// Answers kept so far.
    count: u64,
}

#[derive(Default)]
struct Reports {
    asking: usize,
    waiting: VecDeque<(TaskRecord, Subject)>,
}

/// What is known of a reported task.
pub(super) struct Kept {
    /// The process that had the task's pid when the report arrived.
    pub process: Subject,
    pub answer: KeptAnswer,
}

pub(super) enum KeptAnswer {
    /// The process was the task's.
    Joined(Box<Described>, Asked),
    /// Task and process were gone. The record is read if a start needs it.
    Gone(TaskRecord),
}

impl Kept {
    fn bytes(&self) -> usize {
        match &self.answer {
            KeptAnswer::Joined(described, _) => described.bytes(),
            KeptAnswer::Gone(task) => task.id.len(),
        }
    }

    const fn is_joined(&self) -> bool {
        matches!(self.answer, KeptAnswer::Joined(..))
    }
}

/// A report whose turn it is, until this is dropped.
pub(super) struct Report {
    prepared: Prepared,
    pub task: TaskRecord,
    pub process: Subject,
    has_turn: bool,
}

impl Drop for Report {
    fn drop(&mut self) {
        let mut tasks = self.prepared.lock();
        tasks.left(self.task.pid);
        self.prepared.ended.notify_waiters();
        if self.has_turn
            && let Some(reports) = tasks.reports.get_mut(&self.task.socket)
        {
            reports.asking -= 1;
        }
    }
}

impl Tasks {
    fn remove(&mut self, pid: u32) -> Option<Kept> {
        let (_, kept) = self.kept.remove(&pid)?;
        self.bytes -= kept.bytes();
        Some(kept)
    }

    fn left(&mut self, pid: u32) {
        if let Some(count) = self.under_way.get_mut(&pid) {
            *count -= 1;
            if *count == 0 {
                self.under_way.remove(&pid);
            }
        }
    }
}

impl Prepared {
    /// Takes a report in. Returns one whose turn it is, if any.
    pub(super) fn report(&self, task: TaskRecord, process: Subject) -> Option<Report> {
        let (socket, pid) = (task.socket.clone(), task.pid);
        let mut tasks = self.lock();
        let waiting = &mut tasks.reports.entry(socket.clone()).or_default().waiting;
        let is_same = |it: &(TaskRecord, Subject)| it.0.pid == pid;
        let same = waiting.iter().filter(|it| is_same(it)).count();
        let out = if same >= MOST_OF_ONE {
            waiting.iter().position(is_same)
        } else {
            (waiting.len() >= MOST_WAITING).then_some(0)
        };
        let left_out = out.and_then(|at| waiting.remove(at));
        waiting.push_back((task, process));
        *tasks.under_way.entry(pid).or_default() += 1;
        if let Some((task, _)) = left_out {
            tasks.left(task.pid);
            self.ended.notify_waiters();
        }
        drop(tasks);
        self.next(&socket)
    }

    /// The next report of this containerd, if there is a turn left.
    pub(super) fn next(&self, socket: &Path) -> Option<Report> {
        let mut tasks = self.lock();
        let reports = tasks.reports.get_mut(socket)?;
        if reports.asking >= AT_ONCE {
            return None;
        }
        let (task, process) = reports.waiting.pop_front()?;
        reports.asking += 1;
        drop(tasks);
        Some(Report {
            prepared: self.clone(),
            task,
            process,
            has_turn: true,
        })
    }

    /// Takes the waiting reports about a process out of the queue.
    pub(super) fn waiting(&self, pid: u32) -> Vec<Report> {
        let mut tasks = self.lock();
        if !tasks.under_way.contains_key(&pid) {
            return Vec::new();
        }
        let mut found = Vec::new();
        for reports in tasks.reports.values_mut() {
            while let Some(at) = reports.waiting.iter().position(|it| it.0.pid == pid) {
                found.extend(reports.waiting.remove(at));
            }
        }
        drop(tasks);
        let report = |(task, process)| Report {
            prepared: self.clone(),
            task,
            process,
            has_turn: false,
        };
        found.into_iter().map(report).collect()
    }

    /// Waits until no report about this process is waiting or being asked about.
    pub(super) async fn ended(&self, pid: u32) {
        loop {
            // A signal after this line is not missed.
            let ended = self.ended.notified();
            if !self.is_under_way(pid) {
                return;
            }
            ended.await;
        }
    }

    fn is_under_way(&self, pid: u32) -> bool {
        self.lock().under_way.contains_key(&pid)
    }

    /// Whether the answer about this process is known.
    pub(super) fn is_joined(&self, process: Subject) -> bool {
        let tasks = self.lock();
        let known = tasks.kept.get(&process.pid);
        known.is_some_and(|(_, known)| known.process == process && known.is_joined())
    }

    pub(super) fn keep(&self, kept: Kept) {
        let mut tasks = self.lock();
        let pid = kept.process.pid;
        let known = tasks.kept.get(&pid).map(|(_, known)| known);
        let is_better =
            |known: &Kept| known.process == kept.process && known.is_joined() && !kept.is_joined();
        if known.is_some_and(is_better) {
            return;
        }
        drop(tasks.remove(pid));
        let bytes = kept.bytes();
        while tasks.kept.len() >= MOST_KEPT || tasks.bytes + bytes > ALL_KEPT {
            let order = |(_, (at, kept)): &(&u32, &(u64, Kept))| (kept.is_joined(), *at);
            let oldest = tasks.kept.iter().min_by_key(order).map(|(pid, _)| *pid);
            if oldest.and_then(|pid| tasks.remove(pid)).is_none() {
                break;
            }
        }
        tasks.bytes += bytes;
        tasks.count += 1;
        let at = tasks.count;
        tasks.kept.insert(pid, (at, kept));
    }

    /// What is known of the reported task with this process, or with one that may be this process.
    pub(super) fn take(&self, process: Subject) -> Option<Kept> {
        let kept = self.lock().remove(process.pid)?;
        kept.process.may_be(process).then_some(kept)
    }

    fn lock(&self) -> MutexGuard<'_, Tasks> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evidence::containerd::TaskStatus;

    fn task(socket: &str, id: &str, pid: u32) -> TaskRecord {
        TaskRecord {
            namespace: "default".to_owned(),
            socket: socket.into(),
            id: id.to_owned(),
            pid,
            status: TaskStatus::Created,
        }
    }

    fn process(pid: u32) -> Subject {
        Subject {
            pid,
            started: Some(1),
        }
    }

    fn gone(pid: u32) -> Kept {
        Kept {
            process: process(pid),
            answer: KeptAnswer::Gone(task("/a.sock", "x", pid)),
        }
    }

    fn joined(pid: u32) -> Kept {
        Kept {
            process: process(pid),
            answer: KeptAnswer::Joined(
                Box::new(Described::of_nothing(process(pid))),
                Asked::default(),
            ),
        }
    }

    #[test]
    fn a_flood_of_reports_neither_grows_nor_delays_another_containerd() {
        let prepared = Prepared::default();
        let flood = 2000;
        let turns: Vec<_> = (1..=flood)
            .filter_map(|pid| prepared.report(task("/a.sock", "decoy", pid), process(pid)))
            .collect();
        assert_eq!(turns.len(), AT_ONCE);
        assert!(
            prepared
                .report(task("/b.sock", "x", 1), process(1))
                .is_some()
        );
        let tasks = prepared.lock();
        assert_eq!(
            tasks.reports[Path::new("/a.sock")].waiting.len(),
            MOST_WAITING
        );
        assert_eq!(tasks.under_way.len(), AT_ONCE + MOST_WAITING);
        drop(tasks);
        // The newest have stayed, each end makes room for the next, and nothing is left in the end.
        assert!(prepared.is_under_way(flood) && !prepared.is_under_way(flood / 2));
        drop(turns);
        let mut rest = 0;
        while let Some(turn) = prepared.next(Path::new("/a.sock")) {
            assert!(prepared.is_under_way(turn.task.pid));
            rest += 1;
        }
        assert_eq!(rest, MOST_WAITING);
        let tasks = prepared.lock();
        assert!(tasks.under_way.is_empty());
        assert!(tasks.reports.values().all(|reports| reports.asking == 0));
    }

    #[test]
    fn a_start_takes_the_reports_about_its_process_out_of_the_queue() {
        let prepared = Prepared::default();
        let turns: Vec<_> = (1..=20)
            .filter_map(|pid| prepared.report(task("/a.sock", "decoy", pid), process(pid)))
            .collect();
        for at in 0..10 {
            let id = format!("of-15-{at}");
            assert!(
                prepared
                    .report(task("/a.sock", &id, 15), process(15))
                    .is_none()
            );
        }
        let found = prepared.waiting(15);
        let ids: Vec<_> = found.iter().map(|report| &*report.task.id).collect();
        assert_eq!(ids, ["of-15-6", "of-15-7", "of-15-8", "of-15-9"]);
        assert!(prepared.is_under_way(15));
        drop(found);
        assert!(!prepared.is_under_way(15));
        assert!(prepared.waiting(99).is_empty());
        drop(turns);
        assert_eq!(prepared.lock().reports[Path::new("/a.sock")].asking, 0);
    }

    #[test]
    fn the_oldest_that_is_not_joined_goes_first() {
        let prepared = Prepared::default();
        prepared.keep(joined(1));
        for pid in 2..=5000 {
            prepared.keep(gone(pid));
        }
        assert_eq!(prepared.lock().kept.len(), MOST_KEPT);
        assert!(prepared.is_joined(process(1)));
        assert!(prepared.take(process(2)).is_none());
        assert!(prepared.take(process(5000)).is_some());
        for pid in 10_000..20_000 {
            prepared.keep(joined(pid));
        }
        assert_eq!(prepared.lock().kept.len(), MOST_KEPT);
        assert!(prepared.take(process(1)).is_none(), "the oldest of all");
        assert!(prepared.take(process(19_999)).is_some());
    }

    #[test]
    fn long_answers_leave_others_less_room() {
        let prepared = Prepared::default();
        for pid in 1..=5000 {
            let mut described = Described::of_nothing(process(pid));
            described.containerd.names = [format!("{pid} {}", "x".repeat(100 << 10))].into();
            prepared.keep(Kept {
                process: process(pid),
                answer: KeptAnswer::Joined(Box::new(described), Asked::default()),
            });
        }
        let kept = prepared.lock().kept.len();
        assert!((40..=82).contains(&kept), "{kept}");
        assert!(prepared.take(process(5000)).is_some());
        for pid in 1..5000 {
            drop(prepared.take(process(pid)));
        }
        assert_eq!(prepared.lock().bytes, 0);
    }

    #[test]
    fn a_later_report_does_not_replace_a_joined_one() {
        let prepared = Prepared::default();
        prepared.keep(joined(7));
        prepared.keep(gone(7));
        assert!(
            prepared
                .take(process(7))
                .is_some_and(|kept| kept.is_joined())
        );
        prepared.keep(gone(7));
        prepared.keep(joined(7));
        assert!(
            prepared
                .take(process(7))
                .is_some_and(|kept| kept.is_joined())
        );
        // Another process with its pid.
        prepared.keep(joined(7));
        let later = Subject {
            pid: 7,
            started: Some(2),
        };
        assert!(!prepared.is_joined(later));
        assert!(prepared.take(later).is_none());
    }
}
