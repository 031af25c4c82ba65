//! The custom resources of policy reports, with the fields, types and limits that their projects
//! publish and without their descriptions.

use serde_json::{Value, json};

/// `reports.openreports.io` and `clusterreports.openreports.io`, version `v1alpha1`, as a manifest.
pub fn openreports_definitions() -> String {
    let severities = ["critical", "high", "low", "medium", "info"];
    list(&[
        definition(
            "openreports.io",
            "v1alpha1",
            "Report",
            &["reps"],
            true,
            &severities,
        ),
        definition(
            "openreports.io",
            "v1alpha1",
            "ClusterReport",
            &["creps"],
            false,
            &severities,
        ),
    ])
}

/// `policyreports.wgpolicyk8s.io` and `clusterpolicyreports.wgpolicyk8s.io`, version `v1alpha2`, as
/// a manifest.
pub fn policy_report_definitions() -> String {
    let severities = ["high", "low", "medium"];
    list(&[
        definition(
            "wgpolicyk8s.io",
            "v1alpha2",
            "PolicyReport",
            &["polr"],
            true,
            &severities,
        ),
        definition(
            "wgpolicyk8s.io",
            "v1alpha2",
            "ClusterPolicyReport",
            &["cpolr"],
            false,
            &severities,
        ),
    ])
}

fn list(items: &[Value]) -> String {
    json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string()
}

fn definition(
    group: &str,
    version: &str,
    kind: &str,
    short: &[&str],
    is_namespaced: bool,
    severities: &[&str],
) -> Value {
    let singular = kind.to_lowercase();
    let plural = format!("{singular}s");
    let column = |name: &str| {
        let path = format!(".summary.{}", name.to_lowercase());
        json!({"name": name, "type": "integer", "jsonPath": path})
    };
    let mut columns = vec![
        json!({"name": "Kind", "type": "string", "jsonPath": ".scope.kind", "priority": 1}),
        json!({"name": "Name", "type": "string", "jsonPath": ".scope.name", "priority": 1}),
    ];
    columns.extend(["Pass", "Fail", "Warn", "Error", "Skip"].map(column));
    columns.push(json!({"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}));
    let mut properties = json!({
        "apiVersion": text(),
        "kind": text(),
        "metadata": {"type": "object"},
        "results": {"type": "array", "items": result(severities)},
        "scope": reference(),
        "scopeSelector": selector(),
        "summary": {"type": "object", "properties": {
            "error": integer(), "fail": integer(), "pass": integer(), "skip": integer(), "warn": integer(),
        }},
    });
    if group == "openreports.io" {
        properties["source"] = text();
        let filter = json!({"type": "string", "enum": ["pass", "fail", "warn", "error", "skip"]});
        properties["configuration"] = json!({"type": "object", "required": ["limits"], "properties": {
            "limits": {"type": "object", "properties": {
                "maxResults": integer(), "statusFilter": {"type": "array", "items": filter},
            }},
        }});
    }
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{plural}.{group}")},
        "spec": {
            "group": group,
            "names": {
                "kind": kind, "listKind": format!("{kind}List"), "plural": plural, "singular": singular, "shortNames": short,
            },
            "scope": if is_namespaced { "Namespaced" } else { "Cluster" },
            "versions": [{
                "name": version,
                "served": true,
                "storage": true,
                "additionalPrinterColumns": columns,
                "schema": {"openAPIV3Schema": {"type": "object", "properties": properties}},
            }],
        },
    })
}

fn text() -> Value {
    json!({"type": "string"})
}

fn integer() -> Value {
    json!({"type": "integer"})
}

fn reference() -> Value {
    json!({"type": "object", "properties": {
        "apiVersion": text(), "fieldPath": text(), "kind": text(), "name": text(), "namespace": text(),
        "resourceVersion": text(), "uid": text(),
    }})
}

fn selector() -> Value {
    let requirement = json!({"type": "object", "required": ["key", "operator"], "properties": {
        "key": text(), "operator": text(), "values": {"type": "array", "items": text()},
    }});
    json!({"type": "object", "properties": {
        "matchExpressions": {"type": "array", "items": requirement},
        "matchLabels": {"type": "object", "additionalProperties": text()},
    }})
}

fn result(severities: &[&str]) -> Value {
    let timestamp = json!({"type": "object", "required": ["nanos", "seconds"], "properties": {
        "nanos": {"type": "integer", "format": "int32"}, "seconds": {"type": "integer", "format": "int64"},
    }});
    json!({"type": "object", "required": ["policy"], "properties": {
        "category": text(), "message": text(), "policy": text(), "rule": text(), "source": text(),
        "properties": {"type": "object", "additionalProperties": text()},
        "resourceSelector": selector(),
        "resources": {"type": "array", "items": reference()},
        "result": {"type": "string", "enum": ["pass", "fail", "warn", "error", "skip"]},
        "scored": {"type": "boolean"},
        "severity": {"type": "string", "enum": severities},
        "timestamp": timestamp,
    }})
}
