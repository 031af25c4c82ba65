//! The CustomResourceDefinition of ImageSwapPolicy.
//!
//! Its schema is the document's own, in the form that Kubernetes requires (a "structural" one):
//! without references, and every object keeps fields that the schema does not know, so that our own
//! reader can report them and the API server does not drop them silently.

use super::{GROUP, ImageSwapPolicy, KIND};
use serde_json::{Map, Value, json};

/// Keywords that Kubernetes does not accept, or that would change what is stored.
const DROPPED: [&str; 8] = [
    "$schema",
    "$defs",
    "$ref",
    "title",
    "default",
    "examples",
    "const",
    "minLength",
];

/// The plural name, as in the resource's path.
pub const PLURAL: &str = "imageswappolicies";

/// The definition, to be applied to a cluster.
pub fn crd() -> Value {
    let schema = schemars::schema_for!(ImageSwapPolicy).to_value();
    let spec = structural(&schema["properties"]["spec"], &schema["$defs"]);
    let column =
        |name: &str, kind: &str, path: &str| json!({"name": name, "type": kind, "jsonPath": path});
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{PLURAL}.{GROUP}")},
        "spec": {
            "group": GROUP,
            "scope": "Cluster",
            "names": {
                "kind": KIND,
                "listKind": format!("{KIND}List"),
                "plural": PLURAL,
                "singular": "imageswappolicy",
                "shortNames": ["isp"],
            },
            "versions": [{
                "name": "v1alpha1",
                "served": true,
                "storage": true,
                "subresources": {"status": {}},
                "additionalPrinterColumns": [
                    column("Enforcement", "string", ".spec.enforcement"),
                    column("Priority", "integer", ".spec.priority"),
                    column("Accepted", "string", ".status.conditions[?(@.type==\"Accepted\")].status"),
                    column("Revision", "string", ".status.revision"),
                    column("Age", "date", ".metadata.creationTimestamp"),
                ],
                "schema": {"openAPIV3Schema": {
                    "type": "object",
                    "description": schema["description"],
                    "required": ["spec"],
                    "x-kubernetes-preserve-unknown-fields": true,
                    "properties": {
                        "spec": spec,
                        "status": status(),
                    },
                }},
            }],
        },
    })
}

fn status() -> Value {
    let text = |description: &str| json!({"type": "string", "description": description});
    json!({
        "type": "object",
        "description": "The webhook's result of loading the policy.",
        "properties": {
            "revision": text("Short hash of the version that is in force."),
            "conditions": {
                "type": "array",
                "description": "`Accepted`: whether the newest version is in force.",
                "items": {
                    "type": "object",
                    "required": ["type", "status", "reason", "message", "lastTransitionTime"],
                    "properties": {
                        "type": text("`Accepted`."),
                        "status": text("`True` or `False`."),
                        "reason": text("`Loaded`, `LoadedWithWarnings` or `Invalid`."),
                        "message": text("What is wrong, by field."),
                        "observedGeneration": {
                            "type": "integer",
                            "format": "int64",
                            "description": "The version of the spec that this is about.",
                        },
                        "lastTransitionTime": {
                            "type": "string",
                            "format": "date-time",
                            "description": "When the status changed last.",
                        },
                    },
                },
            },
        },
    })
}

/// A schema in Kubernetes' form. The depth is bounded by our types.
fn structural(schema: &Value, definitions: &Value) -> Value {
    let mut nullable = false;
    let mut found = schema.clone();
    let alternatives = schema["anyOf"].as_array();
    if let Some(alternatives) = alternatives.filter(|it| it.iter().any(is_null)) {
        // An optional type: itself, or null.
        nullable = true;
        let other = alternatives.iter().find(|it| !is_null(it));
        found = over(other.unwrap_or(&Value::Null), schema);
    }
    if let Some(name) = found["$ref"].as_str() {
        let definition = &definitions[name.trim_start_matches("#/$defs/")];
        found = over(definition, &found);
    }
    let mut result = Map::new();
    if found["anyOf"].is_array() {
        // A text or a mapping: Kubernetes cannot express that, and our own reader reports mistakes.
        result.insert(
            "x-kubernetes-preserve-unknown-fields".to_owned(),
            json!(true),
        );
    }
    for (key, value) in found.as_object().into_iter().flatten() {
        match key.as_str() {
            "type" if value.is_array() => {
                nullable = true;
                let types = value.as_array().into_iter().flatten();
                let kind = types.into_iter().find(|it| *it != "null");
                result.insert(key.clone(), kind.cloned().unwrap_or_default());
            }
            "oneOf" => {
                let values = value.as_array().into_iter().flatten();
                let choices: Option<Vec<_>> = values.map(|it| it.get("const").cloned()).collect();
                // Other alternatives define which fields go together, which our own reader explains
                // better.
                if let Some(choices) = choices {
                    result.insert("enum".to_owned(), choices.into());
                    result.insert("type".to_owned(), json!("string"));
                }
            }
            "format" if value == "date" => {}
            "properties" => {
                let properties = value.as_object().into_iter().flatten();
                let properties: Map<_, _> = properties
                    .map(|(name, it)| (name.clone(), structural(it, definitions)))
                    .collect();
                result.insert(key.clone(), properties.into());
                result.insert(
                    "x-kubernetes-preserve-unknown-fields".to_owned(),
                    json!(true),
                );
            }
            "items" | "additionalProperties" => {
                result.insert(key.clone(), structural(value, definitions));
            }
            "anyOf" => {}
            key if DROPPED.contains(&key) => {}
            _ => {
                result.insert(key.clone(), value.clone());
            }
        }
    }
    if nullable {
        result.insert("nullable".to_owned(), json!(true));
    }
    result.into()
}

fn is_null(schema: &Value) -> bool {
    schema["type"] == "null"
}

/// `base` combined with `top`; of two descriptions, the field's.
fn over(base: &Value, top: &Value) -> Value {
    let mut merged = base.clone();
    for (key, value) in top.as_object().into_iter().flatten() {
        // The reference has been resolved.
        if !matches!(key.as_str(), "anyOf" | "$ref") {
            merged[key] = value.clone();
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every schema in it, with its path.
    fn walk(schema: &Value, path: &str, visit: &mut impl FnMut(&str, &Value)) {
        visit(path, schema);
        for (name, it) in schema["properties"].as_object().into_iter().flatten() {
            walk(it, &format!("{path}.{name}"), visit);
        }
        for key in ["items", "additionalProperties"] {
            if schema[key].is_object() {
                walk(&schema[key], &format!("{path}[]"), visit);
            }
        }
    }

    #[test]
    fn the_schema_is_structural_and_keeps_what_it_does_not_know() {
        let crd = crd();
        let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
        let mut paths = Vec::new();
        walk(schema, "", &mut |path, schema| {
            paths.push(path.to_owned());
            let open = schema["x-kubernetes-preserve-unknown-fields"] == true;
            assert!(schema["type"].is_string() || open, "{path}: {schema}");
            for key in DROPPED.into_iter().chain(["anyOf", "oneOf"]) {
                assert!(schema.get(key).is_none(), "{path}: {key}");
            }
            let free = path.starts_with(".status") || schema.get("properties").is_none();
            assert!(free || open, "{path}");
        });
        for path in [
            ".spec.rules[].from",
            ".spec.match.namespaceSelector.matchExpressions[].operator",
            ".spec.imagePullSecrets[].registry",
            ".status.conditions[].observedGeneration",
        ] {
            assert!(paths.iter().any(|it| it == path), "{path}: {paths:?}");
        }
    }

    #[test]
    fn choices_and_options_are_said() {
        let crd = crd();
        let spec = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
        let spec = &spec["properties"];
        assert_eq!(
            spec["enforcement"]["enum"],
            json!(["deny", "warn", "audit"])
        );
        assert_eq!(spec["message"]["nullable"], true);
        assert_eq!(spec["message"]["type"], "string");
        let selector = &spec["match"]["properties"]["objectSelector"];
        assert_eq!(selector["nullable"], true);
        assert_eq!(
            selector["description"],
            "Labels of the Pod. Without it: every Pod."
        );
    }
}
