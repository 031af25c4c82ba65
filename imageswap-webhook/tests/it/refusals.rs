//! Messages for people: denials, warnings, and reasons why a policy was refused.

use imageswap_webhook::metrics::{Outcome, Webhook};
use serde_json::{Value, json};

use crate::client::{self, admission_by, decide, pod_review};

fn ask(webhook: Webhook, spec: &str, review: &Value) -> (Value, Outcome) {
    let text = format!(
        "{{apiVersion: imageswap.io/v1alpha1, kind: ImageSwapPolicy, metadata: {{name: corp}}, spec: {{{spec}}}}}"
    );
    let (body, _, outcome) = decide(&admission_by(&text), webhook, review);
    (body["response"].clone(), outcome)
}

fn pod(images: &[&str]) -> Value {
    pod_review("CREATE", &client::pod(images))
}

#[test]
fn a_denial_says_which_why_and_what_to_do() {
    let rules = "rules: [{name: hub, from: 'docker.io/**', to: r.io/hub}], message: Registry is not allowed";
    let message = |images: &[&str]| {
        let (response, _) = ask(Webhook::Validate, rules, &pod(images));
        response["status"]["message"].as_str().unwrap().to_owned()
    };
    assert_eq!(
        message(&["r.io/hub/a", "evil.io/x:1"]),
        "Registry is not allowed; container c1: image evil.io/x:1 is not approved: no rule matches; policy corp \
         approves r.io/hub/**: use an image from there, or request an exception"
    );
    assert_eq!(
        message(&["nginx"]),
        "Registry is not allowed; container c0: image nginx is not approved: rule `hub` replaces it by \
         r.io/hub/library/nginx, which has not happened; is the mutating webhook there?; policy corp approves \
         r.io/hub/**: use an image from there, or request an exception"
    );
    assert!(message(&["NOT a reference"]).contains("it is not an image reference"));
    let many = message(&["evil.io/x"; 50]);
    assert!(
        many.contains("container c4: ") && many.contains("; and 45 more; "),
        "{many}"
    );
    assert!(!many.contains("container c5: "), "{many}");
}

#[test]
fn a_warning_is_one_for_each_image() {
    let rules = "rules: [{keep: 'r.io/**'}], enforcement: warn";
    let (response, outcome) = ask(
        Webhook::Validate,
        rules,
        &pod(&["evil.io/x", "r.io/a", "evil.io/y"]),
    );
    assert_eq!(
        (&response["allowed"], outcome),
        (&json!(true), Outcome::Warned)
    );
    assert_eq!(
        response["warnings"],
        json!([
            "container c0: image evil.io/x is not approved: no rule matches (policy corp)",
            "container c2: image evil.io/y is not approved: no rule matches (policy corp)",
        ])
    );
}

#[test]
fn warnings_and_annotations_stay_short() {
    let rules = "rules: [{from: 'docker.io/**', to: r.io}], enforcement: warn";
    let review = pod(&["nginx"; 900]);
    let (response, _) = ask(Webhook::Validate, rules, &review);
    let warnings = response["warnings"].as_array().unwrap();
    assert_eq!(warnings.len(), 10);
    assert_eq!(
        warnings[9],
        "891 more images are not approved (policy corp)"
    );
    for (webhook, key) in [
        (Webhook::Mutate, "swapped"),
        (Webhook::Validate, "not-approved"),
    ] {
        let (response, _) = ask(webhook, rules, &review);
        let text = response["auditAnnotations"][key].as_str().unwrap();
        assert!(text.len() < 6 << 10, "{}", text.len());
        assert!(text.contains(", and ") && text.ends_with(" more"), "{text}");
    }
}

/// A list that is too long is refused, if the policy refuses or swaps at all.
#[test]
fn lists_that_are_not_read_to_their_end() {
    let item = |at: usize| json!({"name": format!("c{at}"), "image": "r.io/x"});
    let items = |count: usize| (0..count).map(item).collect::<Vec<_>>();
    let volumes = |count: usize| {
        let volume = |at: usize| json!({"name": format!("v{at}"), "emptyDir": {}});
        (0..count).map(volume).collect::<Vec<_>>()
    };
    let labels = |count: usize| {
        let label = |at: usize| (format!("l{at}"), json!("x"));
        (0..count).map(label).collect::<serde_json::Map<_, _>>()
    };
    let of = |count: usize| {
        [
            ("containers", json!({"spec": {"containers": items(count)}})),
            (
                "initContainers",
                json!({"spec": {"containers": items(1), "initContainers": items(count)}}),
            ),
            (
                "ephemeralContainers",
                json!({"spec": {"containers": items(1), "ephemeralContainers": items(count)}}),
            ),
            (
                "volumes",
                json!({"spec": {"containers": items(1), "volumes": volumes(count)}}),
            ),
            (
                "labels",
                json!({"metadata": {"labels": labels(count)}, "spec": {"containers": items(1)}}),
            ),
        ]
    };
    let rules =
        |enforcement: &str| format!("rules: [{{keep: 'r.io/**'}}], enforcement: {enforcement}");
    let template = |review: &Value, wrap: fn(Value) -> Value, kind: &str| {
        let mut review = review.clone();
        let object = review["request"]["object"].take();
        review["request"]["object"] = json!({"spec": wrap(object)});
        review["request"]["kind"] = json!({"group": "apps", "version": "v1", "kind": kind});
        review
    };
    for (list, object) in of(1000) {
        for webhook in [Webhook::Mutate, Webhook::Validate] {
            let (response, _) = ask(webhook, &rules("deny"), &pod_review("CREATE", &object));
            assert_eq!(response["allowed"], true, "{list} {response}");
        }
    }
    for (list, object) in of(1001) {
        let review = pod_review("CREATE", &object);
        let deployment = template(&review, |it| json!({"template": it}), "Deployment");
        let cron = |it| json!({"jobTemplate": {"spec": {"template": it}}});
        let cron = template(&review, cron, "CronJob");
        let said = format!("the object has more than 1000 {list}, ");
        for (webhook, enforcement, outcome) in [
            (Webhook::Mutate, "deny", Outcome::Denied),
            (Webhook::Mutate, "warn", Outcome::Denied),
            (Webhook::Mutate, "audit", Outcome::Unchanged),
            (Webhook::Validate, "deny", Outcome::Denied),
            (Webhook::Validate, "warn", Outcome::Warned),
            (Webhook::Validate, "audit", Outcome::Unchanged),
        ] {
            for review in [&review, &deployment, &cron] {
                let (response, found) = ask(webhook, &rules(enforcement), review);
                assert_eq!(
                    found, outcome,
                    "{webhook:?} {enforcement} {list} {response}"
                );
                let text = match outcome {
                    Outcome::Denied => &response["status"]["message"],
                    Outcome::Warned => &response["warnings"][0],
                    _ => continue,
                };
                assert!(text.as_str().unwrap().starts_with(&said), "{text}");
            }
        }
    }
}

#[test]
fn the_audit_log_has_it_all() {
    let rules = "rules: [{from: 'docker.io/**', to: r.io}], enforcement: warn";
    let review = pod(&["nginx", "evil.io/x"]);
    let (mutated, _) = ask(Webhook::Mutate, rules, &review);
    let audit = &mutated["auditAnnotations"];
    assert_eq!(audit["policy"], "corp");
    assert_eq!(audit["swapped"], "c0: nginx -> r.io/library/nginx");
    let (validated, _) = ask(Webhook::Validate, rules, &review);
    assert_eq!(
        validated["auditAnnotations"]["not-approved"],
        "c0: nginx, c1: evil.io/x"
    );
    assert_eq!(validated["auditAnnotations"]["revision"], audit["revision"]);
}

#[test]
fn a_policy_that_does_not_load_is_refused() {
    let review = |kind: &str, group: &str, operation: &str, object: &Value| {
        let mut review = pod_review(operation, object);
        review["request"]["kind"] = json!({"group": group, "version": "v1alpha1", "kind": kind});
        review
    };
    let policy =
        |spec: Value| json!({"metadata": {"name": "new", "managedFields": []}, "spec": spec});
    let ask = |review: &Value| ask(Webhook::Policy, "rules: []", review);
    let isp = |operation: &str, spec: Value| {
        ask(&review(
            "ImageSwapPolicy",
            "imageswap.io",
            operation,
            &policy(spec),
        ))
    };

    let good = json!({"rules": [{"keep": "r.io/**"}]});
    assert_eq!(isp("CREATE", good).1, Outcome::Unchanged);
    let bad = json!({"rules": [{"from": "docker.io/**", "to": "hub"}], "enforcment": "deny"});
    let (response, outcome) = isp("UPDATE", bad.clone());
    assert_eq!(outcome, Outcome::Denied);
    let message = response["status"]["message"].as_str().unwrap();
    assert!(
        message.starts_with("ImageSwapPolicy new does not load:\n"),
        "{message}"
    );
    assert!(
        message.contains("\nspec.enforcment: error[unknown-field]: "),
        "{message}"
    );
    assert_eq!(isp("DELETE", bad.clone()).1, Outcome::Skipped);
    let mut deleting = policy(bad.clone());
    deleting["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    let update = review("ImageSwapPolicy", "imageswap.io", "UPDATE", &deleting);
    assert_eq!(ask(&update).1, Outcome::Skipped);
    let forged = review("ImageSwapPolicy", "imageswap.io", "CREATE", &deleting);
    assert_eq!(ask(&forged).1, Outcome::Denied);
    // Another group's kind of that name.
    assert_eq!(
        ask(&review(
            "ImageSwapPolicy",
            "example.com",
            "CREATE",
            &policy(bad)
        ))
        .1,
        Outcome::Skipped
    );
}
