//! Runs `imageswap import maps`, and checks the page that shows it.

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

/// Compares `maps.conf` with `policy.yaml` for the images in `images.txt`.
fn diff(folder: &Path) -> Output {
    let labels = "k8s.twr.io/imageswap=enabled";
    let files = ["maps.conf", "policy.yaml", "-f", "images.txt"];
    imageswap(
        folder,
        &[&["diff"], &files[..], &["--namespace-labels", labels]].concat(),
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
    let output = diff(folder.path());
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

/// Lines that name each other's targets are not a circle: an image under a target stays.
#[test]
fn lines_that_lead_to_each_other_make_a_policy() {
    let (code, policy, error) = import("default::\na.io::b.io\nb.io::a.io\n");
    assert_eq!(code, Some(0), "{error}");
    assert!(!policy.contains("from:"), "{policy}");
}

/// A folder of measured cases; prints a note and returns `None` if it is missing.
fn cases(name: &str) -> Option<std::path::PathBuf> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/cases/policy");
    let folder = Path::new(folder).join(name);
    if folder.exists() {
        return Some(folder);
    }
    let found = std::env::var_os("IMAGESWAP_NO_SKIP").is_none();
    assert!(found, "no {}", folder.display());
    eprintln!("SKIP: no {}", folder.display());
    None
}

/// The output of `imageswap diff` for a maps file and the policy made from it.
fn difference(maps: &str, images: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in [
        ("maps.conf", maps),
        ("policy.yaml", &import(maps).1),
        ("images.txt", images),
    ] {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    let output = diff(folder.path());
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn unused_line_is_named_once_and_has_no_rule() {
    for (maps, rule, images) in [
        (
            "default::\nr.io/org/a::m.io/a\nr.io/org/b/c::m.io/b\n",
            "maps:2",
            "r.io/org/a/x:1\n",
        ),
        (
            "default::m.io\n*.r.io::m.io/r\n",
            "maps:2",
            "eu.r.io/p/a:1\n",
        ),
        (
            "default::m.io/m\nr.io::m.io/r\nr.io/org/app::\nnoswap_wildcards::m.io\n",
            "maps:3",
            "r.io/org/app:1\n",
        ),
        ("default: m.io\n\"r.io\":: m.io/r\n", "maps:2", "r.io/a\n"),
    ] {
        let (code, policy, report) = import(maps);
        assert_eq!(code, Some(1), "{report}");
        assert!(!policy.contains(rule), "{policy}");
        let lines: std::collections::BTreeSet<_> = report
            .lines()
            .skip_while(|it| !it.contains("not-imported"))
            .filter(|it| it.starts_with(" --> "))
            .collect();
        let said = report.matches("warning[not-imported]").count();
        assert!(said > 0 && said <= lines.len(), "{report}");
        let text = difference(maps, images);
        assert!(text.ends_with("0 of 1 images change\n"), "{text}");
    }
    let Some(folder) = cases("20-import-maps-says-left-out") else {
        return;
    };
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap();
    for (maps, images, unused) in [
        (
            "m01-subpath.conf",
            "registry.gitlab.example/org/clients/x/app:1",
            2,
        ),
        ("m09-wild.conf", "eu.gcr.io/p/a:1", 1),
        ("m02-image-disable.conf", "quay.io/acme/test-image:1", 1),
        ("m08-quotes.conf", "quay.io/a/b:1", 1),
    ] {
        let (code, policy, report) = import(&read(maps));
        assert_eq!(code, Some(1), "{report}");
        let said = report.matches("not-imported").count();
        assert_eq!(said, unused, "{report}");
        assert!(!policy.contains("clients/**") && !policy.contains("test-image"));
        let text = difference(&read(maps), images);
        assert!(text.ends_with("0 of 1 images change\n"), "{text}");
    }
}

#[test]
fn two_maps_files_are_compared() {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in [
        ("old.conf", "default::m.io\nquay.io::m.io/q\n"),
        ("new.conf", "default::m.io\nquay.io::n.io\n"),
        ("images.txt", "quay.io/a\nghcr.io/a\n"),
    ] {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    let diff = |old: &str, new: &str| {
        let output = imageswap(folder.path(), &["diff", old, new, "-f", "images.txt"]);
        let text = String::from_utf8(output.stdout).unwrap();
        (output.status.code(), text)
    };
    let changed = "quay.io/a\n- m.io/q/a (approved, rule maps:2 quay.io)\n\
                   + n.io/a (approved, rule maps:2 quay.io)\n1 of 2 images change\n";
    assert_eq!(diff("old.conf", "new.conf"), (Some(1), changed.to_owned()));
    let same = "0 of 2 images change\n".to_owned();
    assert_eq!(diff("old.conf", "old.conf"), (Some(0), same));
}
