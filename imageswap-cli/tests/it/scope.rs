//! The commands' output while it is unknown which policy decides, and afterwards.

use crate::folder::{Folder, policy};
use serde_json::{Value, json};

const POLICIES: &str = "
apiVersion: imageswap.io/v1alpha1
kind: ImageSwapPolicy
metadata: {name: corp}
spec:
  rules: [{name: hub, from: docker.io/**, to: registry.corp/hub}]
---
apiVersion: imageswap.io/v1alpha1
kind: ImageSwapPolicy
metadata: {name: exempt}
spec:
  priority: 10
  match: {namespaceSelector: {matchLabels: {exempt: 'yes'}}}
  rules: [{name: all, keep: '**'}]
";

const POD: &str = "
apiVersion: v1
kind: Pod
metadata: {name: a, namespace: shop}
spec: {containers: [{name: app, image: evil.example.net/x}]}
";

fn folder() -> Folder {
    Folder::new(&[
        ("p.yaml", POLICIES),
        ("pod.yaml", POD),
        ("images", "evil.example.net/x\n"),
        (
            "new.yaml",
            &POLICIES.replace("registry.corp/hub", "registry.corp/new"),
        ),
    ])
}

const COMMANDS: [&str; 7] = [
    "explain --policy p.yaml --namespace shop evil.example.net/x",
    "explain --policy p.yaml --namespace shop -o json evil.example.net/x",
    "check --policy p.yaml -f pod.yaml",
    "check --policy p.yaml -f pod.yaml -o json",
    "rewrite --policy p.yaml -f pod.yaml",
    "images --policy p.yaml -f pod.yaml",
    "diff p.yaml new.yaml -f images --namespace shop",
];

#[test]
fn without_labels_no_command_says_that_an_image_is_fine() {
    let folder = folder();
    for command in COMMANDS {
        let ran = folder.run(command);
        let (code, stdout, stderr) = (ran.code(), ran.out(), ran.err());
        assert_eq!(code, Some(2), "{command}: {stdout}{stderr}");
        for part in [
            "`exempt` and `corp`",
            "--namespace-labels KEY=VALUE,...",
            "the labels of the namespace",
        ] {
            assert!(stderr.contains(part), "{command}: {part}: {stderr}");
        }
        for wrong in ["approved  yes", "\"approved\":true", "1 stays", "1 stay,"] {
            assert!(!stdout.contains(wrong), "{command}: {stdout}");
        }
        let manifests = command.contains("-f pod.yaml");
        assert_eq!(
            stderr.contains("or the manifest of the Namespace"),
            manifests,
            "{stderr}"
        );
    }
    let of = |answer: &Value, keys: &[&str]| {
        let values = keys.iter().map(|key| answer[key].clone());
        values.collect::<Value>()
    };
    let answer = folder.run(COMMANDS[3]).json();
    let found = of(&answer, &["reason", "finding", "approved"]);
    assert_eq!(found, json!(["scope-unknown", "scope-unknown", false]));
    let answer = folder.run(COMMANDS[1]).json();
    let found = of(
        &answer,
        &["candidates", "missing", "result", "approved", "reason"],
    );
    let missing = "the labels of the namespace";
    assert_eq!(
        found,
        json!([["exempt", "corp"], missing, null, false, "scope-unknown"])
    );
    let last = "1 image: 0 stay, 0 would be swapped, 0 not approved, 1 not decided";
    assert_eq!(folder.run(COMMANDS[2]).last_line(), last);
}

#[test]
fn with_labels_each_command_answers() {
    let folder = folder();
    for (labels, codes) in [
        ("exempt=yes", [0, 0, 0, 0, 0, 0, 0]),
        ("exempt=no", [0, 0, 1, 1, 1, 0, 0]),
    ] {
        for (command, code) in COMMANDS.iter().zip(codes) {
            let command = format!("{command} --namespace-labels {labels}");
            let ran = folder.run(&command);
            let (found, stdout, stderr) = (ran.code(), ran.out(), ran.err());
            assert_eq!(found, Some(code), "{command}: {stdout}{stderr}");
            assert!(!stderr.contains("depends on"), "{command}: {stderr}");
        }
    }
    let explain = |labels| {
        let answer = folder
            .run(&format!("{} --namespace-labels {labels}", COMMANDS[1]))
            .json();
        (answer["policy"].clone(), answer["approved"].clone())
    };
    assert_eq!(explain("exempt=yes"), ("exempt".into(), true.into()));
    assert_eq!(explain("exempt=no"), ("corp".into(), false.into()));
}

#[test]
fn the_manifest_of_the_namespace_tells_its_labels() {
    let folder = folder();
    for (labels, code) in [("{exempt: 'yes'}", 0), ("{}", 1)] {
        folder.write(
            "namespace.yaml",
            format!(
                "apiVersion: v1\nkind: Namespace\nmetadata: {{name: shop, labels: {labels}}}\n"
            ),
        );
        for command in [
            "check --policy p.yaml -f pod.yaml -f namespace.yaml",
            "rewrite --policy p.yaml -f pod.yaml -f namespace.yaml",
        ] {
            let ran = folder.run(command);
            let (found, stdout, stderr) = (ran.code(), ran.out(), ran.err());
            assert_eq!(found, Some(code), "{command} {labels}: {stdout}{stderr}");
        }
    }
    // Labels of another namespace do not help.
    let command = "check --policy p.yaml -f pod.yaml --namespace-labels bank:exempt=yes";
    assert_eq!(folder.run(command).code(), Some(2));
    let command = "check --policy p.yaml -f pod.yaml --namespace-labels shop:exempt=yes";
    assert_eq!(folder.run(command).code(), Some(0));
}

#[test]
fn a_guard_takes_the_name_of_the_container() {
    let folder = folder();
    let denied = "{pattern: 'evil.example.net/**', containers: ['app*'], message: never}";
    let spec = format!("{{rules: [{{keep: '**'}}], denied: [{denied}]}}");
    folder.write("p.yaml", policy("one", &spec));
    let ran = folder.run("explain --policy p.yaml --namespace shop evil.example.net/x nginx");
    let (code, stdout, stderr) = (ran.code(), ran.out(), ran.err());
    assert_eq!(code, Some(2), "{stdout}");
    assert!(
        stderr.contains("give --container NAME")
            && stderr.contains("not decided: evil.example.net/x"),
        "{stderr}"
    );
    assert!(
        stdout.contains("nginx") && !stdout.contains("evil"),
        "{stdout}"
    );
    let ran =
        folder.run("explain --policy p.yaml --namespace shop --container app evil.example.net/x");
    let (code, stdout) = (ran.code(), ran.out());
    assert_eq!(code, Some(0));
    assert!(
        stdout.contains("it stays and is denied by `denied[0]`"),
        "{stdout}"
    );
    assert!(stdout.contains("message   never"), "{stdout}");
    let ran = folder.run("check --policy p.yaml -f pod.yaml");
    let (code, stdout) = (ran.code(), ran.out());
    assert_eq!(code, Some(1));
    assert!(
        stdout.contains("`evil.example.net/x` is denied") && stdout.contains("message: never"),
        "{stdout}"
    );
}

#[test]
fn a_case_says_what_the_answer_depends_on() {
    let folder = folder();
    folder.write(
        "both.yaml",
        "- {policy: p.yaml, namespace: shop, image: evil.example.net/x, approved: true}\n",
    );
    let ran = folder.run("test both.yaml");
    let (code, stdout, stderr) = (ran.code(), ran.out(), ran.err());
    assert_eq!(code, Some(2), "{stdout}{stderr}");
    assert!(
        stderr.contains("which of the policies `exempt` and `corp` decides depends on the labels of the namespace: add `namespace_labels` to the case"),
        "{stderr}"
    );
    let ran = folder.run("test both.yaml --namespace-labels exempt=yes");
    let (code, stdout, stderr) = (ran.code(), ran.out(), ran.err());
    assert_eq!(code, Some(0), "{stdout}{stderr}");
    folder.write(
        "both.yaml",
        "- {policy: p.yaml, namespace: shop, namespace_labels: {exempt: 'yes'}, image: evil.example.net/x, approved: true}\n",
    );
    assert_eq!(folder.run("test both.yaml").code(), Some(0));
}
