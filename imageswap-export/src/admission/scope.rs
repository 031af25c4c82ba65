//! Which requests an exported policy is about.

use super::cel;
use super::objects::{MatchCondition, MatchConstraints, ResourceRule};
use imageswap_policy::document::{LabelSelector, Operator};
use imageswap_policy::{EXCLUDED_NAMESPACES, ScopeOutline};

/// The label with a namespace's name.
const NAMESPACE_NAME: &str = "kubernetes.io/metadata.name";
const NAMESPACE: &str = "request.namespace";
const LABELS: &str = "object.metadata.?labels.orValue({})";
/// The annotation of the API server's copy of a static Pod.
const MIRROR: &str = "kubernetes.io/config.mirror";

/// The most conditions about policies that decide first. An object may have 64 conditions.
const MAX_BEFORE: usize = 50;

/// Pods, and the ephemeral containers that are added to them.
pub(super) fn constraints(scope: &ScopeOutline<'_>) -> MatchConstraints {
    let rule = |operations: &[&'static str], resource| ResourceRule {
        api_groups: vec![""],
        api_versions: vec!["v1"],
        operations: operations.to_vec(),
        resources: vec![resource],
        scope: "Namespaced",
    };
    let selector = scope.namespace_selector;
    MatchConstraints {
        match_policy: "Equivalent",
        namespace_selector: (*selector != LabelSelector::default()).then(|| selector.clone()),
        resource_rules: vec![
            rule(&["CREATE", "UPDATE"], "pods"),
            rule(&["UPDATE"], "pods/ephemeralcontainers"),
        ],
    }
}

/// The conditions that no selector of the API server can say. `before` are the scopes of policies
/// that decide first.
pub(super) fn conditions(scope: &ScopeOutline<'_>, before: &[String]) -> Vec<MatchCondition> {
    let condition = |name: &str, expression: String| MatchCondition {
        name: name.to_owned(),
        expression,
    };
    let mut all = vec![
        condition(
            "not-being-deleted",
            "request.operation != 'UPDATE' || !has(object.metadata.deletionTimestamp)".to_owned(),
        ),
        condition(
            "no-mirror-of-a-static-pod",
            format!(
                "!request.userInfo.?username.orValue('').startsWith('system:node:') || !({} in object.metadata.?annotations.orValue({{}}))",
                cel::text(MIRROR)
            ),
        ),
    ];
    all.push(condition("namespace", cel::all(&namespaces(scope))));
    let labels = selector(scope.object_selector, |_| None);
    if !labels.is_empty() {
        all.push(condition("labels", cel::all(&labels)));
    }
    // Of many policies, several share a condition.
    let share = before.len().div_ceil(MAX_BEFORE).max(1);
    for (at, covered) in before.chunks(share).enumerate() {
        let none: Vec<_> = covered.iter().map(|it| format!("!({it})")).collect();
        all.push(condition(&format!("policy-before-{at}"), cel::all(&none)));
    }
    all.retain(|it| it.expression != "true");
    all
}

/// The condition that a policy applies to the Pod of a request; `None` if it depends on labels of
/// the namespace, which conditions cannot read.
pub(super) fn covers(scope: &ScopeOutline<'_>) -> Option<String> {
    let by_name = |key: &str| (key == NAMESPACE_NAME).then_some(NAMESPACE);
    let of_namespace = scope.namespace_selector;
    let keys = of_namespace.match_labels.keys();
    let mut keys = keys.chain(of_namespace.match_expressions.iter().map(|it| &it.key));
    if keys.any(|it| it != NAMESPACE_NAME) {
        return None;
    }
    let mut all = namespaces(scope);
    all.extend(selector(of_namespace, by_name));
    all.extend(selector(scope.object_selector, |_| None));
    Some(cel::all(&all))
}

/// The condition that a label of the Pod skips the swap.
pub(super) fn opted_out(label: &str) -> String {
    let key = cel::text(label);
    format!("{key} in {LABELS} && {LABELS}[{key}] == 'disabled'")
}

fn namespaces(scope: &ScopeOutline<'_>) -> Vec<String> {
    let mut all = vec![match &scope.namespaces {
        Some(names) => cel::named(NAMESPACE, names),
        None => format!("!({})", cel::named(NAMESPACE, &EXCLUDED_NAMESPACES)),
    }];
    if !scope.excluded.is_empty() {
        all.push(format!("!({})", cel::named(NAMESPACE, &scope.excluded)));
    }
    all.retain(|it| it != "true");
    all
}

/// The conditions of a selector. `known` returns the expression of a label that always exists.
fn selector(selector: &LabelSelector, known: impl Fn(&str) -> Option<&'static str>) -> Vec<String> {
    let value = |key: &str| {
        known(key).map_or_else(|| format!("{LABELS}[{}]", cel::text(key)), str::to_owned)
    };
    let exists = |key: &str| match known(key) {
        Some(_) => "true".to_owned(),
        None => format!("{} in {LABELS}", cel::text(key)),
    };
    let mut all = Vec::new();
    for (key, wanted) in &selector.match_labels {
        all.push(exists(key));
        all.push(format!("{} == {}", value(key), cel::text(wanted)));
    }
    for it in &selector.match_expressions {
        let (key, exists) = (&it.key, exists(&it.key));
        let listed = || {
            let values = cel::list(it.values.iter().map(String::as_str));
            format!("{exists} && {} in {values}", value(key))
        };
        all.push(match it.operator {
            Operator::In => listed(),
            Operator::NotIn => format!("!({})", listed()),
            Operator::Exists => exists,
            Operator::DoesNotExist => format!("!({exists})"),
        });
    }
    all.retain(|it| it != "true");
    all
}
