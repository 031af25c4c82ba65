//! The text of ImageSwapPolicies.

use imageswap_policy::{Date, PodScope, Policies, Scope, Severity, document};

use crate::{Target, sound};

/// See the module.
pub const TARGET: Target = Target {
    name: "policy",
    check,
    seeds,
    words: &[
        "apiVersion: imageswap.io/v1alpha1\n",
        "kind: ImageSwapPolicy\n",
        "metadata: {name: a}\n",
        "spec:\n",
        "\n---\n",
        "  rules:\n",
        "  - {keep: ",
        "  - {from: ",
        ", to: ",
        "  - {regex: '",
        "name: ",
        "  approved: [",
        "  denied: [",
        "namespaces: [",
        "containers: [",
        "excludeNamespaces: [",
        "  exceptions:\n",
        "  - {pattern: ",
        ", until: ",
        "2026-06-30",
        ", reason: x}",
        "  enforcement: ",
        "deny",
        "warn",
        "audit",
        "  priority: ",
        "  message: ",
        "  match:\n",
        "namespaceSelector: ",
        "objectSelector: ",
        "nodeLevel: ",
        "allowOptOut: ",
        "matchLabels: ",
        "matchExpressions: ",
        "operator: ",
        "NotIn",
        "DoesNotExist",
        "true",
        "false",
        "**",
        "*",
        "**/",
        "/*",
        "/**",
        "*/",
        "*.",
        "**.",
        ":*",
        ":latest",
        "@sha256:*",
        "docker.io",
        "index.docker.io",
        "library",
        "nginx",
        "registry.example.com",
        "mirror",
        "quay.io",
        "example.com",
        ":5000",
        "localhost",
        "$1",
        "${1}",
        "${name}",
        "(?<name>",
        "(.*)",
        "(.+)",
        "[^/]",
        "{1,9}",
        "{1000}",
        "\\.",
        "\\pL",
        "(?i)",
        "^",
        "$",
        "|",
        "}\n",
        "\"",
        "'",
        "&a ",
        "*a",
        "<<: ",
        "!!str ",
        "null",
        "\t",
        "#",
        "https://",
        "\u{e9}",
    ],
};

fn check(text: &str) {
    let lines = sound::yaml_lines(text);
    let linted = document::lint_all([("policy", text)], Date::MIN).found;
    sound::diagnostics(&lines, &linted);
    let refused = linted.iter().any(|it| it.severity == Severity::Error);
    let loaded = match document::load("policy", text) {
        Ok(loaded) => loaded,
        Err(errors) => {
            assert!(errors.iter().any(|it| it.severity == Severity::Error));
            sound::diagnostics(&lines, &errors);
            return;
        }
    };
    assert!(!refused, "loads, but the linter sees errors: {linted}");
    assert!(
        loaded
            .warnings
            .iter()
            .all(|it| it.severity < Severity::Error)
    );
    sound::diagnostics(&lines, &loaded.warnings);

    let policies = Policies::new(loaded.policies);
    let images = sound::images(text);
    for day in [1, 365] {
        let today = Date::from_ordinal_date(2026, day).expect("the year has that day");
        let known = PodScope {
            namespace: Some("a"),
            ..PodScope::default()
        };
        for scope in [
            Scope::Node,
            Scope::Pod(PodScope::default()),
            Scope::Pod(known),
        ] {
            let selected = policies.select(scope, today);
            let in_container = selected.in_container(Some("a"));
            for image in &images {
                sound::decision(&selected, image);
                sound::decision(&in_container, image);
            }
        }
    }
}

/// A document with this `spec`, which is indented by two.
fn document(name: &str, spec: &str) -> String {
    format!(
        "apiVersion: imageswap.io/v1alpha1\nkind: ImageSwapPolicy\nmetadata:\n  name: {name}\nspec:\n{spec}"
    )
}

fn seeds() -> Vec<String> {
    let specs = [
        "  rules:\n  - {from: \"**\", to: registry.example.com}\n",
        "  rules:\n  - {keep: \"*.corp.example.com/**\"}\n  - {from: docker.io/library/*, to: registry.example.com/hub}\n\
         \x20 - {from: \"quay.io/**\", to: registry.example.com/quay}\n  enforcement: warn\n",
        "  rules:\n  - {regex: '^quay\\.io/(.*)$', to: 'registry.example.com/quay/$1'}\n\
         \x20 - {regex: '(?<host>[^/]+)/(?<path>[^:@]+)(:.*)?', to: 'registry.example.com/${path}'}\n",
        "  rules: []\n  approved: [\"registry.example.com/**@sha256:*\", \"*/nirmata/**\", \"example.com:*/a\"]\n\
         \x20 message: Registry is not allowed\n",
        "  rules:\n  - {from: quay.io/a/b, to: registry.example.com/c}\n  - {from: \"nginx:latest\", to: \"m.io/nginx:1\"}\n\
         \x20 exceptions:\n  - {pattern: \"ghcr.io/acme/debug:*\", until: 2026-06-30, reason: INC-1}\n",
        "  priority: 10\n  match:\n    namespaceSelector:\n      matchLabels: {a: b}\n    objectSelector:\n\
         \x20     matchExpressions:\n      - {key: team, operator: In, values: [x, y]}\n    nodeLevel: false\n\
         \x20   allowOptOut: true\n  rules:\n  - name: all\n    from: \"**\"\n    to: localhost:5000/m\n  enforcement: audit\n",
        "  match: {namespaces: [a, \"b-*\"], excludeNamespaces: [b-c]}\n  rules:\n\
         \x20 - {from: \"docker.io/**\", to: r.io/a, namespaces: [\"a*\"], containers: [\"*\"]}\n\
         \x20 approved: [\"r.io/**\", {pattern: \"s.io/**\", containers: [a]}]\n\
         \x20 denied: [\"**:latest\", {pattern: \"r.io/a/b\", message: no, namespaces: [a]}]\n\
         \x20 exceptions: [{pattern: \"r.io/a/b:1\", until: 2026-06-30, reason: x, namespaces: [a]}]\n",
        "  rules:\n  - {from: \"a.io/**\", to: b.io}\n  - {from: \"b.io/**\", to: a.io}\n",
        "  rules:\n  - {from: \"**/x/**\", to: \"[2001:db8::1]:5000/x\"}\n  - {from: \"**.example.com/*\", to: a.io/b}\n",
        "  rules:\n  - {form: \"**\", to: https://a.io}\n  - {regex: '((a{1,99}){1,99}){1,99}', to: a.io/b}\n",
    ];
    let mut seeds: Vec<_> = specs.iter().map(|spec| document("a", spec)).collect();
    seeds.push(format!(
        "{}---\n{}",
        document("a", specs[0]),
        document("b", specs[1])
    ));
    seeds.push(
        r#"{"apiVersion":"imageswap.io/v1alpha1","kind":"ImageSwapPolicy","metadata":{"name":"j"},"spec":{"rules":[{"keep":"**"}]}}"#
            .to_owned(),
    );
    seeds
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_that_are_meant_to_load_do() {
        let refused: Vec<_> = seeds()
            .iter()
            .enumerate()
            .filter_map(|(at, seed)| {
                document::load("seed", seed)
                    .err()
                    .map(|errors| (at, errors))
            })
            .collect();
        let which: Vec<_> = refused.iter().map(|it| it.0).collect();
        // Rules that feed each other, and a document full of mistakes.
        assert_eq!(which, [7, 9], "{refused:#?}");
    }
}
