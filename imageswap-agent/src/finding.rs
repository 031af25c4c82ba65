//! The agent's report about a start: one JSON object, schema `imageswap.io/finding/v1`.

use crate::cgroup_path;
use crate::claim::{Kind, Source};
use crate::container::RuntimeHint;
use crate::facts::{Facts, StartId};
use crate::judge::{Confidence, Judgement, Name};
use crate::node::Origin;
use crate::pods::Owner;
use crate::verdict::{Reason, Route, Verdict};
use crate::words::words;
use imageswap_policy::Reference;
use schemars::JsonSchema;
use serde::{Serialize, Serializer};
use std::time::SystemTime;

/// The schema's name and version.
pub const SCHEMA: &str = "imageswap.io/finding/v1";

/// The kind of record that is about a container.
pub const KIND: &str = "container";

words! {
    /// Why a finding was written.
    pub enum Event {
        /// The container started.
        Start = "start",
        /// It was running when the agent started.
        Initial = "initial",
        /// Its start was missed, and found by a later walk.
        Reconciled = "reconciled",
        /// New evidence or a new policy changed the judgement.
        Rejudged = "rejudged",
        /// It ended.
        Stopped = "stopped",
    }
}

/// A finding about a container. Field order is the order in the JSON.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Finding {
    /// Always `imageswap.io/finding/v1`.
    #[schemars(extend("const" = SCHEMA))]
    pub schema: &'static str,
    /// Always `container`; records of the agent about itself are of kind `agent`.
    #[schemars(extend("const" = KIND))]
    pub kind: &'static str,
    /// Boot id and cgroup id: identifies one start of one container forever.
    pub start_id: String,
    /// Why the finding was written.
    pub event: Event,
    /// Time of the finding, RFC 3339 in UTC.
    #[serde(serialize_with = "rfc3339")]
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub time: SystemTime,
    /// When the container's first process began, RFC 3339 in UTC; null if it is not known.
    #[serde(serialize_with = "rfc3339_or_null")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub started: Option<SystemTime>,
    /// The node's name.
    pub node: String,
    /// The policy's verdict.
    pub verdict: Verdict,
    /// How the container was started.
    pub route: Route,
    /// Why.
    pub reason: Reason,
    /// Rule of the policy that decided.
    pub rule: Option<String>,
    /// The policy that decided.
    pub policy: PolicyName,
    /// The image, if known.
    pub image: Option<String>,
    /// All names that were considered, with their sources.
    pub names: Vec<Name>,
    /// What should run instead, or the image itself.
    pub expected_image: Option<String>,
    /// Digest of the image.
    pub digest: Option<String>,
    /// Where the image came from: `pulled`, `imported`, or unknown.
    pub provenance: Option<&'static str>,
    /// How sure the agent is of the image.
    pub confidence: Confidence,
    /// The container.
    pub container: Container,
    /// The pod, if the runtime names one.
    pub pod: Option<Pod>,
    /// The runtime.
    pub runtime: String,
    /// The namespace within the runtime.
    pub runtime_namespace: Option<String>,
    /// The container's first process, if known.
    pub process: Option<Process>,
    /// Path of the cgroup in its hierarchy; a byte that is not part of valid UTF-8 is `\xff`.
    /// The middle of a path of more than 1,024 bytes is `[…]`.
    pub cgroup: String,
    /// Microseconds from the start to this finding; only if the start itself was seen.
    pub detect_us: Option<u64>,
}

/// The policy of the set in force that decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct PolicyName {
    /// Name of the policy; null if no policy applies, or if it is not known which one does.
    pub name: Option<String>,
    /// Short hash of this policy; `none` without a name.
    pub revision: String,
    /// Short hash of all policies in force; `none` if there are none.
    pub set_revision: String,
}

/// A container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Container {
    /// Id, as the runtime spells it; `None` if no runtime knows the container.
    pub id: Option<String>,
    /// Name in its pod.
    pub name: Option<String>,
    /// `container`, `sandbox` or `unknown`.
    #[schemars(extend("enum" = ["container", "sandbox", "unknown"]))]
    pub kind: &'static str,
}

/// A pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Pod {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// UID.
    pub uid: String,
    /// The workload that owns it; only the API server knows it.
    pub owner: Option<Owner>,
}

/// A process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Process {
    /// Process id on the node.
    pub pid: u32,
    /// Name of the task.
    pub comm: Option<String>,
}

/// The occasion of a finding.
#[derive(Debug, Clone, Copy)]
pub struct Occasion {
    /// Why the finding is written.
    pub event: Event,
    /// Time of the finding.
    pub time: SystemTime,
    /// When the container's first process began.
    pub started: Option<SystemTime>,
    /// Microseconds from the start to this finding.
    pub detect_us: Option<u64>,
}

/// Builds the finding from facts and judgement.
pub fn finding(
    origin: &Origin,
    id: StartId,
    occasion: Occasion,
    facts: &Facts,
    judgement: &Judgement,
    set_revision: &str,
) -> Finding {
    let Occasion {
        event,
        time,
        started,
        detect_us,
    } = occasion;
    let policy = judgement.policy.as_ref();
    let kind = facts.first(|claim| claim.kind.filter(|_| claim.source != Source::Bundle));
    Finding {
        schema: SCHEMA,
        kind: KIND,
        start_id: format!("{}/{id}", origin.boot_id),
        event,
        time,
        started,
        node: origin.node.clone(),
        verdict: judgement.verdict,
        route: judgement.route,
        reason: judgement.reason,
        rule: judgement.rule.clone(),
        policy: PolicyName {
            name: policy.map(|it| it.name.clone()),
            revision: policy.map_or("none", |it| &it.revision).to_owned(),
            set_revision: set_revision.to_owned(),
        },
        image: judgement.image.clone(),
        names: judgement.names.clone(),
        expected_image: judgement.expected_image.clone(),
        digest: digest_in_name(judgement).or_else(|| facts.first(|claim| claim.digest.clone())),
        provenance: facts
            .first(|claim| claim.pulled_from.as_ref())
            .map(|from| provenance(!from.is_empty(), judgement.reason)),
        confidence: judgement.confidence,
        container: Container {
            id: facts
                .first(|claim| Some(claim.id.clone()))
                .or_else(|| facts.identity.container_id.clone()),
            name: facts
                .container_name()
                .map(str::to_owned)
                .or_else(|| facts.first(|claim| claim.container_name.clone())),
            kind: match kind {
                Some(Kind::Container) => "container",
                Some(Kind::Sandbox) => "sandbox",
                None => "unknown",
            },
        },
        pod: facts.pod_to_name().map(|pod| Pod {
            namespace: pod.namespace,
            name: pod.name,
            uid: pod.uid,
            owner: facts.owner().and_then(|pod| pod.owner.clone()),
        }),
        runtime: facts
            .first(|claim| Some(claim.runtime))
            .unwrap_or_else(|| match facts.identity.runtime {
                RuntimeHint::Host => RuntimeHint::Unknown.as_str(),
                hint => hint.as_str(),
            })
            .to_owned(),
        runtime_namespace: facts.first(|claim| claim.runtime_namespace.clone()),
        process: facts.process.as_ref().map(|process| Process {
            pid: process.pid,
            comm: process.comm.clone(),
        }),
        cgroup: cgroup_path::shown(&facts.cgroup),
        detect_us,
    }
}

/// The digest in the image's name.
fn digest_in_name(judgement: &Judgement) -> Option<String> {
    let name = Reference::parse(judgement.image.as_deref()?).ok()?;
    name.digest().map(str::to_owned)
}

/// `pulled` if the image itself was pulled or, judging by its layers, under another name; not if it
/// was only built on such layers.
fn provenance(pulled: bool, reason: Reason) -> &'static str {
    if pulled && reason != Reason::SideLoaded {
        "pulled"
    } else {
        "imported"
    }
}

pub(crate) fn rfc3339<S: Serializer>(time: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&humantime::format_rfc3339_micros(*time))
}

#[expect(clippy::ref_option, reason = "serde passes a reference to the field")]
fn rfc3339_or_null<S: Serializer>(
    time: &Option<SystemTime>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match time {
        Some(time) => rfc3339(time, serializer),
        None => serializer.serialize_none(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent_record::{self, AgentRecord};
    use serde_json::{Value, json};

    /// A line of the findings: about a container, or about the agent itself.
    #[derive(JsonSchema)]
    #[schemars(untagged, title = "Line")]
    #[expect(dead_code, reason = "only its schema is used")]
    enum Line {
        Finding(Box<Finding>),
        AgentRecord(Box<AgentRecord>),
    }

    /// The schema for programs, generated from the structures. Every field is present, possibly as
    /// null.
    fn schema() -> Value {
        let settings = schemars::generate::SchemaSettings::draft2020_12().for_serialize();
        let schema = settings.into_generator().into_root_schema_for::<Line>();
        serde_json::to_value(schema).unwrap()
    }

    #[test]
    fn the_schema_in_the_docs_is_that_of_findings() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/finding.schema.json");
        let made = format!("{:#}\n", schema());
        if std::env::var_os("IMAGESWAP_WRITE").is_some() {
            std::fs::write(path, &made).unwrap();
        }
        let kept = std::fs::read_to_string(path).unwrap_or_default();
        assert!(kept == made, "IMAGESWAP_WRITE=1 cargo test writes it anew");
    }

    #[test]
    fn every_field_is_always_there() {
        let schema = schema();
        for (record, kind) in [("Finding", KIND), ("AgentRecord", agent_record::KIND)] {
            let record = &schema["$defs"][record];
            let required = record["required"].as_array().unwrap();
            let properties = record["properties"].as_object().unwrap();
            for field in properties.keys() {
                assert!(required.contains(&json!(field)), "{field}");
            }
            assert_eq!(properties["schema"]["const"], SCHEMA);
            assert_eq!(properties["kind"]["const"], kind);
        }
    }
}
