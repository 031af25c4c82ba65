//! The webhook's series, and the values of their labels.

use std::array;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use imageswap_policy::document::Enforcement;
use imageswap_policy::{Decision, Reason};
use imageswap_runtime::connections::Closed;
use imageswap_runtime::metrics::catalogue::{
    ADMISSION_CLOSED, ADMISSION_CONNECTIONS, ADMISSION_DURATION, ADMISSION_IMAGES,
    ADMISSION_IN_FLIGHT, ADMISSION_REGISTRY_ANSWERS, ADMISSION_REQUESTS, ADMISSION_UNREGISTERED,
};
use imageswap_runtime::metrics::{Counter, Exporter, Gauge, Histogram, NONE, SharedString};
use strum::{IntoStaticStr, VariantArray};

/// Which of the webhooks was called, as a bounded label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "kebab-case")]
pub enum Webhook {
    /// Images are swapped.
    Mutate,
    /// What is not approved is refused.
    Validate,
    /// Policies that do not load are refused.
    Policy,
}

/// Operation of an admission request, as a bounded label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "UPPERCASE")]
pub enum Operation {
    /// An object is made.
    Create,
    /// An object is changed.
    Update,
    /// An object is deleted.
    Delete,
    /// A connection to a subresource, such as exec.
    Connect,
    /// Another operation, or the body was not a review.
    #[strum(serialize = "unknown")]
    Unknown,
}

/// How an admission request ended, as a bounded label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "kebab-case")]
pub enum Outcome {
    /// Allowed, with a patch.
    Patched,
    /// Allowed; the policy leaves every image unchanged.
    Unchanged,
    /// Allowed, with a warning.
    Warned,
    /// Refused by a policy.
    Denied,
    /// Allowed without asking the policy: opted out, being deleted, a mirror Pod, or nothing usable
    /// in the review.
    Skipped,
    /// Refused as a request: not an AdmissionReview, too large, or for an unknown path.
    BadRequest,
    /// A defect in this program; answered with 500.
    Failed,
    /// Turned away unread or unanswered because of overload; answered with 429.
    Shed,
}

/// The webhook's handles. Clones share the series.
#[derive(Debug, Clone)]
pub struct WebhookMetrics {
    requests: Arc<
        [[[Counter; Outcome::VARIANTS.len()]; Operation::VARIANTS.len()]; Webhook::VARIANTS.len()],
    >,
    duration: Histogram,
    connections: Gauge,
    in_flight: Gauge,
    closed: Arc<[Counter; Closed::VARIANTS.len()]>,
    images: Arc<ArcSwap<ImageCounters>>,
    registry_answers: Arc<[Counter; REGISTRY_ANSWERS.len()]>,
    exporter: Exporter,
}

/// Counters of decided images for the policy in force.
#[derive(Debug)]
struct ImageCounters {
    registries: HashMap<Box<str>, ByEnforcement<RegistryCounters>>,
    other: ByEnforcement<RegistryCounters>,
    unparsable: ByEnforcement<Counter>,
    scope_unknown: ByEnforcement<Counter>,
    out_of_scope: Counter,
}

/// Values of the label `answer`.
const REGISTRY_ANSWERS: [&str; 3] = ["present", "missing", "unknown"];

/// Indexed by [`Enforcement`].
type ByEnforcement<T> = [T; ENFORCEMENTS.len()];

/// In the order of the type.
const ENFORCEMENTS: [Enforcement; 3] = [Enforcement::Deny, Enforcement::Warn, Enforcement::Audit];

/// One registry's counters, indexed by `approved`.
#[derive(Debug)]
struct RegistryCounters {
    swapped: [Counter; 2],
    kept: [Counter; 2],
    invalid_result: [Counter; 2],
    not_mirrored: [Counter; 2],
}

impl Webhook {
    /// The value of the label `webhook`.
    pub fn label(self) -> &'static str {
        self.into()
    }
}

impl Operation {
    /// The value of the label `operation`.
    pub fn label(self) -> &'static str {
        self.into()
    }
}

impl Outcome {
    /// The value of the label `outcome`.
    pub fn label(self) -> &'static str {
        self.into()
    }
}

impl WebhookMetrics {
    /// Registers the series.
    pub fn new(exporter: &Exporter) -> Self {
        exporter.build_info("webhook");
        for configuration in ["mutating", "validating"] {
            let gauge = exporter.gauge(&ADMISSION_UNREGISTERED, [configuration]);
            gauge.set(0.0);
        }
        let requests = each(|webhook: Webhook| {
            each(|operation: Operation| {
                each(|outcome: Outcome| {
                    let values = [webhook.label(), operation.label(), outcome.label()];
                    exporter.counter(&ADMISSION_REQUESTS, values)
                })
            })
        });
        Self {
            requests: Arc::new(requests),
            duration: exporter.histogram(&ADMISSION_DURATION),
            connections: exporter.gauge(&ADMISSION_CONNECTIONS, NONE),
            in_flight: exporter.gauge(&ADMISSION_IN_FLIGHT, NONE),
            closed: Arc::new(each(|reason: Closed| {
                exporter.counter(&ADMISSION_CLOSED, [<&str>::from(reason)])
            })),
            images: Arc::new(ArcSwap::from_pointee(ImageCounters::register(
                exporter,
                std::iter::empty(),
            ))),
            registry_answers: Arc::new(
                REGISTRY_ANSWERS
                    .map(|answer| exporter.counter(&ADMISSION_REGISTRY_ANSWERS, [answer])),
            ),
            exporter: exporter.clone(),
        }
    }

    /// An image was decided by a registry's answer: `present`, `missing`, or else `unknown`.
    pub fn registry_answer(&self, answer: &str) {
        let at = REGISTRY_ANSWERS.iter().position(|it| *it == answer);
        self.registry_answers[at.unwrap_or(REGISTRY_ANSWERS.len() - 1)].increment(1);
    }

    /// One request was answered after `duration`.
    pub fn request(
        &self,
        webhook: Webhook,
        operation: Operation,
        outcome: Outcome,
        duration: Duration,
    ) {
        self.requests[webhook as usize][operation as usize][outcome as usize].increment(1);
        self.duration.record(duration.as_secs_f64());
    }

    /// Sets how many connections are open, and how many of them have a request that is being read
    /// or answered.
    pub fn set_connections(&self, open: usize, in_flight: usize) {
        let value = |count| f64::from(u32::try_from(count).unwrap_or(u32::MAX));
        self.connections.set(value(open));
        self.in_flight.set(value(in_flight));
    }

    /// The server closed a connection.
    pub fn connection_closed(&self, why: Closed) {
        self.closed[why as usize].increment(1);
    }

    /// Sets the registries that the policy in force names. Only these become label values of their
    /// own.
    pub fn set_registries<'a>(&self, registries: impl Iterator<Item = &'a str>) {
        self.images.store(Arc::new(ImageCounters::register(
            &self.exporter,
            registries,
        )));
    }

    /// One image from `registry` (the canonical host of the image asked about) was decided, by a policy with that
    /// enforcement.
    pub fn image(&self, registry: Option<&str>, decision: &Decision<'_>, enforcement: Enforcement) {
        self.images
            .load()
            .counter(registry, decision, enforcement)
            .increment(1);
    }

    /// Sets whether the API server does not call the webhook although a policy is in force.
    /// `configuration` is `mutating` or `validating`.
    pub fn set_unregistered(&self, configuration: &'static str, missing: bool) {
        let missing = f64::from(u8::from(missing));
        let gauge = self
            .exporter
            .gauge(&ADMISSION_UNREGISTERED, [configuration]);
        gauge.set(missing);
    }
}

/// What is made of each variant, in their order.
fn each<E: VariantArray + Copy, T, const N: usize>(mut make: impl FnMut(E) -> T) -> [T; N] {
    array::from_fn(|at| make(E::VARIANTS[at]))
}

impl ImageCounters {
    fn register<'a>(exporter: &Exporter, registries: impl Iterator<Item = &'a str>) -> Self {
        Self {
            registries: registries
                .map(|name| (Box::from(name), RegistryCounters::register(exporter, name)))
                .collect(),
            other: RegistryCounters::register(exporter, "other"),
            unparsable: ENFORCEMENTS
                .map(|it| image_counter(exporter, "unparsable", false, it.as_str(), "other")),
            scope_unknown: ENFORCEMENTS
                .map(|it| image_counter(exporter, "scope-unknown", false, it.as_str(), "other")),
            // No policy applies to it, so there is nothing to enforce.
            out_of_scope: image_counter(exporter, "out-of-scope", false, "none", "other"),
        }
    }

    fn counter(
        &self,
        registry: Option<&str>,
        decision: &Decision<'_>,
        enforcement: Enforcement,
    ) -> &Counter {
        let by_registry = registry
            .and_then(|name| self.registries.get(name))
            .unwrap_or(&self.other);
        let by_registry = &by_registry[enforcement as usize];
        match decision.reason {
            Reason::Swapped => &by_registry.swapped[usize::from(decision.approved)],
            Reason::InvalidResult => &by_registry.invalid_result[usize::from(decision.approved)],
            Reason::NotMirrored => &by_registry.not_mirrored[usize::from(decision.approved)],
            Reason::Unparsable => &self.unparsable[enforcement as usize],
            Reason::ScopeUnknown => &self.scope_unknown[enforcement as usize],
            Reason::OutOfScope | Reason::NoPolicy => &self.out_of_scope,
            Reason::Kept
            | Reason::AlreadyTarget
            | Reason::NoRule
            | Reason::Denied
            | Reason::Excepted
            | Reason::OptedOut => &by_registry.kept[usize::from(decision.approved)],
        }
    }
}

impl RegistryCounters {
    fn register(exporter: &Exporter, registry: &str) -> ByEnforcement<Self> {
        ENFORCEMENTS.map(|enforcement| {
            let pair = |decision| {
                [false, true].map(|approved| {
                    image_counter(exporter, decision, approved, enforcement.as_str(), registry)
                })
            };
            Self {
                swapped: pair("swapped"),
                kept: pair("kept"),
                invalid_result: pair("invalid-result"),
                not_mirrored: pair("not-mirrored"),
            }
        })
    }
}

fn image_counter(
    exporter: &Exporter,
    decision: &'static str,
    approved: bool,
    enforcement: &'static str,
    registry: &str,
) -> Counter {
    let approved = if approved { "true" } else { "false" };
    let registry = registry.to_owned().into();
    let values: [SharedString; 4] = [
        decision.into(),
        approved.into(),
        enforcement.into(),
        registry,
    ];
    exporter.counter(&ADMISSION_IMAGES, values)
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use imageswap_runtime::metrics::catalogue;

    use super::*;

    fn decision(reason: Reason, approved: bool) -> Decision<'static> {
        Decision {
            result: Cow::Borrowed("x"),
            rule: None,
            approved,
            in_scope: true,
            reason,
            denied: None,
            conditional: false,
        }
    }

    #[test]
    fn registries_outside_the_policy_are_other() {
        let exporter = Exporter::new();
        let metrics = WebhookMetrics::new(&exporter);
        metrics.set_registries(["quay.io"].into_iter());
        metrics.image(
            Some("quay.io"),
            &decision(Reason::Swapped, true),
            Enforcement::Deny,
        );
        metrics.image(
            Some("evil.example"),
            &decision(Reason::NoRule, false),
            Enforcement::Warn,
        );
        metrics.image(
            None,
            &decision(Reason::Unparsable, false),
            Enforcement::Audit,
        );
        let text = exporter.render();
        for line in [
            r#"imageswap_admission_images_total{decision="swapped",approved="true",enforcement="deny",registry="quay.io"} 1"#,
            r#"imageswap_admission_images_total{decision="kept",approved="false",enforcement="warn",registry="other"} 1"#,
            r#"imageswap_admission_images_total{decision="kept",approved="false",enforcement="audit",registry="quay.io"} 0"#,
            r#"imageswap_admission_images_total{decision="unparsable",approved="false",enforcement="audit",registry="other"} 1"#,
        ] {
            assert!(text.lines().any(|l| l == line), "{line}\n{text}");
        }
        assert!(!text.contains("evil.example"), "{text}");
    }

    #[test]
    fn counts_survive_a_change_of_the_policy() {
        let exporter = Exporter::new();
        let metrics = WebhookMetrics::new(&exporter);
        metrics.set_registries(["quay.io"].into_iter());
        metrics.image(
            Some("quay.io"),
            &decision(Reason::Swapped, true),
            Enforcement::Deny,
        );
        metrics.set_registries(["ghcr.io", "quay.io"].into_iter());
        metrics.image(
            Some("quay.io"),
            &decision(Reason::Swapped, true),
            Enforcement::Deny,
        );
        let line =
            r#"{decision="swapped",approved="true",enforcement="deny",registry="quay.io"} 2"#;
        assert!(exporter.render().contains(line));
    }

    #[test]
    fn requests_are_counted_by_operation_and_outcome() {
        let exporter = Exporter::new();
        let metrics = WebhookMetrics::new(&exporter);
        for &operation in Operation::VARIANTS {
            for &outcome in Outcome::VARIANTS {
                metrics.request(
                    Webhook::Mutate,
                    operation,
                    outcome,
                    Duration::from_micros(30),
                );
            }
        }
        metrics.request(
            Webhook::Mutate,
            Operation::Update,
            Outcome::Skipped,
            Duration::from_micros(30),
        );
        exporter.run_upkeep();
        let text = exporter.render();
        for &operation in Operation::VARIANTS {
            for &outcome in Outcome::VARIANTS {
                let twice = operation == Operation::Update && outcome == Outcome::Skipped;
                let line = format!(
                    "imageswap_admission_requests_total{{webhook=\"mutate\",operation=\"{}\",outcome=\"{}\"}} {}",
                    operation.label(),
                    outcome.label(),
                    1 + u8::from(twice),
                );
                assert!(text.lines().any(|l| l == line), "{line}\n{text}");
            }
        }
        assert!(
            text.contains("imageswap_admission_duration_seconds_bucket{le=\"0.000025\"} 0\n"),
            "{text}"
        );
        assert!(
            text.contains("imageswap_admission_duration_seconds_bucket{le=\"0.00005\"} 41\n"),
            "{text}"
        );
    }

    #[test]
    fn series_exist_from_the_start() {
        let exporter = Exporter::new();
        let metrics = WebhookMetrics::new(&exporter);
        // Without a sample a histogram has no lines.
        metrics.request(
            Webhook::Mutate,
            Operation::Create,
            Outcome::Patched,
            Duration::ZERO,
        );
        let text = exporter.render();
        for metric in catalogue() {
            let head = format!("# TYPE {} {}\n", metric.name, metric.kind.as_str());
            let expected = metric.name.starts_with("imageswap_admission_");
            assert!(text.contains(&head) || !expected, "{head}\n{text}");
        }
        let line = r#"_requests_total{webhook="mutate",operation="CREATE",outcome="failed"} 0"#;
        assert!(text.contains(line), "{text}");
        let line = r#"{decision="kept",approved="false",enforcement="audit",registry="other"} 0"#;
        assert!(text.contains(line), "{text}");
    }

    #[test]
    fn the_catalogue_lists_all_values() {
        fn all<E: VariantArray + Copy + Into<&'static str>>() -> String {
            let names = E::VARIANTS.iter().map(|it| -> &str { (*it).into() });
            let quoted: Vec<_> = names.map(|it| format!("`{it}`")).collect();
            quoted.join(", ")
        }
        let [webhook, operation, outcome] = ADMISSION_REQUESTS.labels else {
            panic!("{ADMISSION_REQUESTS:?}")
        };
        assert_eq!(webhook.values, all::<Webhook>());
        assert_eq!(operation.values, all::<Operation>());
        assert!(outcome.values.starts_with(&all::<Outcome>()));
    }
}
