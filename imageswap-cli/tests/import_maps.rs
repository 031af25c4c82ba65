//! `imageswap import maps` as people run it, and the page that shows it.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::path::Path;
use std::process::{Command, Output};

const MAPS: &str = "default:registry.example.com\n#gcr.io: # This is a comment\n\
                    gitlab.com:registry.example.com/gitlab\nnoswap_wildcards:example.com\n";

fn imageswap(folder: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_imageswap"))
        .args(args)
        .current_dir(folder)
        .output()
        .unwrap()
}

fn import(maps: &str) -> (Option<i32>, String, String) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("maps.conf"), maps).unwrap();
    let output = imageswap(folder.path(), &["import", "maps", "-f", "maps.conf"]);
    let text = |it| String::from_utf8(it).unwrap();
    (
        output.status.code(),
        text(output.stdout),
        text(output.stderr),
    )
}

#[test]
fn the_page_shows_what_is_printed() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/migrating.md");
    let page = std::fs::read_to_string(page).unwrap();
    let (code, policy, differences) = import(MAPS);
    assert_eq!(code, Some(0));
    assert!(
        page.contains(&format!("```yaml\n{policy}```\n")),
        "{policy}"
    );
    let shown = format!("> policy.yaml\n{}\n```\n", differences.trim_end());
    assert!(page.contains(&shown), "{shown}");
}

#[test]
fn an_imported_policy_loads_without_a_word_and_decides_alike() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    std::fs::write(at("maps.conf"), MAPS).unwrap();
    std::fs::write(at("policy.yaml"), import(MAPS).1).unwrap();
    std::fs::write(
        at("images.txt"),
        "nginx\nquay.io/a/b:1\ngitlab.com/a/b\nexample.com:5000/a\nregistry.example.com/x\n",
    )
    .unwrap();
    let output = imageswap(
        folder.path(),
        &["diff", "maps.conf", "policy.yaml", "-f", "images.txt"],
    );
    let text = String::from_utf8(output.stdout).unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(
        (output.status.code(), error.as_str()),
        (Some(0), ""),
        "{text}"
    );
}

#[test]
fn what_is_left_out_is_a_finding_and_what_does_not_load_is_an_error() {
    let (code, policy, differences) = import("default::d.io\n[REPLACE]a*::\n");
    assert_eq!(code, Some(1));
    assert!(policy.contains("kind: ImageSwapPolicy"), "{policy}");
    assert!(
        differences.contains("warning[not-imported]"),
        "{differences}"
    );
    let (code, policy, error) = import("default:a:1:2\n");
    assert_eq!((code, policy.as_str()), (Some(2), ""), "{error}");
    assert!(
        error.contains("maps.conf makes no ImageSwapPolicy"),
        "{error}"
    );
}

/// Lines that lead to each other are no circle: an image under a target stays.
#[test]
fn lines_that_lead_to_each_other_make_a_policy() {
    let (code, policy, error) = import("default::\na.io::b.io\nb.io::a.io\n");
    assert_eq!(code, Some(0), "{error}");
    assert!(!policy.contains("from:"), "{policy}");
}
