//! Kubernetes objects as values: their names, the order in which they are applied, and how they are
//! written.

use std::fmt::Write as _;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// Labels by which Helm knows its objects.
const HELM: [&str; 2] = ["helm.sh/chart", "app.kubernetes.io/managed-by"];

/// Kinds in the order of applying: what others refer to comes first, and the webhook configurations
/// come last. Kinds that are not named go before the last three.
const ORDER: [&str; 16] = [
    "Namespace",
    "CustomResourceDefinition",
    "PriorityClass",
    "ServiceAccount",
    "Secret",
    "ConfigMap",
    "ClusterRole",
    "ClusterRoleBinding",
    "Role",
    "RoleBinding",
    "NetworkPolicy",
    "PodDisruptionBudget",
    "Service",
    "Deployment",
    "DaemonSet",
    "HorizontalPodAutoscaler",
];
const LAST: [&str; 3] = [
    "MutatingWebhookConfiguration",
    "ValidatingWebhookConfiguration",
    "ImageSwapPolicy",
];

/// One object.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Object(pub(super) Value);

/// The identity of an object.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Id {
    pub(super) kind: String,
    pub(super) namespace: Option<String>,
    pub(super) name: String,
}

impl Object {
    pub(super) fn id(&self) -> Id {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let metadata = &self.0["metadata"];
        Id {
            kind: text(&self.0["kind"]).unwrap_or_default(),
            namespace: text(&metadata["namespace"]),
            name: text(&metadata["name"]).unwrap_or_default(),
        }
    }

    /// Removes Helm's labels from an object and from its Pod template.
    pub(super) fn forget_helm(&mut self) {
        for path in ["/metadata/labels", "/spec/template/metadata/labels"] {
            if let Some(labels) = self.0.pointer_mut(path).and_then(Value::as_object_mut) {
                labels.retain(|key, _| !HELM.contains(&key.as_str()));
            }
        }
    }
}

/// Reads the documents of a text; empty ones are left out.
pub(super) fn parse(text: &str) -> Result<Vec<Object>> {
    // Helm and the API server read YAML 1.1, where 0440 is octal.
    let options = serde_saphyr::options! { legacy_octal_numbers: true };
    let documents: Vec<Value> = serde_saphyr::from_multiple_with_options(text, options)?;
    let mut objects = Vec::new();
    for document in documents.into_iter().filter(|it| !it.is_null()) {
        let object = Object(document);
        let id = object.id();
        ensure!(
            !id.kind.is_empty() && !id.name.is_empty(),
            "a document is not an object: {}",
            object.0
        );
        objects.push(object);
    }
    Ok(objects)
}

/// Sorts objects in the order of applying, and those of a kind by name.
pub(super) fn sort(objects: &mut [Object]) {
    objects.sort_by_key(|it| {
        let id = it.id();
        let place = ORDER.iter().position(|kind| *kind == id.kind);
        let last = LAST.iter().position(|kind| *kind == id.kind);
        let place = place.or(last.map(|at| ORDER.len() + 1 + at));
        (place.unwrap_or(ORDER.len()), id)
    });
}

/// Writes objects as documents of one text.
pub(super) fn write(head: &str, objects: &[Object]) -> Result<String> {
    let mut text = head.to_owned();
    for object in objects {
        let document = yaml(&object.0).with_context(|| format!("{:?}", object.id()))?;
        write!(text, "---\n{document}")?;
    }
    Ok(text)
}

/// A value as YAML.
pub(super) fn yaml(value: &Value) -> Result<String> {
    Ok(serde_saphyr::to_string(value)?)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(kind: &str, name: &str) -> Object {
        Object(json!({"kind": kind, "metadata": {"name": name}}))
    }

    #[test]
    fn what_others_refer_to_comes_first_and_the_webhook_last() {
        let mut objects = [
            object("ValidatingWebhookConfiguration", "a"),
            object("Deployment", "a"),
            object("ServiceMonitor", "a"),
            object("Namespace", "b"),
            object("Namespace", "a"),
            object("CustomResourceDefinition", "z"),
        ];
        sort(&mut objects);
        let order: Vec<_> = objects
            .iter()
            .map(|it| format!("{} {}", it.id().kind, it.id().name))
            .collect();
        assert_eq!(
            order,
            [
                "Namespace a",
                "Namespace b",
                "CustomResourceDefinition z",
                "Deployment a",
                "ServiceMonitor a",
                "ValidatingWebhookConfiguration a"
            ]
        );
    }

    #[test]
    fn what_is_written_is_read_again() {
        let tricky = json!({
            "kind": "ConfigMap",
            "metadata": {"name": "a"},
            "data": {
                "yes": "on", "number": "0644", "time": "12:30:45", "lines": "a\n  b\n\nc\n",
                "end": "no newline\nhere", "long": "word ".repeat(40), "empty": "", "hash": "a # b",
                "template": "{{ $labels.node }}: \"x\"", "tilde": "~", "exponent": "1e3",
            },
        });
        let text = write("# head\n", &[Object(tricky.clone()), object("A", "b")]).unwrap();
        assert!(text.starts_with("# head\n---\n"), "{text}");
        assert_eq!(parse(&text).unwrap(), [Object(tricky), object("A", "b")]);
        assert_eq!(
            parse("{kind: A, metadata: {name: a}, mode: 0440}").unwrap()[0].0["mode"],
            0o440
        );
        assert!(parse("---\n# nothing\n---\n").unwrap().is_empty());
        assert!(parse("kind: A\n").is_err());
    }

    #[test]
    fn helm_is_forgotten_and_nothing_else() {
        let labels =
            json!({"helm.sh/chart": "a-1", "app.kubernetes.io/managed-by": "Helm", "kept": "1"});
        let mut object = Object(json!({
            "metadata": {"labels": labels},
            "spec": {"template": {"metadata": {"labels": labels}}},
        }));
        object.forget_helm();
        let kept = json!({"kept": "1"});
        assert_eq!(
            object.0,
            json!({"metadata": {"labels": kept}, "spec": {"template": {"metadata": {"labels": kept}}}})
        );
    }
}
