//! containerd's event stream, as far as it tells of starts and ends.

use std::future::Future;
use std::pin::Pin;
use std::time::SystemTime;

use prost::Message as _;
use tonic::Streaming;

use super::wire;
use crate::evidence::EvidenceError;
use crate::evidence::transport::{Method, Transport};

/// The first process of a container started or ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskEvent {
    /// containerd's namespace.
    pub namespace: String,
    /// The container's id.
    pub container_id: String,
    /// Its first process as the host numbers it.
    pub pid: u32,
    /// What happened.
    pub kind: TaskEventKind,
    /// When containerd took the event, by the node's clock.
    pub time: Option<SystemTime>,
}

/// What happened to a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaskEventKind {
    /// The container's process was started: the runtime's word for it.
    Start,
    /// It ended.
    Exit {
        /// The exit status; 128 and the signal's number after a signal.
        status: u32,
    },
    /// containerd has forgotten the task.
    Delete,
}

/// The stream of [`TaskEvent`]s of all namespaces, in containerd's order.
///
/// After an error it has ended; a new one is to be asked for, and what was
/// missed meanwhile is found in the lists.
pub struct TaskEvents {
    transport: Transport,
    state: State,
}

enum State {
    Opening(Pin<Box<dyn Future<Output = Opened> + Send>>),
    Open(Box<Streaming<wire::Envelope>>),
    Ended,
}

type Opened = Result<Streaming<wire::Envelope>, EvidenceError>;

const SUBSCRIBE: Method = "/containerd.services.events.v1.Events/Subscribe";

/// An event has to match one of these, in containerd's filter language.
const TOPICS: [&str; 3] = [
    r#"topic=="/tasks/start""#,
    r#"topic=="/tasks/exit""#,
    r#"topic=="/tasks/delete""#,
];

impl TaskEvents {
    pub(super) fn new(transport: Transport) -> Self {
        let opening = transport.clone();
        let open = async move {
            let filters = TOPICS.map(str::to_owned).to_vec();
            opening
                .subscribe(SUBSCRIBE, wire::SubscribeRequest { filters })
                .await
        };
        Self {
            transport,
            state: State::Opening(Box::pin(open)),
        }
    }

    /// The next event. May be dropped at any time without losing one.
    ///
    /// Fails when the daemon is not there, stops, or breaks the connection, and
    /// from then on with [`EvidenceError::Ended`].
    pub async fn next(&mut self) -> Result<TaskEvent, EvidenceError> {
        loop {
            match self
                .receive()
                .await
                .and_then(|envelope| self.decode(envelope))
            {
                Ok(Some(event)) => return Ok(event),
                Ok(None) => {}
                Err(error) => {
                    self.state = State::Ended;
                    return Err(error);
                }
            }
        }
    }

    async fn receive(&mut self) -> Result<wire::Envelope, EvidenceError> {
        if let State::Opening(opening) = &mut self.state {
            self.state = State::Open(Box::new(opening.as_mut().await?));
        }
        let ended = || EvidenceError::Ended {
            socket: self.transport.socket().to_owned(),
        };
        let State::Open(stream) = &mut self.state else {
            return Err(ended());
        };
        match stream.message().await {
            Ok(envelope) => envelope.ok_or_else(ended),
            Err(status) => Err(self.transport.failure(SUBSCRIBE, status)),
        }
    }

    fn decode(&self, envelope: wire::Envelope) -> Result<Option<TaskEvent>, EvidenceError> {
        decode(envelope).map_err(|message| self.transport.protocol(SUBSCRIBE, message))
    }
}

impl std::fmt::Debug for TaskEvents {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TaskEvents")
            .field("transport", &self.transport)
            .finish_non_exhaustive()
    }
}

/// `None` for what tells of no container's first process, such as an `exec`.
fn decode(envelope: wire::Envelope) -> Result<Option<TaskEvent>, String> {
    let Some(event) = envelope.event else {
        return Ok(None);
    };
    let value = event.value.as_slice();
    let broken = |error: prost::DecodeError| format!("{} does not decode: {error}", event.type_url);
    // Some encoders write a host before the type's name.
    let decoded = match event.type_url.rsplit('/').next().unwrap_or_default() {
        "containerd.events.TaskStart" => {
            let start = wire::TaskStart::decode(value).map_err(broken)?;
            Some((start.container_id, start.pid, TaskEventKind::Start))
        }
        "containerd.events.TaskExit" => {
            let exit = wire::TaskExit::decode(value).map_err(broken)?;
            (exit.id == exit.container_id).then_some((
                exit.container_id,
                exit.pid,
                TaskEventKind::Exit {
                    status: exit.exit_status,
                },
            ))
        }
        "containerd.events.TaskDelete" => {
            let delete = wire::TaskDelete::decode(value).map_err(broken)?;
            (delete.id.is_empty() || delete.id == delete.container_id).then_some((
                delete.container_id,
                delete.pid,
                TaskEventKind::Delete,
            ))
        }
        _ => None,
    };
    Ok(decoded.map(|(container_id, pid, kind)| TaskEvent {
        namespace: envelope.namespace,
        container_id,
        pid,
        kind,
        time: envelope.timestamp.and_then(wire::Timestamp::to_system_time),
    }))
}
