//! The commands' output while it is unknown which policy decides, and afterwards.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

use serde_json::{Value, json};
use std::fs;
use std::process::{Command, Output};

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

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        folder.write("p.yaml", POLICIES);
        folder.write("pod.yaml", POD);
        folder.write("images", "evil.example.net/x\n");
        folder.write(
            "new.yaml",
            &POLICIES.replace("registry.corp/hub", "registry.corp/new"),
        );
        folder
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.0.path().join(name), text).unwrap();
    }

    fn run(&self, command: &str) -> (Option<i32>, String, String) {
        let Output {
            status,
            stdout,
            stderr,
        } = Command::new(env!("CARGO_BIN_EXE_imageswap"))
            .args(command.split(' '))
            .current_dir(self.0.path())
            .output()
            .unwrap();
        let text = |it| String::from_utf8(it).unwrap();
        (status.code(), text(stdout), text(stderr))
    }
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
    let folder = Folder::new();
    for command in COMMANDS {
        let (code, stdout, stderr) = folder.run(command);
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
    let (_, stdout, _) = folder.run(COMMANDS[3]);
    let answer: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(
        (&answer["reason"], &answer["finding"], &answer["approved"]),
        (
            &"scope-unknown".into(),
            &"scope-unknown".into(),
            &false.into()
        )
    );
    let (_, stdout, _) = folder.run(COMMANDS[1]);
    let answer: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(answer["candidates"], json!(["exempt", "corp"]), "{stdout}");
    assert_eq!(answer["missing"], "the labels of the namespace", "{stdout}");
    assert_eq!(
        (&answer["result"], &answer["approved"], &answer["reason"]),
        (&Value::Null, &false.into(), &"scope-unknown".into())
    );
    let (_, stdout, _) = folder.run(COMMANDS[2]);
    assert!(
        stdout.ends_with("1 image: 0 stay, 0 would be swapped, 0 not approved, 1 not decided\n"),
        "{stdout}"
    );
}

#[test]
fn with_labels_each_command_answers() {
    let folder = Folder::new();
    for (labels, codes) in [
        ("exempt=yes", [0, 0, 0, 0, 0, 0, 0]),
        ("exempt=no", [0, 0, 1, 1, 1, 0, 0]),
    ] {
        for (command, code) in COMMANDS.iter().zip(codes) {
            let command = format!("{command} --namespace-labels {labels}");
            let (found, stdout, stderr) = folder.run(&command);
            assert_eq!(found, Some(code), "{command}: {stdout}{stderr}");
            assert!(!stderr.contains("depends on"), "{command}: {stderr}");
        }
    }
    let explain = |labels| {
        let command = format!("{} --namespace-labels {labels}", COMMANDS[1]);
        let answer: Value = serde_json::from_str(&folder.run(&command).1).unwrap();
        (answer["policy"].clone(), answer["approved"].clone())
    };
    assert_eq!(explain("exempt=yes"), ("exempt".into(), true.into()));
    assert_eq!(explain("exempt=no"), ("corp".into(), false.into()));
}

#[test]
fn the_manifest_of_the_namespace_tells_its_labels() {
    let folder = Folder::new();
    for (labels, code) in [("{exempt: 'yes'}", 0), ("{}", 1)] {
        folder.write(
            "namespace.yaml",
            &format!(
                "apiVersion: v1\nkind: Namespace\nmetadata: {{name: shop, labels: {labels}}}\n"
            ),
        );
        for command in [
            "check --policy p.yaml -f pod.yaml -f namespace.yaml",
            "rewrite --policy p.yaml -f pod.yaml -f namespace.yaml",
        ] {
            let (found, stdout, stderr) = folder.run(command);
            assert_eq!(found, Some(code), "{command} {labels}: {stdout}{stderr}");
        }
    }
    // Labels of another namespace do not help.
    let command = "check --policy p.yaml -f pod.yaml --namespace-labels bank:exempt=yes";
    assert_eq!(folder.run(command).0, Some(2));
    let command = "check --policy p.yaml -f pod.yaml --namespace-labels shop:exempt=yes";
    assert_eq!(folder.run(command).0, Some(0));
}

#[test]
fn a_guard_takes_the_name_of_the_container() {
    let folder = Folder::new();
    folder.write(
        "p.yaml",
        "apiVersion: imageswap.io/v1alpha1\nkind: ImageSwapPolicy\nmetadata: {name: one}\nspec:\n  \
         rules: [{keep: '**'}]\n  denied: [{pattern: 'evil.example.net/**', containers: ['app*'], message: never}]\n",
    );
    let (code, stdout, stderr) =
        folder.run("explain --policy p.yaml --namespace shop evil.example.net/x nginx");
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
    let (code, stdout, _) =
        folder.run("explain --policy p.yaml --namespace shop --container app evil.example.net/x");
    assert_eq!(code, Some(0));
    assert!(
        stdout.contains("it stays and is denied by `denied[0]`"),
        "{stdout}"
    );
    assert!(stdout.contains("message   never"), "{stdout}");
    let (code, stdout, _) = folder.run("check --policy p.yaml -f pod.yaml");
    assert_eq!(code, Some(1));
    assert!(
        stdout.contains("`evil.example.net/x` is denied") && stdout.contains("message: never"),
        "{stdout}"
    );
}

#[test]
fn a_case_says_what_the_answer_depends_on() {
    let folder = Folder::new();
    folder.write(
        "both.yaml",
        "- {policy: p.yaml, namespace: shop, image: evil.example.net/x, approved: true}\n",
    );
    let (code, stdout, stderr) = folder.run("test both.yaml");
    assert_eq!(code, Some(2), "{stdout}{stderr}");
    assert!(
        stderr.contains("which of the policies `exempt` and `corp` decides depends on the labels of the namespace: add `namespace_labels` to the case"),
        "{stderr}"
    );
    let (code, stdout, stderr) = folder.run("test both.yaml --namespace-labels exempt=yes");
    assert_eq!(code, Some(0), "{stdout}{stderr}");
    folder.write(
        "both.yaml",
        "- {policy: p.yaml, namespace: shop, namespace_labels: {exempt: 'yes'}, image: evil.example.net/x, approved: true}\n",
    );
    assert_eq!(folder.run("test both.yaml").0, Some(0));
}
