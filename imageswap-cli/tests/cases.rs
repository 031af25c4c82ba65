//! What people wrote, and what the linter and `explain` say to it. The files are measured cases
//! beside the repository; the test is skipped where they are missing.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::path::{Path, PathBuf};
use std::process::Command;

/// A case's folder; prints a note and returns `None` if it is missing.
fn case(name: &str) -> Option<PathBuf> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/cases/policy");
    let folder = Path::new(folder).join(name);
    if folder.exists() {
        return Some(folder);
    }
    let may_skip = std::env::var_os("IMAGESWAP_NO_SKIP").is_none();
    assert!(may_skip, "no {}", folder.display());
    eprintln!("SKIP: no {}", folder.display());
    None
}

/// The exit code, and everything that is printed.
fn imageswap(folder: &Path, args: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_imageswap"));
    command.current_dir(folder).args(args).env("NO_COLOR", "1");
    let output = command.output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(text).unwrap())
}

#[test]
fn the_linter_says_what_is_wrong_and_what_to_write() {
    for (name, file, code, said) in [
        (
            "05-policies-that-overlap",
            "p12-nslabel-and-base.yaml",
            0,
            &[
                "policy `shop` is never chosen: `base` applies to all its Pods",
                "priority: 10",
            ][..],
        ),
        (
            "14-namespace-patterns",
            "x7.yaml",
            1,
            &[
                "error[label-wildcard]: `app-*` matches no label",
                "`namespaces: [\"app-*\"]`",
            ],
        ),
        (
            "21-lint-help-for-a-path-key",
            "m02-image-disable.conf",
            0,
            &[
                "[EXACT]quay.io/acme/test-image:TAG::",
                "`keep: \"quay.io/acme/test-image\"`",
            ],
        ),
        (
            "21-lint-help-for-a-path-key",
            "m01-subpath.conf",
            0,
            &[
                "`from: \"registry.gitlab.example/org/clients/**\"` and `to: 192.168.122.1:2000/org/apps`",
                "`from: \"registry.gitlab.example/org/platform/docker/**\"`",
            ],
        ),
        (
            "22-deny-list",
            "p10-deny-try.yaml",
            1,
            &["there is no field `deny`", "write `denied`"],
        ),
        (
            "22-deny-list",
            "p11-deny-neg.yaml",
            1,
            &[
                "`!` does not negate",
                "list `old.example.com/**` under `denied`",
            ],
        ),
        (
            "28-target-in-a-later-rule",
            "p01-bitnami.yaml",
            0,
            &["brings to `docker.io/bitnamilegacy/**` stay there, although rule `hub`"],
        ),
        (
            "28-target-in-a-later-rule",
            "p02-bitnami-order.yaml",
            0,
            &["nothing found"],
        ),
    ] {
        let Some(folder) = case(name) else { return };
        let (found, text) = imageswap(&folder, &["lint", "--no-notes", file]);
        assert_eq!(found, Some(code), "{file}: {text}");
        for said in said {
            assert!(text.contains(said), "{file}: {said}: {text}");
        }
    }
}

#[test]
fn explain_decides_as_the_author_meant() {
    for (name, flag, file, namespace, image, result) in [
        (
            "28-target-in-a-later-rule",
            "--policy",
            "p02-bitnami-order.yaml",
            "shop",
            "bitnami/redis:7",
            "reg.example.com/hub/bitnamilegacy/redis:7",
        ),
        // A line that is never used changes nothing.
        (
            "21-lint-help-for-a-path-key",
            "--maps",
            "m02-image-disable.conf",
            "shop",
            "quay.io/acme/test-image:1",
            "reg.example.com/quay/acme/test-image:1",
        ),
    ] {
        let Some(folder) = case(name) else { return };
        let args = ["explain", flag, file, "--namespace", namespace, image];
        let labels = ["--namespace-labels", "k8s.twr.io/imageswap=enabled"];
        let (code, text) = imageswap(&folder, &[&args[..], &labels].concat());
        assert_eq!(code, Some(0), "{file}: {text}");
        assert!(
            text.contains(&format!("result    {result}\n")),
            "{file}: {text}"
        );
    }
    // A policy that applies to nothing loads nowhere.
    let Some(folder) = case("14-namespace-patterns") else {
        return;
    };
    let args = [
        "explain",
        "--policy",
        "x7.yaml",
        "--namespace",
        "app-shop",
        "evil.example.net/x",
    ];
    let (code, text) = imageswap(&folder, &args);
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("label-wildcard"), "{text}");
}
