//! Healing, off by default: evicts a drifting Pod once its replacement will be right.
//!
//! Pods that slipped in while the webhook was down are replaced by their controllers as soon as the
//! webhook is back, and never before: a server-side dry run of the same Pod has to return an image
//! that the policy approves.

use crate::finding::{Event, Finding};
use crate::judge::Criteria;
use crate::metrics::AgentMetrics;
use crate::verdict::{Route, Verdict};
use crate::words::words;
use act::Api;
use imageswap_policy::Policies;
use imageswap_runtime::source::Namespaces;
use kube::Client;
use kube::runtime::events::Recorder;
use plan::{Candidate, Plan};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval};

mod act;
mod plan;

/// What to do about a Pod that drifts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Respond {
    /// Evict it, if its controller will create a better one.
    Evict,
}

/// Arguments of responding.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Responding")]
#[group(skip)]
pub struct RespondArgs {
    /// Evict Pods that drift, if a dry run shows that the next one will not; needs a cluster
    #[arg(long, value_enum, value_name = "ACTION")]
    pub respond: Option<Respond>,
    /// Only report what --respond would do
    #[arg(long, requires = "respond")]
    pub respond_dry_run: bool,
    /// Seconds between two evictions on this node
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub respond_interval: u64,
}

words! {
    /// The outcome; a label of metrics.
    pub(crate) enum Outcome {
        /// The Pod was evicted.
        Evicted = "evicted",
        /// It would have been evicted without `--respond-dry-run`.
        WouldEvict = "would-evict",
        /// The replacement would drift as well: the webhook is down.
        NotSwapped = "not-swapped",
        /// The Pod's status does not list the container (yet): a client of the CRI may have put it into
        /// the Pod's sandbox.
        Foreign = "foreign",
        /// Admission refuses such a Pod, so nothing would replace it.
        Denied = "denied",
        /// A PodDisruptionBudget does not allow it now.
        Blocked = "blocked",
        /// Never evicted: in kube-system, a static Pod's copy, or without a controller.
        Refused = "refused",
        /// It is gone already.
        Gone = "gone",
        /// The API server did not answer, or not as expected.
        Failed = "failed",
    }
}

/// The action, as metrics spell it.
const EVICT: &str = "evict";

/// Findings that may wait; any that are missed come again when they are judged again.
const WAITING: usize = 1024;

/// Interval between two checks of the candidates.
const LOOK: Duration = Duration::from_secs(1);

/// Receives findings, and acts on them in a separate task.
#[derive(Debug)]
pub struct Responder {
    findings: mpsc::Sender<Candidate>,
}

impl Responder {
    /// Acts with `client`, and reports that with `recorder`, until this is dropped; `None` if
    /// responding is off.
    pub fn spawn(
        args: &RespondArgs,
        client: Client,
        recorder: Recorder,
        policies: watch::Receiver<Arc<Policies>>,
        namespaces: Namespaces,
        metrics: AgentMetrics,
    ) -> Option<Self> {
        let Respond::Evict = args.respond?;
        let names: Vec<_> = Outcome::ALL.iter().map(|it| it.as_str()).collect();
        metrics.declare_responses(EVICT, &names);
        let (findings, waiting) = mpsc::channel(WAITING);
        let api = Api {
            recorder,
            client,
            only_say: args.respond_dry_run,
        };
        let plan = Plan::new(Duration::from_secs(args.respond_interval));
        let criteria = move || Criteria {
            namespaces: namespaces.clone(),
            ..Criteria::new(policies.borrow().clone())
        };
        tokio::spawn(respond(plan, api, waiting, criteria, metrics));
        Some(Self { findings })
    }

    /// Remembers the Pod of a finding. Never waits.
    pub fn report(&self, finding: &Finding) {
        if let Some(candidate) = candidate(finding) {
            // A full queue means that hundreds drift already; this finding will come again.
            drop(self.findings.try_send(candidate));
        }
    }
}

/// A container of a Pod, and whether it drifts now.
fn candidate(finding: &Finding) -> Option<Candidate> {
    let pod = finding.pod.as_ref()?;
    let drifts = finding.verdict == Verdict::Drift
        && finding.route == Route::Pod
        && finding.event != Event::Stopped;
    let owner = pod.owner.as_ref();
    Some(Candidate {
        start_id: finding.start_id.clone(),
        drifts,
        namespace: pod.namespace.clone(),
        name: pod.name.clone(),
        uid: pod.uid.clone(),
        owner: owner.map(|owner| format!("{}/{}/{}", pod.namespace, owner.kind, owner.name)),
        container: finding.container.name.clone()?,
        container_id: finding.container.id.clone()?,
        image: finding.image.clone().unwrap_or_default(),
    })
}

async fn respond(
    mut plan: Plan,
    api: Api,
    mut waiting: mpsc::Receiver<Candidate>,
    criteria: impl Fn() -> Criteria,
    metrics: AgentMetrics,
) {
    let mut look = interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            candidate = waiting.recv() => match candidate {
                Some(candidate) => plan.take(candidate),
                None => return,
            },
            _ = look.tick() => {
                let Some(candidate) = plan.next(Instant::now()) else { continue };
                let outcome = api.evict(&candidate, &criteria()).await;
                tracing::info!(
                    namespace = candidate.namespace, pod = candidate.name, container = candidate.container,
                    outcome = outcome.as_str(), "responding to drift"
                );
                metrics.response(EVICT, outcome.as_str());
                plan.done(&candidate, outcome, Instant::now());
            }
        }
    }
}
