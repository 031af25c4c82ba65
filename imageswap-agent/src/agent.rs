//! Applies each input to the table of starts: an input becomes evidence, the table judges it, and what
//! has changed is reported. One task owns all of this; nothing here waits.

use crate::agent_record::StopReason;
use crate::claim::Source;
use crate::evidence::containerd::Containerd;
use crate::evidence::cri::Cri;
use crate::export::{CAUSE_LATE_ANSWER, CAUSE_OVERFLOW, Exports};
use crate::facts::{Confirmation, Evidence, Process, Sight, StartId};
use crate::finding::{Event, Finding};
use crate::hierarchy::Hierarchy;
use crate::judge::Criteria;
use crate::node::{self, Now};
use crate::pods::{Ownership, PodChange, Pods};
use crate::probe::{Control, KernelEvent};
use crate::process::{self, Subject};
use crate::resolve::Resolver;
use crate::starts::{Start, Starts};
use crate::turns::Turns;
use crate::verdict::Verdict;
use budget::Budget;
use cgroups::Cgroups;
use imageswap_policy::Policies;
use pending::Followers;
use std::collections::HashSet;
use std::num::NonZeroU64;
use std::path::PathBuf;
use std::sync::Arc;
use task::{Sighting, Unsure};

mod asking;
mod budget;
mod cgroups;
mod pending;
mod place;
mod task;
pub mod walk;

/// Earlier revisions of the policy that are kept, to decide whether an image was fine when it was
/// admitted.
const PAST_POLICIES: usize = 16;

/// The agent's state.
pub struct Agent {
    starts: Starts,
    cgroups: Cgroups,
    followers: Followers,
    /// Starts for which the sources are being asked, or will be.
    turns: Turns,
    /// Questions asked so far.
    attempts: u32,
    /// Processes that may still be the runtime.
    unsure: Vec<Unsure>,
    /// Processes that were counted because their cgroup is not known.
    unplaced: HashSet<Subject>,
    /// Walks since the last full one.
    partial_walks: u32,
    /// Whether a container was put into another one's cgroup, whose end no removed cgroup shows.
    may_have_left: bool,
    /// Whether there were findings since the last look at what drifts.
    has_news: bool,
    pods: Pods,
    budget: Budget,
    hierarchy: Hierarchy,
    proc: PathBuf,
    control: Control,
    attached_ns: u64,
    resolver: Resolver,
    exports: Exports,
    criteria: Criteria,
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
        } = parts;
        Self {
            starts,
            cgroups: Cgroups::default(),
            followers: Followers::default(),
            turns: Turns::default(),
            attempts: 0,
            unsure: Vec::new(),
            unplaced: HashSet::new(),
            partial_walks: 0,
            may_have_left: false,
            has_news: false,
            budget: Budget::default(),
            pods,
            hierarchy,
            proc,
            control,
            attached_ns,
            resolver,
            exports,
            criteria,
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
            } => self.cgroups.made(cgroup_id, path),
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
                let cgroup_id = if by_another {
                    self.place_of(pid).map_or(cgroup_id, |(id, _)| id)
                } else {
                    cgroup_id
                };
                let process = Process {
                    by: if by_another {
                        Confirmation::ByAnother
                    } else {
                        Confirmation::Exec
                    },
                    time_ns,
                    pid,
                    comm: Some(comm),
                    new_pid_namespace,
                    started: Some(process::ticks(started_ns)),
                    started_ns: NonZeroU64::new(started_ns),
                    is_first: true,
                    leads_pid_namespace: first_of_pid_namespace,
                };
                // A hook of the runtime, before the container's program. That program is reported
                // as well, unless another program has the name of a runtime.
                if by_another && process::may_be_runtime(&self.proc, pid, time_ns) {
                    let subject = process.subject();
                    return self.look_again(Sighting::Exec(cgroup_id, process), subject);
                }
                // An exec into a container that the first walk has not reached yet.
                let sight = if by_another && self.ran_before(&process) {
                    Sight::Initial
                } else {
                    Sight::Event
                };
                self.began(cgroup_id, process, first_of_pid_namespace, sight);
            }
            KernelEvent::Rmdir { cgroup_id } => {
                self.cgroups.removed(cgroup_id);
                self.end_without_cgroup(self.starts.within(cgroup_id));
            }
        }
    }

    /// Handles a change of the node's Pods.
    pub fn pods(&mut self, change: PodChange) {
        if let PodChange::Known(pod) = &change {
            let its = self.starts.alive().filter(|(_, it)| it.facts().is_of(pod));
            let starts: Vec<_> = its.map(|(id, _)| id).collect();
            for start in starts {
                let known = Ownership::Known(Arc::clone(pod));
                self.observe(start, Evidence::Pod(known));
            }
        }
        self.pods.apply(change, node::now().boot_ns);
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

    /// Adds runtimes to ask from now on.
    pub fn runtimes(&mut self, containerds: Vec<Containerd>, cris: Vec<Cri>) {
        self.resolver.add(containerds, cris);
    }

    /// Counts starts that a containerd reported and did not list.
    pub fn unlisted(&mut self, starts: u64) {
        self.exports.unlisted(starts);
    }

    /// Whether a process is known to have begun before the probes were attached.
    fn ran_before(&self, process: &Process) -> bool {
        let attached = process::ticks(self.attached_ns);
        process.started.is_some_and(|started| started < attached)
    }

    /// Id and path of the cgroup in which a process is.
    fn place_of(&self, pid: u32) -> Option<(u64, String)> {
        let path = self.hierarchy.of_process(&self.proc, pid)?;
        Some((self.hierarchy.id_of(&path)?, path))
    }

    /// A start has this process. The sources are asked about it.
    fn confirm(&mut self, start: StartId, process: Process) {
        if self.is_shared(start, &process)
            && let Some(row) = self.starts.get_mut(start)
        {
            row.is_shared = true;
        }
        self.observe(start, Evidence::Confirmed(process));
        let facts = self.starts.facts(start);
        if facts.is_some_and(|facts| facts.settled.is_none()) {
            self.ask(start);
        }
    }

    /// Puts evidence into the table.
    fn observe(&mut self, start: StartId, evidence: Evidence) {
        let was_unresolved = self.starts.get(start).is_some_and(Start::is_unresolved);
        let findings = self
            .starts
            .observe(start, evidence, &self.criteria, node::now());
        for finding in &findings {
            let cause = match finding.event {
                Event::Reconciled => self.starts.get_mut(start).and_then(|row| row.late.take()),
                Event::Rejudged if was_unresolved && finding.verdict != Verdict::Unresolved => {
                    Some(CAUSE_LATE_ANSWER)
                }
                _ => None,
            };
            if let Some(cause) = cause {
                self.exports.reconciled(cause, 1);
            }
        }
        self.report(&findings);
    }

    fn rejudge(&mut self) {
        let findings = self.starts.rejudge(&self.criteria, node::now());
        self.report(&findings);
    }

    /// Judges by today's date, and asks again about unresolved starts.
    pub fn refresh(&mut self) {
        self.pods.purge(node::now().boot_ns);
        // Exceptions end at midnight, and no event reports that.
        self.rejudge();
        // The API server may have been down when it was asked which Pod owns a container.
        let asks_pods = self.resolver.asks_pods();
        let is_open = |start: &Start| {
            let facts = start.facts();
            let has_cri = facts.claims.contains_key(&Source::Cri);
            let is_unowned = facts.pod.is_none() && has_cri;
            start.is_unresolved()
                || (!has_cri && facts.trusted().any(|claim| claim.through_cri))
                || (!facts.is_container() && facts.may_be_container())
                || (asks_pods && is_unowned)
        };
        let open = self.starts.alive().filter(|(_, start)| is_open(start));
        let open: Vec<_> = open.map(|(id, _)| id).collect();
        for start in open {
            self.ask(start);
        }
    }

    /// Drops starts that ended long ago.
    fn purge(&mut self) {
        let report = |findings: &[Finding]| {
            self.exports.findings(findings);
            self.has_news |= !findings.is_empty();
        };
        let unanswered = self.starts.purge(&self.criteria, node::now(), report);
        self.exports.unanswered(unanswered);
        self.turns.retain(|start| self.starts.get(start).is_some());
    }

    fn report(&mut self, findings: &[Finding]) {
        if !findings.is_empty() {
            self.exports.findings(findings);
            self.has_news = true;
        }
    }

    /// Looks at what has ended, and shows what drifts now if there were findings; called once a second, not
    /// for each of a thousand starts.
    pub fn show(&mut self) {
        self.look_at_unsure();
        if std::mem::take(&mut self.may_have_left) {
            self.end_what_left();
        }
        self.purge();
        if std::mem::take(&mut self.has_news) {
            let unapproved = self.starts.unapproved(&self.criteria);
            self.exports
                .unapproved(&unapproved, &self.criteria.namespaces);
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

    /// Reports starts that no source has answered about, and sends what is queued. Blocks for a few
    /// seconds at most.
    pub fn shutdown(&mut self, reason: StopReason) {
        self.purge();
        let report = |findings: &[Finding]| self.exports.findings(findings);
        self.starts.settle_all(&self.criteria, node::now(), report);
        self.exports.shutdown(reason);
    }
}
