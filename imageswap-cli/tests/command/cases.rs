//! `imageswap test`.

use super::*;

#[test]
fn cases_pass_and_fail_with_their_place() {
    let folder = Folder::new();
    let cases = [
        json!({"maps": MAPS, "image": "nginx", "expected": "registry.example.com/nginx", "approved": true, "id": 7}),
        json!({"maps": MAPS, "image": "nginx", "expected": "other.example.com/nginx"}),
        json!({"maps": MAPS, "image": "localhost:5000/x", "peer_result": null}),
        json!({"maps": MAPS, "image": "my.example.com/x", "approved": true}),
        json!({"mode": "LEGACY", "maps": "", "image_prefix": "r.io", "image": "a/b", "expected": "r.io/b"}),
        json!({"mode": "MAPS", "maps": "default::r.io", "image": "a/b", "expected": "r.io/a/b"}),
    ];
    let text = cases.map(|it| it.to_string()).join("\n");
    let file = folder.file("cases.jsonl", &text);
    let output = imageswap(&["test", &file]);
    assert_eq!(
        (output.status.code(), last_line(&output).as_str()),
        (Some(1), "4 passed, 2 failed")
    );
    let text = stdout(&output);
    let place = format!(
        "{file}:2: nginx\n  expected other.example.com/nginx\n  got      registry.example.com/nginx\n  \
         by       policy maps, rule maps:1 default\n"
    );
    assert!(text.contains(&place), "{text}");
    assert!(
        text.contains(&format!("{file}:4: my.example.com/x\n")) && text.contains("not approved"),
        "{text}"
    );

    let yaml = folder.file(
        "cases.yaml",
        "- maps: |\n    default::d.io\n  image: nginx\n  expected: d.io/nginx\n",
    );
    let output = imageswap(&["test", &yaml]);
    assert_eq!(
        (output.status.code(), last_line(&output).as_str()),
        (Some(0), "1 passed, 0 failed")
    );
}

#[test]
fn what_must_hold_of_any_result_is_checked() {
    let folder = Folder::new();
    let policy = json!({
        "apiVersion": "imageswap.io/v1alpha1",
        "kind": "ImageSwapPolicy",
        "metadata": {"name": "chain"},
        "spec": {"rules": [
            {"from": "m.io/**", "to": "d.io"},
            {"from": "quay.io/**", "to": "m.io"},
        ]},
    });
    let chain = json!({"policy": policy, "image": "m.io/x"});
    let file = folder.file("cases.jsonl", chain.to_string());
    let output = imageswap(&["test", &file]);
    assert_eq!(
        (output.status.code(), last_line(&output).as_str()),
        (Some(1), "0 passed, 1 failed")
    );
    assert!(
        stdout(&output).contains("m.io/x to stay, because it lies under a target"),
        "{}",
        stdout(&output)
    );
}

#[test]
fn a_case_that_cannot_be_decided_is_an_error() {
    let folder = Folder::new();
    let good = json!({"maps": "default::d.io", "image": "nginx", "expected": "d.io/nginx"});
    for (bad, message) in [
        (
            json!({"policy": {"kind": "ImageSwapPolicy"}, "image": "nginx"}).to_string(),
            "the field `metadata` is missing",
        ),
        (
            json!({"image": "nginx"}).to_string(),
            "expected `policy`, `maps` or `image_prefix`",
        ),
        (
            json!({"maps": ""}).to_string(),
            "the field `image` is missing",
        ),
        (
            "{".to_owned(),
            "the bracket `{` that opens here is not closed",
        ),
        (
            json!({"maps": "default::d.io", "image": "nginx", "aproved": true}).to_string(),
            "write `approved`",
        ),
        (
            json!({"maps": "", "image": "nginx", "date": "31.12.2026"}).to_string(),
            "write `2026-12-31`",
        ),
    ] {
        let file = folder.file("cases.jsonl", format!("{good}\n{bad}\n"));
        let output = imageswap(&["test", &file]);
        assert_eq!(
            (output.status.code(), last_line(&output).as_str()),
            (Some(2), "1 passed, 1 failed"),
            "{bad}"
        );
        let text = stderr(&output);
        assert!(
            text.contains(&format!("{file}:2:")) && text.contains(message),
            "{text}"
        );
    }
    let empty = folder.file("empty.yaml", "");
    let output = imageswap(&["test", &empty]);
    assert_eq!(
        (output.status.code(), last_line(&output).as_str()),
        (Some(2), "0 passed, 0 failed")
    );
}

#[test]
fn a_folder_of_cases_and_policies_is_read_and_a_failure_names_who_decided() {
    let folder = Folder::new();
    folder.file(
        "corp.yaml",
        "apiVersion: imageswap.io/v1alpha1\nkind: ImageSwapPolicy\nmetadata: {name: corp}\nspec:\n  \
         match: {namespaceSelector: {matchLabels: {team: a}}}\n  \
         rules: [{name: hub, from: \"docker.io/**\", to: r.io/hub}]\n",
    );
    folder.file(
        "a.yaml",
        "- {policy: corp.yaml, image: nginx, expected: r.io/hub/library/nginx, namespace_labels: {team: a}}\n\
         - {policy: corp.yaml, image: nginx, expected: nginx, approved: false, namespace: shop, namespace_labels: {}}\n",
    );
    folder.file(
        "b.jsonl",
        json!({"policy": "corp.yaml", "image": "nginx", "expected": "nginx", "namespace_labels": {"team": "a"}})
            .to_string(),
    );
    let path = folder.path();
    let output = imageswap(&["test", &path]);
    assert_eq!(
        (output.status.code(), last_line(&output).as_str()),
        (Some(1), "2 passed, 1 failed"),
        "{}",
        stderr(&output)
    );
    assert!(
        stdout(&output).contains("by       policy corp, rule hub"),
        "{}",
        stdout(&output)
    );
    let only_policies = Folder::new();
    only_policies.file("x.yaml", "apiVersion: v1\nkind: Pod\n");
    let output = imageswap(&["test", &only_policies.path()]);
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn cases_come_from_standard_input_too() {
    let case = json!({"maps": "default::d.io", "image": "nginx", "expected": "d.io/nginx"});
    let output = imageswap_with(&["test", "-"], &case.to_string());
    assert_eq!(
        (output.status.code(), last_line(&output).as_str()),
        (Some(0), "1 passed, 0 failed")
    );
}

#[test]
fn every_measured_answer_of_imageswap_holds() {
    let folder = std::env::var_os("IMAGESWAP_VECTORS").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/vectors")),
        PathBuf::from,
    );
    for (file, least) in [
        ("imageswap_maps.jsonl", 500),
        ("imageswap_maps_invariants.jsonl", 100),
    ] {
        let path = folder.join(file);
        if !Path::new(&path).exists() {
            assert!(
                std::env::var_os("IMAGESWAP_NO_SKIP").is_none(),
                "no {}",
                path.display()
            );
            eprintln!(
                "SKIP: no {}; set IMAGESWAP_VECTORS to the folder",
                path.display()
            );
            continue;
        }
        let rows = std::fs::read_to_string(&path).unwrap().lines().count();
        assert!(rows > least);
        let output = imageswap(&["test", path.to_str().unwrap()]);
        assert_eq!(
            last_line(&output),
            format!("{rows} passed, 0 failed"),
            "{}",
            stdout(&output)
        );
        assert_eq!(output.status.code(), Some(0));
    }
}

#[test]
fn cases_name_policies_in_three_ways() {
    let folder = Folder::new();
    folder.file("policy.yaml", POLICY);
    let inline = json!({"apiVersion": "imageswap.io/v1alpha1", "kind": "ImageSwapPolicy", "metadata": {"name": "p"}, "spec": {"approved": ["quay.io/**"]}});
    let rows = [
        json!({"policy": "policy.yaml", "image": "nginx", "expected": "registry.example.com/hub/library/nginx", "approved": true}),
        json!({"policy": POLICY, "image": "ghcr.io/acme/debug", "approved": true, "date": "2027-01-31"}),
        json!({"policy": POLICY, "image": "ghcr.io/acme/debug", "approved": false, "date": "2027-02-01"}),
        json!({"policy": inline, "image": "quay.io/a", "expected": "quay.io/a", "approved": true}),
        json!({"policy": inline, "image": "nginx", "approved": true}),
    ];
    let rows: Vec<_> = rows.iter().map(Value::to_string).collect();
    let text = rows.join("\n");
    let cases = folder.file("cases.jsonl", text);
    let output = imageswap(&["test", &cases]);
    assert_eq!(
        (output.status.code(), last_line(&output).as_str()),
        (Some(1), "4 passed, 1 failed"),
        "{}",
        stdout(&output)
    );
}
