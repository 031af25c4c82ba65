//! Checks `imageswap schema` with a validator of JSON Schema: it accepts what loads, and refuses
//! what does not.

use imageswap_policy::document::{self, API_VERSION, KIND};
use imageswap_policy::yaml;
use jsonschema::Validator;
use serde_json::{Value, json};

fn validator() -> Validator {
    let schema = document::schema();
    jsonschema::meta::validate(&schema).expect("the schema is one");
    jsonschema::options()
        .should_validate_formats(true)
        .build(&schema)
        .expect("the schema compiles")
}

fn document(text: &str) -> Value {
    let nodes = yaml::parse("x", text).unwrap_or_else(|it| panic!("{text}\n{it}"));
    nodes[0].to_json()
}

fn policy(spec: &str) -> String {
    format!("apiVersion: {API_VERSION}\nkind: {KIND}\nmetadata: {{name: corp}}\nspec: {spec}\n")
}

const GOOD: &[&str] = &[
    "{}",
    "{approved: []}",
    "{priority: -5, approved: [r.io/**]}",
    "{rules: [{keep: r.io/**}]}",
    "{rules: [{name: hub, from: docker.io/**, to: r.io/hub}]}",
    "{rules: [{regex: '^quay\\.io/(.*)$', to: r.io/quay/$1}]}",
    "{approved: [r.io/**], exceptions: [{pattern: a.io/**, until: 2027-01-31, reason: INC-1}]}",
    "{approved: [r.io/**], imagePullSecrets: [{registry: r.io, name: pull}]}",
    "{approved: [r.io/**], match: {nodeLevel: false, allowOptOut: true}}",
    "{approved: [r.io/**], match: {namespaceSelector: {matchLabels: {team: a}}, objectSelector: {}}}",
    "{approved: [r.io/**], match: {objectSelector: {matchExpressions: [{key: a, operator: In, values: [b]}]}}}",
    "{approved: [r.io/**], enforcement: audit, message: ours}",
];

/// Documents of another shape: schema and loader refuse them.
const BAD: &[&str] = &[
    "{prio: 1}",
    "{priority: high}",
    "{priority: 1.5}",
    "{priority: 3000000000}",
    "{rules: {keep: r.io/**}}",
    "{rules: [{}]}",
    "{rules: [{name: x}]}",
    "{rules: [{keep: r.io/**, to: s.io}]}",
    "{rules: [{keep: r.io/**, from: s.io/**, to: t.io}]}",
    "{rules: [{from: s.io/**}]}",
    "{rules: [{to: s.io}]}",
    "{rules: [{from: s.io/**, regex: a, to: s.io}]}",
    "{rules: [{form: s.io/**, to: t.io}]}",
    "{rules: [{keep: [r.io/**]}]}",
    "{rules: [{keep: null}]}",
    "{rules: [r.io/**]}",
    "{approved: r.io/**}",
    "{approved: null}",
    "{approved: [1]}",
    "{exceptions: [{pattern: a.io/**, until: 2027-01-31}]}",
    "{exceptions: [{pattern: a.io/**, until: 31.12.2026, reason: x}]}",
    "{exceptions: [{pattern: a.io/**, until: 2027-02-30, reason: x}]}",
    "{exceptions: [{pattern: a.io/**, until: 2027-01-31, reason: ''}]}",
    "{exceptions: [{pattern: a.io/**, until: 2027-01-31, reason: x, by: y}]}",
    "{imagePullSecrets: [{registry: r.io}]}",
    "{match: {namespaceselector: {}}}",
    "{match: {nodeLevel: 'yes'}}",
    "{match: {objectSelector: {matchLabels: {a: 1}}}}",
    "{match: {objectSelector: {matchExpressions: [{key: a, operator: in}]}}}",
    "{match: {objectSelector: {matchExpressions: [{operator: Exists}]}}}",
    "{enforcement: Deny}",
    "{enforcement: null}",
    "{message: [a]}",
    "[]",
];

#[test]
fn the_schema_and_the_loader_agree() {
    let validator = validator();
    let mut texts: Vec<(String, bool)> = Vec::new();
    texts.extend(GOOD.iter().map(|it| (policy(it), true)));
    texts.extend(BAD.iter().map(|it| (policy(it), false)));
    let good = policy("{approved: [r.io/**]}");
    for (from, to) in [
        (API_VERSION, "imageswap.io/v1"),
        (KIND, "ImageSwapPolicies"),
        ("metadata: {name: corp}", "metadata: {}"),
        (
            "metadata: {name: corp}",
            "metadata: {name: corp, labls: {a: b}}",
        ),
        (
            "metadata: {name: corp}",
            "metadata: {name: corp, labels: {a: 1}}",
        ),
        ("spec:", "specs: {}\nspec:"),
        ("kind: ImageSwapPolicy\n", ""),
    ] {
        texts.push((good.replace(from, to), false));
    }
    for (from, to) in [
        (
            "metadata: {name: corp}",
            "metadata: {name: corp, uid: x, managedFields: [{a: b}]}",
        ),
        ("spec:", "status: {revision: x}\nspec:"),
    ] {
        texts.push((good.replace(from, to), true));
    }
    for (text, expected) in texts {
        let loads = document::load("x", &text);
        assert_eq!(
            loads.is_ok(),
            expected,
            "{text}\n{:?}",
            loads.err().map(|it| it.to_string())
        );
        let errors: Vec<_> = validator
            .iter_errors(&document(&text))
            .map(|it| it.to_string())
            .collect();
        assert_eq!(errors.is_empty(), expected, "{text}\n{errors:?}");
    }
}

#[test]
fn examples_and_documentation_are_valid() {
    let validator = validator();
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    let mut checked = 0;
    for path in [
        "deploy/examples/policy.yaml",
        "deploy/examples/pull-secrets.yaml",
        "docs/policy.md",
    ] {
        let text = std::fs::read_to_string(format!("{root}/{path}")).unwrap();
        let blocks: Vec<_> = match path.strip_suffix(".md") {
            Some(_) => text
                .split("```yaml\n")
                .skip(1)
                .map(|it| it.split("```").next().unwrap())
                .collect(),
            None => vec![text.as_str()],
        };
        for block in blocks {
            for node in yaml::parse(path, block).unwrap() {
                let value = node.to_json();
                if value["kind"] != KIND {
                    continue;
                }
                let errors: Vec<_> = validator
                    .iter_errors(&value)
                    .map(|it| it.to_string())
                    .collect();
                assert!(errors.is_empty(), "{path}\n{block}\n{errors:?}");
                checked += 1;
            }
        }
    }
    assert!(checked >= 6, "{checked}");
}

/// Every object of the schema refuses unknown fields, and every field has a description.
#[test]
fn every_object_is_closed_and_every_field_described() {
    fn walk(schema: &Value, path: &str) {
        for (name, field) in schema["properties"].as_object().into_iter().flatten() {
            let described = field == &json!(true) || field["description"].is_string();
            assert!(described || field == &json!(false), "{path}.{name}");
        }
        // Alternatives of a rule only define which of its fields go together.
        if schema["type"] == "object" {
            let closed = schema.get("additionalProperties").is_some();
            assert!(closed, "{path} takes unknown fields");
        }
        match schema {
            Value::Object(fields) => fields
                .iter()
                .for_each(|(key, it)| walk(it, &format!("{path}.{key}"))),
            Value::Array(items) => items.iter().for_each(|it| walk(it, path)),
            _ => {}
        }
    }
    let schema = document::schema();
    walk(&schema, "");
    assert!(schema["$id"].is_string());
    assert_eq!(schema["properties"]["apiVersion"]["const"], API_VERSION);
    assert_eq!(schema["properties"]["kind"]["const"], KIND);
    let text = schema.to_string();
    assert!(
        !text.contains("\"null\"")
            && text.contains("\"default\":0")
            && text.contains("\"format\":\"date\"")
    );
}
