//! `ifMissing: keep`: the webhook asks the registry of the result, and the image stays if that is missing.

use imageswap_lab::{Act, Image, Lab, Registry, ScriptedServer, answer, require};
use imageswap_policy::Policies;
use imageswap_registry::{Client, Mirrors};
use imageswap_runtime::drain::Drain;
use imageswap_runtime::metrics::Exporter;
use imageswap_runtime::source::PolicySource;
use imageswap_runtime::tls::Connector;
use imageswap_webhook::admit::{Admission, Answer, Unlearned};
use imageswap_webhook::caller::Caller;
use imageswap_webhook::http::Answers;
use imageswap_webhook::metrics::{Webhook, WebhookMetrics};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::client::{PATIENCE, Server, TIMES, patched, pod, pod_review, policies, take_note};

/// A policy whose rule for Docker Hub depends on what the registry has; `rest` is the end of its spec.
fn by_registry(registry: &str, rest: &str) -> Policies {
    let text = format!(
        "apiVersion: imageswap.io/v1alpha1\nkind: ImageSwapPolicy\nmetadata: {{name: corp}}\nspec:\n  \
         rules:\n  - {{name: sure, from: 'quay.io/**', to: '{registry}/quay'}}\n  \
         - {{name: hub, from: 'docker.io/**', to: '{registry}/hub', ifMissing: keep}}\n{rest}"
    );
    policies(&text)
}

/// Answers as usual, but waits longer for registries: on a busy machine, those of the tests take longer than a review
/// may.
struct Patient(Admission);

impl Answers for Patient {
    fn answer(&self, webhook: Webhook, body: &[u8], caller: &Caller) -> Result<Answer, Unlearned> {
        self.0.answer_to(caller, webhook, body)
    }

    async fn learn(&self, unlearned: &Unlearned, _until: Instant) {
        // Each time for a second at most, and not at all once the answers are known.
        for _ in 0..PATIENCE.as_secs() {
            self.0.learn(unlearned, Instant::now() + PATIENCE).await;
        }
    }
}

fn asking(policies: Policies, ca: &[u8], exporter: &Exporter) -> Admission {
    let client = Client::new(Connector::new(ca).unwrap(), [].into());
    Admission::new(PolicySource::fixed(policies), WebhookMetrics::new(exporter))
        .with_mirrors(Mirrors::new(client))
}

async fn serve(policies: Policies, ca: &[u8]) -> Server {
    let answers = |exporter: &Exporter, _: &Drain| Patient(asking(policies, ca, exporter));
    Server::start(TIMES, answers).await
}

/// Waits for registries as long as a review may.
async fn serve_hasty(policies: Policies, ca: &[u8]) -> Server {
    let answers = |exporter: &Exporter, _: &Drain| asking(policies, ca, exporter);
    Server::start(TIMES, answers).await
}

fn images(object: &Value) -> Vec<&str> {
    let containers = object["spec"]["containers"].as_array().unwrap();
    containers
        .iter()
        .map(|it| it["image"].as_str().unwrap())
        .collect()
}

/// Answers that nothing is there.
fn nothing(head: &str, _: &str) -> Act {
    if head.starts_with("HEAD") {
        return answer("404 Not Found", &[], "");
    }
    answer(
        "404 Not Found",
        &[],
        r#"{"errors":[{"code":"MANIFEST_UNKNOWN"}]}"#,
    )
}

#[test]
fn an_image_that_a_real_registry_lacks_stays() {
    let lab = require!(Lab::for_test("an_image_that_a_real_registry_lacks_stays"));
    let plain = Registry::start(&lab).unwrap();
    let image = Image::sleeper("mirrored").unwrap();
    plain.push(&image, "hub/library/nginx", "1").unwrap();
    let registry = plain.start_secure(&lab, false).unwrap();
    let name = registry.name();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let server = serve(by_registry(&name, ""), registry.ca_pem()).await;
        let review = pod_review("CREATE", &pod(&["nginx:1", "redis:7", "quay.io/a:1"]));
        let answer = server.ask("/mutate", &review).await;
        let mut object = patched(&review, &answer);
        let expected = [format!("{name}/hub/library/nginx:1"), "redis:7".to_owned(), format!("{name}/quay/a:1")];
        assert_eq!(images(&object), expected);
        let response = &answer["response"];
        let warning = format!(
            "container c1: image redis:7 stays as written, because {name} does not have {name}/hub/library/redis:7: copy it \
             there (policy corp, rule hub)"
        );
        assert_eq!(response["warnings"], json!([warning]));
        let audit = &response["auditAnnotations"];
        assert_eq!(audit["not-mirrored"], format!("c1: redis:7 -> {name}/hub/library/redis:7"));
        assert!(audit["swapped"].as_str().unwrap().contains("c0: nginx:1 -> "), "{audit}");

        // A second pass over the own answer changes nothing.
        let again = pod_review("CREATE", &object);
        let second = server.ask("/mutate", &again).await;
        assert!(second["response"]["patch"].is_null(), "{second}");
        let note = take_note(&mut object).unwrap();
        assert!(note.contains(r#""c1":{"image":"redis:7""#), "{note}");

        // Validation judges what stays.
        let verdict = server.ask("/validate", &again).await;
        let message = verdict["response"]["status"]["message"].as_str().unwrap();
        let says = format!(
            "container c1: image redis:7 is not approved: rule `hub` would replace it by {name}/hub/library/redis:7, which \
             {name} does not have: copy it there"
        );
        assert!(message.contains(&says) && !message.contains("c0"), "{message}");
        let approved = format!("  approved: ['{name}/**', 'docker.io/library/**']\n");
        let lenient = serve(by_registry(&name, &approved), registry.ca_pem()).await;
        let verdict = lenient.ask("/validate", &again).await;
        assert_eq!(verdict["response"]["allowed"], true, "{verdict}");

        // The metrics have it; the second pass counts, too.
        for line in [
            r#"imageswap_admission_images_total{decision="not-mirrored",approved="false",enforcement="deny",registry="other"} 2"#,
            r#"imageswap_admission_registry_answers_total{answer="present"} 1"#,
            r#"imageswap_admission_registry_answers_total{answer="missing"} 3"#,
            r#"imageswap_admission_registry_answers_total{answer="unknown"} 0"#,
        ] {
            server.until_metric(line).await;
        }
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_answer_images_are_swapped_as_usual() {
    for (what, script) in [
        (
            "an error",
            (|_, _| answer("500 Internal Server Error", &[], "")) as fn(&str, &str) -> Act,
        ),
        ("slow", |_, _| Act::Hang),
        ("refused", |_, _| answer("403 Forbidden", &[], "")),
        ("a proxy without a registry", |_, _| {
            answer("404 Not Found", &[], "")
        }),
        ("elsewhere", |_, _| {
            answer(
                "302 Found",
                &[("location", "https://evil.example.net/")],
                "",
            )
        }),
    ] {
        let registry = ScriptedServer::start(script).await.unwrap();
        let name = registry.name();
        let server = serve_hasty(by_registry(&name, ""), registry.ca_pem()).await;
        let review = pod_review("CREATE", &pod(&["nginx:1"]));
        let answer = server.ask("/mutate", &review).await;
        let object = patched(&review, &answer);
        assert_eq!(
            images(&object),
            [format!("{name}/hub/library/nginx:1")],
            "{what}"
        );
        assert!(answer["response"]["warnings"].is_null(), "{what}: {answer}");
        server
            .until_metric(r#"imageswap_admission_registry_answers_total{answer="unknown"} 1"#)
            .await;
        // What was swapped does not depend on the registry any more.
        let verdict = server
            .ask("/validate", &pod_review("CREATE", &object))
            .await;
        assert_eq!(verdict["response"]["allowed"], true, "{what}: {verdict}");
        // A Pod that was not swapped is refused, with the reason.
        let verdict = server.ask("/validate", &review).await;
        let message = verdict["response"]["status"]["message"].as_str().unwrap();
        assert!(
            message.contains("unless that is missing, which is not known: "),
            "{what}: {message}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_depends_on_a_registry_is_asked_about() {
    let registry = ScriptedServer::start(nothing).await.unwrap();
    let name = registry.name();
    let server = serve(by_registry(&name, ""), registry.ca_pem()).await;
    let there = format!("{name}/hub/a:1");
    let review = pod_review(
        "CREATE",
        &pod(&["quay.io/a:1", &there, "evil.example.net/x"]),
    );
    server.ask("/mutate", &review).await;
    assert!(registry.asked().is_empty(), "{:?}", registry.asked());
    // An image that the object has already, swapped, stays swapped: its registry had it then.
    let mut update = pod_review("UPDATE", &pod(&["nginx:1"]));
    update["request"]["oldObject"] = pod(&[&format!("{name}/hub/library/nginx:1")]);
    let answer = server.ask("/mutate", &update).await;
    let object = patched(&update, &answer);
    assert_eq!(images(&object), [format!("{name}/hub/library/nginx:1")]);
    assert!(registry.asked().is_empty(), "{:?}", registry.asked());
    update["request"]["oldObject"] = pod(&["nginx:0"]);
    let answer = server.ask("/mutate", &update).await;
    assert_eq!(images(&patched(&update, &answer)), ["nginx:1"]);
    assert_eq!(registry.asked().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn enforcement_decides_about_warnings_and_changes() {
    let registry = ScriptedServer::start(nothing).await.unwrap();
    let name = registry.name();
    for (enforcement, warnings, allowed) in [
        ("deny", true, false),
        ("warn", true, true),
        ("audit", false, true),
    ] {
        let rest = format!("  enforcement: {enforcement}\n");
        let server = serve(by_registry(&name, &rest), registry.ca_pem()).await;
        let review = pod_review("CREATE", &pod(&["nginx:1"]));
        let answer = server.ask("/mutate", &review).await;
        let response = &answer["response"];
        assert_eq!(images(&patched(&review, &answer)), ["nginx:1"]);
        assert_eq!(
            response["warnings"].is_array(),
            warnings,
            "{enforcement}: {answer}"
        );
        assert!(
            response["auditAnnotations"]["not-mirrored"].is_string(),
            "{answer}"
        );
        let verdict = server.ask("/validate", &review).await;
        assert_eq!(
            verdict["response"]["allowed"], allowed,
            "{enforcement}: {verdict}"
        );
    }
    // A template is judged by what its Pods become.
    let server = serve(by_registry(&name, ""), registry.ca_pem()).await;
    let mut review = pod_review("CREATE", &json!({"spec": {"template": pod(&["nginx:1"])}}));
    review["request"]["kind"] = json!({"group": "apps", "version": "v1", "kind": "Deployment"});
    let verdict = server.ask("/validate", &review).await;
    assert_eq!(verdict["response"]["allowed"], false, "{verdict}");
}

/// A review asks about some of its images only; the others are swapped as usual.
#[tokio::test(flavor = "multi_thread")]
async fn one_review_asks_a_bounded_number_of_questions() {
    let registry = ScriptedServer::start(nothing).await.unwrap();
    let name = registry.name();
    let server = serve(by_registry(&name, ""), registry.ca_pem()).await;
    let all: Vec<_> = (0..300).map(|it| format!("app:{it}")).collect();
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    let review = pod_review("CREATE", &pod(&all));
    let answer = server.ask("/mutate", &review).await;
    let object = patched(&review, &answer);
    let swapped = images(&object)
        .into_iter()
        .filter(|it| it.starts_with(&name))
        .count();
    assert!(swapped >= 300 - 64, "{swapped}");
    assert!(
        registry.asked().len() <= 2 * 64,
        "{}",
        registry.asked().len()
    );
}
