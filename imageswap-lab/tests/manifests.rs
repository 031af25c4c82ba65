//! The manifests of `deploy/`, taken by a real API server, and looked at as it has them.
#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests fail by panicking, as tests do"
)]

use std::fs;
use std::path::{Path, PathBuf};

use imageswap_lab::{ControlPlane, ControlPlaneOptions};
use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhookConfiguration, ValidatingWebhookConfiguration,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

fn deploy() -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy")).to_owned()
}

fn text(name: &str) -> String {
    fs::read_to_string(deploy().join(format!("{name}.yaml"))).unwrap()
}

fn configuration(cluster: &ControlPlane, kind: &str) -> Value {
    let text = cluster
        .kubectl(["get", kind, "imageswap", "-o", "json"])
        .unwrap();
    serde_json::from_str(&text).unwrap()
}

#[test]
fn the_api_server_takes_them_as_they_are_meant() {
    let options = ControlPlaneOptions::default();
    let Some(cluster) = ControlPlane::for_test("manifests", options) else {
        return;
    };
    let minor = cluster.assets().minor_version().unwrap();
    cluster.apply(&text("webhook/namespace")).unwrap();
    for folder in ["crds", "webhook", "examples"] {
        let mut files: Vec<_> = fs::read_dir(deploy().join(folder))
            .unwrap()
            .map(|it| it.unwrap().path())
            .collect();
        files.sort();
        for file in files {
            let name = file.file_stem().unwrap().to_str().unwrap();
            if name == "pdb" && minor < 21 {
                continue;
            }
            // Twice, as GitOps tools do it: the second finds nothing to change.
            for _ in 0..2 {
                let args = ["apply", "--server-side", "-f", file.to_str().unwrap()];
                cluster
                    .kubectl(args)
                    .unwrap_or_else(|error| panic!("{name}: {error}"));
            }
            if folder == "crds" {
                let args = ["wait", "--for=condition=Established", "crd", "--all"];
                cluster.kubectl(args).unwrap();
            }
        }
    }
    for kind in [
        "mutatingwebhookconfiguration",
        "validatingwebhookconfiguration",
    ] {
        let found = configuration(&cluster, kind);
        for webhook in found["webhooks"].as_array().unwrap() {
            let name = webhook["name"].as_str().unwrap();
            let client = &webhook["clientConfig"];
            assert!(
                client["caBundle"].is_null(),
                "{name} comes without a caBundle"
            );
            assert_eq!(client["service"]["name"], "imageswap-webhook", "{name}");
            assert_eq!(webhook["sideEffects"], "None", "{name}");
            assert_eq!(webhook["matchPolicy"], "Equivalent", "{name}");
            assert!(webhook["timeoutSeconds"].as_u64().unwrap() <= 5, "{name}");
            if name == "policy.imageswap.io" {
                assert_eq!(webhook["failurePolicy"], "Ignore");
                continue;
            }
            let selector = &webhook["namespaceSelector"]["matchExpressions"][0];
            assert_eq!(selector["operator"], "NotIn", "{name}");
            let excluded: Vec<_> = selector["values"].as_array().unwrap().iter().collect();
            assert_eq!(
                excluded,
                ["kube-system", "imageswap-system"],
                "a cold cluster starts"
            );
        }
    }
    let mutating = configuration(&cluster, "mutatingwebhookconfiguration");
    assert_eq!(mutating["webhooks"][0]["reinvocationPolicy"], "IfNeeded");
    let resources: Vec<_> = mutating["webhooks"][0]["rules"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|rule| rule["resources"].as_array().unwrap())
        .collect();
    assert_eq!(
        resources,
        ["pods", "pods/ephemeralcontainers"],
        "templates are never swapped"
    );
}

/// Newer API servers than the one at hand drop nothing of it: every field is one of theirs.
#[test]
fn match_conditions_are_in_the_types() {
    fn keeps<T: DeserializeOwned + Serialize>(name: &str) {
        let written: Value = serde_saphyr::from_str(&text(name)).unwrap();
        let read: T = serde_json::from_value(written.clone()).unwrap();
        let mut kept = serde_json::to_value(read).unwrap();
        // Required by the type, and left to the manifest that this one is laid over.
        for webhook in kept["webhooks"].as_array_mut().unwrap() {
            let conditions = webhook["matchConditions"].take();
            *webhook = serde_json::json!({"name": webhook["name"], "matchConditions": conditions});
        }
        assert_eq!(kept["webhooks"], written["webhooks"], "{name}");
    }
    keeps::<MutatingWebhookConfiguration>("match-conditions/mutating");
    keeps::<ValidatingWebhookConfiguration>("match-conditions/validating");
}
