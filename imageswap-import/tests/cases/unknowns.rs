//! What a rule means can depend on more than its own text: nothing is assumed there without a word in the report.

use crate::cel::native;
use crate::helpers::{ALL_PODS, approved, constraint, imported, is, says, statuses, told};
use imageswap_import::{Import, Status};

fn template(kind: &str, rego: &str) -> String {
    let rego = rego.replace('\n', "\n      ");
    format!(
        "---\napiVersion: templates.gatekeeper.sh/v1\nkind: ConstraintTemplate\nmetadata: {{name: {}}}\nspec:\n  crd: {{spec: {{names: {{kind: {kind}}}}}}}\n  targets:\n  - target: admission.k8s.gatekeeper.sh\n    rego: |\n      {rego}\n",
        kind.to_lowercase()
    )
}

#[test]
fn a_template_that_is_not_of_the_library_is_not_understood() {
    let kind = "K8sDisallowedRepos";
    let it = constraint(kind, ALL_PODS, "{repos: [old.example/]}");
    // The code of the library's template, with another indentation.
    let library = ["container", "initContainer", "ephemeralContainer"].map(|list| {
        format!("violation[{{\"msg\": msg}}] {{\n   container := input.review.object.spec.{list}s[_]\n   image := container.image # as written\n   startswith(image, input.parameters.repos[_])\n   msg := sprintf(\"{list} <%v> has an invalid image repo <%v>, disallowed repos are %v\", [container.name, container.image, input.parameters.repos])\n}}\n")
    });
    let library = format!("package k8sdisallowedrepos\n\n{}", library.concat());
    let alone = imported(&it);
    says(&alone, "its template is not among the files");
    assert_eq!(approved(&alone, "any", "old.example/x"), Some(false));
    let beside = imported(&format!("{it}{}", template(kind, &library)));
    is(&beside, &[Status::CarriedOver]);
    assert!(!told(&beside).contains("template"), "{}", told(&beside));
    let other = library.replace("startswith(image", "endswith(image");
    let beside = imported(&format!("{it}{}", template(kind, &other)));
    is(&beside, &[Status::LeftOut]);
    let why = "its template (test.yaml:8) is not one of Gatekeeper's library";
    says(&beside, why);
    // The template of another kind.
    let beside = imported(&format!("{it}{}", template("K8sAllowedRepos", &other)));
    is(&beside, &[Status::CarriedOver]);
}

#[test]
fn the_port_of_a_registry_is_not_a_tag() {
    let it = constraint("K8sDisallowedTags", ALL_PODS, "{tags: [latest]}");
    let it = imported(&it);
    is(&it, &[Status::CarriedOver]);
    assert_eq!(approved(&it, "any", "a.io:5000/x"), Some(false));
}

#[test]
fn one_asterisk_at_the_end_is_a_wildcard() {
    let it = |image: &str| {
        let images = format!("{{allowedImages: [\"{image}\", \"quay.io/a/*\"]}}");
        imported(&constraint("K8sAllowedReposv2", ALL_PODS, &images))
    };
    for image in ["reg.example.com/**", "reg.example.com/*/app*"] {
        assert_eq!(statuses(&it(image)), [Status::LeftOut], "{image}");
        assert!(told(&it(image)).contains(&format!("`{image}` matches no image")));
    }
    assert_eq!(statuses(&it("reg.example.com/*")), [Status::CarriedOver]);
}

#[test]
fn labels_of_an_object_that_makes_pods_are_not_those_of_its_pods() {
    let deployments = "apiGroups: [apps], apiVersions: [v1], resources: [deployments], operations: [CREATE, UPDATE]";
    let gatekeeper = |kinds: &str| {
        let matched = format!(
            "{{kinds: [{{apiGroups: [\"*\"], kinds: [{kinds}]}}], labelSelector: {{matchLabels: {{tier: front}}}}}}"
        );
        imported(&constraint("K8sAllowedRepos", &matched, "{repos: [a.io/]}"))
    };
    let kubewarden = imported(&format!(
        "apiVersion: policies.kubewarden.io/v1\nkind: ClusterAdmissionPolicy\nmetadata: {{name: k}}\nspec:\n  module: ghcr.io/kubewarden/policies/trusted-repos:v2.0.4\n  rules: [{{{deployments}}}]\n  objectSelector: {{matchLabels: {{tier: front}}}}\n  settings: {{registries: {{allow: [a.io]}}}}\n"
    ));
    let bound = imported(&format!(
        "apiVersion: admissionregistration.k8s.io/v1\nkind: ValidatingAdmissionPolicy\nmetadata: {{name: p}}\nspec:\n  matchConstraints: {{resourceRules: [{{{deployments}}}]}}\n  validations: [{{expression: \"object.spec.template.spec.containers.all(c, c.image.startsWith('a.io/'))\"}}]\n---\napiVersion: admissionregistration.k8s.io/v1\nkind: ValidatingAdmissionPolicyBinding\nmetadata: {{name: p}}\nspec: {{policyName: p, validationActions: [Deny], matchResources: {{objectSelector: {{matchLabels: {{tier: front}}}}}}}}\n"
    ));
    for it in [gatekeeper("Deployment"), kubewarden, bound] {
        is(&it, &[Status::LeftOut]);
        says(&it, "which their Pods need not have");
    }
    assert_eq!(
        statuses(&gatekeeper("Deployment, Pod")),
        [Status::CarriedOver]
    );
}

#[test]
fn parameters_without_a_namespace_are_those_of_each_namespace() {
    let demand = "object.spec.containers.all(c, c.image.startsWith(params.registry))";
    let text = |kind: &str, more: &str| {
        let version = if kind == "ConfigMap" {
            "v1"
        } else {
            "corp.example/v1"
        };
        let demand = demand.replace(
            "params.registry",
            if kind == "ConfigMap" {
                "params.data.registry"
            } else {
                "params.registry"
            },
        );
        imported(&format!(
            "apiVersion: admissionregistration.k8s.io/v1\nkind: ValidatingAdmissionPolicy\nmetadata: {{name: p}}\nspec:\n  paramKind: {{apiVersion: {version}, kind: {kind}}}\n  matchConstraints: {{resourceRules: [{{apiGroups: [\"\"], apiVersions: [v1], operations: [CREATE, UPDATE], resources: [pods]}}]}}\n  validations: [{{expression: \"{demand}\"}}]\n---\napiVersion: admissionregistration.k8s.io/v1\nkind: ValidatingAdmissionPolicyBinding\nmetadata: {{name: p}}\nspec: {{policyName: p, validationActions: [Deny], paramRef: {{name: regs, parameterNotFoundAction: Deny}}}}\n---\napiVersion: {version}\nkind: {kind}\nmetadata: {{name: regs}}\ndata: {{registry: a.io/}}\nregistry: a.io/\n{more}"
        ))
    };
    let definition = |scope: &str| {
        format!(
            "---\napiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {{name: allowances.corp.example}}\nspec: {{group: corp.example, names: {{kind: Allowance}}, scope: {scope}}}\n"
        )
    };
    for (it, why) in [
        (
            text("ConfigMap", ""),
            "each namespace has a ConfigMap of its own",
        ),
        (
            text("Allowance", ""),
            "without its CustomResourceDefinition",
        ),
        (
            text("Allowance", &definition("Namespaced")),
            "each namespace has a Allowance of its own",
        ),
    ] {
        is(&it, &[Status::LeftOut]);
        says(&it, why);
    }
    let it = text("Allowance", &definition("Cluster"));
    is(&it, &[Status::CarriedOver]);
    assert_eq!(approved(&it, "any", "b.io/x"), Some(false));
}

#[test]
fn a_demand_on_the_number_of_containers_is_not_dropped() {
    let images = "object.spec.containers.all(c, c.image.startsWith('a.io/'))";
    for count in [
        "size(object.spec.containers) <= 20",
        "object.spec.containers.size() < 40",
        "size(object.spec.containers) <= variables.limit",
    ] {
        let it = native(
            "variables: [{name: limit, expression: \"30\"}]",
            &format!("{count} && {images}"),
        );
        assert_eq!(statuses(&it), [Status::LeftOut], "{count}");
    }
    let it = native("", &format!("size(object.spec.containers) > 0 && {images}"));
    is(&it, &[Status::CarriedOver]);
}

#[test]
fn a_scope_with_kube_system_has_a_note() {
    let images = "object.spec.containers.all(c, c.image.startsWith('a.io/'))";
    let noted = |it: &Import| {
        assert_eq!(statuses(it), [Status::CarriedOver], "{}", told(it));
        told(it).contains("Pods in kube-system are left alone here")
    };
    let gatekeeper =
        |matched: &str| imported(&constraint("K8sAllowedRepos", matched, "{repos: [a.io/]}"));
    assert!(noted(&native("", images)));
    assert!(noted(&gatekeeper(ALL_PODS)));
    assert!(noted(&kubewarden(
        "v2.0.4",
        "{registries: {allow: [a.io]}}"
    )));
    let without =
        "matchConditions: [{name: n, expression: \"request.namespace != 'kube-system'\"}]";
    assert!(!noted(&native(without, images)));
    assert!(!noted(&gatekeeper("{excludedNamespaces: [\"kube-*\"]}")));
    assert!(!noted(&gatekeeper("{namespaces: [prod]}")));
    // Kyverno leaves it alone, too.
    assert!(!noted(&crate::cel::demand("", images)));
}

/// Kubewarden's policy in this version.
fn kubewarden(version: &str, settings: &str) -> Import {
    imported(&format!(
        "apiVersion: policies.kubewarden.io/v1\nkind: ClusterAdmissionPolicy\nmetadata: {{name: k}}\nspec:\n  module: registry://ghcr.io/kubewarden/policies/trusted-repos:{version}\n  rules: [{{apiGroups: [\"\"], apiVersions: [v1], resources: [pods], operations: [CREATE, UPDATE]}}]\n  settings: {settings}\n"
    ))
}

#[test]
fn kubewarden_compares_images_as_its_own_code() {
    let asked = |settings: &str, images: &[(&str, bool)]| {
        let it = kubewarden("v2.0.4", settings);
        assert_ne!(it.policies.len(), 0, "{settings}: {}", told(&it));
        for (image, expected) in images {
            assert_eq!(
                approved(&it, "any", image),
                Some(*expected),
                "{settings}: {image}"
            );
        }
    };
    asked(
        "{tags: {reject: [dev]}}",
        &[("a.io/x:dev", false), ("a.io/x", true), ("a.io/x:1", true)],
    );
    // A digest without a tag counts as `latest`, and no pattern is about it alone.
    let it = kubewarden(
        "v2.0.4",
        "{registries: {allow: [a.io]}, tags: {reject: [latest, dev]}}",
    );
    is(
        &it,
        &[Status::CarriedOver, Status::CarriedOver, Status::LeftOut],
    );
    says(&it, "add `**:latest` to `denied`");
    assert_eq!(approved(&it, "any", "b.io/x:1"), Some(false));
    assert_eq!(approved(&it, "any", "a.io/x:dev"), Some(false));
    // A name of docker.io is one of every registry.
    asked(
        "{images: {reject: [busybox]}}",
        &[
            ("busybox:1", false),
            ("a.io/busybox:1", false),
            ("a.io/library/busybox", false),
            ("a.io/team/busybox:1", true),
            ("nginx", true),
        ],
    );
    // `latest` stands for no tag.
    asked(
        "{images: {reject: [\"a.io/x:latest\"]}}",
        &[("a.io/x:1", false), ("a.io/y:1", true)],
    );
    asked(
        "{images: {allow: [\"team/etcd\"]}}",
        &[
            ("quay.io/team/etcd:3", true),
            ("team/etcd:3", true),
            ("quay.io/other/etcd:3", false),
        ],
    );
    asked(
        "{images: {reject: [\"a.io/x:1\"]}}",
        &[("a.io/x:1", false), ("a.io/x:2", true), ("b.io/x:1", true)],
    );
    asked(
        "{images: {allow: [\"nginx:1\"]}}",
        &[
            ("nginx:1", true),
            ("nginx:2", false),
            ("a.io/library/nginx:1", false),
        ],
    );
    // A digest beside the tag makes another reference.
    let pinned = "x:1@sha256:00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
    asked(
        "{images: {allow: [\"a.io/x:1\"]}}",
        &[("a.io/x:1", true), (&format!("a.io/{pinned}"), false)],
    );
    let it = kubewarden("v2.0.4", "{images: {reject: [\"a.io/x:1\"]}}");
    is(&it, &[Status::Differs]);
    assert_eq!(approved(&it, "any", &format!("a.io/{pinned}")), Some(false));
}

#[test]
fn many_names_of_kubewarden_are_complete() {
    let names: Vec<String> = (b'a'..b'u')
        .map(|it| format!("app{}", char::from(it)))
        .collect();
    let it = kubewarden(
        "v2.0.4",
        &format!("{{images: {{reject: [{}]}}}}", names.join(", ")),
    );
    is(&it, &[Status::CarriedOver]);
    for name in &names {
        for image in [
            format!("{name}:2"),
            format!("r.example/{name}:3"),
            format!("s.example/library/{name}:4"),
        ] {
            assert_eq!(approved(&it, "any", &image), Some(false), "{image}");
        }
        assert_eq!(
            approved(&it, "any", &format!("r.example/x/{name}:3")),
            Some(true)
        );
    }
}

#[test]
fn modules_that_are_not_known_are_left_out() {
    let registries = "{registries: {allow: [a.io]}}";
    let images = "{images: {allow: [a.io/x]}}";
    for (version, settings, why) in [
        ("v0.1.12", registries, "modules before 0.2.0"),
        ("v1.0.4", images, "modules before 2.0.1 compare `images`"),
        ("v2.0.0", images, "modules before 2.0.1 compare `images`"),
        ("edge", registries, "the version of the module"),
        (
            "v2.0.4",
            "{registries: {allow: [a.io], reject: [b.io]}}",
            "both `allow` and `reject`",
        ),
        (
            "v2.0.4",
            "{tags: {reject: [\"a b\"]}}",
            "`a b` is not a tag",
        ),
    ] {
        let it = kubewarden(version, settings);
        assert_eq!(statuses(&it), [Status::LeftOut], "{version}: {}", told(&it));
        says(&it, why);
    }
    for version in ["v0.2.0", "v1.0.4", "v2.0.4", "latest"] {
        assert_eq!(
            statuses(&kubewarden(version, registries)),
            [Status::CarriedOver]
        );
    }
}
