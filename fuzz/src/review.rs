//! The API server's reviews: how they are read, and the patch that answers them.

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use imageswap_policy::{Policies, maps};
use imageswap_runtime::metrics::Exporter;
use imageswap_runtime::source::PolicySource;
use imageswap_webhook::admit::Admission;
use imageswap_webhook::metrics::{Webhook, WebhookMetrics};
use json_patch::{Patch, PatchOperation};
use serde::de::IgnoredAny;
use serde_json::Value;

use crate::Target;

/// See the module.
pub const TARGET: Target = Target {
    name: "review",
    check,
    seeds,
    words: &[
        "\"kind\":",
        "\"apiVersion\":",
        "\"AdmissionReview\"",
        "\"admission.k8s.io/v1\"",
        "\"request\":{",
        "\"uid\":\"u\"",
        "\"operation\":\"CREATE\"",
        "\"operation\":\"UPDATE\"",
        "\"subResource\":\"ephemeralcontainers\"",
        "\"namespace\":\"a\"",
        "\"object\":{",
        "\"oldObject\":{",
        "\"metadata\":{",
        "\"labels\":{\"a\":\"b\"}",
        "\"annotations\":{",
        "\"kubernetes.io/config.mirror\":\"x\"",
        "\"spec\":{",
        "\"template\":{",
        "\"jobTemplate\":{",
        "\"containers\":[",
        "\"initContainers\":[",
        "\"ephemeralContainers\":[",
        "\"volumes\":[",
        "\"name\":\"a\"",
        "\"image\":\"nginx\"",
        "\"image\":{\"reference\":\"a/b\"}",
        "null",
        "true",
        "-1.5e+9",
        "1e999",
        "[]",
        "{}",
        "\\u0041",
        "\\ud83d\\ude00",
        "\\ud83d",
        "\\\"",
        "\\/",
        "\\",
        "\u{e9}",
        "\u{1f600}",
        "\u{1}",
        "[[[[[[[[",
        "]]]]]]]]",
    ],
};

/// Where every image is sent.
const MIRROR: &str = "registry.example.com/m";

/// A member that the webhook's own reader leaves to serde_json, with all of the text.
const UNUSUAL: &str = r#"{"zz":"\ud83d\ude00","#;

/// Moves every image that can be moved.
static ADMISSION: LazyLock<Admission> = LazyLock::new(|| {
    let loaded = maps::load("maps", &format!("default::{MIRROR}\n")).expect("the text is sound");
    let policies = PolicySource::fixed(Policies::one(loaded.policy));
    Admission::new(policies, WebhookMetrics::new(&Exporter::new()))
});

fn check(text: &str) {
    let unusual = unusual(text);
    for webhook in [Webhook::Mutate, Webhook::Validate] {
        let answer = answer(webhook, text);
        if let Some(unusual) = &unusual {
            let other = self::answer(webhook, unusual);
            assert_eq!(answer, other, "by the way it is read: {text:?}");
        }
        let Some(answer) = answer else { continue };
        serde_json::from_str::<IgnoredAny>(text)
            .unwrap_or_else(|error| panic!("not JSON, but answered: {error}: {text:?}"));
        let answer: Value = serde_json::from_str(&answer)
            .unwrap_or_else(|error| panic!("{error}: {answer:?} to {text:?}"));
        // A number may be too large for a `Value`, and the last of several members counts in one.
        let Ok(review) = serde_json::from_str::<Value>(text) else {
            continue;
        };
        let response = &answer["response"];
        assert_eq!(response["uid"], review["request"]["uid"], "{text:?}");
        assert!(response["allowed"].is_boolean(), "{text:?}");
        if let Some(patch) = response["patch"].as_str() {
            assert_eq!(webhook, Webhook::Mutate, "{text:?}");
            patched(text, review, patch);
        }
    }
}

/// The answer's text; `None` if the text is not a review.
fn answer(webhook: Webhook, text: &str) -> Option<String> {
    let body = ADMISSION.answer(webhook, text.as_bytes()).body.ok()?;
    Some(String::from_utf8(body).unwrap_or_else(|error| panic!("{error}: {text:?}")))
}

/// The same review, with [`UNUSUAL`] at its beginning.
fn unusual(text: &str) -> Option<String> {
    let rest = text
        .trim_start_matches([' ', '\t', '\r', '\n'])
        .strip_prefix('{')?;
    Some(format!("{UNUSUAL}{rest}"))
}

/// Checks that a patch changes images and the note alone, and that the review of the result changes no
/// image. It may change the note if containers share a name, which the API server refuses.
fn patched(text: &str, mut review: Value, patch: &str) {
    let patch = read(text, patch);
    let object = &mut review["request"]["object"];
    json_patch::patch(object, &patch).unwrap_or_else(|error| panic!("{error}: {text:?}"));
    let again = review.to_string();
    let answer = answer(Webhook::Mutate, &again).expect("it was a review before");
    let answer: Value = serde_json::from_str(&answer).expect("it was JSON before");
    if let Some(patch) = answer["response"]["patch"].as_str() {
        let mut changes = read(&again, patch).0.into_iter();
        assert!(changes.all(|it| is_of_note(&it)), "{again:?}: {answer}");
    }
}

fn is_of_note(operation: &PatchOperation) -> bool {
    operation
        .path()
        .as_str()
        .starts_with("/metadata/annotations")
}

/// The patch, each of whose operations sends an image to the mirror or writes the note.
fn read(text: &str, patch: &str) -> Patch {
    let decoded = STANDARD.decode(patch).expect("the patch is base64");
    let patch: Patch = serde_json::from_slice(&decoded).expect("the patch is a JSON patch");
    for operation in patch.0.iter().filter(|it| !is_of_note(it)) {
        let PatchOperation::Replace(it) = operation else {
            panic!("{operation:?}: {text:?}");
        };
        let field = it.path.as_str();
        let is_image = field.ends_with("/image") || field.ends_with("/image/reference");
        let is_sent = it.value.as_str().is_some_and(|it| it.starts_with(MIRROR));
        assert!(is_image && is_sent, "{operation:?}: {text:?}");
    }
    patch
}

fn seeds() -> Vec<String> {
    let review = |request: &str| {
        format!(
            r#"{{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{{"uid":"0a-b1",{request}}}}}"#
        )
    };
    [
        r#""kind":{"group":"","version":"v1","kind":"Pod"},"name":"a","namespace":"shop","operation":"CREATE",
        "userInfo":{"username":"jane","groups":["a","b"]},"object":{"kind":"Pod","metadata":{"name":"a","labels":{"a":"b"},
        "annotations":{"x":"\"y\\"}},"spec":{"initContainers":[{"name":"i","image":"busybox"}],"containers":[{"name":"web",
        "image":"nginx:1.27","env":[{"name":"A","value":"\n\u00e9"}],"ports":[{"containerPort":80}]},{"name":"side",
        "image":"quay.io/a/b@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"}],
        "volumes":[{"name":"v","image":{"reference":"quay.io/a/data:1"}}],"terminationGracePeriodSeconds":-1.5e1}},
        "oldObject":null,"dryRun":false"#,
        r#""kind":{"group":"apps","version":"v1","kind":"Deployment"},"operation":"UPDATE","object":{"spec":{"template":
        {"metadata":{"labels":{}},"spec":{"containers":[{"name":"a","image":"nginx"}]}}}},"oldObject":{"spec":{"template":
        {"spec":{"containers":[{"name":"a","image":"registry.example.com/m/nginx"}]}}}}"#,
        r#""kind":{"group":"batch","version":"v1","kind":"CronJob"},"operation":"CREATE","object":{"spec":{"jobTemplate":
        {"spec":{"template":{"spec":{"containers":[{"image":"nginx"},{"image":"a b"},{"image":""},{}]}}}}}}"#,
        r#""kind":{"kind":"Pod"},"subResource":"ephemeralcontainers","operation":"UPDATE","object":{"spec":{
        "ephemeralContainers":[{"name":"d","image":"busybox"}],"containers":[]}},"oldObject":{"spec":{"containers":[]}}"#,
        r#""kind":{"kind":"Pod"},"operation":"CREATE","object":{"spec":{"containers":[{"image":"nginx","image":"x"}]}}"#,
        r#""kind":{"kind":"Pod"},"operation":"CREATE","object":{"spec":{"containers":[{"image":"a"}],"initContainers":[{
        "image":"b"}]}}"#,
        r#""kind":{"kind":"Pod"},"operation":"DELETE","object":null,"oldObject":{"spec":{"containers":[{"image":"a"}]}}"#,
    ]
    .map(review)
    .into()
}
