//! Follows the tasks of a containerd: lists them once, then reads events.

use crate::evidence::EvidenceError;
use crate::evidence::containerd::{Containerd, TaskEventKind, TaskRecord, TaskStatus};
use crate::facts::Sight;
use crate::probe::Reader;
use std::pin::pin;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::sleep;

/// Pause before reconnecting to a containerd that does not answer.
const RECONNECT: Duration = Duration::from_secs(1);

/// A subscription becomes active some time after the request, and containerd does not report when.
const BEFORE_LIST: Duration = Duration::from_millis(100);

/// How long to wait for the kernel's report of a start: its exec is the start itself, with its
/// time, and the runtime's event may overtake it.
pub const KERNEL_FIRST: Duration = Duration::from_millis(20);

/// Sends the tasks of a containerd until the receiver is gone: each one that is made, and each
/// start `grace` after its event. The socket may appear later, and the daemon may restart: starts
/// that were missed meanwhile are found in its list. Every event wakes the reader of the kernel's
/// events.
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
            // Polled first, so that the subscription is sent before the list is requested.
            biased;
            event = events.next() => {
                let event = event?;
                // A cgroup was made or removed just before; for a container about to start, this is
                // a head start.
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
                    // When the agent stops, the receiver is gone.
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
