//! ImageSwapPolicy: the document in a file or in Kubernetes.
//!
//! The types here are the format: the JSON schema is generated from them, importers write them, and [`load`] compiles
//! them. `docs/policy.md` explains every field to users.

mod checks;
mod compile;
mod crd;
mod guard;
mod identity;
mod lint;
mod listed;
mod load;
mod pull_secrets;
mod schema;
mod selector;
mod target;

pub use checks::CHECKS;
pub use crd::{PLURAL, crd};
pub use load::{Linted, Loaded, lint_all, load, load_all};
pub use schema::schema;

pub use crate::enforcement::Enforcement;
pub use crate::selector::{LabelSelector, Operator, Requirement};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// API group of the document.
pub const GROUP: &str = "imageswap.io";
/// Group and version, as `apiVersion` has them.
pub const API_VERSION: &str = "imageswap.io/v1alpha1";
/// The document's `kind`.
pub const KIND: &str = "ImageSwapPolicy";

/// One policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ImageSwapPolicy {
    /// `imageswap.io/v1alpha1`.
    #[schemars(extend("const" = API_VERSION))]
    pub api_version: String,
    /// `ImageSwapPolicy`.
    #[schemars(extend("const" = KIND))]
    pub kind: String,
    /// Its name, and what Kubernetes keeps beside it.
    pub metadata: Metadata,
    /// What it says.
    pub spec: Spec,
}

/// The name of a policy. Fields that Kubernetes adds are not looked at.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Metadata {
    /// Name, unique among the policies in force.
    #[schemars(example = &"corp")]
    pub name: String,
    /// Labels of the policy itself.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Annotations of the policy itself.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// What a policy says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Spec {
    /// One policy decides for a Pod: of those that match it, the one with the highest priority; among equals, the first by name.
    #[serde(skip_serializing_if = "is_default")]
    #[schemars(extend("default" = 0), example = 10)]
    pub priority: i32,
    /// Which Pods the policy decides for.
    #[serde(skip_serializing_if = "is_default")]
    #[schemars(extend("examples" = schema::examples::of_match()))]
    pub r#match: Match,
    /// Rules that swap or keep images. The first rule that matches decides.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<Rule>,
    /// Patterns of approved images, asked about what the rules made of an image. Without this list, approved are the places
    /// that rules refer to and what rules keep.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("examples" = [["registry.example.com/**"]]))]
    pub approved: Option<Vec<Approval>>,
    /// Patterns of images that are never approved, asked about what the rules made of an image. They beat `approved` and
    /// `keep`; an exception beats them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("examples" = [["**:latest"]]))]
    pub denied: Vec<Denial>,
    /// Images that stay and are approved up to a date, whatever the rules say.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub exceptions: Vec<Exception>,
    /// Secrets that Pods are given for images from certain registries. They are added when a Pod is made, and never removed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub image_pull_secrets: Vec<ImagePullSecret>,
    /// What is done about an image that is not approved.
    pub enforcement: Enforcement,
    /// What a denial or warning says beside image and rule.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"Only registry.example.com, please")]
    pub message: Option<String>,
}

/// Which Pods, and whether containers that no Pod owns.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Match {
    /// Names of namespaces; `*` is a wildcard. Without it: every namespace but `kube-system`, `imageswap-system`
    /// and `imageswap-agent`. `["*"]` names every namespace, those three too.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("examples" = [["team-*"]]))]
    pub namespaces: Option<Vec<String>>,
    /// Names of namespaces that the policy does not apply to; `*` is a wildcard.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("examples" = [["legacy"]]))]
    pub exclude_namespaces: Vec<String>,
    /// Labels of the namespace. Without it: any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace_selector: Option<LabelSelector>,
    /// Labels of the Pod. Without it: every Pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub object_selector: Option<LabelSelector>,
    /// Whether the policy also judges containers that no Pod owns, such as those of `ctr run`.
    pub node_level: bool,
    /// Whether the label `k8s.twr.io/imageswap: disabled` on a Pod skips the swap. It never skips the approval.
    pub allow_opt_out: bool,
}

/// One rule: `keep`, or `from` and `to`, or `regex` and `to`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("oneOf" = schema::kinds_of_rules(), "examples" = schema::examples::of_rule()))]
pub struct Rule {
    /// Name in messages, metrics and findings; `rules[N]`, counted from 0, if none is given.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"hub")]
    pub name: Option<String>,
    /// A pattern of images that stay unchanged.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"registry.example.com/**")]
    pub keep: Option<String>,
    /// A pattern of images that are replaced.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"docker.io/**")]
    pub from: Option<String>,
    /// A regular expression for the whole canonical reference, with tag and digest as written.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"^quay\\.io/(.*)$")]
    pub regex: Option<String>,
    /// Registry and path that take the place of what `from` fixes, or, with `regex`, a template such as
    /// `registry.example.com/quay/$1`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"registry.example.com/hub")]
    pub to: Option<String>,
    /// What the webhook does if the registry of the result does not have the result. It asks the registry only for `keep`.
    #[serde(skip_serializing_if = "is_default")]
    pub if_missing: IfMissing,
    /// Namespaces in which the rule holds, by name; `*` is a wildcard. Without it: every namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("examples" = [["team-*"]]))]
    pub namespaces: Option<Vec<String>>,
    /// Containers for which the rule holds, by name; `*` is a wildcard. Without it: every container.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("examples" = [["app"]]))]
    pub containers: Option<Vec<String>>,
}

/// An approval that ends.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Exception {
    /// Which images.
    #[schemars(example = &"ghcr.io/acme/debug")]
    pub pattern: String,
    /// The last day on which it holds, `YYYY-MM-DD`, in UTC.
    #[schemars(extend("format" = "date"), example = &"2027-01-31")]
    pub until: String,
    /// Why; shown wherever the exception decides.
    #[schemars(length(min = 1), example = &"INC-1234")]
    pub reason: String,
    /// Namespaces in which the exception holds, by name; `*` is a wildcard. Without it: every namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("examples" = [["team-*"]]))]
    pub namespaces: Option<Vec<String>>,
    /// Containers for which the exception holds, by name; `*` is a wildcard. Without it: every container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("examples" = [["app"]]))]
    pub containers: Option<Vec<String>>,
}

/// A pattern of approved images. A document can write the pattern alone, as a text.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(remote = "Self", rename_all = "camelCase")]
#[schemars(transform = listed::or_text)]
pub struct Approval {
    /// Which images.
    #[schemars(example = &"registry.example.com/**")]
    pub pattern: String,
    /// Namespaces in which the approval holds, by name; `*` is a wildcard. Without it: every namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("examples" = [["team-*"]]))]
    pub namespaces: Option<Vec<String>>,
    /// Containers for which the approval holds, by name; `*` is a wildcard. Without it: every container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("examples" = [["app"]]))]
    pub containers: Option<Vec<String>>,
}

/// A pattern of images that are never approved. A document can write the pattern alone, as a text.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(remote = "Self", rename_all = "camelCase")]
#[schemars(transform = listed::or_text)]
pub struct Denial {
    /// Which images. `:latest` also matches an image without a tag.
    #[schemars(example = &"**:latest")]
    pub pattern: String,
    /// What a denial or warning says about such an image, in place of the policy's message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"pin a version")]
    pub message: Option<String>,
    /// Namespaces in which the denial holds, by name; `*` is a wildcard. Without it: every namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("examples" = [["team-*"]]))]
    pub namespaces: Option<Vec<String>>,
    /// Containers for which the denial holds, by name; `*` is a wildcard. Without it: every container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("examples" = [["app"]]))]
    pub containers: Option<Vec<String>>,
}

/// A Secret for a registry.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ImagePullSecret {
    /// The registry's host, with its port where it has one.
    #[schemars(example = &"registry.example.com")]
    pub registry: String,
    /// Name of the Secret, expected in the namespace of each Pod.
    #[schemars(example = &"pull-secret")]
    pub name: String,
}

/// What admission does with an image if the registry does not have the rule's result.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum IfMissing {
    /// The image is swapped all the same; the registry is not asked.
    #[default]
    Swap,
    /// The image stays as written, and is judged unchanged. Without an answer of the registry it is swapped.
    Keep,
}

impl Default for Match {
    fn default() -> Self {
        Self {
            namespaces: None,
            exclude_namespaces: Vec::new(),
            namespace_selector: None,
            object_selector: None,
            node_level: true,
            allow_opt_out: false,
        }
    }
}

impl ImageSwapPolicy {
    /// A policy with this name and spec.
    pub fn new(name: impl Into<String>, spec: Spec) -> Self {
        Self {
            api_version: API_VERSION.to_owned(),
            kind: KIND.to_owned(),
            metadata: Metadata {
                name: name.into(),
                ..Metadata::default()
            },
            spec,
        }
    }
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

#[cfg(test)]
mod tests;
