//! Admission: a review's images are asked about one by one, and the answer carries what the policy would have run.

use std::fmt::Write as _;

use imageswap_policy::{PodScope, Policies, Policy, Reference, Scope};
use imageswap_runtime::metrics::{Operation, Outcome, WebhookMetrics};
use imageswap_runtime::source::{Namespaces, PolicySource, PullSecrets, today};
use imageswap_runtime::telemetry::{span, trace_id};

use crate::patch::Patch;
use crate::wire::{ImageField, List, NotAReview, Object, Request, Review, Text};

/// Answers reviews by the policy in force.
#[derive(Debug, Clone)]
pub struct Admission {
    policy: PolicySource,
    namespaces: Namespaces,
    pull_secrets: PullSecrets,
    metrics: WebhookMetrics,
}

/// The answer to a body, with what is counted of it.
#[derive(Debug)]
pub struct Answer {
    /// The AdmissionReview to send back, or why the body is none.
    pub body: Result<Vec<u8>, NotAReview>,
    /// Operation of the request.
    pub operation: Operation,
    /// How it ended.
    pub outcome: Outcome,
}

/// What an object's images become.
#[derive(Debug, Default)]
struct Swaps {
    patch: Patch,
    /// For the log, `container: image -> result, ...`; stays empty when nobody reads it.
    text: String,
    /// Whether the policy speaks of the object at all.
    in_scope: bool,
}

impl Admission {
    /// Decides by the policy that `policy` holds at the time of each review.
    pub fn new(policy: PolicySource, metrics: WebhookMetrics) -> Self {
        Self {
            policy,
            namespaces: Namespaces::unknown(),
            pull_secrets: PullSecrets::unknown(),
            metrics,
        }
    }

    /// Knows of the cluster what these do.
    #[must_use]
    pub fn with_cluster(self, namespaces: Namespaces, pull_secrets: PullSecrets) -> Self {
        Self {
            namespaces,
            pull_secrets,
            ..self
        }
    }

    /// Answers a request's body.
    pub fn answer(&self, body: &[u8]) -> Answer {
        let review = match span("parse", || Review::parse(body)) {
            Ok(review) => review,
            Err(error) => {
                tracing::warn!(trace_id = trace(), %error, "request refused");
                return Answer {
                    body: Err(error),
                    operation: Operation::Unknown,
                    outcome: Outcome::BadRequest,
                };
            }
        };
        let (patch, outcome) = span("decide", || self.admit(&review));
        Answer {
            body: Ok(span("patch", || review.allow(&patch))),
            operation: operation(&review.request),
            outcome,
        }
    }

    fn admit(&self, review: &Review<'_>) -> (Patch, Outcome) {
        let request = &review.request;
        if let Some(error) = &review.unusable {
            tracing::warn!(uid = &*request.uid, trace_id = trace(), %error, "allowed unchanged: the object cannot be read");
        }
        let Some(object) = request
            .object
            .as_ref()
            .filter(|it| !it.is_mirror() && !it.is_deleting())
        else {
            tracing::debug!(uid = &*request.uid, "allowed unchanged: nothing to decide");
            return (Patch::default(), Outcome::Skipped);
        };
        let swaps = self.swaps(&self.policy.current(), request, object);
        log(request, object, &swaps);
        let outcome = match (swaps.in_scope, swaps.patch.is_empty()) {
            (false, _) => Outcome::Skipped,
            (true, true) => Outcome::Unchanged,
            (true, false) => Outcome::Patched,
        };
        (swaps.patch, outcome)
    }

    fn swaps(&self, policies: &Policies, request: &Request<'_>, object: &Object<'_>) -> Swaps {
        let namespace = request.namespace.as_ref().map(Text::as_str);
        let namespace_labels = namespace.and_then(|it| self.namespaces.labels(it));
        let scope = Scope::Pod(PodScope {
            namespace,
            namespace_labels: namespace_labels.as_deref(),
            labels: Some(object.labels()),
        });
        let selected = policies.select(scope, today());
        let patches = selected.policy().is_some_and(Policy::swaps);
        let logged = tracing::enabled!(tracing::Level::INFO);
        let mut swaps = Swaps::default();
        for_each_image(request, object, |field| {
            let decision = selected.decide(field.image);
            let registry = Reference::parse(field.image).ok();
            self.metrics
                .image(registry.as_ref().map(Reference::registry), &decision);
            swaps.in_scope |= decision.in_scope;
            if decision.swapped() {
                if patches {
                    swaps.patch.replace(field, &decision.result);
                }
                if logged {
                    let separator = if swaps.text.is_empty() { "" } else { ", " };
                    let _infallible = write!(
                        swaps.text,
                        "{separator}{}: {} -> {}",
                        field.name, field.image, decision.result
                    );
                }
            }
        });
        swaps
    }
}

/// Calls `decide` for every image that this request may still change.
///
/// What the API server would refuse to see changed is left out, for a patch of it fails the whole request: on UPDATE a
/// Pod's volumes and a Job's template, and ephemeral containers that are there already.
fn for_each_image(
    request: &Request<'_>,
    object: &Object<'_>,
    mut decide: impl FnMut(ImageField<'_>),
) {
    let update = operation(request) == Operation::Update;
    let core = request.kind.group.is_empty();
    match (
        &*request.kind.kind,
        request.sub_resource.as_ref().map_or("", Text::as_str),
    ) {
        ("Pod", "ephemeralcontainers") if core => {
            let old = request.old_object.as_ref();
            for field in object.pod_images(&[List::EphemeralContainers]) {
                let there = old.is_some_and(|old| {
                    old.pod_images(&[List::EphemeralContainers])
                        .any(|it| it.name == field.name)
                });
                if !there {
                    decide(field);
                }
            }
        }
        ("Pod", "") if core => {
            let lists = if update {
                &[List::Containers, List::InitContainers][..]
            } else {
                &List::ALL
            };
            object.pod_images(lists).for_each(decide);
        }
        ("Job", "") if update => {}
        (_, "") => object.template_images(&List::ALL).for_each(decide),
        _ => {}
    }
}

fn operation(request: &Request<'_>) -> Operation {
    match request.operation.as_ref().map(Text::as_str) {
        Some("CREATE") => Operation::Create,
        Some("UPDATE") => Operation::Update,
        Some("DELETE") => Operation::Delete,
        Some("CONNECT") => Operation::Connect,
        _ => Operation::Unknown,
    }
}

/// The trace that the request belongs to, as a field of a log line that is left out where there is none.
fn trace() -> Option<impl tracing::Value> {
    trace_id().map(tracing::field::display)
}

/// One line for each review that changed something.
fn log(request: &Request<'_>, object: &Object<'_>, swaps: &Swaps) {
    let uid = &*request.uid;
    if swaps.patch.is_empty() && swaps.text.is_empty() {
        tracing::debug!(uid, trace_id = trace(), in_scope = swaps.in_scope, "allowed unchanged");
        return;
    }
    let text = |it: &Option<Text<'_>>| it.as_ref().map_or("", Text::as_str).to_owned();
    let name = Some(text(&request.name)).filter(|name| !name.is_empty());
    tracing::info!(
        uid,
        trace_id = trace(),
        namespace = text(&request.namespace),
        kind = &*request.kind.kind,
        name = name
            .as_deref()
            .or(object.generate_name())
            .unwrap_or_default(),
        swaps = swaps.text,
        "{}",
        if swaps.patch.is_empty() {
            "images would be swapped, if the policy were not one for audit"
        } else {
            "images swapped"
        }
    );
}
