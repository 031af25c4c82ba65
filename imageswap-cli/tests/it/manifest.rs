//! Runs `check`, `rewrite` and `images`: their output and exit codes.

use crate::folder::Folder;
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

const MAPS: &str = "default:r.example.com\nquay.io::\nnoswap_wildcards:example.net\n";

const WEB: &str = "\
# The shop's front end.
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop}
spec:
  template:
    metadata:
      labels: {app: web}
    spec:
      initContainers:
      - {name: migrate, image: \"quay.io/shop/migrate:7\"}
      containers:
      - name: web
        image: nginx:1.25   # keep in step
      - name: proxy
        image: >-
          evil.com/example.net/proxy:2
---
apiVersion: v1
kind: Service
metadata: {name: web}
";

const JOB: &str = r#"{"apiVersion":"batch/v1","kind":"Job","metadata":{"name":"report"},"spec":{"template":{
  "spec":{"containers":[{"name":"run","image":"python:3"},{"name":"again","image":"python:3"}]}}}}"#;

/// A folder with `maps.conf` and these files.
fn folder(files: &[(&str, &str)]) -> Folder {
    let folder = Folder::new(files);
    folder.write("maps.conf", MAPS);
    folder
}

#[test]
fn check_tells_people_what_would_happen_and_where() {
    let folder = folder(&[("app/web.yaml", WEB), ("app/sub/job.json", JOB)]);
    let ran = folder.run("check --maps maps.conf -f app");
    let expected = "\
app/sub/job.json:2:47: python:3 -> r.example.com/python:3
app/sub/job.json:2:83: python:3 -> r.example.com/python:3
app/web.yaml:14:16: nginx:1.25 -> r.example.com/nginx:1.25

warning[not-approved]: `evil.com/example.net/proxy:2` is not approved
  --> app/web.yaml:17:11
   |
17 |           evil.com/example.net/proxy:2
   |           ^^^^^^^^^^^^^^^^^^^^^^^^^^^^
   = Deployment shop/web, container proxy
   = policy maps (audit): rule `maps:3 noswap_wildcards example.net` keeps it,
     and it is not approved

1 document has no images
5 images: 1 stays, 3 would be swapped, 1 not approved
";
    assert_eq!((ran.out(), ran.err(), ran.code()), (expected, "", Some(1)));
}

#[test]
fn check_passes_what_is_approved_and_counts_swaps_where_it_is_told_to() {
    let folder = folder(&[("job.json", JOB)]);
    let ran = folder.run("check --maps maps.conf -f job.json");
    ran.exits(0);
    assert!(
        ran.out()
            .ends_with("\n2 images: 0 stay, 2 would be swapped, 0 not approved\n")
    );
    let ran = folder.run("check --maps maps.conf -f job.json --deny-swaps");
    ran.exits(1);
    assert!(
        ran.out()
            .starts_with("error[would-be-swapped]: `python:3` would be swapped\n")
    );

    let ran = folder.run_with(
        "check --maps maps.conf -f - --deny-swaps",
        "apiVersion: v1\nkind: Service\n",
    );
    let expected =
        "1 document has no images\n0 images: 0 stay, 0 would be swapped, 0 not approved\n";
    assert_eq!((ran.out(), ran.code()), (expected, Some(0)));
}

#[test]
fn check_answers_programs_with_one_object_for_each_image() {
    let folder = folder(&[("web.yaml", WEB)]);
    let ran = folder.run("check --maps maps.conf -f web.yaml -o json");
    ran.exits(1);
    let answers = ran.json_lines();
    assert_eq!(answers.len(), 3);
    assert_eq!(
        answers[2],
        json!({
            "file": "web.yaml", "line": 17, "column": 11, "kind": "Deployment", "namespace": "shop", "name": "web",
            "container": "proxy", "path": "spec.template.spec.containers[1].image",
            "image": "evil.com/example.net/proxy:2", "result": "evil.com/example.net/proxy:2", "swapped": false,
            "approved": false, "in_scope": true, "finding": "not-approved", "policy": "maps", "enforcement": "audit",
            "message": null, "rule": "maps:3 noswap_wildcards example.net", "reason": "kept",
        })
    );
    let finding = |at: usize| &answers[at]["finding"];
    assert_eq!((finding(0), finding(1)), (&Value::Null, &Value::Null));
}

#[test]
fn what_cannot_be_read_is_an_error_beside_what_can() {
    let folder = folder(&[
        ("app/chart.yaml", "image: {{ .Values.image }}\n"),
        (
            "app/number.yaml",
            "apiVersion: v1\nkind: Pod\nspec: {containers: [{image: 1.0}]}\n",
        ),
        ("app/web.yaml", WEB),
    ]);
    folder.write("app/latin.yaml", b"a: b\nc: caf\xe9\n");
    let ran = folder.run("check --maps maps.conf -f app -f gone.yaml");
    ran.exits(2);
    for part in [
        "error: app/latin.yaml:2:7: the byte 0xe9 is not UTF-8\n",
        "error: cannot read gone.yaml: No such file",
        "error[yaml-key]: expected the name of a field, found a mapping\n --> app/chart.yaml:1:9\n",
        "render it first, with `helm template`",
        "error[manifest-type]: expected an image reference, found a number\n --> app/number.yaml:3:29\n",
    ] {
        assert!(ran.err().contains(part), "{part}\nin\n{}", ran.err());
    }
    assert!(
        ran.out()
            .ends_with("3 images: 1 stays, 1 would be swapped, 1 not approved\n"),
        "{ran:?}"
    );
    let ran = folder.run("check --maps maps.conf -f app --template-path Rollout");
    ran.exits(2).says("expected `KIND=PATH`, such as");
}

#[test]
fn labels_of_pods_and_of_namespaces_in_the_input_count() {
    let opted_out = WEB.replace("{app: web}", "{k8s.twr.io/imageswap: disabled}");
    let namespace = |label: &str| {
        format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: shop, labels: {{{label}}}}}\n")
    };
    let folder = folder(&[
        ("out.yaml", &opted_out),
        ("web.yaml", WEB),
        ("in/ns.yaml", &namespace("k8s.twr.io/imageswap: enabled")),
        ("other/ns.yaml", &namespace("a: b")),
    ]);
    let last = |command: &str| folder.run(command).last_line().to_owned();
    let judged = "3 images: 1 stays, 1 would be swapped, 1 not approved";
    let left = "3 images: 3 stay, 0 would be swapped, 0 not approved";
    assert_eq!(last("check --maps maps.conf -f out.yaml"), left);
    assert_eq!(last("check --maps maps.conf -f web.yaml -f in"), judged);
    assert_eq!(last("check --maps maps.conf -f web.yaml -f other"), left);
}

#[test]
fn custom_resources_are_read_by_a_path() {
    let widget = WEB
        .replace("apps/v1", "example.org/v1")
        .replace("Deployment", "Widget");
    let folder = folder(&[("widget.yaml", &widget)]);
    let ran = folder.run("check --maps maps.conf -f widget.yaml");
    ran.exits(0);
    assert!(
        ran.out()
            .starts_with("2 documents have no images\n0 images: ")
    );
    for flag in ["--template-path", "--image-path"] {
        let ran = folder.run(&format!(
            "check --maps maps.conf -f widget.yaml {flag} Widget.example.org=spec.template"
        ));
        ran.exits(1).prints("Widget shop/web, container proxy");
    }
}

#[test]
fn a_policy_says_what_it_does_about_findings() {
    let policy = "\
apiVersion: imageswap.io/v1alpha1
kind: ImageSwapPolicy
metadata: {name: corp}
spec:
  rules:
  - {name: hub, from: docker.io/**, to: r.example.com/hub}
  - {name: quay, keep: quay.io/**}
  exceptions:
  - {pattern: gcr.io/**, until: 2027-01-31, reason: moving}
  enforcement: deny
  message: Registry is not allowed
";
    let pod = "\
apiVersion: v1
kind: Pod
metadata: {name: p}
spec:
  containers:
  - {name: a, image: nginx}
  - {name: b, image: ghcr.io/b}
  - {name: c, image: gcr.io/c}
";
    let folder = folder(&[("policy.yaml", policy), ("pod.yaml", pod)]);
    let ran = folder.run("check --policy policy.yaml -f pod.yaml --date 2027-01-31");
    let expected = "\
pod.yaml:6:22: nginx -> r.example.com/hub/library/nginx

error[not-approved]: `ghcr.io/b` is not approved
 --> pod.yaml:7:22
  |
7 |   - {name: b, image: ghcr.io/b}
  |                      ^^^^^^^^^
  = Pod default/p, container b
  = policy corp (deny): no rule matches, so it stays and is not approved
  = message: Registry is not allowed

3 images: 1 stays, 1 would be swapped, 1 not approved
";
    assert_eq!((ran.out(), ran.err(), ran.code()), (expected, "", Some(1)));
    let last = |command: &str| folder.run(command).last_line().to_owned();
    assert_eq!(
        last("check --policy policy.yaml -f pod.yaml --date 2027-02-01"),
        "3 images: 0 stay, 1 would be swapped, 2 not approved"
    );
    // By default a policy does not apply to kube-system.
    assert_eq!(
        last("check --policy policy.yaml -f pod.yaml -n kube-system"),
        "3 images: 3 stay, 0 would be swapped, 0 not approved"
    );
    let ran = folder.run_with("check --policy - -f -", policy);
    ran.exits(2).says("standard input can be read only once");
}

#[test]
fn the_manual_shows_what_the_commands_print() {
    let manual = include_str!("../../../docs/manifests.md");
    let blocks = |kind: &'static str| {
        let open = format!("```{kind}\n");
        manual
            .split(&open)
            .skip(1)
            .map(|it| it.split("```").next().unwrap())
            .collect::<Vec<_>>()
    };
    let [policy, web] = blocks("yaml")[..] else {
        panic!("a policy and a manifest are expected");
    };
    let folder = folder(&[("policy.yaml", policy), ("app/web.yaml", web)]);
    let shown = blocks("console");
    assert_eq!(shown.len(), 6);
    for block in shown {
        let (command, expected) = block.split_once('\n').unwrap();
        let ran = folder.run(command.strip_prefix("$ imageswap ").unwrap());
        assert_eq!(ran.out(), expected, "{command}");
    }
}

#[test]
fn rewrite_prints_the_manifests_with_nothing_changed_but_images() {
    let folder = folder(&[("a/web.yaml", WEB), ("a/job.json", JOB)]);
    let web = WEB.replace("image: nginx", "image: r.example.com/nginx");
    let ran = folder.run("rewrite --maps maps.conf -f a/web.yaml");
    assert_eq!((ran.out(), ran.code()), (web.as_str(), Some(1)));
    assert!(
        ran.err()
            .starts_with("warning[not-approved]: `evil.com/example.net/proxy:2` is not approved\n")
    );
    let ran = folder.run_with("rewrite --maps maps.conf -f -", &web);
    assert_eq!((ran.out(), ran.code()), (web.as_str(), Some(1)));

    let job = JOB.replace("\"python", "\"r.example.com/python");
    let ran = folder.run("rewrite --maps maps.conf -f a");
    assert_eq!(ran.out(), format!("{job}\n---\n{web}"));
    assert_eq!(folder.read("a/web.yaml"), WEB);
}

#[test]
fn rewrite_in_place_changes_files_that_change() {
    let folder = folder(&[("job.json", JOB), ("same.yaml", "a: b\n")]);
    fs::set_permissions(folder.at("job.json"), fs::Permissions::from_mode(0o640)).unwrap();
    symlink("job.json", folder.at("link.json")).unwrap();
    let metadata = |name: &str| fs::metadata(folder.at(name)).unwrap();
    let before = metadata("same.yaml").modified().unwrap();

    let ran = folder.run("rewrite --maps maps.conf -f link.json -f same.yaml --in-place --diff");
    assert_eq!((ran.code(), ran.err()), (Some(0), ""));
    assert!(
        ran.out()
            .starts_with("--- a/link.json\n+++ b/link.json\n@@ -1,2 +1,2 @@\n"),
        "{ran:?}"
    );
    assert!(
        ran.out().ends_with("\n\\ No newline at end of file\n"),
        "{ran:?}"
    );
    assert_eq!(
        folder.read("job.json"),
        JOB.replace("\"python", "\"r.example.com/python")
    );
    assert!(folder.at("link.json").is_symlink());
    assert_eq!(metadata("job.json").permissions().mode() & 0o777, 0o640);
    assert_eq!(metadata("same.yaml").modified().unwrap(), before);

    let ran = folder.run("rewrite --maps maps.conf -f job.json --in-place --diff");
    assert_eq!((ran.code(), ran.out()), (Some(0), ""));
    let ran = folder.run_with("rewrite --maps maps.conf -f - --in-place", JOB);
    ran.exits(2);
}

#[test]
fn a_diff_is_one_that_patch_applies() {
    let folder = folder(&[("app/web.yaml", WEB)]);
    let ran = folder.run("rewrite --maps maps.conf -f app --diff");
    let expected = "\
--- a/app/web.yaml
+++ b/app/web.yaml
@@ -11,7 +11,7 @@
       - {name: migrate, image: \"quay.io/shop/migrate:7\"}
       containers:
       - name: web
-        image: nginx:1.25   # keep in step
+        image: r.example.com/nginx:1.25   # keep in step
       - name: proxy
         image: >-
           evil.com/example.net/proxy:2
";
    assert_eq!(ran.out(), expected);
}

#[test]
fn nothing_is_printed_when_not_all_could_be_rewritten() {
    let shared = "\
apiVersion: v1
kind: List
items:
- apiVersion: v1
  kind: Pod
  metadata: {name: a}
  spec: {containers: [{name: c, image: &image nginx}]}
- apiVersion: v1
  kind: Pod
  metadata: {name: b, labels: {k8s.twr.io/imageswap: disabled}}
  spec: {containers: [{name: c, image: *image}]}
";
    let folder = folder(&[("shared.yaml", shared), ("job.json", JOB)]);
    let ran = folder.run("rewrite --maps maps.conf -f shared.yaml -f job.json");
    assert_eq!((ran.out(), ran.code()), ("", Some(2)));
    for part in [
        "error[anchor-clash]: `nginx` is used twice by its anchor",
        " --> shared.yaml:7:47\n",
        "  = Pod default/a, spec.containers[0].image: r.example.com/nginx\n",
        "  = Pod default/b, spec.containers[0].image: nginx\n",
    ] {
        assert!(ran.err().contains(part), "{part}\nin\n{}", ran.err());
    }
}

#[test]
fn images_are_listed_for_tools_that_fill_a_mirror() {
    let folder = folder(&[("web.yaml", WEB), ("job.json", JOB)]);
    let ran = folder.run("images --maps maps.conf -f .");
    let expected = "\
evil.com/example.net/proxy:2 evil.com/example.net/proxy:2
nginx:1.25 r.example.com/nginx:1.25
python:3 r.example.com/python:3
quay.io/shop/migrate:7 quay.io/shop/migrate:7
";
    assert_eq!((ran.out(), ran.err(), ran.code()), (expected, "", Some(0)));
    let column = |it: usize| {
        let mut lines: Vec<_> = expected
            .lines()
            .map(|line| line.split(' ').nth(it).unwrap())
            .collect();
        lines.sort_unstable();
        lines.join("\n") + "\n"
    };
    assert_eq!(
        folder.run("images --maps maps.conf -f . --from").out(),
        column(0)
    );
    assert_eq!(
        folder.run("images --maps maps.conf -f . --to").out(),
        column(1)
    );
    let ran = folder.run("images --maps maps.conf -f job.json -o json");
    let expected = json!({"image": "python:3", "result": "r.example.com/python:3", "swapped": true, "approved": true});
    assert_eq!(ran.json(), expected);

    let bad = JOB.replacen("python:3", "Python:3", 1);
    let ran = folder.run_with("images --maps maps.conf -f -", &bad);
    assert_eq!(
        (ran.out(), ran.code()),
        ("python:3 r.example.com/python:3\n", Some(1))
    );
    ran.says("`Python:3` is not an image reference\n --> standard input:2:47\n");
}
