//! `/validate-policy`: refuses policies that do not load when they are applied.

use crate::metrics::{Operation, Outcome};
use imageswap_policy::document;
use imageswap_runtime::source::MAPS_KEY;
use imageswap_runtime::text::shorten;
use serde_json::Value;
use serde_json::value::RawValue;

use super::listed::short;
use super::{Admission, operation};
use crate::wire::{Request, Text, Verdict};

/// Characters of the reasons in one log line.
const MAX_REASONS: usize = 4096;

/// Largest object that is checked, in bytes. The API server stores up to 1.5 MiB.
const MAX_TEXT: usize = 1 << 20;
/// Limit on objects and other values: each takes up to a hundred times the memory of its text. A
/// policy of 10,000 rules, the most that loads, has fewer.
const MAX_OBJECTS: usize = 15_000;
const MAX_VALUES: usize = 100_000;

impl Admission {
    pub(super) fn review_policy(&self, request: &Request<'_, &RawValue>) -> (Verdict, Outcome) {
        let mut verdict = Verdict::default();
        let operation = operation(request);
        let writes = matches!(operation, Operation::Create | Operation::Update);
        let Some(text) = request.object.filter(|_| writes) else {
            return (verdict, Outcome::Skipped);
        };
        let kind = &*request.kind.kind;
        let object: Value = match readable(text.get()) {
            Ok(object) => object,
            Err(why) => {
                verdict.denied = Some(format!("{} cannot be checked: {why}", short(kind)));
                return (verdict, Outcome::Denied);
            }
        };
        if operation == Operation::Update && !object["metadata"]["deletionTimestamp"].is_null() {
            return (verdict, Outcome::Skipped);
        }
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        let namespace = request.namespace.as_ref().map_or("", Text::as_str);
        let checked = if kind == document::KIND && request.kind.group == document::GROUP {
            self.policy.check_document(name, &object)
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

/// The object, if it takes no more memory than a policy may.
fn readable(text: &str) -> Result<Value, String> {
    if text.len() > MAX_TEXT {
        return Err(format!(
            "it has {} bytes, expected at most {MAX_TEXT}",
            text.len()
        ));
    }
    let (mut objects, mut values) = (0, 0);
    let (mut in_string, mut escaped) = (false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => in_string = !in_string,
            _ if in_string => {}
            b'{' => objects += 1,
            b'[' | b',' | b':' => values += 1,
            _ => {}
        }
    }
    for (what, count, most) in [
        ("objects", objects, MAX_OBJECTS),
        ("values", values, MAX_VALUES),
    ] {
        if count > most {
            return Err(format!("it has {count} {what}, expected at most {most}"));
        }
    }
    serde_json::from_str(text).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_texts_do_not_become_large_objects() {
        let of = |item: &str, count: usize| format!("[{}]", vec![item; count].join(","));
        for text in [
            of("{}", MAX_OBJECTS + 1),
            of("1", MAX_VALUES + 2),
            format!("{{{}}}", vec![r#""":1"#; MAX_VALUES].join(",")),
            format!(
                "{}{}",
                "[".repeat(MAX_VALUES + 1),
                "]".repeat(MAX_VALUES + 1)
            ),
            format!("{:?}", "x".repeat(MAX_TEXT)),
        ] {
            let error = readable(&text).unwrap_err();
            assert!(error.contains("expected at most"), "{error}");
        }
        // Braces in strings do not count.
        let strings = of(r#""{,[:\\\"{,{,{,""#, MAX_OBJECTS);
        assert!(readable(&strings).is_ok());
        let rule = r#"{"name":"rule","from":"docker.io/**","to":"r.example.com/hub"}"#;
        assert!(readable(&of(rule, 10_000)).is_ok());
    }
}
