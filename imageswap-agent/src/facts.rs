//! Everything known about one start, independent of the order in which evidence arrives.

use crate::claim::{Attempt, Claim, Content, Source};
use crate::container::{CgroupIdentity, RuntimeHint, classify};
use crate::pods::{Ownership, PodName, PodRecord};
use crate::process::Subject;
use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU64;
use std::sync::Arc;

/// Represents all sources if no runtime socket is known.
pub const NO_SOCKET: &str = "no runtime socket";

/// Identifies a start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StartId {
    /// Inode number of the cgroup's directory.
    pub cgroup: u64,
    /// The first process of a container that was put into another container's cgroup; `None` for
    /// the start that owns the cgroup.
    pub process: Option<Subject>,
}

impl StartId {
    /// The start that owns the cgroup.
    pub const fn of(cgroup: u64) -> Self {
        Self {
            cgroup,
            process: None,
        }
    }
}

impl std::fmt::Display for StartId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.process {
            Some(Subject { pid, started }) => {
                let started = started.unwrap_or_default();
                write!(f, "{}.{pid}.{started}", self.cgroup)
            }
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
    /// A source describes the container.
    Claim(Box<Claim>),
    /// The API server's answer about the Pod that the container claims to belong to.
    Pod(Ownership),
    /// Every source has been asked; those that did not answer are named.
    Settled {
        /// The attempt.
        attempt: Attempt,
        /// Sources that could not be reached, such as a socket's path.
        unreachable: BTreeSet<String>,
    },
    /// The container has ended.
    Removed,
}

/// How the agent learned about a start; earlier values in this order win.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sight {
    /// From an event of the kernel or the runtime.
    Event,
    /// It was running when the agent started.
    Initial,
    /// A later walk over the node found it.
    Reconciled,
}

/// What shows that the container's own process runs; earlier values in this order win.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Confirmation {
    /// An exec in the new cgroup, in another mount namespace than the runtime's.
    Exec,
    /// An exec of another process in its pid namespace; its own program may not have begun.
    ByAnother,
    /// A containerd's answer that it runs, where the kernel does not report execs.
    Runtime,
    /// What a runtime reports or keeps of it, perhaps before its program began: a task of a containerd,
    /// the state of runc or crun.
    Reported,
    /// A process in the cgroup that is not the runtime's own.
    Walk,
}

/// The process that confirms a start.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Process {
    /// What confirms the start.
    pub by: Confirmation,
    /// Nanoseconds since boot.
    pub time_ns: u64,
    /// Process id in the initial pid namespace.
    pub pid: u32,
    /// Name of the task, if it could be read.
    pub comm: Option<String>,
    /// Whether its pid namespace is known to differ from its parent's.
    pub new_pid_namespace: bool,
    /// When it began, in ticks since boot; `None` if it was gone before that was read.
    pub started: Option<u64>,
    /// The same in nanoseconds, if the kernel reported it: root can give two processes the same pid
    /// within one tick.
    pub started_ns: Option<NonZeroU64>,
    /// Whether it is the container's first process, rather than any of its processes.
    pub is_first: bool,
    /// Whether it is the first process of a pid namespace, whose other processes end with it.
    pub leads_pid_namespace: bool,
}

impl Process {
    /// The process, distinguished from earlier ones with the same pid.
    pub const fn subject(&self) -> Subject {
        Subject {
            pid: self.pid,
            started: self.started,
        }
    }

    /// Whether its program is known to have begun.
    const fn has_begun(&self) -> bool {
        matches!(self.by, Confirmation::Exec | Confirmation::Runtime)
    }

    /// Whether they cannot be the same process although they have the same subject.
    pub fn is_known_other(&self, other: &Self) -> bool {
        let both = self.started_ns.zip(other.started_ns);
        both.is_some_and(|(own, other)| own != other)
    }
}

/// The outcome of asking every source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settled {
    /// The attempt.
    pub attempt: Attempt,
    /// Sources that did not answer.
    pub unreachable: BTreeSet<String>,
}

/// Everything known about one start. Two agents that observed the same evidence in any order hold
/// equal facts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// Path of the container's own cgroup. Starts in one cgroup share it.
    pub cgroup: Arc<str>,
    /// What the path looks like.
    pub identity: CgroupIdentity,
    /// How the agent learned about it.
    pub sight: Option<Sight>,
    /// The process that confirms it.
    pub process: Option<Process>,
    /// The sources' claims, most trusted first. Usually there are one or two, and a node of the map has
    /// room for eleven.
    pub claims: BTreeMap<Source, Box<Claim>>,
    /// The pod, once the API server was asked or reported it.
    pub pod: Option<Ownership>,
    /// Attempt and content of the CRI's first answer whether a sandbox was started again. A containerd
    /// that restarts forgets that.
    again: Option<(Attempt, bool)>,
    /// Whether its program was seen on another root than the container's. A program can move to another
    /// root later, and an overlay's folders can be mounted anywhere.
    was_on_another_root: bool,
    /// `Some` once every source has been asked.
    pub settled: Option<Settled>,
    /// Whether it has ended.
    pub removed: bool,
}

impl Facts {
    /// Knows only the cgroup.
    pub fn new(cgroup: impl Into<Arc<str>>) -> Self {
        let cgroup = cgroup.into();
        Self {
            identity: classify(&cgroup),
            cgroup,
            sight: None,
            process: None,
            claims: BTreeMap::new(),
            pod: None,
            again: None,
            was_on_another_root: false,
            settled: None,
            removed: false,
        }
    }

    /// A container that was put into this cgroup: the path describes another one.
    pub fn put_into(cgroup: impl Into<Arc<str>>) -> Self {
        Self {
            identity: CgroupIdentity::HOST,
            ..Self::new(cgroup)
        }
    }

    /// Adds evidence.
    pub fn observe(&mut self, evidence: Evidence) {
        match evidence {
            Evidence::Seen(sight) => {
                self.sight = Some(self.sight.map_or(sight, |known| known.min(sight)));
            }
            Evidence::Confirmed(process) => self.confirm(process),
            Evidence::Claim(claim) => {
                if let Some(is_again) = claim.is_again {
                    let said = (claim.attempt, is_again);
                    self.again = Some(self.again.map_or(said, |known| known.min(said)));
                }
                self.was_on_another_root |=
                    claim.content == Content::OfAnotherRoot && claim.attempt.has_begun;
                let known = self.claims.get(&claim.source);
                let is_later = known.is_none_or(|known| known.attempt <= claim.attempt);
                if is_later && self.counts(claim.attempt) {
                    self.claims.insert(claim.source, claim);
                }
            }
            Evidence::Pod(ownership) => {
                let is_news = match (&self.pod, &ownership) {
                    (None, _) | (Some(Ownership::Absent), Ownership::Known(_)) => true,
                    (Some(Ownership::Known(old)), Ownership::Known(new)) => new.replaces(old),
                    // A Pod that has been deleted since was still its owner.
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
                let is_later = known.is_none_or(|known| known.attempt <= attempt);
                if is_later && self.counts(attempt) {
                    self.settled = Some(Settled {
                        attempt,
                        unreachable,
                    });
                }
            }
            Evidence::Removed => self.removed = true,
        }
    }

    fn confirm(&mut self, process: Process) {
        let known = self.process.as_ref();
        if known.is_some_and(|known| *known <= process) {
            return;
        }
        // The sources answered about another process.
        if known.is_some_and(|known| !known.subject().may_be(process.subject())) {
            self.claims.clear();
            self.again = None;
            self.was_on_another_root = false;
            self.pod = None;
            self.settled = None;
        }
        self.process = Some(process);
        let has_begun = self.has_begun();
        self.claims
            .retain(|_, claim| !has_begun || claim.attempt.has_begun);
        self.settled
            .take_if(|settled| has_begun && !settled.attempt.has_begun);
    }

    /// Whether an answer counts: once the program has begun, those from before say nothing about it.
    fn counts(&self, attempt: Attempt) -> bool {
        attempt.has_begun || !self.has_begun()
    }

    /// Whether the program of its first process is known to have begun.
    pub fn has_begun(&self) -> bool {
        self.process.as_ref().is_some_and(Process::has_begun)
    }

    /// Whether this is a container: a source knows it, or its first process got a pid namespace of
    /// its own. The form of its path counts as well, even if nothing else is known; except
    /// `/<a>/<b>`, which containerd and many others use.
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

    /// Claims of sources that may approve, most trusted first. Records that the container's user can
    /// write and the annotations of its own bundle are left out.
    pub fn trusted(&self) -> impl Iterator<Item = &Claim> {
        let claims = self.claims.values().map(|claim| &**claim);
        claims.filter(|claim| claim.source.may_approve())
    }

    /// The trusted claims about the image that runs: without those about another one, if a more trusted
    /// source has found the layers of its image.
    pub fn of_image(&self) -> impl Iterator<Item = &Claim> {
        let is_known = self.content() == Content::Its;
        self.trusted()
            .filter(move |claim| !(is_known && claim.content.is_another()))
    }

    /// Whether a container runs on the layers of the named image, by the most trusted source that
    /// knows: [`Content::OfAnotherRoot`] if its program was ever seen on another root.
    pub fn content(&self) -> Content {
        if self.was_on_another_root {
            return Content::OfAnotherRoot;
        }
        self.compared()
            .map_or(Content::Unknown, |claim| claim.content)
    }

    /// The claim that [`Self::content`] is about.
    pub fn compared(&self) -> Option<&Claim> {
        let mut trusted = self.trusted();
        trusted.find(|claim| claim.content != Content::Unknown)
    }

    /// Whether the CRI knew that this sandbox has another process than the one that it started.
    pub fn is_again(&self) -> bool {
        self.again.is_some_and(|(_, is_again)| is_again)
    }

    /// The pod that a CRI runtime connects with this container.
    fn pod_of_cri(&self) -> Option<&PodName> {
        self.claims.get(&Source::Cri)?.pod.as_ref()
    }

    /// Whether a Pod of the API server owns this container: the CRI connects its sandbox with the
    /// process or, if no CRI knows the process, the kubelet reported the container under the id that its
    /// runtime gives this process. Labels and paths do not count.
    pub fn is_of(&self, pod: &PodRecord) -> bool {
        match self.pod_of_cri() {
            Some(named) => pod.is(named),
            None => self.is_reported(pod),
        }
    }

    /// Whether the kubelet reported this container as one of the Pod's.
    pub fn is_reported(&self, pod: &PodRecord) -> bool {
        let by_runtime = [Source::Cri, Source::Docker];
        let mut claims = by_runtime
            .iter()
            .filter_map(|source| self.claims.get(source));
        claims.any(|claim| pod.runs(&claim.id))
    }

    /// The Pod that owns the container, from the API server.
    pub fn owner(&self) -> Option<&PodRecord> {
        match &self.pod {
            Some(Ownership::Known(pod)) if self.is_of(pod) => Some(pod),
            Some(Ownership::Known(_) | Ownership::Absent) | None => None,
        }
    }

    /// The pod to report for the container: the API server's, otherwise the runtime's, otherwise
    /// the bundle's. `None` if the API server does not know the pod.
    pub fn pod_to_name(&self) -> Option<PodName> {
        let claimed = || {
            let mut trusted = self.trusted().peekable();
            match trusted.peek() {
                Some(_) => trusted.find_map(|claim| claim.pod.clone()),
                None => self.first(|claim| claim.pod.clone()),
            }
        };
        match (self.owner(), &self.pod) {
            (Some(pod), _) => Some(PodName {
                namespace: pod.namespace.clone(),
                name: pod.name.clone(),
                uid: pod.uid_on_node().to_owned(),
            }),
            (None, Some(_)) => None,
            (None, None) => claimed(),
        }
    }

    /// Name of the container in its pod, from the runtime.
    pub fn container_name(&self) -> Option<&str> {
        self.trusted()
            .find_map(|claim| claim.container_name.as_deref())
    }

    /// The first value that a source has, in order of trust.
    pub fn first<'a, T>(&'a self, of: impl Fn(&'a Claim) -> Option<T>) -> Option<T> {
        self.claims.values().find_map(|claim| of(claim))
    }
}
