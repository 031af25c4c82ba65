//! Which Pods a policy applies to.

use crate::decision::{PodScope, Scope};
use crate::guard::{Name, Names, Ternary};
use crate::selector::{LabelSelector, Operator};
use std::fmt;

/// The label with a namespace's name, which Kubernetes sets on every namespace.
pub(crate) const NAMESPACE_NAME: &str = "kubernetes.io/metadata.name";

/// The label by which ImageSwap's users opt in (on namespaces) and out (on objects).
pub const LABEL: &str = "k8s.twr.io/imageswap";

/// Namespaces that no policy applies to unless `match.namespaces` names them: the cluster needs
/// them to start.
pub const EXCLUDED: [&str; 3] = ["kube-system", "imageswap-system", "imageswap-agent"];

/// Which Pods a policy applies to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ScopeRule {
    /// Namespaces by name; `None` means every namespace except [`EXCLUDED`].
    pub(crate) namespaces: Option<Names>,
    /// Namespaces that are excluded, whatever else matches.
    pub(crate) excluded: Option<Names>,
    pub(crate) namespace: LabelSelector,
    pub(crate) object: LabelSelector,
    /// Whether containers without a Pod are in scope.
    pub(crate) node: bool,
    /// A label of the object that skips the swap, but never the approval, if it is `disabled`.
    pub(crate) opt_out: Option<String>,
    /// Whether unknown labels match. ImageSwap leaves its labels to the webhook configuration, so
    /// the API server has checked them already.
    pub(crate) trusts_labels: bool,
}

/// What would have to be known about a Pod to choose the policy, or its decision.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is one thing that may be missing"
)]
pub struct Missing {
    /// The name of its namespace.
    pub namespace: bool,
    /// The labels of its namespace.
    pub namespace_labels: bool,
    /// Its own labels.
    pub labels: bool,
    /// The name of the container.
    pub container: bool,
}

impl Missing {
    /// Whether nothing is missing.
    pub fn is_empty(self) -> bool {
        self == Self::default()
    }

    /// What is missing in either.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            namespace: self.namespace || other.namespace,
            namespace_labels: self.namespace_labels || other.namespace_labels,
            labels: self.labels || other.labels,
            container: self.container || other.container,
        }
    }
}

/// For people: `the labels of the namespace and the labels of the Pod`.
impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = [
            (self.namespace, "the name of the namespace"),
            (self.namespace_labels, "the labels of the namespace"),
            (self.labels, "the labels of the Pod"),
            (self.container, "the name of the container"),
        ];
        let mut missing = all.iter().filter(|it| it.0).map(|it| it.1).peekable();
        let mut separator = "";
        while let Some(it) = missing.next() {
            write!(f, "{separator}{it}")?;
            separator = if missing.peek().is_some() {
                " and "
            } else {
                ""
            };
        }
        Ok(())
    }
}

impl ScopeRule {
    /// Whether the policy applies to `scope`.
    pub(crate) fn covers(&self, scope: Scope<'_>) -> Ternary {
        let Scope::Pod(pod) = scope else {
            return self.node.into();
        };
        let answer = self.covers_name(&pod);
        if answer == Ternary::No {
            return answer;
        }
        let labels = self.covers_namespace(&pod).min(self.covers_object(&pod));
        if labels == Ternary::Unknown && self.trusts_labels {
            return answer;
        }
        answer.min(labels)
    }

    /// What would have to be known to decide whether the policy applies.
    pub(crate) fn missing(&self, scope: Scope<'_>) -> Missing {
        let Scope::Pod(pod) = scope else {
            return Missing::default();
        };
        Missing {
            namespace: self.covers_name(&pod) == Ternary::Unknown,
            namespace_labels: self.covers_namespace(&pod) == Ternary::Unknown,
            labels: self.covers_object(&pod) == Ternary::Unknown,
            container: false,
        }
    }

    /// Whether the policy selects by namespace labels other than the name.
    pub(crate) fn needs_namespace_labels(&self) -> bool {
        let expressions = self.namespace.match_expressions.iter().map(|it| &it.key);
        let mut keys = self.namespace.match_labels.keys().chain(expressions);
        !self.trusts_labels && keys.any(|it| it != NAMESPACE_NAME)
    }

    fn covers_name(&self, pod: &PodScope<'_>) -> Ternary {
        let name = pod.namespace.map_or(Name::Unknown, Name::Known);
        let included = match (&self.namespaces, name) {
            (Some(names), name) => names.contain(name),
            (None, Name::Known(name)) => (!EXCLUDED.contains(&name)).into(),
            // A Pod of unknown namespace is in none of the named ones.
            (None, _) => Ternary::Yes,
        };
        match self.excluded.as_ref().map(|it| it.contain(name)) {
            None | Some(Ternary::No) => included,
            Some(Ternary::Yes) => Ternary::No,
            Some(Ternary::Unknown) => included.min(Ternary::Unknown),
        }
    }

    fn covers_namespace(&self, pod: &PodScope<'_>) -> Ternary {
        let label = |key: &str| match (pod.namespace, pod.namespace_labels) {
            (Some(name), _) if key == NAMESPACE_NAME => Some(Some(name)),
            (_, labels) => labels.map(|it| it.get(key).map(String::as_str)),
        };
        selects(&self.namespace, label)
    }

    fn covers_object(&self, pod: &PodScope<'_>) -> Ternary {
        let label = |key: &str| pod.labels.map(|it| it.value(key));
        selects(&self.object, label)
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
    let value = pod.labels.and_then(|it| it.value(label));
    value == Some("disabled")
}

/// Whether labels match the selector. `label` returns the value of one label: `Some(None)` if it is
/// missing, `None` if that is unknown.
fn selects<'a>(
    selector: &LabelSelector,
    label: impl Fn(&str) -> Option<Option<&'a str>>,
) -> Ternary {
    let answer = |holds: Option<bool>| holds.map_or(Ternary::Unknown, Ternary::from);
    let equal = selector
        .match_labels
        .iter()
        .map(|(key, value)| answer(label(key).map(|it| it == Some(value))));
    let expressions = selector.match_expressions.iter().map(|it| {
        answer(label(&it.key).map(|value| {
            let listed = || value.is_some_and(|value| it.values.iter().any(|it| it == value));
            match it.operator {
                Operator::In => listed(),
                Operator::NotIn => !listed(),
                Operator::Exists => value.is_some(),
                Operator::DoesNotExist => value.is_none(),
            }
        }))
    });
    equal.chain(expressions).min().unwrap_or(Ternary::Yes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::selector::Requirement;
    use std::collections::BTreeMap;

    fn labels(text: &str) -> BTreeMap<String, String> {
        let pairs = text.split(',').filter_map(|it| it.split_once('='));
        pairs
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect()
    }

    fn rule() -> ScopeRule {
        ScopeRule {
            namespaces: None,
            excluded: None,
            namespace: LabelSelector::default(),
            object: LabelSelector::default(),
            node: true,
            opt_out: None,
            trusts_labels: false,
        }
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

    fn pod(namespace: &str) -> PodScope<'_> {
        PodScope {
            namespace: Some(namespace),
            ..PodScope::default()
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
            let mut rule = ScopeRule {
                object: selector("x", operator, values),
                ..rule()
            };
            let given = labels(given);
            let known = Scope::Pod(PodScope {
                labels: Some(&given),
                ..PodScope::default()
            });
            let unknown = Scope::Pod(PodScope::default());
            let case = format!("{operator:?} {values:?} {given:?}");
            assert_eq!(rule.covers(known), expected.into(), "{case}");
            assert_eq!(rule.covers(unknown), Ternary::Unknown, "{case}");
            assert!(rule.missing(unknown).labels && rule.missing(known).is_empty());
            rule.trusts_labels = true;
            assert_eq!(rule.covers(unknown), Ternary::Yes, "{case}");
        }
    }

    #[test]
    fn one_label_that_does_not_match_is_enough_to_be_out() {
        let mut two = selector("x", Operator::Exists, &[]);
        two.match_labels = labels("kubernetes.io/metadata.name=shop");
        let rule = ScopeRule {
            namespace: two,
            ..rule()
        };
        assert!(rule.needs_namespace_labels());
        assert_eq!(rule.covers(Scope::Pod(pod("other"))), Ternary::No);
        assert_eq!(rule.covers(Scope::Pod(pod("shop"))), Ternary::Unknown);
        let missing = rule.missing(Scope::Pod(pod("shop")));
        assert_eq!(missing.to_string(), "the labels of the namespace");
    }

    #[test]
    fn a_namespace_is_known_by_its_name() {
        let rule = ScopeRule {
            namespace: selector(NAMESPACE_NAME, Operator::NotIn, &["a"]),
            opt_out: Some("skip".to_owned()),
            ..rule()
        };
        assert!(!rule.needs_namespace_labels());
        assert_eq!(rule.covers(Scope::Pod(pod("a"))), Ternary::No);
        assert_eq!(rule.covers(Scope::Pod(pod("default"))), Ternary::Yes);
        assert_eq!(rule.covers(Scope::Node), Ternary::Yes);
        let disabled = labels("skip=disabled");
        let out = Scope::Pod(PodScope {
            labels: Some(&disabled),
            ..pod("default")
        });
        assert!(rule.covers(out) == Ternary::Yes && rule.skips_swap(out));
        assert!(!rule.skips_swap(Scope::Pod(pod("default"))) && !rule.skips_swap(Scope::Node));
    }

    #[test]
    fn a_selector_does_not_bring_the_excluded_namespaces_in() {
        let names = |it: &[&'static str]| Some(Names::new(it.iter().copied()));
        let not_a = selector(NAMESPACE_NAME, Operator::NotIn, &["a"]);
        for (namespaces, excluded, namespace, expected) in [
            (None, None, "kube-system", Ternary::No),
            (None, None, "imageswap-agent", Ternary::No),
            (None, None, "default", Ternary::Yes),
            (names(&["*"]), None, "kube-system", Ternary::Yes),
            (names(&["kube-*"]), None, "kube-system", Ternary::Yes),
            (names(&["kube-*"]), None, "default", Ternary::No),
            (
                names(&["*"]),
                names(&["kube-*"]),
                "kube-system",
                Ternary::No,
            ),
            (None, names(&["legacy"]), "kube-system", Ternary::No),
            (None, names(&["legacy"]), "legacy", Ternary::No),
            (None, names(&["legacy"]), "default", Ternary::Yes),
            (names(&["*"]), None, "a", Ternary::No),
        ] {
            let rule = ScopeRule {
                namespaces,
                excluded,
                namespace: not_a.clone(),
                ..rule()
            };
            let found = rule.covers(Scope::Pod(pod(namespace)));
            assert_eq!(found, expected, "{rule:?} {namespace}");
        }
        let unknown = Scope::Pod(PodScope::default());
        assert_eq!(rule().covers(unknown), Ternary::Yes);
        let shop = ScopeRule {
            namespaces: names(&["shop"]),
            ..rule()
        };
        assert_eq!(shop.covers(unknown), Ternary::Unknown);
        assert_eq!(
            shop.missing(unknown).to_string(),
            "the name of the namespace"
        );
    }
}
