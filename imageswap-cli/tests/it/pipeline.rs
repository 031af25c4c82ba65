//! Output for pipelines, in the formats as their own schemas say, and the examples that use it.

use crate::folder::{Folder, shell};
use imageswap_lab::{Ran, skip};
use imageswap_policy::yaml;
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};

mod schemas;

const POLICY: &str = concat!(
    include_str!("../data/corp.yaml"),
    "  message: Registry is not allowed\n"
);

/// Its second container is not approved.
const BAD: &str = "\
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: shop}
spec:
  containers:
  - {name: web, image: nginx}
  - name: tool
    image: ghcr.io/acme/tool:1
---
apiVersion: example.org/v1
kind: Widget
metadata: {name: w}
spec: {image: quay.io/acme/widget:2}
";

const GOOD: &str = "\
apiVersion: v1
kind: Pod
metadata: {name: ok}
spec: {containers: [{name: a, image: registry.example.com/a}]}
";

fn folder() -> Folder {
    Folder::new(&[
        ("policy.yaml", POLICY),
        ("manifests/bad.yaml", BAD),
        ("manifests/good.yaml", GOOD),
    ])
}

/// Runs a line of a shell in a folder, where the environment names the policy.
fn run(folder: &Folder, line: &str) -> Ran {
    shell(
        folder.path(),
        &format!("export IMAGESWAP_POLICY=policy.yaml; {line}"),
    )
}

#[test]
fn github_shows_findings_at_their_lines() {
    let folder = folder();
    let ran = run(&folder, "imageswap check -o github manifests");
    assert_eq!(
        ran.out(),
        "\
::warning file=manifests/bad.yaml,line=13,endLine=13,col=15,endColumn=36,title=image-elsewhere::`quay.io/acme/widget:2` looks like an image, and was not read%0Agive --image-path 'Widget.example.org=spec.image' to have it read
::notice file=manifests/bad.yaml,line=6,endLine=6,col=24,endColumn=29,title=would-be-swapped::`nginx` would be swapped%0APod shop/web, container web%0Apolicy corp (deny): rule `hub` replaces it by registry.example.com/hub/library/nginx, which is approved
::error file=manifests/bad.yaml,line=8,endLine=8,col=12,endColumn=31,title=not-approved::`ghcr.io/acme/tool:1` is not approved%0APod shop/web, container tool%0Apolicy corp (deny): no rule matches, so it stays and is not approved%0Amessage: Registry is not allowed
"
    );
    ran.exits(1);
}

#[test]
fn gitlab_reports_findings_at_their_lines() {
    let folder = folder();
    let ran = run(&folder, "imageswap check -o gitlab manifests");
    ran.exits(1);
    let report = ran.json();
    schemas::assert_valid(&schemas::code_quality(), &report);
    let of = |at: usize| {
        let it = &report[at];
        let place = &it["location"];
        json!([
            it["check_name"],
            it["severity"],
            place["path"],
            place["lines"]["begin"]
        ])
    };
    assert_eq!(
        of(0),
        json!(["image-elsewhere", "minor", "manifests/bad.yaml", 13])
    );
    assert_eq!(
        of(1),
        json!(["would-be-swapped", "info", "manifests/bad.yaml", 6])
    );
    assert_eq!(
        of(2),
        json!(["not-approved", "major", "manifests/bad.yaml", 8])
    );
    assert_eq!(report.as_array().unwrap().len(), 3);
}

#[test]
fn junit_has_a_case_for_every_image() {
    let folder = folder();
    let ran = run(&folder, "imageswap check -o junit manifests");
    ran.exits(1);
    let text = ran.out();
    let document = roxmltree::Document::parse(text).unwrap();
    let root = document.root_element();
    assert_eq!(root.tag_name().name(), "testsuites");
    let all = |name: &str| {
        let nodes = document.descendants();
        nodes.filter(|it| it.tag_name().name() == name).count()
    };
    assert_eq!(root.attribute("tests"), Some("4"), "{text}");
    assert_eq!(root.attribute("failures"), Some("1"), "{text}");
    assert_eq!(
        (
            all("testsuite"),
            all("testcase"),
            all("failure"),
            all("error")
        ),
        (2, 4, 1, 0)
    );
    let failure = document
        .descendants()
        .find(|it| it.tag_name().name() == "failure")
        .unwrap();
    assert_eq!(failure.attribute("type"), Some("not-approved"));
    assert!(
        failure
            .text()
            .unwrap()
            .starts_with("manifests/bad.yaml:8:12\n"),
        "{text}"
    );
}

#[test]
fn sarif_is_as_its_schema_says() {
    let schema = match schemas::sarif() {
        Ok(schema) => schema,
        Err(reason) => return skip("sarif_is_as_its_schema_says", &reason),
    };
    let folder = folder();
    let odd = "\"ghcr.io/acme/tool:1 <&> \\x1b[2J\"";
    folder.write("odd name%.yaml", BAD.replace("ghcr.io/acme/tool:1", odd));
    folder.write("syntax.yaml", "a: [\n");
    folder.write(
        "rule.yaml",
        POLICY.replace("registry.example.com/hub", "https://x"),
    );
    for (line, code, results) in [
        ("imageswap check -o sarif manifests", 1, 3),
        ("imageswap check -o sarif manifests/good.yaml", 0, 0),
        (
            "imageswap check -o sarif 'odd name%.yaml' syntax.yaml nowhere.yaml",
            2,
            4,
        ),
        ("imageswap lint -o sarif policy.yaml", 0, 0),
        ("imageswap lint -o sarif rule.yaml", 1, 1),
    ] {
        let ran = run(&folder, line);
        assert_eq!(ran.code(), Some(code), "{line}: {ran:?}");
        let log = ran.json();
        schemas::assert_valid(&schema, &log);
        let run = &log["runs"][0];
        assert_eq!(
            run["results"].as_array().unwrap().len(),
            results,
            "{line}: {log:#}"
        );
        let complete = &run["invocations"][0]["executionSuccessful"];
        assert_eq!(*complete, json!(code < 2), "{line}");
    }
    // The schema is one that can fail.
    let validator = jsonschema::validator_for(&schema).unwrap();
    assert!(!validator.is_valid(&json!({"version": "2.1.0", "runs": [{}]})));
}

#[test]
fn lint_has_the_same_formats() {
    let folder = folder();
    folder.write("maps.conf", "default::r.example.com\nquay.io/team::\n");
    let ran = run(
        &folder,
        "imageswap lint --no-notes -o github maps.conf policy.yaml",
    );
    assert_eq!(
        ran.out(),
        "::warning file=maps.conf,line=2,endLine=2,col=1,endColumn=13,title=unused-key::expected a registry, found `quay.io/team`, which holds a path; this line is never used%0Awrite `[EXACT]quay.io/team:TAG::` for each tag that is to stay, or use an ImageSwapPolicy with `keep: \"quay.io/team\"`\n",
    );
    let ran = run(
        &folder,
        "imageswap lint --no-notes --deny-warnings -o junit maps.conf policy.yaml",
    );
    ran.exits(1);
    let text = ran.out();
    let document = roxmltree::Document::parse(text).unwrap();
    assert_eq!(
        document.root_element().attribute("tests"),
        Some("2"),
        "{text}"
    );
    assert_eq!(
        document.root_element().attribute("failures"),
        Some("1"),
        "{text}"
    );
    let ran = run(
        &folder,
        "imageswap lint --no-notes -o gitlab maps.conf policy.yaml",
    );
    ran.exits(0);
    let report = ran.json();
    schemas::assert_valid(&schemas::code_quality(), &report);
    assert_eq!(report[0]["location"]["lines"]["begin"], 2);
}

fn example(name: &str) -> (PathBuf, Value) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../deploy/examples/ci")
        .join(name);
    let text = fs::read_to_string(&path).unwrap();
    let documents = yaml::parse(name, &text).unwrap();
    (path, documents[0].to_json())
}

/// The lines of an example that run `imageswap`.
fn commands(value: &Value) -> Vec<String> {
    let mut found = Vec::new();
    match value {
        Value::String(text) if text.starts_with("imageswap ") => found.push(text.clone()),
        Value::Array(items) => found.extend(items.iter().flat_map(commands)),
        Value::Object(fields) => found.extend(fields.values().flat_map(commands)),
        _ => {}
    }
    found
}

#[test]
fn examples_are_as_their_schemas_say() {
    for (name, schema) in [
        ("github.yaml", "github-workflows"),
        ("gitlab.yaml", "gitlab-ci"),
    ] {
        let schema = match schemas::ci(schema) {
            Ok(schema) => schema,
            Err(reason) => return skip("examples_are_as_their_schemas_say", &reason),
        };
        schemas::assert_valid(&schema, &example(name).1);
        let validator = jsonschema::validator_for(&schema).unwrap();
        assert!(!validator.is_valid(&json!({"jobs": 1, "image": 2})));
    }
}

#[test]
fn hooks_are_as_pre_commit_reads_them() {
    let hooks = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.pre-commit-hooks.yaml");
    let config = example("pre-commit.yaml").0;
    let checks = [("validate-manifest", &hooks), ("validate-config", &config)];
    for (command, file) in checks {
        if let Err(reason) = schemas::pre_commit(command, file) {
            let is_missing = reason.contains("No module named") || reason.contains("pip");
            assert!(is_missing, "{reason}");
            return skip("hooks_are_as_pre_commit_reads_them", &reason);
        }
    }
    // The example names hooks that exist.
    let text = fs::read_to_string(&hooks).unwrap();
    let hooks = yaml::parse("hooks", &text).unwrap()[0].to_json();
    let entry = |id: &Value| {
        let mut all = hooks.as_array().unwrap().iter();
        all.find(|it| it["id"] == *id)
            .map(|it| it["entry"].as_str().unwrap().to_owned())
    };
    let folder = folder();
    let (_, config) = example("pre-commit.yaml");
    for hook in config["repos"][0]["hooks"].as_array().unwrap() {
        let entry = entry(&hook["id"]).unwrap();
        let args = hook["args"].as_array().into_iter().flatten();
        let args: Vec<_> = args.filter_map(Value::as_str).collect();
        let is_check = hook["id"] == "imageswap-check";
        let file = if is_check {
            "manifests/bad.yaml"
        } else {
            "policy.yaml"
        };
        let line = format!("{entry} {} {file}", args.join(" "));
        let ran = run(&folder, &line);
        assert_eq!(ran.code(), Some(i32::from(is_check)), "{line}: {ran:?}");
    }
}

#[test]
fn examples_fail_on_a_bad_manifest_and_show_its_line() {
    for (name, least) in [("github.yaml", 3), ("gitlab.yaml", 4)] {
        let commands = commands(&example(name).1);
        assert!(commands.len() >= least, "{name}: {commands:?}");
        let folder = folder();
        let mut failed = Vec::new();
        for command in &commands {
            let ran = run(&folder, command);
            match ran.code() {
                Some(0) => {}
                Some(1) => failed.push(ran.out().to_owned()),
                other => panic!("{name}: {command}: {other:?} {ran:?}"),
            }
        }
        let [shown] = failed.as_slice() else {
            panic!("{name}: {} commands failed", failed.len());
        };
        let place = if name == "github.yaml" {
            "file=manifests/bad.yaml,line=8,"
        } else {
            "--> manifests/bad.yaml:8:12"
        };
        assert!(shown.contains(place), "{name}: {shown}");
        fs::remove_file(folder.at("manifests/bad.yaml")).unwrap();
        for command in &commands {
            let ran = run(&folder, command);
            assert_eq!(ran.code(), Some(0), "{name}: {command}: {ran:?}");
        }
    }
}
