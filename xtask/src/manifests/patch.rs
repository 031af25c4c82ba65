//! The difference between two sets of objects, in kustomize's form.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::object::{Id, Object};

/// The changes to a set of objects.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Delta {
    pub(super) added: Vec<Object>,
    pub(super) removed: Vec<Object>,
    /// Operations of a JSON patch (RFC 6902) for each object that changes.
    pub(super) changed: Vec<(Object, Vec<Value>)>,
}

impl Delta {
    pub(super) fn between(from: &[Object], to: &[Object]) -> Self {
        let before: BTreeMap<Id, &Object> = from.iter().map(|it| (it.id(), it)).collect();
        let after: BTreeMap<Id, &Object> = to.iter().map(|it| (it.id(), it)).collect();
        let mut delta = Self::default();
        for object in to {
            match before.get(&object.id()) {
                None => delta.added.push(object.clone()),
                Some(old) => {
                    let mut operations = Vec::new();
                    compare("", &old.0, &object.0, &mut operations);
                    if !operations.is_empty() {
                        delta.changed.push((object.clone(), operations));
                    }
                }
            }
        }
        let gone = from.iter().filter(|it| !after.contains_key(&it.id()));
        delta.removed.extend(gone.cloned());
        delta
    }
}

/// Compares maps key by key, and lists of the same length element by element. Any other list is
/// replaced as a whole, because an operation for every moved element would be unreadable.
fn compare(path: &str, old: &Value, new: &Value, operations: &mut Vec<Value>) {
    match (old, new) {
        (Value::Object(from), Value::Object(to)) => {
            for key in from.keys().filter(|it| !to.contains_key(*it)) {
                operations.push(json!({"op": "remove", "path": below(path, key)}));
            }
            for (key, value) in to {
                let path = below(path, key);
                match from.get(key) {
                    Some(old) => compare(&path, old, value, operations),
                    None => operations.push(json!({"op": "add", "path": path, "value": value})),
                }
            }
        }
        (Value::Array(from), Value::Array(to)) if from.len() == to.len() => {
            for (at, (old, new)) in from.iter().zip(to).enumerate() {
                compare(&below(path, &at.to_string()), old, new, operations);
            }
        }
        _ if old == new => {}
        _ => operations.push(json!({"op": "replace", "path": path, "value": new})),
    }
}

/// A JSON pointer (RFC 6901) to the value of `key`.
fn below(path: &str, key: &str) -> String {
    format!("{path}/{}", key.replace('~', "~0").replace('/', "~1"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(name: &str, spec: &Value) -> Object {
        Object(json!({"kind": "A", "metadata": {"name": name}, "spec": spec}))
    }

    #[test]
    fn objects_come_go_and_change() {
        let from = [
            object("kept", &json!({"a": 1})),
            object("gone", &json!({})),
            object(
                "changed",
                &json!({"list": [1, {"x": 1}], "args": ["a"], "old/key": 1, "same": {"a": 1}}),
            ),
        ];
        let to = [
            object(
                "changed",
                &json!({"list": [1, {"x": 2}], "args": ["a", "b"], "new~key": 2, "same": {"a": 1}}),
            ),
            object("kept", &json!({"a": 1})),
            object("new", &json!({})),
        ];
        let delta = Delta::between(&from, &to);
        assert_eq!(delta.added, [object("new", &json!({}))]);
        assert_eq!(delta.removed, [object("gone", &json!({}))]);
        assert_eq!(
            delta.changed,
            [(
                to[0].clone(),
                vec![
                    json!({"op": "remove", "path": "/spec/old~1key"}),
                    json!({"op": "replace", "path": "/spec/args", "value": ["a", "b"]}),
                    json!({"op": "replace", "path": "/spec/list/1/x", "value": 2}),
                    json!({"op": "add", "path": "/spec/new~0key", "value": 2}),
                ]
            )]
        );
        assert_eq!(Delta::between(&to, &to), Delta::default());
    }
}
