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
    ],
};

fn seeds() -> Vec<String> {
    vec![
        "default:a.io\nquay.io::a.io/quay\nnoswap_wildcards:b.io\n".to_owned(),
        "apiVersion: kyverno.io/v1\nkind: ClusterPolicy\nmetadata: {name: p}\nspec: {rules: [{name: r, match: {any: [{resources: {kinds: [Pod]}}]}, validate: {pattern: {spec: {containers: [{image: a.io/*}]}}}}]}\n".to_owned(),
        "apiVersion: constraints.gatekeeper.sh/v1beta1\nkind: K8sAllowedRepos\nspec: {parameters: {repos: [a]}}\n".to_owned(),
        "apiVersion: policies.kyverno.io/v1\nkind: ValidatingPolicy\nmetadata: {name: p}\nspec: {matchConstraints: {resourceRules: [{apiGroups: [\"\"], apiVersions: [v1], operations: [CREATE, UPDATE], resources: [pods]}]}, matchConditions: [{name: c, expression: \"request.namespace != 'x'\"}], validations: [{expression: \"object.spec.containers.all(c, c.image.startsWith('a.io/'))\"}]}\n".to_owned(),
        "apiVersion: policies.kyverno.io/v1\nkind: MutatingPolicy\nmetadata: {name: m}\nspec: {matchConstraints: {resourceRules: [{apiGroups: [\"\"], apiVersions: [v1], operations: [CREATE], resources: [pods]}]}, mutations: [{patchType: ApplyConfiguration, applyConfiguration: {expression: \"Object{spec: Object.spec{containers: object.spec.containers.map(c, Object.spec.containers{name: c.name, image: 'a.io/' + c.image})}}\"}}]}\n".to_owned(),
    ]
}

/// # Panics
/// When the importer makes a policy that does not load.
fn check(text: &str) {
    let made = import(&[Source { name: "fuzz", text }]);
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
