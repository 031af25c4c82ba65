//! What people wrote, and what the linter and `explain` say to it. The files are measured cases
//! beside the repository; the test is skipped where they are missing.

use crate::folder::{imageswap, measured};
use imageswap_lab::Ran;

/// Runs the command in the folder of a case; `None` if that is missing.
fn run(case: &str, words: &str) -> Option<Ran> {
    let folder = measured(&format!("cases/policy/{case}"))?;
    let mut command = imageswap(&folder);
    Some(Ran::of(command.args(words.split(' ')), "").unwrap())
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
        let Some(ran) = run(name, &format!("lint --no-notes {file}")) else {
            return;
        };
        assert_eq!(ran.code(), Some(code), "{file}: {ran:?}");
        for said in said {
            let is_said = ran.out().contains(said) || ran.err().contains(said);
            assert!(is_said, "{file}: {said}: {ran:?}");
        }
    }
}

#[test]
fn explain_decides_as_the_author_meant() {
    for (name, policy, image, result) in [
        (
            "28-target-in-a-later-rule",
            "--policy p02-bitnami-order.yaml",
            "bitnami/redis:7",
            "reg.example.com/hub/bitnamilegacy/redis:7",
        ),
        // A line that is never used changes nothing.
        (
            "21-lint-help-for-a-path-key",
            "--maps m02-image-disable.conf",
            "quay.io/acme/test-image:1",
            "reg.example.com/quay/acme/test-image:1",
        ),
    ] {
        let labels = "--namespace-labels k8s.twr.io/imageswap=enabled";
        let words = format!("explain {policy} --namespace shop {image} {labels}");
        let Some(ran) = run(name, &words) else { return };
        assert_eq!(ran.code(), Some(0), "{policy}: {ran:?}");
        assert!(
            ran.out().contains(&format!("result    {result}\n")),
            "{policy}: {ran:?}"
        );
    }
    // A policy that applies to nothing loads nowhere.
    let words = "explain --policy x7.yaml --namespace app-shop evil.example.net/x";
    let Some(ran) = run("14-namespace-patterns", words) else {
        return;
    };
    ran.exits(2).says("label-wildcard");
}
