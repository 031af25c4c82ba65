use super::*;
use imageswap_policy::document::Rule;
use proptest::prelude::*;
use serde_json::{Value, json};

/// What people write, and what nobody should.
fn words() -> BoxedStrategy<String> {
    let known = prop::sample::select(vec![
        "docker.io",
        "docker.io/*",
        "quay.io/team/*",
        "*/nginx",
        "*",
        "?*",
        "!bad.io/*",
        "Reg.IO/*",
        "https://a.io/*",
        "a.io/* | b.io/*",
        "a.io/* & !*:latest",
        "localhost:5000/*",
        "a.io:*/x@*",
        "a.io/x@sha256:*",
        "nginx:1.*",
        "**/x/**/*",
        "{{element.image}}",
        "CREATE",
        "true",
        "{{ images.containers.\"{{element.name}}\".registry }}",
        "r.io/{{ images.containers.\"{{element.name}}\".path }}:{{ images.containers.a.tag }}",
        "{{ regex_replace_all('^([^/]+)/', '{{element.image}}', 'r.io/$1/') }}",
        "{{ regex_replace_all_literal('^[^/]+', '{{@}}', 'r.io') }}",
        "{{ replace_all(element.image, 'docker.io', 'r.io:5000/') }}",
        "{{ image_normalize('{{element.image}}') }}",
        "{{ request.operation || 'BACKGROUND' }}",
        "{{ starts_with(element.image, `\"a.io\"`) }}",
        "{{ split(element.image, '/')[0] }}",
    ]);
    prop_oneof![
        4 => known.prop_map(str::to_owned),
        1 => "[a-zA-Z0-9.:/@*?!|&{}()\\[\\]'\"`,$\\\\ _-]{0,24}",
        1 => "\\PC{0,12}",
    ]
    .boxed()
}

fn condition() -> BoxedStrategy<Value> {
    let operators = ["Equals", "NotEquals", "AnyIn", "AllNotIn", "GreaterThan"];
    let one = (
        words(),
        prop::sample::select(operators.to_vec()),
        prop::collection::vec(words(), 0..3),
    )
        .prop_map(
            |(key, operator, value)| json!({"key": key, "operator": operator, "value": value}),
        );
    let list = prop::collection::vec(one, 0..3);
    prop_oneof![
        list.clone().prop_map(|it| json!({ "all": it })),
        list.clone().prop_map(|it| json!({ "any": it })),
        (list.clone(), list.clone()).prop_map(|(any, all)| json!({"any": any, "all": all})),
        list.prop_map(Value::from),
    ]
    .boxed()
}

fn rule() -> BoxedStrategy<Value> {
    let container = |image: String| json!({"spec": {"=(initContainers)": [{"image": image.clone()}], "containers": [{"name": "*", "image": image}]}});
    prop_oneof![
        words().prop_map(move |it| json!({"validate": {"message": "no", "pattern": container(it)}})),
        condition().prop_map(|it| json!({"validate": {"deny": {"conditions": it}}})),
        (condition(), condition(), words()).prop_map(|(outer, inner, image)| json!({
            "preconditions": outer,
            "mutate": {"foreach": [{"list": "request.object.spec.containers", "preconditions": inner,
                "patchStrategicMerge": {"spec": {"containers": [{"name": "{{element.name}}", "image": image}]}}}]},
        })),
        words().prop_map(move |it| json!({"mutate": {"patchStrategicMerge": container(it)}})),
    ]
    .boxed()
}

fn policy() -> BoxedStrategy<Value> {
    let name = prop_oneof![4 => Just("p".to_owned()), 1 => words()];
    let rules = prop::collection::vec(rule(), 1..4);
    (name, rules, any::<bool>())
        .prop_map(|(name, rules, enforce)| {
            let action = if enforce { "Enforce" } else { "Audit" };
            json!({"apiVersion": "kyverno.io/v1", "kind": "ClusterPolicy", "metadata": {"name": name},
                "spec": {"validationFailureAction": action, "rules": rules}})
        })
        .boxed()
}

/// Whatever is accepted loads, all of it together, also as it is written.
fn check(texts: &[String]) -> Result<(), TestCaseError> {
    for join in [
        together::Join::Never,
        together::Join::WhereTheyAgree,
        together::Join::Always,
    ] {
        let mut all = Vec::new();
        for text in texts {
            all.extend(read("k.yaml", text).unwrap_or_default());
        }
        let (policies, _) = joined(&mut all, join)
            .map_err(|error| TestCaseError::fail(format!("{texts:#?}\n{error}")))?;
        for policy in &policies {
            let written = write::policy(policy, "Imported.", &[]);
            let loaded = document::load("written", &written);
            prop_assert!(loaded.is_ok(), "{texts:#?}\n{written}\n{loaded:?}");
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn what_is_accepted_loads(policies in prop::collection::vec(policy(), 1..4)) {
        let texts: Vec<_> = policies.iter().map(Value::to_string).collect();
        check(&texts)?;
    }

    #[test]
    fn no_text_panics(text in "(apiVersion: kyverno.io/v1\nkind: Policy\nspec: )?[\\PC\n]{0,80}") {
        check(&[text])?;
    }
}

fn mutation(preconditions: &Value, image: &str) -> (Vec<Rule>, Vec<&'static str>) {
    let text = json!({"apiVersion": "kyverno.io/v1", "kind": "ClusterPolicy", "metadata": {"name": "p"},
        "spec": {"rules": [{"name": "r", "preconditions": preconditions, "mutate": {"foreach": [{
            "preconditions": {"all": [{"key": "{{request.operation || 'BACKGROUND'}}",
                "operator": "NotEquals", "value": "DELETE"}]},
            "patchStrategicMerge": {"spec": {"containers": [{"image": image}]}}}]}}]}});
    let mut all = read("k.yaml", &text.to_string()).unwrap();
    let Imported { policy, notes, .. } = all.remove(0);
    let codes = notes.iter().map(|it| it.code).collect();
    (policy.map(|it| it.spec.rules).unwrap_or_default(), codes)
}

#[test]
fn conditions_on_registry_and_path_become_one_pattern_and_keep_the_path() {
    const REGISTRY: &str = "{{ images.containers.\"{{element.name}}\".registry }}";
    const PATH: &str = "{{ images.containers.\"{{element.name}}\".path }}";
    const TO: &str = "r.io/{{ images.containers.\"{{element.name}}\".path }}:\
                      {{ images.containers.\"{{element.name}}\".tag }}";
    let is = |key: &str, value: &str| json!({"key": key, "operator": "Equals", "value": value});
    let cases: [(Value, &[(&str, &str)]); 5] = [
        (
            json!({"all": [is(REGISTRY, "docker.io"), is(PATH, "bitnami/*")]}),
            &[("docker.io/bitnami/**", "r.io/bitnami")],
        ),
        (
            json!({"any": [is(REGISTRY, "quay.io")], "all": [is(PATH, "a/b")]}),
            &[("quay.io/a/b", "r.io/a/b")],
        ),
        (
            json!({"all": [is(REGISTRY, "docker.io")]}),
            &[("docker.io/library/*", "r.io"), ("docker.io/**", "r.io")],
        ),
        (
            json!({"all": [is("{{element.image}}", "docker.io/bitnami/*")]}),
            &[("docker.io/bitnami/**", "r.io/bitnami")],
        ),
        (
            json!({"all": [{"key": "{{request.operation}}", "operator": "Equals", "value": "DELETE"}]}),
            &[],
        ),
    ];
    for (preconditions, expected) in cases {
        let (rules, codes) = mutation(&preconditions, TO);
        let rules: Vec<_> = rules
            .iter()
            .map(|it| {
                (
                    it.from.as_deref().unwrap_or_default(),
                    it.to.as_deref().unwrap_or_default(),
                )
            })
            .collect();
        assert_eq!(rules, expected, "{preconditions}: {codes:?}");
    }
}
