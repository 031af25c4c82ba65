//! Which metrics and labels queries may name.

use std::collections::BTreeSet;

use imageswap_runtime::metrics::{Kind, catalogue};

use crate::promql::Query;

/// Metrics of other programs, with their labels: Prometheus, kube-state-metrics, the API server.
const FOREIGN: [(&str, &[&str]); 4] = [
    ("up", &[]),
    ("kube_node_info", &["node", "os_image"]),
    // k8s.io/apiserver/pkg/admission/metrics, Kubernetes 1.24 and later.
    (
        "apiserver_admission_webhook_fail_open_count",
        &["name", "type"],
    ),
    // The same, in 1.20 already.
    (
        "apiserver_admission_webhook_rejection_count",
        &["name", "type", "operation", "error_type", "rejection_code"],
    ),
];

/// Labels of targets.
const TARGET: [&str; 5] = ["job", "instance", "namespace", "pod", "node"];

/// Checks that all names of a query are exported, and returns our metrics among them.
pub(crate) fn assert_known(place: &str, text: &str) -> BTreeSet<&'static str> {
    let query = Query::parse(text);
    assert!(!query.selectors.is_empty(), "{place}: no metric in {text}");
    let mut ours = BTreeSet::new();
    let mut of_all = BTreeSet::from(TARGET);
    for selector in &query.selectors {
        let (labels, metric) = labels_of(&selector.metric)
            .unwrap_or_else(|| panic!("{place}: nothing exports {}", selector.metric));
        ours.extend(metric);
        for (label, operator, value) in &selector.matchers {
            assert!(
                labels.contains(label.as_str()) || TARGET.contains(&label.as_str()),
                "{place}: {} has no label {label}",
                selector.metric
            );
            assert_values(place, metric, label, operator, value);
        }
        of_all.extend(labels);
    }
    for label in &query.labels {
        assert!(
            of_all.contains(label.as_str()),
            "{place}: nothing in {text} has a label {label}"
        );
    }
    ours
}

/// The labels of an exported series, and its metric if it is of ours.
fn labels_of(series: &str) -> Option<(BTreeSet<&'static str>, Option<&'static str>)> {
    if let Some((_, labels)) = FOREIGN.iter().find(|(name, _)| *name == series) {
        return Some((labels.iter().copied().collect(), None));
    }
    catalogue().iter().find_map(|metric| {
        let rest = series.strip_prefix(metric.name)?;
        let bucket = match (metric.kind, rest) {
            (Kind::Counter | Kind::Gauge, "") | (Kind::Histogram, "_sum" | "_count") => false,
            (Kind::Histogram, "_bucket") => true,
            _ => return None,
        };
        let labels = metric.labels.iter().map(|label| label.name);
        let labels = labels.chain(bucket.then_some("le")).collect();
        Some((labels, Some(metric.name)))
    })
}

/// A matcher names one of a label's values if the catalogue lists them.
fn assert_values(place: &str, metric: Option<&str>, label: &str, operator: &str, value: &str) {
    let listed = catalogue()
        .iter()
        .filter(|it| Some(it.name) == metric)
        .flat_map(|it| it.labels)
        .find(|it| it.name == label)
        .map(|it| it.values)
        .filter(|values| values.starts_with('`'));
    let Some(listed) = listed.filter(|_| !value.contains('$')) else {
        return;
    };
    let values: Vec<_> = match operator {
        "=" | "!=" => vec![value],
        _ => value.split('|').collect(),
    };
    for value in values {
        assert!(
            listed.contains(&format!("`{value}`")),
            "{place}: {label} of {} is never {value}",
            metric.unwrap_or_default()
        );
    }
}

#[test]
#[should_panic(expected = "nothing exports imageswap_agent_drift")]
fn a_metric_that_nobody_exports_is_found() {
    assert_known("here", "sum(imageswap_agent_drift) > 0");
}

#[test]
#[should_panic(expected = "has no label verdict")]
fn a_matcher_on_a_label_that_is_not_there_is_found() {
    assert_known(
        "here",
        "imageswap_agent_drift_containers{verdict=\"drift\"} > 0",
    );
}

#[test]
#[should_panic(expected = "has a label verdict")]
fn a_grouping_by_a_label_that_is_not_there_is_found() {
    assert_known(
        "here",
        "sum by (verdict) (imageswap_agent_drift_containers)",
    );
}

#[test]
#[should_panic(expected = "is never erred")]
fn a_value_that_is_never_is_found() {
    assert_known(
        "here",
        "imageswap_admission_requests_total{outcome=~\"failed|erred\"}",
    );
}
