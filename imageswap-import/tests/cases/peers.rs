//! Gatekeeper's and Kubewarden's policies, and the examples of the documentation.

use super::helpers::{ALL_PODS, constraint, decide, files, imported, together};
use imageswap_import::{Status, write};
use imageswap_policy::document::Enforcement;

/// The page whose examples are run.
const PAGE: &str = include_str!("../../../docs/migrating.md");

/// The YAML blocks below a heading of the page.
fn blocks(heading: &str) -> Vec<&'static str> {
    blocks_of(heading, "yaml")
}

/// The blocks in one language below a heading of the page.
fn blocks_of(heading: &str, language: &str) -> Vec<&'static str> {
    let part = PAGE
        .split("\n## ")
        .find(|it| it.starts_with(heading))
        .unwrap();
    part.split(&format!("```{language}\n"))
        .skip(1)
        .map(|it| it.split("```").next().unwrap())
        .collect()
}

#[test]
fn the_examples_of_the_page_are_true() {
    let kyverno = blocks("From Kyverno");
    let it = imported(kyverno[0]);
    assert_eq!(it.report.count(Status::CarriedOver), 1);
    let written = write::policy(&it.policies[0], "head", &[]);
    assert_eq!(written.strip_prefix("# head\n").unwrap(), kyverno[1]);
    let rule = kyverno[0].split("    validate:\n").next().unwrap();
    let unknown = format!("{rule}    {}", kyverno[2].replace('\n', "\n    "));
    let it = imported(&unknown);
    let why = "the variable `registries` is known in a cluster only";
    assert_eq!(it.report.rules[0].reason.as_deref(), Some(why));
    let cel = blocks("From policies in CEL");
    let it = imported(cel[0]);
    assert!(it.report.is_exact(), "{:?}", it.report);
    let written = write::policy(&it.policies[0], "head", &[]);
    assert_eq!(written.strip_prefix("# head\n").unwrap(), cel[1]);
    let it = imported(blocks("From Gatekeeper")[0]);
    assert!(it.report.is_exact(), "{:?}", it.report);
    assert_eq!(it.policies[0].spec.enforcement, Enforcement::Warn);
    for (namespace, image, approved) in [
        ("a", "reg.example.com/x:1", Some(true)),
        ("a", "quay.io/acme/x", Some(true)),
        ("a", "quay.io/acmex/x", Some(false)),
        ("a", "nginx", Some(false)),
        ("monitoring", "nginx", None),
    ] {
        assert_eq!(
            decide(&it, namespace, &[], image).map(|it| it.1),
            approved,
            "{namespace} {image}"
        );
    }
    let it = imported(blocks("From Kubewarden")[0]);
    assert!(it.report.is_exact(), "{:?}", it.report);
    for (image, approved) in [
        ("reg.example.com/x:1", true),
        ("reg.example.com/x", true),
        ("reg.example.com/x:edge", false),
        ("nginx:1", false),
    ] {
        assert_eq!(decide(&it, "a", &[], image).unwrap().1, approved, "{image}");
    }
}

#[test]
fn the_examples_of_configurations_are_true() {
    let file = |name, text| files(&[(name, text)]);
    let webhook = |name: &str, path: &str| {
        format!(
            "apiVersion: admissionregistration.k8s.io/v1\nkind: MutatingWebhookConfiguration\nmetadata: {{name: w}}\nwebhooks: [{{name: {name}, clientConfig: {{service: {{path: {path}}}}}, rules: [{{apiGroups: [\"\"], apiVersions: [v1], operations: [CREATE, UPDATE], resources: [pods]}}]}}]\n"
        )
    };
    let harbor = blocks("From harbor-container-webhook")[0];
    let it = together(harbor, &webhook("w", "/webhook-v1-pod"));
    for (image, moved) in [
        ("nginx:1", "harbor.example.com/hub/library/nginx:1"),
        (
            "ubuntu:24.04",
            "harbor.example.com/ubuntu/library/ubuntu:24.04",
        ),
        ("quay.io/a:1", "quay.io/a:1"),
    ] {
        assert_eq!(
            decide(&it, "a", &[], image).unwrap().0,
            moved,
            "{:?}",
            it.report
        );
    }
    let alone = file("config.yaml", harbor);
    assert!(!alone.report.is_exact());
    let it = together(
        blocks("From k8s-image-swapper")[0],
        &webhook("k8s-image-swapper.github.io", "/webhook"),
    );
    let target = "123456789012.dkr.ecr.eu-west-1.amazonaws.com";
    assert_eq!(
        decide(&it, "a", &[], "nginx").unwrap().0,
        format!("{target}/docker.io/library/nginx"),
        "{:?}",
        it.report
    );
    assert_eq!(decide(&it, "kube-system", &[], "nginx"), None);
    let kept = "9.dkr.ecr.us-1.amazonaws.com/a:1";
    assert_eq!(decide(&it, "a", &[], kept).unwrap().0, kept);
    let heading = "From the mirrors of containerd";
    let it = file("certs.d/quay.io/hosts.toml", blocks_of(heading, "toml")[0]);
    assert_eq!(it.report.count(Status::Differs), 1);
    let written = write::policy(&it.policies[0], "head", &[]);
    assert_eq!(
        written.strip_prefix("# head\n").unwrap(),
        blocks(heading)[0]
    );
    let alone = "server = \"https://mirror.example.com\"\n";
    let it = file("certs.d/quay.io/hosts.toml", alone);
    assert!(it.report.is_exact(), "{:?}", it.report);
    let heading = "From registries.conf of podman and CRI-O";
    let it = file("registries.conf", blocks_of(heading, "toml")[0]);
    for (image, moved, approved) in [
        ("quay.io/team/a:1", "registry.example.com/quay/a:1", true),
        ("ghcr.io/acme/a:1", "mirror.example.com/acme/a:1", true),
        (
            "old.example.com/team/a:1",
            "old.example.com/team/a:1",
            false,
        ),
        ("nginx:1", "nginx:1", true),
    ] {
        let decided = decide(&it, "a", &[], image).unwrap();
        assert_eq!(
            (decided.0.as_str(), decided.1),
            (moved, approved),
            "{:?}",
            it.report
        );
    }
    assert_eq!(it.report.count(Status::CarriedOver), 1);
    assert_eq!(it.report.count(Status::Differs), 2);
}

#[test]
fn constraints_become_lists() {
    for (kind, parameters, rows) in [
        (
            "K8sAllowedRepos",
            "{repos: [reg.example.com]}",
            [
                ("reg.example.com/a:1", true),
                ("reg.example.com.evil.net/a:1", true),
                ("quay.io/a:1", false),
            ],
        ),
        (
            "K8sAllowedReposv2",
            "{allowedImages: [\"reg.example.com/*\"]}",
            [
                ("reg.example.com/a:1", true),
                ("reg.example.com.evil.net/a:1", false),
                ("quay.io/a:1", false),
            ],
        ),
        (
            "K8sDisallowedRepos",
            "{repos: [old.example.com/]}",
            [
                ("old.example.com/a:1", false),
                ("quay.io/a:1", true),
                ("nginx:1", true),
            ],
        ),
    ] {
        let it = imported(&constraint(kind, ALL_PODS, parameters));
        assert_ne!(
            it.report.rules[0].status,
            Status::LeftOut,
            "{kind} {:?}",
            it.report
        );
        for (image, approved) in rows {
            assert_eq!(
                decide(&it, "a", &[], image).unwrap().1,
                approved,
                "{kind} {image}"
            );
        }
    }
    // Whether an image with a port but without a tag is refused depends on its text: left out or
    // right, never wrong.
    let it = imported(&constraint(
        "K8sDisallowedTags",
        ALL_PODS,
        "{tags: [latest]}",
    ));
    if it.report.rules[0].status != Status::LeftOut {
        assert!(!decide(&it, "a", &[], "quay.io/a").unwrap().1);
    }
}

#[test]
fn what_a_constraint_selects_by_is_understood_or_left_out() {
    let body = constraint("K8sAllowedRepos", "{source: Generated}", "{repos: [a.io/]}");
    assert_eq!(imported(&body).report.count(Status::LeftOut), 1);
    let body = body.replace("source: Generated", "namespaces: [\"app-*\"]");
    let it = imported(&body);
    assert!(it.report.is_exact(), "{:?}", it.report);
    assert_eq!(
        decide(&it, "app-x", &[], "b.io/x").map(|it| it.1),
        Some(false)
    );
    assert_eq!(decide(&it, "other", &[], "b.io/x"), None);
}

#[test]
fn assigned_domains_become_rules() {
    let it = imported(
        "apiVersion: mutations.gatekeeper.sh/v1\nkind: AssignImage\nmetadata: {name: a}\nspec:\n  applyTo: [{groups: [\"\"], kinds: [Pod], versions: [v1]}]\n  location: \"spec.containers[name:*].image\"\n  parameters: {assignDomain: mirror.example.com}\n",
    );
    assert_ne!(
        it.report.rules[0].status,
        Status::LeftOut,
        "{:?}",
        it.report
    );
    for (image, result) in [
        ("quay.io/a/b:1", "mirror.example.com/a/b:1"),
        ("nginx:1", "mirror.example.com/nginx:1"),
        ("localhost:5000/x", "mirror.example.com/x"),
    ] {
        assert_eq!(decide(&it, "a", &[], image).unwrap().0, result, "{image}");
    }
}
