//! Checks that the Kubernetes types know every rendered field, so that newer API servers drop none.

use imageswap_lab::require;
use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhookConfiguration, ValidatingWebhookConfiguration,
};
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Secret, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::helm::{Helm, NEW, OLD, Object, one, values_file, values_files};
use super::schemas::Schemas;

/// Parts of `written` that `kept` lacks, by path. Empty lists and maps may be missing.
fn lost(path: &str, written: &Value, kept: &Value, out: &mut Vec<String>) {
    match (written, kept) {
        (Value::Object(fields), _) => {
            for (key, value) in fields {
                lost(&format!("{path}.{key}"), value, &kept[key], out);
            }
        }
        (Value::Array(items), Value::Array(others)) if items.len() == others.len() => {
            for (at, (item, other)) in items.iter().zip(others).enumerate() {
                lost(&format!("{path}[{at}]"), item, other, out);
            }
        }
        (Value::Array(items), Value::Null) if items.is_empty() => {}
        _ if written == kept => {}
        _ => out.push(path.to_owned()),
    }
}

fn lost_by<T: DeserializeOwned + Serialize>(written: &Value) -> Vec<String> {
    let read: T = match serde_json::from_value(written.clone()) {
        Ok(read) => read,
        Err(error) => return vec![error.to_string()],
    };
    let mut out = Vec::new();
    lost("", written, &serde_json::to_value(read).unwrap(), &mut out);
    out
}

/// Fields of an object that its type does not know; `None` for objects of other projects.
fn check(object: &Object) -> Option<Vec<String>> {
    let written = &object.0;
    let lost = match (object.api_version(), object.kind()) {
        ("v1", "ConfigMap") => lost_by::<ConfigMap>(written),
        ("v1", "Namespace") => lost_by::<Namespace>(written),
        ("v1", "Secret") => lost_by::<Secret>(written),
        ("v1", "Service") => lost_by::<Service>(written),
        ("v1", "ServiceAccount") => lost_by::<ServiceAccount>(written),
        ("apps/v1", "DaemonSet") => lost_by::<DaemonSet>(written),
        ("apps/v1", "Deployment") => lost_by::<Deployment>(written),
        ("policy/v1", "PodDisruptionBudget") => lost_by::<PodDisruptionBudget>(written),
        ("networking.k8s.io/v1", "NetworkPolicy") => lost_by::<NetworkPolicy>(written),
        ("rbac.authorization.k8s.io/v1", kind) => match kind {
            "ClusterRole" => lost_by::<ClusterRole>(written),
            "ClusterRoleBinding" => lost_by::<ClusterRoleBinding>(written),
            "Role" => lost_by::<Role>(written),
            "RoleBinding" => lost_by::<RoleBinding>(written),
            _ => panic!("{}", object.shown()),
        },
        ("admissionregistration.k8s.io/v1", "MutatingWebhookConfiguration") => {
            lost_by::<MutatingWebhookConfiguration>(written)
        }
        ("admissionregistration.k8s.io/v1", "ValidatingWebhookConfiguration") => {
            lost_by::<ValidatingWebhookConfiguration>(written)
        }
        ("imageswap.io/v1alpha1", "ImageSwapPolicy") => return None,
        _ if object.is_of_another_project() => return None,
        (version, _) => panic!("{} of {version}: no type for it", object.shown()),
    };
    Some(lost)
}

#[test]
fn newer_api_servers_know_every_field() {
    let helm = require!(Helm::for_test("newer_api_servers_know_every_field"));
    for file in values_files() {
        for object in helm.render_file(NEW, &file) {
            if let Some(lost) = check(&object) {
                assert!(
                    lost.is_empty(),
                    "{}: {}: {lost:?}",
                    file.display(),
                    object.shown()
                );
            }
        }
    }
}

#[test]
fn a_field_that_no_type_knows_is_found() {
    let object: Value = serde_json::json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "x"},
        "spec": {"ports": [{"port": 443, "targetport": "https"}]},
    });
    assert_eq!(
        check(&Object(object)),
        Some(vec![".spec.ports[0].targetport".to_owned()])
    );
}

#[test]
fn what_an_api_server_has_is_what_it_gets() {
    let helm = require!(Helm::for_test("what_an_api_server_has"));
    let everything = values_file("everything");
    let spread = |objects: &[Object]| {
        let pod = &one(objects, "Deployment", "imageswap-webhook")["spec"]["template"]["spec"];
        pod["topologySpreadConstraints"][0]
            .get("matchLabelKeys")
            .is_some()
    };
    let conditions = |objects: &[Object], kind: &str, name: &str, at: usize| {
        let conditions = one(objects, kind, name)["webhooks"][at]["matchConditions"].clone();
        let names = conditions.as_array().into_iter().flatten();
        names
            .map(|it| it["name"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    let (mutating, validating) = (
        "MutatingWebhookConfiguration",
        "ValidatingWebhookConfiguration",
    );
    for (version, budget, keys, has_conditions) in [
        (OLD, "policy/v1beta1", false, false),
        ("1.21.0", "policy/v1", false, false),
        ("1.27.3", "policy/v1", true, false),
        ("1.28.0-gke.100", "policy/v1", true, true),
        (NEW, "policy/v1", true, true),
    ] {
        let objects = helm.render_file(version, &values_file("default"));
        let pdb = one(&objects, "PodDisruptionBudget", "imageswap-webhook");
        assert_eq!(pdb["apiVersion"], budget, "{version}");
        assert_eq!(spread(&objects), keys, "{version}");
        let expected = |names: &[&str]| {
            if has_conditions {
                names.iter().map(ToString::to_string).collect()
            } else {
                Vec::new()
            }
        };
        let workloads = expected(&["not-being-deleted", "not-a-mirror-pod"]);
        assert_eq!(
            conditions(&objects, mutating, "imageswap", 0),
            workloads,
            "{version}"
        );
        assert_eq!(
            conditions(&objects, validating, "imageswap", 0),
            workloads,
            "{version}"
        );
        assert_eq!(
            conditions(&objects, validating, "imageswap", 1),
            expected(&["a-policy-or-the-maps"]),
            "{version}"
        );
        let objects = helm.render_file(version, &everything);
        let own = conditions(&objects, mutating, "imageswap-guard", 0);
        assert_eq!(
            own.last().is_some_and(|it| it == "not-gitops"),
            has_conditions,
            "{version}"
        );
    }
    let alone = helm.render_file(NEW, &values_file("one-replica"));
    assert!(!alone.iter().any(|it| it.kind() == "PodDisruptionBudget"));
}

/// No API server here knows the resources of other projects: checks them by their published schemas,
/// and that they name what exists.
#[test]
fn objects_of_other_projects_fit_their_schemas() {
    let helm = require!(Helm::for_test("objects_of_other_projects"));
    let schemas = Schemas::load();
    let mut kinds = std::collections::BTreeSet::new();
    for file in values_files() {
        let objects = helm.render_file(NEW, &file);
        for object in objects.iter().filter(|it| it.is_of_another_project()) {
            let (spec, shown) = (
                &object.0["spec"],
                format!("{}: {}", file.display(), object.shown()),
            );
            assert_eq!(schemas.errors(object), Vec::<String>::new(), "{shown}");
            kinds.insert(object.kind().to_owned());
            match object.kind() {
                "Issuer" => assert!(
                    spec["selfSigned"].is_object() || spec["ca"]["secretName"].is_string(),
                    "{shown}"
                ),
                "Certificate" => {
                    let names = spec["dnsNames"].as_array().map_or(0, Vec::len);
                    assert!(spec["isCA"] == true || names >= 4, "{shown}");
                }
                "ServiceMonitor" | "PodMonitor" => {
                    let key = if object.kind() == "PodMonitor" {
                        "podMetricsEndpoints"
                    } else {
                        "endpoints"
                    };
                    assert_eq!(spec[key][0]["port"], "admin", "{shown}");
                    assert_eq!(spec["jobLabel"], "app.kubernetes.io/name", "{shown}");
                    // The selected objects exist: Pods, or a Service with these labels.
                    let selected = spec["selector"]["matchLabels"].as_object().unwrap();
                    let has =
                        |labels: &Value| selected.iter().all(|(key, value)| &labels[key] == value);
                    let found = objects.iter().any(|it| match it.kind() {
                        "Service" if object.kind() == "ServiceMonitor" => {
                            has(&it.0["metadata"]["labels"])
                        }
                        "Deployment" | "DaemonSet" if object.kind() == "PodMonitor" => {
                            has(&it.0["spec"]["template"]["metadata"]["labels"])
                        }
                        _ => false,
                    });
                    assert!(found, "{shown} selects nothing");
                }
                "PrometheusRule" => {
                    assert!(!spec["groups"].as_array().unwrap().is_empty(), "{shown}");
                }
                _ => panic!("{shown}: not known"),
            }
        }
    }
    let known = [
        "Certificate",
        "Issuer",
        "PodMonitor",
        "PrometheusRule",
        "ServiceMonitor",
    ];
    assert_eq!(Vec::from_iter(&kinds), known.iter().collect::<Vec<_>>());
}
