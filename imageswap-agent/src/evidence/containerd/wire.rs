//! The few fields of containerd's messages that are used here.
//!
//! Numbers from `api/services/*/v1/*.proto`, `api/types/*.proto` and `api/events/task.proto` of
//! github.com/containerd/containerd, which have not changed since 1.0; other fields are skipped
//! when decoding. A message whose first field is a text, and the only one that is used, is a `String`;
//! one of which no field is used is `()`.

use bytes::Bytes;
use prost::Message;

use crate::evidence::labels::{Keys, Labels};
use crate::evidence::sandbox;

/// What the CRI plugin says about a container. Whoever creates a Pod can give its sandbox any number of
/// others, also with these prefixes.
const OF_CONTAINER: [&str; 5] = [
    sandbox::KIND,
    "io.kubernetes.container.name",
    "io.kubernetes.pod.name",
    "io.kubernetes.pod.namespace",
    "io.kubernetes.pod.uid",
];

/// Those of a container, [`OF_CONTAINER`].
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct OfContainer;

impl Keys for OfContainer {
    fn has(key: &str) -> bool {
        OF_CONTAINER.contains(&key)
    }
}

/// Where content was pulled from.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct OfContent;

impl Keys for OfContent {
    fn has(key: &str) -> bool {
        key.starts_with(super::SOURCE_LABEL)
    }
}

/// `google.protobuf.Any`. containerd 1.6 does not check that a type is UTF-8, and would end the stream of
/// events if it had to be.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Any {
    #[prost(bytes = "bytes", tag = "1")]
    pub(super) type_url: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    pub(super) value: Bytes,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ListNamespacesResponse {
    #[prost(message, repeated, tag = "1")]
    pub(super) namespaces: Vec<Namespace>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Namespace {
    #[prost(string, tag = "1")]
    pub(super) name: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Container {
    #[prost(string, tag = "1")]
    pub(super) id: String,
    #[prost(message, optional, tag = "2")]
    pub(super) labels: Option<Labels<OfContainer>>,
    #[prost(string, tag = "3")]
    pub(super) image: String,
    /// JSON of the OCI runtime specification.
    #[prost(message, optional, tag = "5")]
    pub(super) spec: Option<Any>,
    #[prost(string, tag = "6")]
    pub(super) snapshotter: String,
    #[prost(string, tag = "7")]
    pub(super) snapshot_key: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct GetContainerResponse {
    #[prost(message, optional, tag = "1")]
    pub(super) container: Option<Container>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ListTasksResponse {
    #[prost(message, repeated, tag = "1")]
    pub(super) tasks: Vec<Process>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct GetTaskResponse {
    #[prost(message, optional, tag = "1")]
    pub(super) process: Option<Process>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct SnapshotRequest {
    #[prost(string, tag = "1")]
    pub(super) snapshotter: String,
    #[prost(string, tag = "2")]
    pub(super) key: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct StatSnapshotResponse {
    #[prost(message, optional, tag = "1")]
    pub(super) info: Option<Snapshot>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Snapshot {
    #[prost(string, tag = "2")]
    pub(super) parent: String,
    #[prost(message, optional, tag = "4")]
    pub(super) created_at: Option<Timestamp>,
}

/// `google.protobuf.Timestamp`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Timestamp {
    #[prost(int64, tag = "1")]
    pub(super) seconds: i64,
    #[prost(int32, tag = "2")]
    pub(super) nanos: i32,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct MountsResponse {
    #[prost(message, repeated, tag = "1")]
    pub(super) mounts: Vec<Mount>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Mount {
    #[prost(string, tag = "1")]
    pub(super) kind: String,
    #[prost(string, tag = "2")]
    pub(super) source: String,
    #[prost(string, repeated, tag = "4")]
    pub(super) options: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ReadContentResponse {
    #[prost(bytes = "vec", tag = "2")]
    pub(super) data: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Process {
    #[prost(string, tag = "1")]
    pub(super) container_id: String,
    #[prost(string, tag = "2")]
    pub(super) id: String,
    #[prost(uint32, tag = "3")]
    pub(super) pid: u32,
    /// `containerd.v1.types.Status`.
    #[prost(int32, tag = "4")]
    pub(super) status: i32,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Image {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(message, optional, tag = "3")]
    pub(super) target: Option<Descriptor>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Descriptor {
    #[prost(string, tag = "2")]
    pub(super) digest: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct GetImageResponse {
    #[prost(message, optional, tag = "1")]
    pub(super) image: Option<Image>,
}

/// Asks for images or events.
#[derive(Clone, PartialEq, Message)]
pub(super) struct ListRequest {
    #[prost(string, repeated, tag = "1")]
    pub(super) filters: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ListImagesResponse {
    #[prost(message, repeated, tag = "1")]
    pub(super) images: Vec<Image>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct InfoResponse {
    #[prost(message, optional, tag = "1")]
    pub(super) info: Option<Info>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Info {
    #[prost(message, optional, tag = "5")]
    pub(super) labels: Option<Labels<OfContent>>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Envelope {
    #[prost(bytes = "bytes", tag = "2")]
    pub(super) namespace: Bytes,
    #[prost(message, optional, tag = "4")]
    pub(super) event: Option<Any>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct TaskCreate {
    #[prost(string, tag = "1")]
    pub(super) container_id: String,
    #[prost(uint32, tag = "6")]
    pub(super) pid: u32,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct TaskStart {
    #[prost(string, tag = "1")]
    pub(super) container_id: String,
    #[prost(uint32, tag = "2")]
    pub(super) pid: u32,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct TaskExit {
    #[prost(string, tag = "1")]
    pub(super) container_id: String,
    /// The process: the container's id, or that of an `exec`.
    #[prost(string, tag = "2")]
    pub(super) id: String,
    #[prost(uint32, tag = "3")]
    pub(super) pid: u32,
    #[prost(uint32, tag = "4")]
    pub(super) exit_status: u32,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct TaskDelete {
    #[prost(string, tag = "1")]
    pub(super) container_id: String,
    #[prost(uint32, tag = "2")]
    pub(super) pid: u32,
    /// As in [`TaskExit`], or empty for the container itself.
    #[prost(string, tag = "5")]
    pub(super) id: String,
}
