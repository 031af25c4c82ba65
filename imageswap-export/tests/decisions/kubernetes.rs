//! On the admission machinery of Kubernetes: the same plugins as in an API server, without one.

use crate::expected::selected;
use crate::generate::{Pod, cases, sets};
use crate::{Actual, Exported, check_coverage, check_places, compare, exported};
use imageswap_lab::{Assets, skip};
use imageswap_policy::note::{ANNOTATION, Note};
use serde_json::{Value, json};
use std::io::Write;
use std::process::{Command, Stdio};

/// Sends lines to `kube-apiserver evaluate`, and returns its answers.
pub(crate) fn evaluate(test: &str, lines: &[Value]) -> Option<Vec<Value>> {
    let assets = match Assets::find_current() {
        Ok(assets) => assets,
        Err(why) => {
            skip(test, &why.to_string());
            return None;
        }
    };
    if !assets.folder().join("evaluation.go").exists() {
        skip(
            test,
            "the API server of KUBEBUILDER_ASSETS evaluates no policies by itself",
        );
        return None;
    }
    let mut child = Command::new(assets.program("kube-apiserver"))
        .arg("evaluate")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input: Vec<_> = lines.iter().map(|it| format!("{it}\n")).collect();
    let input = input.concat();
    let writer = std::thread::spawn(move || stdin.write_all(input.as_bytes()));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    assert!(output.status.success(), "{}", output.status);
    let answers = String::from_utf8(output.stdout).unwrap();
    let answers: Vec<Value> = answers
        .lines()
        .map(|it| serde_json::from_str(it).unwrap())
        .collect();
    assert_eq!(answers.len(), lines.len());
    Some(answers)
}

/// The request that a Pod comes with; a second pass must change nothing.
pub(crate) fn request(pod: &Pod) -> Value {
    let mut request =
        json!({"object": pod.object(&pod.images), "operation": "CREATE", "again": true});
    if let Some(stored) = &pod.stored {
        request["operation"] = json!("UPDATE");
        request["oldObject"] = pod.object(stored);
    }
    request
}

#[test]
fn kubernetes_decides_as_the_policy() {
    // 2,000 pairs.
    let exported = exported(cases(250, 8));
    if let Some(same) = decide("kubernetes_decides_as_the_policy", &exported) {
        check_coverage(&exported, same);
    }
}

#[test]
fn kubernetes_lets_the_first_policy_that_applies_decide() {
    let exported = exported(sets(80, 10));
    let test = "kubernetes_lets_the_first_policy_that_applies_decide";
    if let Some(same) = decide(test, &exported) {
        check_places(&exported, same);
    }
}

/// Sends all Pods through admission, and compares; returns how many outcomes are the same. `None` if
/// `test` is skipped.
fn decide(test: &str, exported: &[Exported]) -> Option<usize> {
    let lines: Vec<_> = exported
        .iter()
        .map(|it| {
            let requests: Vec<_> = it.case.pods.iter().map(request).collect();
            json!({"objects": it.objects, "requests": requests})
        })
        .collect();
    let answers = evaluate(test, &lines)?;
    let mut same = 0;
    for (exported, answers) in exported.iter().zip(&answers) {
        for (pod, answer) in exported.case.pods.iter().zip(answers.as_array().unwrap()) {
            let actual = actual(exported, pod, answer);
            same += usize::from(compare(exported, pod, &actual));
        }
    }
    Some(same)
}

fn actual(exported: &Exported, pod: &Pod, answer: &Value) -> Actual {
    let object = &answer["object"];
    let images = pod.images.iter().map(|(list, name, _)| {
        let items = object["spec"][list].as_array().unwrap();
        let item = items.iter().find(|it| it["name"] == json!(name)).unwrap();
        let image = if *list == "volumes" {
            &item["image"]["reference"]
        } else {
            &item["image"]
        };
        image.as_str().unwrap().to_owned()
    });
    let secrets = object["spec"]["imagePullSecrets"]
        .as_array()
        .into_iter()
        .flatten();
    let mut secrets: Vec<_> = secrets
        .map(|it| it["name"].as_str().unwrap().to_owned())
        .collect();
    secrets.sort();
    let message = answer["message"].as_str().unwrap_or_default();
    assert!(
        answer["mutating"] != json!(true) && !message.contains("expression"),
        "{} {answer}",
        exported.case.text
    );
    let warned = answer["warnings"]
        .as_array()
        .is_some_and(|it| !it.is_empty());
    let noted = answer["audit"]
        .as_object()
        .is_some_and(|it| it.keys().any(|it| it.contains("validation_failure")));
    let images = images.collect();
    check_note(exported, pod, object, answer);
    Actual {
        images,
        fails: answer["allowed"] == json!(false) || warned || noted,
        secrets,
    }
}

/// The note has an entry for each container that was decided, which explains its image as the
/// agent demands it.
fn check_note(exported: &Exported, pod: &Pod, object: &Value, answer: &Value) {
    let selected = selected(&exported.case.without_exceptions, pod);
    let Some(note) = object["metadata"]["annotations"][ANNOTATION].as_str() else {
        return;
    };
    assert!(selected.swaps(), "{answer}");
    let note = Note::parse(note).unwrap();
    // The revision is that of the policy with its exceptions.
    let mut policies = exported.case.policies.iter();
    let name = selected.policy().unwrap().name();
    let policy = policies.find(|it| it.name() == name).unwrap();
    for (list, name, image) in &pod.images {
        let Some(entry) = note.get(name).filter(|_| *list != "volumes") else {
            continue;
        };
        let items = object["spec"][list].as_array().unwrap();
        let now = items.iter().find(|it| it["name"] == json!(name)).unwrap()["image"]
            .as_str()
            .unwrap();
        let original = pod.stored.is_none() && entry.image == *image;
        assert!(original || pod.stored.is_some(), "{answer}");
        assert!(
            !exported.exact || entry.explains(&selected.in_container(Some(name)), now),
            "{answer}"
        );
        assert_eq!(entry.revision, policy.revision());
    }
}

/// The expressions of the variables, too: a policy whose validation reads the last ones.
#[test]
fn kubernetes_finds_no_mistake_in_types() {
    let mut lines: Vec<Value> = Vec::new();
    for it in exported(cases(20, 1)) {
        lines.push(json!({"objects": it.objects, "check": true}));
        let find = |kind: &str| {
            it.objects
                .iter()
                .find(|it| it["kind"] == json!(kind))
                .cloned()
        };
        let Some(mutating) = find("MutatingAdmissionPolicy") else {
            continue;
        };
        let mut as_validating = find("ValidatingAdmissionPolicy").unwrap();
        as_validating["spec"]["variables"] = mutating["spec"]["variables"].clone();
        as_validating["spec"]["validations"] =
            json!([{"expression": "size(variables.swaps) > 0 && variables.note != ''"}]);
        lines.push(json!({"objects": [as_validating], "check": true}));
    }
    let count = lines.len();
    let mut broken = lines[0].clone();
    for object in broken["objects"].as_array_mut().unwrap() {
        if object["kind"] == json!("ValidatingAdmissionPolicy") {
            object["spec"]["validations"][0]["expression"] = json!("object.spec.nothing == 1");
        }
    }
    lines.push(broken);
    let Some(answers) = evaluate("kubernetes_finds_no_mistake_in_types", &lines) else {
        return;
    };
    for (answer, line) in answers.iter().zip(&lines).take(count) {
        assert_eq!(answer[0]["allowed"], json!(true), "{answer}\n{line}");
    }
    assert_eq!(answers[count][0]["allowed"], json!(false));
}
