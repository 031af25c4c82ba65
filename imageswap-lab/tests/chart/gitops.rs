//! The examples for Argo CD and Flux: what they say about the health of a policy, and which fields of
//! the chart's objects they leave to the webhook.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use cel::parser::Parser;
use cel::{Context, Value as Cel};
use imageswap_lab::{require, skip};
use serde_json::{Value, json};

use super::helm::{Helm, NEW, one, values_file};

/// Policies, and the health that the tools show.
fn policies() -> Vec<(Value, &'static str)> {
    let policy = |status: Value| {
        json!({
            "apiVersion": "imageswap.io/v1alpha1", "kind": "ImageSwapPolicy",
            "metadata": {"name": "corp", "generation": 2}, "spec": {"rules": []}, "status": status,
        })
    };
    let accepted = |status: &str, generation: i64| {
        policy(json!({"revision": "3fe0aa32d90c", "conditions": [
            {"type": "Other", "status": "False", "observedGeneration": 2, "message": "other"},
            {"type": "Accepted", "status": status, "observedGeneration": generation,
                "message": format!("says {status}")},
        ]}))
    };
    let mut without = policy(json!({}));
    without.as_object_mut().unwrap().remove("status");
    vec![
        (without, "Progressing"),
        (policy(json!({})), "Progressing"),
        (policy(json!({"conditions": []})), "Progressing"),
        (accepted("True", 2), "Healthy"),
        (accepted("False", 2), "Degraded"),
        (accepted("Unknown", 2), "Progressing"),
        // About the version before.
        (accepted("True", 1), "Progressing"),
        (accepted("False", 1), "Progressing"),
    ]
}

fn folder() -> PathBuf {
    Path::new(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../deploy/examples/gitops"
    ))
    .to_owned()
}

fn objects(file: &str) -> Vec<Value> {
    let text = fs::read_to_string(folder().join(file)).unwrap();
    serde_saphyr::from_multiple(&text).unwrap()
}

/// The one object of a kind.
fn object(file: &str, kind: &str, name: &str) -> Value {
    let all = objects(file).into_iter();
    let mut found = all.filter(|it| it["kind"] == kind && it["metadata"]["name"] == name);
    let object = found.next();
    assert_eq!(found.next(), None, "two of {kind} {name}");
    object.unwrap_or_else(|| panic!("{file} has no {kind} {name}"))
}

/// A value as an expression of Lua.
fn lua(value: &Value) -> String {
    match value {
        Value::Null => "nil".to_owned(),
        Value::Array(items) => {
            let items: Vec<_> = items.iter().map(lua).collect();
            format!("{{{}}}", items.join(", "))
        }
        Value::Object(fields) => {
            let mut table = String::new();
            for (name, value) in fields {
                write!(table, "[{name:?}] = {}, ", lua(value)).unwrap();
            }
            format!("{{{table}}}")
        }
        other => other.to_string(),
    }
}

#[test]
fn argo_cd_shows_the_health_of_a_policy() {
    let script = folder().join("argocd-health.lua");
    for (policy, expected) in policies() {
        let program = format!(
            "obj = {}\nlocal hs = dofile({:?})\nio.write(hs.status, '\\n', hs.message)",
            lua(&policy),
            script.to_str().unwrap()
        );
        let run = Command::new("lua5.1").args(["-e", &program]).output();
        let output = match run {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return skip("argo_cd_shows_the_health_of_a_policy", "needs lua5.1");
            }
            output => output.unwrap(),
        };
        assert!(output.status.success(), "{output:?}");
        let said = String::from_utf8(output.stdout).unwrap();
        let (status, message) = said.split_once('\n').unwrap();
        assert_eq!(status, expected, "{policy}");
        let of_webhook = message.starts_with("says ");
        assert_eq!(
            of_webhook,
            policy["status"]["conditions"][1]["observedGeneration"] == 2
        );
    }
}

#[test]
fn flux_shows_the_health_of_a_policy() {
    let kustomization = object("flux.yaml", "Kustomization", "imageswap-policies");
    let checks = kustomization["spec"]["healthCheckExprs"]
        .as_array()
        .unwrap();
    assert_eq!(checks.len(), 1);
    assert_eq!(checks[0]["kind"], "ImageSwapPolicy");
    assert_eq!(checks[0]["apiVersion"], "imageswap.io/v1alpha1");
    for (policy, expected) in policies() {
        // Flux waits while an expression cannot be evaluated.
        let holds = |name: &str| {
            let mut context = Context::default();
            for (field, value) in policy.as_object().unwrap() {
                context.add_variable(field.as_str(), value.clone()).unwrap();
            }
            let text = checks[0][name].as_str().unwrap();
            let expression = Parser::new().parse(text).unwrap();
            context
                .resolve(&expression)
                .is_ok_and(|it| it == Cel::Bool(true))
        };
        let found = match (holds("failed"), holds("current")) {
            (false, false) => "Progressing",
            (false, true) => "Healthy",
            (true, false) => "Degraded",
            (true, true) => "both",
        };
        assert_eq!(found, expected, "{policy}");
    }
}

/// The fields that the tools ignore are those that the chart leaves to the webhook.
#[test]
fn ignored_fields_are_those_that_the_webhook_writes() {
    let test = "ignored_fields_are_those_that_the_webhook_writes";
    let helm = require!(Helm::for_test(test));
    let rendered = helm.render_file(NEW, &values_file("default"));
    let release = object("flux.yaml", "HelmRelease", "imageswap");
    let ignored = release["spec"]["driftDetection"]["ignore"]
        .as_array()
        .unwrap();
    let application = object("argocd.yaml", "Application", "imageswap");
    let ignoring = application["spec"]["ignoreDifferences"].as_array().unwrap();
    for kind in [
        "MutatingWebhookConfiguration",
        "ValidatingWebhookConfiguration",
    ] {
        let mut expected = Vec::new();
        let webhooks = &one(&rendered, kind, "imageswap")["webhooks"];
        for (at, webhook) in webhooks.as_array().unwrap().iter().enumerate() {
            let fields = [
                (
                    "clientConfig/caBundle",
                    &webhook["clientConfig"]["caBundle"],
                ),
                ("rules", &webhook["rules"]),
            ];
            let missing = fields.iter().filter(|(_, value)| value.is_null());
            expected.extend(missing.map(|(path, _)| json!(format!("/webhooks/{at}/{path}"))));
        }
        let rule = ignored.iter().find(|it| it["target"]["kind"] == kind);
        assert_eq!(rule.unwrap()["paths"], json!(expected), "{kind}");
        let rule = ignoring.iter().find(|it| it["kind"] == kind).unwrap();
        assert_eq!(rule["managedFieldsManagers"], json!(["imageswap-webhook"]));
    }
    // Both render the chart as the values say, into the namespace of the documentation.
    for values in [
        &release["spec"]["values"],
        &application["spec"]["source"]["helm"]["valuesObject"],
    ] {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), values.to_string()).unwrap();
        helm.render_file(NEW, file.path());
    }
    assert_eq!(release["spec"]["targetNamespace"], super::NAMESPACE);
    assert_eq!(
        application["spec"]["destination"]["namespace"],
        super::NAMESPACE
    );
}
