//! Kubernetes Events on Pods whose containers drift or could not be resolved, for `kubectl describe
//! pod`.

use crate::finding::{Event as Occasion, Finding};
use crate::metrics::AgentMetrics;
use crate::verdict::{Route, Verdict};
use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};

/// Name of the reporting controller.
pub const REPORTER: &str = "imageswap-agent";

/// Events that may wait for the API server; any more are dropped and counted, because findings
/// report the same.
const WAITING: usize = 256;

/// At most this many Events at once, and then one per [`BETWEEN`]: a node full of drift must not
/// cause a flood of writes.
const BURST: u32 = 30;
const BETWEEN: Duration = Duration::from_secs(2);

/// The API server keeps notes of at most 1 kB.
const LONGEST_NOTE: usize = 1024;

const PUBLISHED: &str = "published";
const FAILED: &str = "failed";
const DROPPED: &str = "dropped";

/// Turns findings into Events.
#[derive(Debug)]
pub struct PodEvents {
    queue: mpsc::Sender<(Event, ObjectReference)>,
    metrics: AgentMetrics,
}

impl PodEvents {
    /// Publishes with `client`, as the agent on `node`, until this is dropped.
    pub fn spawn(client: Client, node: &str, metrics: AgentMetrics) -> Self {
        let (queue, waiting) = mpsc::channel(WAITING);
        metrics.declare_pod_events(&[PUBLISHED, FAILED, DROPPED]);
        tokio::spawn(publish(recorder(client, node), waiting, metrics.clone()));
        Self { queue, metrics }
    }

    /// Publishes a finding, if it is about a Pod and reports drift or an unresolved image. Never
    /// waits.
    pub fn report(&self, finding: &Finding) {
        let Some((event, pod)) = event(finding) else {
            return;
        };
        if self.queue.try_send((event, pod)).is_err() {
            self.metrics.pod_event(DROPPED);
        }
    }
}

/// Writes Events as the agent on `node`; repeated Events become a series.
pub fn recorder(client: Client, node: &str) -> Recorder {
    let reporter = Reporter {
        controller: REPORTER.to_owned(),
        instance: Some(node.to_owned()),
    };
    Recorder::new(client, reporter)
}

/// The Pod that a finding is about. For a static Pod, its copy in the API, whose Events use the UID
/// that the kubelet assigned.
pub fn pod_of(finding: &Finding) -> Option<ObjectReference> {
    let pod = finding.pod.as_ref()?;
    let list = if finding.route == Route::Ephemeral {
        "ephemeralContainers"
    } else {
        "containers"
    };
    let container = finding.container.name.as_ref();
    Some(ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("Pod".to_owned()),
        namespace: Some(pod.namespace.clone()),
        name: Some(pod.name.clone()),
        uid: Some(pod.uid.clone()),
        field_path: container.map(|name| format!("spec.{list}{{{name}}}")),
        ..ObjectReference::default()
    })
}

async fn publish(
    recorder: Recorder,
    mut waiting: mpsc::Receiver<(Event, ObjectReference)>,
    metrics: AgentMetrics,
) {
    let (mut left, mut refilled) = (BURST, Instant::now());
    while let Some((event, pod)) = waiting.recv().await {
        let earned = refilled.elapsed().as_secs() / BETWEEN.as_secs();
        if earned > 0 {
            left = BURST.min(left.saturating_add(u32::try_from(earned).unwrap_or(BURST)));
            refilled = Instant::now();
        }
        if left == 0 {
            sleep(BETWEEN.saturating_sub(refilled.elapsed())).await;
            (left, refilled) = (1, Instant::now());
        }
        left -= 1;
        match recorder.publish(&event, &pod).await {
            Ok(()) => metrics.pod_event(PUBLISHED),
            Err(error) => {
                tracing::debug!(%error, "cannot publish an Event");
                metrics.pod_event(FAILED);
            }
        }
    }
}

fn event(finding: &Finding) -> Option<(Event, ObjectReference)> {
    let reason = match finding.verdict {
        Verdict::Drift => "ImageSwapDrift",
        Verdict::Unresolved => "ImageSwapUnresolved",
        Verdict::Approved | Verdict::Exempt => return None,
    };
    // A Pod that is gone needs no Event, and a restarted agent repeats only what still runs.
    if finding.event == Occasion::Stopped {
        return None;
    }
    let event = Event {
        type_: EventType::Warning,
        reason: reason.to_owned(),
        note: Some(note(finding)),
        action: "Judge".to_owned(),
        secondary: None,
    };
    Some((event, pod_of(finding)?))
}

/// The text for an administrator.
pub(super) fn note(finding: &Finding) -> String {
    let container = finding.container.name.as_deref().unwrap_or("of the Pod");
    let why = finding.reason.as_str();
    let mut note = match (&finding.image, finding.verdict) {
        (Some(image), Verdict::Drift) => {
            let instead = match finding.expected_image.as_deref() {
                Some(expected) if expected != image => format!(", expected {expected}"),
                _ => ", which is not approved".to_owned(),
            };
            format!("Container {container} runs {image}{instead} ({why})")
        }
        (image, _) => {
            let image = image.as_deref().unwrap_or("an image that nobody names");
            format!(
                "Container {container} runs {image}; whether it is approved is not known ({why})"
            )
        }
    };
    if let Some(rule) = &finding.rule {
        note = format!("{note}; rule {rule}");
    }
    let end = note.floor_char_boundary(LONGEST_NOTE);
    note.truncate(end);
    note
}
