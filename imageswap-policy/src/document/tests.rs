use super::*;
use crate::testing::{TODAY, pattern, reference};
use crate::{
    Date, Decision, Diagnostic, Diagnostics, PodScope, Policies, Reason, Reference, Scope, Severity,
};
use proptest::prelude::*;

mod convergence;
mod evasions;
mod guards;
mod if_missing;
mod lint;
mod mistakes;
mod words;

fn text(spec: &str) -> String {
    let spec = spec.trim_matches('\n').replace('\n', "\n  ");
    format!("apiVersion: {API_VERSION}\nkind: {KIND}\nmetadata: {{name: corp}}\nspec:\n  {spec}\n")
}

fn policies(spec: &str) -> Policies {
    let text = text(spec);
    let loaded = load("p.yaml", &text).unwrap_or_else(|it| panic!("{text}\n{it}"));
    Policies::new(loaded.policies)
}

fn decide<'a>(policies: &'a Policies, image: &'a str) -> Decision<'a> {
    policies.select(Scope::Node, TODAY).decide(image)
}

/// The text at the place of the first message, its code, and its help.
fn first(text: &str, found: &Diagnostics) -> (String, &'static str, Option<String>) {
    let error = found.iter().find(|it| it.severity == Severity::Error);
    let it = error.or(found.iter().next()).expect("a message");
    let line = text.lines().nth(it.line - 1).unwrap_or_default();
    let part: String = line.chars().skip(it.column - 1).take(it.length).collect();
    let part = part.trim_matches('\'').to_owned();
    (part, it.code, it.help.clone())
}

const CORP: &str = r#"
rules:
- {name: internal, keep: "*.corp.example.com/**"}
- {name: gitlab, from: "gitlab.com/**", to: registry.example.com/gitlab}
- {name: quay, regex: '^quay\.io/(.*)$', to: 'registry.example.com/quay/$1'}
- {name: official, from: "docker.io/library/*", to: registry.example.com/official}
- {name: tool, from: "ghcr.io/acme/tool:1.2", to: "registry.example.com/tools/tool:1.2-fixed"}
- {name: rest, from: "**", to: registry.example.com}
exceptions: [{pattern: "ghcr.io/acme/debug:*", until: 2027-01-31, reason: "INC-1234"}]
"#;

#[test]
fn regexes_that_are_too_large_together_name_the_largest() {
    let rule = |at: usize, repeat: usize| {
        format!(
            "{{name: r{at}, regex: '^r{at}\\.io/([a-z0-9]{{1,{repeat}}})/(.{{0,400}})$', to: 'm.io/$1'}}"
        )
    };
    let text = |count: usize| {
        let rules: Vec<_> = (0..count)
            .map(|at| rule(at, if at == 7 { 300 } else { 200 }))
            .collect();
        format!(
            "{{apiVersion: imageswap.io/v1alpha1, kind: ImageSwapPolicy, metadata: {{name: p}}, spec: {{rules: [{}]}}}}",
            rules.join(", ")
        )
    };
    load("p", &text(20)).unwrap();
    // More expressions take no longer: none beyond the limit is compiled.
    for count in [400, 4000] {
        let errors = load("p", &text(count)).unwrap_err();
        let errors: Vec<_> = errors.iter().map(Diagnostic::at_field).collect();
        assert_eq!(errors.len(), 1, "{errors:?}");
        assert!(
            errors[0].starts_with("spec.rules[7].regex: error[regex]: ")
                && errors[0].contains("too large when compiled"),
            "{errors:?}"
        );
    }
}

#[test]
fn rules_in_order() {
    let policies = policies(CORP);
    for (image, result, rule, approved) in [
        (
            "a.corp.example.com/x",
            "a.corp.example.com/x",
            "internal",
            true,
        ),
        (
            "gitlab.com/g/p:1",
            "registry.example.com/gitlab/g/p:1",
            "gitlab",
            true,
        ),
        (
            "quay.io/a/b:1",
            "registry.example.com/quay/a/b:1",
            "quay",
            true,
        ),
        (
            "nginx:1.25",
            "registry.example.com/official/nginx:1.25",
            "official",
            true,
        ),
        (
            "index.docker.io/library/nginx",
            "registry.example.com/official/nginx",
            "official",
            true,
        ),
        (
            "bitnami/redis",
            "registry.example.com/bitnami/redis",
            "rest",
            true,
        ),
        ("localhost:5000/x", "registry.example.com/x", "rest", true),
        (
            "ghcr.io/acme/tool:1.2",
            "registry.example.com/tools/tool:1.2-fixed",
            "tool",
            true,
        ),
        (
            "ghcr.io/acme/tool:1.3",
            "registry.example.com/acme/tool:1.3",
            "rest",
            true,
        ),
        (
            "registry.example.com/a/b",
            "registry.example.com/a/b",
            "rest",
            true,
        ),
        (
            "registry.example.com/quay/a",
            "registry.example.com/quay/a",
            "quay",
            true,
        ),
        (
            "registry.example.com.evil.net/a",
            "registry.example.com/a",
            "rest",
            true,
        ),
    ] {
        let decision = decide(&policies, image);
        assert_eq!(
            (&*decision.result, decision.rule, decision.approved),
            (result, Some(rule), approved),
            "{image}: {decision:?}"
        );
    }
    let decision = decide(&policies, "Nginx");
    assert_eq!(
        (decision.reason, decision.approved),
        (Reason::Unparsable, false)
    );
}

#[test]
fn a_repository_of_any_registry_becomes_one() {
    for (from, image) in [
        ("*/x", "gcr.io/x:1"),
        ("*/a/x", "gcr.io/a/x:1"),
        ("*.io/x", "gcr.io/x:1"),
        ("gcr.io:*/x", "gcr.io:5000/x:1"),
        ("gcr.io/x", "gcr.io/x:1"),
    ] {
        let policies = policies(&format!("rules: [{{from: '{from}', to: r.io/y}}]"));
        let decision = decide(&policies, image);
        assert_eq!(
            (&*decision.result, decision.approved),
            ("r.io/y:1", true),
            "{from}"
        );
        let again = decide(&policies, "r.io/y:1");
        assert_eq!(
            (again.reason, again.approved),
            (Reason::AlreadyTarget, true),
            "{from}"
        );
    }
    let text = text("rules: [{from: '*/x', to: r.io}]");
    let error = load("p.yaml", &text).unwrap_err();
    assert_eq!(
        first(&text, &error),
        ("r.io".to_owned(), "to", Some("write `r.io/x`".to_owned()))
    );
}

#[test]
fn an_exception_ends() {
    let policies = policies(CORP);
    let at = |year, day| {
        let date = Date::from_ordinal_date(year, day).unwrap();
        let decision = policies
            .select(Scope::Node, date)
            .decide("ghcr.io/acme/debug:2");
        (decision.reason, decision.approved, decision.rule)
    };
    let name = Some("exceptions[0] until 2027-01-31: INC-1234");
    assert_eq!(at(2027, 31), (Reason::Excepted, true, name));
    assert_eq!(at(2027, 32), (Reason::Swapped, true, Some("rest")));
}

#[test]
fn a_list_of_approvals_is_all_that_is_approved() {
    let policies = policies(
        r#"
rules:
- {name: keep, keep: "quay.io/**"}
- {name: rest, from: "docker.io/**", to: r.io/hub}
approved: ["r.io/hub/**@sha256:*", "s.io/**"]"#,
    );
    let pinned = format!("nginx@sha256:{}", "a".repeat(64));
    for (image, approved) in [
        ("nginx", false),
        (pinned.as_str(), true),
        ("quay.io/a", false),
        ("s.io/x", true),
        ("t.io/x", false),
    ] {
        assert_eq!(decide(&policies, image).approved, approved, "{image}");
    }
}

#[test]
fn one_policy_decides() {
    let document = |name: &str, spec: &str| {
        format!(
            "---\napiVersion: {API_VERSION}\nkind: {KIND}\nmetadata: {{name: {name}}}\nspec: {spec}\n"
        )
    };
    let text = [
        document("b", "{approved: [b.io/**]}"),
        document("a", "{approved: [a.io/**]}"),
        document("team", "{priority: 1, match: {nodeLevel: false, namespaceSelector: {matchLabels: {team: x}}}, approved: [team.io/**]}"),
        document("out", "{priority: 2, match: {nodeLevel: false, allowOptOut: true, objectSelector: {matchLabels: {out: 'yes'}}}, rules: [{from: '**', to: o.io}], enforcement: warn}"),
    ]
    .concat();
    let policies = Policies::new(load("p.yaml", &text).unwrap().policies);
    let labels = |text: &str| {
        let pairs = text.split(',').filter_map(|it| it.split_once('='));
        pairs
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect()
    };
    let name = |namespace, of_namespace: &str, of_pod: &str| {
        let (of_namespace, of_pod) = (labels(of_namespace), labels(of_pod));
        let pod = PodScope {
            namespace: Some(namespace),
            namespace_labels: Some(&of_namespace),
            labels: Some(&of_pod),
        };
        let selected = policies.select(Scope::Pod(pod), TODAY);
        (
            selected.policy().map(|it| it.name().to_owned()),
            selected.decide("nginx").reason,
        )
    };
    assert_eq!(
        name("default", "", ""),
        (Some("a".to_owned()), Reason::NoRule)
    );
    assert_eq!(
        name("default", "team=x", ""),
        (Some("team".to_owned()), Reason::NoRule)
    );
    assert_eq!(
        name("default", "team=x", "out=yes"),
        (Some("out".to_owned()), Reason::Swapped)
    );
    let opted = "out=yes,k8s.twr.io/imageswap=disabled";
    assert_eq!(
        name("default", "", opted),
        (Some("out".to_owned()), Reason::OptedOut)
    );
    assert_eq!(name("kube-system", "", ""), (None, Reason::OutOfScope));
    assert_eq!(
        policies.select(Scope::Node, TODAY).policy().unwrap().name(),
        "a"
    );
    assert_eq!(
        Policies::none()
            .select(Scope::Node, TODAY)
            .decide("nginx")
            .reason,
        Reason::NoPolicy
    );
}

#[test]
fn mistakes_are_told_with_their_place() {
    for (spec, part, code, help) in [
        (
            "rules: [{form: a.io/**, to: r.io}]",
            "form",
            "unknown-field",
            Some("write `from`"),
        ),
        ("prio: 1", "prio", "unknown-field", Some("write `priority`")),
        (
            "priority: high",
            "high",
            "field",
            Some("write `priority: 10`, for example"),
        ),
        (
            "enforcement: Deny",
            "Deny",
            "field",
            Some("write `enforcement: deny`"),
        ),
        (
            "rules: [{keep: 'https://r.io/*'}]",
            "https://",
            "scheme",
            Some("write `r.io/**`"),
        ),
        (
            "rules: [{keep: 'r.io/?'}]",
            "?",
            "pattern-syntax",
            Some("write one pattern for each case, or a rule with `regex`"),
        ),
        ("rules: [{from: 'a.io/**'}]", "from", "rule", None),
        ("rules: [{keep: 'a.io/**', to: r.io}]", "keep", "rule", None),
        ("rules: [{name: x}]", "name", "rule", None),
        (
            "rules: [{from: 'a.io/**', to: r.io/}]",
            "r.io/",
            "trailing-slash",
            Some("write `r.io`"),
        ),
        (
            "rules: [{from: 'a.io/**', to: mirror}]",
            "mirror",
            "to",
            Some("write `docker.io/mirror`, or begin with a registry that has a dot or a port"),
        ),
        (
            "rules: [{from: 'a.io/**', to: 'r.io/x:1'}]",
            "r.io/x:1",
            "to",
            None,
        ),
        (
            "rules: [{from: 'a.io/b', to: 'r.io/x:1'}]",
            "r.io/x:1",
            "to",
            Some("write `r.io/x`: the tag of the image is kept"),
        ),
        (
            "rules: [{from: 'a.io/b', to: r.io}]",
            "r.io",
            "to",
            Some("write `r.io/b`"),
        ),
        ("rules: [{regex: '^a(b$', to: r.io/x}]", "(", "regex", None),
        ("rules: [{regex: '^a$', to: r.io/$1}]", "$1", "regex", None),
        (
            "rules: [{regex: '^(.*)$', to: $1.io}]",
            "$1.io",
            "to",
            Some("write a registry first, as in `registry.example.com/$1`"),
        ),
        (
            "rules: [{regex: '^((a{99}){99}){99}$', to: r.io/x}]",
            "^((a{99}){99}){99}$",
            "regex",
            None,
        ),
        (
            "rules: [{name: a, keep: r.io/a}, {name: a, keep: r.io/b}]",
            "a",
            "duplicate-name",
            None,
        ),
        (
            "rules: [{from: a.io/**, to: b.io}, {from: b.io/**, to: a.io}]",
            "b.io/**",
            "conflicting-rules",
            Some(
                "`rules[1]` moves images back to where `rules[0]` takes them from: drop one of the rules",
            ),
        ),
        (
            "rules: [{regex: '^a\\.io/(.*)$', to: b.io/$1}, {regex: '^b\\.io/(.*)$', to: a.io/$1}]",
            "^b\\.io/(.*)$",
            "conflicting-rules",
            Some(
                "let `rules[0]` move images to where they should stay, or put `rules[1]` before it",
            ),
        ),
        (
            "rules: [{from: r.io/m/**, to: r.io}]",
            "r.io/m/**",
            "conflicting-rules",
            None,
        ),
        (
            "approved: [r.io]",
            "r.io",
            "no-path",
            Some(
                "write `r.io/**` for all of the registry, or `docker.io/library/r.io` for the image",
            ),
        ),
        (
            "exceptions: [{pattern: a.io/**, until: tomorrow, reason: x}]",
            "tomorrow",
            "field",
            None,
        ),
        (
            "exceptions: [{pattern: a.io/**, until: 2027-01-01, reason: ''}]",
            "",
            "field",
            None,
        ),
        (
            "exceptions: [{pattern: a.io/**, until: 2027-01-01}]",
            "pattern",
            "field",
            None,
        ),
        (
            "match: {namespaceSelector: {matchExpressions: [{key: a, operator: In}]}}",
            "key",
            "field",
            None,
        ),
        (
            "imagePullSecrets: [{registry: r.io/team, name: s}]",
            "r.io/team",
            "field",
            None,
        ),
        (
            "imagePullSecrets: [{registry: r.io, name: S_1}]",
            "S_1",
            "field",
            None,
        ),
        (
            "imagePullSecrets: [{registry: r.io, name: s}, {registry: r.io, name: s}]",
            "s",
            "field",
            None,
        ),
        (
            "imagePullSecrets: [{registry: r.io, name: s, cluster: c}]",
            "cluster",
            "unknown-field",
            Some("the fields here are `name`, `registry`"),
        ),
        (
            "match: {objectselector: {}}",
            "objectselector",
            "unknown-field",
            Some("write `objectSelector`"),
        ),
    ] {
        let text = text(spec);
        let found = load("p.yaml", &text).expect_err(spec);
        let (at, found_code, found_help) = first(&text, &found);
        assert_eq!((at.as_str(), found_code), (part, code), "{found}");
        let errors = found.iter().filter(|it| it.severity == Severity::Error);
        assert!(errors.into_iter().all(|it| it.help.is_some()), "{found}");
        assert!(
            help.is_none_or(|it| found_help.as_deref() == Some(it)),
            "{found}"
        );
        assert!(CHECKS.iter().any(|it| it.code == code));
    }
    for (text, code) in [
        ("", "unknown-kind"),
        ("a: [", "yaml-syntax"),
        ("apiVersion: v1\nkind: Pod\n", "unknown-kind"),
        ("- 1", "unknown-kind"),
    ] {
        assert_eq!(load("p.yaml", text).unwrap_err().0[0].code, code, "{text}");
    }
}

#[test]
fn what_kubernetes_adds_is_left_alone() {
    let text = "apiVersion: v1\nkind: List\nitems:\n- apiVersion: imageswap.io/v1alpha1\n  kind: ImageSwapPolicy\n  metadata: {name: a, uid: x, managedFields: [{manager: y}]}\n  spec: {approved: [r.io/**]}\n  status: {conditions: []}\n";
    assert_eq!(load("p.yaml", text).unwrap().policies.len(), 1);
}

#[test]
fn the_schema_names_every_field() {
    let schema = serde_json::to_string(&schema()).unwrap();
    for field in [
        "namespaceSelector",
        "allowOptOut",
        "exceptions",
        "until",
        "enforcement",
        "regex",
        "matchExpressions",
    ] {
        assert!(
            schema.contains(&format!("\"{field}\"")),
            "{field}: {schema}"
        );
    }
}

#[test]
fn approved_places_are_told() {
    let places = |spec: &str| {
        let loaded = load("p.yaml", &text(spec)).unwrap();
        loaded.policies[0].approved_places().to_vec()
    };
    let rules = "rules: [{keep: '*.corp.example.com/**'}, {from: quay.io/**, to: r.io/q}, {from: '**', to: r.io}]";
    assert_eq!(
        places(rules),
        ["r.io/q/**", "r.io/**", "*.corp.example.com/**"]
    );
    assert_eq!(
        places(&format!("{rules}\napproved: [a.io/**]")),
        ["a.io/**"]
    );
}

#[test]
fn a_message_names_its_field() {
    let text = text("rules: [{keep: r.io/**}, {from: docker.io/**, to: 'hub'}]");
    let found = load("p.yaml", &text).unwrap_err();
    let shown: Vec<_> = found.iter().map(Diagnostic::at_field).collect();
    assert!(
        shown[0].starts_with("spec.rules[1].to: error["),
        "{shown:?}"
    );
    let unknown = load("p.yaml", &text.replace("keep: r.io/**", "kept: x")).unwrap_err();
    assert!(
        unknown.iter().any(|it| it.at_field()
            == "spec.rules[0].kept: error[unknown-field]: there is no field `kept` here; write `keep`"),
        "{unknown}"
    );
}

#[test]
fn pull_secrets_are_kept_by_canonical_registry() {
    let text = text(
        "rules: [{from: '**', to: 'r.io:5000'}]\n\
         imagePullSecrets: [{registry: 'r.io:5000', name: a}, {registry: index.docker.io, name: b}]",
    );
    let loaded = load("p.yaml", &text).unwrap();
    let secrets: Vec<_> = loaded.policies[0]
        .pull_secrets()
        .iter()
        .map(|it| (it.registry(), it.name()))
        .collect();
    assert_eq!(secrets, [("r.io:5000", "a"), ("docker.io", "b")]);
    let without = load("p.yaml", &text.replace("index.docker.io", "b.io")).unwrap();
    assert_ne!(
        loaded.policies[0].revision(),
        without.policies[0].revision()
    );
}

#[test]
fn a_document_round_trips() {
    let text = text(CORP);
    let value = &crate::yaml::parse("p.yaml", &text).unwrap()[0];
    let document: ImageSwapPolicy = serde_json::from_value(value.to_json()).unwrap();
    let json = serde_json::to_string_pretty(&document).unwrap();
    let (one, other) = (load("a", &text).unwrap(), load("b", &json).unwrap());
    assert_eq!(one.policies[0].revision(), other.policies[0].revision());
}

proptest! {
    #[test]
    fn no_text_panics(text in "(apiVersion: imageswap.io/v1alpha1\nkind: ImageSwapPolicy\n)?(metadata: |spec:|name: |rules:|keep: |[a-z{}\\[\\]:,'\"*&!|>#/ \n-]|\\PC){0,60}") {
        prop_assert!(load("p.yaml", &text).map_or_else(|it| !it.is_empty(), |_| true));
        prop_assert!(lint_all([("p.yaml", &*text)], TODAY).found.iter().all(|it| !it.to_string().is_empty()));
    }
}
