//! Which images of which objects are swapped, and which are left alone.

use imageswap_runtime::metrics::Exporter;
use imageswap_webhook::metrics::{Operation, Outcome, Webhook, WebhookMetrics};
use serde_json::{Value, json};

use crate::client::{admission, decide, patched, pod_review};

const MAPS: &str = "default::d.example.com\nquay.io::\n";

/// Answers a review, and returns the resulting object.
#[track_caller]
fn ask(review: &Value) -> (Value, Operation, Outcome) {
    let admission = admission(MAPS, &WebhookMetrics::new(&Exporter::new()));
    let (body, operation, outcome) = decide(&admission, Webhook::Mutate, review);
    (patched(review, &body), operation, outcome)
}

#[track_caller]
fn unchanged(review: &Value, outcome: Outcome) {
    let (object, _, found) = ask(review);
    assert_eq!(
        (object, found),
        (review["request"]["object"].clone(), outcome),
        "{review}"
    );
}

fn pod_spec(prefix: &str) -> Value {
    json!({
        "containers": [{"name": "a", "image": format!("{prefix}nginx:1")}, {"name": "b", "image": "quay.io/b"}],
        "initContainers": [{"name": "i", "image": format!("{prefix}busybox")}],
        "ephemeralContainers": [{"name": "e", "image": format!("{prefix}debug")}],
        "volumes": [
            {"name": "v", "image": {"reference": format!("{prefix}data@sha256:{}", "0".repeat(64))}},
            {"name": "w", "emptyDir": {}},
        ],
    })
}

/// Wraps a Pod's specification as an object of that kind.
fn object(kind: &str, spec: &Value) -> Value {
    match kind {
        "Pod" => json!({"spec": spec}),
        "CronJob" => json!({"spec": {"jobTemplate": {"spec": {"template": {"spec": spec}}}}}),
        _ => json!({"spec": {"replicas": 2, "template": {"metadata": {}, "spec": spec}}}),
    }
}

fn review(group: &str, kind: &str, operation: &str, object: &Value) -> Value {
    let mut review = pod_review(operation, object);
    review["request"]["kind"] = json!({"group": group, "version": "v1", "kind": kind});
    review
}

const KINDS: [(&str, &str); 8] = [
    ("", "Pod"),
    ("", "ReplicationController"),
    ("apps", "DaemonSet"),
    ("apps", "Deployment"),
    ("apps", "ReplicaSet"),
    ("apps", "StatefulSet"),
    ("batch", "CronJob"),
    ("batch", "Job"),
];

#[test]
fn every_image_of_every_kind() {
    for (group, kind) in KINDS {
        let review = review(group, kind, "CREATE", &object(kind, &pod_spec("")));
        let (found, operation, outcome) = ask(&review);
        assert_eq!(found, object(kind, &pod_spec("d.example.com/")), "{kind}");
        assert_eq!(
            (operation, outcome),
            (Operation::Create, Outcome::Patched),
            "{kind}"
        );
        let again = self::review(group, kind, "CREATE", &found);
        unchanged(&again, Outcome::Unchanged);
    }
}

#[test]
fn an_update_changes_what_may_be_changed() {
    let swapped = |keep: &[&str]| {
        let mut spec = pod_spec("d.example.com/");
        for key in keep {
            spec[key] = pod_spec("")[key].clone();
        }
        spec
    };
    for (group, kind) in KINDS {
        let review = review(group, kind, "UPDATE", &object(kind, &pod_spec("")));
        let expected = match kind {
            "Pod" => object(kind, &swapped(&["ephemeralContainers", "volumes"])),
            "Job" => object(kind, &pod_spec("")),
            _ => object(kind, &swapped(&[])),
        };
        assert_eq!(ask(&review).0, expected, "{kind}");
    }
}

/// Applying a manifest a second time writes its images over the swapped ones.
#[test]
fn a_manifest_can_be_applied_again() {
    for (group, kind) in KINDS {
        let stored = object(kind, &pod_spec("d.example.com/"));
        let mut again = review(group, kind, "UPDATE", &object(kind, &pod_spec("")));
        again["request"]["oldObject"] = stored.clone();
        assert_eq!(ask(&again).0, stored, "{kind}");
    }
    // The stored image is not the policy's result: then Kubernetes refuses.
    let stored = object("Pod", &pod_spec("elsewhere.example.com/"));
    let mut again = pod_review("UPDATE", &object("Pod", &pod_spec("")));
    again["request"]["oldObject"] = stored;
    let spec = ask(&again).0["spec"].clone();
    for key in ["ephemeralContainers", "volumes"] {
        assert_eq!(spec[key], pod_spec("")[key]);
    }
    // A container's image is compared only with its own.
    let mut again = pod_review("UPDATE", &object("Pod", &pod_spec("")));
    let mut other = pod_spec("");
    other["volumes"][0]["name"] = json!("other");
    other["containers"].as_array_mut().unwrap().push(json!({
        "name": "v", "image": format!("d.example.com/data@sha256:{}", "0".repeat(64)),
    }));
    again["request"]["oldObject"] = object("Pod", &other);
    let spec = ask(&again).0["spec"].clone();
    assert_eq!(spec["volumes"], pod_spec("")["volumes"]);
}

#[test]
fn ephemeral_containers_are_swapped_as_they_are_added() {
    let mut old = pod_spec("");
    old["ephemeralContainers"] = json!([{"name": "first", "image": "debug"}]);
    let mut new = old.clone();
    new["ephemeralContainers"]
        .as_array_mut()
        .unwrap()
        .push(json!({"name": "second", "image": "debug"}));
    let mut review = pod_review("UPDATE", &json!({"spec": new}));
    review["request"]["subResource"] = json!("ephemeralcontainers");
    review["request"]["oldObject"] = json!({"spec": old});
    let (mut found, _, _) = ask(&review);
    assert_eq!(
        found["spec"]["ephemeralContainers"][1]["image"],
        "d.example.com/debug"
    );
    found["spec"]["ephemeralContainers"][1]["image"] = json!("debug");
    assert_eq!(found, review["request"]["object"], "nothing else changes");

    review["request"]["subResource"] = json!("status");
    unchanged(&review, Outcome::Skipped);
}

#[test]
fn what_is_left_alone() {
    let pod = |metadata: Value| json!({"metadata": metadata, "spec": pod_spec("")});
    unchanged(
        &pod_review(
            "CREATE",
            &pod(json!({"labels": {"k8s.twr.io/imageswap": "disabled"}})),
        ),
        Outcome::Skipped,
    );
    let mut mirror = pod_review(
        "CREATE",
        &pod(json!({"annotations": {"kubernetes.io/config.mirror": "1f"}})),
    );
    assert_eq!(ask(&mirror).2, Outcome::Patched, "anybody may write that");
    mirror["request"]["userInfo"] = json!({"username": "system:node:worker-1"});
    unchanged(&mirror, Outcome::Skipped);
    unchanged(
        &pod_review(
            "UPDATE",
            &pod(json!({"deletionTimestamp": "2026-01-01T00:00:00Z"})),
        ),
        Outcome::Skipped,
    );
    for operation in ["DELETE", "CONNECT"] {
        unchanged(&pod_review(operation, &Value::Null), Outcome::Skipped);
    }
    // A Pod of another API group has no meaning here, and no template either.
    unchanged(
        &review(
            "example.com",
            "Pod",
            "CREATE",
            &object("Pod", &pod_spec("")),
        ),
        Outcome::Skipped,
    );
    // Labels of other values do not opt out, nor do the template's.
    let labelled = pod(json!({"labels": {"k8s.twr.io/imageswap": "enabled", "a": "b"}}));
    assert_eq!(ask(&pod_review("CREATE", &labelled)).2, Outcome::Patched);
    let mut deployment = object("Deployment", &pod_spec(""));
    deployment["spec"]["template"]["metadata"] =
        json!({"labels": {"k8s.twr.io/imageswap": "disabled"}});
    assert_eq!(
        ask(&review("apps", "Deployment", "CREATE", &deployment)).2,
        Outcome::Patched
    );
}

#[test]
fn an_object_of_no_use_is_allowed_unchanged() {
    for object in [
        json!(null),
        json!(7),
        json!([]),
        json!({}),
        json!({"spec": {"containers": "none"}}),
    ] {
        unchanged(&pod_review("CREATE", &object), Outcome::Skipped);
    }
    let mut review = pod_review("CREATE", &json!({}));
    review["request"].as_object_mut().unwrap().remove("object");
    let admission = admission(MAPS, &WebhookMetrics::new(&Exporter::new()));
    let (answer, ..) = decide(&admission, Webhook::Mutate, &review);
    assert_eq!(answer["response"], json!({"uid": "u-1", "allowed": true}));
}

#[test]
fn images_that_are_no_references_stay() {
    let spec = json!({"containers": [{"name": "c", "image": "NOT a reference"}, {"name": "e", "image": ""}]});
    unchanged(
        &pod_review("CREATE", &json!({"spec": spec})),
        Outcome::Unchanged,
    );
}

#[test]
fn images_are_counted_by_what_the_policy_names() {
    let exporter = Exporter::new();
    let metrics = WebhookMetrics::new(&exporter);
    metrics.set_registries(["quay.io"].into_iter());
    let review = pod_review("CREATE", &object("Pod", &pod_spec("")));
    admission(MAPS, &metrics)
        .answer(Webhook::Mutate, review.to_string().as_bytes())
        .body
        .unwrap();
    let text = exporter.render();
    for line in [
        r#"{decision="kept",approved="true",enforcement="audit",registry="quay.io"} 1"#,
        r#"{decision="swapped",approved="true",enforcement="audit",registry="other"} 4"#,
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
}
