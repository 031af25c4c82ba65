//! The rules of a webhook configuration: those that it has, and those that it was shipped with.

use std::collections::BTreeMap;
use std::fmt::Debug;

use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhookConfiguration, RuleWithOperations, ValidatingWebhookConfiguration,
};
use kube::{Resource, ResourceExt as _};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// The annotation with the rules that are in force with a policy: a JSON object of lists, by the
/// names of webhooks.
const ANNOTATION: &str = "imageswap.io/rules";
/// The scope of a rule that names none.
const ANY_SCOPE: &str = "*";

/// A kind of webhook configuration.
pub(super) trait Configuration:
    Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static
{
    /// The kind's name.
    const KIND: &'static str;
    /// The kind as a label of metrics.
    const LABEL: &'static str;

    /// Name and rules of each webhook.
    fn webhooks(&self) -> Vec<(&str, &[RuleWithOperations])>;
}

/// Why the shipped rules are not known.
#[derive(Debug, thiserror::Error)]
#[error(
    "the annotation {ANNOTATION} is not a JSON object with a list of rules for each webhook: apply the chart's \
     configuration again"
)]
pub(super) struct RulesError;

/// The shipped rules; none if the annotation is missing.
pub(super) fn shipped<K: Configuration>(
    object: &K,
) -> Result<BTreeMap<String, Vec<RuleWithOperations>>, RulesError> {
    let Some(text) = object.annotations().get(ANNOTATION) else {
        return Ok(BTreeMap::new());
    };
    serde_json::from_str(text).map_err(|_error| RulesError)
}

/// The webhooks whose rules differ, as parts of a patch.
pub(super) fn difference<K: Configuration>(
    object: &K,
    wanted: &BTreeMap<String, Vec<RuleWithOperations>>,
) -> Vec<Value> {
    let webhooks = object.webhooks().into_iter();
    let differing = webhooks.filter_map(|(name, rules)| {
        let wanted = wanted.get(name)?;
        let same = rules.len() == wanted.len()
            && rules
                .iter()
                .zip(wanted)
                .all(|(a, b)| complete(a) == complete(b));
        (!same).then(|| json!({"name": name, "rules": wanted}))
    });
    differing.collect()
}

/// As the API server stores it.
fn complete(rule: &RuleWithOperations) -> RuleWithOperations {
    let mut rule = rule.clone();
    rule.scope.get_or_insert_with(|| ANY_SCOPE.to_owned());
    rule
}

impl Configuration for MutatingWebhookConfiguration {
    const KIND: &'static str = "MutatingWebhookConfiguration";
    const LABEL: &'static str = "mutating";

    fn webhooks(&self) -> Vec<(&str, &[RuleWithOperations])> {
        let webhooks = self.webhooks.iter().flatten();
        webhooks
            .map(|it| (&*it.name, it.rules.as_deref().unwrap_or_default()))
            .collect()
    }
}

impl Configuration for ValidatingWebhookConfiguration {
    const KIND: &'static str = "ValidatingWebhookConfiguration";
    const LABEL: &'static str = "validating";

    fn webhooks(&self) -> Vec<(&str, &[RuleWithOperations])> {
        let webhooks = self.webhooks.iter().flatten();
        webhooks
            .map(|it| (&*it.name, it.rules.as_deref().unwrap_or_default()))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn configuration(annotation: &str, rules: &Value) -> ValidatingWebhookConfiguration {
        let webhook = |name: &str, rules: &Value| {
            json!({"name": name, "rules": rules, "clientConfig": {"url": "https://x"},
                "sideEffects": "None", "admissionReviewVersions": ["v1"]})
        };
        let policies = json!([{"apiGroups": ["imageswap.io"], "resources": ["imageswappolicies"]}]);
        serde_json::from_value(json!({
            "metadata": {"name": "imageswap", "annotations": {ANNOTATION: annotation}},
            "webhooks": [webhook("pods", rules), webhook("policies", &policies)],
        }))
        .unwrap()
    }

    #[test]
    fn only_named_webhooks_with_other_rules_are_written() {
        let text = r#"{"pods": [{"resources": ["pods"], "operations": ["CREATE"]}], "gone": []}"#;
        let same = json!([{"resources": ["pods"], "operations": ["CREATE"], "scope": "*"}]);
        let namespaced =
            json!([{"resources": ["pods"], "operations": ["CREATE"], "scope": "Namespaced"}]);
        for (rules, differs) in [
            (same.clone(), false),
            (namespaced, true),
            (json!([]), true),
            (json!([same[0], same[0]]), true),
        ] {
            let object = configuration(text, &rules);
            let wanted = shipped(&object).unwrap();
            let patch = difference(&object, &wanted);
            let expected = json!({"name": "pods", "rules": wanted["pods"]});
            let expected = if differs { vec![expected] } else { vec![] };
            assert_eq!(patch, expected, "{rules}");
        }
    }

    #[test]
    fn damaged_annotation_changes_nothing() {
        for text in ["", "[]", r#"{"pods": {}}"#, r#"{"pods": [1]}"#, "{"] {
            let object = configuration(text, &json!([]));
            assert!(shipped(&object).is_err(), "{text}");
        }
        let mut object = configuration("{}", &json!([]));
        assert!(shipped(&object).unwrap().is_empty());
        object.metadata.annotations = None;
        assert!(shipped(&object).unwrap().is_empty());
    }
}
