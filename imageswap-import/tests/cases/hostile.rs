//! Inputs that were once imported without a word and decided otherwise, and others of their kind.

use super::cel::demand;
use super::helpers::{self, DIGEST, decide, files, imported, is, rule, statuses};
use imageswap_import::{Import, Status};

const EVERYWHERE: &str = "match: {any: [{resources: {kinds: [Pod]}}]}";

/// Left out, or this image is decided like this: its result, and whether it is let in.
fn never_wrong(it: &Import, image: &str, result: &str, approved: bool) {
    if it.policies.is_empty() {
        assert!(
            !it.report.is_exact() || it.report.rules.is_empty(),
            "{:?}",
            it.report
        );
        return;
    }
    let found = decide(it, "any", &[], image).unwrap();
    assert_eq!(
        (found.0.as_str(), found.1),
        (result, approved),
        "{:?}",
        it.report
    );
}

fn refused(it: &Import, image: &str) {
    never_wrong(it, image, image, false);
}

fn let_in(it: &Import, image: &str) {
    never_wrong(it, image, image, true);
}

fn left_out(it: &Import) {
    assert!(it.policies.is_empty(), "{:?}", it.report);
}

fn constraint(kinds: &str, body: &str) -> Import {
    let matched = format!("{{kinds: {kinds}}}");
    imported(&helpers::constraint("K8sAllowedRepos", &matched, body))
}

fn kubewarden(module: &str, rules: &str, settings: &str) -> Import {
    imported(&format!(
        "apiVersion: policies.kubewarden.io/v1\nkind: ClusterAdmissionPolicy\nmetadata: {{name: k}}\nspec: {{module: {module}, mutating: false, rules: [{rules}], settings: {settings}}}\n"
    ))
}

const PODS: &str =
    "{apiGroups: [\"\"], apiVersions: [v1], resources: [pods], operations: [CREATE, UPDATE]}";
const MODULE: &str = "registry://ghcr.io/kubewarden/policies/trusted-repos:v2.0.1";

#[test]
fn kinds_of_other_groups_are_not_pods() {
    left_out(&constraint(
        "[{apiGroups: [apps], kinds: [Pod]}]",
        "{repos: [a.io/]}",
    ));
    let it = constraint(
        "[{apiGroups: [apps], kinds: [Deployment]}, {apiGroups: [\"*\"], kinds: [\"*\"]}]",
        "{repos: [a.io/]}",
    );
    is(&it, &[Status::CarriedOver]);
    let assign = |groups: &str, versions: &str| {
        imported(&format!(
            "apiVersion: mutations.gatekeeper.sh/v1\nkind: AssignImage\nmetadata: {{name: a}}\nspec:\n  applyTo: [{{groups: [{groups}], kinds: [Pod], versions: [{versions}]}}]\n  location: \"spec.containers[name:*].image\"\n  parameters: {{assignDomain: m.example}}\n"
        ))
    };
    left_out(&assign("apps", "v1"));
    left_out(&assign("\"\"", "v2"));
    never_wrong(&assign("\"\"", "v1"), "quay.io/a:1", "m.example/a:1", true);
    left_out(&kubewarden(
        MODULE,
        &PODS.replace("\"\"", "apps"),
        "{registries: {allow: [a.io]}}",
    ));
    refused(
        &kubewarden(MODULE, PODS, "{registries: {allow: [a.io]}}"),
        "b.io/x:1",
    );
    left_out(&rule(
        "match: {any: [{resources: {kinds: [custom.example/v1/Pod]}}]}\nvalidate: {pattern: {spec: {containers: [{image: \"a.io/*\"}]}}}",
    ));
    for kind in ["v1/Pod", "*/v1/Pod", "*/Pod"] {
        let it = rule(&format!(
            "match: {{any: [{{resources: {{kinds: [\"{kind}\"]}}}}]}}\nvalidate: {{pattern: {{spec: {{containers: [{{image: \"a.io/*\"}}]}}}}}}"
        ));
        assert_eq!(statuses(&it), [Status::CarriedOver], "{kind}");
    }
}

#[test]
fn modules_and_images_of_kubewarden_are_named_exactly() {
    for module in [
        "registry://ghcr.io/other/not-trusted-repos:v1",
        "registry://ghcr.io/other/trusted-repos-2:v1",
        "file:///trusted-repos/policy.wasm",
    ] {
        let it = kubewarden(module, PODS, "{registries: {allow: [a.io]}}");
        left_out(&it);
        assert_eq!(it.report.others.len(), 1, "{module}");
    }
    // The same last name elsewhere, and a version that only a registry knows.
    for module in [
        "registry://ghcr.io/other/trusted-repos:v2.0.4",
        "registry://ghcr.io/kubewarden/policies/trusted-repos@sha256:00",
    ] {
        let it = kubewarden(module, PODS, "{registries: {allow: [a.io]}}");
        assert_eq!(statuses(&it), [Status::LeftOut], "{module}");
    }
    let pinned = "registry://ghcr.io/kubewarden/policies/trusted-repos:v2.0.4@sha256:00";
    let it = kubewarden(pinned, PODS, "{registries: {allow: [a.io]}}");
    is(&it, &[Status::CarriedOver]);
    refused(&it, "b.io/x:1");
    left_out(&kubewarden(
        MODULE,
        PODS,
        "{images: {allow: [\"quay.io/a/*\"]}}",
    ));
}

#[test]
fn expressions_of_another_reader_are_left_out() {
    for expression in [
        "^[a-z&&[^q]]+[.]example/",
        "(?x) ^reg[.]example/",
        "^reg[.]example/\\\\p{L}",
    ] {
        left_out(&demand(
            "",
            &format!("object.spec.containers.all(c, c.image.matches('{expression}'))"),
        ));
        left_out(&rule(&format!(
            "{EVERYWHERE}\nvalidate: {{foreach: [{{list: request.object.spec.containers, deny: {{conditions: {{any: [{{key: \"{{{{ regex_match('{expression}', element.image) }}}}\", operator: Equals, value: false}}]}}}}}}]}}"
        )));
    }
}

#[test]
fn texts_that_are_asked_for_together_are_tried_together() {
    let ecr = "9.dkr.ecr.us-1.amazonaws.com/a:1";
    let it = demand(
        "",
        "object.spec.containers.all(c, !(c.image.contains('.dkr.ecr.') && c.image.contains('.amazonaws.com')))",
    );
    refused(&it, ecr);
    let_in(&it, "quay.io/a:1");
    let it = demand(
        "",
        "object.spec.containers.all(c, c.image.contains('.corp.') && c.image.contains('team'))",
    );
    let_in(&it, "a.corp.team.example/x:1");
    refused(&it, "a.corp.example/x:1");
    let it = rule(&format!(
        "{EVERYWHERE}\nvalidate: {{pattern: {{spec: {{containers: [{{image: \"*.corp.* & *team*\"}}]}}}}}}"
    ));
    let_in(&it, "a.corp.team.example/x:1");
    refused(&it, "quay.io/a:1");
    // A registry in upper case is another text.
    let it = demand(
        "",
        "object.spec.containers.all(c, c.image.lowerAscii().startsWith('reg.example/'))",
    );
    let_in(&it, "REG.EXAMPLE/x:1");
    let it = demand(
        "",
        "object.spec.containers.all(c, c.image.startsWith('reg.example/'))",
    );
    refused(&it, "REG.EXAMPLE/x:1");
    let swapper = "dryRun: false\nimageSwapPolicy: always\ntarget: {type: gcp, gcp: {location: eu, projectId: p, repositoryId: r}}\nsource: {filters: [{jmespath: \"contains(container.image, '.dkr.ecr.') && contains(container.image, '.amazonaws.com')\"}]}\n";
    let_in(&imported(swapper), ecr);
}

#[test]
fn tags_and_digests_go_where_the_mirrors_send_them() {
    let hosts = |text: &str| files(&[("certs.d/quay.io/hosts.toml", text)]);
    let digest = format!("quay.io/a{DIGEST}");
    let it = hosts(
        "[host.\"https://a.example\"]\ncapabilities = [\"pull\"]\n[host.\"https://b.example\"]\n",
    );
    never_wrong(&it, "quay.io/a:1", "b.example/a:1", true);
    never_wrong(&it, &digest, &format!("a.example/a{DIGEST}"), true);
    // A host that may only push is not asked.
    let it = hosts(
        "[host.\"https://a.example\"]\ncapabilities = [\"push\"]\n[host.\"https://b.example\"]\n",
    );
    never_wrong(&it, "quay.io/a:1", "b.example/a:1", true);
    let conf = |text: &str| {
        files(&[(
            "registries.conf",
            &format!("unqualified-search-registries = [\"docker.io\"]\n{text}"),
        )])
    };
    let it = conf(
        "[[registry]]\nlocation = \"quay.io/t\"\n[[registry.mirror]]\nlocation = \"a.example/t\"\npull-from-mirror = \"tag-only\"\n",
    );
    never_wrong(&it, "quay.io/t/a:1", "a.example/t/a:1", true);
    never_wrong(
        &it,
        &format!("quay.io/t/a{DIGEST}"),
        &format!("quay.io/t/a{DIGEST}"),
        true,
    );
    // `docker.io/nginx` is not a name that podman pulls.
    let it = conf("[[registry]]\nprefix = \"hub.example\"\nlocation = \"docker.io\"\n");
    assert!(!it.report.is_exact(), "{:?}", it.report);
    // An alias that changes nothing.
    let it = conf("[aliases]\n\"alpine\" = \"docker.io/library/alpine\"\n");
    let_in(&it, "alpine:3");
    let_in(&it, "quay.io/a:1");
    // What is blocked here may be the place of something else.
    let it = conf(
        "[[registry]]\nprefix = \"a.example\"\nlocation = \"b.example/x\"\n[[registry]]\nlocation = \"b.example\"\nblocked = true\n",
    );
    assert!(!it.report.is_exact());
    if it.report.count(Status::LeftOut) == 0 {
        refused(&it, "b.example/y:1");
        let moved = decide(&it, "any", &[], "a.example/i:1").unwrap();
        assert_eq!(
            moved,
            ("b.example/x/i:1".to_owned(), true),
            "{:?}",
            it.report
        );
    }
}
