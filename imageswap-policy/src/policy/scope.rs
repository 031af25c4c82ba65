//! Which Pods a policy applies to.

use crate::decision::{PodScope, Scope};
use crate::document::{LabelSelector, Operator};

/// The label that Kubernetes gives every namespace: its name.
pub(crate) const NAMESPACE_NAME: &str = "kubernetes.io/metadata.name";

/// Which Pods a policy applies to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ScopeRule {
    pub(crate) namespace: LabelSelector,
    pub(crate) object: LabelSelector,
    /// Whether containers that no Pod owns are in.
    pub(crate) node: bool,
    /// A label of the object that skips the swap, and never the approval, when it is `disabled`.
    pub(crate) opt_out: Option<String>,
}

impl ScopeRule {
    /// Whether the policy applies to `scope`; what is unknown does not exclude.
    pub(crate) fn covers(&self, scope: Scope<'_>) -> bool {
        let Scope::Pod(pod) = scope else {
            return self.node;
        };
        let of_namespace = |key: &str| match (pod.namespace, pod.namespace_labels) {
            (Some(name), _) if key == NAMESPACE_NAME => Some(Some(name)),
            (_, labels) => labels.map(|it| it.get(key).map(String::as_str)),
        };
        let of_object = |key: &str| pod.labels.map(|it| it.get(key).map(String::as_str));
        selects(&self.namespace, of_namespace) && selects(&self.object, of_object)
    }

    /// Whether a label of the Pod skips the swap.
    pub(crate) fn skips_swap(&self, scope: Scope<'_>) -> bool {
        match (&self.opt_out, scope) {
            (Some(label), Scope::Pod(pod)) => is_disabled(&pod, label),
            _ => false,
        }
    }
}

fn is_disabled(pod: &PodScope<'_>, label: &str) -> bool {
    let value = pod.labels.and_then(|it| it.get(label));
    value.is_some_and(|it| it == "disabled")
}

/// Whether labels fulfil the selector. `label` gives the value of one, `Some(None)` where it is missing and `None` where that is unknown.
fn selects<'a>(selector: &LabelSelector, label: impl Fn(&str) -> Option<Option<&'a str>>) -> bool {
    let equal = |(key, value): (&String, &String)| label(key).is_none_or(|it| it == Some(value));
    selector.match_labels.iter().all(equal)
        && selector.match_expressions.iter().all(|it| {
            let Some(value) = label(&it.key) else {
                return true;
            };
            let listed = || value.is_some_and(|value| it.values.iter().any(|it| it == value));
            match it.operator {
                Operator::In => listed(),
                Operator::NotIn => !listed(),
                Operator::Exists => value.is_some(),
                Operator::DoesNotExist => value.is_none(),
            }
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::Requirement;
    use std::collections::BTreeMap;

    fn labels(text: &str) -> BTreeMap<String, String> {
        let pairs = text.split(',').filter_map(|it| it.split_once('='));
        pairs
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect()
    }

    fn selector(key: &str, operator: Operator, values: &[&str]) -> LabelSelector {
        LabelSelector {
            match_labels: BTreeMap::new(),
            match_expressions: vec![Requirement {
                key: key.to_owned(),
                operator,
                values: values.iter().map(|it| (*it).to_owned()).collect(),
            }],
        }
    }

    #[test]
    fn operators_are_those_of_kubernetes() {
        use Operator::{DoesNotExist, Exists, In, NotIn};
        for (operator, values, given, expected) in [
            (In, &["a", "b"][..], "x=b", true),
            (In, &["a"], "x=c", false),
            (In, &["a"], "y=a", false),
            (NotIn, &["a"], "x=a", false),
            (NotIn, &["a"], "x=b", true),
            (NotIn, &["a"], "y=a", true),
            (Exists, &[], "x=", true),
            (Exists, &[], "y=", false),
            (DoesNotExist, &[], "x=", false),
            (DoesNotExist, &[], "", true),
        ] {
            let rule = ScopeRule {
                namespace: LabelSelector::default(),
                object: selector("x", operator, values),
                node: false,
                opt_out: None,
            };
            let given = labels(given);
            let pod = PodScope {
                labels: Some(&given),
                ..PodScope::default()
            };
            assert_eq!(
                rule.covers(Scope::Pod(pod)),
                expected,
                "{operator:?} {values:?} {given:?}"
            );
            assert!(
                rule.covers(Scope::Pod(PodScope::default())),
                "unknown labels select"
            );
        }
    }

    #[test]
    fn a_namespace_is_known_by_its_name() {
        let rule = ScopeRule {
            namespace: selector(NAMESPACE_NAME, Operator::NotIn, &["kube-system"]),
            object: LabelSelector::default(),
            node: true,
            opt_out: Some("skip".to_owned()),
        };
        let pod = |namespace| PodScope {
            namespace: Some(namespace),
            ..PodScope::default()
        };
        assert!(!rule.covers(Scope::Pod(pod("kube-system"))));
        assert!(rule.covers(Scope::Pod(pod("default"))) && rule.covers(Scope::Node));
        let disabled = labels("skip=disabled");
        let out = PodScope {
            labels: Some(&disabled),
            ..pod("default")
        };
        assert!(rule.covers(Scope::Pod(out)) && rule.skips_swap(Scope::Pod(out)));
        assert!(!rule.skips_swap(Scope::Pod(pod("default"))) && !rule.skips_swap(Scope::Node));
    }
}
