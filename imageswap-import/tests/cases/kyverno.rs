//! Kyverno's rules that depend on more than an image: what a policy cannot ask is never guessed.

use super::helpers::{approved, check, decide, first, imported, is, rule, statuses, swap, told};
use imageswap_import::{Import, Status};
use imageswap_policy::document::Enforcement;

const PODS: &str = "match: {any: [{resources: {kinds: [Pod]}}]}";
const STRANGER: &str = "evil.example.net/x";

/// A rule that refuses each container for which all of these conditions are true.
fn refuse(context: &str, conditions: &str) -> Import {
    rule(&format!(
        "{PODS}\ncontext: [{context}]\nvalidate:\n  foreach:\n  - list: request.object.spec.containers\n    deny: {{conditions: {{all: [{conditions}]}}}}"
    ))
}

fn condition(key: &str, operator: &str, value: &str) -> String {
    format!("{{key: \"{{{{ {key} }}}}\", operator: {operator}, value: {value}}}")
}

/// A rule that refuses a Pod for which this condition is true.
fn refuse_pod(key: &str, operator: &str, value: &str) -> Import {
    let condition = condition(key, operator, value);
    rule(&format!(
        "{PODS}\nvalidate: {{deny: {{conditions: {{any: [{condition}]}}}}}}"
    ))
}

fn is_left_out(it: &Import, because: &str) {
    assert_eq!(statuses(it), [Status::LeftOut], "{}", told(it));
    assert!(first(it).contains(because), "{because}: {}", first(it));
    assert!(it.policies.is_empty());
}

#[test]
fn a_field_beside_the_image_is_not_known() {
    let stranger = condition("element.image", "AnyNotIn", "[\"reg.example.com/*\"]");
    for (key, operator, value, because) in [
        (
            "element.imagePullPolicy || 'IfNotPresent'",
            "NotEquals",
            "Always",
            "`container.imagePullPolicy`",
        ),
        (
            "element.securityContext.privileged || `false`",
            "Equals",
            "true",
            "`container.securityContext`",
        ),
        (
            "element.name",
            "NotEquals",
            "proxy",
            "`name` of a container",
        ),
        (
            "'{{ element.name }}' == 'proxy'",
            "Equals",
            "true",
            "`name` of a container",
        ),
        (
            "starts_with(element.name, 'proxy') && 'a'",
            "Equals",
            "a",
            "`name` of a container",
        ),
        (
            "not_null(element.env, 'none')",
            "Equals",
            "none",
            "`container.env`",
        ),
        (
            "element | keys(@)",
            "AnyIn",
            "[env]",
            "`container` as a whole",
        ),
        ("element.*", "AnyIn", "[a]", "containers of a Pod together"),
        (
            "element.image == 'a/b:1-S' && element.tty",
            "Equals",
            "true",
            "`container.tty`",
        ),
        (
            "element.image || element.tty",
            "Equals",
            "a",
            "`container.tty`",
        ),
        (
            "request.object.spec.hostNetwork || `false`",
            "Equals",
            "false",
            "`request.object.spec.hostNetwork`",
        ),
        (
            "request.object.metadata.labels.a || 'b'",
            "Equals",
            "b",
            "`request.object.metadata`",
        ),
        (
            "request.userInfo.username || 'a'",
            "Equals",
            "a",
            "`request.userInfo`",
        ),
        (
            "serviceAccountName || 'a'",
            "Equals",
            "a",
            "`serviceAccountName`",
        ),
        ("elementIndex || `0`", "Equals", "0", "`elementIndex`"),
        (
            "request.object.spec.containers[1].image || 'a'",
            "Equals",
            "a",
            "containers of a Pod together",
        ),
        (
            "request.object.spec.containers[].image",
            "AllIn",
            "[a]",
            "containers of a Pod together",
        ),
        (
            "contains(images.containers.*.registry, 'quay.io')",
            "Equals",
            "false",
            "containers of a Pod together",
        ),
        (
            "images.containers.\\\"{{ element.name }}\\\".tag",
            "NotEquals",
            "'1.*'",
            "as a number",
        ),
        (
            "request.operation",
            "Equals",
            "CREATE",
            "CREATE from an UPDATE",
        ),
    ] {
        let it = refuse(
            "",
            &format!("{stranger}, {}", condition(key, operator, value)),
        );
        is_left_out(&it, because);
    }
    for (key, operator, value) in [
        (
            "element.image || 'none'",
            "NotEquals",
            "reg.example.com/none:1",
        ),
        (
            "images.containers.\\\"{{ element.name }}\\\".registry || 'docker.io'",
            "NotEquals",
            "reg.example.com",
        ),
        (
            "images.initContainers.\\\"{{ element.name }}\\\".path || 'none'",
            "Equals",
            "none",
        ),
        (
            "request.operation || 'BACKGROUND'",
            "AnyIn",
            "[CREATE, UPDATE]",
        ),
    ] {
        let it = refuse(
            "",
            &format!("{stranger}, {}", condition(key, operator, value)),
        );
        assert_eq!(statuses(&it), [Status::CarriedOver], "{key}: {}", told(&it));
        assert_eq!(approved(&it, "a", STRANGER), Some(false), "{key}");
        assert_eq!(approved(&it, "a", "reg.example.com/x"), Some(true), "{key}");
    }
}

#[test]
fn a_field_beside_the_image_is_not_known_in_conditions_on_a_whole_pod() {
    for (key, operator, value, because) in [
        (
            "request.object.spec.containers[].name",
            "AnyIn",
            "[a]",
            "`name` of a container",
        ),
        (
            "request.object.spec.containers[].ports[].hostPort",
            "AnyIn",
            "[80]",
            "`container.ports`",
        ),
        (
            "request.object.spec.containers[?name == 'a'].image",
            "AnyNotIn",
            "[\"a/*\"]",
            "`name` of a container",
        ),
        (
            "request.object.spec.containers[?image == 'a/b' && name == 'a'] | length(@)",
            "GreaterThan",
            "0",
            "`name` of a container",
        ),
        (
            "request.object.spec.containers[?!tty].image",
            "AnyIn",
            "[\"a/*\"]",
            "together",
        ),
    ] {
        is_left_out(&refuse_pod(key, operator, value), because);
    }
    let it = refuse_pod(
        "length(request.object.spec.containers[?starts_with(image, 'quay.io/')])",
        "GreaterThan",
        "0",
    );
    is(&it, &[Status::CarriedOver]);
    assert_eq!(approved(&it, "a", "quay.io/a"), Some(false));
    assert_eq!(approved(&it, "a", "ghcr.io/a"), Some(true));
}

#[test]
fn a_swap_that_depends_on_a_field_beside_the_image_is_left_out() {
    let target = "{{ regex_replace_all('^quay.io/', element.image, 'reg.example.com/') }}";
    for (key, because) in [
        (
            "element.imagePullPolicy || 'Always'",
            "`container.imagePullPolicy`",
        ),
        ("element.name", "`name` of a container"),
    ] {
        let more = format!(
            "preconditions: {{all: [{}]}}",
            condition(key, "NotEquals", "Never")
        );
        is_left_out(&swap(&more, target), because);
    }
    is_left_out(
        &swap("", "reg.example.com/{{ element.name }}:1"),
        "`name` of a container",
    );
    // No image that is tried has this name.
    let more = "preconditions: {all: [{key: \"{{ element.image }}\", operator: Equals, value: \"no image\"}]}";
    is_left_out(
        &swap(more, "reg.example.com/{{ element.tty || 'a' }}"),
        "`container.tty`",
    );
}

#[test]
fn a_default_counts_only_if_the_query_gives_nothing_or_fails() {
    let refused = condition("element.image", "AnyNotIn", "\"{{ allowed }}\"");
    let with = |before: &str, path: &str| {
        let default = "default: [\"reg.example.com/*\"]";
        refuse(
            &format!("{before}{{name: allowed, variable: {{jmesPath: \"{path}\", {default}}}}}"),
            &refused,
        )
    };
    let map = "{name: map, configMap: {name: a, namespace: b}}, ";
    let call = "{name: map, apiCall: {urlPath: /api/v1/namespaces}}, ";
    for (before, path, because) in [
        (map, "map.data.list", "the variable `map`"),
        (map, "parse_json(map.data.list)", "the variable `map`"),
        (map, "not_null(map.data.list, 'a')", "the variable `map`"),
        (call, "items[].metadata.name", "`items`"),
        (call, "map.items[].metadata.name", "the variable `map`"),
        (
            "",
            "request.object.metadata.annotations.registry",
            "`request.object.metadata`",
        ),
        (
            "",
            "request.object.metadata.labels.registry",
            "`request.object.metadata`",
        ),
        ("", "parse_yaml('a')", "`parse_yaml`"),
    ] {
        is_left_out(&with(before, path), because);
    }
    let it = refuse(
        "{name: none, variable: {jmesPath: images.volumes}}",
        &condition("none || element.image", "Equals", "\"quay.io/*\""),
    );
    is_left_out(&it, "`none` is not defined");
    for path in ["images.volumes.a", "to_upper(images.volumes)", "`null`"] {
        let it = with("", path);
        assert_eq!(
            statuses(&it),
            [Status::CarriedOver],
            "{path}: {}",
            told(&it)
        );
        assert_eq!(approved(&it, "a", STRANGER), Some(false), "{path}");
        assert_eq!(
            approved(&it, "a", "reg.example.com/x"),
            Some(true),
            "{path}"
        );
    }
}

/// A rule for one registry in the Pods for which the condition is true.
fn precondition(key: &str, operator: &str, value: &str) -> Import {
    let condition = condition(key, operator, value);
    check(
        &format!("{PODS}\npreconditions: {{all: [{condition}]}}"),
        "reg.example.com/*",
    )
}

#[test]
fn a_precondition_is_understood_as_kyverno_evaluates_it() {
    let labels = "request.object.metadata.labels";
    for (key, operator, value, because) in [
        (
            format!("{labels}.a || {labels}.b || 'no'"),
            "Equals",
            "yes",
            "not understood",
        ),
        (
            format!("{labels}.app.name || 'x'"),
            "Equals",
            "web",
            "not understood",
        ),
        (
            format!("{labels}.app || 'x'"),
            "NotEquals",
            "[web]",
            "use `AnyIn` or `AnyNotIn`",
        ),
        (
            "request.namespace".to_owned(),
            "NotEquals",
            "[a, b]",
            "use `AnyIn` or `AnyNotIn`",
        ),
        (
            "request.namespace".to_owned(),
            "Equals",
            "[a, b]",
            "use `AnyIn` or `AnyNotIn`",
        ),
        (
            "request.namespace".to_owned(),
            "AnyNotIn",
            "'[\"a\", \"b\"]'",
            "not understood",
        ),
        (
            "request.operation".to_owned(),
            "NotEquals",
            "CREA*",
            "CREATE from an UPDATE",
        ),
        (
            "request.operation".to_owned(),
            "AnyIn",
            "'[\"CREATE\"]'",
            "not understood",
        ),
    ] {
        is_left_out(&precondition(&key, operator, value), because);
    }
    // An empty label has the default as its value, too.
    for (operator, value, missing, empty, web) in [
        ("Equals", "web", None, None, Some(false)),
        ("Equals", "none", Some(false), Some(false), None),
        ("NotEquals", "none", None, None, Some(false)),
        ("NotEquals", "''", Some(false), Some(false), Some(false)),
        ("AnyIn", "[web, '']", None, None, Some(false)),
    ] {
        let it = precondition(&format!("{labels}.\\\"a/b\\\" || 'none'"), operator, value);
        is(&it, &[Status::CarriedOver]);
        for (labels, expected) in [
            (&[][..], missing),
            (&[("a/b", "")], empty),
            (&[("a/b", "web")], web),
        ] {
            let decided = decide(&it, "x", labels, STRANGER).map(|it| it.1);
            assert_eq!(decided, expected, "{operator} {value} {labels:?}");
        }
    }
}

#[test]
fn lists_with_different_demands_are_left_out() {
    let any = |init: &str| {
        let of = |key: &str, value: &str| condition(key, "AnyNotIn", value);
        rule(&format!(
            "{PODS}\nvalidate: {{deny: {{conditions: {{any: [{}, {}]}}}}}}",
            of("images.containers.*.registry", "[a.example, b.example]"),
            of("images.initContainers.*.registry || `[]`", init),
        ))
    };
    is_left_out(
        &any("[a.example]"),
        "differently in the lists of containers",
    );
    assert_eq!(
        statuses(&any("[b.example, a.example]")),
        [Status::CarriedOver]
    );
}

#[test]
fn labels_of_a_workload_are_not_those_of_its_pods() {
    let labelled =
        |kinds: &str| format!("{{kinds: [{kinds}], selector: {{matchLabels: {{tier: web}}}}}}");
    let matched = |resources: &str| format!("match: {{any: [{{resources: {resources}}}]}}");
    let workload = "match: {any: [{resources: {kinds: [apps/v1/Deployment]}}]}";
    let of_label = condition("request.object.metadata.labels.tier || ''", "Equals", "web");
    for scope in [
        matched(&labelled("Deployment")),
        matched(&labelled("Pod, StatefulSet")),
        format!(
            "{workload}\nexclude: {{any: [{{resources: {}}}]}}",
            labelled("Pod")
        ),
        format!("{workload}\npreconditions: {{all: [{of_label}]}}"),
    ] {
        is_left_out(&check(&scope, "reg.example.com/*"), "by its labels");
    }
    for scope in [
        matched(&labelled("Pod")),
        matched("{kinds: [Pod, Deployment], namespaces: [a]}"),
    ] {
        let it = check(&scope, "reg.example.com/*");
        is(&it, &[Status::CarriedOver]);
    }
}

#[test]
fn a_block_without_conditions_selects_nothing() {
    for block in [
        "{resources: {namespaces: []}}",
        "{resources: {}}",
        "{resources: {name: \"\", selector: null}}",
        "{clusterRoles: []}",
    ] {
        for exclude in [
            format!("{{any: [{block}]}}"),
            format!("{{all: [{block}]}}"),
            block.to_owned(),
        ] {
            let it = check(&format!("{PODS}\nexclude: {exclude}"), "reg.example.com/*");
            assert_eq!(
                statuses(&it),
                [Status::CarriedOver],
                "{exclude}: {}",
                told(&it)
            );
            assert_eq!(approved(&it, "a", STRANGER), Some(false), "{exclude}");
        }
        let it = check(&format!("match: {{any: [{block}]}}"), "reg.example.com/*");
        is_left_out(&it, "no Pod is in its scope");
    }
    let it = check(
        &format!("{PODS}\nexclude: {{any: [{{resources: {{selector: {{}}}}}}]}}"),
        "a/*",
    );
    is_left_out(&it, "no Pod is in its scope");
}

#[test]
fn overrides_of_the_policy_follow_those_of_a_rule() {
    let with = |of_rule: &str| {
        imported(&format!(
            "apiVersion: kyverno.io/v1\nkind: ClusterPolicy\nmetadata: {{name: a}}\nspec:\n  validationFailureAction: Audit\n  validationFailureActionOverrides: [{{action: Enforce, namespaces: [prod]}}]\n  rules:\n  - name: r\n    {PODS}\n    validate:\n      {of_rule}\n      pattern: {{spec: {{containers: [{{image: \"reg.example.com/*\"}}]}}}}\n"
        ))
    };
    let stage = "failureActionOverrides: [{action: Enforce, namespaces: [stage]}]";
    let own = format!("failureAction: Audit\n      {stage}");
    for (of_rule, expected) in [(stage, vec!["prod", "stage"]), (&own, vec!["stage"])] {
        let it = with(of_rule);
        let enforced = it
            .policies
            .iter()
            .find(|it| it.spec.enforcement == Enforcement::Deny);
        let names = enforced.unwrap().spec.r#match.namespaces.clone().unwrap();
        assert_eq!(names, expected, "{of_rule}");
        assert_eq!(it.policies.len(), 2, "{of_rule}");
    }
}
