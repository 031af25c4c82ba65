//! Imports policies of other programs with the command: exit codes, report and output. Tests of the
//! policies' decisions are in `imageswap-import`.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

use serde_json::Value;
use std::process::{Command, Output};

/// A rule that is carried over exactly.
const EXACT: &str = include_str!("data/exact.yaml");
/// Two policies that differ from what a policy can express here, and one rule that is left out.
const BOTH: &str = include_str!("data/kyverno.yaml");

fn imageswap(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_imageswap"))
        .args(args)
        .env("NO_COLOR", "1")
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn file(&self, name: &str, text: &str) -> String {
        let path = self.0.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    }
}

#[test]
fn exit_code_is_zero_only_if_every_rule_is_carried_over_exactly() {
    let folder = Folder::new();
    let left_out = EXACT.replace(
        "image: \"reg.example.com/*\"",
        "(image): \"reg.example.com/*\"",
    );
    for (content, code, status) in [
        (EXACT.to_owned(), 0, "carried over"),
        (BOTH.to_owned(), 1, "carried over, differs:"),
        (left_out, 2, "left out:"),
        (
            "apiVersion: v1\nkind: Pod\nmetadata: {name: x}\n".to_owned(),
            2,
            "not a policy that is read",
        ),
        ("a: [".to_owned(), 2, "cannot be read"),
    ] {
        let file = folder.file("source.yaml", &content);
        for arguments in [
            vec!["import", "-f", &file],
            vec!["import", "kyverno", "-f", &file],
        ] {
            let output = imageswap(&arguments);
            let report = text(&output.stderr);
            let words = report.split_whitespace().collect::<Vec<_>>().join(" ");
            assert_eq!(output.status.code(), Some(code), "{report}");
            assert!(
                words.contains(status) && words.contains("source.yaml:"),
                "{report}"
            );
            assert!(
                report.lines().all(|it| it.chars().count() <= 200),
                "{report}"
            );
        }
    }
}

#[test]
fn programs_get_one_object() {
    let folder = Folder::new();
    let file = folder.file("exact.yaml", EXACT);
    let output = imageswap(&["import", "-f", &file, "-o", "json"]);
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(answer["policies"][0]["kind"], "ImageSwapPolicy");
    assert_eq!(answer["summary"]["carriedOver"], 1);
    assert_eq!(answer["report"]["rules"][0]["status"], "carried-over");
    assert!(answer["report"]["rules"][0]["line"].is_u64());
}

#[test]
fn verify_shows_both_answers() {
    let folder = Folder::new();
    let file = folder.file("exact.yaml", EXACT);
    let images = folder.file("images.txt", "reg.example.com/a:1\nquay.io/b\n");
    let output = imageswap(&["import", "-f", &file, "--verify", &images]);
    let report = text(&output.stderr);
    let row = |image: &str| {
        report
            .lines()
            .find(|it| it.starts_with(image))
            .unwrap_or_else(|| panic!("{report}"))
            .to_owned()
    };
    assert_eq!(
        row("quay.io/b").matches("stays, refused").count(),
        2,
        "{report}"
    );
    assert_eq!(
        row("reg.example.com/a:1").matches("stays").count(),
        2,
        "{report}"
    );
}

#[test]
fn the_policy_that_is_written_loads() {
    let folder = Folder::new();
    let file = folder.file("both.yaml", BOTH);
    let output = imageswap(&["import", "-f", &file]);
    let policy = folder.file("policy.yaml", &text(&output.stdout));
    let output = imageswap(&["explain", "--policy", &policy, "gcr.io/a/b:1", "-o", "json"]);
    let answer: Value = serde_json::from_str(text(&output.stdout).lines().next().unwrap()).unwrap();
    assert_eq!(
        answer["result"],
        "myregistry.corp.com/a/b:1",
        "{}",
        text(&output.stderr)
    );
}
