//! The note and image pull Secrets; a second pass has nothing to do.

use std::collections::HashSet;

use imageswap_policy::note::ANNOTATION;
use imageswap_runtime::source::{Namespaces, PullSecrets};
use imageswap_webhook::admit::Admission;
use imageswap_webhook::metrics::{Outcome, Webhook};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::client::{admission_by, decide, patched, pod_review, policies};

const POLICY: &str = "
apiVersion: imageswap.io/v1alpha1
kind: ImageSwapPolicy
metadata: {name: corp}
spec:
  rules:
    - {keep: 'kept.io/**'}
    - {from: 'quay.io/**', to: r.io/quay}
    - {from: '**', to: r.io}
  imagePullSecrets:
    - {registry: r.io, name: corp-pull}
    - {registry: kept.io, name: kept-pull}
    - {registry: kept.io, name: more-pull}
";

fn admission() -> Admission {
    let secrets = PullSecrets::fixed([
        ("corp-pull".to_owned(), HashSet::from(["ns1".to_owned()])),
        ("kept-pull".to_owned(), HashSet::new()),
    ]);
    admission_by(POLICY).with_cluster(Namespaces::unknown(), secrets)
}

fn mutate(review: &Value) -> (Value, Value, Outcome) {
    let (body, _, outcome) = decide(&admission(), Webhook::Mutate, review);
    (patched(review, &body), body, outcome)
}

fn note(object: &Value) -> Value {
    let text = object["metadata"]["annotations"][ANNOTATION].as_str();
    serde_json::from_str(text.unwrap_or("null")).unwrap()
}

fn entry(image: &str) -> Value {
    json!({"image": image, "revision": policies(POLICY).set_revision()})
}

#[test]
fn a_pod_is_told_what_its_images_were() {
    let spec = json!({
        "containers": [{"name": "web", "image": "nginx:1"}, {"name": "kept", "image": "kept.io/a"}],
        "initContainers": [{"name": "init", "image": "quay.io/x"}],
        "volumes": [{"name": "data", "image": {"reference": "quay.io/data"}}],
    });
    let review = pod_review(
        "CREATE",
        &json!({"metadata": {"annotations": {"a": "b"}}, "spec": spec}),
    );
    let (object, _, _) = mutate(&review);
    assert_eq!(object["metadata"]["annotations"]["a"], "b");
    let containers =
        json!({"web": entry("nginx:1"), "kept": entry("kept.io/a"), "init": entry("quay.io/x")});
    assert_eq!(note(&object), json!({"v": 1, "containers": containers}));
}

#[test]
fn an_update_notes_what_it_changes() {
    let spec = |image: &str| json!({"containers": [{"name": "a", "image": "r.io/library/a"}, {"name": "b", "image": image}]});
    let first = json!({"v": 1, "containers": {"a": entry("a"), "b": entry("b")}}).to_string();
    let metadata = json!({"annotations": {ANNOTATION: first}});
    let mut review = pod_review("UPDATE", &json!({"metadata": metadata, "spec": spec("c")}));
    review["request"]["oldObject"] = json!({"metadata": metadata, "spec": spec("r.io/library/b")});
    let (object, _, _) = mutate(&review);
    let containers = json!({"a": entry("a"), "b": entry("c")});
    assert_eq!(note(&object)["containers"], containers);
    assert_eq!(object["spec"]["containers"][1]["image"], "r.io/library/c");
}

#[test]
fn a_forged_note_is_replaced() {
    let containers = json!([{"name": "a", "image": "evil.io/x"}]);
    for text in [
        "no note",
        r#"{"v":9}"#,
        &json!({"v": 1, "containers": {"a": entry("r.io/evil"), "ghost": entry("x")}}).to_string(),
    ] {
        let metadata = json!({"annotations": {ANNOTATION: text}});
        let review = pod_review(
            "CREATE",
            &json!({"metadata": metadata, "spec": {"containers": containers}}),
        );
        let (object, _, _) = mutate(&review);
        assert_eq!(
            note(&object)["containers"],
            json!({"a": entry("evil.io/x")}),
            "{text}"
        );
    }
}

#[test]
fn pull_secrets_are_added_where_images_come_from_there() {
    let ask = |operation: &str, image: &str, present: Value| {
        let mut spec = json!({"containers": [{"name": "a", "image": image}]});
        if present != json!("missing") {
            spec["imagePullSecrets"] = present;
        }
        let review = pod_review(operation, &json!({"metadata": {"name": "x"}, "spec": spec}));
        let (object, body, _) = mutate(&review);
        let warnings = body["response"]["warnings"].clone();
        (object["spec"]["imagePullSecrets"].clone(), warnings)
    };
    let names = |names: &[&str]| {
        names
            .iter()
            .map(|it| json!({"name": it}))
            .collect::<Value>()
    };
    let (corp, silent) = (names(&["corp-pull"]), Value::Null);
    assert_eq!(
        ask("CREATE", "nginx", json!("missing")),
        (corp.clone(), silent.clone())
    );
    assert_eq!(
        ask("CREATE", "nginx", Value::Null),
        (corp.clone(), silent.clone())
    );
    assert_eq!(
        ask("CREATE", "r.io/x", names(&["own"])),
        (names(&["own", "corp-pull"]), silent.clone())
    );
    assert_eq!(ask("CREATE", "nginx", corp.clone()), (corp, silent.clone()));
    assert_eq!(
        ask("UPDATE", "nginx", json!("missing")),
        (Value::Null, silent)
    );
    let (present, warnings) = ask("CREATE", "kept.io/x", json!("missing"));
    assert_eq!(present, names(&["kept-pull", "more-pull"]));
    assert_eq!(
        warnings,
        json!(["images from kept.io need the Secret kept-pull, which namespace ns1 does not have"]),
        "and nothing about a Secret of which nothing is known"
    );
}

fn image() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z]{1,4}(:[0-9])?",
        "(quay\\.io|kept\\.io|r\\.io|evil\\.io|docker\\.io)/[a-z]{1,3}(/[a-z]{1,3})?(:[0-9])?",
        "\\PC{0,6}",
    ]
}

fn pod() -> impl Strategy<Value = Value> {
    let containers = prop::collection::vec(image(), 0..4);
    let note = prop::option::of(prop_oneof![
        Just("garbage".to_owned()),
        (image(), 0..4_usize).prop_map(|(image, at)| {
            let name = format!("c{at}");
            json!({"v": 1, "containers": {name: {"image": image, "revision": "x"}}}).to_string()
        }),
    ]);
    let secrets = prop_oneof![
        Just(json!(null)),
        Just(json!([])),
        Just(json!([{"name": "corp-pull"}])),
    ];
    (containers, note, secrets, any::<bool>()).prop_map(|(images, note, secrets, init)| {
        let list = images.iter().enumerate();
        let list: Vec<_> = list
            .map(|(at, image)| json!({"name": format!("c{at}"), "image": image}))
            .collect();
        let (first, rest) = list.split_at(if init { list.len() / 2 } else { 0 });
        let mut pod = json!({
            "metadata": {"name": "x"},
            "spec": {"initContainers": first, "containers": rest, "imagePullSecrets": secrets},
        });
        if let Some(note) = note {
            pod["metadata"]["annotations"] = json!({ANNOTATION: note});
        }
        pod
    })
}

proptest! {
    #[test]
    fn a_second_pass_finds_nothing_to_do(pod in pod()) {
        let (once, _, _) = mutate(&pod_review("CREATE", &pod));
        let (twice, body, outcome) = mutate(&pod_review("CREATE", &once));
        prop_assert_eq!(&twice, &once);
        prop_assert!(body["response"]["patch"].is_null(), "{}", body);
        prop_assert!(matches!(outcome, Outcome::Unchanged | Outcome::Skipped));
    }
}
