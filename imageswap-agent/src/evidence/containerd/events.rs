//! containerd's event stream, reduced to starts and ends.

use std::future::Future;
use std::pin::Pin;

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
}

/// What happened to a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaskEventKind {
    /// The container was made, and its process is about to be started.
    Create,
    /// The runtime reports that the container's process was started.
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
/// Ended after an error: subscribe again, and find what was missed meanwhile in the lists.
pub struct TaskEvents {
    transport: Transport,
    state: State,
    /// Whether a long event was left out.
    was_long: bool,
}

enum State {
    Opening(Pin<Box<dyn Future<Output = Opened> + Send>>),
    Open(Box<Streaming<wire::Envelope>>),
    Ended,
}

type Opened = Result<Streaming<wire::Envelope>, EvidenceError>;

const SUBSCRIBE: Method = "/containerd.services.events.v1.Events/Subscribe";

/// An event has to match one of these filters, in containerd's filter language.
const TOPICS: [&str; 4] = [
    r#"topic=="/tasks/create""#,
    r#"topic=="/tasks/start""#,
    r#"topic=="/tasks/exit""#,
    r#"topic=="/tasks/delete""#,
];

/// An event has the mounts of a task, in a few KB at most. Any client of containerd can publish one
/// of megabytes.
const LARGEST_EVENT: usize = 64 << 10;

/// containerd's own limit for ids and namespaces is 76 bytes.
const LONGEST_NAME: usize = 255;

impl TaskEvents {
    pub(super) fn new(transport: Transport) -> Self {
        let opening = transport.clone();
        let open = async move {
            let filters = TOPICS.map(str::to_owned).to_vec();
            opening
                .subscribe(SUBSCRIBE, wire::ListRequest { filters }, LARGEST_EVENT)
                .await
        };
        Self {
            transport,
            state: State::Opening(Box::pin(open)),
            was_long: false,
        }
    }

    /// The next event. May be dropped at any time without losing one.
    ///
    /// Fails when the daemon is not there, stops, or breaks the connection, and
    /// from then on with [`EvidenceError::Ended`].
    pub async fn next(&mut self) -> Result<TaskEvent, EvidenceError> {
        loop {
            match self.receive().await {
                Ok(envelope) => {
                    if let Some(event) = self.decode(envelope) {
                        return Ok(event);
                    }
                }
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

    /// Any client of containerd can publish an event that is not understood, or a long one, which
    /// arrives empty. It is left out, and the stream goes on.
    fn decode(&mut self, envelope: wire::Envelope) -> Option<TaskEvent> {
        if envelope == wire::Envelope::default() && !std::mem::replace(&mut self.was_long, true) {
            let socket = self.transport.socket().display();
            tracing::warn!(%socket, "events of more than {LARGEST_EVENT} bytes are left out");
        }
        let decoded = decode(envelope).inspect_err(|message| {
            let socket = self.transport.socket().display();
            tracing::debug!(%socket, error = %message, "an event of containerd is left out");
        });
        decoded.ok().flatten()
    }
}

impl std::fmt::Debug for TaskEvents {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TaskEvents")
            .field("transport", &self.transport)
            .finish_non_exhaustive()
    }
}

/// `None` for events that do not concern a container's first process, such as an `exec`.
fn decode(envelope: wire::Envelope) -> Result<Option<TaskEvent>, String> {
    let Some(event) = envelope.event else {
        return Ok(None);
    };
    let value: &[u8] = &event.value;
    let kind = String::from_utf8_lossy(&event.type_url);
    let broken = |error: prost::DecodeError| format!("{kind} does not decode: {error}");
    // Some encoders write a host before the type's name.
    let decoded = match kind.rsplit('/').next().unwrap_or_default() {
        "containerd.events.TaskCreate" => {
            let create = wire::TaskCreate::decode(value).map_err(broken)?;
            Some((create.container_id, create.pid, TaskEventKind::Create))
        }
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
    let namespace = std::str::from_utf8(&envelope.namespace)
        .map_err(|error| format!("the namespace of a {kind} is not UTF-8: {error}"))?;
    let names = decoded.iter().map(|(id, ..)| id.as_str());
    if names.chain([namespace]).any(|it| it.len() > LONGEST_NAME) {
        return Err(format!("{kind} has a name that is too long"));
    }
    Ok(decoded.map(|(container_id, pid, kind)| TaskEvent {
        namespace: namespace.to_owned(),
        container_id,
        pid,
        kind,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn envelope(type_url: &str, event: &impl prost::Message) -> wire::Envelope {
        wire::Envelope {
            namespace: "default".into(),
            event: Some(wire::Any {
                type_url: type_url.to_owned().into(),
                value: event.encode_to_vec().into(),
            }),
        }
    }

    fn exit(id: &str) -> wire::TaskExit {
        wire::TaskExit {
            container_id: "web".into(),
            id: id.into(),
            pid: 7,
            exit_status: 137,
        }
    }

    fn delete(id: &str) -> wire::TaskDelete {
        wire::TaskDelete {
            container_id: "web".into(),
            pid: 7,
            id: id.into(),
        }
    }

    #[test]
    fn tells_starts_and_ends_of_containers_alone() {
        let start = wire::TaskStart {
            container_id: "web".into(),
            pid: 7,
        };
        let create = wire::TaskCreate {
            container_id: "web".into(),
            pid: 7,
        };
        let exited = TaskEventKind::Exit { status: 137 };
        let cases = [
            (
                envelope("containerd.events.TaskCreate", &create),
                Some(TaskEventKind::Create),
            ),
            (
                envelope("containerd.events.TaskStart", &start),
                Some(TaskEventKind::Start),
            ),
            (
                envelope("type.googleapis.com/containerd.events.TaskStart", &start),
                Some(TaskEventKind::Start),
            ),
            (
                envelope("containerd.events.TaskExit", &exit("web")),
                Some(exited),
            ),
            (
                envelope("containerd.events.TaskExit", &exit("exec-1")),
                None,
            ),
            (
                envelope("containerd.events.TaskDelete", &delete("")),
                Some(TaskEventKind::Delete),
            ),
            (
                envelope("containerd.events.TaskDelete", &delete("web")),
                Some(TaskEventKind::Delete),
            ),
            (
                envelope("containerd.events.TaskDelete", &delete("exec-1")),
                None,
            ),
            (envelope("containerd.events.TaskPaused", &start), None),
            (wire::Envelope::default(), None),
        ];
        for (envelope, expected) in cases {
            let said = format!("{envelope:?}");
            let event = decode(envelope).unwrap();
            assert_eq!(event.as_ref().map(|event| event.kind), expected, "{said}");
            if let Some(event) = event {
                assert_eq!(
                    (event.namespace.as_str(), event.container_id.as_str()),
                    ("default", "web")
                );
                assert_eq!(event.pid, 7);
            }
        }
    }

    #[test]
    fn an_event_that_does_not_decode_is_named() {
        let mut broken = envelope("containerd.events.TaskStart", &exit("web"));
        broken.event.as_mut().unwrap().value = vec![0x0a, 0xff].into();
        let message = decode(broken).unwrap_err();
        assert!(
            message.starts_with("containerd.events.TaskStart does not decode"),
            "{message}"
        );
        let mut strange = envelope("", &exit("web"));
        strange.namespace = vec![0xff].into();
        let message = decode(strange).unwrap_err();
        assert!(message.contains("not UTF-8"), "{message}");
    }

    #[tokio::test]
    async fn has_ended_after_an_error() {
        let transport = Transport::new(
            "/nonexistent.sock".into(),
            std::time::Duration::from_secs(1),
        );
        let mut events = TaskEvents::new(transport);
        let first = events.next().await.unwrap_err();
        assert!(
            matches!(first, EvidenceError::Unreachable { .. }),
            "{first:?}"
        );
        for _ in 0..2 {
            let next = events.next().await.unwrap_err();
            assert!(matches!(next, EvidenceError::Ended { .. }), "{next:?}");
        }
    }
}
