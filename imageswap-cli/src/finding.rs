//! A finding about a container, as agents write it (`imageswap.io/finding/v1`).

use crate::moment::Moment;
use serde::{Deserialize, Serialize};
use strum::IntoStaticStr;

/// The workload of containers without a Pod, for people.
pub(crate) const NO_POD: &str = "(no Pod)";

/// The fields of a finding that commands need.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Finding {
    pub(crate) start_id: String,
    pub(crate) event: Event,
    /// When the verdict was found.
    pub(crate) time: Moment,
    /// When the container began.
    pub(crate) started: Option<Moment>,
    pub(crate) node: String,
    pub(crate) verdict: Verdict,
    pub(crate) route: String,
    pub(crate) reason: String,
    pub(crate) rule: Option<String>,
    pub(crate) policy: Policy,
    pub(crate) image: Option<String>,
    pub(crate) expected_image: Option<String>,
    pub(crate) digest: Option<String>,
    pub(crate) container: Container,
    pub(crate) pod: Option<Pod>,
    pub(crate) process: Option<Process>,
    /// Microseconds from the container's start to the finding.
    pub(crate) detect_us: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Event {
    Start,
    Initial,
    Reconciled,
    Rejudged,
    Stopped,
}

/// Ordered from harmless to drift.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize, IntoStaticStr)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub(crate) enum Verdict {
    Approved,
    Exempt,
    Unresolved,
    Drift,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Policy {
    pub(crate) name: Option<String>,
    #[serde(default)]
    pub(crate) set_revision: String,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Container {
    pub(crate) id: Option<String>,
    pub(crate) name: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Pod {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) owner: Option<Workload>,
}

/// The workload that a person wrote, which owns a Pod.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
pub(crate) struct Workload {
    pub(crate) kind: String,
    pub(crate) name: String,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Process {
    pub(crate) comm: Option<String>,
}

impl Finding {
    /// When the container began, or when the verdict was found if that is not known.
    pub(crate) fn since(&self) -> Moment {
        self.started.unwrap_or(self.time)
    }

    /// Name of the process.
    pub(crate) fn process(&self) -> Option<&str> {
        self.process.as_ref()?.comm.as_deref()
    }

    /// The workload that owns the Pod.
    pub(crate) fn workload(&self) -> Option<&Workload> {
        self.pod.as_ref()?.owner.as_ref()
    }
}

impl Verdict {
    /// Whether the policy is known to accept the container. An unknown image is not approved.
    pub(crate) const fn is_fine(self) -> bool {
        matches!(self, Self::Approved | Self::Exempt)
    }

    /// The verdict as findings spell it.
    pub(crate) fn as_str(self) -> &'static str {
        self.into()
    }
}

/// Namespace and workload for people; a Pod without an owner is its own workload.
pub(crate) fn workload_title(
    namespace: Option<&str>,
    workload: Option<&Workload>,
    pod: Option<&str>,
) -> String {
    match (namespace, workload, pod) {
        (Some(namespace), Some(workload), _) => {
            format!("{namespace}/{} {}", workload.kind, workload.name)
        }
        (Some(namespace), None, Some(pod)) => format!("{namespace}/Pod {pod}"),
        _ => NO_POD.to_owned(),
    }
}
