//! What users of an API server can make it send to the webhook.

use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use imageswap_lab::hostile::Webhook;
use imageswap_lab::{ControlPlane, ControlPlaneOptions, is_root, require, skip};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{
    Api, ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams, PostParams,
};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::{PATIENCE, container, one_at_a_time, program};

/// How long users send large objects.
const LARGE: Duration = Duration::from_secs(5);
/// The API server makes them one by one anyway.
const USERS: usize = 12;

/// Objects of a megabyte and more, thousands of containers, updates of such, and policies of 400 regexes.
#[test]
fn small_pods_are_made_while_large_objects_come_through_an_api_server() {
    const TEST: &str = "small_pods_are_made_while_large_objects_come_through_an_api_server";
    if !is_root() {
        skip(TEST, "a memory limit needs root");
        return;
    }
    let _one = one_at_a_time();
    let cluster = require!(ControlPlane::for_test(TEST, ControlPlaneOptions::default()));
    let mut webhook = Webhook::start(&program(), &container()).unwrap();
    cluster.install_definition().unwrap();
    cluster.apply(&configurations(&webhook)).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (made, answers) = runtime.block_on(async {
        let client = cluster.client().await.unwrap();
        let pods = Api::default_namespaced(client.clone());
        let kind = GroupVersionKind::gvk("imageswap.io", "v1alpha1", "ImageSwapPolicy");
        let kind = ApiResource::from_gvk_with_plural(&kind, "imageswappolicies");
        ask(&pods, &Api::all_with(client, &kind)).await
    });
    let memory = webhook.memory().unwrap();
    println!(
        "{made} small Pods beside {} large requests, {memory:?}",
        answers.len()
    );
    assert!(made > 0, "no small Pod was made");
    for what in ["containers", "update", "policy"] {
        let came = answers.iter().filter(|it| it.what == what);
        assert!(came.clone().count() > 0, "nothing of {what} was sent");
        let unanswered: Vec<_> = came.filter(|it| !it.answered).collect();
        assert!(unanswered.is_empty(), "{unanswered:#?}");
    }
    assert_eq!((memory.limit_reached, memory.killed), (0, 0), "{memory:?}");
    assert_eq!(webhook.ended(), None);
}

/// What a large request came to.
#[derive(Debug)]
struct Asked {
    what: &'static str,
    /// Whether the webhook gave an answer, of whatever kind.
    answered: bool,
    #[expect(dead_code, reason = "shown where the test fails")]
    message: String,
}

impl Asked {
    fn new<T>(what: &'static str, result: Result<T, kube::Error>) -> Self {
        let message = result
            .err()
            .map_or(String::new(), |error| error.to_string());
        Self {
            what,
            // What the API server says when a webhook does not answer.
            answered: !message.contains("failed calling webhook"),
            message,
        }
    }
}

/// How many small Pods were made, and what large requests came to meanwhile.
async fn ask(pods: &Api<Pod>, policies: &Api<DynamicObject>) -> (usize, Vec<Asked>) {
    // The only object that is kept: others are dry runs.
    let kept = pod("kept", 900, 500);
    pods.create(&PostParams::default(), &kept).await.unwrap();

    let until = Instant::now() + LARGE;
    let mut large = JoinSet::new();
    for user in 0..USERS {
        let (pods, policies) = (pods.clone(), policies.clone());
        large.spawn(async move {
            let (huge, policy) = (pod("huge", 8000, 0), policy());
            let mut asked = Vec::new();
            while Instant::now() < until {
                asked.push(match user % 3 {
                    0 => Asked::new("containers", pods.create(&dry_run(), &huge).await),
                    1 => {
                        let label =
                            json!({"metadata": {"labels": {"at": asked.len().to_string()}}});
                        let (params, patch) = (PatchParams::default(), Patch::Merge(&label));
                        Asked::new("update", pods.patch("kept", &params, &patch).await)
                    }
                    _ => Asked::new("policy", policies.create(&dry_run(), &policy).await),
                });
            }
            asked
        });
    }
    let mut made = 0;
    while Instant::now() < until {
        let small = pods.create(&dry_run(), &pod("small", 1, 0)).await.unwrap();
        let image = &small.spec.unwrap().containers[0].image;
        let image = image.as_deref().unwrap_or_default();
        assert!(image.starts_with("registry.example.com/hub/"), "{image}");
        made += 1;
    }
    (made, large.join_all().await.into_iter().flatten().collect())
}

fn dry_run() -> PostParams {
    PostParams {
        dry_run: true,
        ..PostParams::default()
    }
}

/// A Pod with so many containers, each with so many bytes beside.
fn pod(name: &str, containers: usize, bytes: usize) -> Pod {
    let containers: Vec<_> = (0..containers)
        .map(|at| {
            let env = [json!({"name": "V", "value": "v".repeat(bytes)})];
            json!({"name": format!("c{at}"), "image": "nginx:1", "env": env})
        })
        .collect();
    let pod: Value = json!({"metadata": {"name": name}, "spec": {"containers": containers}});
    serde_json::from_value(pod).unwrap()
}

/// A policy that takes as long to compile as one may.
fn policy() -> DynamicObject {
    let rules: Vec<_> = (0..400)
        .map(|at| {
            let regex = format!(r"^r{at}\.io/([a-z0-9]{{1,200}})/(.{{0,400}})$");
            json!({"name": format!("r{at}"), "regex": regex, "to": "m.example.com/$1"})
        })
        .collect();
    let policy = json!({
        "apiVersion": "imageswap.io/v1alpha1",
        "kind": "ImageSwapPolicy",
        "metadata": {"name": "large"},
        "spec": {"rules": rules},
    });
    serde_json::from_value(policy).unwrap()
}

fn configurations(webhook: &Webhook) -> String {
    let configuration = |kind: &str, path: &str, group: &str, version: &str, resource: &str| {
        json!({
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": kind,
            "metadata": {"name": "tried"},
            "webhooks": [{
                "name": "tried.imageswap.io",
                "clientConfig": {
                    "url": format!("https://{}{path}", webhook.https()),
                    "caBundle": STANDARD.encode(webhook.ca().unwrap()),
                },
                "rules": [{
                    "apiGroups": [group], "apiVersions": [version], "resources": [resource],
                    "operations": ["CREATE", "UPDATE"],
                }],
                "failurePolicy": "Fail",
                "sideEffects": "None",
                "timeoutSeconds": PATIENCE.as_secs(),
                "admissionReviewVersions": ["v1"],
            }],
        })
    };
    let pods = configuration("MutatingWebhookConfiguration", "/mutate", "", "v1", "pods");
    let policies = configuration(
        "ValidatingWebhookConfiguration",
        "/validate-policy",
        "imageswap.io",
        "v1alpha1",
        "imageswappolicies",
    );
    format!("{pods}\n{policies}")
}
