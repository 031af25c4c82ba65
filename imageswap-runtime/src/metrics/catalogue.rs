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
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Metric {
    /// Its name, with the unit if it has one.
    pub name: &'static str,
    /// Its type.
    pub kind: Kind,
    /// One line, as exported.
    pub help: &'static str,
    /// Its labels, in the order in which they are exported.
    pub labels: &'static [Label],
    /// Upper bounds of a histogram's buckets.
    pub buckets: &'static [f64],
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

/// From well below the time of one review up to the API server's longest timeout for a webhook.
const ADMISSION_BUCKETS: [f64; 15] = [
    25e-6, 50e-6, 100e-6, 250e-6, 500e-6, 1e-3, 2.5e-3, 5e-3, 10e-3, 25e-3, 100e-3, 0.5, 1.0, 5.0,
    30.0,
];
/// From an event that is resolved at once to one that waited for a runtime's answer.
const DETECTION_BUCKETS: [f64; 13] = [
    100e-6, 250e-6, 500e-6, 1e-3, 2.5e-3, 5e-3, 10e-3, 25e-3, 50e-3, 100e-3, 0.5, 1.0, 5.0,
];

/// Route and reason are explained in one place.
const ROUTE: Label = label(
    "route",
    "how the container was started: [routes](detection.md#verdict-route-reason)",
);
const REASON: Label = label(
    "reason",
    "why: [reasons](detection.md#verdict-route-reason)",
);
const ACTIVITY: Label = label(
    "activity",
    "`loop` (processes all inputs), `walk` (walks over all cgroups)",
);
const PROGRAM: Label = label("program", "the program's name in the kernel");

/// Makes a constant of each metric, and the list of all.
macro_rules! metrics {
    ($($service:ident $kind:ident $metric:ident = $name:literal, $help:literal, $details:expr;)*) => {
        $(
            #[doc = $help]
            pub const $metric: Metric = $kind(Service::$service, $name, $help, &$details);
        )*

        /// All metrics, by service and subject.
        pub const fn catalogue() -> &'static [Metric] {
            &[$($metric),*]
        }
    };
}

metrics! {
    Both gauge BUILD_INFO = "imageswap_build_info",
        "Build information; always 1",
        [
            label("version", "the program's version"),
            label("component", "`webhook`, `agent`"),
        ];

    Both counter OTLP_EXPORT_FAILURES = "imageswap_otlp_export_failures_total",
        "Batches that could not be sent to the OpenTelemetry collector",
        [label("signal", "`traces` (webhook), `logs` (agent); where a collector was given")];

    Both gauge POLICY_INFO = "imageswap_policy_info",
        "Policy in force, as labels; always 1",
        [
            label("set_revision", "hash of all policies in force; `none` without a policy"),
            label("source", "`policy`, `maps`, `image-prefix`, `cluster`, `maps-configmap`"),
        ];

    Both gauge POLICY_LAST_LOAD = "imageswap_policy_last_load_timestamp_seconds",
        "Time when the policy in force was loaded",
        [];

    Both counter POLICY_RELOAD_FAILURES = "imageswap_policy_reload_failures_total",
        "Changes of the policy's source that could not be read or do not load",
        [];

    Both gauge POLICY_REFUSED = "imageswap_policy_refused",
        "Policy texts whose latest version was rejected, so that the last good one is in force",
        [];

    Both gauge POLICY_EXCEPTION_END = "imageswap_policy_exception_end_timestamp_seconds",
        "Time when an exception of the policy in force ends",
        [
            label("policy", "the policy's name"),
            label("pattern", "the exception's pattern, as written"),
        ];

    Webhook counter ADMISSION_REQUESTS = "imageswap_admission_requests_total",
        "Admission reviews answered",
        [
            label("webhook", "`mutate`, `validate`, `policy`"),
            label("operation", "`CREATE`, `UPDATE`, `DELETE`, `CONNECT`, `unknown`"),
            label(
                "outcome",
                "`patched`, `unchanged`, `warned`, `denied`, `skipped`, `bad-request`, `failed`, \
                 `shed`: [outcomes](webhook.md#admin-port)",
            ),
        ];

    Webhook histogram ADMISSION_DURATION = "imageswap_admission_duration_seconds",
        "Time from a review's request head to its answer",
        ADMISSION_BUCKETS;

    Webhook gauge ADMISSION_CONNECTIONS = "imageswap_admission_connections",
        "Open connections to the webhook",
        [];

    Webhook gauge ADMISSION_IN_FLIGHT = "imageswap_admission_requests_in_flight",
        "Requests that the webhook is reading or answering",
        [];

    Webhook counter ADMISSION_CLOSED = "imageswap_admission_connections_closed_total",
        "Connections that the webhook closed before their client did",
        [label("reason", "`handshake`, `slow-head`, `slow-body`, `slow-read`, `idle`, `crowded`")];

    Webhook counter ADMISSION_IMAGES = "imageswap_admission_images_total",
        "Images decided in admission reviews: of Pods at /mutate, of templates at /validate",
        [
            label(
                "decision",
                "`swapped`, `kept`, `invalid-result`, `not-mirrored`, `unparsable`, \
                 `scope-unknown`, `out-of-scope`",
            ),
            label("approved", "`true`, `false`"),
            label("enforcement", "`deny`, `warn`, `audit`; `none` if no policy applies to the image"),
            label("registry", "registry of the image asked about, if the policy names it; else `other`"),
        ];

    Webhook counter ADMISSION_REGISTRY_ANSWERS = "imageswap_admission_registry_answers_total",
        "Images whose swap depended on a registry, by its answer",
        [label("answer", "`present`, `missing` (the image stays), `unknown` (swapped as usual)")];

    Webhook gauge ADMISSION_UNREGISTERED = "imageswap_admission_unregistered",
        "Whether the API server does not call the webhook although a policy is in force, by configuration",
        [label("configuration", "`mutating`, `validating`")];

    Webhook gauge TLS_NOT_BEFORE = "imageswap_tls_not_before_timestamp_seconds",
        "Time from which the serving certificate is valid",
        [];

    Webhook gauge TLS_NOT_AFTER = "imageswap_tls_not_after_timestamp_seconds",
        "Time when the serving certificate expires",
        [];

    Agent gauge AGENT_INFO = "imageswap_agent_info",
        "Node that the agent watches, as a label; always 1",
        [label("node", "the node's name, as in findings")];

    Agent counter AGENT_STARTS = "imageswap_agent_container_starts_total",
        "Container starts judged, each once, without those from before the agent",
        [
            label(
                "verdict",
                "`approved`, `drift`, `exempt`, `unresolved`: \
                 [verdicts](detection.md#verdict-route-reason)",
            ),
            ROUTE,
            REASON,
        ];

    Agent gauge AGENT_DRIFT = "imageswap_agent_drift_containers",
        "Running containers whose image the policy would change or refuse",
        [
            label(
                "workload_namespace",
                "namespace of the Pod, if the cluster has it; empty for other containers, and \
                 without a cluster",
            ),
            ROUTE,
            REASON,
        ];

    Agent counter AGENT_DRIFT_STOPPED = "imageswap_agent_drift_stopped_total",
        "Containers that drifted and have stopped, with their last route and reason",
        [ROUTE, REASON];

    Agent histogram AGENT_DETECTION = "imageswap_agent_detection_seconds",
        "Time from a container's start to its verdict",
        DETECTION_BUCKETS;

    Agent counter AGENT_EVENTS_LOST = "imageswap_agent_events_lost_total",
        "Kernel events that never reached user space, and starts without further information",
        [label(
            "cause",
            "`ring-full-mkdir`, `ring-full-exec`, `ring-full-rmdir`, `pending-full`, \
             `unplaced-exec`, `unanswered`, `unlisted-task`: [causes](agent.md#metrics)",
        )];

    Agent counter AGENT_RECONCILED = "imageswap_agent_reconciled_total",
        "Containers found by other means than their start event",
        [label(
            "cause",
            "`periodic`, `event-lost`, `runtime-back`, `late-answer`, `overflow`: \
             [causes](agent.md#metrics)",
        )];

    Agent counter AGENT_POD_EVENTS = "imageswap_agent_pod_events_total",
        "Kubernetes Events on Pods whose containers drift or are unresolved",
        [label("outcome", "`published`, `failed`, `dropped`; where the agent has a cluster")];

    Agent counter AGENT_POLICY_REPORTS = "imageswap_agent_policy_report_writes_total",
        "Writes of policy reports",
        [label("outcome", "`applied`, `deleted`, `failed`; with `--policy-reports`")];

    Agent counter AGENT_RESPONSES = "imageswap_agent_responses_total",
        "Actions on Pods that drift",
        [
            label("action", "`evict`; with `--respond`"),
            label(
                "outcome",
                "`evicted`, `would-evict`, `not-swapped`, `foreign`, `denied`, `blocked`, \
                 `refused`, `gone`, `failed`: [healing](detection.md#healing)",
            ),
        ];

    Agent gauge AGENT_FINISHED = "imageswap_agent_activity_finished_timestamp_seconds",
        "Time when the agent last finished an activity that it repeats",
        [ACTIVITY];

    Agent gauge AGENT_LIMIT = "imageswap_agent_activity_limit_seconds",
        "Longest allowed time since then; beyond it /livez fails",
        [ACTIVITY];

    Agent counter AGENT_PROBE_RUNS = "imageswap_agent_probe_runs_total",
        "Runs of a program in the kernel while its statistics are on",
        [PROGRAM];

    Agent counter AGENT_PROBE_TIME = "imageswap_agent_probe_run_nanoseconds_total",
        "Time spent in a program in the kernel while its statistics are on",
        [PROGRAM];
}

const fn counter(
    service: Service,
    name: &'static str,
    help: &'static str,
    labels: &'static [Label],
) -> Metric {
    Metric {
        name,
        kind: Kind::Counter,
        help,
        labels,
        buckets: &[],
        service,
    }
}

const fn gauge(
    service: Service,
    name: &'static str,
    help: &'static str,
    labels: &'static [Label],
) -> Metric {
    Metric {
        kind: Kind::Gauge,
        ..counter(service, name, help, labels)
    }
}

const fn histogram(
    service: Service,
    name: &'static str,
    help: &'static str,
    buckets: &'static [f64],
) -> Metric {
    Metric {
        kind: Kind::Histogram,
        buckets,
        ..counter(service, name, help, &[])
    }
}

const fn label(name: &'static str, values: &'static str) -> Label {
    Label { name, values }
}
