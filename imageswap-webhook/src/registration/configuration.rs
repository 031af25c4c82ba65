//! The rules of a webhook configuration: those that it has, and those that it was shipped with.

use std::collections::BTreeMap;

use k8s_openapi::api::admissionregistration::v1::RuleWithOperations;
use kube::ResourceExt as _;
use serde_json::{Value, json};

use crate::configurations::Configuration;

/// The annotation with the rules that are in force with a policy: a JSON object of lists, by the
/// names of webhooks.
const ANNOTATION: &str = "imageswap.io/rules";
/// The scope of a rule that names none.
const ANY_SCOPE: &str = "*";

/// What has to be written.
#[derive(Debug, PartialEq)]
pub(super) struct Difference {
    /// The webhooks whose rules differ, as parts of a patch.
    pub(super) webhooks: Vec<Value>,
    /// Whether a webhook gets no rules yet because the API server could not verify it.
    pub(super) waits: bool,
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

/// Compares the rules with the wanted ones, by the names of webhooks.
pub(super) fn difference<K: Configuration>(
    object: &K,
    wanted: &BTreeMap<String, Vec<RuleWithOperations>>,
) -> Difference {
    let mut difference = Difference {
        webhooks: Vec::new(),
        waits: false,
    };
    for webhook in object.webhooks() {
        let Some(wanted) = wanted.get(webhook.name) else {
            continue;
        };
        let mut pairs = webhook.rules.iter().zip(wanted);
        if webhook.rules.len() == wanted.len() && pairs.all(|(a, b)| complete(a) == complete(b)) {
            continue;
        }
        // Every call would fail, and with `failurePolicy: Fail` every Pod.
        if webhook.rules.is_empty() && webhook.bundle.is_empty() {
            difference.waits = true;
            continue;
        }
        let webhook = json!({"name": webhook.name, "rules": wanted});
        difference.webhooks.push(webhook);
    }
    difference
}

/// As the API server stores it.
fn complete(rule: &RuleWithOperations) -> RuleWithOperations {
    let mut rule = rule.clone();
    rule.scope.get_or_insert_with(|| ANY_SCOPE.to_owned());
    rule
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;

    fn configuration(annotation: &str, rules: &Value) -> ValidatingWebhookConfiguration {
        let webhook = |name: &str, rules: &Value| {
            json!({"name": name, "rules": rules,
                "clientConfig": {"url": "https://x", "caBundle": "eA=="},
                "sideEffects": "None", "admissionReviewVersions": ["v1"]})
        };
        let policies = json!([{"apiGroups": ["imageswap.io"], "resources": ["imageswappolicies"]}]);
        serde_json::from_value(json!({
            "metadata": {"name": "imageswap", "annotations": {ANNOTATION: annotation}},
            "webhooks": [webhook("pods", rules), webhook("policies", &policies)],
        }))
        .unwrap()
    }

    fn without_bundle(
        mut object: ValidatingWebhookConfiguration,
    ) -> ValidatingWebhookConfiguration {
        for webhook in object.webhooks.iter_mut().flatten() {
            webhook.client_config.ca_bundle = None;
        }
        object
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
            let webhook = json!({"name": "pods", "rules": wanted["pods"]});
            let expected = Difference {
                webhooks: if differs { vec![webhook] } else { vec![] },
                waits: false,
            };
            assert_eq!(difference(&object, &wanted), expected, "{rules}");
        }
    }

    /// Rules that are there are changed and removed, whatever the caBundle is.
    #[test]
    fn webhook_without_a_bundle_gets_no_rules() {
        let text = r#"{"pods": [{"resources": ["pods"], "operations": ["CREATE"]}]}"#;
        let other = json!([{"resources": ["pods"], "operations": ["UPDATE"]}]);
        for (rules, register, waits, written) in [
            (json!([]), true, true, 0),
            (json!([]), false, false, 0),
            (other.clone(), true, false, 1),
            (other, false, false, 1),
        ] {
            let object = without_bundle(configuration(text, &rules));
            let mut wanted = shipped(&object).unwrap();
            if !register {
                wanted.values_mut().for_each(Vec::clear);
            }
            let found = difference(&object, &wanted);
            let found = (found.waits, found.webhooks.len());
            assert_eq!(found, (waits, written), "{rules} {register}");
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
