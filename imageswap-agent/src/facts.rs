//! What is known of one start, folded from evidence in whatever order it came.

use crate::container::{CgroupIdentity, RuntimeHint, classify};
use crate::evidence::containerd::ContentSource;
use crate::pods::{Ownership, PodRecord};
use crate::process::Subject;
use std::collections::{BTreeMap, BTreeSet};

/// Stands for all sources that cannot be reached where no socket of any runtime is known.
pub const NO_SOCKET: &str = "no runtime socket";

/// Which start is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StartId {
    /// Inode number of the cgroup's directory.
    pub cgroup: u64,
    /// The first process of a container that was put into a cgroup which was another one's; none for the one whose
    /// cgroup it is.
    pub put: Option<u32>,
}

impl StartId {
    /// The start whose cgroup it is.
    pub const fn of(cgroup: u64) -> Self {
        Self { cgroup, put: None }
    }
}

impl std::fmt::Display for StartId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.put {
            Some(pid) => write!(f, "{}.{pid}", self.cgroup),
            None => write!(f, "{}", self.cgroup),
        }
    }
}

/// One piece of evidence about a start. Observing the same twice changes nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Evidence {
    /// The cgroup was seen.
    Seen(Sight),
    /// A process of the container runs (or ran).
    Confirmed(Process),
    /// A source says what the container is.
    Claim(Box<Claim>),
    /// What the API server says of the Pod that the container claims to belong to.
    Pod(Ownership),
    /// Every source has been asked; those that did not answer are named.
    Settled {
        /// Which asking it was; a later one is better informed.
        attempt: u32,
        /// Sources that could not be reached, such as a socket's path.
        unreachable: BTreeSet<String>,
    },
    /// The cgroup was removed.
    Removed,
}

/// How a start came to the agent's notice; the earlier ones in this order win.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sight {
    /// The kernel or the runtime told of it.
    Event,
    /// It ran already when the agent started.
    Initial,
    /// A later look at the node found it.
    Reconciled,
}

/// Who says that the container's own process runs; the earlier ones in this order win.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Confirmation {
    /// An exec in the new cgroup, in another mount namespace than the runtime's.
    Exec,
    /// The runtime's task event, or its list.
    Runtime,
    /// A process in the cgroup that is not the runtime's own.
    Walk,
}

/// The process that confirms a start.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Process {
    /// Who says so.
    pub by: Confirmation,
    /// Nanoseconds since boot.
    pub time_ns: u64,
    /// Process id in the initial pid namespace.
    pub pid: u32,
    /// Name of the task, where it could be read.
    pub comm: Option<String>,
    /// Whether its pid namespace is known to differ from its parent's.
    pub new_pid_namespace: bool,
    /// When it began, in ticks since boot; none where it was gone before that was read.
    pub started: Option<u64>,
    /// Whether it is the container's first process, and not any process of it.
    pub is_first: bool,
}

impl Process {
    /// The process, told from others that had its pid before.
    pub const fn subject(&self) -> Subject {
        Subject {
            pid: self.pid,
            started: self.started,
        }
    }
}

/// Who makes a claim, most trusted first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// The CRI plugin's status of the container.
    Cri,
    /// containerd's record of the container.
    Containerd,
    /// Docker's record of the container.
    Docker,
    /// Podman's store, of root's.
    Podman,
    /// State that runc or crun keeps.
    Runc,
    /// Annotations in the OCI bundle: whoever made the bundle wrote them.
    Bundle,
}

impl Source {
    /// The source as findings spell it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cri => "cri",
            Self::Containerd => "containerd",
            Self::Docker => "docker",
            Self::Podman => "podman",
            Self::Runc => "runc",
            Self::Bundle => "oci-annotation",
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

/// Whose words the name of the image is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Naming {
    /// The reference that was asked for.
    AsAsked,
    /// One of the names that the digest has on this node, chosen by the runtime.
    AnyOfDigest,
}

/// Whether a container runs on the layers of the image that a source names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// It does, by the source's own record of its root file system.
    Its,
    /// It does not, or the source has no such image or root file system.
    Another,
    /// The source does not keep that.
    Unknown,
}

/// Where a container belongs in Kubernetes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pod {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// UID; of a static pod the hash that the kubelet made up.
    pub uid: String,
}

/// What one source says of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// Who says so.
    pub source: Source,
    /// Which asking it comes from; what a source said later replaces what it said before.
    pub attempt: u32,
    /// Container id as the source spells it.
    pub id: String,
    /// The runtime, such as `containerd`.
    pub runtime: &'static str,
    /// Namespace within the runtime (containerd's), not Kubernetes'.
    pub runtime_namespace: Option<String>,
    /// What kind of container it is, where the source knows.
    pub kind: Option<Kind>,
    /// Whether it was made through the CRI.
    pub through_cri: bool,
    /// Name of the image.
    pub image: Option<String>,
    /// Whose words `image` is.
    pub naming: Naming,
    /// All names that the digest has on this node.
    pub names: BTreeSet<String>,
    /// Digest of the image's manifest or index.
    pub digest: Option<String>,
    /// Whether that is what runs.
    pub content: Content,
    /// The repositories that the image's content was pulled from, where the source keeps that; none for an image
    /// that was built, imported or loaded.
    pub pulled_from: Option<Vec<ContentSource>>,
    /// Whether that is known of all the image's layers, and not of the image: another one may be made of the same.
    pub only_layers: bool,
    /// Name of the container in its pod.
    pub container_name: Option<String>,
    /// The pod, where the source names one.
    pub pod: Option<Pod>,
    /// The pod's labels, where the source has them.
    pub labels: Option<BTreeMap<String, String>>,
    /// The pod's note as it was when the pod was made ([`imageswap_policy::note`]).
    pub note: Option<String>,
    /// Whether the pod comes from a file on the node, where the source says.
    pub static_pod: Option<bool>,
}

impl Claim {
    /// A claim that says nothing but who makes it, about which container.
    pub fn new(source: Source, id: impl Into<String>, runtime: &'static str) -> Self {
        Self {
            source,
            attempt: 0,
            id: id.into(),
            runtime,
            runtime_namespace: None,
            kind: None,
            through_cri: false,
            image: None,
            naming: Naming::AsAsked,
            names: BTreeSet::new(),
            digest: None,
            content: Content::Unknown,
            pulled_from: None,
            only_layers: false,
            container_name: None,
            pod: None,
            labels: None,
            note: None,
            static_pod: None,
        }
    }
}

/// The outcome of asking every source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settled {
    /// Which asking it was.
    pub attempt: u32,
    /// Sources that did not answer.
    pub unreachable: BTreeSet<String>,
}

/// Everything known of one start. Two agents that observed the same evidence in any order hold equal facts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// Path of the container's own cgroup.
    pub cgroup: String,
    /// What the path looks like.
    pub identity: CgroupIdentity,
    /// How it came to notice.
    pub sight: Option<Sight>,
    /// The process that confirms it.
    pub process: Option<Process>,
    /// What the sources say, most trusted first.
    pub claims: BTreeMap<Source, Claim>,
    /// The pod, once the API server was asked or told of it.
    pub pod: Option<Ownership>,
    /// `Some` once every source has been asked.
    pub settled: Option<Settled>,
    /// Whether the cgroup is gone.
    pub removed: bool,
}

impl Facts {
    /// Nothing known but the cgroup.
    pub fn new(cgroup: &str) -> Self {
        Self {
            cgroup: cgroup.to_owned(),
            identity: classify(cgroup),
            sight: None,
            process: None,
            claims: BTreeMap::new(),
            pod: None,
            settled: None,
            removed: false,
        }
    }

    /// Nothing known of a container that was put into this cgroup: the path tells of another one.
    pub fn put_into(cgroup: &str) -> Self {
        Self {
            identity: CgroupIdentity::HOST,
            ..Self::new(cgroup)
        }
    }

    /// Takes evidence in.
    pub fn observe(&mut self, evidence: Evidence) {
        match evidence {
            Evidence::Seen(sight) => {
                self.sight = Some(self.sight.map_or(sight, |known| known.min(sight)));
            }
            Evidence::Confirmed(process) => {
                self.process = Some(match self.process.take() {
                    Some(known) => known.min(process),
                    None => process,
                });
            }
            Evidence::Claim(claim) => {
                let known = self.claims.get(&claim.source);
                if known.is_none_or(|known| known.attempt <= claim.attempt) {
                    self.claims.insert(claim.source, *claim);
                }
            }
            Evidence::Pod(ownership) => {
                let is_news = match (&self.pod, &ownership) {
                    (None, _) | (Some(Ownership::Absent), Ownership::Known(_)) => true,
                    (Some(Ownership::Known(old)), Ownership::Known(new)) => {
                        old.version <= new.version
                    }
                    // A Pod that was deleted since has been its owner all the same.
                    (Some(_), Ownership::Absent) => false,
                };
                if is_news {
                    self.pod = Some(ownership);
                }
            }
            // A source that answered on a later attempt is no longer unreachable.
            Evidence::Settled {
                attempt,
                unreachable,
            } => {
                let known = self.settled.as_ref();
                if known.is_none_or(|known| known.attempt <= attempt) {
                    self.settled = Some(Settled {
                        attempt,
                        unreachable,
                    });
                }
            }
            Evidence::Removed => self.removed = true,
        }
    }

    /// Whether this is a container at all: by a source's word, or because its first process got a pid namespace of its
    /// own. The form of its path makes it one as well, of which nothing is known then; `/<a>/<b>` is a path of containerd
    /// and of many others.
    pub fn is_container(&self) -> bool {
        let by_path = self.identity.is_container_root == Some(true)
            && !matches!(
                self.identity.runtime,
                RuntimeHint::ContainerdNative | RuntimeHint::Lxc | RuntimeHint::Garden
            );
        by_path
            || !self.claims.is_empty()
            || self
                .process
                .as_ref()
                .is_some_and(|process| process.new_pid_namespace)
    }

    /// Whether a source that has not answered may know it as a container.
    pub fn may_be_container(&self) -> bool {
        let settled = self.settled.as_ref();
        settled.is_none_or(|it| it.unreachable.iter().any(|source| source != NO_SOCKET))
    }

    /// Whether an image is known from a source that may approve.
    pub fn has_image(&self) -> bool {
        self.trusted().any(|claim| claim.image.is_some())
    }

    /// What those say that may approve, most trusted first: not the annotations of the container's own bundle.
    pub fn trusted(&self) -> impl Iterator<Item = &Claim> {
        let claims = self.claims.values();
        claims.filter(|claim| claim.source != Source::Bundle)
    }

    /// Whether a container runs on the layers of the image that is named, by the most trusted source that knows.
    pub fn content(&self) -> Content {
        let mut contents = self.trusted().map(|claim| claim.content);
        let known = contents.find(|content| *content != Content::Unknown);
        known.unwrap_or(Content::Unknown)
    }

    /// UID of the pod that a CRI runtime ties to this container.
    pub fn pod_uid(&self) -> Option<&str> {
        let claim = self.claims.get(&Source::Cri)?;
        claim.pod.as_ref().map(|pod| &*pod.uid)
    }

    /// Whether a Pod of the API server's is this container's: the CRI ties its sandbox to the process, or the kubelet
    /// reported the container, by the id that its runtime says is this process. Neither a label nor a path makes it so.
    pub fn is_of(&self, pod: &PodRecord) -> bool {
        self.pod_uid() == Some(pod.uid_on_node()) || self.is_reported(pod)
    }

    /// Whether the kubelet reported this container as one of the Pod's.
    pub fn is_reported(&self, pod: &PodRecord) -> bool {
        let by_runtime = [Source::Cri, Source::Docker];
        let mut claims = by_runtime
            .iter()
            .filter_map(|source| self.claims.get(source));
        claims.any(|claim| pod.runs(&claim.id))
    }

    /// The Pod that owns the container, as the API server has it.
    pub fn owner(&self) -> Option<&PodRecord> {
        match &self.pod {
            Some(Ownership::Known(pod)) if self.is_of(pod) => Some(pod),
            Some(Ownership::Known(_) | Ownership::Absent) | None => None,
        }
    }

    /// The pod to name for the container: as the API server has it, else by the runtime, else, where no runtime has a
    /// word, by its bundle. None where the API server knows of no such pod.
    pub fn pod_to_name(&self) -> Option<Pod> {
        let claimed = || {
            let mut trusted = self.trusted().peekable();
            match trusted.peek() {
                Some(_) => trusted.find_map(|claim| claim.pod.clone()),
                None => self.first(|claim| claim.pod.clone()),
            }
        };
        match (self.owner(), &self.pod) {
            (Some(pod), _) => Some(Pod {
                namespace: pod.namespace.clone(),
                name: pod.name.clone(),
                uid: pod.uid_on_node().to_owned(),
            }),
            (None, Some(_)) => None,
            (None, None) => claimed(),
        }
    }

    /// Name of the container in its pod, by the runtime.
    pub fn container_name(&self) -> Option<&str> {
        self.trusted()
            .find_map(|claim| claim.container_name.as_deref())
    }

    /// The first thing that a source says, in order of trust.
    pub fn first<'a, T>(&'a self, of: impl Fn(&'a Claim) -> Option<T>) -> Option<T> {
        self.claims.values().find_map(of)
    }
}
