//! Objects in which a cluster keeps the results of policies: `Report` of OpenReports
//! (`openreports.io/v1alpha1`), and `PolicyReport` of the Kubernetes policy working group
//! (`wgpolicyk8s.io/v1alpha2`), which it succeeds.

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::core::ApiResource;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Results in one object; the API server takes 1.5 MB, and a result has at most 3 kB.
pub const MOST_RESULTS: usize = 200;

/// Longest text in a result, in bytes.
const LONGEST: usize = 512;

/// Name of the program that reports.
pub const SOURCE: &str = "imageswap";

/// Annotation with the number of results that the object has no room for.
const LEFT_OUT: &str = "imageswap.io/results-left-out";

/// The API that the objects belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReportApi {
    /// `openreports.io/v1alpha1`.
    OpenReports,
    /// `wgpolicyk8s.io/v1alpha2`.
    PolicyReports,
}

impl ReportApi {
    /// Both, the one to use first.
    pub const ALL: [Self; 2] = [Self::OpenReports, Self::PolicyReports];

    /// Group and version.
    pub const fn api_version(self) -> &'static str {
        match self {
            Self::OpenReports => "openreports.io/v1alpha1",
            Self::PolicyReports => "wgpolicyk8s.io/v1alpha2",
        }
    }

    /// The resource of reports about a namespace, or about what belongs to none.
    pub fn resource(self, is_namespaced: bool) -> ApiResource {
        let (kind, plural) = match (self, is_namespaced) {
            (Self::OpenReports, true) => ("Report", "reports"),
            (Self::OpenReports, false) => ("ClusterReport", "clusterreports"),
            (Self::PolicyReports, true) => ("PolicyReport", "policyreports"),
            (Self::PolicyReports, false) => ("ClusterPolicyReport", "clusterpolicyreports"),
        };
        let api_version = self.api_version();
        let (group, version) = api_version.split_once('/').unwrap_or_default();
        ApiResource {
            group: group.to_owned(),
            version: version.to_owned(),
            api_version: api_version.to_owned(),
            kind: kind.to_owned(),
            plural: plural.to_owned(),
        }
    }
}

/// The outcome of a check, as both APIs spell it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// The policy does not allow it.
    Fail,
    /// The policy could not be evaluated.
    Error,
    /// The policy does not allow it, and only warns.
    Warn,
}

impl Outcome {
    /// Both outcome and severity.
    const fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Fail => ("fail", "high"),
            Self::Error => ("error", "medium"),
            Self::Warn => ("warn", "low"),
        }
    }
}

/// A result about one object.
#[derive(Debug, Clone, PartialEq)]
pub struct ReportResult {
    /// Name of the policy.
    pub policy: String,
    /// The rule that decided.
    pub rule: Option<String>,
    /// One sentence.
    pub message: String,
    /// The outcome.
    pub outcome: Outcome,
    /// The object.
    pub resource: ObjectReference,
    /// Further texts.
    pub properties: BTreeMap<&'static str, String>,
    /// When the result was found, in seconds since 1970; `None` if that is not known.
    pub seconds: Option<u64>,
}

/// What an object is called and belongs to.
#[derive(Debug, Clone, PartialEq)]
pub struct ReportIdentity {
    /// Its name.
    pub name: String,
    /// The namespace that it is about; `None` for what belongs to none.
    pub namespace: Option<String>,
    /// Its labels.
    pub labels: BTreeMap<&'static str, String>,
    /// Objects with which it goes.
    pub owners: Vec<OwnerReference>,
}

/// The object, about `passed` checks and the others. Results beyond [`MOST_RESULTS`] only count;
/// failures come first.
pub fn object(
    api: ReportApi,
    identity: &ReportIdentity,
    passed: u64,
    mut results: Vec<ReportResult>,
) -> Value {
    let resource = api.resource(identity.namespace.is_some());
    let mut summary =
        BTreeMap::from(["pass", "fail", "warn", "error", "skip"].map(|it| (it, 0_u64)));
    summary.insert("pass", passed);
    for result in &results {
        *summary.entry(result.outcome.words().0).or_default() += 1;
    }
    let key = |it: &ReportResult| (it.outcome, it.resource.name.clone(), it.message.clone());
    results.sort_by_cached_key(key);
    let left_out = results.len().saturating_sub(MOST_RESULTS);
    results.truncate(MOST_RESULTS);
    let mut metadata = json!({"name": identity.name, "labels": identity.labels});
    if let Some(namespace) = &identity.namespace {
        metadata["namespace"] = json!(namespace);
    }
    if !identity.owners.is_empty() {
        metadata["ownerReferences"] = json!(identity.owners);
    }
    if left_out > 0 {
        metadata["annotations"] = json!({LEFT_OUT: left_out.to_string()});
    }
    let results: Vec<_> = results.iter().map(result).collect();
    let mut object = json!({
        "apiVersion": resource.api_version,
        "kind": resource.kind,
        "metadata": metadata,
        "summary": summary,
        "results": results,
    });
    if api == ReportApi::OpenReports {
        object["source"] = json!(SOURCE);
    }
    object
}

fn result(result: &ReportResult) -> Value {
    let (outcome, severity) = result.outcome.words();
    let properties = result.properties.iter();
    let properties: BTreeMap<_, _> = properties.map(|(name, text)| (name, cut(text))).collect();
    let mut value = json!({
        "source": SOURCE,
        "policy": cut(&result.policy),
        "category": "Images",
        "message": cut(&result.message),
        "result": outcome,
        "severity": severity,
        "scored": true,
        "resources": [result.resource],
        "properties": properties,
    });
    if let Some(rule) = &result.rule {
        value["rule"] = json!(cut(rule));
    }
    if let Some(seconds) = result.seconds {
        value["timestamp"] = json!({"seconds": seconds, "nanos": 0});
    }
    value
}

fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(LONGEST)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(namespace: Option<&str>) -> ReportIdentity {
        ReportIdentity {
            name: "imageswap-n1".to_owned(),
            namespace: namespace.map(str::to_owned),
            labels: BTreeMap::from([("a", "b".to_owned())]),
            owners: Vec::new(),
        }
    }

    fn failed(at: usize, outcome: Outcome) -> ReportResult {
        ReportResult {
            policy: "corp".to_owned(),
            rule: None,
            message: format!("{at:05}"),
            outcome,
            resource: ObjectReference {
                kind: Some("Pod".to_owned()),
                ..ObjectReference::default()
            },
            properties: BTreeMap::new(),
            seconds: Some(7),
        }
    }

    #[test]
    fn many_results_are_counted_and_the_worst_are_kept() {
        let errors = (0..MOST_RESULTS).map(|at| failed(at, Outcome::Error));
        let results = errors.chain([failed(0, Outcome::Fail)]).collect();
        let object = object(ReportApi::OpenReports, &identity(Some("a")), 3, results);
        assert_eq!(object["summary"]["error"], MOST_RESULTS);
        assert_eq!(object["summary"]["fail"], 1);
        assert_eq!(object["summary"]["pass"], 3);
        assert_eq!(object["results"].as_array().unwrap().len(), MOST_RESULTS);
        assert_eq!(object["results"][0]["result"], "fail");
        assert_eq!(object["metadata"]["annotations"][LEFT_OUT], "1");
    }

    #[test]
    fn the_largest_object_fits_into_the_api_server() {
        let long = "ü".repeat(4000);
        let results = (0..MOST_RESULTS).map(|at| ReportResult {
            policy: long.clone(),
            rule: Some(long.clone()),
            message: long.clone(),
            properties: ["a", "b", "c", "d", "e", "f", "g"]
                .map(|it| (it, long.clone()))
                .into(),
            ..failed(at, Outcome::Fail)
        });
        let object = object(
            ReportApi::PolicyReports,
            &identity(None),
            0,
            results.collect(),
        );
        let size = object.to_string().len();
        assert!(size < 1_400_000, "{size}");
        assert_eq!(object["kind"], "ClusterPolicyReport");
        assert_eq!(object["metadata"].get("namespace"), None);
    }
}
