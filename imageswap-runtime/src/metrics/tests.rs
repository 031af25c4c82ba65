use std::collections::{BTreeMap, BTreeSet};

use imageswap_policy::{Policies, document};
use strum::VariantArray;

use super::*;
use crate::connections::Closed;

/// A parsed exposition.
struct Exposition {
    /// Metrics with the names of their labels, `le` left out.
    series: BTreeMap<String, BTreeSet<Vec<String>>>,
    /// The types in `# TYPE` lines.
    kinds: BTreeMap<String, String>,
}

fn shown(text: &str) -> Exposition {
    let (mut series, mut kinds) = (BTreeMap::<_, BTreeSet<_>>::new(), BTreeMap::new());
    for line in text.lines() {
        if let Some((name, kind)) = line
            .strip_prefix("# TYPE ")
            .and_then(|it| it.split_once(' '))
        {
            kinds.insert(name.to_owned(), kind.to_owned());
        } else if !line.is_empty() && !line.starts_with('#') {
            let end = line.find(['{', ' ']).unwrap();
            let name = ["_bucket", "_sum", "_count"]
                .iter()
                .filter_map(|it| line[..end].strip_suffix(it))
                .find(|it| kinds.get(*it).is_some_and(|kind| kind == "histogram"))
                .unwrap_or(&line[..end]);
            let labels = line[end..].split("=\"").filter_map(|before| {
                let label = before.rsplit(['{', ',', '"']).next()?;
                (!label.contains(' ') && label != "le").then(|| label.to_owned())
            });
            series
                .entry(name.to_owned())
                .or_default()
                .insert(labels.collect());
        }
    }
    Exposition { series, kinds }
}

/// The output of one process with every series but those that the webhook and the agent add.
fn everything() -> String {
    let exporter = Exporter::new();
    exporter.set_tls_validity(UNIX_EPOCH, UNIX_EPOCH);
    exporter.build_info("agent");
    exporter.otlp_failures("logs").increment(1);
    let text = "{apiVersion: imageswap.io/v1alpha1, kind: ImageSwapPolicy, metadata: {name: corp}, spec: {\
                rules: [{from: '**', to: r.io}], \
                exceptions: [{pattern: 'a.io/**', until: 2027-01-31, reason: x}]}}";
    let policies = Policies::new(document::load("test", text).unwrap().policies);
    exporter.policy_metrics().loaded(&policies, "cluster");
    exporter.run_upkeep();
    exporter.render()
}

#[test]
fn the_catalogue_is_what_is_exported() {
    let text = everything();
    let Exposition { series, kinds } = shown(&text);
    let names: BTreeSet<_> = catalogue().iter().map(|it| it.name).collect();
    assert_eq!(
        names.len(),
        catalogue().len(),
        "two metrics have the same name"
    );
    let is_elsewhere = |it: &Metric| {
        ["imageswap_admission_", "imageswap_agent_"]
            .iter()
            .any(|of| it.name.starts_with(of))
    };
    let here: Vec<_> = catalogue().iter().filter(|it| !is_elsewhere(it)).collect();
    assert_eq!(
        series.keys().map(String::as_str).collect::<BTreeSet<_>>(),
        here.iter().map(|it| it.name).collect()
    );
    for metric in here {
        let labels: Vec<_> = metric.labels.iter().map(|it| it.name.to_owned()).collect();
        assert_eq!(
            series[metric.name],
            BTreeSet::from([labels]),
            "labels of {}",
            metric.name
        );
        assert_eq!(kinds[metric.name], metric.kind.as_str(), "{}", metric.name);
        let head = format!("# HELP {} {}\n", metric.name, metric.help);
        assert_eq!(text.matches(&head).count(), 1, "{head}");
    }
}

#[test]
fn reasons_of_closed_connections_are_listed() {
    let [reason] = catalogue::ADMISSION_CLOSED.labels else {
        panic!("{:?}", catalogue::ADMISSION_CLOSED)
    };
    let names = Closed::VARIANTS
        .iter()
        .map(|it| format!("`{}`", <&str>::from(*it)));
    assert_eq!(reason.values, names.collect::<Vec<_>>().join(", "));
}

#[test]
fn exporters_do_not_share_series() {
    let (one, two) = (Exporter::new(), Exporter::new());
    one.policy_metrics().reload_failed();
    two.policy_metrics();
    assert!(
        two.render()
            .contains("\nimageswap_policy_reload_failures_total 0\n")
    );
}
