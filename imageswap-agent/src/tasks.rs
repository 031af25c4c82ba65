//! Follows the tasks of a containerd: lists them once, then reads events.

use crate::evidence::EvidenceError;
use crate::evidence::containerd::{Containerd, TaskEventKind, TaskRecord, TaskStatus};
use crate::facts::Sight;
use crate::probe::Reader;
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until};

/// Pause before reconnecting to a containerd that does not answer.
const RECONNECT: Duration = Duration::from_secs(1);

/// A subscription becomes active some time after the request, and containerd does not report when.
const BEFORE_LIST: Duration = Duration::from_millis(100);

/// How long to wait for the kernel's report of a start: its exec is the start itself, with its
/// time, and the runtime's event may overtake it.
pub const KERNEL_FIRST: Duration = Duration::from_millis(20);

/// Started tasks that wait to be sent; more than a node starts in that time.
const MOST_WAITING: usize = 256;

/// Started tasks that a containerd is asked about at a time.
const CONFIRMING: usize = 4;

/// New tasks that are sent in each period; more than a node makes.
const MOST_MADE: usize = 256;
const PERIOD: Duration = Duration::from_millis(100);

/// Sends the tasks of a containerd until the receiver is gone: each one that is made, and each
/// start that containerd confirms, `grace` after its event. The socket may appear later, and the
/// daemon may restart: starts that were missed meanwhile are found in its list. Every event wakes
/// the reader of the kernel's events. `unlisted` grows by the starts that were forgotten if the list
/// does not come.
pub async fn follow(
    containerd: Containerd,
    tasks: mpsc::Sender<(TaskRecord, Sight)>,
    reader: Reader,
    grace: Duration,
    unlisted: Arc<AtomicU64>,
) {
    let mut sight = Sight::Initial;
    let mut state = State {
        told: false,
        started: Waiting::default(),
        forgotten: Forgotten::default(),
        unlisted,
    };
    while !tasks.is_closed() {
        let followed = follow_once(&containerd, &tasks, &reader, sight, grace, &mut state).await;
        if let Err(error) = followed {
            state.failed(&error);
        }
        sight = Sight::Reconciled;
        sleep(RECONNECT).await;
    }
}

/// What is known from one subscription to the next.
struct State {
    /// Whether it was reported that the containerd cannot be followed.
    told: bool,
    started: Waiting,
    forgotten: Forgotten,
    unlisted: Arc<AtomicU64>,
}

impl State {
    /// The events or the list cannot be had.
    fn failed(&mut self, error: &EvidenceError) {
        self.unlisted.fetch_add(self.forgotten.unlisted(), Relaxed);
        if !std::mem::replace(&mut self.told, true) {
            tracing::warn!(%error, "cannot follow a containerd; trying again every second");
        }
    }
}

/// Starts that were forgotten because too many waited.
#[derive(Default)]
struct Forgotten {
    /// Since the last list was requested.
    since: u64,
    /// Before that: the list has those that still run.
    covered: u64,
}

impl Forgotten {
    /// A list is requested.
    fn request(&mut self) {
        self.covered += std::mem::take(&mut self.since);
    }

    /// The list came.
    fn listed(&mut self) {
        self.covered = 0;
    }

    /// The list does not come. Returns how many starts it would have covered, and those since.
    fn unlisted(&mut self) -> u64 {
        std::mem::take(&mut self.covered) + std::mem::take(&mut self.since)
    }
}

async fn follow_once(
    containerd: &Containerd,
    tasks: &mpsc::Sender<(TaskRecord, Sight)>,
    reader: &Reader,
    mut sight: Sight,
    grace: Duration,
    state: &mut State,
) -> Result<(), EvidenceError> {
    let mut events = containerd.events();
    let list = |pause| async move {
        sleep(pause).await;
        containerd.tasks().await
    };
    let mut listing = Box::pin(list(BEFORE_LIST));
    let mut listed = false;
    let mut made = Rate::default();
    let mut confirming = FuturesUnordered::new();
    let ended = loop {
        if listed && state.forgotten.since > 0 {
            state.forgotten.request();
            listed = false;
            sight = Sight::Reconciled;
            listing = Box::pin(list(BEFORE_LIST));
        }
        let due = state.started.due();
        // Not in a fixed order: events can come faster than they are handled.
        tokio::select! {
            event = events.next() => {
                let event = match event {
                    Ok(event) => event,
                    Err(error) => break Err(error),
                };
                // A cgroup was made or removed just before; for a container about to start, this is
                // a head start.
                reader.nudge();
                let now = Instant::now();
                let status = match event.kind {
                    TaskEventKind::Create => TaskStatus::Created,
                    TaskEventKind::Start => TaskStatus::Running,
                    TaskEventKind::Exit { .. } | TaskEventKind::Delete => continue,
                };
                let task = TaskRecord {
                    namespace: event.namespace,
                    socket: containerd.socket().to_owned(),
                    id: event.container_id,
                    pid: event.pid,
                    status,
                };
                if status == TaskStatus::Running {
                    state.forgotten.since += state.started.push(now + grace, task);
                } else if made.is_within(now) && tasks.send((task, Sight::Event)).await.is_err() {
                    return Ok(());
                }
            }
            () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() && confirming.len() < CONFIRMING => {
                confirming.extend(state.started.pop().map(|task| confirmed(containerd, task)));
            }
            Some(task) = confirming.next(), if !confirming.is_empty() => {
                if let Some(task) = task && tasks.send((task, Sight::Event)).await.is_err() {
                    return Ok(());
                }
            }
            all = &mut listing, if !listed => match all {
                Ok(all) => {
                    listed = true;
                    state.forgotten.listed();
                    if std::mem::take(&mut state.told) {
                        tracing::info!(socket = %containerd.socket().display(), "following containerd again");
                    }
                    for task in all.into_iter().filter(|task| task.status.has_started() && task.pid != 0) {
                        if tasks.send((task, sight)).await.is_err() {
                            return Ok(());
                        }
                    }
                }
                // The events go on: one task that hangs can keep the list from coming.
                Err(error) => {
                    state.failed(&error);
                    sight = Sight::Reconciled;
                    listing = Box::pin(list(RECONNECT));
                }
            }
        }
    };
    // Each has a deadline, and no list may come that has them.
    while let Some(task) = confirming.next().await {
        if let Some(task) = task
            && tasks.send((task, Sight::Event)).await.is_err()
        {
            return Ok(());
        }
    }
    ended
}

/// A started task, unless containerd answers that it has another process: any client of containerd
/// can publish an event. Its state is what containerd answers. A task that is gone may have been a short
/// one, whose process has ended.
async fn confirmed(containerd: &Containerd, task: TaskRecord) -> Option<TaskRecord> {
    let known = containerd.task(&task.namespace, &task.id).await;
    let with = |status| Some(TaskRecord { status, ..task });
    match known {
        Ok(Some(known)) if known.pid != task.pid && known.pid != 0 => None,
        Ok(Some(known)) if known.pid != 0 => with(known.status),
        Ok(_) => with(TaskStatus::Stopped),
        Err(_) => with(TaskStatus::Unknown),
    }
}

/// Started tasks that wait for the kernel's report, the first one to come due in front.
#[derive(Default)]
struct Waiting(VecDeque<(Instant, TaskRecord)>);

impl Waiting {
    /// Adds a task. If there are too many, all are forgotten: containerd's list has them, too.
    /// Returns how many were.
    fn push(&mut self, due: Instant, task: TaskRecord) -> u64 {
        let forgotten = if self.0.len() < MOST_WAITING {
            0
        } else {
            self.0.drain(..).count() as u64
        };
        self.0.push_back((due, task));
        forgotten
    }

    fn due(&self) -> Option<Instant> {
        self.0.front().map(|(due, _)| *due)
    }

    fn pop(&mut self) -> Option<TaskRecord> {
        self.0.pop_front().map(|(_, task)| task)
    }
}

/// Limits reports of new tasks. A container whose report is left out is asked about when it begins.
#[derive(Default)]
struct Rate {
    since: Option<Instant>,
    count: usize,
}

impl Rate {
    fn is_within(&mut self, now: Instant) -> bool {
        if self.since.is_none_or(|since| now >= since + PERIOD) {
            self.since = Some(now);
            self.count = 0;
        }
        self.count += 1;
        self.count <= MOST_MADE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(pid: u32) -> TaskRecord {
        TaskRecord {
            namespace: "default".to_owned(),
            socket: "/c.sock".into(),
            id: "x".to_owned(),
            pid,
            status: TaskStatus::Running,
        }
    }

    #[test]
    fn what_waits_is_bounded() {
        let mut waiting = Waiting::default();
        let due = Instant::now();
        let most = u32::try_from(MOST_WAITING).unwrap();
        assert!((0..most).all(|pid| waiting.push(due, task(pid)) == 0));
        assert_eq!(waiting.push(due, task(most)), u64::from(most));
        assert_eq!(waiting.pop().map(|task| task.pid), Some(most));
        assert_eq!(waiting.due(), None);
    }

    #[test]
    fn what_no_list_has_is_counted_once() {
        let mut forgotten = Forgotten::default();
        forgotten.since += 3;
        forgotten.request();
        forgotten.since += 2;
        forgotten.listed();
        assert_eq!(forgotten.unlisted(), 2, "the list covers the first ones");
        forgotten.since += 4;
        forgotten.request();
        forgotten.since += 1;
        assert_eq!(forgotten.unlisted(), 5, "no list came");
        assert_eq!(forgotten.unlisted(), 0);
    }

    #[test]
    fn new_tasks_are_limited_in_each_period() {
        let mut rate = Rate::default();
        let now = Instant::now();
        let within =
            |rate: &mut Rate, now| (0..10 * MOST_MADE).filter(|_| rate.is_within(now)).count();
        assert_eq!(within(&mut rate, now), MOST_MADE);
        assert_eq!(within(&mut rate, now + PERIOD / 2), 0);
        assert_eq!(within(&mut rate, now + PERIOD), MOST_MADE);
    }
}
