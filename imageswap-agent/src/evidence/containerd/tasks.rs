//! The tasks of a containerd.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures::{StreamExt as _, TryStreamExt as _, stream};
use tokio::sync::{Mutex, Semaphore};
use tokio::time::{Instant, timeout};

use super::{Containerd, wire};
use crate::evidence::EvidenceError;
use crate::evidence::transport::{DEADLINE, LARGEST_LIST};

/// Namespaces whose tasks are listed at the same time. Starts need calls meanwhile.
const AT_ONCE: usize = 4;

/// Calls at the same time that a containerd may pass on to shims. A shim that hangs holds up each of
/// them until its deadline; other calls need turns meanwhile.
const OF_SHIMS: usize = 12;

const LIST: &str = "/containerd.services.tasks.v1.Tasks/List";

/// Limits the calls that containerd passes on to shims.
#[derive(Clone, Debug)]
pub(super) struct Shims(Arc<Semaphore>);

impl Default for Shims {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(OF_SHIMS)))
    }
}

/// Tasks, or why they could not be listed.
type Answer = Result<Arc<[TaskRecord]>, Arc<EvidenceError>>;

/// The last list that was made for starts, and when it was begun.
pub(super) type Listed = Arc<Mutex<Option<(Instant, Answer)>>>;

/// A container that has a process, or had one that was not collected yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskRecord {
    /// containerd's namespace.
    pub namespace: String,
    /// The socket of the containerd that reports it.
    pub socket: PathBuf,
    /// The container's id.
    pub id: String,
    /// The first process as the host numbers it; 0 once it is gone.
    pub pid: u32,
    /// The state of the task.
    pub status: TaskStatus,
}

/// The state of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaskStatus {
    /// containerd does not know, or uses a state that this agent does not know.
    Unknown,
    /// Prepared; the image's process has not run yet.
    Created,
    /// Running.
    Running,
    /// Its process has ended.
    Stopped,
    /// Frozen.
    Paused,
    /// About to be frozen.
    Pausing,
}

impl TaskStatus {
    /// Whether the container's own process has ever been started.
    pub const fn has_started(self) -> bool {
        !matches!(self, Self::Unknown | Self::Created)
    }

    /// Whether the task has a process. containerd also returns the pid of a process that has ended.
    pub const fn has_process(self) -> bool {
        !matches!(self, Self::Unknown | Self::Stopped)
    }
}

impl Containerd {
    /// The tasks of all namespaces.
    pub async fn tasks(&self) -> Result<Vec<TaskRecord>, EvidenceError> {
        let namespaces = stream::iter(self.namespaces().await?);
        let lists = namespaces.map(|namespace| self.tasks_in(namespace));
        lists.buffer_unordered(AT_ONCE).try_concat().await
    }

    /// The tasks of all namespaces at a moment after this call. Callers that wait at the same time
    /// get one list, within one deadline: clients of containerd can make any number of namespaces.
    pub async fn tasks_from_now(&self) -> Answer {
        let called = Instant::now();
        let mut newest = self.listed.lock().await;
        if let Some((begun, list)) = &*newest
            && *begun > called
        {
            return list.clone();
        }
        let begun = Instant::now();
        let list = match timeout(DEADLINE, self.tasks()).await {
            Ok(list) => list.map(Arc::from).map_err(Arc::from),
            Err(_elapsed) => {
                self.check();
                Err(Arc::new(self.transport.timeout(LIST)))
            }
        };
        *newest = Some((begun, list.clone()));
        list
    }

    async fn tasks_in(&self, namespace: String) -> Result<Vec<TaskRecord>, EvidenceError> {
        // It is never closed.
        let _turn = self.shims.0.acquire().await;
        let answer: wire::ListTasksResponse = self
            .transport
            .with_limit(LARGEST_LIST)
            .ask(LIST, Some(&namespace), ())
            .await?;
        let tasks = answer.tasks.into_iter();
        Ok(tasks
            .map(|task| TaskRecord::of(self.socket(), &namespace, task))
            .collect())
    }

    /// The task of one container, if it has one.
    pub async fn task(
        &self,
        namespace: &str,
        id: &str,
    ) -> Result<Option<TaskRecord>, EvidenceError> {
        let _turn = self.shims.0.acquire().await;
        let answer: Option<wire::GetTaskResponse> = self
            .transport
            .call(
                "/containerd.services.tasks.v1.Tasks/Get",
                Some(namespace),
                id.to_owned(),
            )
            .await?;
        let process = answer.and_then(|answer| answer.process);
        Ok(process.map(|process| TaskRecord::of(self.socket(), namespace, process)))
    }
}

impl TaskRecord {
    pub(super) fn of(socket: &Path, namespace: &str, task: wire::Process) -> Self {
        // The list fills only `id`; `container_id` is for the processes of `exec`.
        let id = if task.container_id.is_empty() {
            task.id
        } else {
            task.container_id
        };
        let status = match task.status {
            1 => TaskStatus::Created,
            2 => TaskStatus::Running,
            3 => TaskStatus::Stopped,
            4 => TaskStatus::Paused,
            5 => TaskStatus::Pausing,
            _ => TaskStatus::Unknown,
        };
        Self {
            namespace: namespace.to_owned(),
            socket: socket.to_owned(),
            id,
            pid: task.pid,
            status,
        }
    }
}
