//! What a containerd says of its tasks: the list once, then the events, for ever.

use crate::evidence::EvidenceError;
use crate::evidence::containerd::{Containerd, TaskEventKind, TaskRecord, TaskStatus};
use crate::facts::Sight;
use crate::probe::Reader;
use std::pin::pin;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::sleep;

/// How long a containerd that does not answer is left alone.
const RECONNECT: Duration = Duration::from_secs(1);

/// A subscription holds some time after it was asked for, and containerd does not say when.
const BEFORE_LIST: Duration = Duration::from_millis(100);

/// How long the kernel has to tell of a start first where it can: its exec is the start itself, with its time, and
/// the runtime's word of it may overtake it.
pub const KERNEL_FIRST: Duration = Duration::from_millis(20);

/// Sends the tasks of a containerd until nobody listens: each that is made, and each start `grace` after it was told. Its socket may appear
/// later, and it may be restarted: what started while nobody followed it is found in its list. Whatever it tells, the
/// reader of the kernel's events is to look.
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
    sight: Sight,
    grace: Duration,
    told: &mut bool,
) -> Result<(), EvidenceError> {
    let mut events = containerd.events();
    let mut list = pin!(async {
        sleep(BEFORE_LIST).await;
        containerd.tasks().await
    });
    let mut listed = false;
    loop {
        tokio::select! {
            // Polled first, so that the subscription is on its way before the list is asked for.
            biased;
            event = events.next() => {
                let event = event?;
                // A cgroup was made or removed just before; of a container that is about to start that is a head start.
                reader.nudge();
                let (status, grace) = match event.kind {
                    TaskEventKind::Create => (TaskStatus::Created, Duration::ZERO),
                    TaskEventKind::Start => (TaskStatus::Running, grace),
                    TaskEventKind::Exit { .. } | TaskEventKind::Delete => continue,
                };
                let task = TaskRecord {
                    namespace: event.namespace,
                    socket: containerd.socket().to_owned(),
                    id: event.container_id,
                    pid: event.pid,
                    status,
                };
                let tasks = tasks.clone();
                tokio::spawn(async move {
                    sleep(grace).await;
                    // Nobody is left to listen when the agent stops.
                    drop(tasks.send((task, Sight::Event)).await);
                });
            }
            all = &mut list, if !listed => {
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
