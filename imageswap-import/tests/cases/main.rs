//! Policies of other people, imported and tested by their decisions.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod cel;
mod configurations;
mod containerd;
mod generated;
mod harbor;
mod helpers;
mod hostile;
mod kyverno;
mod lists;
mod lookalikes;
mod maps;
mod nasty;
mod peers;
mod places;
mod public;
mod registries;
mod swapper;
mod unknowns;

use helpers::{approved, becomes, check, decide, imported, is, result, rule, statuses, swap};
use imageswap_import::{Source, Status, import};
use std::path::PathBuf;

const EVERYWHERE: &str = "match: {any: [{resources: {kinds: [Pod]}}]}";

#[test]
fn official_images_keep_library_where_the_source_keeps_it() {
    let it = swap(
        "preconditions: {all: [{key: \"{{ element.image }}\", operator: Equals, value: \"docker.io/*\"}]}",
        "{{ regex_replace_all('^docker\\\\.io/(.+)$', element.image, 'cache.example.com/hub/$1') }}",
    );
    becomes(
        &it,
        "docker.io/library/redis:7",
        "cache.example.com/hub/library/redis:7",
    );
    becomes(&it, "quay.io/a/b:1", "quay.io/a/b:1");
    // A bare `redis` stays there, but is the same image here.
    is(&it, &[Status::Differs]);
    let it = swap(
        "",
        "reg.example.com/{{ images.containers.\\\"{{ element.name }}\\\".path }}:{{ images.containers.\\\"{{ element.name }}\\\".tag }}",
    );
    becomes(&it, "nginx:1", "reg.example.com/nginx:1");
}

#[test]
fn hosts_that_an_expression_leaves_out_are_treated_as_there() {
    let it = swap(
        "",
        "{{ regex_replace_all('^((?:[a-z0-9]+\\\\.)+[a-z0-9]+/)?(.*)$', element.image, 'reg.example.com/$2') }}",
    );
    for (image, expected) in [
        ("quay.io/a/b", "reg.example.com/a/b"),
        ("docker.elastic.co/es/es:8", "reg.example.com/es/es:8"),
        (
            "us-docker.pkg.dev/a/b:8",
            "reg.example.com/us-docker.pkg.dev/a/b:8",
        ),
        ("localhost/x", "reg.example.com/localhost/x"),
        ("nginx:1", "reg.example.com/nginx:1"),
    ] {
        becomes(&it, image, expected);
    }
}

#[test]
fn blocks_of_any_are_alternatives_and_fields_of_one_hold_together() {
    let it = check(
        "match: {any: [{resources: {kinds: [Pod], namespaces: [shop]}}, {resources: {kinds: [Pod], namespaces: [bank]}}]}",
        "reg.example.com/*",
    );
    is(&it, &[Status::CarriedOver]);
    for (namespace, expected) in [
        ("shop", Some(false)),
        ("bank", Some(false)),
        ("other", None),
    ] {
        assert_eq!(
            approved(&it, namespace, "evil.example.net/x"),
            expected,
            "{namespace}"
        );
    }
    let it = check(
        "match: {any: [{resources: {kinds: [Pod], namespaces: [shop]}}, {resources: {kinds: [Pod], selector: {matchLabels: {strict: \"yes\"}}}}]}",
        "reg.example.com/*",
    );
    assert_eq!(
        decide(&it, "other", &[("strict", "yes")], "evil.example.net/x").map(|it| it.1),
        Some(false)
    );
    assert_eq!(decide(&it, "other", &[], "evil.example.net/x"), None);
    let it = check(
        "match: {all: [{resources: {kinds: [Pod], namespaces: [\"app-*\"]}}, {resources: {selector: {matchLabels: {a: b}}}}]}",
        "reg.example.com/*",
    );
    assert_eq!(
        decide(&it, "app-x", &[("a", "b")], "evil.example.net/x").map(|it| it.1),
        Some(false)
    );
    assert_eq!(decide(&it, "app-x", &[], "evil.example.net/x"), None);
    assert_eq!(decide(&it, "x", &[("a", "b")], "evil.example.net/x"), None);
}

#[test]
fn a_block_of_exclude_never_excludes_more_than_it_says() {
    let exclude = |block: &str| {
        check(
            &format!("{EVERYWHERE}\nexclude: {{any: [{{resources: {block}}}]}}"),
            "reg.example.com/*",
        )
    };
    let it = exclude("{namespaces: [ci], names: [\"runner-*\"]}");
    assert_eq!(
        (statuses(&it), approved(&it, "ci", "evil.example.net/x")),
        (vec![Status::Differs], Some(false))
    );
    let it = exclude("{namespaces: [\"*-system\", monitoring]}");
    is(&it, &[Status::CarriedOver]);
    assert_eq!(approved(&it, "monitoring", "evil.example.net/x"), None);
    assert_eq!(approved(&it, "my-system", "evil.example.net/x"), None);
    assert_eq!(approved(&it, "other", "evil.example.net/x"), Some(false));
    // The namespaces that are left out anyway stay out.
    assert_eq!(
        approved(&it, "kube-system", "registry.k8s.io/pause:3.9"),
        None
    );
    let it = exclude("{namespaces: [ci], selector: {matchLabels: {a: b}}}");
    assert_eq!(decide(&it, "ci", &[("a", "b")], "evil.example.net/x"), None);
    assert_eq!(approved(&it, "ci", "evil.example.net/x"), Some(false));
}

#[test]
fn conditions_on_more_than_images_are_left_out() {
    let pattern = |pattern: &str| {
        rule(&format!(
            "{EVERYWHERE}\nvalidate: {{pattern: {{spec: {pattern}}}}}"
        ))
    };
    for it in [
        pattern("{containers: [{(image): \"reg.example.com/*\", imagePullPolicy: Always}]}"),
        pattern(
            "{containers: [{<(image): \"reg.example.com/*\"}], imagePullSecrets: [{name: \"?*\"}]}",
        ),
        pattern("{containers: [{image: \"reg.example.com/*\", imagePullPolicy: Always}]}"),
        pattern("{^(containers): [{image: \"reg.example.com/*\"}]}"),
        pattern("{containers: [{X(image): \"reg.example.com/*\"}]}"),
        pattern("{hostNetwork: false, containers: [{image: \"reg.example.com/*\"}]}"),
        pattern("{initContainers: [{image: \"reg.example.com/*\"}]}"),
        rule(&format!(
            "{EVERYWHERE}\npreconditions: {{all: [{{key: \"{{{{ request.userInfo.username }}}}\", operator: Equals, value: a}}]}}\nvalidate: {{pattern: {{spec: {{containers: [{{image: \"a.io/*\"}}]}}}}}}"
        )),
        check(
            "match: {any: [{resources: {kinds: [Pod]}, subjects: [{kind: User, name: a}]}]}",
            "a.io/*",
        ),
        check(
            "match: {any: [{resources: {kinds: [Pod], names: [\"a-*\"]}}]}",
            "a.io/*",
        ),
        check(
            "match: {any: [{resources: {kinds: [Pod]}, clusterRoles: [admin]}]}",
            "a.io/*",
        ),
        rule(&format!(
            "{EVERYWHERE}\ncelPreconditions: [{{name: a, expression: \"true\"}}]\nvalidate: {{pattern: {{spec: {{containers: [{{image: \"a.io/*\"}}]}}}}}}"
        )),
        rule(&format!(
            "{EVERYWHERE}\nvalidate: {{anyPattern: [{{spec: {{containers: [{{image: \"a.io/*\"}}]}}}}, {{spec: {{containers: [{{image: \"b.io/*\"}}]}}}}]}}"
        )),
        rule(&format!(
            "{EVERYWHERE}\nvalidate: {{deny: {{conditions: {{all: [{{key: \"{{{{ request.object.spec.containers[].image }}}}\", operator: AllIn, value: [a]}}]}}}}}}"
        )),
    ] {
        assert_eq!(
            (statuses(&it), it.policies.len()),
            (vec![Status::LeftOut], 0),
            "{:?}",
            it.report
        );
        assert!(it.report.rules[0].reason.is_some() && it.report.rules[0].line > 1);
    }
}

#[test]
fn preconditions_on_labels_are_the_scope() {
    let it = rule(
        "match: {any: [{resources: {kinds: [Pod]}}]}\npreconditions:\n  all:\n  - {key: \"{{ request.object.metadata.labels.team || '' }}\", operator: Equals, value: payments}\n  - {key: \"{{ request.operation || 'BACKGROUND' }}\", operator: AnyIn, value: [CREATE, UPDATE]}\nvalidate: {pattern: {spec: {containers: [{image: \"reg.example.com/*\"}]}}}",
    );
    is(&it, &[Status::CarriedOver]);
    assert_eq!(
        decide(&it, "a", &[("team", "payments")], "quay.io/a/b").map(|it| it.1),
        Some(false)
    );
    assert_eq!(decide(&it, "a", &[("team", "other")], "quay.io/a/b"), None);
}

#[test]
fn filters_of_a_list_are_kept() {
    let text = "apiVersion: kyverno.io/v1\nkind: ClusterPolicy\nmetadata: {name: p}\nspec:\n  rules:\n  - name: r\n    match: {any: [{resources: {kinds: [Pod]}}]}\n    mutate:\n      foreach:\n      - list: \"request.object.spec.containers[?starts_with(image, 'private.example.com/')]\"\n        patchStrategicMerge: {spec: {containers: [{name: \"{{ element.name }}\", image: \"{{ regex_replace_all('^[^/]+/', element.image, 'localhost:30081/') }}\"}]}}\n";
    let it = imported(text);
    becomes(&it, "private.example.com/a:1", "localhost:30081/a:1");
    for image in ["quay.io/a:1", "nginx", "private.example.com.evil.example/a"] {
        // A rule that swaps does not judge other images.
        assert_eq!(decide(&it, "a", &[], image), Some((image.to_owned(), true)));
    }
}

#[test]
fn each_pod_gets_the_stricter_of_all_rules_that_apply() {
    let rules = |second: &str| {
        imported(&format!(
            "apiVersion: kyverno.io/v1\nkind: ClusterPolicy\nmetadata: {{name: a}}\nspec:\n  validationFailureAction: Enforce\n  rules:\n  - {{name: base, match: {{any: [{{resources: {{kinds: [Pod]}}}}]}}, validate: {{pattern: {{spec: {{containers: [{{image: \"reg.example.com/*\"}}]}}}}}}}}\n---\napiVersion: kyverno.io/v1\nkind: ClusterPolicy\nmetadata: {{name: b}}\nspec:\n  rules:\n  - {second}\n"
        ))
    };
    let it = rules(
        "{name: shop, match: {any: [{resources: {kinds: [Pod], namespaces: [shop]}}]}, validate: {failureAction: Enforce, pattern: {spec: {containers: [{image: \"reg.example.com/shop/*\"}]}}}}",
    );
    is(&it, &[Status::CarriedOver, Status::CarriedOver]);
    assert_eq!(
        approved(&it, "shop", "reg.example.com/bank/app:1"),
        Some(false)
    );
    assert_eq!(
        approved(&it, "shop", "reg.example.com/shop/app:1"),
        Some(true)
    );
    assert_eq!(
        approved(&it, "bank", "reg.example.com/bank/app:1"),
        Some(true)
    );
    // A rule that audits does not weaken one that refuses, and the report names what is lost.
    let it = rules(
        "{name: shop, match: {any: [{resources: {kinds: [Pod], namespaces: [shop]}}]}, validate: {failureAction: Audit, pattern: {spec: {containers: [{image: \"reg.example.com/shop/*\"}]}}}}",
    );
    is(&it, &[Status::CarriedOver, Status::LeftOut]);
    assert_eq!(approved(&it, "shop", "evil.example.net/x"), Some(false));
}

#[test]
fn refusals_become_denials() {
    let it = rule(
        "match: {any: [{resources: {kinds: [Pod]}}]}\nvalidate:\n  message: retired\n  foreach:\n  - list: request.object.spec.containers\n    deny: {conditions: {all: [{key: \"{{ element.image }}\", operator: Equals, value: \"old.example.com/*\"}]}}",
    );
    is(&it, &[Status::CarriedOver]);
    assert_eq!(approved(&it, "a", "old.example.com/x:1"), Some(false));
    assert_eq!(approved(&it, "a", "nginx"), Some(true));
    let pattern = |pattern: &str| {
        format!(
            "{{name: \"{pattern}\", match: {{any: [{{resources: {{kinds: [Pod]}}}}]}}, validate: {{pattern: {{spec: {{containers: [{{image: \"{pattern}\"}}]}}}}}}}}"
        )
    };
    let it = imported(&format!(
        "apiVersion: kyverno.io/v1\nkind: ClusterPolicy\nmetadata: {{name: a}}\nspec:\n  validationFailureAction: Enforce\n  rules: [{}, {}, {}]\n",
        pattern("*:*"),
        pattern("!*:latest"),
        pattern("registry.paas/*")
    ));
    for (image, expected) in [
        ("registry.paas/a:1", true),
        ("registry.paas/a:latest", false),
        ("registry.paas/a", false),
        ("other.paas/a:1", false),
    ] {
        assert_eq!(approved(&it, "a", image), Some(expected), "{image}");
    }
}

#[test]
fn what_no_list_says_is_left_out_with_an_image() {
    let it = rule(
        "match: {any: [{resources: {kinds: [Pod]}}]}\nvalidate:\n  foreach:\n  - list: request.object.spec.containers\n    preconditions: {all: [{key: \"{{ element.image }}\", operator: Equals, value: \"docker.io/*\"}]}\n    pattern: {image: \"docker.io/library/*\"}",
    );
    is(&it, &[Status::LeftOut]);
    assert!(
        it.report.rules[0]
            .reason
            .as_ref()
            .unwrap()
            .contains("such as `"),
        "{:?}",
        it.report
    );
}

#[test]
fn idioms_become_rules() {
    let it = swap(
        "",
        "{{ regex_replace_all('docker.io/bitnami/', element.image, 'docker.io/bitnamilegacy/') }}",
    );
    becomes(
        &it,
        "docker.io/bitnami/redis:7",
        "docker.io/bitnamilegacy/redis:7",
    );
    becomes(
        &it,
        "docker.io/bitnamix/redis:7",
        "docker.io/bitnamix/redis:7",
    );
    let it = swap(
        "",
        "reg.example.com/{{ regex_replace_all_literal('^.*/', element.image, '') }}",
    );
    becomes(&it, "quay.io/a/b/c:1", "reg.example.com/c:1");
    becomes(&it, "nginx", "reg.example.com/nginx");
    let it = swap(
        "",
        "{{ replace_all(element.image, 'registry.a.example/team', 'registry.b.example/squad') }}",
    );
    becomes(
        &it,
        "registry.a.example/team/x:1",
        "registry.b.example/squad/x:1",
    );
    let guard = "preconditions: {all: [{key: \"{{ regex_match('^reg\\\\.example\\\\.com/', element.image || '') }}\", operator: Equals, value: false}]}";
    let it = swap(guard, "reg.example.com/{{ element.image }}");
    becomes(&it, "reg.example.com/a", "reg.example.com/a");
    becomes(&it, "quay.io/a", "reg.example.com/quay.io/a");
}

#[test]
fn exceptions_narrow_the_scope() {
    let it = imported(
        "apiVersion: kyverno.io/v1\nkind: ClusterPolicy\nmetadata: {name: a}\nspec:\n  validationFailureAction: Enforce\n  rules:\n  - {name: base, match: {any: [{resources: {kinds: [Pod]}}]}, validate: {pattern: {spec: {containers: [{image: \"reg.example.com/*\"}]}}}}\n---\napiVersion: kyverno.io/v2\nkind: PolicyException\nmetadata: {name: e, namespace: x}\nspec:\n  exceptions: [{policyName: a, ruleNames: [\"b*\"]}]\n  match: {any: [{resources: {kinds: [Pod], namespaces: [legacy]}}]}\n",
    );
    is(&it, &[Status::CarriedOver, Status::CarriedOver]);
    let exception = it.report.rules.iter().find(|it| it.rule == "exception");
    let notes = &exception.unwrap().notes;
    assert!(notes[0].contains("`--enablePolicyException`"), "{notes:?}");
    assert_eq!(approved(&it, "legacy", "evil.example.net/x"), None);
    assert_eq!(approved(&it, "a", "evil.example.net/x"), Some(false));
}

#[test]
fn other_documents_are_named_and_broken_ones_have_a_place() {
    let it = import(&[
        Source {
            name: "a.yaml",
            text: "kind: ConfigMap\napiVersion: v1\nmetadata: {name: x}\n",
        },
        Source {
            name: "b.yaml",
            text: "a: [1\nb: 2\n",
        },
    ]);
    assert!(!it.report.is_exact());
    let found: Vec<_> = it
        .report
        .others
        .iter()
        .map(|it| {
            (
                it.source.as_str(),
                it.unreadable,
                it.line > 0 && it.column > 0,
            )
        })
        .collect();
    assert_eq!(found, [("b.yaml", true, true), ("a.yaml", false, true)]);
    assert!(it.report.others[1].what.contains("ConfigMap x"));
}

/// Each file of the shared cases, with its expected result.
#[test]
fn shared_cases_come_out_as_wanted() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/cases/policy");
    if !root.is_dir() {
        eprintln!("SKIP: no shared cases beside the project");
        return;
    }
    let case = |path: &str| {
        let path = root.join(path);
        imported(
            &std::fs::read_to_string(&path)
                .unwrap_or_else(|error| panic!("{}: {error}", path.display())),
        )
    };
    for (file, image, expected) in [
        (
            "01-official-images-lose-library/k31.yaml",
            "docker.io/library/redis:7",
            "cache.example.com/hub/library/redis:7",
        ),
        (
            "01-official-images-lose-library/k62.yaml",
            "nginx:1",
            "cache.example.com/hub/library/nginx:1",
        ),
        (
            "01-official-images-lose-library/k63.yaml",
            "nginx:1",
            "harbor.example.com/hub/library/nginx:1",
        ),
        (
            "02-no-hyphen-regex-drops-registries/k64.yaml",
            "quay.io/a/b",
            "reg.example.com/a/b",
        ),
        (
            "02-no-hyphen-regex-drops-registries/k64.yaml",
            "registry.gitlab.com/g/p:1",
            "reg.example.com/g/p:1",
        ),
        (
            "10-foreach-list-filter/k20-list-filter.yaml",
            "private.example.com/a:1",
            "localhost:30081/a:1",
        ),
        (
            "10-foreach-list-filter/k20-list-filter.yaml",
            "quay.io/a:1",
            "quay.io/a:1",
        ),
        (
            "18-idioms-that-rules-could-say/k13-ecr-ptc.yaml",
            "nginx:1",
            "cache.example.com/hub/library/nginx:1",
        ),
        (
            "18-idioms-that-rules-could-say/k13-ecr-ptc.yaml",
            "quay.io/a/b:1",
            "cache.example.com/quay/a/b:1",
        ),
        (
            "18-idioms-that-rules-could-say/k14-guard-regex-match.yaml",
            "quay.io/a/b:1",
            "reg.example.com/quay.io/a/b:1",
        ),
        (
            "18-idioms-that-rules-could-say/k15-bitnami.yaml",
            "bitnami/redis:7",
            "docker.io/bitnamilegacy/redis:7",
        ),
        (
            "18-idioms-that-rules-could-say/k16-last-segment.yaml",
            "quay.io/a/b/c:1",
            "reg.example.com/c:1",
        ),
        (
            "18-idioms-that-rules-could-say/k61.yaml",
            "quay.io/a/b/c:1",
            "reg.example.com/c:1",
        ),
        (
            "18-idioms-that-rules-could-say/k66.yaml",
            "registry.a.example/team/x:1",
            "registry.b.example/squad/x:1",
        ),
    ] {
        assert_eq!(result(&case(file), image), expected, "{file}");
    }
    let it = case("17-mutate-only-disapproves-the-rest/k18-mutate-only-one.yaml");
    assert_eq!(approved(&it, "a", "quay.io/a/b"), Some(true));
    for (file, namespace, image, expected) in [
        (
            "03-match-any-becomes-and/k02-match-any-namespaces.yaml",
            "bank",
            "evil.example.net/x",
            Some(false),
        ),
        (
            "04-rules-with-a-scope-of-their-own/k01-two-rules-two-namespaces.yaml",
            "prod",
            "evil.example.net/x",
            Some(false),
        ),
        (
            "04-rules-with-a-scope-of-their-own/k01-two-rules-two-namespaces.yaml",
            "dev",
            "evil.example.net/x",
            Some(false),
        ),
        (
            "04-rules-with-a-scope-of-their-own/k58.yaml",
            "bank",
            "evil.example.net/x",
            Some(false),
        ),
        (
            "05-policies-that-overlap/k09-two-policies-scopes.yaml",
            "shop",
            "reg.example.com/bank/app:1",
            Some(false),
        ),
        (
            "12-exclude-gets-wider/k11-exclude-all.yaml",
            "ci",
            "evil.example.net/x",
            Some(false),
        ),
        (
            "12-exclude-gets-wider/k12-exclude-subjects.yaml",
            "ops",
            "evil.example.net/x",
            Some(false),
        ),
        (
            "14-namespace-patterns/k22-wild-namespaces.yaml",
            "other",
            "quay.io/a/b",
            None,
        ),
        (
            "14-namespace-patterns/k22-wild-namespaces.yaml",
            "app-shop",
            "quay.io/a/b",
            Some(false),
        ),
        (
            "14-namespace-patterns/k23-wild-exclude.yaml",
            "monitoring",
            "quay.io/a/b",
            None,
        ),
        (
            "15-kube-system-comes-into-scope/k24-exclude-ns-kubesystem.yaml",
            "kube-system",
            "registry.k8s.io/pause:3.9",
            None,
        ),
        (
            "22-deny-list/k21-deny-list.yaml",
            "a",
            "old.example.com/x",
            Some(false),
        ),
        (
            "22-deny-list/k27-tag-required.yaml",
            "a",
            "registry.paas/x",
            Some(false),
        ),
    ] {
        assert_eq!(approved(&case(file), namespace, image), expected, "{file}");
    }
    for file in [
        "06-conditional-and-global-anchors/k05-conditional-anchor.yaml",
        "06-conditional-and-global-anchors/k35.yaml",
        "08-preconditions-of-validate-dropped/k06-precondition-validate.yaml",
    ] {
        assert_eq!(statuses(&case(file)), [Status::LeftOut], "{file}");
    }
}
