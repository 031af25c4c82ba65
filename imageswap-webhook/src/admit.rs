//! Admission: how each of the webhooks answers a review.
//!
//! `/mutate` swaps, and refuses only an object with more images than are read (`mutate`); `/validate`
//! judges and never changes (`validate`); `/validate-policy` refuses policies that do not load
//! (`policy`). All of them leave alone objects that are being deleted, and the mirror Pods of static
//! Pods if a kubelet sends them: they are never started, and a mirror that is changed or refused hides
//! the container that runs.

mod images;
mod listed;
mod message;
mod mirrored;
mod mutate;
mod note;
mod policy;
mod pull_secrets;
mod validate;

use std::borrow::Cow;
use std::convert::Infallible;

use crate::metrics::{Operation, Outcome, Webhook, WebhookMetrics};
use imageswap_policy::{Decision, PodScope, Policy, Reason, Reference, Scope, Selected};
use imageswap_registry::Mirrors;
use imageswap_runtime::source::{Namespaces, PolicySource, PullSecrets, today};
use imageswap_runtime::telemetry::{span, trace_id};
use tokio::time::Instant;

use images::Subject;

use crate::caller::Caller;
use crate::wire::{ImageField, NotAReview, Object, Request, Review, Text, Verdict};
use listed::short;

/// User prefix trusted for mirror Pods.
const KUBELETS: &str = "system:node:";

/// Answers reviews by the policies in force.
#[derive(Debug, Clone)]
pub struct Admission {
    policy: PolicySource,
    namespaces: Namespaces,
    pull_secrets: PullSecrets,
    /// Registries to ask; without it no swap depends on a registry.
    mirrors: Option<Mirrors>,
    metrics: WebhookMetrics,
}

/// The answer to a body, with the values for metrics.
#[derive(Debug)]
pub struct Answer {
    /// The AdmissionReview to send back, or why the body is not a review.
    pub body: Result<Vec<u8>, NotAReview>,
    /// Operation of the request.
    pub operation: Operation,
    /// How it ended.
    pub outcome: Outcome,
}

/// What an answer needs and is not known yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unlearned {
    /// The labels of this namespace.
    Namespace(String),
    /// Whether registries have these images.
    Images(Vec<String>),
}

impl Unlearned {
    /// The caller once this has been asked about: it does not wait for the same again.
    pub(crate) fn next_caller(&self) -> Caller {
        match self {
            Self::Namespace(_) => Caller::of_registries(),
            Self::Images(_) => Caller::default(),
        }
    }
}

impl Admission {
    /// Decides by the policies that `policy` holds at the time of each review.
    pub fn new(policy: PolicySource, metrics: WebhookMetrics) -> Self {
        Self {
            policy,
            namespaces: Namespaces::unknown(),
            pull_secrets: PullSecrets::unknown(),
            mirrors: None,
            metrics,
        }
    }

    /// Uses this knowledge about the cluster.
    #[must_use]
    pub fn with_cluster(self, namespaces: Namespaces, pull_secrets: PullSecrets) -> Self {
        Self {
            namespaces,
            pull_secrets,
            ..self
        }
    }

    /// Asks these registries about the results of rules with `ifMissing: keep`.
    #[must_use]
    pub fn with_mirrors(self, mirrors: Mirrors) -> Self {
        Self {
            mirrors: Some(mirrors),
            ..self
        }
    }

    /// Answers a request's body with present knowledge.
    pub fn answer(&self, webhook: Webhook, body: &[u8]) -> Answer {
        let caller = Caller::default();
        let go_on = |_unlearned| Ok::<_, Infallible>(());
        let Ok(answer) = self.answer_if(&caller, webhook, body, go_on);
        answer
    }

    /// Answers a request's body, and stops if the caller has gone; the answer is then useless.
    ///
    /// # Errors
    /// It needs something that is not known, and the caller waits until [`Self::learn`] has asked.
    pub fn answer_to(
        &self,
        caller: &Caller,
        webhook: Webhook,
        body: &[u8],
    ) -> Result<Answer, Unlearned> {
        self.answer_if(caller, webhook, body, |unlearned| {
            let waits = match &unlearned {
                Unlearned::Namespace(_) => {
                    caller.waits_for_namespace() && self.namespaces.can_ask()
                }
                Unlearned::Images(_) => caller.waits_for_registries(),
            };
            if waits { Err(unlearned) } else { Ok(()) }
        })
    }

    /// Asks the API server about a namespace, or registries about images. Returns once they have answered, or reach
    /// their deadline; for registries that is at most `until`.
    pub async fn learn(&self, unlearned: &Unlearned, until: Instant) {
        match unlearned {
            Unlearned::Namespace(namespace) => self.namespaces.learn(namespace).await,
            Unlearned::Images(images) => self.ask_registries(images, until).await,
        }
    }

    /// Answers a request's body. `go_on` is called if something that is not known decides.
    fn answer_if<E>(
        &self,
        caller: &Caller,
        webhook: Webhook,
        body: &[u8],
        go_on: impl Fn(Unlearned) -> Result<(), E>,
    ) -> Result<Answer, E> {
        if webhook == Webhook::Policy {
            let review = match span("parse", || Review::parse_text(body)) {
                Ok(review) => review,
                Err(error) => return Ok(refused(error)),
            };
            let (verdict, outcome) = span("decide", || self.review_policy(&review.request));
            return Ok(answer(&review, &verdict, outcome));
        }
        let review = match span("parse", || Review::parse(body)) {
            Ok(review) => review,
            Err(error) => return Ok(refused(error)),
        };
        let (verdict, outcome) = span("decide", || self.review(webhook, &review, caller, go_on))?;
        if caller.is_gone() {
            // A partial answer is useless, and nobody reads this one.
            let verdict = Verdict {
                denied: Some("nobody waited for the answer".to_owned()),
                ..Verdict::default()
            };
            return Ok(answer(&review, &verdict, Outcome::Shed));
        }
        Ok(answer(&review, &verdict, outcome))
    }

    fn review<E>(
        &self,
        webhook: Webhook,
        review: &Review<'_>,
        caller: &Caller,
        go_on: impl Fn(Unlearned) -> Result<(), E>,
    ) -> Result<(Verdict, Outcome), E> {
        let request = &review.request;
        let uid = &*request.uid;
        if let Some(error) = &review.unusable {
            let error = error.to_string();
            let error = &*short(&error);
            tracing::warn!(
                uid,
                trace_id = trace(),
                error,
                "allowed unchanged: the object cannot be read"
            );
        }
        let operation = operation(request);
        // The creator of an object can write that it is being deleted; the API server then drops
        // that field.
        let is_deleting = |it: &Object<'_>| operation == Operation::Update && it.is_deleting();
        let Some(object) = request
            .object
            .as_ref()
            .filter(|it| !is_deleting(it) && !is_kubelets_mirror(request, it))
        else {
            tracing::debug!(uid, "allowed unchanged: nothing to decide");
            return Ok((Verdict::default(), Outcome::Skipped));
        };
        let policies = self.policy.current();
        let asked = Asked {
            request,
            object,
            operation,
            namespace: request.namespace.as_ref().map(Text::as_str),
            caller,
        };
        let subject = Subject::of(&asked);
        let labels = match subject {
            // The old form of the subresource does not contain the Pod's labels.
            Subject::BareEphemeralContainers => None,
            Subject::Template if webhook == Webhook::Validate => Some(object.template_labels()),
            _ => Some(object.labels()),
        };
        let namespace_labels = asked.namespace.and_then(|it| self.namespaces.labels(it));
        let scope = Scope::Pod(PodScope {
            namespace: asked.namespace,
            namespace_labels: namespace_labels.as_deref(),
            labels: labels.map(|it| it as _),
        });
        let selected = policies.select(scope, today());
        if let Some(namespace) = asked.namespace
            && selected.missing().namespace_labels
        {
            go_on(Unlearned::Namespace(namespace.to_owned()))?;
        }
        if caller.waits_for_registries() {
            let images = self.unanswered(&selected, subject, &asked);
            if !images.is_empty() {
                go_on(Unlearned::Images(images))?;
            }
        }
        Ok(match webhook {
            Webhook::Mutate => self.mutate(&selected, subject, &asked),
            Webhook::Validate | Webhook::Policy => self.validate(&selected, subject, &asked),
        })
    }

    fn count(&self, selected: &Selected<'_>, image: &str, decision: &Decision<'_>) {
        let parsed = decision.reason != Reason::Unparsable;
        let registry = parsed.then(|| Reference::registry_of(image));
        self.metrics
            .image(registry, decision, selected.enforcement());
    }
}

/// An image and the policy's decision about it.
struct Decided<'r> {
    field: ImageField<'r>,
    /// The image that the container should run after this request.
    result: Cow<'r, str>,
}

/// A review's request, with values that are needed repeatedly.
struct Asked<'r> {
    request: &'r Request<'r>,
    object: &'r Object<'r>,
    operation: Operation,
    namespace: Option<&'r str>,
    caller: &'r Caller,
}

impl Asked<'_> {
    /// The object's name, or the prefix for a generated name.
    fn name(&self) -> &str {
        let name = self.request.name.as_ref().map_or("", Text::as_str);
        match name {
            "" => self.object.generate_name().unwrap_or_default(),
            name => name,
        }
    }

    /// One log line about a review that had a result.
    fn log(&self, swaps: &str, refused: &str, what: &str) {
        tracing::info!(
            uid = &*self.request.uid,
            trace_id = trace(),
            namespace = &*short(self.namespace.unwrap_or_default()),
            kind = &*short(&self.request.kind.kind),
            name = &*short(self.name()),
            user = &*short(self.request.user()),
            swaps = Some(swaps).filter(|it| !it.is_empty()),
            not_approved = Some(refused).filter(|it| !it.is_empty()),
            "{what}"
        );
    }
}

impl Asked<'_> {
    /// One log line about images that stay because registries do not have the results.
    fn log_kept(&self, kept: &str) {
        tracing::info!(
            uid = &*self.request.uid,
            trace_id = trace(),
            namespace = &*short(self.namespace.unwrap_or_default()),
            name = &*short(self.name()),
            not_mirrored = kept,
            "images stay as written, because registries do not have the results"
        );
    }
}

fn is_kubelets_mirror(request: &Request<'_>, object: &Object<'_>) -> bool {
    object.is_mirror() && request.user().starts_with(KUBELETS)
}

fn answer<O>(review: &Review<'_, O>, verdict: &Verdict, outcome: Outcome) -> Answer {
    Answer {
        body: Ok(span("patch", || review.answer(verdict))),
        operation: operation(&review.request),
        outcome,
    }
}

fn refused(error: NotAReview) -> Answer {
    let text = error.to_string();
    tracing::warn!(
        trace_id = trace(),
        error = &*short(&text),
        "request refused"
    );
    Answer {
        body: Err(error),
        operation: Operation::Unknown,
        outcome: Outcome::BadRequest,
    }
}

fn operation<O>(request: &Request<'_, O>) -> Operation {
    match request.operation.as_ref().map(Text::as_str) {
        Some("CREATE") => Operation::Create,
        Some("UPDATE") => Operation::Update,
        Some("DELETE") => Operation::Delete,
        Some("CONNECT") => Operation::Connect,
        _ => Operation::Unknown,
    }
}

/// The trace of the request, as a field of a log line; omitted if there is no trace.
fn trace() -> Option<impl tracing::Value> {
    trace_id().map(tracing::field::display)
}

/// The policy's decision about an image of the object.
fn decide<'r>(selected: &Selected<'r>, field: &ImageField<'r>) -> Decision<'r> {
    mirrored::in_container(selected, field).decide(field.image)
}

/// Names of the policies that decide, and their revisions, for the audit log; several if the choice
/// is uncertain.
fn audit(selected: &Selected<'_>, verdict: &mut Verdict) {
    let join =
        |of: fn(&Policy) -> &str| selected.candidates().map(of).collect::<Vec<_>>().join(" ");
    verdict.audit.push(("policy", join(Policy::name)));
    verdict.audit.push(("revision", join(Policy::revision)));
}
