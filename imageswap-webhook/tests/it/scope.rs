//! Labels of the namespace decide which policy applies; tests the answers while they are unknown.

use std::collections::BTreeMap;

use imageswap_lab::{ControlPlane, ControlPlaneOptions, require};
use imageswap_runtime::cluster::ClusterArgs;
use imageswap_runtime::source::{Namespaces, PullSecrets};
use imageswap_webhook::admit::Admission;
use imageswap_webhook::metrics::Webhook;
use serde_json::{Value, json};

use crate::client::{Server, TIMES, admission_by, decide, pod_review};

const POLICIES: &str = "
apiVersion: imageswap.io/v1alpha1
kind: ImageSwapPolicy
metadata: {name: corp}
spec:
  enforcement: ENFORCEMENT
  rules: [{name: hub, from: docker.io/**, to: registry.corp/hub}]
---
apiVersion: imageswap.io/v1alpha1
kind: ImageSwapPolicy
metadata: {name: exempt}
spec:
  priority: 10
  enforcement: audit
  match: {namespaceSelector: {matchLabels: {exempt: 'yes'}}}
  rules: [{name: all, keep: '**'}]
";

fn admission(enforcement: &str, labels: Option<&str>) -> Admission {
    let namespaces = match labels {
        None => Namespaces::unknown(),
        Some(value) => {
            let labels = BTreeMap::from([("exempt".to_owned(), value.to_owned())]);
            Namespaces::fixed([("shop".to_owned(), labels)])
        }
    };
    admission_of(enforcement, namespaces)
}

fn admission_of(enforcement: &str, namespaces: Namespaces) -> Admission {
    let text = POLICIES.replace("ENFORCEMENT", enforcement);
    admission_by(&text).with_cluster(namespaces, PullSecrets::unknown())
}

fn review(namespace: &str, container: &str, image: &str) -> Value {
    let pod =
        json!({"metadata": {}, "spec": {"containers": [{"name": container, "image": image}]}});
    let mut review = pod_review("CREATE", &pod);
    review["request"]["namespace"] = namespace.into();
    review
}

fn ask(admission: &Admission, webhook: Webhook, image: &str) -> Value {
    let (body, ..) = decide(admission, webhook, &review("shop", "app", image));
    body["response"].clone()
}

#[test]
fn unknown_labels_do_not_let_an_image_in() {
    let unknown = admission("deny", None);
    for image in ["evil.example.net/x", "nginx"] {
        let mutated = ask(&unknown, Webhook::Mutate, image);
        assert!(
            mutated["patch"].is_null() && mutated["allowed"] == true,
            "{mutated}"
        );
        let validated = ask(&unknown, Webhook::Validate, image);
        assert_eq!(validated["allowed"], false, "{image}: {validated}");
        let message = validated["status"]["message"].as_str().unwrap();
        assert!(
            message.contains(
                "policy exempt or corp decides, depending on the labels of the namespace"
            ),
            "{message}"
        );
        assert_eq!(validated["auditAnnotations"]["policy"], "exempt corp");
    }
    // Both policies leave it unchanged.
    let fine = ask(&unknown, Webhook::Validate, "registry.corp/hub/a");
    assert_eq!(fine["allowed"], true, "{fine}");
}

#[test]
fn the_strictest_policy_says_what_happens() {
    for (enforcement, allowed, warns) in [
        ("deny", false, false),
        ("warn", true, true),
        ("audit", true, false),
    ] {
        let response = ask(
            &admission(enforcement, None),
            Webhook::Validate,
            "evil.example.net/x",
        );
        assert_eq!(response["allowed"], allowed, "{enforcement}: {response}");
        assert_eq!(
            response["warnings"].is_array(),
            warns,
            "{enforcement}: {response}"
        );
    }
}

#[test]
fn known_labels_choose_the_policy() {
    for (label, image, allowed) in [
        ("yes", "evil.example.net/x", true),
        ("no", "evil.example.net/x", false),
        ("yes", "nginx", true),
        ("no", "registry.corp/hub/library/nginx", true),
    ] {
        let admission = admission("deny", Some(label));
        let response = ask(&admission, Webhook::Validate, image);
        assert_eq!(response["allowed"], allowed, "{label} {image}: {response}");
    }
    let mutated = |label| ask(&admission("deny", Some(label)), Webhook::Mutate, "nginx");
    assert!(!mutated("no")["patch"].is_null());
    // The audit policy only reports what it would do.
    assert!(mutated("yes")["patch"].is_null());
}

#[tokio::test]
async fn unknown_labels_are_refused_over_https() {
    let server = Server::start(TIMES, |_, _| admission("deny", None)).await;
    let review = review("shop", "app", "evil.example.net/x");
    let body = server.ask("/validate", &review).await;
    assert_eq!(body["response"]["allowed"], false, "{body}");
}

fn one(spec: &str) -> Admission {
    let text = format!(
        "apiVersion: imageswap.io/v1alpha1\nkind: ImageSwapPolicy\nmetadata: {{name: one}}\nspec: {spec}\n"
    );
    admission_by(&text)
}

#[test]
fn a_denial_has_the_message_of_its_entry() {
    let admission = one(
        "{message: general, rules: [{name: hub, from: docker.io/**, to: r.io/hub}, {keep: 'k.io/**'}], \
         denied: [{pattern: '**:latest', message: pin a version}, k.io/old/**]}",
    );
    let message = |image: &str| {
        let response = ask(&admission, Webhook::Validate, image);
        response["status"]["message"].as_str().map(str::to_owned)
    };
    let latest = message("k.io/a").unwrap();
    assert!(
        latest.starts_with(
            "container app: image k.io/a is denied by `denied[0]` (**:latest): pin a version; "
        ),
        "{latest}"
    );
    let old = message("k.io/old/a:1").unwrap();
    assert!(
        old.starts_with("general; container app: image k.io/old/a:1 is denied by `denied[1]`"),
        "{old}"
    );
    assert_eq!(message("k.io/a:1"), None);
    let mutated = ask(&admission, Webhook::Mutate, "nginx:1");
    assert!(!mutated["patch"].is_null());
}

#[test]
fn a_guard_looks_at_namespace_and_container() {
    let admission = one(
        "{rules: [{from: docker.io/**, to: r.io/app, namespaces: [shop], containers: [app]}, {from: docker.io/**, to: r.io/hub}]}",
    );
    let swapped = |container: &str, namespace: &str| {
        let review = review(namespace, container, "a/b");
        let (body, ..) = decide(&admission, Webhook::Mutate, &review);
        let swapped = &body["response"]["auditAnnotations"]["swapped"];
        swapped.as_str().unwrap().to_owned()
    };
    assert_eq!(swapped("app", "shop"), "app: a/b -> r.io/app/a/b");
    assert_eq!(swapped("app", "bank"), "app: a/b -> r.io/hub/a/b");
    assert_eq!(swapped("init", "shop"), "init: a/b -> r.io/hub/a/b");
}

/// How many requests for a namespace the API server got.
fn gets(plane: &ControlPlane) -> u64 {
    let metrics = plane.kubectl(["get", "--raw", "/metrics"]).unwrap();
    let of_one = |line: &&str| {
        line.starts_with("apiserver_request_total{")
            && line.contains("resource=\"namespaces\"")
            && line.contains("verb=\"GET\"")
            && line.contains("scope=\"resource\"")
            // Controllers use protobuf.
            && line.contains("contentType=\"application/json\"")
    };
    let counts = metrics.lines().filter(of_one);
    counts
        .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
        .sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_that_was_made_a_moment_ago_is_asked_about() {
    let options = ControlPlaneOptions::default();
    let mut plane = require!(ControlPlane::for_test("scope-namespaces", options));
    let args = ClusterArgs {
        kubeconfig: Some(plane.install_rights().unwrap()),
        context: None,
    };
    // Without a watch: no namespace is known yet.
    let namespaces = Namespaces::of_cluster(args.client().await.unwrap());
    let server = Server::start(TIMES, |_, _| admission_of("deny", namespaces.clone())).await;
    let allowed = async |namespace: &str, image: &str| {
        let review = review(namespace, "app", image);
        let body = server.ask("/validate", &review).await;
        body["response"]["allowed"].as_bool().unwrap()
    };
    for (name, label, expected) in [("new-exempt", "yes", true), ("new-corp", "no", false)] {
        let manifest = format!(
            "apiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}, labels: {{exempt: '{label}'}}}}\n"
        );
        plane.apply(&manifest).unwrap();
        assert_eq!(
            allowed(name, "evil.example.net/x").await,
            expected,
            "{name}"
        );
        assert!(allowed(name, "registry.corp/hub/a").await);
    }
    assert!(!allowed("no-such-namespace", "evil.example.net/x").await);

    // Concurrent callers wait for one answer.
    let before = gets(&plane);
    let asking = (0..40).map(|_| namespaces.learn("kube-public"));
    futures::future::join_all(asking).await;
    assert!(namespaces.labels("kube-public").is_some());
    assert_eq!(gets(&plane) - before, 1);

    plane.stop_apiserver();
    assert!(!allowed("kube-node-lease", "evil.example.net/x").await);
}
