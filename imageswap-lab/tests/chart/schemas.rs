//! Objects of other projects are held to the schemas of their CustomResourceDefinitions.

use std::collections::BTreeMap;

use jsonschema::Validator;
use serde_json::{Value, json};

use super::helm::Object;

/// A schema by kind; `source` says where they are from.
const SCHEMAS: &str = include_str!("schemas.json");

/// Validators by kind.
pub(crate) struct Schemas(BTreeMap<String, Validator>);

impl Schemas {
    pub(crate) fn load() -> Self {
        let mut schemas: BTreeMap<String, Value> = serde_json::from_str(SCHEMAS).unwrap();
        assert!(schemas.remove("source").is_some());
        let compile = |(kind, schema): (String, Value)| {
            let validator = jsonschema::validator_for(&schema);
            let validator = validator.unwrap_or_else(|error| panic!("{kind}: {error}"));
            (kind, validator)
        };
        Self(schemas.into_iter().map(compile).collect())
    }

    /// What the schema of its kind refuses of an object, by path.
    pub(crate) fn errors(&self, object: &Object) -> Vec<String> {
        let validator = self.0.get(object.kind());
        let validator = validator.unwrap_or_else(|| panic!("{}: no schema", object.shown()));
        let errors = validator.iter_errors(&object.0);
        errors
            .map(|error| format!("{}: {error}", error.instance_path()))
            .collect()
    }
}

#[test]
fn a_field_that_a_schema_does_not_know_is_refused() {
    let schemas = Schemas::load();
    let monitor = |endpoint: Value| {
        Object(json!({
            "apiVersion": "monitoring.coreos.com/v1", "kind": "ServiceMonitor", "metadata": {"name": "x"},
            "spec": {"selector": {"matchLabels": {"a": "b"}}, "endpoints": [endpoint]},
        }))
    };
    let good = monitor(json!({"port": "admin", "interval": "30s"}));
    assert_eq!(schemas.errors(&good), Vec::<String>::new());
    for bad in [
        json!({"port": "admin", "intervall": "30s"}),
        json!({"port": "admin", "interval": "half a minute"}),
        json!({"port": 8080}),
    ] {
        let errors = schemas.errors(&monitor(bad));
        assert!(errors[0].starts_with("/spec/endpoints/0"), "{errors:?}");
    }
    let rule = Object(json!({
        "apiVersion": "monitoring.coreos.com/v1", "kind": "PrometheusRule", "metadata": {"name": "x"},
        "spec": {"groups": [{"name": "g", "rules": [{"alert": "A"}]}]},
    }));
    assert_eq!(
        schemas.errors(&rule).len(),
        1,
        "a rule without an expression"
    );
}
