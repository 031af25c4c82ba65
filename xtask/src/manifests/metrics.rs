//! The documentation of metrics and alerts, and the rule file for a Prometheus without its operator.

use std::fmt::Write as _;

use anyhow::{Context, Result};
use imageswap_runtime::metrics::{Metric, Service, catalogue};
use serde::Deserialize;

use super::Generated;

/// The chart's rules, which it puts into a PrometheusRule.
const ALERTS: &str = include_str!("../../../deploy/charts/imageswap/files/alerts.yaml");

/// What to do about each alert; the chart puts it into a ConfigMap.
const RUNBOOK: &str = include_str!("../../../docs/runbook.md");

const COPIED: &str = "# Copied from the chart by `cargo xtask manifests`; do not edit.\n#\n";

const HEAD: &str = "<!-- Generated from the code by `cargo xtask manifests`; do not edit. -->

# Metrics and alerts

Webhook and agent show their metrics at `/metrics` of the admin port, in Prometheus' text format. Counters
exist at 0 from the start where their labels are known beforehand, so that the first event is an increase.
Label values are bounded: registries that no policy names are `other`, no Pod and no container ever is a
label, and of images only the patterns that a policy's exceptions spell out.

How to have them scraped: the chart's `monitoring` values, or
[deploy/monitoring/prometheus.yaml](../deploy/monitoring/prometheus.yaml) for a Prometheus without the
operator. A dashboard for Grafana is in the chart
([dashboard.json](../deploy/charts/imageswap/files/dashboard.json)).
";

const ALERTS_HEAD: &str = "
## Alerts

In the chart with `monitoring.prometheusRule.enabled`, and as a plain rule file,
[deploy/monitoring/alerts.yaml](../deploy/monitoring/alerts.yaml). Each one has a section in the
[runbook](runbook.md).

| alert | severity | for | |
|---|---|---|---|
";

/// The parts of a rule file that are used here.
#[derive(Debug, Deserialize)]
struct RuleFile {
    groups: Vec<Group>,
}

#[derive(Debug, Deserialize)]
struct Group {
    rules: Vec<Rule>,
}

#[derive(Debug, Deserialize)]
struct Rule {
    alert: String,
    #[serde(rename = "for", default)]
    pending: Option<String>,
    labels: Labels,
    annotations: Annotations,
}

#[derive(Debug, Deserialize)]
struct Labels {
    severity: String,
}

#[derive(Debug, Deserialize)]
struct Annotations {
    summary: String,
}

/// All files.
pub(super) fn generate() -> Result<Vec<Generated>> {
    Ok(vec![
        Generated {
            path: "deploy/monitoring/alerts.yaml".to_owned(),
            text: format!("{COPIED}{ALERTS}"),
        },
        // Helm reads no file outside the chart.
        Generated {
            path: "deploy/charts/imageswap/files/runbook.txt".to_owned(),
            text: RUNBOOK.to_owned(),
        },
        Generated {
            path: "docs/metrics.md".to_owned(),
            text: page()?,
        },
    ])
}

fn page() -> Result<String> {
    let mut page = HEAD.to_owned();
    for (service, title) in [
        (Service::Both, "Of both services"),
        (Service::Webhook, "Of the webhook"),
        (Service::Agent, "Of the agent"),
    ] {
        let metrics: Vec<_> = catalogue()
            .iter()
            .filter(|metric| metric.service == service)
            .collect();
        section(&mut page, title, &metrics)?;
    }
    page.push_str(ALERTS_HEAD);
    let rules: RuleFile = serde_saphyr::from_str(ALERTS).context("alerts.yaml")?;
    for rule in rules.groups.iter().flat_map(|group| &group.rules) {
        let name = &rule.alert;
        writeln!(
            page,
            "| [{name}](runbook.md#{}) | {} | {} | {} |",
            name.to_lowercase(),
            rule.labels.severity,
            rule.pending.as_deref().unwrap_or("at once"),
            rule.annotations.summary,
        )?;
    }
    Ok(page)
}

fn section(page: &mut String, title: &str, metrics: &[&Metric]) -> Result<()> {
    writeln!(page, "\n## {title}\n\n| metric | kind | |\n|---|---|---|")?;
    for metric in metrics {
        let kind = metric.kind.as_str();
        writeln!(page, "| `{}` | {kind} | {} |", metric.name, metric.help)?;
    }
    writeln!(page, "\n| labels of | label | values |\n|---|---|---|")?;
    for metric in metrics {
        for (at, label) in metric.labels.iter().enumerate() {
            let of = match at {
                0 => format!("`{}`", metric.name),
                _ => String::new(),
            };
            writeln!(page, "| {of} | `{}` | {} |", label.name, label.values)?;
        }
    }
    Ok(())
}
