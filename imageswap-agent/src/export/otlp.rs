//! Findings as OpenTelemetry log records, with names of the semantic conventions if
//! they exist.

use crate::agent_record::{AgentEvent, AgentRecord};
use crate::finding::Finding;
use crate::verdict::Verdict;
use imageswap_policy::Reference;
use imageswap_runtime::telemetry::{Entry, Value};

/// Name of the event of a finding.
const EVENT: &str = "imageswap.finding";

/// Name of the event of an agent's record about itself.
const AGENT_EVENT: &str = "imageswap.agent";

/// The record of a finding: attributes of containers, Pods and security rules by the semantic conventions
/// (<https://opentelemetry.io/docs/specs/semconv/registry/attributes/>), the rest under `imageswap.`.
pub(super) fn record(finding: &Finding) -> Entry {
    Entry {
        event: EVENT,
        warns: matches!(finding.verdict, Verdict::Drift | Verdict::Unresolved),
        time: finding.time,
        body: sentence(finding),
        attributes: attributes(finding),
    }
}

/// The record of an agent's report about itself.
pub(super) fn agent_record(record: &AgentRecord) -> Entry {
    let text = |value: &str| Value::Text(value.to_owned());
    let mut attributes = vec![
        ("k8s.node.name", text(&record.node)),
        ("imageswap.event", text(record.event.as_str())),
        (
            "imageswap.set_revision",
            text(&record.policies.set_revision),
        ),
    ];
    if let Some(lost) = &record.lost {
        let events = i64::try_from(lost.events).unwrap_or(i64::MAX);
        attributes.push(("imageswap.lost.cause", text(lost.cause)));
        attributes.push(("imageswap.lost.events", Value::Number(events)));
    }
    Entry {
        event: AGENT_EVENT,
        warns: record.event == AgentEvent::EventsLost || record.reason == Some("error"),
        time: record.time,
        body: format!("{} on {}", record.event.as_str(), record.node),
        attributes,
    }
}

fn sentence(finding: &Finding) -> String {
    let image = finding.image.as_deref().unwrap_or("an unknown image");
    let id = finding.container.id.as_deref().unwrap_or("unknown");
    format!(
        "{}: container {id} runs {image} ({}, {})",
        finding.verdict.as_str(),
        finding.route.as_str(),
        finding.reason.as_str()
    )
}

fn attributes(finding: &Finding) -> Vec<(&'static str, Value)> {
    let mut all = Vec::new();
    let mut text = |name, value: Option<&str>| {
        all.extend(value.map(|value| (name, Value::Text(value.to_owned()))));
    };
    let pod = finding.pod.as_ref();
    text("container.id", finding.container.id.as_deref());
    text("container.runtime.name", Some(&finding.runtime));
    text("k8s.node.name", Some(&finding.node));
    text("k8s.container.name", finding.container.name.as_deref());
    text("k8s.namespace.name", pod.map(|pod| &*pod.namespace));
    text("k8s.pod.name", pod.map(|pod| &*pod.name));
    text("k8s.pod.uid", pod.map(|pod| &*pod.uid));
    text("security_rule.name", finding.rule.as_deref());
    text("security_rule.ruleset.name", finding.policy.name.as_deref());
    text("security_rule.version", Some(&finding.policy.revision));
    text("imageswap.set_revision", Some(&finding.policy.set_revision));
    text("imageswap.start_id", Some(&finding.start_id));
    text("imageswap.event", Some(finding.event.as_str()));
    text("imageswap.verdict", Some(finding.verdict.as_str()));
    text("imageswap.route", Some(finding.route.as_str()));
    text("imageswap.reason", Some(finding.reason.as_str()));
    text("imageswap.image", finding.image.as_deref());
    text(
        "imageswap.expected_image",
        finding.expected_image.as_deref(),
    );
    text("imageswap.provenance", finding.provenance);
    text("imageswap.confidence", Some(finding.confidence.as_str()));
    text("imageswap.cgroup", Some(&finding.cgroup));
    if let Some(process) = &finding.process {
        all.push(("process.pid", Value::Number(process.pid.into())));
    }
    all.extend(image(finding));
    all
}

/// Name without the tag, tags, and `repository@digest`.
fn image(finding: &Finding) -> Vec<(&'static str, Value)> {
    let image = finding.image.as_deref();
    let Some(reference) = image.and_then(|image| Reference::parse(image).ok()) else {
        return Vec::new();
    };
    let name = reference.canonical_name();
    let tags = reference.tag().map(|tag| {
        let tags = Value::Texts(vec![tag.to_owned()]);
        ("container.image.tags", tags)
    });
    let digests = finding.digest.as_ref().map(|digest| {
        let digests = Value::Texts(vec![format!("{name}@{digest}")]);
        ("container.image.repo_digests", digests)
    });
    let name = ("container.image.name", Value::Text(name));
    std::iter::once(name).chain(tags).chain(digests).collect()
}
