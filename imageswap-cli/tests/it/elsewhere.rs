//! Images outside of Pods, and the flags that say what counts.

use crate::folder::{CORP, Folder, imageswap, measured};
use imageswap_lab::{Ran, require};
use serde_json::json;
use std::path::Path;

const POD: &str = "\
apiVersion: v1
kind: Pod
metadata: {name: p}
spec:
  containers:
  - {name: a, image: nginx}
  - {name: b, image: ghcr.io/b}
";

/// A folder with `policy.yaml` and these files.
fn folder(files: &[(&str, &str)]) -> Folder {
    let folder = Folder::new(files);
    folder.write("policy.yaml", CORP);
    folder
}

/// Runs the command where the environment names the policy.
fn run(folder: &Path, words: &str) -> Ran {
    let mut command = imageswap(folder);
    command.env("IMAGESWAP_POLICY", "policy.yaml");
    Ran::of(command.args(words.split(' ')), "").unwrap()
}

/// `cases/policy/26-images-elsewhere`.
#[test]
fn images_of_custom_resources_are_in_the_list_for_a_mirror() {
    let case = require!(measured("cases/policy/26-images-elsewhere"));
    let list = "images --policy p02-bitnami-order.yaml -f cr.yaml";
    let ran = run(&case, list);
    assert_eq!(
        ran.out(),
        "quay.io/operator/operator:1 quay.io/operator/operator:1\n\
         quay.io/prometheus/prometheus:v3.0.0 quay.io/prometheus/prometheus:v3.0.0\n"
    );
    ran.exits(0);
    // The image in the arguments is one flag away.
    let flag = "--image-path Deployment.apps=spec.template.spec.containers.*.args[--reloader]";
    let expected =
        "give --image-path 'Deployment.apps=spec.template.spec.containers.*.args[--reloader]'";
    ran.says("cr.yaml:13:64");
    ran.says(expected);
    let ran = run(&case, &format!("{list} {flag}"));
    ran.prints("quay.io/operator/reloader:1 quay.io/operator/reloader:1\n");
    assert_eq!((ran.err(), ran.code()), ("", Some(0)));
    // The flags of the case: known places, so they change nothing.
    for (flag, code) in [("Prometheus=spec.image", 0), ("Prometheus=spec", 0)] {
        let ran = run(&case, &format!("{list} --template-path {flag}"));
        assert_eq!(ran.code(), Some(code), "{flag}: {}", ran.err());
        assert_eq!(ran.out().lines().count(), 2, "{flag}");
    }
}

#[test]
fn files_of_other_tools_are_checked_and_rewritten() {
    let folder = folder(&[
        (
            "kustomization.yaml",
            "images:\n- {name: web, newName: nginx, newTag: '1.25'}\n- {name: redis, newTag: '7'}\n",
        ),
        (
            "values.yaml",
            "image: {registry: docker.io, repository: bitnami/nginx, tag: 1.25}   # ours\n",
        ),
        (
            "compose.yaml",
            "services:\n  web: {image: nginx}\n  db: {image: 'postgres:${TAG}'}\n",
        ),
    ]);
    let ran = run(
        folder.path(),
        "check kustomization.yaml values.yaml compose.yaml",
    );
    let expected = "\
kustomization.yaml:2:24: nginx:1.25
  -> registry.example.com/hub/library/nginx:1.25
kustomization.yaml:3:10: redis:7 -> registry.example.com/hub/library/redis:7
values.yaml:1:42: docker.io/bitnami/nginx:1.25
  -> registry.example.com/hub/bitnami/nginx:1.25
compose.yaml:2:16: nginx -> registry.example.com/hub/library/nginx

error[variable]: `postgres:${TAG}` has a variable
 --> compose.yaml:3:15
  |
3 |   db: {image: 'postgres:${TAG}'}
  |               ^^^^^^^^^^^^^^^^^
  = Compose default/compose.yaml, services.db.image
  = help: render the file first: helm template, docker compose config, oc
    process

5 images: 0 stay, 4 would be swapped, 0 not approved, 1 with a variable
";
    assert_eq!((ran.out(), ran.err(), ran.code()), (expected, "", Some(1)));
    let ran = run(folder.path(), "check compose.yaml --fail-on denied");
    ran.exits(0);

    let ran = run(folder.path(), "rewrite values.yaml");
    assert_eq!(
        ran.out(),
        "image: {registry: registry.example.com, repository: hub/bitnami/nginx, tag: 1.25}   # ours\n"
    );
    let ran = run(folder.path(), "rewrite kustomization.yaml");
    ran.exits(1);
    assert_eq!(
        ran.out(),
        "images:\n- {name: web, newName: registry.example.com/hub/library/nginx, newTag: '1.25'}\n\
         - {name: redis, newTag: '7'}\n"
    );
    let expected = "it would become `registry.example.com/hub/library/redis:7`: add `newName: registry.example.com/hub/library/redis`";
    ran.says("error[not-rewritten]").says(expected);
}

#[test]
fn the_flags_say_what_counts() {
    let audit = CORP.replace("spec:\n", "spec:\n  enforcement: audit\n");
    let swap = POD.replace("  - {name: b, image: ghcr.io/b}\n", "");
    let elsewhere = "apiVersion: x.io/v1\nkind: A\nspec: {image: registry.example.com/a}\n";
    let folder = folder(&[
        ("pod.yaml", POD),
        ("swap.yaml", &swap),
        ("elsewhere.yaml", elsewhere),
        ("audit.yaml", &audit),
    ]);
    for (command, code) in [
        ("check pod.yaml", 1),
        ("check pod.yaml --fail-on never", 0),
        ("check pod.yaml --fail-on swap", 1),
        ("check pod.yaml --fail-on warning", 0),
        ("check pod.yaml --policy audit.yaml", 1),
        ("check pod.yaml --policy audit.yaml --fail-on refused", 0),
        (
            "check pod.yaml --policy audit.yaml --fail-on refused --as deny",
            1,
        ),
        ("check pod.yaml --fail-on refused", 1),
        ("check pod.yaml --fail-on refused --as warn", 0),
        ("check swap.yaml", 0),
        ("check swap.yaml --fail-on swap", 1),
        ("check swap.yaml --fail-on denied,swap", 1),
        ("check swap.yaml --deny-swaps", 1),
        ("check swap.yaml --fail-on refused", 0),
        ("check elsewhere.yaml", 0),
        ("check elsewhere.yaml --fail-on warning", 1),
        (
            "check elsewhere.yaml --fail-on warning --image-path A=spec.image",
            0,
        ),
        (
            "check swap.yaml --fail-on warning --image-path A=spec.image",
            1,
        ),
        ("check missing.yaml --fail-on never", 2),
    ] {
        let ran = run(folder.path(), command);
        assert_eq!(
            ran.code(),
            Some(code),
            "{command}\n{}{}",
            ran.out(),
            ran.err()
        );
    }
    // The counts and findings are there with any enforcement.
    let last = "2 images: 0 stay, 1 would be swapped, 1 not approved\n";
    for (flags, head, note) in [
        ("", "error[not-approved]", "policy corp (deny): "),
        (
            " --as warn",
            "warning[not-approved]",
            "policy corp (warn, by --as): ",
        ),
        (
            " --policy audit.yaml",
            "warning[not-approved]",
            "policy corp (audit): ",
        ),
        (
            " --policy audit.yaml --as deny",
            "error[not-approved]",
            "policy corp (deny, by --as): ",
        ),
    ] {
        let ran = run(folder.path(), &format!("check pod.yaml{flags}"));
        for part in [head, note, last, "pod.yaml:6:22: nginx -> "] {
            assert!(ran.out().contains(part), "{flags}: {part}\n{}", ran.out());
        }
    }
    let ran = run(folder.path(), "check swap.yaml --image-path A=spec.image");
    assert_eq!(
        ran.err(),
        "warning: --image-path A=spec.image matches no image in these manifests\n"
    );
}

#[test]
fn a_summary_counts_by_registry() {
    let folder = folder(&[("pod.yaml", POD)]);
    let ran = run(folder.path(), "check pod.yaml --summary");
    let expected = "\
REGISTRY                                  IMAGES    SWAP  DENIED    LEFT
docker.io                                      1       1       0       0
ghcr.io                                        1       0       1       0

2 images: 0 stay, 1 would be swapped, 1 not approved
";
    assert_eq!((ran.out(), ran.code()), (expected, Some(1)));
    let ran = run(folder.path(), "check pod.yaml --summary -o json");
    let count = |swapped, not_approved| json!({"images": 1, "stay": 0, "swapped": swapped, "not_approved": not_approved, "variable": 0, "undecided": 0});
    assert_eq!(
        ran.json(),
        json!({
            "images": 2, "stay": 0, "swapped": 1, "not_approved": 1, "variable": 0, "undecided": 0,
            "others": 0, "warnings": 0, "findings": 1,
            "registries": {"docker.io": count(1, 0), "ghcr.io": count(0, 1)},
        })
    );
}

#[test]
fn labels_that_a_manifest_does_not_tell_are_asked_for() {
    let guarded = CORP.replace(
        "spec:\n",
        "spec:\n  match: {objectSelector: {matchLabels: {app: web}}}\n",
    );
    let folder = folder(&[
        ("guarded.yaml", &guarded),
        (
            "prometheus.yaml",
            "apiVersion: monitoring.coreos.com/v1\nkind: Prometheus\nmetadata: {name: k8s}\nspec: {image: quay.io/p}\n",
        ),
    ]);
    let ran = run(folder.path(), "check prometheus.yaml --policy guarded.yaml");
    ran.exits(2).says("give --labels KEY=VALUE,...");
    for (labels, code) in [("app=web", 1), ("app=x", 0)] {
        let ran = run(
            folder.path(),
            &format!("check prometheus.yaml --policy guarded.yaml --labels {labels}"),
        );
        assert_eq!(ran.code(), Some(code), "{}{}", ran.out(), ran.err());
    }
}
