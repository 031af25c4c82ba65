//! Kyverno's registry policies, imported by the command and asked about images and manifests.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

use serde_json::Value;

use std::process::{Command, Output};

/// The two policies that people have: one that checks registries, one that replaces them.
const BOTH: &str = include_str!("data/kyverno.yaml");

fn imageswap(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_imageswap"))
        .args(args)
        .env("NO_COLOR", "1")
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn file(&self, name: &str, text: &str) -> String {
        let path = self.0.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    }

    /// Imports Kyverno's text; the file of the result, and the report.
    fn import(&self, kyverno: &str, flags: &[&str]) -> (String, String, Option<i32>) {
        let file = self.file("kyverno.yaml", kyverno);
        let output = imageswap(&[&["import", "kyverno", "-f", &file], flags].concat());
        let policy = self.file("policy.yaml", &text(&output.stdout));
        (policy, text(&output.stderr), output.status.code())
    }
}

/// Result and approval of each image.
fn decided(policy: &str, images: &[&str]) -> Vec<(String, bool)> {
    let args = [&["explain", "--policy", policy, "-o", "json"], images].concat();
    let output = imageswap(&args);
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout)
        .lines()
        .map(|it| serde_json::from_str::<Value>(it).unwrap())
        .map(|it| {
            (
                it["result"].as_str().unwrap().to_owned(),
                it["approved"].as_bool().unwrap(),
            )
        })
        .collect()
}

fn the(which: usize) -> &'static str {
    BOTH.split("\n---\n").nth(which).unwrap()
}

const DIGEST: &str =
    "gcr.io/a/b@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

#[test]
fn registries_are_checked_as_their_author_meant() {
    let folder = Folder::new();
    for check in [
        the(0).to_owned(),
        the(0)
            .replace("v1alpha1", "v1")
            .replace("kind: Policy", "kind: ClusterPolicy"),
        the(0).replace(
            "    resource:\n      kinds:\n      - Deployment\n      - StatefulSet\n",
            "    match: {any: [{resources: {kinds: [Deployment, StatefulSet]}}]}\n",
        ),
    ] {
        let (policy, report, code) = folder.import(&check, &[]);
        assert_eq!(code, Some(0), "{report}");
        assert!(
            report.contains("https://") && report.contains("mended"),
            "{report}"
        );
        assert!(
            report.lines().all(|it| it.chars().count() <= 80),
            "{report}"
        );
        let written = std::fs::read_to_string(&policy).unwrap();
        assert!(
            written.contains("enforcement: audit") && written.contains("Registry is not allowed"),
            "{written}"
        );
        for (image, approved) in [
            ("nginx", false),
            ("docker.io/nginx", false),
            ("us-docker.pkg.dev/p/r/i:1", false),
            ("nirmata/kyverno:1", true),
            ("docker.io/nirmata/kyverno", true),
            ("private.registry.io/x", true),
            ("private.registry.io.evil.net/x", false),
            ("evil.example.net/x/nirmata/y", false),
            (DIGEST, false),
        ] {
            assert_eq!(
                decided(&policy, &[image]),
                [(image.to_owned(), approved)],
                "{check}"
            );
        }
    }
    let (policy, _, _) = folder.import(
        &the(0).replace(
            "spec:\n  rules",
            "spec:\n  validationFailureAction: Enforce\n  rules",
        ),
        &[],
    );
    assert!(
        std::fs::read_to_string(policy)
            .unwrap()
            .contains("enforcement: deny")
    );
}

#[test]
fn registries_are_replaced_container_by_container() {
    let folder = Folder::new();
    let (policy, report, code) = folder.import(the(1), &[]);
    assert_eq!(code, Some(0), "{report}");
    for (image, result) in [
        ("nginx", "myregistry.corp.com/nginx"),
        ("nginx:1.25", "myregistry.corp.com/nginx:1.25"),
        ("library/nginx", "myregistry.corp.com/nginx"),
        ("docker.io/nginx", "myregistry.corp.com/nginx"),
        ("gcr.io/a/b:1", "myregistry.corp.com/a/b:1"),
        (DIGEST, &DIGEST.replace("gcr.io", "myregistry.corp.com")),
        ("localhost:5000/x", "myregistry.corp.com/x"),
        ("localhost/x", "myregistry.corp.com/x"),
        ("myreg:5000/team/x:1", "myregistry.corp.com/team/x:1"),
        ("registry.corp.com/app:1", "myregistry.corp.com/app:1"),
        ("us-docker.pkg.dev/p/r/i:1", "myregistry.corp.com/p/r/i:1"),
        ("nirmata/kyverno:1", "myregistry.corp.com/nirmata/kyverno:1"),
        ("myregistry.corp.com/nginx", "myregistry.corp.com/nginx"),
    ] {
        assert_eq!(
            decided(&policy, &[image]),
            [(result.to_owned(), true)],
            "{image}"
        );
    }
}

#[test]
fn manifests_are_checked_and_rewritten() {
    let workload = |kind: &str| {
        format!(
            "apiVersion: apps/v1\nkind: {kind}\nmetadata: {{name: web}}\nspec:\n  template:\n    spec:\n      \
                 initContainers:\n      - {{name: i, image: us-docker.pkg.dev/p/r/i:1}}\n      \
                 containers:\n      - {{name: a, image: nginx}} # first\n      - {{name: b, image: docker.io/nginx}}\n"
        )
    };
    let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: web}\nspec:\n  containers: [{name: a, image: 'nginx:1.25'}]\n  \
               ephemeralContainers: [{name: e, image: private.registry.io/debug}]\n";
    let folder = Folder::new();
    let manifests = [
        workload("Deployment"),
        workload("StatefulSet"),
        pod.to_owned(),
    ]
    .join("---\n");
    let file = folder.file("all.yaml", &manifests);

    let (policy, _, _) = folder.import(the(0), &[]);
    let output = imageswap(&["check", "--policy", &policy, "-f", &file]);
    let said = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert_eq!(
        said.matches("error[not-approved]").count() + said.matches("warning[not-approved]").count(),
        7,
        "{said}"
    );
    assert!(
        said.contains("Registry is not allowed")
            && !said.contains("`private.registry.io/debug` is not"),
        "{said}"
    );

    let (policy, _, _) = folder.import(the(1), &[]);
    let output = imageswap(&["rewrite", "--policy", &policy, "-f", &file]);
    let expected = manifests
        .replace("us-docker.pkg.dev/p", "myregistry.corp.com/p")
        .replace("image: docker.io/nginx", "image: nginx")
        .replace("image: nginx", "image: myregistry.corp.com/nginx")
        .replace("'nginx:1.25'", "'myregistry.corp.com/nginx:1.25'")
        .replace("private.registry.io", "myregistry.corp.com");
    assert_eq!(
        (text(&output.stdout), output.status.code()),
        (expected, Some(0)),
        "{}",
        text(&output.stderr)
    );
}

#[test]
fn policies_that_refuse_each_other_are_named() {
    let folder = Folder::new();
    let (policy, report, _) = folder.import(BOTH, &[]);
    let one_line = report.replace('\n', " ");
    assert!(
        one_line.contains(
            "`check-registries` and `replace-image-registry` would refuse each other's results"
        ),
        "{report}"
    );
    let written = std::fs::read_to_string(policy).unwrap();
    assert_eq!(written.matches("kind: ImageSwapPolicy").count(), 2);
    let (policy, _, _) = folder.import(BOTH, &["--merge"]);
    assert_eq!(
        decided(&policy, &["nginx", "nirmata/kyverno"]),
        [
            ("myregistry.corp.com/nginx".to_owned(), false),
            ("myregistry.corp.com/nirmata/kyverno".to_owned(), true),
        ]
    );
    let (policy, report, _) = folder.import(
        &BOTH.replace("private.registry.io", "myregistry.corp.com"),
        &[],
    );
    assert!(
        !report.contains("would refuse") && report.contains("are one policy here"),
        "{report}"
    );
    assert_eq!(
        decided(&policy, &["nginx"]),
        [("myregistry.corp.com/nginx".to_owned(), true)]
    );
}

fn rule(body: &str) -> String {
    format!(
        "apiVersion: kyverno.io/v1\nkind: ClusterPolicy\nmetadata: {{name: p}}\nspec:\n  validationFailureAction: Enforce\n  rules:\n  \
             - name: r\n    match: {{any: [{{resources: {{kinds: [Pod]}}}}]}}\n{body}"
    )
}

#[test]
fn forms_of_validation() {
    let folder = Folder::new();
    for body in [
        "    validate: {pattern: {spec: {'=(ephemeralContainers)': [{image: 'eu.foo.io/* | bar.io/*'}], '=(initContainers)': [{image: 'eu.foo.io/* | bar.io/*'}], containers: [{image: 'eu.foo.io/* | bar.io/*'}]}}}\n",
        "    validate: {anyPattern: [{spec: {containers: [{image: 'eu.foo.io/*'}]}}, {spec: {containers: [{image: 'bar.io/*'}]}}]}\n",
        "    validate: {foreach: [{list: 'request.object.spec.containers', deny: {conditions: {all: [{key: '{{element.image}}', operator: NotIn, value: ['eu.foo.io/*', 'bar.io/*']}]}}}]}\n",
        "    validate: {foreach: [{list: 'request.object.spec.containers', deny: {conditions: {all: [{key: '{{images.containers.\"{{element.name}}\".registry}}', operator: NotEquals, value: eu.foo.io}, {key: '{{images.containers.\"{{element.name}}\".registry}}', operator: NotEquals, value: bar.io}]}}}]}\n",
        "    validate: {deny: {conditions: {any: [{key: '{{request.object.spec.[containers, initContainers][].image}}', operator: AnyNotIn, value: ['eu.foo.io/*', 'bar.io/*']}]}}}\n",
    ] {
        let (policy, report, code) = folder.import(&rule(body), &[]);
        assert_eq!(code, Some(0), "{body}\n{report}");
        let found = decided(
            &policy,
            &["eu.foo.io/a/b", "bar.io/x:1", "nginx", "bar.io.evil.net/x"],
        );
        let approved: Vec<_> = found.iter().map(|it| it.1).collect();
        assert_eq!(approved, [true, true, false, false], "{body}\n{report}");
        assert!(
            std::fs::read_to_string(policy)
                .unwrap()
                .contains("enforcement: deny")
        );
    }
}

#[test]
fn forms_of_mutation() {
    let folder = Folder::new();
    let each = |image: &str| {
        rule(&format!(
            "    mutate:\n      foreach:\n      - list: request.object.spec.containers\n        patchStrategicMerge:\n          spec:\n            containers:\n            - name: '{{{{ element.name }}}}'\n              image: |-\n                {image}\n"
        ))
    };
    for (image, rows) in [
        (
            r"{{ regex_replace_all('^([^/]+\.[^/]+/)?(.*)$', '{{element.image}}', 'r.io/$2') }}",
            [
                ("nginx", "r.io/nginx"),
                ("gcr.io/a/b:1", "r.io/a/b:1"),
                ("r.io/a", "r.io/a"),
            ],
        ),
        (
            "r.io/{{ element.image }}",
            [
                ("nginx", "r.io/nginx"),
                ("gcr.io/a/b:1", "r.io/gcr.io/a/b:1"),
                ("r.io/a", "r.io/a"),
            ],
        ),
        (
            r"{{ regex_replace_all('^docker\.io/', '{{element.image}}', 'r.io/hub/') }}",
            [
                ("docker.io/a/b", "r.io/hub/a/b"),
                ("gcr.io/a/b", "gcr.io/a/b"),
                ("r.io/a", "r.io/a"),
            ],
        ),
        (
            r#"r.io/m/{{ images.containers."{{element.name}}".path }}:{{ images.containers."{{element.name}}".tag }}"#,
            [
                ("nginx:1", "r.io/m/nginx:1"),
                ("gcr.io/a/b:1", "r.io/m/a/b:1"),
                ("r.io/m/a", "r.io/m/a"),
            ],
        ),
    ] {
        let (policy, report, code) = folder.import(&each(image), &[]);
        assert_eq!(code, Some(0), "{image}\n{report}");
        for (from, to) in rows {
            assert_eq!(
                decided(&policy, &[from])[0].0,
                to,
                "{image}\n{report}\n{}",
                std::fs::read_to_string(&policy).unwrap()
            );
        }
    }
}

#[test]
fn nothing_is_dropped_in_silence() {
    let folder = Folder::new();
    for (kyverno, code, part) in [
        (rule("    verifyImages: [{imageReferences: ['*']}]\n"), 2, "`verifyImages`"),
        (rule("    validate: {pattern: {spec: {hostNetwork: false, containers: [{image: 'r.io/*'}]}}}\n"), 1, "`hostNetwork` is not about images"),
        (rule("    validate: {pattern: {spec: {containers: [{image: '!*:latest'}]}}}\n"), 2, "about the tag"),
        (rule("    mutate: {patchStrategicMerge: {spec: {containers: [{(name): '*', image: '{{ to_upper(element.image) }}'}]}}}\n"), 2, "is not understood"),
        ("apiVersion: policies.kyverno.io/v1\nkind: ImageValidatingPolicy\nmetadata: {name: c}\nspec: {}\n".to_owned(), 2, "written in CEL"),
        ("apiVersion: v1\nkind: Pod\nmetadata: {name: x}\n".to_owned(), 2, "no policy of Kyverno"),
    ] {
        let (_, report, found) = folder.import(&kyverno, &[]);
        let one_line: String = report.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(found == Some(code) && one_line.contains(part) && one_line.contains("kyverno.yaml:"), "{found:?} {kyverno}\n{report}");
    }
    let output = imageswap(&["import", "kyverno", "-f", &folder.file("bad.yaml", "a: [")]);
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn programs_get_one_object_for_each_policy() {
    let folder = Folder::new();
    let file = folder.file("both.yaml", BOTH);
    let output = imageswap(&["import", "kyverno", "-f", &file, "-o", "json"]);
    let answers: Vec<Value> = text(&output.stdout)
        .lines()
        .map(|it| serde_json::from_str(it).unwrap())
        .collect();
    assert_eq!(answers.len(), 2);
    assert!(answers.iter().all(|it| it["imported"] == true
        && it["documents"][0]["kind"] == "ImageSwapPolicy"
        && it["notes"][0]["line"].is_u64()));
}
