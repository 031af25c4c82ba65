//! `imageswap test`.

use super::{MAPS, POLICY, folder};
use crate::folder::{Folder, measured};
use imageswap_lab::{Ran, require};
use serde_json::{Value, json};
use std::path::PathBuf;

/// Cases, one a line.
fn lines(cases: &[Value]) -> String {
    let lines: Vec<_> = cases.iter().map(|it| format!("{it}\n")).collect();
    lines.concat()
}

#[track_caller]
fn assert_ends(ran: &Ran, code: i32, last_line: &str) {
    assert_eq!(
        (ran.code(), ran.last_line()),
        (Some(code), last_line),
        "{ran:?}"
    );
}

#[test]
fn cases_pass_and_fail_with_their_place() {
    let folder = folder();
    let cases = lines(&[
        json!({"maps": MAPS, "image": "nginx", "expected": "registry.example.com/nginx", "approved": true, "id": 7}),
        json!({"maps": MAPS, "image": "nginx", "expected": "other.example.com/nginx"}),
        json!({"maps": MAPS, "image": "localhost:5000/x", "peer_result": null}),
        json!({"maps": MAPS, "image": "my.example.com/x", "approved": true}),
        json!({"mode": "LEGACY", "maps": "", "image_prefix": "r.io", "image": "a/b", "expected": "r.io/b"}),
        json!({"mode": "MAPS", "maps": "default::r.io", "image": "a/b", "expected": "r.io/a/b"}),
    ]);
    folder.write("cases.jsonl", cases);
    let ran = folder.run("test cases.jsonl");
    assert_ends(&ran, 1, "4 passed, 2 failed");
    for part in [
        "cases.jsonl:2: nginx\n  expected other.example.com/nginx\n  got      registry.example.com/nginx\n  \
         by       policy maps, rule maps:1 default\n",
        "cases.jsonl:4: my.example.com/x\n",
        "not approved",
    ] {
        assert!(ran.out().contains(part), "{part}\n{}", ran.out());
    }
    folder.write(
        "cases.yaml",
        "- maps: |\n    default::d.io\n  image: nginx\n  expected: d.io/nginx\n",
    );
    assert_ends(&folder.run("test cases.yaml"), 0, "1 passed, 0 failed");
}

#[test]
fn what_must_hold_of_any_result_is_checked() {
    let policy = json!({
        "apiVersion": "imageswap.io/v1alpha1",
        "kind": "ImageSwapPolicy",
        "metadata": {"name": "chain"},
        "spec": {"rules": [
            {"from": "m.io/**", "to": "d.io"},
            {"from": "quay.io/**", "to": "m.io"},
        ]},
    });
    let chain = json!({"policy": policy, "image": "m.io/x"}).to_string();
    let ran = Folder::new(&[("cases.jsonl", &chain)]).run("test cases.jsonl");
    assert_ends(&ran, 1, "0 passed, 1 failed");
    ran.prints("m.io/x to stay, because it lies under a target");
}

#[test]
fn a_case_that_cannot_be_decided_is_an_error() {
    let folder = Folder::new(&[("empty.yaml", "")]);
    let good = json!({"maps": "default::d.io", "image": "nginx", "expected": "d.io/nginx"});
    for (bad, message) in [
        (
            r#"{"policy": {"kind": "ImageSwapPolicy"}, "image": "nginx"}"#,
            "the field `metadata` is missing",
        ),
        (
            r#"{"image": "nginx"}"#,
            "expected `policy`, `maps` or `image_prefix`",
        ),
        (r#"{"maps": ""}"#, "the field `image` is missing"),
        ("{", "the bracket `{` that opens here is not closed"),
        (
            r#"{"maps": "default::d.io", "image": "nginx", "aproved": true}"#,
            "write `approved`",
        ),
        (
            r#"{"maps": "", "image": "nginx", "date": "31.12.2026"}"#,
            "write `2026-12-31`",
        ),
    ] {
        folder.write("cases.jsonl", format!("{good}\n{bad}\n"));
        let ran = folder.run("test cases.jsonl");
        assert_ends(&ran, 2, "1 passed, 1 failed");
        ran.says("cases.jsonl:2:").says(message);
    }
    assert_ends(&folder.run("test empty.yaml"), 2, "0 passed, 0 failed");
}

#[test]
fn a_folder_of_cases_and_policies_is_read_and_a_failure_names_who_decided() {
    let folder = Folder::new(&[
        (
            "cases/corp.yaml",
            "apiVersion: imageswap.io/v1alpha1\nkind: ImageSwapPolicy\nmetadata: {name: corp}\nspec:\n  \
             match: {namespaceSelector: {matchLabels: {team: a}}}\n  \
             rules: [{name: hub, from: \"docker.io/**\", to: r.io/hub}]\n",
        ),
        (
            "cases/a.yaml",
            "- {policy: corp.yaml, image: nginx, expected: r.io/hub/library/nginx, namespace_labels: {team: a}}\n\
             - {policy: corp.yaml, image: nginx, expected: nginx, approved: false, namespace: shop, namespace_labels: {}}\n",
        ),
        (
            "cases/b.jsonl",
            r#"{"policy": "corp.yaml", "image": "nginx", "expected": "nginx", "namespace_labels": {"team": "a"}}"#,
        ),
        ("policies/x.yaml", "apiVersion: v1\nkind: Pod\n"),
    ]);
    let ran = folder.run("test cases");
    assert_ends(&ran, 1, "2 passed, 1 failed");
    ran.prints("by       policy corp, rule hub");
    assert_eq!(folder.run("test policies").code(), Some(2));
}

#[test]
fn cases_come_from_standard_input_too() {
    let case = json!({"maps": "default::d.io", "image": "nginx", "expected": "d.io/nginx"});
    let ran = Folder::new(&[]).run_with("test -", &case.to_string());
    assert_ends(&ran, 0, "1 passed, 0 failed");
}

#[test]
fn every_measured_answer_of_imageswap_holds() {
    let given = std::env::var_os("IMAGESWAP_VECTORS").map(PathBuf::from);
    let folder = require!(given.or_else(|| measured("vectors")));
    for (file, least) in [
        ("imageswap_maps.jsonl", 500),
        ("imageswap_maps_invariants.jsonl", 100),
    ] {
        let rows = std::fs::read_to_string(folder.join(file))
            .unwrap()
            .lines()
            .count();
        assert!(rows > least);
        let ran = Folder::new(&[]).run(&format!("test {}", folder.join(file).display()));
        assert_ends(&ran, 0, &format!("{rows} passed, 0 failed"));
    }
}

#[test]
fn cases_name_policies_in_three_ways() {
    let folder = folder();
    let inline = json!({"apiVersion": "imageswap.io/v1alpha1", "kind": "ImageSwapPolicy", "metadata": {"name": "p"}, "spec": {"approved": ["quay.io/**"]}});
    let cases = lines(&[
        json!({"policy": "policy.yaml", "image": "nginx", "expected": "registry.example.com/hub/library/nginx", "approved": true}),
        json!({"policy": POLICY, "image": "ghcr.io/acme/debug", "approved": true, "date": "2027-01-31"}),
        json!({"policy": POLICY, "image": "ghcr.io/acme/debug", "approved": false, "date": "2027-02-01"}),
        json!({"policy": inline, "image": "quay.io/a", "expected": "quay.io/a", "approved": true}),
        json!({"policy": inline, "image": "nginx", "approved": true}),
    ]);
    folder.write("cases.jsonl", cases);
    assert_ends(&folder.run("test cases.jsonl"), 1, "4 passed, 1 failed");
}
