//! The JSON schema of the document, for editors and for [`super::load`].

use super::{API_VERSION, ImageSwapPolicy};
use crate::yaml::strict;
use serde_json::{Value, json};

/// Fields of `metadata` that Kubernetes writes.
const OF_KUBERNETES: [&str; 12] = [
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "finalizers",
    "generateName",
    "generation",
    "managedFields",
    "namespace",
    "ownerReferences",
    "resourceVersion",
    "selfLink",
    "uid",
];

/// The JSON schema of the document, generated from its types. A document that it refuses does not load.
pub fn schema() -> Value {
    let mut schema = strict(schemars::schema_for!(ImageSwapPolicy).to_value());
    schema["$id"] = json!(format!("https://{API_VERSION}/imageswappolicy.schema.json"));
    schema["properties"]["status"] = json!(true);
    for field in OF_KUBERNETES {
        schema["$defs"]["Metadata"]["properties"][field] = json!(true);
    }
    schema
}

/// What a rule consists of: one of three.
pub(super) fn kinds_of_rules() -> Value {
    let kind = |fields: &[&str]| {
        let others = ["keep", "from", "regex", "to"]
            .into_iter()
            .filter(|it| !fields.contains(it))
            .map(|it| (it.to_owned(), json!(false)));
        json!({"required": fields, "properties": Value::Object(others.collect())})
    };
    json!([
        kind(&["keep"]),
        kind(&["from", "to"]),
        kind(&["regex", "to"])
    ])
}

/// Examples, which editors and messages show.
pub(super) mod examples {
    use super::{Value, json};

    /// A rule.
    pub(in super::super) fn of_rule() -> Value {
        json!([{"from": "docker.io/**", "to": "registry.example.com/hub"}])
    }

    /// Which Pods.
    pub(in super::super) fn of_match() -> Value {
        json!([{"namespaceSelector": {"matchLabels": {"team": "a"}}}])
    }
}
