//! `/validate-policy`: policies that do not load are refused when they are applied.

use imageswap_policy::document;
use imageswap_runtime::metrics::{Operation, Outcome};
use imageswap_runtime::source::MAPS_KEY;
use imageswap_runtime::text::shorten;
use serde_json::Value;

use super::listed::short;
use super::{Admission, operation};
use crate::wire::{Request, Text, Verdict};

/// Characters of the reasons in one line of the log.
const MAX_REASONS: usize = 4096;

impl Admission {
    pub(super) fn review_policy(&self, request: &Request<'_, Value>) -> (Verdict, Outcome) {
        let mut verdict = Verdict::default();
        let operation = operation(request);
        let writes = matches!(operation, Operation::Create | Operation::Update);
        let Some(object) = request.object.as_ref().filter(|_| writes) else {
            return (verdict, Outcome::Skipped);
        };
        if operation == Operation::Update && !object["metadata"]["deletionTimestamp"].is_null() {
            return (verdict, Outcome::Skipped);
        }
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        let namespace = request.namespace.as_ref().map_or("", Text::as_str);
        let kind = &*request.kind.kind;
        let checked = if kind == document::KIND && request.kind.group == document::GROUP {
            self.policy.check_document(name, object)
        } else if kind == "ConfigMap" && self.policy.is_maps_configmap(namespace, name) {
            let Some(text) = object["data"][MAPS_KEY].as_str() else {
                verdict.denied = Some(format!("ConfigMap {name} needs the key `{MAPS_KEY}`"));
                return (verdict, Outcome::Denied);
            };
            self.policy.check_maps(text)
        } else {
            return (verdict, Outcome::Skipped);
        };
        match checked {
            Ok(warnings) if warnings.is_empty() => (verdict, Outcome::Unchanged),
            Ok(warnings) => {
                verdict.warnings = warnings;
                (verdict, Outcome::Warned)
            }
            Err(reasons) => {
                tracing::info!(
                    uid = &*request.uid,
                    kind,
                    name = &*short(name),
                    user = &*short(request.user()),
                    "policy refused: {}",
                    shorten(&reasons.join("; "), MAX_REASONS)
                );
                verdict.denied = Some(format!(
                    "{kind} {name} does not load:\n{}",
                    reasons.join("\n")
                ));
                (verdict, Outcome::Denied)
            }
        }
    }
}
