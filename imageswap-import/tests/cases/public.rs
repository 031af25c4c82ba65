//! The shapes of policies about registries in the public libraries of Kyverno, Gatekeeper and Kubewarden, and in the
//! documentation of Kubernetes: the outcome of each, judged by decisions.

use super::helpers::{self, ALL_PODS, approved, imported, result};
use imageswap_import::Status::{self, CarriedOver, Differs, LeftOut};
use std::collections::BTreeMap;

/// The outcome of the rules, and of images: a result, or an image that is let in or refused.
struct Shape {
    name: &'static str,
    text: String,
    statuses: &'static [Status],
    images: &'static [(&'static str, Wanted)],
}

#[derive(Debug, Clone, Copy)]
enum Wanted {
    Yes,
    No,
    Becomes(&'static str),
}
use Wanted::{Becomes, No, Yes};

const PODS: &str = "{resourceRules: [{apiGroups: [\"\"], apiVersions: [v1], operations: [CREATE, UPDATE], resources: [pods]}]}";
const ALL: &str = "object.spec.containers + object.spec.?initContainers.orValue([]) + object.spec.?ephemeralContainers.orValue([])";

/// A Kyverno rule about Pods.
fn older(body: &str) -> String {
    format!(
        "apiVersion: kyverno.io/v1\nkind: ClusterPolicy\nmetadata: {{name: p}}\nspec:\n  validationFailureAction: Enforce\n  rules:\n  - name: r\n    match: {{any: [{{resources: {{kinds: [Pod]}}}}]}}\n    {}\n",
        body.replace('\n', "\n    ")
    )
}

/// A pattern for all lists of containers.
fn pattern(image: &str) -> String {
    older(&format!(
        "validate: {{pattern: {{spec: {{=(ephemeralContainers): [{{image: \"{image}\"}}], =(initContainers): [{{image: \"{image}\"}}], containers: [{{image: \"{image}\"}}]}}}}}}"
    ))
}

/// A Kyverno policy in CEL that demands this of every container `c`.
fn demand(of_each: &str) -> String {
    format!(
        "apiVersion: policies.kyverno.io/v1\nkind: ValidatingPolicy\nmetadata: {{name: p}}\nspec:\n  validationActions: [Audit]\n  evaluation: {{background: {{enabled: true}}}}\n  matchConstraints: {PODS}\n  variables: [{{name: all, expression: \"{ALL}\"}}]\n  validations:\n  - expression: >-\n      variables.all.all(c, {of_each})\n"
    )
}

/// A Kyverno policy in CEL that changes every image of two lists.
fn change(image: &str) -> String {
    let list = |name: &str| {
        format!("object.spec.{name}.map(c, Object.spec.{name}{{name: c.name, image: {image}}})")
    };
    format!(
        "apiVersion: policies.kyverno.io/v1alpha1\nkind: MutatingPolicy\nmetadata: {{name: m}}\nspec:\n  evaluation: {{admission: {{enabled: true}}}}\n  matchConstraints: {PODS}\n  mutations:\n  - patchType: ApplyConfiguration\n    applyConfiguration:\n      expression: >-\n        Object{{spec: Object.spec{{containers: {}, initContainers: has(object.spec.initContainers) ? {} : []}}}}\n",
        list("containers"),
        list("initContainers")
    )
}

/// A policy of Kubernetes and a binding.
fn native(kind: &str, more: &str) -> String {
    format!(
        "apiVersion: admissionregistration.k8s.io/v1\nkind: {kind}AdmissionPolicy\nmetadata: {{name: p}}\nspec:\n  failurePolicy: Fail\n  {}\n---\napiVersion: admissionregistration.k8s.io/v1\nkind: {kind}AdmissionPolicyBinding\nmetadata: {{name: b}}\nspec: {{policyName: p{}}}\n",
        more.replace('\n', "\n  "),
        if kind == "Validating" {
            ", validationActions: [Deny]"
        } else {
            ""
        }
    )
}

/// A constraint of Gatekeeper for all Pods.
fn constraint(kind: &str, parameters: &str) -> String {
    helpers::constraint(kind, ALL_PODS, parameters)
}

fn assign(parameters: &str) -> String {
    ["containers", "initContainers"].map(|list| format!(
        "---\napiVersion: mutations.gatekeeper.sh/v1alpha1\nkind: AssignImage\nmetadata: {{name: {}}}\nspec:\n  applyTo: [{{groups: [\"\"], kinds: [Pod], versions: [v1]}}]\n  location: \"spec.{list}[name:*].image\"\n  parameters: {parameters}\n", list.to_lowercase()
    )).concat()
}

fn trusted(settings: &str) -> String {
    format!(
        "apiVersion: policies.kubewarden.io/v1\nkind: ClusterAdmissionPolicy\nmetadata: {{name: k}}\nspec:\n  module: registry://ghcr.io/kubewarden/policies/trusted-repos:v2.0.1\n  mutating: false\n  rules: [{{apiGroups: [\"\"], apiVersions: [v1], resources: [pods], operations: [CREATE, UPDATE]}}]\n  settings: {settings}\n"
    )
}

fn row(
    name: &'static str,
    text: String,
    statuses: &'static [Status],
    images: &'static [(&'static str, Wanted)],
) -> Shape {
    Shape {
        name,
        text,
        statuses,
        images,
    }
}

const TWO_REGISTRIES: &[(&str, Wanted)] = &[
    ("eu.corp.example/a/b:1", Yes),
    ("bar.example/a", Yes),
    ("eu.corp.example.evil.net/a", No),
    ("nginx", No),
    ("docker.io/bar.example/a", No),
];
const PINNED: &[(&str, Wanted)] = &[
    ("a.example/x:1", Yes),
    ("a.example/x:latest", No),
    ("nginx:1.25", Yes),
    ("nginx:latest", No),
];
const BY_DIGEST: &[(&str, Wanted)] = &[
    (
        "a.example/x@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
        Yes,
    ),
    ("a.example/x:1", No),
];
const PREPENDED: &[(&str, Wanted)] = &[
    ("quay.io/a/b:1", Becomes("corp.example/quay.io/a/b:1")),
    (
        "ghcr.io/x@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
        Becomes(
            "corp.example/ghcr.io/x@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
        ),
    ),
];
const REPLACED: &[(&str, Wanted)] = &[
    ("quay.io/a/b:1", Becomes("corp.example/a/b:1")),
    ("bitnami/redis", Becomes("corp.example/bitnami/redis")),
    ("us-docker.pkg.dev/p/q:1", Becomes("corp.example/p/q:1")),
];

fn of_kyverno() -> Vec<Shape> {
    let replace = "'corp.example/' + (c.image.contains('/') && c.image.split('/')[0].contains('.') ? c.image.substring(c.image.indexOf('/') + 1) : c.image)";
    let last = "(c.image.contains('/') ? c.image.split('/')[c.image.split('/').size() - 1].split(':')[0] : c.image.split(':')[0])";
    vec![
        row(
            "restrict registries",
            pattern("eu.corp.example/* | bar.example/*"),
            &[CarriedOver],
            TWO_REGISTRIES,
        ),
        row("no latest tag", pattern("!*:latest"), &[Differs], PINNED),
        row("a tag", pattern("*:*"), &[LeftOut], &[]),
        row("digests", pattern("*@*"), &[CarriedOver], BY_DIGEST),
        row(
            "registries of a ConfigMap",
            older(
                "context: [{name: r, configMap: {name: r, namespace: d}}]\nvalidate: {foreach: [{list: request.object.spec.containers, deny: {conditions: {all: [{key: \"{{ element.image }}\", operator: AnyNotIn, value: \"{{ r.data.allowed }}\"}]}}}]}",
            ),
            &[LeftOut],
            &[],
        ),
        row(
            "image data of a registry",
            older(
                "context: [{name: d, imageRegistry: {reference: nginx}}]\nvalidate: {foreach: [{list: request.object.spec.containers, context: [{name: d, imageRegistry: {reference: \"{{ element.image }}\"}}], deny: {conditions: {all: [{key: \"{{ d.configData.config.User || '' }}\", operator: Equals, value: root}]}}}]}",
            ),
            &[LeftOut],
            &[],
        ),
        row(
            "digest of a registry",
            older(
                "mutate: {foreach: [{list: request.object.spec.containers, context: [{name: d, imageRegistry: {reference: \"{{ element.image }}\"}}], patchStrategicMerge: {spec: {containers: [{name: \"{{ element.name }}\", image: \"{{ d.resolvedImage }}\"}]}}}]}",
            ),
            &[LeftOut],
            &[],
        ),
        row(
            "signatures",
            older("verifyImages: [{imageReferences: [\"ghcr.io/*\"]}]"),
            &[LeftOut],
            &[],
        ),
        row(
            "pull policy of latest",
            older(
                "validate: {pattern: {spec: {containers: [{(image): \"*:latest\", imagePullPolicy: Always}]}}}",
            ),
            &[LeftOut],
            &[],
        ),
        row(
            "prepend",
            older(
                "mutate: {foreach: [{list: request.object.spec.containers, patchStrategicMerge: {spec: {containers: [{name: \"{{ element.name }}\", image: \"corp.example/{{ images.containers.\\\"{{element.name}}\\\".registry }}/{{ images.containers.\\\"{{element.name}}\\\".path }}:{{ images.containers.\\\"{{element.name}}\\\".tag }}\"}]}}}]}",
            ),
            &[Differs],
            &[("quay.io/a/b:1", Becomes("corp.example/quay.io/a/b:1"))],
        ),
        row(
            "replace",
            older(
                "mutate: {foreach: [{list: request.object.spec.containers, patchStrategicMerge: {spec: {containers: [{name: \"{{ element.name }}\", image: \"{{ regex_replace_all_literal('^[^/]+\\\\.[^/]+/', element.image, 'corp.example/') }}\"}]}}}]}",
            ),
            &[Differs],
            &[
                ("a.io/x/y:1", Becomes("corp.example/x/y:1")),
                ("localhost/x/y:1", Becomes("localhost/x/y:1")),
            ],
        ),
        row(
            "pull-through cache",
            older(
                "mutate: {foreach: [{list: \"request.object.spec.containers[]\", context: [{name: d, imageRegistry: {reference: \"{{ element.image }}\"}}], preconditions: {any: [{key: \"{{ d.registry }}\", operator: Equals, value: index.docker.io}]}, patchStrategicMerge: {spec: {containers: [{name: \"{{ element.name }}\", image: \"harbor.example/hub/{{ d.repository }}:{{ d.identifier }}\"}]}}}]}",
            ),
            &[Differs],
            &[
                ("nginx:1", Becomes("harbor.example/hub/library/nginx:1")),
                ("quay.io/a/b:1", Becomes("quay.io/a/b:1")),
            ],
        ),
        row(
            "restrict registries in CEL",
            demand("c.image.startsWith('eu.corp.example/') || c.image.startsWith('bar.example/')"),
            &[CarriedOver],
            TWO_REGISTRIES,
        ),
        row(
            "registries by an expression",
            demand(
                "c.image.matches('^(eu\\\\.corp|bar)\\\\.example/.+$') || c.image.startsWith('eu.corp.example/')",
            ),
            &[CarriedOver],
            TWO_REGISTRIES,
        ),
        row(
            "no latest tag in CEL",
            demand("!c.image.endsWith(':latest')"),
            &[Differs],
            PINNED,
        ),
        row(
            "a tag in CEL",
            demand("c.image.contains(':')"),
            &[LeftOut],
            &[],
        ),
        row(
            "digests in CEL",
            demand("c.image.contains('@')"),
            &[CarriedOver],
            BY_DIGEST,
        ),
        row(
            "registries of a ConfigMap in CEL",
            demand("c.image.startsWith(resource.Get('v1', 'configmaps', 'd', 'r').data['r'])"),
            &[LeftOut],
            &[],
        ),
        row(
            "registry of an annotation",
            demand(
                "c.image.startsWith(namespaceObject.metadata.?annotations[?'a.example/r'].orValue(' '))",
            ),
            &[LeftOut],
            &[],
        ),
        row(
            "names of images",
            demand(&format!("['known', 'kyverno'].exists(r, {last} == r)")),
            &[LeftOut],
            &[],
        ),
        row(
            "prepend in CEL",
            change("'corp.example/' + c.image"),
            &[Differs],
            PREPENDED,
        ),
        row("replace in CEL", change(replace), &[Differs], REPLACED),
        row(
            "a sidecar",
            format!(
                "apiVersion: policies.kyverno.io/v1\nkind: MutatingPolicy\nmetadata: {{name: m}}\nspec:\n  matchConstraints: {PODS}\n  mutations: [{{patchType: ApplyConfiguration, applyConfiguration: {{expression: \"Object{{spec: Object.spec{{containers: [Object.spec.containers{{name: 'proxy', image: 'mesh/proxy:1'}}]}}}}\"}}}}]\n"
            ),
            &[LeftOut],
            &[],
        ),
        row(
            "patches by index",
            format!(
                "apiVersion: policies.kyverno.io/v1\nkind: MutatingPolicy\nmetadata: {{name: m}}\nspec:\n  matchConstraints: {PODS}\n  mutations: [{{patchType: JSONPatch, jsonPatch: {{expression: \"object.spec.containers.map(c, JSONPatch{{op: 'replace', path: '/spec/containers/' + string(object.spec.containers.indexOf(c)) + '/image', value: 'corp.example/' + c.image}})\"}}}}]\n"
            ),
            &[Differs],
            PREPENDED,
        ),
        row(
            "patches of the first three",
            format!(
                "apiVersion: policies.kyverno.io/v1\nkind: MutatingPolicy\nmetadata: {{name: m}}\nspec:\n  matchConstraints: {PODS}\n  mutations: [{{patchType: JSONPatch, jsonPatch: {{expression: \"[0, 1, 2].filter(i, i < size(object.spec.containers)).map(i, JSONPatch{{op: 'replace', path: '/spec/containers/' + string(i) + '/image', value: 'corp.example/' + object.spec.containers[i].image}})\"}}}}]\n"
            ),
            &[LeftOut],
            &[],
        ),
    ]
}

fn of_others() -> Vec<Shape> {
    vec![
        row(
            "K8sAllowedRepos",
            constraint(
                "K8sAllowedRepos",
                "{repos: [eu.corp.example/, bar.example/]}",
            ),
            &[CarriedOver],
            TWO_REGISTRIES,
        ),
        row(
            "K8sAllowedRepos without a slash",
            constraint("K8sAllowedRepos", "{repos: [openpolicyagent]}"),
            &[Differs],
            &[("openpolicyagent/opa:1", Yes), ("quay.io/x", No)],
        ),
        row(
            "K8sAllowedReposv2",
            constraint(
                "K8sAllowedReposv2",
                "{allowedImages: [\"eu.corp.example/*\", \"bar.example/*\"]}",
            ),
            &[CarriedOver],
            TWO_REGISTRIES,
        ),
        row(
            "K8sDisallowedRepos",
            constraint("K8sDisallowedRepos", "{repos: [k8s.gcr.io/]}"),
            &[CarriedOver],
            &[("k8s.gcr.io/a", No), ("registry.k8s.io/a", Yes)],
        ),
        row(
            "K8sDisallowedTags",
            constraint(
                "K8sDisallowedTags",
                "{tags: [latest], exemptImages: [\"a.example/*\"]}",
            ),
            &[LeftOut],
            &[],
        ),
        row(
            "K8sImageDigests",
            constraint("K8sImageDigests", "{exemptImages: [\"b.example/*\"]}"),
            &[CarriedOver],
            BY_DIGEST,
        ),
        row(
            "AssignImage: a domain",
            assign("{assignDomain: corp.example}"),
            &[Differs, Differs],
            &[("quay.io/a/b:1", Becomes("corp.example/a/b:1"))],
        ),
        row(
            "AssignImage: a tag",
            assign("{assignTag: \":1\"}"),
            &[LeftOut, LeftOut],
            &[],
        ),
        row(
            "trusted-repos: registries",
            trusted("{registries: {allow: [eu.corp.example, bar.example]}}"),
            &[CarriedOver],
            TWO_REGISTRIES,
        ),
        row(
            "trusted-repos: rejected",
            trusted("{registries: {reject: [docker.io]}}"),
            &[CarriedOver],
            &[("nginx", No), ("quay.io/a/b", Yes)],
        ),
        row(
            "trusted-repos: tags",
            trusted("{tags: {reject: [latest]}}"),
            &[LeftOut],
            &[],
        ),
        row(
            "trusted-repos: another tag",
            trusted("{tags: {reject: [dev]}}"),
            &[CarriedOver],
            &[("a.example/x:dev", No), ("a.example/x", Yes)],
        ),
        row(
            "trusted-repos: images",
            trusted("{images: {allow: [\"quay.io/a/b\", \"quay.io/a/c:1\"]}}"),
            &[CarriedOver],
            &[
                ("quay.io/a/b:7", Yes),
                ("quay.io/a/c:1", Yes),
                ("quay.io/a/c:2", No),
            ],
        ),
        row(
            "a list",
            native(
                "Validating",
                &format!(
                    "matchConstraints: {PODS}\nvalidations: [{{expression: \"object.spec.containers.all(c, ['eu.corp.example/', 'bar.example/'].exists(r, c.image.startsWith(r)))\"}}]"
                ),
            ),
            &[CarriedOver],
            TWO_REGISTRIES,
        ),
        row(
            "Deployments",
            native(
                "Validating",
                "matchConstraints: {resourceRules: [{apiGroups: [apps], apiVersions: [v1], operations: [CREATE, UPDATE], resources: [deployments]}]}\nvalidations: [{expression: \"object.spec.template.spec.containers.all(c, c.image.matches('^corp[.]example/'))\"}]",
            ),
            &[Differs],
            &[("corp.example/a", Yes), ("quay.io/a", No)],
        ),
        row(
            "Pods and workloads",
            native(
                "Validating",
                "matchConstraints: {resourceRules: [{apiGroups: [\"\"], apiVersions: [v1], operations: [CREATE, UPDATE], resources: [pods]}, {apiGroups: [apps], apiVersions: [v1], operations: [CREATE, UPDATE], resources: [deployments]}]}\nvalidations:\n- {expression: \"object.kind != 'Pod' || object.spec.containers.all(c, c.image.startsWith('corp.example/'))\"}\n- {expression: \"object.kind == 'Pod' || object.spec.template.spec.containers.all(c, c.image.startsWith('corp.example/'))\"}",
            ),
            &[CarriedOver, LeftOut],
            &[("corp.example/a", Yes), ("quay.io/a", No)],
        ),
        row(
            "a namespace's label",
            native(
                "Validating",
                &format!(
                    "matchConstraints: {PODS}\nvalidations: [{{expression: \"object.spec.containers.all(c, c.image.startsWith(namespaceObject.metadata.labels.environment + '.example/'))\"}}]"
                ),
            ),
            &[LeftOut],
            &[],
        ),
        row(
            "prepend",
            native(
                "Mutating",
                &format!(
                    "reinvocationPolicy: IfNeeded\nmatchConstraints: {PODS}\nmutations: [{{patchType: ApplyConfiguration, applyConfiguration: {{expression: \"Object{{spec: Object.spec{{containers: object.spec.containers.map(c, Object.spec.containers{{name: c.name, image: c.image.startsWith('corp.example/') ? c.image : 'corp.example/' + c.image}})}}}}\"}}}}]"
                ),
            ),
            &[Differs],
            PREPENDED,
        ),
        row(
            "variables",
            native(
                "Mutating",
                &format!(
                    "reinvocationPolicy: IfNeeded\nmatchConstraints: {PODS}\nvariables: [{{name: src, expression: \"'quay.io/'\"}}, {{name: dst, expression: \"'corp.example/quay/'\"}}]\nmutations: [{{patchType: ApplyConfiguration, applyConfiguration: {{expression: \"Object{{spec: Object.spec{{containers: object.spec.containers.map(c, Object.spec.containers{{name: c.name, image: c.image.startsWith(variables.src) ? variables.dst + c.image.substring(size(variables.src)) : c.image}})}}}}\"}}}}]"
                ),
            ),
            &[CarriedOver],
            &[
                ("quay.io/a/b:1", Becomes("corp.example/quay/a/b:1")),
                ("ghcr.io/a", Becomes("ghcr.io/a")),
            ],
        ),
    ]
}

#[test]
fn shapes_of_public_policies() {
    let mut wrong = Vec::new();
    let mut counts: BTreeMap<&str, [usize; 3]> = BTreeMap::new();
    for it in of_kyverno().into_iter().chain(of_others()) {
        let made = imported(&it.text);
        let statuses: Vec<Status> = made.report.rules.iter().map(|it| it.status).collect();
        let library = ["kyverno.io", "gatekeeper.sh", "kubewarden.io", "k8s.io"];
        let library = library
            .into_iter()
            .find(|name| it.text.contains(name))
            .unwrap();
        // The policy as a whole: exact, with differences, or at least a rule left out.
        let worst = statuses.iter().max().unwrap();
        let at = [CarriedOver, Differs, LeftOut]
            .iter()
            .position(|it| it == worst)
            .unwrap();
        counts.entry(library).or_default()[at] += 1;
        if statuses != it.statuses {
            let told: Vec<_> = made.report.rules.iter().map(ToString::to_string).collect();
            wrong.push(format!("{}: {}", it.name, told.join(" / ")));
            continue;
        }
        for (image, wanted) in it.images {
            let right = match wanted {
                Yes => approved(&made, "any", image) == Some(true),
                No => approved(&made, "any", image) == Some(false),
                Becomes(expected) => result(&made, image) == *expected,
            };
            if !right {
                wrong.push(format!("{}: {image}, wanted {wanted:?}", it.name));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    for (library, [exact, differs, left_out]) in counts {
        println!("{library}: {exact} exact, {differs} with differences, {left_out} left out");
    }
}
