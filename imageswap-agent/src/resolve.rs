//! Asks every source that may know a container, and joins what they claim.
//!
//! A source's record is a claim about a start only if the source confirms that the record's process
//! is the start's process: see `join`. Names of cgroups, containers and folders only decide which
//! source is asked first.

use crate::claim::{Attempt, Claim, Content, Source};
use crate::container::{CgroupIdentity, RuntimeHint};
use crate::evidence::EvidenceError;
use crate::evidence::bundle::{Bundle, Bundles, STATE_DIRS};
use crate::evidence::containerd::{Containerd, TaskRecord, without_labels};
use crate::evidence::cri::Cri;
use crate::evidence::docker::{DataRoots, without_image};
use crate::evidence::file::Readers;
use crate::evidence::root::IsRoot;
use crate::evidence::runc::{RuncState, RuncStates};
use crate::evidence::storage;
use crate::evidence::user::{self, UserContainer};
use crate::facts::{NO_SOCKET, StartId};
use crate::node;
use crate::pods::{Ownership, Pods, watch};
use crate::process::{Subject, since_boot};
use crate::turns::Turn;
use bounds::Common;
use cri::OfCri;
use described::{Described, Root};
use futures::stream::FuturesUnordered;
use futures::{FutureExt as _, StreamExt as _};
use prepared::Prepared;
use root::on_root;
use std::collections::BTreeSet;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::mpsc;

mod bounds;
mod containerd;
mod cri;
mod described;
mod docker;
mod join;
mod prepared;
mod root;
mod sandbox;

/// In the place of a runtime that did not answer: a fault of this program ended the question.
const FAULT: &str = "a fault of this agent; see its log";

/// A start to ask about.
#[derive(Debug)]
pub struct Question {
    /// Which start.
    pub start: StartId,
    /// Its turn, which ends with the answer.
    pub turn: Turn,
    /// What the path looks like: a hint.
    pub identity: CgroupIdentity,
    /// The cgroup's folder.
    pub cgroup: PathBuf,
    /// The process that confirmed it.
    pub process: Subject,
    /// Whether that is certainly the container's first process, rather than any of its processes.
    pub is_first: bool,
    /// Namespace and id that a containerd gave for it: a hint.
    pub named: Option<Box<(String, String)>>,
    /// The attempt that this is.
    pub attempt: Attempt,
}

/// The answers of the sources.
#[derive(Debug)]
pub struct Answer {
    /// What was asked.
    pub question: Question,
    /// At most one claim per source.
    pub claims: Vec<Claim>,
    /// The API server's answer about the pod that the container claims; `None` if it was not asked
    /// or did not answer.
    pub pod: Option<Ownership>,
    /// Sources that could not be asked.
    pub unreachable: BTreeSet<String>,
}

/// Asks the sources. Answers are sent on a channel.
pub struct Resolver {
    sources: Arc<Sources>,
    answers: mpsc::Sender<Answer>,
}

#[derive(Clone)]
struct Sources {
    host_root: PathBuf,
    proc: PathBuf,
    bundles: Bundles,
    runc: RuncStates,
    dockers: DataRoots,
    containerds: Vec<Containerd>,
    cris: Vec<Cri>,
    readers: Readers,
    /// Of files that users other than root can write.
    users: Readers,
    prepared: Prepared,
    common: Common,
    pods: Pods,
    api: Option<Arc<watch::Asker>>,
}

impl Resolver {
    /// A resolver for the node whose root file system is at `host_root`. `api` is asked for Pods that
    /// `pods` does not have.
    pub fn new(
        host_root: &Path,
        pods: Pods,
        api: Option<watch::Asker>,
        answers: mpsc::Sender<Answer>,
    ) -> Self {
        let sources = Sources {
            host_root: host_root.to_owned(),
            proc: host_root.join("proc"),
            bundles: bundles(host_root, &[]),
            runc: RuncStates::new(host_root),
            dockers: DataRoots::default(),
            containerds: Vec::new(),
            cris: Vec::new(),
            readers: Readers::new(),
            users: Readers::new(),
            prepared: Prepared::default(),
            common: Common::default(),
            pods,
            api: api.map(Arc::new),
        };
        Self {
            sources: Arc::new(sources),
            answers,
        }
    }

    /// Adds sources to ask from now on.
    pub fn add(&mut self, containerds: Vec<Containerd>, cris: Vec<Cri>) {
        // A hang should be found before the first start needs the source.
        containerds.iter().for_each(Containerd::check);
        cris.iter().for_each(Cri::check);
        let sources = Arc::make_mut(&mut self.sources);
        sources.containerds.extend(containerds);
        sources.cris.extend(cris);
        sources.bundles = bundles(&sources.host_root, &sources.containerds);
    }

    /// Whether there is an API server to ask about Pods.
    pub fn asks_pods(&self) -> bool {
        self.sources.api.is_some()
    }

    /// Asks all sources; the answer comes when each has answered or reached its deadline. Each
    /// source limits its own concurrent calls, so that a hanging source does not delay questions to
    /// others.
    pub fn ask(&self, question: Question) {
        let sources = Arc::clone(&self.sources);
        let answers = self.answers.clone();
        tokio::spawn(async move {
            let Learned {
                claims,
                pod,
                unreachable,
            } = or_fault(Box::pin(sources.answer(&question))).await;
            let answer = Answer {
                question,
                claims,
                pod,
                unreachable,
            };
            // When the agent stops, the receiver is gone.
            drop(answers.send(answer).await);
        });
    }

    /// Asks about a task that a containerd reports as made, before its program begins. Any client
    /// of containerd can cause such a report: only containerd's answer about the task counts.
    pub fn prepare(&self, task: TaskRecord) {
        let sources = Arc::clone(&self.sources);
        let process = Subject::now(&sources.proc, task.pid);
        let mut next = sources.prepared.report(task, process);
        if next.is_none() {
            return;
        }
        tokio::spawn(async move {
            while let Some(report) = next {
                sources.prepare(&report.task, report.process).await;
                let socket = report.task.socket.clone();
                drop(report);
                next = sources.prepared.next(&socket);
            }
        });
    }

    /// Containers that run according to the state of runc and crun. The future does not borrow the
    /// resolver, so that its owner need not wait.
    pub fn states(&self) -> impl Future<Output = Vec<RuncState>> + Send + use<> {
        let sources = Arc::clone(&self.sources);
        async move {
            let of = Arc::clone(&sources);
            let list = move || {
                let (mut states, unread) = of.runc.list();
                states.retain(|state| state.init.is_some_and(|init| init.is_alive(&of.proc)));
                Ok((states, unread))
            };
            match sources.readers.run(list).await {
                Ok((states, None)) => states,
                Ok((states, Some(error))) => {
                    tracing::debug!(%error, "the state of some container of runc cannot be read");
                    states
                }
                Err(error) => {
                    tracing::warn!(%error, "the states of runc's containers cannot be listed");
                    Vec::new()
                }
            }
        }
    }
}

/// The answer, or that of a source that could not be asked if a fault of this program ends the
/// question: the start gets a verdict, and its turn ends.
async fn or_fault(answer: impl Future<Output = Learned>) -> Learned {
    let answer = AssertUnwindSafe(answer).catch_unwind().await;
    answer.unwrap_or_else(|_| Learned {
        unreachable: BTreeSet::from([FAULT.to_owned()]),
        ..Learned::default()
    })
}

/// The bundles of the usual state folders, and of those next to these sockets.
fn bundles(host_root: &Path, containerds: &[Containerd]) -> Bundles {
    // By convention a containerd's socket lies in its state folder. Sockets are named as we see
    // them, state folders as the host does.
    let beside = containerds.iter().filter_map(|it| it.socket().parent());
    let beside = beside.map(|folder| folder.strip_prefix(host_root).unwrap_or(folder).to_owned());
    let states: BTreeSet<PathBuf> = STATE_DIRS.iter().map(PathBuf::from).chain(beside).collect();
    Bundles::new(host_root, states)
}

impl Sources {
    async fn answer(self: &Arc<Self>, question: &Question) -> Learned {
        let mut asked = Asked::default();
        self.runtimes(&mut asked, question).await;
        let pod = self.pod(&asked.claims, question.process).await;
        let claims = asked.claims.into_iter().map(|claim| Claim {
            attempt: question.attempt,
            ..self.common.bounded(claim)
        });
        Learned {
            claims: claims.collect(),
            pod,
            unreachable: asked.unreachable.into_set(),
        }
    }

    async fn runtimes(self: &Arc<Self>, asked: &mut Asked, question: &Question) {
        let process = question.process;
        match self.prepared(question).await {
            Some((mut described, earlier)) if described.is_joined => {
                asked.unreachable.extend(earlier.unreachable);
                self.compare_root(asked, &mut described, &question.cgroup)
                    .await;
                self.finish(asked, described).await;
            }
            reported => Box::pin(self.by_asking(asked, question, reported)).await,
        }
        if asked.claims.iter().all(|claim| claim.image.is_none()) {
            let bundle = move |it: &Self| it.bundles.of_process(process);
            let bundle = self.read(asked, bundle).await.flatten();
            asked.claims.extend(bundle.map(Bundle::claim));
        }
        if asked.claims.is_empty() {
            let user = self.of_user(process).await;
            asked.claims.extend(user.map(UserContainer::claim));
        }
        if self.containerds.is_empty() && self.cris.is_empty() {
            asked.unreachable.insert(NO_SOCKET.to_owned());
        }
    }

    /// Asks for the task of a start and, if there is none, for other records of its process. The
    /// container `reported` by an event counts only if nothing else is known of a process that has
    /// ended.
    async fn by_asking(
        self: &Arc<Self>,
        asked: &mut Asked,
        question: &Question,
        reported: Option<(Described, Asked)>,
    ) {
        let process = question.process;
        let named = question.named.as_ref().map(|named| &named.1);
        let likely = question.identity.container_id.as_ref().or(named).cloned();
        let state = move |it: &Self| it.runc.of_process(process, likely.as_deref());
        let state = self.read(asked, state).await.flatten();
        let podmans = match &state {
            Some(state) => self.of_podman(asked, process, state).await,
            None => None,
        };
        // Podman's files do not wait for a runtime that hangs. If the process does not run on
        // podman's root file system, podman may not have made the container.
        if let Some(claim) = podmans.as_ref().filter(|it| it.content == Content::Its) {
            asked.claims.push(claim.clone());
            return;
        }
        let task = self.task_of(asked, question, state.as_ref()).await;
        if let Some((task, first)) = task {
            match self.describe(asked, &task, first).await {
                Some(described) => self.finish(asked, described).await,
                None => self.without_record(asked, &task, first).await,
            }
        }
        if asked.claims.is_empty() {
            self.without_containerd(asked, question, state.as_ref())
                .await;
        }
        if asked.claims.is_empty() && !self.containerds.is_empty() && !process.is_alive(&self.proc)
        {
            let reported = match reported {
                Some(reported) => Some(reported),
                None => self.prepared_at_last(question).await,
            };
            if let Some((described, earlier)) = reported {
                asked.unreachable.extend(earlier.unreachable);
                self.finish(asked, described).await;
            }
        }
        if asked.claims.is_empty() {
            let of_state = || state.map(|state| state.claim());
            asked.claims.extend(podmans.or_else(of_state));
        }
    }

    /// Reads the records of the user whose podman or Docker runs this process. They have threads of
    /// their own, and a record that cannot be read is not a runtime that does not answer: the user
    /// must not keep other sources from being read or believed.
    async fn of_user(self: &Arc<Self>, process: Subject) -> Option<UserContainer> {
        let of = Arc::clone(self);
        let read = move || user::of_process(&of.host_root, &of.proc, process.pid);
        let found = self.users.run(read).await.inspect_err(|error| {
            tracing::debug!(%error, "a user's record of a container cannot be used");
        });
        // Of a process that is gone, another one may have the pid by now.
        found.ok()?.filter(|_| process.is_alive(&self.proc))
    }

    /// Asks the CRI of the same daemon about a task whose record containerd cannot send, for
    /// example because it is too large. The layers are then unknown, so the CRI's answer may show
    /// drift but not approve.
    async fn without_record(&self, asked: &mut Asked, task: &TaskRecord, process: Subject) {
        let found = self.of_cri(asked, &task.id, &[process], Some(task)).await;
        if let OfCri::Is(claim, _) = found {
            asked.claims.push(Claim {
                content: Content::Another,
                ..*claim
            });
        }
    }

    /// Turns the descriptions of containerd and Docker into claims, and asks the CRI about
    /// containers with its label.
    async fn finish(&self, asked: &mut Asked, described: Described) {
        if !described.is_joined {
            asked.claims.extend(described.accusation());
            return;
        }
        let mut cri = None;
        if described.dockers.is_none()
            && described.cri.is_none()
            && described.containerd.through_cri
        {
            let (task, process) = (&described.task, described.process);
            let found = self
                .of_cri_at_last(asked, &task.id, &[process], Some(task))
                .await;
            if let Some((claim, image)) = found {
                cri = Some(self.checked(asked, claim, image, &described).await);
            }
        }
        let Described {
            task,
            containerd: mut claim,
            dockers,
            cri: earlier,
            ..
        } = described;
        let cri = cri.or(earlier);
        if dockers.is_some() {
            claim = without_image(claim);
        } else if claim.through_cri && cri.is_none() {
            let keeper = self.cris.iter().any(|cri| cri.socket() == task.socket);
            // Its labels say that the CRI plugin made it, but the plugin does not know it: any
            // client of containerd can write labels.
            if cri.is_none() && asked.unreachable.is_empty() && keeper {
                claim = without_labels(claim);
            }
        }
        asked.claims.extend(cri);
        asked.claims.push(claim);
        asked.claims.extend(dockers);
    }

    /// Asks what is left if no containerd has the process as a task: the CRI of another runtime,
    /// and Docker's record of a container whose bundle the shim wrote.
    async fn without_containerd(
        self: &Arc<Self>,
        asked: &mut Asked,
        question: &Question,
        state: Option<&RuncState>,
    ) {
        let process = question.process;
        let bundle = move |it: &Self| it.bundles.of_process(process);
        if let Some(bundle) = self.read(asked, bundle).await.flatten()
            && let Some(root) = &bundle.root
        {
            let dockers = self.of_docker(asked, root, &bundle.id, process, None);
            let dockers = dockers.await.map(|(claim, _)| claim);
            asked.claims.extend(dockers);
        }
        let id = state.map(|state| state.id.as_str());
        let Some(id) = id.or(question.identity.container_id.as_deref()) else {
            return;
        };
        if asked.claims.is_empty() {
            let firsts = self.firsts(question);
            let claim = if question.identity.runtime == RuntimeHint::CriO {
                self.of_cri_at_last(asked, id, &firsts, None).await
            } else {
                self.of_cri(asked, id, &firsts, None).await.is()
            };
            asked.claims.extend(claim.map(|(claim, _)| claim));
        }
    }

    /// Podman's claim about the container in the state of runc or crun, if podman's store has it.
    async fn of_podman(
        self: &Arc<Self>,
        asked: &Asked,
        process: Subject,
        state: &RuncState,
    ) -> Option<Claim> {
        let (bundle, id) = (state.bundle.clone()?, state.id.clone());
        let stored = move |it: &Self| {
            let stores = storage::stores(&it.host_root, &it.proc, process.pid);
            let Some(image) = storage::of_bundle(&stores, &bundle, &id)? else {
                return Ok(None);
            };
            let made = image.made.clone().map(Root::Made);
            let is_root = made.map(|made| made.is_of(&it.host_root, &it.proc, process));
            Ok(Some((image, is_root)))
        };
        let (image, is_root) = self.read(asked, stored).await.flatten()?;
        let claim = image.claim(&state.id, is_root == Some(IsRoot::Yes));
        Some(self.common.bounded(on_root(claim, is_root)))
    }

    /// Reads files of the node, which may be anything.
    async fn read<T: Send + 'static>(
        self: &Arc<Self>,
        asked: &Asked,
        read: impl FnOnce(&Self) -> Result<T, EvidenceError> + Send + 'static,
    ) -> Option<T> {
        let sources = Arc::clone(self);
        asked.local(self.readers.run(move || read(&sources)).await)
    }

    /// The API server's answer about the pod that a CRI runtime names, or about the pod whose
    /// status lists this container.
    async fn pod(&self, claims: &[Claim], process: Subject) -> Option<Ownership> {
        let of = |source| claims.iter().find(|claim| claim.source == source);
        // Whoever may write the status of a Pod can name any container there.
        if of(Source::Cri).is_none_or(|claim| claim.pod.is_none())
            && let Some(docker) = of(Source::Docker)
            && let Some(pod) = self.pods.running(&docker.id)
        {
            return Some(Ownership::Known(pod));
        }
        let named = claims.iter().find_map(|claim| claim.pod.as_ref())?;
        let name = claims
            .iter()
            .find_map(|claim| claim.container_name.as_ref());
        let began_ns = process.started.map(|at| node::nanos(since_boot(at)));
        if let Some(pod) = self.pods.of(named, began_ns)
            && name.is_none_or(|name| pod.containers.contains_key(name))
        {
            return Some(Ownership::Known(pod));
        }
        let has_pods = self.pods.has_any();
        self.api.as_ref()?.ask(named, has_pods).await
    }
}

/// What the sources have answered about a start, as in [`Answer`].
#[derive(Default)]
struct Learned {
    claims: Vec<Claim>,
    pod: Option<Ownership>,
    unreachable: BTreeSet<String>,
}

/// Everything learned so far about one start.
#[derive(Default)]
struct Asked {
    claims: Vec<Claim>,
    unreachable: Unreachable,
}

/// Sources that could not be asked. Questions that are asked at the same time share it.
#[derive(Default)]
struct Unreachable(Mutex<BTreeSet<String>>);

impl Unreachable {
    fn insert(&self, source: String) {
        self.lock().insert(source);
    }

    fn extend(&self, others: Self) {
        self.lock().extend(others.into_set());
    }

    fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    fn into_set(self) -> BTreeSet<String> {
        self.0.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Asked {
    /// Asks sources of one kind concurrently. The first one that knows the container wins; the
    /// others are not waited for.
    async fn first<T>(
        &self,
        asks: impl IntoIterator<Item = impl Future<Output = (Option<T>, Self)>>,
    ) -> Option<T> {
        let mut asks: FuturesUnordered<_> = asks.into_iter().collect();
        while let Some((answer, asked)) = asks.next().await {
            self.unreachable.extend(asked.unreachable);
            if answer.is_some() {
                return answer;
            }
        }
        None
    }

    /// Keeps a runtime's answer, or that it did not answer.
    fn remote<T>(
        &self,
        socket: impl std::fmt::Display,
        answer: Result<T, impl std::fmt::Display>,
    ) -> Option<T> {
        answer
            .inspect_err(|error| {
                tracing::debug!(%error, "a runtime did not answer");
                self.unreachable.insert(socket.to_string());
            })
            .ok()
    }

    /// Keeps the content of a file; an unreadable file counts like a runtime that does not answer.
    fn local<T>(&self, answer: Result<T, EvidenceError>) -> Option<T> {
        answer
            .inspect_err(|error| {
                tracing::debug!(%error, "a file of a runtime cannot be used");
                self.unreachable.insert(error.to_string());
            })
            .ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_question_that_panics_is_answered() {
        let learned = or_fault(async { panic!("a fault of the test") }).await;
        assert!(learned.claims.is_empty());
        assert!(learned.unreachable.contains(FAULT));
    }
}
