//! Policies in CEL, judged by what the imported policies decide.

use super::helpers::{approved, becomes, decide, imported, is, statuses};
use imageswap_import::{Import, Status};

/// Constraints that select Pods when they are made and changed.
const PODS: &str = "matchConstraints: {resourceRules: [{apiGroups: [\"\"], apiVersions: [v1], operations: [CREATE, UPDATE], resources: [pods]}]}";

fn indented(text: &str) -> String {
    text.trim_end().replace('\n', "\n  ")
}

/// A Kyverno policy that demands this expression, with further lines of its `spec`.
pub(crate) fn demand(more: &str, expression: &str) -> Import {
    imported(&format!(
        "apiVersion: policies.kyverno.io/v1\nkind: ValidatingPolicy\nmetadata: {{name: p}}\nspec:\n  {PODS}\n  {}\n  validations:\n  - expression: >-\n      {expression}\n",
        indented(more)
    ))
}

/// A `ValidatingAdmissionPolicy` with a binding and further lines of its `spec`.
pub(crate) fn native(more: &str, expression: &str) -> Import {
    imported(&format!(
        "apiVersion: admissionregistration.k8s.io/v1\nkind: ValidatingAdmissionPolicy\nmetadata: {{name: p}}\nspec:\n  {PODS}\n  {}\n  validations:\n  - expression: >-\n      {expression}\n---\napiVersion: admissionregistration.k8s.io/v1\nkind: ValidatingAdmissionPolicyBinding\nmetadata: {{name: b}}\nspec: {{policyName: p, validationActions: [Deny]}}\n",
        indented(more)
    ))
}

/// A `MutatingPolicy` of Kyverno that applies this configuration to the list.
pub(crate) fn change(more: &str, list: &str, image: &str) -> Import {
    imported(&format!(
        "apiVersion: policies.kyverno.io/v1\nkind: MutatingPolicy\nmetadata: {{name: m}}\nspec:\n  {PODS}\n  {}\n  mutations:\n  - patchType: ApplyConfiguration\n    applyConfiguration:\n      expression: >-\n        Object{{spec: Object.spec{{{list}: object.spec.{list}.map(c, Object.spec.{list}{{name: c.name, image: {image}}})}}}}\n",
        indented(more)
    ))
}

/// Why the first rule was left out.
fn why(it: &Import) -> String {
    let rule = &it.report.rules[0];
    assert_eq!(rule.status, Status::LeftOut, "{rule}");
    assert!(it.policies.is_empty());
    rule.reason.clone().unwrap_or_default()
}

#[track_caller]
fn is_left_out(it: &Import, because: &str) {
    let why = why(it);
    assert!(why.contains(because), "{because:?} is not in: {why}");
}

#[test]
fn prefixes_of_a_list_in_all_lists_of_containers() {
    let it = demand(
        "validationActions: [Deny]\nvariables:\n- {name: all, expression: \"object.spec.containers + object.spec.?initContainers.orValue([]) + object.spec.?ephemeralContainers.orValue([])\"}\n- {name: allowed, expression: \"['reg.example.com/', 'quay.io/acme/']\"}",
        "variables.all.all(c, variables.allowed.exists(r, c.image.startsWith(r)))",
    );
    is(&it, &[Status::CarriedOver]);
    assert!(it.report.rules[0].notes.is_empty());
    for (image, expected) in [
        ("reg.example.com/a/b:1", true),
        ("quay.io/acme/x", true),
        ("quay.io/acme-2/x", false),
        ("reg.example.com.evil.net/x", false),
        ("nginx", false),
    ] {
        assert_eq!(approved(&it, "any", image), Some(expected), "{image}");
    }
}

#[test]
fn a_pod_without_a_passing_image_beside_it_is_not_judged_image_by_image() {
    let it = demand(
        "",
        "object.spec.containers.exists(c, c.image.startsWith('reg.example.com/'))",
    );
    is_left_out(&it, "does not judge each image alone");
    let it = demand(
        "",
        "object.spec.containers[0].image.startsWith('reg.example.com/')",
    );
    is_left_out(&it, "does not judge each image alone");
    let it = demand("", "size(object.spec.containers) < 5");
    is_left_out(&it, "decides nothing about images");
}

#[test]
fn what_only_a_cluster_knows_is_never_taken_for_absent() {
    for (expression, part) in [
        (
            "object.spec.containers.all(c, c.image.startsWith('a.io/') || has(c.securityContext))",
            "container.securityContext",
        ),
        (
            "object.spec.containers.all(c, c.name == 'proxy' || c.image.startsWith('a.io/'))",
            "names of containers",
        ),
        (
            "request.userInfo.username == 'ci' || object.spec.containers.all(c, c.image.startsWith('a.io/'))",
            "request.userInfo",
        ),
        (
            "has(object.metadata.annotations) || object.spec.containers.all(c, c.image.startsWith('a.io/'))",
            "object.metadata.annotations",
        ),
        (
            "resource.Get('v1', 'configmaps', 'x', 'y').data['r'] == 'a' || object.spec.containers.all(c, c.image.startsWith('a.io/'))",
            "`resource`",
        ),
        (
            "object.spec.containers.all(c, image(c.image).registry() == 'a.io')",
            "`image`",
        ),
        (
            "object.spec.containers.all(c, c.image.startsWith(params.prefix))",
            "`params`",
        ),
        (
            "object.spec.containers.all(c, c.image.startsWith('a.io/')",
            "not CEL (line 1, column",
        ),
    ] {
        let it = demand("", expression);
        assert!(why(&it).contains(part), "{expression}: {}", why(&it));
    }
}

#[test]
fn conditions_on_the_pod_are_its_scope() {
    let images = "object.spec.containers.all(c, c.image.startsWith('reg.example.com/'))";
    let evil = "evil.example.net/x";
    for condition in [
        "request.namespace in ['dev', 'lab']",
        "object.metadata.namespace == 'dev' || namespaceObject.metadata.name == 'lab'",
        "['dev', 'lab'].exists(n, object.metadata.namespace == n)",
        "!(request.namespace != 'dev' && request.namespace != 'lab')",
    ] {
        for it in [
            demand("", &format!("({condition}) || {images}")),
            demand("", &format!("({condition}) ? true : {images}")),
            demand(
                &format!("matchConditions:\n- name: c\n  expression: \"!({condition})\""),
                images,
            ),
            native("", &format!("{images} || ({condition})")),
        ] {
            assert_eq!(
                statuses(&it),
                [Status::CarriedOver],
                "{condition}: {}",
                it.report.rules[0]
            );
            assert_eq!(approved(&it, "dev", evil), None, "{condition}");
            assert_eq!(approved(&it, "lab", evil), None, "{condition}");
            assert_eq!(approved(&it, "shop", evil), Some(false), "{condition}");
        }
    }
    for condition in [
        "has(object.metadata.labels) && 'team' in object.metadata.labels && object.metadata.labels['team'] == 'core'",
        "object.metadata.?labels['team'].orValue('') == 'core'",
        "has(object.metadata.labels) && has(object.metadata.labels.team) && object.metadata.labels.team == 'core'",
        "object.metadata.?labels[?'team'] == optional.of('core') || object.metadata.?labels.?team.orValue('x') == 'core'",
    ] {
        let it = demand(
            &format!("matchConditions:\n- name: c\n  expression: \"{condition}\""),
            images,
        );
        if condition.contains("optional.of") {
            assert!(!why(&it).is_empty());
            continue;
        }
        assert_eq!(
            statuses(&it),
            [Status::CarriedOver],
            "{condition}: {}",
            it.report.rules[0]
        );
        assert_eq!(
            decide(&it, "a", &[("team", "core")], evil).map(|it| it.1),
            Some(false)
        );
        assert_eq!(decide(&it, "a", &[("team", "other")], evil), None);
        assert_eq!(decide(&it, "a", &[], evil), None);
    }
    // A label that is read without a look whether it is there fails for some Pods.
    let unguarded =
        "matchConditions:\n- {name: c, expression: \"object.metadata.labels.team == 'core'\"}";
    assert!(why(&native(unguarded, images)).contains("fails for some Pods"));
    let ignored = native(&format!("failurePolicy: Ignore\n{unguarded}"), images);
    is(&ignored, &[Status::CarriedOver]);
    assert_eq!(decide(&ignored, "a", &[], evil), None);
    let it = native(
        "",
        &format!("!(object.metadata.labels.team == 'core') || {images}"),
    );
    assert!(!why(&it).is_empty());
    let it = native(
        "",
        &format!("object.metadata.labels.team == 'core' || {images}"),
    );
    is(&it, &[Status::CarriedOver]);
    assert_eq!(decide(&it, "a", &[], evil).map(|it| it.1), Some(false));
    assert_eq!(decide(&it, "a", &[("team", "core")], evil), None);
}

#[test]
fn parts_of_one_expression_have_scopes_of_their_own() {
    let it = demand(
        "",
        "(request.namespace != 'shop' || object.spec.containers.all(c, c.image.startsWith('a.io/'))) && (request.namespace == 'shop' || object.spec.containers.all(c, !c.image.endsWith(':latest') && c.image.contains(':')))",
    );
    assert_eq!(approved(&it, "shop", "b.io/x:1"), Some(false));
    assert_eq!(approved(&it, "shop", "a.io/x:latest"), Some(true));
    assert_eq!(approved(&it, "other", "b.io/x:1"), Some(true));
    assert_eq!(approved(&it, "other", "b.io/x:latest"), Some(false));
    assert_eq!(approved(&it, "other", "b.io/x"), Some(false));
}

#[test]
fn an_expression_that_fails_is_what_the_failure_policy_says() {
    let second = "object.spec.containers.all(c, c.image.split('/')[1] != 'x')";
    // `app` has no five characters.
    let strict = native(
        "",
        "object.spec.containers.all(c, c.image.substring(0, 5) == 'a.io/')",
    );
    assert_eq!(
        approved(&strict, "any", "a.io/team/x"),
        Some(true),
        "{}",
        strict.report.rules[0]
    );
    assert_eq!(approved(&strict, "any", "nginx"), Some(false));
    assert!(
        why(&demand("", second)).contains("it fails"),
        "Kyverno does not document it"
    );
}

#[test]
fn constraints_select_pods_or_what_makes_them() {
    let images = "object.spec.containers.all(c, c.image.startsWith('reg.example.com/'))";
    let text = |constraints: &str, expression: &str| {
        imported(&format!(
            "apiVersion: policies.kyverno.io/v1\nkind: ValidatingPolicy\nmetadata: {{name: p}}\nspec:\n  matchConstraints: {constraints}\n  validations:\n  - {{expression: \"{expression}\"}}\n"
        ))
    };
    let rules = |operations: &str, resources: &str| {
        format!(
            "{{resourceRules: [{{apiGroups: ['*'], apiVersions: ['*'], operations: [{operations}], resources: [{resources}]}}]}}"
        )
    };
    let it = text(&rules("CREATE", "pods"), images);
    is(&it, &[Status::Differs]);
    assert!(!why(&text(&rules("UPDATE", "pods"), images)).is_empty());
    assert!(!why(&text(&rules("CREATE", "services"), images)).is_empty());
    let template = images.replace("object.spec", "object.spec.template.spec");
    let it = text(&rules("CREATE, UPDATE", "deployments"), &template);
    is(&it, &[Status::Differs]);
    assert_eq!(approved(&it, "any", "evil.example.net/x"), Some(false));
    let both = format!("has(object.spec.template) ? {template} : {images}");
    let it = text(&rules("'*'", "'pods', 'deployments'"), &both);
    is(&it, &[Status::CarriedOver]);
    let excluded = "{resourceRules: [{apiGroups: ['*'], apiVersions: ['*'], operations: ['*'], resources: [pods]}], excludeResourceRules: [{apiGroups: [''], apiVersions: [v1], operations: ['*'], resources: [pods], resourceNames: [x]}]}";
    assert!(why(&text(excluded, images)).contains("excludeResourceRules"));
    let selected = "{resourceRules: [{apiGroups: [''], apiVersions: [v1], operations: ['*'], resources: [pods]}], objectSelector: {matchLabels: {a: b}}, namespaceSelector: {matchExpressions: [{key: kubernetes.io/metadata.name, operator: NotIn, values: [lab]}]}}";
    let it = text(selected, images);
    is(&it, &[Status::CarriedOver]);
    assert_eq!(decide(&it, "x", &[], "evil.example.net/x"), None);
    assert_eq!(
        decide(&it, "x", &[("a", "b")], "evil.example.net/x").map(|it| it.1),
        Some(false)
    );
}

#[test]
fn a_policy_of_kubernetes_does_what_its_bindings_say() {
    let policy = format!(
        "apiVersion: admissionregistration.k8s.io/v1\nkind: ValidatingAdmissionPolicy\nmetadata: {{name: p}}\nspec:\n  {PODS}\n  paramKind: {{apiVersion: v1, kind: ConfigMap}}\n  validations:\n  - {{expression: \"object.spec.containers.all(c, params.data.allowed.split(',').exists(r, c.image.startsWith(r)))\", message: \"not allowed\"}}\n"
    );
    let binding = |name: &str, more: &str| {
        format!(
            "---\napiVersion: admissionregistration.k8s.io/v1\nkind: ValidatingAdmissionPolicyBinding\nmetadata: {{name: {name}}}\nspec: {{policyName: p, {more}}}\n"
        )
    };
    let map = |name: &str, allowed: &str| {
        format!(
            "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}, namespace: conf}}\ndata: {{allowed: \"{allowed}\"}}\n"
        )
    };
    let it = imported(&policy);
    is_left_out(&it, "does nothing without one");
    let prod = binding(
        "prod",
        "validationActions: [Deny], paramRef: {name: prod, namespace: conf, parameterNotFoundAction: Deny}, matchResources: {namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: prod}}}",
    );
    let dev = binding(
        "dev",
        "validationActions: [Warn, Audit], paramRef: {name: dev, namespace: conf, parameterNotFoundAction: Deny}, matchResources: {namespaceSelector: {matchExpressions: [{key: kubernetes.io/metadata.name, operator: NotIn, values: [prod]}]}}",
    );
    let it = imported(&format!(
        "{policy}{prod}{dev}{}{}",
        map("prod", "a.io/,b.io/"),
        map("dev", "a.io/,c.io/")
    ));
    is(&it, &[Status::CarriedOver, Status::CarriedOver]);
    let enforced: Vec<_> = it
        .policies
        .iter()
        .map(|it| it.spec.enforcement.as_str())
        .collect();
    assert_eq!(enforced, ["deny", "warn"]);
    assert!(it.report.others.is_empty(), "{:?}", it.report.others);
    let it = imported(&format!("{policy}{prod}"));
    is_left_out(&it, "the ConfigMap `prod`, are not among the files");
    let it = imported(&prod.replace("---\n", ""));
    is_left_out(&it, "`p` is not among the files");
}

#[test]
fn images_are_changed_as_the_expression_changes_them() {
    let it = change("", "containers", "\"reg.example.com/\" + c.image");
    is(&it, &[Status::Differs]);
    becomes(&it, "quay.io/a/b:1", "reg.example.com/quay.io/a/b:1");
    let it = change(
        "",
        "containers",
        "c.image.startsWith(\"docker.io/\") ? c.image.replace(\"docker.io/\", \"reg.example.com/hub/\", 1) : c.image",
    );
    becomes(
        &it,
        "docker.io/bitnami/redis:7",
        "reg.example.com/hub/bitnami/redis:7",
    );
    becomes(&it, "quay.io/a/b:1", "quay.io/a/b:1");
    let it = change(
        "",
        "containers",
        "\"reg.example.com/\" + (c.image.contains(\"/\") && c.image.split(\"/\")[0].contains(\".\") ? c.image.substring(c.image.indexOf(\"/\") + 1) : c.image)",
    );
    becomes(&it, "quay.io/a/b:1", "reg.example.com/a/b:1");
    becomes(&it, "bitnami/redis", "reg.example.com/bitnami/redis");
    let only = "matchConditions:\n- {name: c, expression: \"object.spec.containers.exists(c, c.image.startsWith('docker.io/'))\"}";
    let it = change(
        only,
        "containers",
        "c.image.startsWith(\"docker.io/\") ? \"reg.example.com/\" + c.image : c.image",
    );
    becomes(&it, "docker.io/x/y:1", "reg.example.com/docker.io/x/y:1");
    // Every image of a Pod in which one is from there.
    let it = change(only, "containers", "\"reg.example.com/\" + c.image");
    is_left_out(&it, "does not judge each image alone");
    // Pods without the list.
    let it = change("", "initContainers", "\"reg.example.com/\" + c.image");
    is_left_out(&it, "it fails");
}

#[test]
fn patches_are_followed_by_their_paths() {
    let patch = |expression: &str| {
        imported(&format!(
            "apiVersion: policies.kyverno.io/v1\nkind: MutatingPolicy\nmetadata: {{name: m}}\nspec:\n  {PODS}\n  mutations:\n  - patchType: JSONPatch\n    jsonPatch:\n      expression: >-\n        {expression}\n"
        ))
    };
    let it = patch(
        "object.spec.containers.map(c, JSONPatch{op: \"replace\", path: \"/spec/containers/0/image\", value: \"reg.example.com/\" + c.image})",
    );
    is_left_out(&it, "does not judge each image alone");
    let it = patch("[JSONPatch{op: \"replace\", path: \"/metadata/labels/x\", value: \"y\"}]");
    is_left_out(&it, "/metadata/labels/x");
}

#[test]
fn an_image_validating_policy_is_its_list_of_allowed_images() {
    let policy = |globs: &str, expression: &str| {
        imported(&format!(
            "apiVersion: policies.kyverno.io/v1\nkind: ImageValidatingPolicy\nmetadata: {{name: i}}\nspec:\n  {PODS}\n  matchImageReferences: {globs}\n  attestors: [{{name: a, cosign: {{key: {{data: x}}}}}}]\n  validations:\n  - {{expression: \"{expression}\"}}\n"
        ))
    };
    let it = policy(
        "[{glob: \"ghcr.io/*\"}]",
        "images.containers.map(i, verifyImageSignatures(i, [attestors.a])).all(e, e > 0)",
    );
    is_left_out(&it, "checks signatures");
    let it = policy(
        "[{glob: \"*\"}]",
        "images.containers.all(i, i.startsWith('ghcr.io/acme/'))",
    );
    is(&it, &[Status::Differs]);
    assert_eq!(approved(&it, "any", "ghcr.io/acme/x:1"), Some(true));
    assert_eq!(approved(&it, "any", "ghcr.io/other/x:1"), Some(false));
    assert_eq!(approved(&it, "any", "quay.io/other/x:1"), Some(false));
    // What is neither of one registry nor of one of its paths: patterns that deny do not say it.
    let it = policy(
        "[{glob: \"ghcr.io/*\"}]",
        "images.containers.all(i, i.startsWith('ghcr.io/acme/'))",
    );
    is_left_out(&it, "cannot be said");
    let it = policy(
        "[{glob: \"docker.io/*\"}]",
        "images.containers.all(i, i.startsWith('docker.io/acme/'))",
    );
    is_left_out(&it, "how an image is written");
}

#[test]
fn exceptions_from_policies_in_cel() {
    let policy = format!(
        "apiVersion: policies.kyverno.io/v1\nkind: ValidatingPolicy\nmetadata: {{name: p}}\nspec:\n  {PODS}\n  validations:\n  - {{expression: \"object.spec.containers.all(c, c.image.startsWith('a.io/'))\"}}\n"
    );
    let exception = |more: &str| {
        format!(
            "---\napiVersion: policies.kyverno.io/v1\nkind: PolicyException\nmetadata: {{name: e}}\nspec: {{policyRefs: [{{kind: ValidatingPolicy, name: p}}], {more}}}\n"
        )
    };
    let it = imported(&format!(
        "{policy}{}",
        exception(
            "matchConditions: [{name: c, expression: \"object.metadata.namespace == 'lab'\"}]"
        )
    ));
    is(&it, &[Status::CarriedOver, Status::CarriedOver]);
    assert_eq!(approved(&it, "lab", "b.io/x"), None);
    assert_eq!(approved(&it, "any", "b.io/x"), Some(false));
    let it = imported(&format!("{policy}{}", exception("images: [\"b.io/*\"]")));
    assert_eq!(approved(&it, "lab", "b.io/x"), Some(false));
    assert!(
        it.report
            .rules
            .iter()
            .any(|it| it.status == Status::LeftOut)
    );
    let it = imported(&format!(
        "{policy}{}",
        exception(
            "matchConditions: [{name: c, expression: \"object.spec.containers.exists(c, c.image.startsWith('b.io/'))\"}]"
        )
    ));
    assert_eq!(approved(&it, "lab", "b.io/x"), Some(false));
}

#[test]
fn cel_within_an_older_policy() {
    let it = super::helpers::rule(
        "match: {any: [{resources: {kinds: [Pod], namespaces: [shop]}}]}\ncelPreconditions: [{name: c, expression: \"!has(object.metadata.labels) || !('skip' in object.metadata.labels)\"}]\nvalidate:\n  cel:\n    expressions:\n    - {expression: \"object.spec.containers.all(c, c.image.startsWith('a.io/'))\", message: only ours}\n    - {expression: \"object.spec.containers.all(c, !c.image.endsWith(':latest'))\"}",
    );
    is(&it, &[Status::CarriedOver, Status::Differs]);
    assert_eq!(approved(&it, "shop", "a.io/x:1"), Some(true));
    assert_eq!(approved(&it, "shop", "b.io/x:1"), Some(false));
    assert_eq!(approved(&it, "other", "b.io/x:1"), None);
    assert_eq!(decide(&it, "shop", &[("skip", "")], "b.io/x:1"), None);
}

#[test]
fn long_and_deep_expressions_do_no_harm() {
    let images = "object.spec.containers.all(c, c.image.startsWith('a.io/'))";
    for text in [
        format!("{images} && {}true", "!".repeat(3000)),
        format!("{images} && {}true{}", "(".repeat(1000), ")".repeat(1000)),
        format!("{images} && size(''{}) == 0", " + ''".repeat(1500)),
        format!("{images} && a{}", ".b".repeat(3900)),
        format!("{images} && {}1{} == []", "[".repeat(500), "]".repeat(500)),
        format!("{images} {}", "&& true ".repeat(900)),
        format!("{images} && {}", "true ? ".repeat(1000)),
    ] {
        let _ = demand("", &text);
    }
}
