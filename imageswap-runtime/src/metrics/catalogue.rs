//! Every metric: its name, help, labels and service. Other metrics cannot be registered.

use strum::IntoStaticStr;

/// The type of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq, IntoStaticStr)]
#[strum(serialize_all = "lowercase")]
pub enum Kind {
    /// Only grows, until the process restarts.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts by size, in buckets.
    Histogram,
}

/// The programs that have a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    /// Both services.
    Both,
    /// The webhook.
    Webhook,
    /// The agent.
    Agent,
}

/// One metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metric {
    /// Its name, with the unit if it has one.
    pub name: &'static str,
    /// Its type.
    pub kind: Kind,
    /// One line, as exported.
    pub help: &'static str,
    /// Its labels, in the order in which they are exported.
    pub labels: &'static [Label],
    /// The service that exports it.
    pub service: Service,
}

/// A label of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Label {
    /// Its name.
    pub name: &'static str,
    /// Its values: a list of them, or a description; Markdown, relative to the folder of the
    /// documentation.
    pub values: &'static str,
}

impl Kind {
    /// As the exposition format spells it.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

pub(super) const BUILD_INFO: &str = "imageswap_build_info";
pub(super) const OTLP_EXPORT_FAILURES: &str = "imageswap_otlp_export_failures_total";

pub(super) const POLICY_INFO: &str = "imageswap_policy_info";
pub(super) const POLICY_LAST_LOAD: &str = "imageswap_policy_last_load_timestamp_seconds";
pub(super) const POLICY_RELOAD_FAILURES: &str = "imageswap_policy_reload_failures_total";
pub(super) const POLICY_REFUSED: &str = "imageswap_policy_refused";
pub(super) const POLICY_EXCEPTION_END: &str = "imageswap_policy_exception_end_timestamp_seconds";

pub(super) const ADMISSION_REQUESTS: &str = "imageswap_admission_requests_total";
pub(super) const ADMISSION_DURATION: &str = "imageswap_admission_duration_seconds";
pub(super) const ADMISSION_CONNECTIONS: &str = "imageswap_admission_connections";
pub(super) const ADMISSION_IN_FLIGHT: &str = "imageswap_admission_requests_in_flight";
pub(super) const ADMISSION_CLOSED: &str = "imageswap_admission_connections_closed_total";
pub(super) const ADMISSION_IMAGES: &str = "imageswap_admission_images_total";
pub(super) const ADMISSION_REGISTRY_ANSWERS: &str = "imageswap_admission_registry_answers_total";
pub(super) const ADMISSION_UNREGISTERED: &str = "imageswap_admission_unregistered";
pub(super) const TLS_NOT_BEFORE: &str = "imageswap_tls_not_before_timestamp_seconds";
pub(super) const TLS_NOT_AFTER: &str = "imageswap_tls_not_after_timestamp_seconds";

pub(super) const AGENT_INFO: &str = "imageswap_agent_info";
pub(super) const AGENT_STARTS: &str = "imageswap_agent_container_starts_total";
pub(super) const AGENT_DRIFT: &str = "imageswap_agent_drift_containers";
pub(super) const AGENT_DRIFT_STOPPED: &str = "imageswap_agent_drift_stopped_total";
pub(super) const AGENT_DETECTION: &str = "imageswap_agent_detection_seconds";
pub(super) const AGENT_EVENTS_LOST: &str = "imageswap_agent_events_lost_total";
pub(super) const AGENT_RECONCILED: &str = "imageswap_agent_reconciled_total";
pub(super) const AGENT_POD_EVENTS: &str = "imageswap_agent_pod_events_total";
pub(super) const AGENT_POLICY_REPORTS: &str = "imageswap_agent_policy_report_writes_total";
pub(super) const AGENT_RESPONSES: &str = "imageswap_agent_responses_total";
pub(super) const AGENT_FINISHED: &str = "imageswap_agent_activity_finished_timestamp_seconds";
pub(super) const AGENT_LIMIT: &str = "imageswap_agent_activity_limit_seconds";
pub(super) const AGENT_PROBE_RUNS: &str = "imageswap_agent_probe_runs_total";
pub(super) const AGENT_PROBE_TIME: &str = "imageswap_agent_probe_run_nanoseconds_total";

/// Route and reason are explained in one place.
const ROUTE: Label = Label {
    name: "route",
    values: "how the container was started: [routes](detection.md#verdict-route-reason)",
};
const REASON: Label = Label {
    name: "reason",
    values: "why: [reasons](detection.md#verdict-route-reason)",
};
const ACTIVITY: Label = Label {
    name: "activity",
    values: "`loop` (processes all inputs), `walk` (walks over all cgroups)",
};
const PROGRAM: Label = Label {
    name: "program",
    values: "the program's name in the kernel",
};

/// All metrics, by service and subject.
pub const fn catalogue() -> &'static [Metric] {
    &CATALOGUE
}

const CATALOGUE: [Metric; 31] = [
    Metric {
        name: BUILD_INFO,
        kind: Kind::Gauge,
        help: "Build information; always 1",
        labels: &[
            Label {
                name: "version",
                values: "the program's version",
            },
            Label {
                name: "component",
                values: "`webhook`, `agent`",
            },
        ],
        service: Service::Both,
    },
    Metric {
        name: OTLP_EXPORT_FAILURES,
        kind: Kind::Counter,
        help: "Batches that could not be sent to the OpenTelemetry collector",
        labels: &[Label {
            name: "signal",
            values: "`traces` (webhook), `logs` (agent); where a collector was given",
        }],
        service: Service::Both,
    },
    Metric {
        name: POLICY_INFO,
        kind: Kind::Gauge,
        help: "Policy in force, as labels; always 1",
        labels: &[
            Label {
                name: "set_revision",
                values: "hash of all policies in force; `none` without a policy",
            },
            Label {
                name: "source",
                values: "`policy`, `maps`, `image-prefix`, `cluster`, `maps-configmap`",
            },
        ],
        service: Service::Both,
    },
    Metric {
        name: POLICY_LAST_LOAD,
        kind: Kind::Gauge,
        help: "Time when the policy in force was loaded",
        labels: &[],
        service: Service::Both,
    },
    Metric {
        name: POLICY_RELOAD_FAILURES,
        kind: Kind::Counter,
        help: "Changes of the policy's source that could not be read or do not load",
        labels: &[],
        service: Service::Both,
    },
    Metric {
        name: POLICY_REFUSED,
        kind: Kind::Gauge,
        help: "Policy texts whose latest version was rejected, so that the last good one is in force",
        labels: &[],
        service: Service::Both,
    },
    Metric {
        name: POLICY_EXCEPTION_END,
        kind: Kind::Gauge,
        help: "Time when an exception of the policy in force ends",
        labels: &[
            Label {
                name: "policy",
                values: "the policy's name",
            },
            Label {
                name: "pattern",
                values: "the exception's pattern, as written",
            },
        ],
        service: Service::Both,
    },
    Metric {
        name: ADMISSION_REQUESTS,
        kind: Kind::Counter,
        help: "Admission reviews answered",
        labels: &[
            Label {
                name: "webhook",
                values: "`mutate`, `validate`, `policy`",
            },
            Label {
                name: "operation",
                values: "`CREATE`, `UPDATE`, `DELETE`, `CONNECT`, `unknown`",
            },
            Label {
                name: "outcome",
                values: "`patched`, `unchanged`, `warned`, `denied`, `skipped`, `bad-request`, `failed`, `shed`: \
                         [outcomes](webhook.md#admin-port)",
            },
        ],
        service: Service::Webhook,
    },
    Metric {
        name: ADMISSION_DURATION,
        kind: Kind::Histogram,
        help: "Time from a review's request head to its answer",
        labels: &[],
        service: Service::Webhook,
    },
    Metric {
        name: ADMISSION_CONNECTIONS,
        kind: Kind::Gauge,
        help: "Open connections to the webhook",
        labels: &[],
        service: Service::Webhook,
    },
    Metric {
        name: ADMISSION_IN_FLIGHT,
        kind: Kind::Gauge,
        help: "Requests that the webhook is reading or answering",
        labels: &[],
        service: Service::Webhook,
    },
    Metric {
        name: ADMISSION_CLOSED,
        kind: Kind::Counter,
        help: "Connections that the webhook closed before their client did",
        labels: &[Label {
            name: "reason",
            values: "`handshake`, `slow-head`, `slow-body`, `slow-read`, `idle`, `crowded`",
        }],
        service: Service::Webhook,
    },
    Metric {
        name: ADMISSION_IMAGES,
        kind: Kind::Counter,
        help: "Images decided in admission reviews: of Pods at /mutate, of templates at /validate",
        labels: &[
            Label {
                name: "decision",
                values: "`swapped`, `kept`, `invalid-result`, `not-mirrored`, `unparsable`, `scope-unknown`, `out-of-scope`",
            },
            Label {
                name: "approved",
                values: "`true`, `false`",
            },
            Label {
                name: "enforcement",
                values: "`deny`, `warn`, `audit`; `none` if no policy applies to the image",
            },
            Label {
                name: "registry",
                values: "registry of the image asked about, if the policy names it; else `other`",
            },
        ],
        service: Service::Webhook,
    },
    Metric {
        name: ADMISSION_REGISTRY_ANSWERS,
        kind: Kind::Counter,
        help: "Images whose swap depended on a registry, by its answer",
        labels: &[Label {
            name: "answer",
            values: "`present`, `missing` (the image stays), `unknown` (swapped as usual)",
        }],
        service: Service::Webhook,
    },
    Metric {
        name: ADMISSION_UNREGISTERED,
        kind: Kind::Gauge,
        help: "Whether the API server does not call the webhook although a policy is in force, by configuration",
        labels: &[Label {
            name: "configuration",
            values: "`mutating`, `validating`",
        }],
        service: Service::Webhook,
    },
    Metric {
        name: TLS_NOT_BEFORE,
        kind: Kind::Gauge,
        help: "Time from which the serving certificate is valid",
        labels: &[],
        service: Service::Webhook,
    },
    Metric {
        name: TLS_NOT_AFTER,
        kind: Kind::Gauge,
        help: "Time when the serving certificate expires",
        labels: &[],
        service: Service::Webhook,
    },
    Metric {
        name: AGENT_INFO,
        kind: Kind::Gauge,
        help: "Node that the agent watches, as a label; always 1",
        labels: &[Label {
            name: "node",
            values: "the node's name, as in findings",
        }],
        service: Service::Agent,
    },
    Metric {
        name: AGENT_STARTS,
        kind: Kind::Counter,
        help: "Container starts judged, each once, without those from before the agent",
        labels: &[
            Label {
                name: "verdict",
                values: "`approved`, `drift`, `exempt`, `unresolved`: [verdicts](detection.md#verdict-route-reason)",
            },
            ROUTE,
            REASON,
        ],
        service: Service::Agent,
    },
    Metric {
        name: AGENT_DRIFT,
        kind: Kind::Gauge,
        help: "Running containers whose image the policy would change or refuse",
        labels: &[
            Label {
                name: "workload_namespace",
                values: "namespace of the Pod, if the cluster has it; empty for other containers, and without a cluster",
            },
            ROUTE,
            REASON,
        ],
        service: Service::Agent,
    },
    Metric {
        name: AGENT_DRIFT_STOPPED,
        kind: Kind::Counter,
        help: "Containers that drifted and have stopped, with their last route and reason",
        labels: &[ROUTE, REASON],
        service: Service::Agent,
    },
    Metric {
        name: AGENT_DETECTION,
        kind: Kind::Histogram,
        help: "Time from a container's start to its verdict",
        labels: &[],
        service: Service::Agent,
    },
    Metric {
        name: AGENT_EVENTS_LOST,
        kind: Kind::Counter,
        help: "Kernel events that never reached user space, and starts without further information",
        labels: &[Label {
            name: "cause",
            values: "`ring-full-mkdir`, `ring-full-exec`, `ring-full-rmdir`, `pending-full`, `unplaced-exec`, \
                     `unanswered`, `unlisted-task`: \
                     [causes](agent.md#metrics)",
        }],
        service: Service::Agent,
    },
    Metric {
        name: AGENT_RECONCILED,
        kind: Kind::Counter,
        help: "Containers found by other means than their start event",
        labels: &[Label {
            name: "cause",
            values: "`periodic`, `event-lost`, `runtime-back`, `late-answer`, `overflow`: [causes](agent.md#metrics)",
        }],
        service: Service::Agent,
    },
    Metric {
        name: AGENT_POD_EVENTS,
        kind: Kind::Counter,
        help: "Kubernetes Events on Pods whose containers drift or are unresolved",
        labels: &[Label {
            name: "outcome",
            values: "`published`, `failed`, `dropped`; where the agent has a cluster",
        }],
        service: Service::Agent,
    },
    Metric {
        name: AGENT_POLICY_REPORTS,
        kind: Kind::Counter,
        help: "Writes of policy reports",
        labels: &[Label {
            name: "outcome",
            values: "`applied`, `deleted`, `failed`; with `--policy-reports`",
        }],
        service: Service::Agent,
    },
    Metric {
        name: AGENT_RESPONSES,
        kind: Kind::Counter,
        help: "Actions on Pods that drift",
        labels: &[
            Label {
                name: "action",
                values: "`evict`; with `--respond`",
            },
            Label {
                name: "outcome",
                values: "`evicted`, `would-evict`, `not-swapped`, `foreign`, `denied`, `blocked`, `refused`, `gone`, \
                         `failed`: \
                         [healing](detection.md#healing)",
            },
        ],
        service: Service::Agent,
    },
    Metric {
        name: AGENT_FINISHED,
        kind: Kind::Gauge,
        help: "Time when the agent last finished an activity that it repeats",
        labels: &[ACTIVITY],
        service: Service::Agent,
    },
    Metric {
        name: AGENT_LIMIT,
        kind: Kind::Gauge,
        help: "Longest allowed time since then; beyond it /livez fails",
        labels: &[ACTIVITY],
        service: Service::Agent,
    },
    Metric {
        name: AGENT_PROBE_RUNS,
        kind: Kind::Counter,
        help: "Runs of a program in the kernel while its statistics are on",
        labels: &[PROGRAM],
        service: Service::Agent,
    },
    Metric {
        name: AGENT_PROBE_TIME,
        kind: Kind::Counter,
        help: "Time spent in a program in the kernel while its statistics are on",
        labels: &[PROGRAM],
        service: Service::Agent,
    },
];
