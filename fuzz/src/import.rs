//! Policies of other programs: importing them never panics, and imported policies load.

use crate::Target;
use imageswap_import::{Source, import};
use imageswap_policy::document::load_all;

/// See the module.
pub const TARGET: Target = Target {
    name: "import",
    check,
    seeds,
    words: &[
        "apiVersion: kyverno.io/v1\n",
        "kind: ClusterPolicy\n",
        "kind: PolicyException\n",
        "apiVersion: constraints.gatekeeper.sh/v1beta1\n",
        "kind: K8sAllowedRepos\n",
        "match: {any: [{resources: {kinds: [Pod]}}]}\n",
        "validate: {pattern: {spec: {containers: [{image: \"a.io/*\"}]}}}\n",
        "{{ element.image }}",
        "regex_replace_all('^a', element.image, 'b')",
        "preconditions: {all: []}\n",
        "apiVersion: policies.kyverno.io/v1\n",
        "kind: ValidatingPolicy\n",
        "kind: MutatingPolicy\n",
        "apiVersion: admissionregistration.k8s.io/v1\n",
        "kind: ValidatingAdmissionPolicy\n",
        "kind: ValidatingAdmissionPolicyBinding\n",
        "object.spec.containers.all(c, c.image.startsWith('a.io/'))",
        ".orValue([])",
        "has(object.metadata.labels)",
        "request.namespace in ['a']",
        "Object{spec: Object.spec{containers: object.spec.containers.map(c, Object.spec.containers{name: c.name, image: 'a.io/' + c.image})}}",
        "foreach: [{list: request.object.spec.containers}]\n",
        "||",
        "[?",
        "`1`",
        "server = \"https://m.example\"\n",
        "[host.\"https://m.example/v2/a\"]\n",
        "capabilities = [\"pull\", \"resolve\"]\n",
        "override_path = true\n",
        "[[registry]]\n",
        "[[registry.mirror]]\n",
        "prefix = \"*.example.com\"\n",
        "location = \"m.example/a\"\n",
        "pull-from-mirror = \"digest-only\"\n",
        "unqualified-search-registries = [\"docker.io\"]\n",
        "[aliases]\n",
        "  matches: ['^docker.io']\n",
        "  excludes: ['^docker.io/(library/)?ubuntu:.*$']\n",
        "  replace: h.example/hub\n",
        "imageSwapPolicy: always\n",
        "  filters: [{jmespath: \"obj.metadata.namespace == 'a'\"}]\n",
        "contains(container.image, '.dkr.ecr.')",
    ],
};

fn seeds() -> Vec<String> {
    vec![
        "default:a.io\nquay.io::a.io/quay\nnoswap_wildcards:b.io\n".to_owned(),
        "apiVersion: kyverno.io/v1\nkind: ClusterPolicy\nmetadata: {name: p}\nspec: {rules: [{name: r, match: {any: [{resources: {kinds: [Pod]}}]}, validate: {pattern: {spec: {containers: [{image: a.io/*}]}}}}]}\n".to_owned(),
        "apiVersion: constraints.gatekeeper.sh/v1beta1\nkind: K8sAllowedRepos\nspec: {parameters: {repos: [a]}}\n".to_owned(),
        "apiVersion: policies.kyverno.io/v1\nkind: ValidatingPolicy\nmetadata: {name: p}\nspec: {matchConstraints: {resourceRules: [{apiGroups: [\"\"], apiVersions: [v1], operations: [CREATE, UPDATE], resources: [pods]}]}, matchConditions: [{name: c, expression: \"request.namespace != 'x'\"}], validations: [{expression: \"object.spec.containers.all(c, c.image.startsWith('a.io/'))\"}]}\n".to_owned(),
        "apiVersion: policies.kyverno.io/v1\nkind: MutatingPolicy\nmetadata: {name: m}\nspec: {matchConstraints: {resourceRules: [{apiGroups: [\"\"], apiVersions: [v1], operations: [CREATE], resources: [pods]}]}, mutations: [{patchType: ApplyConfiguration, applyConfiguration: {expression: \"Object{spec: Object.spec{containers: object.spec.containers.map(c, Object.spec.containers{name: c.name, image: 'a.io/' + c.image})}}\"}}]}\n".to_owned(),
        "server = \"https://n.example\"\n[host.\"https://m.example/v2/hub\"]\ncapabilities = [\"pull\"]\noverride_path = true\nca = \"a\"\n".to_owned(),
        "unqualified-search-registries = [\"docker.io\"]\n[[registry]]\nprefix = \"*.corp.example\"\nlocation = \"a.example/b\"\n[[registry.mirror]]\nlocation = \"m.example\"\npull-from-mirror = \"digest-only\"\n[aliases]\nnginx = \"quay.io/nginx\"\n".to_owned(),
        "rules:\n- {name: a, matches: ['^docker.io'], excludes: [ubuntu], replace: h.example/hub, checkUpstream: true}\n".to_owned(),
        "dryRun: false\nimageSwapPolicy: always\ntarget: {aws: {accountId: 1, region: r-1}}\nsource: {filters: [{jmespath: \"obj.metadata.labels.a != 'b' || contains(container.image, 'c')\"}]}\n".to_owned(),
        "apiVersion: v1\nkind: ConfigMap\ndata:\n  registries.conf: |\n    [[registry]]\n    location = \"a.example\"\n    blocked = true\n".to_owned(),
    ]
}

/// # Panics
/// When the importer makes a policy that does not load.
fn check(text: &str) {
    // The registry of this format is the folder.
    let name = if text.contains("[host.") {
        "certs.d/quay.io/hosts.toml"
    } else {
        "fuzz"
    };
    let made = import(&[Source { name, text }]);
    let texts: Vec<_> = made
        .policies
        .iter()
        .map(|it| serde_json::to_string(it).expect("a policy is JSON"))
        .collect();
    let texts = texts.iter().map(|it| ("fuzz", it.as_str()));
    if let Err(errors) = load_all(texts) {
        panic!("{errors}");
    }
}
