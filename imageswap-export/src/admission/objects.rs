//! The API objects, with the fields that are written.

use imageswap_policy::document::LabelSelector;
use serde::Serialize;
use std::collections::BTreeMap;

const API_VERSION: &str = "admissionregistration.k8s.io/v1";

/// An object for a cluster.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Object {
    api_version: &'static str,
    kind: &'static str,
    metadata: Metadata,
    spec: Spec,
}

#[derive(Debug, Clone, Serialize)]
pub(super) struct Metadata {
    pub(super) name: String,
    pub(super) labels: BTreeMap<&'static str, String>,
    pub(super) annotations: BTreeMap<&'static str, String>,
}

#[derive(Debug, Clone, Serialize)]
#[serde(untagged)]
enum Spec {
    Mutating(MutatingSpec),
    Validating(ValidatingSpec),
    Binding(BindingSpec),
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct MutatingSpec {
    pub(super) failure_policy: &'static str,
    pub(super) reinvocation_policy: &'static str,
    pub(super) match_constraints: MatchConstraints,
    pub(super) match_conditions: Vec<MatchCondition>,
    pub(super) variables: Vec<Variable>,
    pub(super) mutations: Vec<Mutation>,
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ValidatingSpec {
    pub(super) failure_policy: &'static str,
    pub(super) match_constraints: MatchConstraints,
    pub(super) match_conditions: Vec<MatchCondition>,
    pub(super) variables: Vec<Variable>,
    pub(super) validations: Vec<Validation>,
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
struct BindingSpec {
    policy_name: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    validation_actions: Vec<&'static str>,
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct MatchConstraints {
    pub(super) match_policy: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) namespace_selector: Option<LabelSelector>,
    pub(super) resource_rules: Vec<ResourceRule>,
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ResourceRule {
    pub(super) api_groups: Vec<&'static str>,
    pub(super) api_versions: Vec<&'static str>,
    pub(super) operations: Vec<&'static str>,
    pub(super) resources: Vec<&'static str>,
    pub(super) scope: &'static str,
}

#[derive(Debug, Clone, Serialize)]
pub(super) struct MatchCondition {
    pub(super) name: String,
    pub(super) expression: String,
}

#[derive(Debug, Clone, Serialize)]
pub(super) struct Variable {
    pub(super) name: String,
    pub(super) expression: String,
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Mutation {
    patch_type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    apply_configuration: Option<Expression>,
    #[serde(skip_serializing_if = "Option::is_none")]
    json_patch: Option<Expression>,
}

#[derive(Debug, Clone, Serialize)]
struct Expression {
    expression: String,
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Validation {
    pub(super) expression: String,
    pub(super) message: String,
    pub(super) message_expression: String,
}

impl Mutation {
    /// A change by server-side apply.
    pub(super) fn apply(expression: String) -> Self {
        Self {
            patch_type: "ApplyConfiguration",
            apply_configuration: Some(Expression { expression }),
            json_patch: None,
        }
    }

    /// A change by JSON Patch, for parts that server-side apply only takes as a whole.
    pub(super) fn patch(expression: String) -> Self {
        Self {
            patch_type: "JSONPatch",
            apply_configuration: None,
            json_patch: Some(Expression { expression }),
        }
    }
}

impl Object {
    pub(super) fn mutating(metadata: &Metadata, spec: MutatingSpec) -> Self {
        Self::new("MutatingAdmissionPolicy", metadata, Spec::Mutating(spec))
    }

    pub(super) fn validating(metadata: &Metadata, spec: ValidatingSpec) -> Self {
        Self::new(
            "ValidatingAdmissionPolicy",
            metadata,
            Spec::Validating(spec),
        )
    }

    /// The binding that puts a policy of the same name in force.
    pub(super) fn binding(of: &Self, actions: Vec<&'static str>) -> Self {
        let kind = match of.spec {
            Spec::Mutating(_) => "MutatingAdmissionPolicyBinding",
            _ => "ValidatingAdmissionPolicyBinding",
        };
        let spec = BindingSpec {
            policy_name: of.metadata.name.clone(),
            validation_actions: actions,
        };
        Self::new(kind, &of.metadata, Spec::Binding(spec))
    }

    fn new(kind: &'static str, metadata: &Metadata, spec: Spec) -> Self {
        Self {
            api_version: API_VERSION,
            kind,
            metadata: metadata.clone(),
            spec,
        }
    }

    /// The kind of object.
    pub fn kind(&self) -> &str {
        self.kind
    }

    /// Every expression of the object, by a name for messages.
    pub(super) fn expressions(&self) -> impl Iterator<Item = (&str, &str)> {
        let (variables, others): (&[Variable], Vec<(&str, &str)>) = match &self.spec {
            Spec::Mutating(it) => (
                &it.variables,
                it.mutations
                    .iter()
                    .flat_map(|it| it.apply_configuration.iter().chain(&it.json_patch))
                    .map(|it| ("mutation", it.expression.as_str()))
                    .collect(),
            ),
            Spec::Validating(it) => (
                &it.variables,
                it.validations
                    .iter()
                    .flat_map(|it| {
                        [
                            ("validation", it.expression.as_str()),
                            ("message", it.message_expression.as_str()),
                        ]
                    })
                    .collect(),
            ),
            Spec::Binding(_) => (&[], Vec::new()),
        };
        let variables = variables
            .iter()
            .map(|it| (it.name.as_str(), it.expression.as_str()));
        variables.chain(others)
    }
}
