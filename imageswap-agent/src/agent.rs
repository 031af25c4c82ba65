//! Applies each input to the table of starts. One task owns all of this; nothing here waits.

use crate::agent_record::StopReason;
use crate::evidence::containerd::{Containerd, TaskRecord, TaskStatus};
use crate::evidence::cri::Cri;
use crate::export::shown::Shown;
use crate::export::{
    CAUSE_LATE_ANSWER, CAUSE_OVERFLOW, CAUSE_PERIODIC, CAUSE_RUNTIME_BACK, Exports,
};
use crate::facts::{Confirmation, Evidence, Facts, Process, Sight, Source, StartId};
use crate::finding::{Event, Finding};
use crate::hierarchy::Hierarchy;
use crate::judge::Criteria;
use crate::node::{self, Now};
use crate::pods::{Ownership, PodChange, Pods};
use crate::probe::{Control, KernelEvent};
use crate::process::{self, Subject};
use crate::resolve::{Answer, Question, Resolver};
use crate::starts::Starts;
use crate::verdict::Verdict;
use imageswap_policy::Policies;
use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use turns::{Occasion, Turns};
use unsure::Unsure;
use walk::Looking;

mod place;
mod turns;
mod unsure;
pub mod walk;

/// Earlier revisions of the policy that are kept, to decide whether an image was fine when it was
/// admitted.
const PAST_POLICIES: usize = 16;

/// Cgroups without a container whose paths are remembered; the probes keep as many. The path of any
/// other cgroup is looked up from its process.
const MOST_MADE: usize = 8192;

/// One of so many periodic walks looks at every process.
const FULL_WALK_EVERY: u32 = 10;

/// The agent's state.
pub struct Agent {
    starts: Starts,
    /// Paths of cgroups in which no container has begun, by id.
    made: HashMap<u64, String>,
    /// Cgroups in which a walk found no container process, with their processes then.
    empty: Arc<HashMap<u64, Vec<u32>>>,
    /// Cgroups below which the last walk left out others.
    left_out: usize,
    /// Walks since the last full one.
    partial_walks: u32,
    /// On cgroup v1, the cgroups of processes that a runtime has made, because they may be gone
    /// when their start is reported.
    placed: HashMap<u32, (u64, String)>,
    /// Starts for which the sources are being asked, or will be.
    turns: Turns,
    /// Namespace and id that a containerd gave for a start: where to ask first.
    named: HashMap<StartId, (String, String)>,
    /// Tasks whose processes may still be the runtime.
    unsure: Vec<Unsure>,
    /// Questions asked so far.
    attempts: u32,
    /// Starts in cgroups that had other processes before.
    shared: HashSet<StartId>,
    /// Whether a container was put into another one's cgroup, whose end no removed cgroup shows.
    may_have_left: bool,
    pods: Pods,
    /// Why a start was found late, until it is reported.
    late: HashMap<StartId, &'static str>,
    hierarchy: Hierarchy,
    proc: PathBuf,
    control: Control,
    attached_ns: u64,
    resolver: Resolver,
    exports: Exports,
    criteria: Criteria,
    asks_pods: bool,
    shown: Shown,
    unapproved_changed: bool,
}

/// The parts of an agent.
pub struct Parts {
    /// The table, empty.
    pub starts: Starts,
    /// The watched hierarchy.
    pub hierarchy: Hierarchy,
    /// Where the node's /proc is.
    pub proc: PathBuf,
    /// The probes' maps.
    pub control: Control,
    /// When the probes were attached, in nanoseconds since boot.
    pub attached_ns: u64,
    /// Asks the sources.
    pub resolver: Resolver,
    /// Writes findings.
    pub exports: Exports,
    /// The policies and labels that starts are judged by.
    pub criteria: Criteria,
    /// The node's Pods.
    pub pods: Pods,
    /// Whether there is an API server to ask about Pods.
    pub asks_pods: bool,
    /// The page with drifting and unresolved containers.
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
            attached_ns,
            resolver,
            exports,
            criteria,
            pods,
            asks_pods,
            shown,
        } = parts;
        Self {
            starts,
            made: HashMap::new(),
            empty: Arc::default(),
            left_out: 0,
            partial_walks: 0,
            placed: HashMap::new(),
            turns: Turns::default(),
            named: HashMap::new(),
            unsure: Vec::new(),
            attempts: 0,
            may_have_left: false,
            pods,
            late: HashMap::new(),
            shared: HashSet::new(),
            hierarchy,
            proc,
            control,
            attached_ns,
            resolver,
            exports,
            criteria,
            asks_pods,
            shown,
            unapproved_changed: false,
        }
    }

    /// Reports that this agent has watched since its probes were attached; `resumed` says whether
    /// an earlier agent's probes watched before.
    pub fn started(&mut self, attached: Now, resumed: bool) {
        let policies = &self.criteria.policies;
        self.exports.started(attached.wall, policies, resumed);
    }

    /// Handles an event of the kernel.
    pub fn kernel(&mut self, event: KernelEvent) {
        tracing::trace!(?event, "kernel");
        match event {
            KernelEvent::Mkdir {
                cgroup_id, path, ..
            } => {
                self.forget_empty(cgroup_id);
                if let Some(path) = path
                    && self.made.len() < MOST_MADE
                {
                    self.made.insert(cgroup_id, path);
                }
            }
            KernelEvent::Exec {
                cgroup_id,
                pid,
                comm,
                new_pid_namespace,
                first_of_pid_namespace,
                by_another,
                time_ns,
                started_ns,
                ..
            } => {
                // A hook of the runtime, before the container's program. That program is reported
                // as well.
                if by_another && process::may_be_runtime(&self.proc, pid, time_ns) {
                    return;
                }
                let cgroup_id = if by_another {
                    self.cgroup_of(pid).unwrap_or(cgroup_id)
                } else {
                    cgroup_id
                };
                let process = Process {
                    by: Confirmation::Exec,
                    time_ns,
                    pid,
                    comm: Some(comm),
                    new_pid_namespace,
                    started: Some(process::ticks(started_ns)),
                    is_first: true,
                    leads_pid_namespace: first_of_pid_namespace,
                };
                // An exec into a container that the first walk has not reached yet.
                let sight = if by_another && self.ran_before(&process) {
                    Sight::Initial
                } else {
                    Sight::Event
                };
                self.began(cgroup_id, process, first_of_pid_namespace, sight);
            }
            KernelEvent::Rmdir { cgroup_id } => {
                self.made.remove(&cgroup_id);
                self.forget_empty(cgroup_id);
                self.end_without_cgroup(self.starts.within(cgroup_id));
            }
        }
    }

    /// A walk may hold the map, which is then copied: only if it has to change.
    fn forget_empty(&mut self, cgroup: u64) {
        if self.empty.contains_key(&cgroup) {
            Arc::make_mut(&mut self.empty).remove(&cgroup);
        }
    }

    /// Whether a process is known to have begun before the probes were attached.
    fn ran_before(&self, process: &Process) -> bool {
        let attached = process::ticks(self.attached_ns);
        process.started.is_some_and(|started| started < attached)
    }

    fn cgroup_of(&self, pid: u32) -> Option<u64> {
        let path = self.hierarchy.of_process(&self.proc, pid)?;
        self.hierarchy.id_of(&path)
    }

    /// Handles a task that a runtime has made or lists.
    pub fn task(&mut self, task: &TaskRecord, sight: Sight) {
        let path = self.hierarchy.of_process(&self.proc, task.pid);
        let place = path.and_then(|path| Some((self.hierarchy.id_of(&path)?, path)));
        if task.status == TaskStatus::Created {
            self.resolver.prepare(task.clone());
            if let Some(place) = place.filter(|_| !self.hierarchy.sees_execs()) {
                self.placed.insert(task.pid, place);
            }
            return;
        }
        let subject = Subject::now(&self.proc, task.pid);
        // The process of a task that has ended is another one that has its pid.
        if !task.status.has_process() && subject.runs(&self.proc) {
            return;
        }
        let placed = self.placed.remove(&task.pid);
        let Some((cgroup, path)) = place.or(placed) else {
            // The process is gone, and its exec was reported.
            return;
        };
        let time_ns = node::now().boot_ns;
        let comm = process::own_name(&self.proc, task.pid, time_ns);
        // A runtime reports a start after its own process has let go; the exec may still fail.
        if comm.is_none() && self.hierarchy.sees_execs() {
            self.look_again(task, subject, time_ns);
            return;
        }
        let process = Process {
            by: Confirmation::Runtime,
            time_ns,
            pid: task.pid,
            comm,
            new_pid_namespace: process::in_own_pid_namespace(&self.proc, task.pid),
            started: subject.started,
            is_first: true,
            leads_pid_namespace: process::is_first_of_pid_namespace(&self.proc, task.pid),
        };
        let start = self.account(cgroup, &path, &process, sight);
        let is_new = |facts: &Facts| facts.process.is_none();
        if sight == Sight::Reconciled && self.starts.facts(start).is_some_and(is_new) {
            self.late.insert(start, CAUSE_RUNTIME_BACK);
        }
        self.name(start, task);
        self.confirm(start, process);
    }

    /// Keeps a containerd's name for a start that no runtime has reported otherwise.
    fn name(&mut self, start: StartId, task: &TaskRecord) {
        let is_unnamed = |facts: &Facts| facts.trusted().next().is_none();
        if self.starts.facts(start).is_some_and(is_unnamed) {
            let name = (task.namespace.clone(), task.id.clone());
            self.named.insert(start, name);
            self.ask(start);
        }
    }

    /// Handles the answers of the sources.
    pub fn answer(&mut self, answer: Answer) {
        let Answer {
            start,
            process,
            claims,
            pod,
            unreachable,
            attempt,
        } = answer;
        let known = self.starts.facts(start).and_then(|it| it.process.as_ref());
        if known.is_some_and(|known| !known.subject().may_be(process)) {
            // Meanwhile another process turned out to be the container's first.
            self.end_turn(start);
            self.ask(start);
            return;
        }
        if let Some(pod) = pod {
            self.observe(start, Evidence::Pod(pod));
        }
        for claim in claims {
            self.observe(start, Evidence::Claim(Box::new(claim)));
        }
        let settled = Evidence::Settled {
            attempt,
            unreachable,
        };
        self.observe(start, settled);
        let is_none = |facts: &Facts| !facts.is_container() && !facts.may_be_container();
        if self.starts.facts(start).is_some_and(is_none) {
            self.starts.forget(start);
            self.control.forget(start.cgroup);
        }
        self.end_turn(start);
    }

    /// Handles a changed policy: everything that runs is judged again.
    pub fn policy(&mut self, policies: Arc<Policies>) {
        let before = std::mem::replace(&mut self.criteria.policies, policies);
        if before.set_revision() != self.criteria.policies.set_revision() {
            self.criteria.past.insert(0, before);
            self.criteria.past.truncate(PAST_POLICIES);
            self.exports.policy_changed(&self.criteria.policies);
        }
        self.rejudge();
    }

    /// Handles changed labels of namespaces: what depends on them is judged again.
    pub fn namespaces(&mut self) {
        if self
            .criteria
            .policies
            .need_namespace_labels()
            .next()
            .is_some()
        {
            self.rejudge();
        }
    }

    /// Handles a change of the node's Pods.
    pub fn pods(&mut self, change: PodChange) {
        if let PodChange::Known(pod) = &change {
            let its = |facts: &Facts| facts.is_of(pod);
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

    /// Reports starts that no source has answered about, and sends what is queued. Blocks for a few
    /// seconds at most.
    pub fn shutdown(&mut self, reason: StopReason) {
        let findings = self.starts.settle_all(&self.criteria, node::now());
        self.report(&findings);
        self.exports.shutdown(reason);
    }

    /// Whether the next walk, which has this cause, looks at every process. A process that takes
    /// the pid of an earlier one in the same cgroup is found by one of the regular full walks.
    pub fn is_full_walk(&mut self, cause: Option<&'static str>) -> bool {
        self.partial_walks += 1;
        let is_full = cause != Some(CAUSE_PERIODIC) || self.partial_walks >= FULL_WALK_EVERY;
        if is_full {
            self.partial_walks = 0;
        }
        is_full
    }

    /// The input of a walk over the node.
    pub fn looking(&self) -> impl Future<Output = Looking> + Send + use<> {
        let states = self.resolver.states();
        let (hierarchy, proc) = (self.hierarchy.clone(), self.proc.clone());
        let empty = Arc::clone(&self.empty);
        async move {
            Looking {
                hierarchy,
                proc,
                states: states.await,
                empty,
            }
        }
    }

    /// Adds runtimes to ask from now on.
    pub fn runtimes(&mut self, containerds: Vec<Containerd>, cris: Vec<Cri>) {
        self.resolver.add(containerds, cris);
    }

    /// Counts starts that a containerd reported and did not list.
    pub fn unlisted(&mut self, starts: u64) {
        self.exports.unlisted(starts);
    }

    fn rejudge(&mut self) {
        let findings = self.starts.rejudge(&self.criteria, node::now());
        self.report(&findings);
    }

    /// Drops starts that ended long ago, judges by today's date, and asks again about unresolved
    /// starts.
    pub fn refresh(&mut self) {
        let purged = self.starts.purge(&self.criteria, node::now());
        self.report(&purged.findings);
        self.exports.unanswered(purged.unanswered);
        self.pods.purge(node::now().boot_ns);
        // Exceptions end at midnight, and no event reports that.
        self.rejudge();
        let starts = &self.starts;
        self.late.retain(|id, _| starts.facts(*id).is_some());
        self.shared.retain(|id| starts.facts(*id).is_some());
        self.named.retain(|id, _| starts.facts(*id).is_some());
        // The API server may have been down when it was asked which Pod owns a container.
        let is_unowned = |facts: &Facts| {
            self.asks_pods && facts.pod.is_none() && facts.claims.contains_key(&Source::Cri)
        };
        let open: Vec<_> = starts
            .alive()
            .filter(|(id, facts)| {
                let is_open = !facts.is_container() && facts.may_be_container();
                starts.is_unresolved(*id) || is_open || is_unowned(facts)
            })
            .map(|(id, _)| id)
            .collect();
        for start in open {
            self.ask(start);
        }
    }

    /// Updates the page if it has changed; called once a second, not for each of a thousand starts.
    pub fn show(&mut self) {
        self.look_at_unsure();
        if std::mem::take(&mut self.may_have_left) {
            self.end_what_left();
        }
        if std::mem::take(&mut self.unapproved_changed) {
            let unapproved = self.starts.unapproved(&self.criteria);
            self.shown.set(&unapproved);
            self.exports.unapproved(&unapproved);
        }
    }

    /// Reads what did not fit into the ring buffer, and exports the kernel's counters; true if more
    /// events were lost.
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
        let has_grown = self.exports.lost(&lost);
        self.control.lost_reported(&lost);
        self.exports.tick();
        has_grown
    }

    fn confirm(&mut self, start: StartId, process: Process) {
        // The probes forget a cgroup after its exec. If another source confirmed the start, the
        // next `exec` into the running container would be reported as the container's first
        // process.
        if process.by != Confirmation::Exec {
            self.control.forget(start.cgroup);
        }
        if self.is_shared(start, &process) {
            self.shared.insert(start);
        }
        self.observe(start, Evidence::Confirmed(process));
        if self
            .starts
            .facts(start)
            .is_some_and(|facts| facts.settled.is_none())
        {
            self.ask(start);
        }
    }

    /// Asks every source about a start when its turn comes, unless that is already in progress.
    fn ask(&mut self, start: StartId) {
        let Some(facts) = self.starts.facts(start) else {
            return;
        };
        let Some(process) = &facts.process else {
            return;
        };
        let occasion = if facts.settled.is_some() {
            Occasion::Again
        } else if self.ran_before(process) {
            Occasion::Earlier
        } else {
            Occasion::New
        };
        let above = self.containers_above(&facts.cgroup);
        self.turns.queue(start, &above, occasion);
        self.ask_next();
    }

    /// The cgroups of the containers above a path, the outermost first.
    fn containers_above(&self, path: &str) -> Vec<u64> {
        let above = path.match_indices('/').map(|(end, _)| &path[..end]);
        // The root cgroup is above everything.
        let above = above.filter(|path| !path.is_empty());
        let starts = above.filter_map(|path| self.starts.at(path));
        starts
            .map(|start| start.cgroup)
            .take(turns::MOST_ABOVE)
            .collect()
    }

    /// Asks about the starts whose turn it is, unless they were forgotten while they waited.
    fn ask_next(&mut self) {
        while let Some(start) = self.turns.next() {
            match self.question(start) {
                Some(question) => self.resolver.ask(question),
                None => self.turns.end(start),
            }
        }
    }

    fn end_turn(&mut self, start: StartId) {
        self.turns.end(start);
        self.ask_next();
    }

    fn question(&mut self, start: StartId) -> Option<Question> {
        let facts = self.starts.facts(start)?;
        let process = facts.process.as_ref()?;
        self.attempts += 1;
        Some(Question {
            start,
            identity: facts.identity.clone(),
            cgroup: self.hierarchy.directory(&facts.cgroup),
            process: process.subject(),
            is_first: process.is_first,
            named: self.named.get(&start).cloned(),
            attempt: self.attempts,
        })
    }

    fn observe(&mut self, start: StartId, evidence: Evidence) {
        let unresolved = self.starts.is_unresolved(start);
        let findings = self
            .starts
            .observe(start, evidence, &self.criteria, node::now());
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
        self.report(&findings);
    }

    fn report(&mut self, findings: &[Finding]) {
        if findings.is_empty() {
            return;
        }
        self.exports.findings(findings);
        self.exports.drift(&self.starts, &self.criteria);
        self.unapproved_changed = true;
    }
}
