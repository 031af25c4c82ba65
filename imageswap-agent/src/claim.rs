//! What one source says about a container. The modules of the sources translate their records to this.

use crate::pods::PodName;
use crate::words::words;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

words! {
    /// The source of a claim, most trusted first.
    pub enum Source {
        /// The CRI plugin's status of the container.
        Cri = "cri",
        /// containerd's record of the container.
        Containerd = "containerd",
        /// Docker's record of the container.
        Docker = "docker",
        /// root's podman store.
        Podman = "podman",
        /// State that runc or crun keeps.
        Runc = "runc",
        /// Records of a user's podman or Docker, which that user can write.
        User = "user",
        /// Annotations in the OCI bundle, which any maker of a bundle can write.
        Bundle = "oci-annotation",
    }
}

impl Source {
    /// Whether only root can write its records.
    pub const fn may_approve(self) -> bool {
        match self {
            Self::Cri | Self::Containerd | Self::Docker | Self::Podman | Self::Runc => true,
            Self::User | Self::Bundle => false,
        }
    }
}

/// What kind of container it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// An ordinary container.
    Container,
    /// A pod's sandbox ("pause").
    Sandbox,
}

impl Kind {
    /// A sandbox, or else an ordinary container.
    pub const fn of(is_sandbox: bool) -> Self {
        if is_sandbox {
            Self::Sandbox
        } else {
            Self::Container
        }
    }
}

/// What the name of the image is based on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Naming {
    /// The reference that was asked for.
    AsAsked,
    /// One of the names that the digest has on this node, chosen by the runtime.
    AnyOfDigest,
}

impl Naming {
    /// The reference that was asked for, or else any name of the digest.
    pub const fn of(as_asked: bool) -> Self {
        if as_asked {
            Self::AsAsked
        } else {
            Self::AnyOfDigest
        }
    }
}

/// Whether a container runs on the layers of the image that a source names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// Yes, by the source's own record of its root file system.
    Its,
    /// No, or the source does not have the image or root file system.
    Another,
    /// No: the process had another root file system than the one that the runtime made for it.
    OfAnotherRoot,
    /// The source does not record that.
    Unknown,
}

impl Content {
    /// Whether it is the image's, if the source records that.
    pub const fn of(is_its: bool) -> Self {
        if is_its { Self::Its } else { Self::Another }
    }

    /// Whether it is not the image's.
    pub const fn is_another(self) -> bool {
        matches!(self, Self::Another | Self::OfAnotherRoot)
    }
}

/// A repository that content was pulled from, with the host of the requested reference (not of the
/// mirror that may have served it).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ContentSource {
    /// The registry's host.
    pub host: String,
    /// The repository in it.
    pub repository: String,
    /// Whether `host` includes the reference's port. containerd leaves it out.
    pub has_port: bool,
}

impl ContentSource {
    /// The repository as a reference without tag and digest.
    pub fn name(&self) -> String {
        format!("{}/{}", self.host, self.repository)
    }

    /// Whether it can be this repository, named without tag and digest.
    pub fn can_be(&self, name: &str) -> bool {
        let parts = name.split_once('/');
        parts.is_some_and(|(host, repository)| self.is_at(host) && repository == self.repository)
    }

    /// Whether it can be at this host.
    pub fn is_at(&self, host: &str) -> bool {
        let without_port = host
            .rsplit_once(':')
            .filter(|(_, port)| !port.ends_with(']'));
        let name = without_port.map_or(host, |(name, _)| name);
        // containerd removes the brackets of an IPv6 address, as URLs do.
        let bare = name.trim_start_matches('[').trim_end_matches(']');
        host == self.host || (!self.has_port && (name == self.host || bare == self.host))
    }
}

/// An attempt to ask the sources. A later one is better informed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Attempt {
    /// Whether the container's program had begun. Until then, clients of the runtime can put another root
    /// in the place of the container's.
    pub has_begun: bool,
    /// Its number.
    pub number: u32,
}

/// One source's description of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// The source.
    pub source: Source,
    /// Answers of a source to later attempts replace earlier ones.
    pub attempt: Attempt,
    /// Container id as the source spells it.
    pub id: String,
    /// The runtime, such as `containerd`.
    pub runtime: &'static str,
    /// Namespace within the runtime (containerd's), not Kubernetes'.
    pub runtime_namespace: Option<String>,
    /// What kind of container it is, if the source knows.
    pub kind: Option<Kind>,
    /// Whether it was made through the CRI.
    pub through_cri: bool,
    /// Name of the image.
    pub image: Option<String>,
    /// What `image` is based on.
    pub naming: Naming,
    /// All names that the digest has on this node.
    pub names: BTreeSet<String>,
    /// Whether the digest has more names, which were too many to keep: an unread name approves
    /// nothing.
    pub names_left_out: bool,
    /// Digest of the image's manifest or index.
    pub digest: Option<String>,
    /// Whether the container runs on that image's layers.
    pub content: Content,
    /// The repositories that the image's content was pulled from, if the source records that; empty
    /// for an image that was built, imported or loaded.
    pub pulled_from: Option<Vec<ContentSource>>,
    /// Whether that is known of all the image's layers but not of the image: another image may be
    /// made of the same layers.
    pub only_layers: bool,
    /// Name of the container in its pod.
    pub container_name: Option<String>,
    /// The pod, if the source names one.
    pub pod: Option<PodName>,
    /// The pod's labels, if the source has them and they are not too long.
    pub labels: Option<Arc<BTreeMap<String, String>>>,
    /// The pod's note from when the pod was made ([`imageswap_policy::note`]).
    pub note: Option<Arc<str>>,
    /// Whether the pod comes from a file on the node, if the source knows.
    pub static_pod: Option<bool>,
    /// Whether the CRI lists this sandbox without its process: it was made or started again. `None` if
    /// the source does not know.
    pub is_again: Option<bool>,
}

impl Claim {
    /// A claim that only identifies source and container.
    pub fn new(source: Source, id: impl Into<String>, runtime: &'static str) -> Self {
        Self {
            source,
            attempt: Attempt::default(),
            id: id.into(),
            runtime,
            runtime_namespace: None,
            kind: None,
            through_cri: false,
            image: None,
            naming: Naming::AsAsked,
            names: BTreeSet::new(),
            names_left_out: false,
            digest: None,
            content: Content::Unknown,
            pulled_from: None,
            only_layers: false,
            container_name: None,
            pod: None,
            labels: None,
            note: None,
            static_pod: None,
            is_again: None,
        }
    }
}
