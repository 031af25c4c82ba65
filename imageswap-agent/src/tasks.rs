//! Follows the tasks of a containerd: lists them once, then reads events.

use crate::evidence::EvidenceError;
use crate::evidence::containerd::{Containerd, TaskEventKind, TaskRecord, TaskStatus};
use crate::facts::Sight;
use crate::probe::Reader;
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use std::collections::VecDeque;
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
/// the reader of the kernel's events.
pub async fn follow(
    containerd: Containerd,
    tasks: mpsc::Sender<(TaskRecord, Sight)>,
    reader: Reader,
    grace: Duration,
) {
    let mut sight = Sight::Initial;
    let mut told = false;
    while !tasks.is_closed() {
        if let Err(error) = follow_once(&containerd, &tasks, &reader, sight, grace, &mut told).await
            && !told
        {
            tracing::warn!(%error, "cannot follow a containerd; trying again every second");
            told = true;
        }
        sight = Sight::Reconciled;
        sleep(RECONNECT).await;
    }
}

async fn follow_once(
    containerd: &Containerd,
    tasks: &mpsc::Sender<(TaskRecord, Sight)>,
    reader: &Reader,
    mut sight: Sight,
    grace: Duration,
    told: &mut bool,
) -> Result<(), EvidenceError> {
    let mut events = containerd.events();
    let list = || async {
        sleep(BEFORE_LIST).await;
        containerd.tasks().await
    };
    let mut listing = Box::pin(list());
    let mut listed = false;
    // Whether starts were forgotten since the list was requested.
    let mut is_incomplete = false;
    let mut started = Waiting::default();
    let mut made = Rate::default();
    let mut confirming = FuturesUnordered::new();
    loop {
        if listed && std::mem::take(&mut is_incomplete) {
            listed = false;
            sight = Sight::Reconciled;
            listing = Box::pin(list());
        }
        let due = started.due();
        // Not in a fixed order: events can come faster than they are handled.
        tokio::select! {
            event = events.next() => {
                let event = event?;
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
                    is_incomplete |= !started.push(now + grace, task);
                } else if made.is_within(now) && tasks.send((task, Sight::Event)).await.is_err() {
                    return Ok(());
                }
            }
            () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() && confirming.len() < CONFIRMING => {
                confirming.extend(started.pop().map(|task| confirmed(containerd, task)));
            }
            Some(task) = confirming.next(), if !confirming.is_empty() => {
                if let Some(task) = task && tasks.send((task, Sight::Event)).await.is_err() {
                    return Ok(());
                }
            }
            all = &mut listing, if !listed => {
                listed = true;
                let all = all?;
                if *told {
                    tracing::info!(socket = %containerd.socket().display(), "following containerd again");
                    *told = false;
                }
                for task in all.into_iter().filter(|task| task.status.has_started() && task.pid != 0) {
                    if tasks.send((task, sight)).await.is_err() {
                        return Ok(());
                    }
                }
            }
        }
    }
}

/// A started task, unless containerd answers that it has another process: any client of containerd
/// can publish an event. A task that is gone may have been a short one, whose process has ended.
async fn confirmed(containerd: &Containerd, task: TaskRecord) -> Option<TaskRecord> {
    match containerd.task(&task.namespace, &task.id).await {
        Ok(Some(known)) if known.pid != task.pid && known.pid != 0 => None,
        Ok(Some(known)) if known.pid != 0 && known.status != TaskStatus::Stopped => Some(task),
        Ok(_) => Some(TaskRecord {
            status: TaskStatus::Stopped,
            ..task
        }),
        Err(_) => Some(task),
    }
}

/// Started tasks that wait for the kernel's report, the first one to come due in front.
#[derive(Default)]
struct Waiting(VecDeque<(Instant, TaskRecord)>);

impl Waiting {
    /// Adds a task. If there are too many, all are forgotten: containerd's list has them, too.
    fn push(&mut self, due: Instant, task: TaskRecord) -> bool {
        let has_room = self.0.len() < MOST_WAITING;
        if !has_room {
            self.0.clear();
        }
        self.0.push_back((due, task));
        has_room
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
        assert!((0..most).all(|pid| waiting.push(due, task(pid))));
        assert!(!waiting.push(due, task(most)), "the list is asked for");
        assert_eq!(waiting.pop().map(|task| task.pid), Some(most));
        assert_eq!(waiting.due(), None);
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
