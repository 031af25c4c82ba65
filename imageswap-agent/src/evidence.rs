//! What the node knows about a container, and which sources to ask.
//!
//! Each source is a module. It returns only what it holds, and translates a record to what that claims
//! about a container; the judge decides which source to trust. A source that cannot be asked is an
//! [`EvidenceError`], never an empty answer: "not found" is `Ok(None)`.
//!
//! | source | holds |
//! |---|---|
//! | [`containerd`] | the container records of every namespace, images, where content came from |
//! | [`cri`] | containers and pod sandboxes as the kubelet made them |
//! | [`bundle`] | the OCI configuration on disk, there before the container's cgroup is |
//! | [`runc`] | the state files of runc and crun, the only record of a plain `runc run` |
//! | [`storage`] | podman's store: containers, and the names of their images |
//! | [`user`] | the same for rootless podman and Docker, which their user can forge |
//! | [`docker`] | what Docker made a container of, and where it pulled that from |
//! | [`root`] | which mount a process's root is, by the kernel |
//! | `sandbox` | whether the OCI configuration of a Pod's sandbox is as usual |
//! | [`discover`] | which sockets there are on this node |

use crate::file::is_absent;
use file::{parse_json, read_json, read_of_root};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub mod bundle;
pub mod containerd;
pub mod cri;
pub mod discover;
pub mod docker;
pub(crate) mod file;
mod gate;
mod kept;
mod labels;
mod layers;
mod list;
pub mod root;
pub mod runc;
pub(crate) mod sandbox;
mod short;
pub(crate) mod spec;
pub mod storage;
mod transport;
pub mod user;

/// The names of an image may take so many bytes of a runtime's answer. An image with a hundred
/// ordinary names takes 30 KB.
const LARGEST_NAMES: usize = 1 << 20;

/// No path is longer (`PATH_MAX`): a longer one in a record leads nowhere.
const LONGEST_PATH: usize = 4096;

/// Why a source of evidence could not be asked, or what was wrong with its answer.
#[derive(Debug, thiserror::Error)]
pub enum EvidenceError {
    /// Nothing answers at the socket.
    #[error("no runtime answers at {}: {source}", socket.display())]
    Unreachable {
        /// The socket's path.
        socket: PathBuf,
        /// The connection's error.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The runtime took longer than the deadline.
    #[error("{call} at {} did not answer within {} ms", socket.display(), after.as_millis())]
    Timeout {
        /// The socket's path.
        socket: PathBuf,
        /// The gRPC method.
        call: &'static str,
        /// The deadline.
        after: Duration,
    },
    /// The runtime has not answered anything for a while, and is not called until it does.
    #[error("the runtime at {} hangs", socket.display())]
    Hangs {
        /// The socket's path.
        socket: PathBuf,
    },
    /// The socket or the file may not be opened.
    #[error("no permission to use {}: {source}", path.display())]
    Denied {
        /// The socket's or the file's path.
        path: PathBuf,
        /// The error of the kernel or the runtime.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The runtime refused the call, or its answer does not decode.
    #[error("{call} at {} failed: {message}", socket.display())]
    Protocol {
        /// The socket's path.
        socket: PathBuf,
        /// The gRPC method.
        call: &'static str,
        /// The status code and message.
        message: String,
    },
    /// The answer is longer than the runtime sends or this agent accepts.
    #[error("the answer to {call} at {} is too large", socket.display())]
    TooLarge {
        /// The socket's path.
        socket: PathBuf,
        /// The gRPC method.
        call: &'static str,
        /// Whether the runtime refused to send it.
        is_refused: bool,
    },
    /// A stream of events ended; further events of the runtime are not seen.
    #[error("the event stream of {} ended", socket.display())]
    Ended {
        /// The socket's path.
        socket: PathBuf,
    },
    /// A file could not be read.
    #[error("cannot read {}: {source}", path.display())]
    Unreadable {
        /// The file's path.
        path: PathBuf,
        /// The kernel's error.
        source: io::Error,
    },
    /// Files could not be read in time.
    #[error("files of the node could not be read within {} ms", after.as_millis())]
    SlowFiles {
        /// The deadline.
        after: Duration,
    },
    /// A folder has more entries than are read.
    #[error("{} has more than {limit} entries; the others are not read", path.display())]
    TooMany {
        /// The folder's path.
        path: PathBuf,
        /// How many are read.
        limit: usize,
    },
    /// So many processes may run a program that not all were looked at.
    #[error("too many processes of this node may run {program}: not all were looked at")]
    TooManyProcesses {
        /// The program's name.
        program: &'static str,
    },
    /// A file or a field does not have the expected format.
    #[error("{} is not valid: {message}", path.display())]
    Malformed {
        /// The file's path.
        path: PathBuf,
        /// What is wrong, with line and column if known.
        message: String,
    },
}

/// The names of a folder's entries, and why they may be incomplete: more than `limit` are not read.
/// A folder that does not exist has none.
fn entries(folder: &Path, limit: usize) -> (Vec<String>, Option<EvidenceError>) {
    let unreadable = |source: io::Error| {
        let path = folder.to_owned();
        if source.kind() == io::ErrorKind::PermissionDenied {
            let source = Box::new(source);
            EvidenceError::Denied { path, source }
        } else {
            EvidenceError::Unreadable { path, source }
        }
    };
    let listing = match std::fs::read_dir(folder) {
        Ok(listing) => listing,
        Err(source) if is_absent(&source) => return (Vec::new(), None),
        Err(source) => return (Vec::new(), Some(unreadable(source))),
    };
    let (mut names, mut unread) = (Vec::new(), None);
    for entry in listing {
        let name = match entry {
            Ok(entry) => entry.file_name().into_string(),
            Err(source) => {
                unread = Some(unreadable(source));
                break;
            }
        };
        match name {
            Ok(name) if names.len() < limit => names.push(name),
            Ok(_) => {
                let path = folder.to_owned();
                unread = Some(EvidenceError::TooMany { path, limit });
                break;
            }
            Err(name) => {
                unread = Some(EvidenceError::Malformed {
                    path: folder.join(name),
                    message: "its name is not UTF-8".to_owned(),
                });
            }
        }
    }
    (names, unread)
}

/// Whether `name` is one path component, so that an id from a cgroup path or an event cannot escape
/// the folder that it is looked up in.
fn is_component(name: &str) -> bool {
    !name.is_empty() && name != "." && name != ".." && !name.contains(['/', '\0'])
}

/// Maps an absolute path of the host to the path under `host_root`.
fn on_host(host_root: &Path, path: &Path) -> PathBuf {
    host_root.join(path.strip_prefix("/").unwrap_or(path))
}
