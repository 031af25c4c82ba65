//! What each input means for the table of starts. One task owns all of this; nothing here waits.

use crate::container::{CgroupIdentity, RuntimeHint, classify};
use crate::evidence::containerd::{Containerd, TaskRecord};
use crate::evidence::cri::Cri;
use crate::export::shown::Shown;
use crate::export::{CAUSE_LATE_ANSWER, CAUSE_OVERFLOW, CAUSE_RUNTIME_BACK, Exports};
use crate::facts::{Confirmation, Evidence, Facts, Process, Sight, Source, StartId};
use crate::finding::{Event, Finding};
use crate::hierarchy::Hierarchy;
use crate::judge::Law;
use crate::node;
use crate::pods::{Ownership, PodChange, Pods};
use crate::probe::{Control, KernelEvent};
use crate::process;
use crate::resolve::{Answer, Question, Resolver};
use crate::starts::Starts;
use crate::verdict::Verdict;
use imageswap_policy::Policies;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;

mod put;
pub mod walk;

/// Starts in the table from which on a new cgroup is registered no earlier than its first process.
const MOST_STARTS: usize = 4096;

/// Earlier revisions of the policy that are kept, to tell what was fine when it was admitted.
const PAST_POLICIES: usize = 16;

/// The agent's state.
pub struct Agent {
    starts: Starts,
    /// Cgroups below a container's own, by id: path of the container's.
    inner: HashMap<u64, String>,
    /// Starts about which the sources are being asked.
    asked: HashSet<StartId>,
    /// Namespace and id by which a containerd spoke of a start whose cgroup's path does not tell them.
    named: HashMap<StartId, (String, String)>,
    /// Questions asked so far.
    attempts: u32,
    pods: Pods,
    /// Why a start was found late, until that is told.
    late: HashMap<StartId, &'static str>,
    hierarchy: Hierarchy,
    proc: PathBuf,
    control: Control,
    resolver: Resolver,
    exports: Exports,
    law: Law,
    asks_pods: bool,
    shown: Shown,
    amiss_changed: bool,
}

/// What an agent is made of.
pub struct Parts {
    /// The table, empty.
    pub starts: Starts,
    /// The hierarchy that is watched.
    pub hierarchy: Hierarchy,
    /// Where the node's /proc is.
    pub proc: PathBuf,
    /// The probes' maps.
    pub control: Control,
    /// Who asks the sources.
    pub resolver: Resolver,
    /// Where findings go.
    pub exports: Exports,
    /// By what starts are judged.
    pub law: Law,
    /// Whether there is an API server to ask about Pods.
    pub asks_pods: bool,
    /// Where what is amiss is shown.
    pub shown: Shown,
}

impl Agent {
    /// Puts the parts together.
    pub fn new(parts: Parts) -> Self {
        let Parts {
            starts,
            hierarchy,
            proc,
            control,
            resolver,
            exports,
            law,
            asks_pods,
            shown,
        } = parts;
        Self {
            starts,
            inner: HashMap::new(),
            asked: HashSet::new(),
            named: HashMap::new(),
            attempts: 0,
            pods: Pods::default(),
            late: HashMap::new(),
            hierarchy,
            proc,
            control,
            resolver,
            exports,
            law,
            asks_pods,
            shown,
            amiss_changed: false,
        }
    }

    /// The kernel saw something.
    pub fn kernel(&mut self, event: KernelEvent) {
        tracing::trace!(?event, "kernel");
        match event {
            KernelEvent::Mkdir { .. } if self.starts.count() >= MOST_STARTS => {}
            KernelEvent::Mkdir {
                cgroup_id, path, ..
            } => {
                // A path that fits no record is looked up by its inode; that is slow, and next to never.
                let Some(path) = path.or_else(|| self.path_of(cgroup_id)) else {
                    return;
                };
                self.made(cgroup_id, &path, Sight::Event);
            }
            KernelEvent::Exec {
                cgroup_id,
                pid,
                comm,
                new_pid_namespace,
                cgroup_in_use,
                time_ns,
            } => {
                let by = Confirmation::Exec;
                let process = Process {
                    by,
                    time_ns,
                    pid,
                    comm: Some(comm),
                    new_pid_namespace,
                };
                self.began(cgroup_id, process, cgroup_in_use);
            }
            KernelEvent::Rmdir { cgroup_id } => {
                self.inner.remove(&cgroup_id);
                for start in self.starts.within(cgroup_id) {
                    self.observe(start, Evidence::Removed);
                }
            }
        }
    }

    /// A runtime says that a task runs.
    pub fn task(&mut self, task: &TaskRecord, sight: Sight) {
        let path = self.hierarchy.of_process(&self.proc, task.pid);
        let root = path.as_deref().map(container_root);
        let known = root
            .and_then(|root| self.starts.at(root))
            .map(|start| self.start_of_task(start, task))
            .or_else(|| self.by_id(&task.id));
        let start = known.or_else(|| {
            let root = root?;
            let start = StartId::of(self.hierarchy.id_of(root)?);
            // The runtime says that it is a container, whatever its path looks like.
            if sight == Sight::Reconciled {
                self.late.insert(start, CAUSE_RUNTIME_BACK);
            }
            self.starts.begin(start, root);
            self.control.watch(start.cgroup);
            self.observe(start, Evidence::Seen(sight));
            Some(start)
        });
        let Some(start) = start else { return };
        self.name(start, task);
        let comm = process::name_unless_runtime(&self.proc, task.pid);
        // A runtime speaks of a start when it has let go of its own process, whose exec may yet fail.
        if comm.is_none() && self.hierarchy.sees_execs() {
            return;
        }
        let process = Process {
            by: Confirmation::Runtime,
            time_ns: node::now().boot_ns,
            pid: task.pid,
            comm,
            new_pid_namespace: process::in_own_pid_namespace(&self.proc, task.pid),
        };
        self.confirm(start, process);
    }

    /// Keeps what a containerd calls a start, where nothing else tells.
    fn name(&mut self, start: StartId, task: &TaskRecord) {
        let is_unnamed = |facts: &Facts| {
            facts.identity.container_id.is_none() && facts.trusted().next().is_none()
        };
        if self.starts.facts(start).is_some_and(is_unnamed) {
            let name = (task.namespace.clone(), task.id.clone());
            self.named.insert(start, name);
            self.ask(start, true);
        }
    }

    /// The sources have answered.
    pub fn answer(&mut self, answer: Answer) {
        let Answer {
            start,
            claims,
            pod,
            unreachable,
            attempt,
            last,
        } = answer;
        self.asked.remove(&start);
        if let Some(pod) = pod {
            self.observe(start, Evidence::Pod(pod));
        }
        for claim in claims {
            self.observe(start, Evidence::Claim(Box::new(claim)));
        }
        let Some(facts) = self.starts.facts(start) else {
            return;
        };
        if last || facts.has_image() {
            let settled = Evidence::Settled {
                attempt,
                unreachable,
            };
            self.observe(start, settled);
        } else if facts.process.is_some() {
            // It was asked before the container ran, and the runtime may write its record late.
            self.ask(start, true);
        }
        let is_none = |facts: &Facts| {
            facts.process.is_some() && !facts.is_container() && !facts.may_be_container()
        };
        if self.starts.facts(start).is_some_and(is_none) {
            self.starts.forget(start);
            self.control.forget(start.cgroup);
        }
    }

    /// The policy changed: everything that runs is judged again.
    pub fn policy(&mut self, policies: Arc<Policies>) {
        let before = std::mem::replace(&mut self.law.policies, policies);
        if before.revision() != self.law.policies.revision() {
            self.law.past.insert(0, before);
            self.law.past.truncate(PAST_POLICIES);
        }
        self.rejudge();
    }

    /// Labels of a namespace changed: what is judged by them is judged again.
    pub fn namespaces(&mut self) {
        if self.law.policies.need_namespace_labels().next().is_some() {
            self.rejudge();
        }
    }

    /// The API server told of the node's Pods.
    pub fn pods(&mut self, change: PodChange) {
        if let PodChange::Known(pod) = &change {
            let its = |facts: &Facts| facts.pod_uid() == Some(pod.uid_on_node());
            let starts: Vec<_> = self
                .starts
                .alive()
                .filter(|(_, facts)| its(facts))
                .map(|(id, _)| id)
                .collect();
            for start in starts {
                let known = Ownership::Known(Arc::clone(pod));
                self.observe(start, Evidence::Pod(known));
            }
        }
        self.pods.apply(change, node::now().boot_ns);
    }

    /// Reports what no source has answered about yet, and sends what waits to be sent. Blocks for some seconds at most.
    pub fn shutdown(&mut self) {
        let findings = self.starts.settle_all(&self.law, node::now());
        self.tell(&findings);
        self.exports.shutdown();
    }

    /// Cgroups of the containers that runc and crun keep state of; for a look at the tree.
    pub fn runc_cgroups(&self) -> impl Future<Output = HashSet<String>> + Send + use<> {
        self.resolver.runc_cgroups()
    }

    /// Asks these runtimes from now on, too.
    pub fn runtimes(&mut self, containerds: Vec<Containerd>, cris: Vec<Cri>) {
        self.resolver.add(containerds, cris);
    }

    fn rejudge(&mut self) {
        let findings = self.starts.rejudge(&self.law, node::now());
        self.tell(&findings);
    }

    /// Drops what ended long ago, judges by today's date, and asks again about what nobody knew.
    pub fn refresh(&mut self) {
        let purged = self.starts.purge(&self.law, node::now());
        self.tell(&purged.findings);
        self.exports.unanswered(purged.unanswered);
        if self.starts.count() >= MOST_STARTS {
            self.starts.forget_waiting();
        }
        self.pods.purge(node::now().boot_ns);
        // Exceptions end at midnight, which no event tells.
        self.rejudge();
        let starts = &self.starts;
        self.late.retain(|id, _| starts.facts(*id).is_some());
        self.named.retain(|id, _| starts.facts(*id).is_some());
        // The API server may have been away when it should have said whose a container is.
        let is_unowned = |facts: &Facts| {
            self.asks_pods
                && facts.pod.is_none()
                && facts.claims.contains_key(&Source::Cri)
                && !facts.identity.static_pod
        };
        let open: Vec<_> = starts
            .alive()
            .filter(|(id, facts)| {
                let is_open =
                    facts.process.is_some() && !facts.is_container() && facts.may_be_container();
                starts.is_unresolved(*id) || is_open || is_unowned(facts)
            })
            .map(|(id, _)| id)
            .collect();
        for start in open {
            self.ask(start, true);
        }
    }

    /// Shows what is amiss now, if that has changed; asked for once a second and not with each of a thousand starts.
    pub fn show(&mut self) {
        if std::mem::take(&mut self.amiss_changed) {
            let amiss = self.starts.amiss(&self.law, node::now());
            self.shown.set(&amiss);
        }
    }

    /// Takes what did not fit the ring buffer and passes on the kernel's counters; true when more events were lost.
    pub fn count(&mut self) -> bool {
        let overflow = self.control.overflow();
        if !overflow.is_empty() {
            self.exports
                .reconciled(CAUSE_OVERFLOW, overflow.len() as u64);
        }
        for event in overflow {
            self.kernel(event);
        }
        self.exports.costs(&self.control.costs());
        let lost = self.control.lost();
        self.exports.lost(lost)
    }

    /// A cgroup exists: register it where it may be a container's.
    fn made(&mut self, cgroup_id: u64, path: &str, sight: Sight) {
        let identity = classify(path);
        match (identity.is_container_root, identity.runtime) {
            (Some(false), _) => {
                let root = identity.root_of(path).to_owned();
                let runs = self
                    .starts
                    .at(&root)
                    .and_then(|root| self.starts.facts(root)?.process.as_ref());
                if runs.is_some() {
                    self.control.forget(cgroup_id);
                } else {
                    self.inner.insert(cgroup_id, root);
                }
            }
            (None, _) if is_no_container(&identity, path) => self.control.forget(cgroup_id),
            (is_root, _) => {
                let start = StartId::of(cgroup_id);
                self.starts.begin(start, path);
                self.observe(start, Evidence::Seen(sight));
                if is_root == Some(true) {
                    self.ask(start, false);
                }
            }
        }
    }

    /// A container's process began in a cgroup, its own or one below; `in_use` where nobody waited for one there.
    fn began(&mut self, cgroup_id: u64, process: Process, in_use: bool) {
        let own = StartId::of(cgroup_id);
        let first = if self.starts.facts(own).is_some() {
            Some(own)
        } else {
            let root = self.inner.remove(&cgroup_id).or_else(|| {
                // Its mkdir was lost, or came before the probes.
                let path = self.hierarchy.of_process(&self.proc, process.pid)?;
                Some(container_root(&path).to_owned())
            });
            root.and_then(|root| {
                let start = StartId::of(self.hierarchy.id_of(&root)?);
                if self.starts.facts(start).is_none() {
                    self.made(start.cgroup, &root, Sight::Event);
                }
                Some(start)
            })
        };
        let Some(first) = first else {
            // Its mkdir was lost, and it was gone before its path could be read.
            self.exports.unplaced();
            return;
        };
        // The first process may run one program after the other, as an entrypoint's shell does with `exec`.
        let is_another = |facts: &Facts| {
            let known = facts.process.as_ref();
            in_use && known.is_some_and(|known| known.pid != process.pid)
        };
        let start = if self.starts.facts(first).is_some_and(is_another) {
            self.put(first, process.pid)
        } else {
            first
        };
        self.confirm(start, process);
        if start != first {
            self.end_what_left(&BTreeSet::from([first.cgroup]));
        }
    }

    fn confirm(&mut self, start: StartId, process: Process) {
        // The probes let go of a cgroup by themselves; one that somebody else confirmed would have its next
        // `exec` into the running container told as the container's first process.
        if process.by != Confirmation::Exec {
            self.control.forget(start.cgroup);
        }
        self.observe(start, Evidence::Confirmed(process));
        if self
            .starts
            .facts(start)
            .is_some_and(|facts| facts.settled.is_none())
        {
            self.ask(start, true);
        }
    }

    /// Asks every source about a start, unless that is under way. After the `last` time the verdict is given.
    fn ask(&mut self, start: StartId, last: bool) {
        let Some(facts) = self.starts.facts(start) else {
            return;
        };
        if self.asked.insert(start) {
            self.attempts += 1;
            let pod = facts.pod_uid().and_then(|uid| self.pods.of(uid));
            self.resolver.ask(Question {
                start,
                cgroup: facts.cgroup.clone(),
                identity: facts.identity.clone(),
                process: facts.process.as_ref().map(|process| process.pid),
                named: self.named.get(&start).cloned(),
                pod: pod.cloned(),
                attempt: self.attempts,
                last,
            });
        }
    }

    fn observe(&mut self, start: StartId, evidence: Evidence) {
        let unresolved = self.starts.is_unresolved(start);
        let findings = self.starts.observe(start, evidence, &self.law, node::now());
        for finding in &findings {
            match finding.event {
                Event::Reconciled => {
                    if let Some(cause) = self.late.remove(&start) {
                        self.exports.reconciled(cause, 1);
                    }
                }
                Event::Rejudged if unresolved && finding.verdict != Verdict::Unresolved => {
                    self.exports.reconciled(CAUSE_LATE_ANSWER, 1);
                }
                _ => {}
            }
        }
        self.tell(&findings);
    }

    fn tell(&mut self, findings: &[Finding]) {
        if findings.is_empty() {
            return;
        }
        self.exports.findings(findings);
        self.exports.drift(&self.starts, &self.law);
        self.amiss_changed = true;
    }

    /// A process in the cgroup that is the container's own and not the runtime on its way there.
    fn container_process(&self, cgroup: &str) -> Option<Process> {
        let mut processes = self.hierarchy.processes(cgroup);
        // Its first one, where that can be told: it stays as long as the container does.
        processes.sort_by_key(|pid| !process::is_first_of_pid_namespace(&self.proc, *pid));
        processes.into_iter().find_map(|pid| {
            let time_ns = node::now().boot_ns;
            let comm = process::own_name(&self.proc, pid, time_ns)?;
            Some(Process {
                by: Confirmation::Walk,
                time_ns,
                pid,
                comm: Some(comm),
                new_pid_namespace: process::in_own_pid_namespace(&self.proc, pid),
            })
        })
    }

    fn by_id(&self, container_id: &str) -> Option<StartId> {
        let is_it = |facts: &Facts| {
            facts.identity.container_id.as_deref() == Some(container_id)
                || facts.claims.values().any(|claim| claim.id == container_id)
        };
        self.starts
            .alive()
            .find(|(_, facts)| is_it(facts))
            .map(|(id, _)| id)
    }

    fn is_at(&self, cgroup_id: u64, path: &str) -> bool {
        self.hierarchy.id_of(path) == Some(cgroup_id)
    }

    fn path_of(&self, cgroup_id: u64) -> Option<String> {
        let found = self.hierarchy.find(|cgroup| cgroup.id == cgroup_id);
        found.map(|cgroup| cgroup.path)
    }
}

/// The container's own cgroup where `path` lies in one, else `path`.
fn container_root(path: &str) -> &str {
    let identity = classify(path);
    match identity.is_container_root {
        Some(_) => identity.root_of(path),
        // A pod's own cgroup holds containers and is none; what lies below it in a form of its own may be one.
        None => path,
    }
}

/// Whether the cgroup is known to be none of a container: a runtime's monitor, a pod's own, a unit of systemd.
fn is_no_container(identity: &CgroupIdentity, path: &str) -> bool {
    match identity.runtime {
        RuntimeHint::CriOMonitor | RuntimeHint::PodmanMonitor => true,
        RuntimeHint::KubernetesPod => identity.root_of(path) == path,
        _ => is_unit(path),
    }
}

/// Whether systemd made the cgroup for a unit that is no container: the units that containers get are scopes.
fn is_unit(path: &str) -> bool {
    [".service", ".slice", ".socket", ".mount", ".swap"]
        .iter()
        .any(|suffix| path.ends_with(suffix))
}
