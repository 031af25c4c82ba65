//! Joins a runtime's record to a start: the record whose process, according to the runtime, is the
//! start's.
//!
//! | source | how it identifies a container's process |
//! |---|---|
//! | containerd | its task's pid (`Tasks.Get`), while that process lives |
//! | CRI | the pid of the verbose status; or the task's, where the same containerd serves both: a sandbox is not exempt then |
//! | runc, crun | the pid and the start time in their state |
//! | the bundle of a containerd | the pid that the shim wrote into it, no earlier than the process began |
//!
//! While a runtime starts a container, it answers only after the start. So it is asked earlier,
//! when it reports that it has made a task; that answer waits here for the process to begin.
//!
//! A container may end before its runtime answers which process its task has. Then only the event
//! names the process, and every client of a containerd can publish events. So a record that is
//! joined by an event alone may accuse, but neither approves nor exempts.

use super::containerd::{OfRecord, task_of};
use super::cri::{Image, OfCri};
use super::described::{Described, Snapshot};
use super::prepared::{Kept, KeptAnswer};
use super::{Asked, Question, Sources, sandbox};
use crate::claim::{Claim, Content, Kind};
use crate::evidence::containerd::{Containerd, TaskRecord};
use crate::evidence::docker::is_id;
use crate::evidence::root::IsRoot;
use crate::evidence::runc::RuncState;
use crate::evidence::sandbox::KIND;
use crate::node;
use crate::process::{Subject, ancestors, cgroups, depth};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{sleep, timeout};
use tokio::{join, try_join};

/// How long a start waits for a question about its task that is in progress.
const LONGEST_WAIT: Duration = Duration::from_millis(250);
/// A report about a process, or containerd's answer about it, should not take longer.
const MOMENT: Duration = Duration::from_millis(1);
/// How long a start whose process has ended waits for an event about its task, in moments.
const MOST_LATE: usize = 100;
/// A process that is older has no event that is still to come: its task was made before it.
const OLDEST_LATE: Duration = Duration::from_secs(10);

/// Digests in the names of one image that are compared with what runs: each build of the same image can have
/// another one, by its attestations.
const MOST_DIGESTS: usize = 64;

/// Whether a process is that of a reported task.
enum IsOfTask {
    Yes,
    No,
    /// The process has ended, so nothing can confirm it any more.
    Gone,
}

impl Sources {
    /// Asks about a task that was made, and keeps the answers until its program begins. They count
    /// only if containerd answers that the task has this process, because the report may be forged.
    pub(super) async fn prepare(self: &Arc<Self>, made: &TaskRecord, process: Subject) {
        if self.prepared.is_joined(process) {
            return;
        }
        let asked = Asked::default();
        let is_its = async {
            match self.is_of_task(made, process).await {
                IsOfTask::Yes => Ok(()),
                not => Err(not),
            }
        };
        let described = async {
            // The answer about a forged report comes at once, and needs no record. That about a task
            // that is being started comes late, and its record need not wait for it.
            sleep(MOMENT).await;
            Ok(self.describe(&asked, made, process).await)
        };
        let answer = match try_join!(is_its, described) {
            Ok(((), Some(described))) => Some(KeptAnswer::Joined(Box::new(described), asked)),
            Err(IsOfTask::Gone) => Some(KeptAnswer::Gone(made.clone())),
            Ok(((), None)) | Err(_) => None,
        };
        let Some(answer) = answer else {
            tracing::debug!(
                id = made.id,
                pid = made.pid,
                "a report of a new task is not used: it has another process, or no record any more"
            );
            return;
        };
        self.prepared.keep(Kept { process, answer });
    }

    /// Whether containerd answers that this is the task's process. The process has to outlive the
    /// answer, because another process could get its pid.
    async fn is_of_task(&self, made: &TaskRecord, process: Subject) -> IsOfTask {
        let Some(containerd) = self.containerd_at(&made.socket) else {
            return IsOfTask::No;
        };
        let task = containerd.task(&made.namespace, &made.id).await;
        let is_its = |task: &TaskRecord| task.pid == process.pid && task.status.has_process();
        let is_task = task.is_ok_and(|task| task.as_ref().is_some_and(is_its));
        if is_task && process.is_alive(&self.proc) {
            IsOfTask::Yes
        } else if process.runs(&self.proc) {
            IsOfTask::No
        } else {
            IsOfTask::Gone
        }
    }

    /// The description prepared for the start; it may arrive a moment later. The start does not wait
    /// for the turns of reports about its process.
    pub(super) async fn prepared(
        self: &Arc<Self>,
        question: &Question,
    ) -> Option<(Described, Asked)> {
        let process = question.process;
        let ask = async {
            for report in self.prepared.waiting(process.pid) {
                self.prepare(&report.task, report.process).await;
            }
            self.prepared.ended(process.pid).await;
        };
        // What takes longer is asked anew.
        _ = timeout(LONGEST_WAIT, ask).await;
        let kept = self.prepared.take(process)?;
        let is_same = process.started.is_some() && kept.process == process;
        let (mut described, asked) = match kept.answer {
            KeptAnswer::Joined(described, asked) => (*described, asked),
            KeptAnswer::Gone(made) => {
                let asked = Asked::default();
                let described = self.describe(&asked, &made, kept.process).await?;
                (
                    Described {
                        is_joined: false,
                        ..described
                    },
                    asked,
                )
            }
        };
        described.is_joined &= is_same;
        Some((described, asked))
    }

    /// The same for a process that has ended and that no source knows: the event may be late.
    pub(super) async fn prepared_at_last(
        self: &Arc<Self>,
        question: &Question,
    ) -> Option<(Described, Asked)> {
        let age = question.process.age(node::now().boot_ns);
        if age.is_some_and(|age| age > OLDEST_LATE) {
            return None;
        }
        let late = async {
            for _ in 0..MOST_LATE {
                sleep(MOMENT).await;
                let prepared = self.prepared(question).await;
                if prepared.is_some() {
                    return prepared;
                }
            }
            None
        };
        // Any client of containerd can go on reporting tasks whose shims hang.
        timeout(2 * LONGEST_WAIT, late).await.ok().flatten()
    }

    /// The containerd task of the start: the one whose process is the start's. Returns its process,
    /// too.
    pub(super) async fn task_of(
        &self,
        asked: &Asked,
        question: &Question,
        state: Option<&RuncState>,
    ) -> Option<(TaskRecord, Subject)> {
        let firsts = self.firsts(question);
        let pids = firsts.iter().map(|it| it.pid).collect();
        let hints = self.hints(question, state);
        let asks = self.containerds.iter().map(|it| task_of(it, &pids, &hints));
        let task = asked.first(asks).await?;
        let first = firsts.into_iter().find(|it| it.pid == task.pid)?;
        // If a process is gone, another one may have its pid by now.
        let is_alive = |it: Subject| it.is_alive(&self.proc);
        (is_alive(question.process) && is_alive(first)).then_some((task, first))
    }

    /// The processes that can be the container's first: the start's process and, if that may be any
    /// process of the container, its ancestors in the same container.
    pub(super) fn firsts(&self, question: &Question) -> Vec<Subject> {
        let mut firsts = vec![question.process];
        if !question.is_first {
            firsts.extend(self.above(question.process.pid));
        }
        firsts
    }

    /// The ancestors of a process in the same container: in the same cgroups and at the same depth
    /// of pid namespaces.
    fn above(&self, pid: u32) -> Vec<Subject> {
        let of = |pid: u32| (cgroups(&self.proc, pid), depth(&self.proc, pid));
        let own = of(pid);
        let same = |above: &u32| own.0.is_some() && of(*above) == own;
        ancestors(&self.proc, pid)
            .take_while(same)
            .map(|above| Subject::now(&self.proc, above))
            .collect()
    }

    /// Where to ask first: the namespace and id that the container may have.
    fn hints(
        &self,
        question: &Question,
        state: Option<&RuncState>,
    ) -> Vec<(Option<String>, String)> {
        let named = question.named.as_deref().cloned();
        let named = named.map(|(namespace, id)| (Some(namespace), id));
        let by_state = state.map(|state| (self.runc.namespace_of(state), state.id.clone()));
        let identity = &question.identity;
        let by_path = identity.container_id.clone();
        let by_path = by_path.map(|id| (identity.containerd_namespace.clone(), id));
        named.into_iter().chain(by_state).chain(by_path).collect()
    }

    /// The description of a task's container from containerd, from Docker if Docker made it, and
    /// from the CRI if that knows it by now. `process` is the task's.
    pub(super) async fn describe(
        self: &Arc<Self>,
        asked: &Asked,
        task: &TaskRecord,
        process: Subject,
    ) -> Option<Described> {
        let containerd = self.containerd_at(&task.socket)?;
        let record = containerd.container(&task.namespace, &task.id).await;
        let record = asked.remote(task.socket.display(), record).flatten()?;
        // These futures are large, and wait in the futures of all who ask.
        let answers = Box::pin(async {
            let own = async {
                let own = Snapshot::of(&record)?;
                self.snapshot_of(asked, containerd, own, 1, process).await
            };
            let dockers = async {
                let root = record.root.as_ref().filter(|_| is_id(&record.id))?;
                let keeper = Some((containerd, &record));
                self.of_docker(asked, root, &record.id, process, keeper)
                    .await
            };
            let cri = async {
                if !record.labels.contains_key(KIND) {
                    return OfCri::NotYet;
                }
                self.of_cri(asked, &task.id, &[process], Some(task)).await
            };
            join!(
                own,
                dockers,
                cri,
                asked.named(containerd, &record),
                self.may_be_hooked(task, process)
            )
        });
        let (own, dockers, cri, named, may_be_hooked) = answers.await;
        // A folder may be in the place of the snapshot.
        let is_on_another = record.root.is_none() && matches!(own, Some((.., IsRoot::No)));
        let own = own.filter(|(.., is_root)| *is_root == IsRoot::Yes);
        let (own, parent) = own.map(|(root, parent, _)| (root, parent)).unzip();
        let layers = parent.filter(|_| record.root.is_none());
        let of_record = asked.containerd_claim(containerd, &record, named, layers.as_deref());
        let OfRecord { mut claim, image } = of_record.await;
        if is_on_another {
            claim.content = Content::OfAnotherRoot;
        }
        if claim.kind == Some(Kind::Sandbox) && claim.content == Content::Its {
            let expected = image.map(|image| image.command);
            let command = record.sandbox_command;
            let is_its = match command.filter(|command| expected.as_ref() == Some(command)) {
                Some(command) => self.is_in_bundle(asked, task, process, command).await,
                None => false,
            };
            if !is_its {
                claim.content = Content::Another;
            }
        }
        let (dockers, made) = dockers.unzip();
        let mut described = Described {
            task: task.clone(),
            process,
            containerd: self.common.bounded(claim),
            layers,
            dockers: dockers.map(|claim| self.common.bounded(claim)),
            cri: None,
            root: made.flatten().or(own),
            may_be_hooked,
            is_joined: true,
        };
        if let (OfCri::Is(claim, image), None) = (cri, &described.dockers) {
            let checked = self.checked(asked, *claim, image, &described).await;
            described.cri = Some(self.common.bounded(checked));
        }
        Some(described)
    }

    /// The CRI's claim about a container of the same daemon, with the check of its layers against
    /// the CRI's image.
    pub(super) async fn checked(
        &self,
        asked: &Asked,
        claim: Claim,
        image: Image,
        described: &Described,
    ) -> Claim {
        let Described {
            task,
            layers,
            containerd: record,
            ..
        } = described;
        let content = match (self.containerd_at(&task.socket), image) {
            (_, Image::Id(_)) if claim.content == Content::Another => return claim,
            (Some(containerd), Image::Id(id)) => {
                let namespace = &task.namespace;
                let (content, sources) = join!(
                    asked.runs_on(containerd, namespace, &id, layers.as_deref()),
                    containerd.sources(namespace, &id)
                );
                // containerd's record may name another image than the CRI's, whose source it is not.
                // An unknown source could speak against the image.
                let pulled_from = asked.remote(task.socket.display(), sources).flatten();
                let content = pulled_from.as_ref().map_or(Content::Another, |_| content);
                let claim = Claim {
                    content,
                    pulled_from,
                    ..claim
                };
                return asked.with_its_digests(containerd, claim, described).await;
            }
            (_, Image::Configured(configured)) if record.kind == Some(Kind::Sandbox) => {
                return sandbox::checked(claim, configured.as_deref(), record);
            }
            // A record that is not labelled as a sandbox's was not compared with one.
            (_, Image::Configured(_)) | (None, Image::Id(_)) => Content::Another,
        };
        Claim { content, ..claim }
    }

    pub(super) fn containerd_at(&self, socket: &Path) -> Option<&Containerd> {
        let mut all = self.containerds.iter();
        all.find(|containerd| containerd.socket() == socket)
    }
}

impl Asked {
    /// The CRI's claim with those digests alone whose images have the container's layers. The CRI takes
    /// digests from the names in containerd, and clients of containerd can give any image a name with the
    /// digest of another one.
    async fn with_its_digests(
        &self,
        containerd: &Containerd,
        mut claim: Claim,
        described: &Described,
    ) -> Claim {
        let (record, layers) = (&described.containerd, described.layers.as_deref());
        if claim.content != Content::Its {
            return claim;
        }
        let digest_of = |name: &str| name.split_once('@').map(|(_, digest)| digest.to_owned());
        let named = claim.names.iter().filter_map(|name| digest_of(name));
        let named: BTreeSet<_> = named.collect();
        claim.names_left_out |= named.len() > MOST_DIGESTS;
        let named = claim.digest.iter().cloned().chain(named);
        let mut its = BTreeSet::new();
        for digest in named.take(MOST_DIGESTS) {
            let is_compared =
                record.content == Content::Its && record.digest.as_ref() == Some(&digest);
            let namespace = &described.task.namespace;
            let compare = || self.runs_on(containerd, namespace, &digest, layers);
            if is_compared || compare().await == Content::Its {
                its.insert(digest);
            }
        }
        let is_its = |name: &String| digest_of(name).is_none_or(|digest| its.contains(&digest));
        claim.names.retain(is_its);
        claim.digest.take_if(|digest| !its.contains(digest));
        claim
    }
}
