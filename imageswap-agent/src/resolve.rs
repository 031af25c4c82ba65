//! Asks every source that may know a container, and turns the answers into claims.

use crate::container::{CgroupIdentity, owns};
use crate::evidence::EvidenceError;
use crate::evidence::bundle::{Bundle, Bundles, STATE_DIRS};
use crate::evidence::containerd::{ContainerRecord, Containerd};
use crate::evidence::cri::{Cri, CriContainer, CriSandbox};
use crate::evidence::file::Readers;
use crate::evidence::runc::{RuncState, RuncStates};
use crate::evidence::storage::{self, StoredImage};
use crate::facts::{Claim, Kind, NO_SOCKET, Naming, Pod, Source, StartId};
use crate::pods::{Ownership, PodRecord, watch};
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use kube::Client;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::sleep;
use whose::Whose;

mod docker;
mod whose;

/// containerd's CRI plugin marks what it makes with this label: `container` or `sandbox`.
const CRI_KIND: &str = "io.cri-containerd.kind";

/// The kubelet says in each pod where it got it from: `api`, or else `file` or `http`.
const POD_SOURCE: &str = "kubernetes.io/config.source";

/// The CRI plugin starts a sandbox before it knows of it: so often it is asked again about what bears its mark.
const DENIALS: usize = 15;
const BETWEEN_DENIALS: Duration = Duration::from_millis(200);

/// A start to be asked about.
#[derive(Debug, Clone)]
pub struct Question {
    /// Which start.
    pub start: StartId,
    /// Path of the cgroup.
    pub cgroup: String,
    /// What the path looks like.
    pub identity: CgroupIdentity,
    /// Its first process, once that runs.
    pub process: Option<u32>,
    /// Namespace and id by which a containerd spoke of it, where the path does not tell them.
    pub named: Option<(String, String)>,
    /// The pod, where it is known already.
    pub pod: Option<Arc<PodRecord>>,
    /// Which asking this is; a later one is better informed.
    pub attempt: u32,
    /// Whether the verdict waits for this answer.
    pub last: bool,
}

/// What the sources said.
#[derive(Debug)]
pub struct Answer {
    /// Which start.
    pub start: StartId,
    /// One claim a source at most.
    pub claims: Vec<Claim>,
    /// The pod that the container claims, by the API server; `None` where it was not asked or gave no answer.
    pub pod: Option<Ownership>,
    /// Sources that could not be asked.
    pub unreachable: BTreeSet<String>,
    /// As in the question.
    pub attempt: u32,
    /// As in the question.
    pub last: bool,
}

/// Whom to ask. Answers come on a channel.
pub struct Resolver {
    sources: Arc<Sources>,
    answers: mpsc::Sender<Answer>,
}

#[derive(Clone)]
struct Sources {
    host_root: PathBuf,
    bundles: Bundles,
    runc: RuncStates,
    readers: Readers,
    containerds: Vec<Containerd>,
    cris: Vec<Cri>,
    client: Option<Client>,
}

impl Resolver {
    /// A resolver for the node whose root file system is at `host_root`. `client` is to ask about Pods.
    pub fn new(host_root: &Path, client: Option<Client>, answers: mpsc::Sender<Answer>) -> Self {
        let sources = Sources {
            host_root: host_root.to_owned(),
            bundles: bundles(host_root, &[]),
            runc: RuncStates::new(host_root),
            readers: Readers::new(),
            containerds: Vec::new(),
            cris: Vec::new(),
            client,
        };
        Self {
            sources: Arc::new(sources),
            answers,
        }
    }

    /// Asks these from now on, too.
    pub fn add(&mut self, containerds: Vec<Containerd>, cris: Vec<Cri>) {
        // The first start must not be the one that finds out.
        containerds.iter().for_each(Containerd::check);
        cris.iter().for_each(Cri::check);
        let sources = Arc::make_mut(&mut self.sources);
        sources.containerds.extend(containerds);
        sources.cris.extend(cris);
        sources.bundles = bundles(&sources.host_root, &sources.containerds);
    }

    /// Asks all sources; the answer comes when each has answered or run into its deadline. Each source limits the calls
    /// that it gets, so that questions about one that hangs keep no other question waiting.
    pub fn ask(&self, question: Question) {
        let sources = Arc::clone(&self.sources);
        let answers = self.answers.clone();
        tokio::spawn(async move {
            let answer = sources.answer(question).await;
            // Nobody is left to listen when the agent stops.
            drop(answers.send(answer).await);
        });
    }

    /// Cgroups of the containers that runc and crun keep state of. Does not borrow the resolver, so that its owner need
    /// not wait.
    pub fn runc_cgroups(&self) -> impl Future<Output = HashSet<String>> + Send + use<> {
        let sources = Arc::clone(&self.sources);
        async move {
            let of = Arc::clone(&sources);
            let listed = sources.readers.run(move || Ok(of.runc.list())).await;
            let states = match listed {
                Ok((states, None)) => states,
                Ok((states, Some(error))) => {
                    tracing::debug!(%error, "the state of some container of runc cannot be read");
                    states
                }
                Err(error) => {
                    tracing::warn!(%error, "the states of runc's containers cannot be listed");
                    Vec::new()
                }
            };
            let cgroups = states.into_iter().flat_map(|state| state.cgroup_paths);
            cgroups.collect()
        }
    }
}

/// The bundles of the usual state folders, and of those beside these sockets.
fn bundles(host_root: &Path, containerds: &[Containerd]) -> Bundles {
    // By convention a containerd's socket lies in its state folder. Sockets are named as we see them, state folders as
    // the host does.
    let beside = containerds.iter().filter_map(|it| it.socket().parent());
    let beside = beside.map(|folder| folder.strip_prefix(host_root).unwrap_or(folder).to_owned());
    let states: BTreeSet<PathBuf> = STATE_DIRS.iter().map(PathBuf::from).chain(beside).collect();
    Bundles::new(host_root, states)
}

impl Sources {
    async fn answer(self: &Arc<Self>, question: Question) -> Answer {
        let mut asked = Asked::default();
        self.runtimes(&mut asked, &question).await;
        let pod = self.pod(&asked.claims, question.pod).await;
        for claim in &mut asked.claims {
            claim.attempt = question.attempt;
        }
        Answer {
            start: question.start,
            claims: asked.claims,
            pod,
            unreachable: asked.unreachable,
            attempt: question.attempt,
            last: question.last,
        }
    }

    async fn runtimes(self: &Arc<Self>, asked: &mut Asked, question: &Question) {
        if let Some(whose) = self.by_path(asked, question).await {
            self.runtimes_about(asked, question, whose).await;
        }
        if asked.claims.is_empty()
            && let Some(whose) = self.by_process(asked, question).await
        {
            self.runtimes_about(asked, question, whose).await;
        }
        if self.containerds.is_empty() && self.cris.is_empty() {
            asked.unreachable.insert(NO_SOCKET.to_owned());
        }
    }

    async fn runtimes_about(
        self: &Arc<Self>,
        asked: &mut Asked,
        question: &Question,
        whose: Whose,
    ) {
        let Question {
            cgroup,
            identity,
            last,
            ..
        } = question;
        let Whose {
            id,
            namespace,
            bundle,
            state,
        } = whose;
        let (id, namespace) = (id.as_str(), namespace.as_deref());
        let recorded = self.of_containerd(asked, namespace, id, cgroup).await;
        let dockers = self.of_docker(asked, id, recorded.as_ref(), bundle.as_ref());
        let dockers = dockers.await;
        let socket = recorded.as_ref().map(|it| it.keeper.socket());
        let containerd = recorded.map(|it| match &dockers {
            Some(_) => docker::without_image(it.claim),
            None => it.claim,
        });
        // A record that the CRI plugin did not make is unknown to the CRI, unless cri-dockerd had Docker make it.
        let cri = match &containerd {
            _ if dockers.is_some() && identity.pod_uid.is_none() => None,
            Some(claim) if !claim.through_cri && dockers.is_none() => None,
            Some(_) if *last && dockers.is_none() => self.of_cri_at_last(asked, id, cgroup).await,
            Some(_) | None => self.of_cri(asked, id, cgroup).await,
        };
        asked.claims.extend(dockers);
        let denied = cri.is_none()
            && asked.unreachable.is_empty()
            && self.cris.iter().any(|cri| socket == Some(cri.socket()));
        asked.claims.extend(cri);
        match containerd {
            // Its labels say that the CRI plugin made it, which knows nothing of it: whoever may call containerd
            // may write labels. Only time tells that from one that it is about to know.
            Some(claim) if claim.through_cri && denied => {
                asked.claims.extend(last.then(|| without_labels(claim)));
            }
            claim => asked.claims.extend(claim),
        }
        if asked.claims.is_empty()
            && let Some(state) = match (state, question.start.put) {
                (None, None) => {
                    let cgroup = cgroup.clone();
                    let read = move |it: &Self| it.runc.of_cgroup(&cgroup);
                    self.read(asked, read).await.flatten()
                }
                (state, _) => state,
            }
        {
            let (bundle, id) = (state.bundle.clone(), state.id.clone());
            let stored = move |_: &Self| match bundle {
                Some(bundle) => storage::of_bundle(&bundle, &id),
                None => Ok(None),
            };
            let stored = self.read(asked, stored).await.flatten();
            asked.claims.push(match stored {
                Some(image) => of_podman(&state, image),
                None => of_runc(&state),
            });
        }
        asked.claims.extend(bundle.map(of_bundle));
    }

    /// Reads files of the node, which may be anything.
    async fn read<T: Send + 'static>(
        self: &Arc<Self>,
        asked: &mut Asked,
        read: impl FnOnce(&Self) -> Result<T, EvidenceError> + Send + 'static,
    ) -> Option<T> {
        let sources = Arc::clone(self);
        asked.local(self.readers.run(move || read(&sources)).await)
    }

    /// What the API server says of the pod that a runtime names. Not of a static one, whose UID it does not know.
    async fn pod(&self, claims: &[Claim], known: Option<Arc<PodRecord>>) -> Option<Ownership> {
        let trusted = || claims.iter().filter(|claim| claim.source != Source::Bundle);
        let name = trusted().find_map(|claim| claim.container_name.as_ref());
        if let Some(pod) = known
            && name.is_none_or(|name| pod.containers.contains_key(name))
        {
            return Some(Ownership::Known(pod));
        }
        let pod = trusted().find_map(|claim| claim.pod.as_ref())?;
        if trusted().any(|claim| claim.static_pod == Some(true)) {
            return None;
        }
        watch::ask(self.client.as_ref()?, &pod.namespace, &pod.name, &pod.uid).await
    }

    /// As [`Self::of_cri`], about what should be known there, sooner or later.
    async fn of_cri_at_last(&self, asked: &mut Asked, id: &str, cgroup: &str) -> Option<Claim> {
        for _ in 0..DENIALS {
            let claim = self.of_cri(asked, id, cgroup).await;
            if claim.is_some() || !asked.unreachable.is_empty() || self.cris.is_empty() {
                return claim;
            }
            sleep(BETWEEN_DENIALS).await;
        }
        self.of_cri(asked, id, cgroup).await
    }

    /// What the containerd says that has a record of this id whose cgroup is this one.
    async fn of_containerd<'a>(
        &'a self,
        asked: &mut Asked,
        namespace: Option<&str>,
        id: &str,
        cgroup: &str,
    ) -> Option<Recorded<'a>> {
        let ask = |containerd| async move {
            let mut asked = Asked::default();
            let found = asked.record(containerd, namespace, id, cgroup).await;
            (found, asked)
        };
        asked.first(self.containerds.iter().map(ask)).await
    }

    /// The CRI runtime that knows this id, as a container or as a sandbox.
    async fn of_cri(&self, asked: &mut Asked, id: &str, cgroup: &str) -> Option<Claim> {
        let ask = |cri| async move {
            let mut asked = Asked::default();
            let claim = asked.cri(cri, id, cgroup).await;
            (claim, asked)
        };
        asked.first(self.cris.iter().map(ask)).await
    }
}

/// A container that containerd has a record of.
struct Recorded<'a> {
    keeper: &'a Containerd,
    namespace: String,
    /// Its root file system, where containerd did not make that.
    root: Option<PathBuf>,
    claim: Claim,
}

/// What has been learned so far about one start.
#[derive(Default)]
struct Asked {
    claims: Vec<Claim>,
    unreachable: BTreeSet<String>,
}

impl Asked {
    /// Waits for sources of one kind that are asked at the same time. The first one that knows the container has the
    /// word; those that have not answered by then are not waited for.
    async fn first<T>(
        &mut self,
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

    /// Keeps the answer of a runtime, or that it gave none.
    fn remote<T>(
        &mut self,
        socket: impl std::fmt::Display,
        answer: Result<T, EvidenceError>,
    ) -> Option<T> {
        answer
            .inspect_err(|error| {
                tracing::debug!(%error, "a runtime did not answer");
                self.unreachable.insert(socket.to_string());
            })
            .ok()
    }

    /// Keeps what a file said; a file that cannot be read is as good as a runtime that does not answer.
    fn local<T>(&mut self, answer: Result<T, EvidenceError>) -> Option<T> {
        answer
            .inspect_err(|error| {
                tracing::debug!(%error, "a file of a runtime cannot be used");
                self.unreachable.insert(error.to_string());
            })
            .ok()
    }

    /// The containerd's record of this id whose cgroup is this one.
    async fn record<'a>(
        &mut self,
        containerd: &'a Containerd,
        namespace: Option<&str>,
        id: &str,
        cgroup: &str,
    ) -> Option<Recorded<'a>> {
        let records = match namespace {
            Some(namespace) => containerd
                .container(namespace, id)
                .await
                .map(Vec::from_iter),
            None => containerd.find(id).await,
        };
        let records = match records {
            // In a folder that Docker was told to put its containers into, a path reads like another namespace.
            Ok(none) if none.is_empty() && docker::is_id(id) => containerd.find(id).await,
            records => records,
        };
        let records = self
            .remote(containerd.socket().display(), records)
            .unwrap_or_default();
        let owner = |record: &ContainerRecord| {
            record
                .cgroups_path
                .as_deref()
                .is_some_and(|path| owns(path, cgroup))
        };
        let record = records.into_iter().find(owner)?;
        Some(Recorded {
            keeper: containerd,
            namespace: record.namespace.clone(),
            root: record.root.clone(),
            claim: self.containerd_claim(containerd, record).await,
        })
    }

    /// What a CRI runtime says of this id, as a container or as a sandbox.
    async fn cri(&mut self, cri: &Cri, id: &str, cgroup: &str) -> Option<Claim> {
        let socket = cri.socket().display();
        let is_here = |path: &Option<String>| path.as_deref().is_none_or(|path| owns(path, cgroup));
        let container = self.remote(&socket, cri.container(id).await).flatten();
        if let Some(container) = container.filter(|container| is_here(&container.cgroups_path)) {
            let sandbox = match &container.sandbox_id {
                Some(sandbox) => self.remote(&socket, cri.sandbox(sandbox).await).flatten(),
                None => None,
            };
            return Some(self.cri_claim(cri, container, sandbox).await);
        }
        let sandbox = self.remote(&socket, cri.sandbox(id).await).flatten();
        let sandbox = sandbox.filter(|sandbox| is_here(&sandbox.cgroups_path))?;
        Some(Claim {
            kind: Some(Kind::Sandbox),
            through_cri: true,
            image: sandbox.image.clone(),
            naming: Naming::AnyOfDigest,
            pod: Some(pod_of(&sandbox)),
            note: note_of(&sandbox),
            static_pod: is_static(&sandbox),
            labels: Some(sandbox.labels),
            ..Claim::new(Source::Cri, id, "cri")
        })
    }

    async fn containerd_claim(
        &mut self,
        containerd: &Containerd,
        record: ContainerRecord,
    ) -> Claim {
        let socket = containerd.socket().display();
        let namespace = record.namespace.as_str();
        let cri_kind = record.labels.get(CRI_KIND).map(String::as_str);
        let image = match record.image.as_str() {
            "" => None,
            name => self.remote(&socket, containerd.image(namespace, name).await),
        };
        let image = image.flatten();
        let digest = image.map(|image| image.digest);
        // A native client records the reference that was typed; the CRI plugin any name of the digest. Either may
        // record an id that the CRI plugin gave the image as a further name.
        let as_asked = cri_kind.is_none() && !record.image.starts_with("sha256:");
        let (mut names, mut pulled_from) = (Vec::new(), None);
        if let Some(digest) = &digest {
            names = self
                .remote(&socket, containerd.names_of(namespace, digest).await)
                .unwrap_or_default();
            pulled_from = self
                .remote(&socket, containerd.sources(namespace, digest).await)
                .flatten();
        }
        let label = |key: &str| record.labels.get(key).cloned();
        Claim {
            runtime_namespace: Some(record.namespace.clone()),
            kind: Some(if cri_kind == Some("sandbox") {
                Kind::Sandbox
            } else {
                Kind::Container
            }),
            through_cri: cri_kind.is_some(),
            image: Some(record.image).filter(|image| !image.is_empty()),
            naming: if as_asked {
                Naming::AsAsked
            } else {
                Naming::AnyOfDigest
            },
            names: names.into_iter().collect(),
            digest,
            pulled_from,
            container_name: cri_kind.and_then(|_| label("io.kubernetes.container.name")),
            pod: cri_kind.and_then(|_| pod_of_labels(&record.labels)),
            labels: None,
            ..Claim::new(Source::Containerd, record.id, "containerd")
        }
    }

    async fn cri_claim(
        &mut self,
        cri: &Cri,
        container: CriContainer,
        sandbox: Option<CriSandbox>,
    ) -> Claim {
        let asked_for = container
            .user_specified_image
            .clone()
            .filter(|image| !image.is_empty());
        let mut names = BTreeSet::new();
        let image = container
            .image_id
            .as_deref()
            .unwrap_or(&container.image_ref);
        // Whoever calls the CRI says what was asked for; the names of the digest tell whether that can be.
        if let Some(image) = self
            .remote(cri.socket().display(), cri.image(image).await)
            .flatten()
        {
            names.extend(image.repo_tags.into_iter().chain(image.repo_digests));
        }
        let digest = container
            .image_ref
            .rsplit_once('@')
            .map(|(_, digest)| digest.to_owned());
        Claim {
            kind: Some(Kind::Container),
            through_cri: true,
            naming: if asked_for.is_some() {
                Naming::AsAsked
            } else {
                Naming::AnyOfDigest
            },
            image: asked_for.or(Some(container.image)),
            names,
            digest,
            container_name: Some(container.name),
            pod: sandbox
                .as_ref()
                .map(pod_of)
                .or_else(|| pod_of_labels(&container.labels)),
            note: sandbox.as_ref().and_then(note_of),
            static_pod: sandbox.as_ref().and_then(is_static),
            labels: sandbox.map(|sandbox| sandbox.labels),
            ..Claim::new(Source::Cri, container.id, "cri")
        }
    }
}

/// What is left of a record whose labels are forged: a native client's, with the image that it named.
fn without_labels(claim: Claim) -> Claim {
    let is_id = |image: &String| image.starts_with("sha256:");
    Claim {
        kind: Some(Kind::Container),
        through_cri: false,
        naming: if claim.image.as_ref().is_some_and(is_id) {
            Naming::AnyOfDigest
        } else {
            Naming::AsAsked
        },
        container_name: None,
        pod: None,
        ..claim
    }
}

fn note_of(sandbox: &CriSandbox) -> Option<String> {
    sandbox
        .annotations
        .get(imageswap_policy::note::ANNOTATION)
        .cloned()
}

fn is_static(sandbox: &CriSandbox) -> Option<bool> {
    let source = sandbox.annotations.get(POD_SOURCE)?;
    Some(source != "api")
}

fn of_bundle(bundle: Bundle) -> Claim {
    let claim = Claim::new(Source::Bundle, bundle.id, "containerd");
    let Some(cri) = bundle.cri else {
        return Claim {
            runtime_namespace: bundle.namespace,
            ..claim
        };
    };
    Claim {
        runtime_namespace: bundle.namespace,
        kind: Some(if cri.sandbox {
            Kind::Sandbox
        } else {
            Kind::Container
        }),
        image: cri.image_name,
        naming: Naming::AnyOfDigest,
        container_name: cri.container_name,
        pod: match (cri.pod_namespace, cri.pod_name, cri.pod_uid) {
            (Some(namespace), Some(name), Some(uid)) => Some(Pod {
                namespace,
                name,
                uid,
            }),
            _ => None,
        },
        ..claim
    }
}

fn of_podman(state: &RuncState, image: StoredImage) -> Claim {
    Claim {
        kind: Some(Kind::Container),
        image: image.name,
        // What it was asked for may have been tagged onto it a moment before.
        naming: Naming::AnyOfDigest,
        names: image.names,
        digest: image.digest,
        ..Claim::new(Source::Podman, state.id.clone(), "podman")
    }
}

fn of_runc(state: &RuncState) -> Claim {
    // containerd's shim has runc keep its state in a folder of each namespace, below one of Docker's for that.
    let is_below = |name: &str| state.root.iter().any(|part| part == name);
    let runtime = ["containerd", "docker"].into_iter().find(|it| is_below(it));
    Claim {
        kind: Some(Kind::Container),
        ..Claim::new(Source::Runc, state.id.clone(), runtime.unwrap_or("runc"))
    }
}

fn pod_of(sandbox: &CriSandbox) -> Pod {
    Pod {
        namespace: sandbox.namespace.clone(),
        name: sandbox.name.clone(),
        uid: sandbox.uid.clone(),
    }
}

/// The pod that the kubelet names in a container's labels.
fn pod_of_labels(labels: &BTreeMap<String, String>) -> Option<Pod> {
    let get = |key: &str| labels.get(key).cloned();
    Some(Pod {
        namespace: get("io.kubernetes.pod.namespace")?,
        name: get("io.kubernetes.pod.name")?,
        uid: get("io.kubernetes.pod.uid")?,
    })
}
