//! Imports configuration files of other programs with the command: files, folders and standard input.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

use imageswap_lab::output_with;
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

fn imageswap(folder: &Path, args: &[&str], input: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_imageswap"));
    command.args(args).current_dir(folder);
    output_with(&mut command, input).unwrap()
}

fn write(folder: &Path, name: &str, text: &str) {
    let path = folder.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn a_tree_of_mirrors_is_one_policy() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    write(
        at,
        "certs.d/_default/hosts.toml",
        "server = \"https://m.example\"\n",
    );
    write(
        at,
        "certs.d/quay.io/hosts.toml",
        "server = \"https://q.example\"\n",
    );
    // A folder with certificates alone: `_default` is not for it.
    write(at, "certs.d/ghcr.io/ca.crt", "x");
    // One file alone: the folders beside it are read, too.
    let output = imageswap(at, &["import", "-f", "certs.d/_default/hosts.toml"], "");
    let policy = text(&output.stdout);
    assert!(
        policy.contains("to: q.example") && policy.contains("keep: \"ghcr.io/**\""),
        "{policy}"
    );
    write(at, "images.txt", "nginx:1\nquay.io/a:1\nghcr.io/a:1\n");
    let output = imageswap(
        at,
        &[
            "import",
            "-f",
            "certs.d",
            "-o",
            "json",
            "--verify",
            "images.txt",
        ],
        "",
    );
    let (code, report) = (output.status.code(), text(&output.stderr));
    assert_eq!(code, Some(1), "{report}");
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(answer["policies"].as_array().unwrap().len(), 1, "{report}");
    let rules = answer["report"]["rules"].as_array().unwrap();
    assert_eq!(rules.len(), 3, "{report}");
    assert!(rules.iter().all(|it| it["line"].as_u64() >= Some(1)));
    for (image, result) in [
        ("nginx:1", "m.example/library/nginx:1"),
        ("quay.io/a:1", "q.example/a:1"),
        ("ghcr.io/a:1", "stays"),
    ] {
        let row = report.lines().find(|it| it.starts_with(image)).unwrap();
        assert_eq!(row.matches(result).count(), 2, "{report}");
        assert!(!row.contains("differs"), "{row}");
    }
}

#[test]
fn files_of_other_programs_are_found_in_folders_and_on_standard_input() {
    let swapper =
        "dryRun: false\nimageSwapPolicy: always\ntarget: {aws: {accountId: 1, region: r-1}}\n";
    let registries = "unqualified-search-registries = [\"docker.io\"]\n[[registry]]\nprefix = \"quay.io/a\"\nlocation = \"m.example/a\"\n";
    let harbor = "rules: [{name: a, matches: ['^quay[.]io/'], replace: h.example/quay}]\n";
    for (name, content, code, part) in [
        (
            ".k8s-image-swapper.yml",
            swapper,
            1,
            "1.dkr.ecr.r-1.amazonaws.com",
        ),
        ("registries.conf", registries, 0, "to: m.example"),
        ("registries.conf.d/a.conf", registries, 0, "to: m.example"),
        ("webhook-config.yaml", harbor, 1, "to: h.example/quay"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), name, content);
        for (from, input) in [(name, ""), (".", ""), ("-", content)] {
            let output = imageswap(folder.path(), &["import", "-f", from], input);
            let (policy, report) = (text(&output.stdout), text(&output.stderr));
            assert_eq!(output.status.code(), Some(code), "{name} {from}: {report}");
            assert!(policy.contains(part), "{name} {from}: {policy}{report}");
            // An image is not broken into lines.
            let fits = |it: &str| it.chars().count() <= 80 || !it.trim().contains(' ');
            assert!(report.lines().all(fits), "{report}");
        }
    }
}

#[test]
fn a_broken_file_has_a_place_and_the_others_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    write(
        at,
        "certs.d/quay.io/hosts.toml",
        "server = \"https://q.example\"\n",
    );
    write(at, "certs.d/ghcr.io/hosts.toml", "\nserver == 1\n");
    let output = imageswap(at, &["import", "-f", "certs.d"], "");
    let report = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{report}");
    assert!(
        report.contains("certs.d/ghcr.io/hosts.toml:2:9: cannot be read"),
        "{report}"
    );
    assert!(text(&output.stdout).contains("to: q.example"));
}
