//! The CustomResourceDefinition of ImageSwapPolicy.
//!
//! Its schema is the document's own, in the form that Kubernetes requires (a "structural" one):
//! without references, and every object keeps fields that the schema does not know, so that our own
//! reader can report them and the API server does not drop them silently.

use super::{GROUP, ImageSwapPolicy, KIND};
use schemars::Schema;
use schemars::generate::SchemaSettings;
use schemars::transform::{AddNullable, transform_subschemas};
use serde_json::{Value, json};

/// Keywords that Kubernetes does not accept, or that would change what is stored.
const DROPPED: [&str; 5] = ["title", "default", "examples", "const", "minLength"];

/// The plural name, as in the resource's path.
pub const PLURAL: &str = "imageswappolicies";

/// The definition, to be applied to a cluster.
pub fn crd() -> Value {
    let schema = SchemaSettings::draft2020_12()
        .with(|it| it.inline_subschemas = true)
        .with_transform(AddNullable::default())
        .with_transform(structural)
        .into_generator()
        .into_root_schema_for::<ImageSwapPolicy>()
        .to_value();
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
                        "spec": schema["properties"]["spec"],
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

/// Brings a schema without references into Kubernetes' form.
fn structural(schema: &mut Schema) {
    // A text or a mapping: Kubernetes cannot express that, and our own reader reports mistakes.
    let alternatives = schema.remove("anyOf").is_some();
    if alternatives || schema.get("properties").is_some() {
        let key = "x-kubernetes-preserve-unknown-fields";
        schema.insert(key.to_owned(), json!(true));
    }
    if let Some(Value::Array(kinds)) = schema.remove("oneOf") {
        let choices: Option<Value> = kinds.iter().map(|it| it.get("const").cloned()).collect();
        // Other alternatives define which fields go together, which our own reader explains better.
        if let Some(choices) = choices {
            schema.insert("enum".to_owned(), choices);
            schema.insert("type".to_owned(), json!("string"));
        }
    }
    if schema.get("format").is_some_and(|it| it == "date") {
        schema.remove("format");
    }
    for key in DROPPED {
        schema.remove(key);
    }
    transform_subschemas(&mut structural, schema);
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
            for key in DROPPED.into_iter().chain(["$ref", "anyOf", "oneOf"]) {
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
