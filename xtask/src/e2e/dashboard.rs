//! The panels of the shipped dashboard, evaluated by the real Prometheus with what the steps left
//! in it.

use anyhow::{Context, Result};
use imageswap_lab::Prometheus;
use serde_json::Value;

const FILE: &str = "deploy/charts/imageswap/files/dashboard.json";

/// Panels that have no data here, and why.
const EMPTY: [(&str, &str); 2] = [
    (
        "Calls that failed, by the API server's count",
        "no job scrapes the API server",
    ),
    ("Not taken by the collector", "there is no collector"),
];

/// Grafana's variables, as for a dashboard that shows everything of the last half hour. The rates
/// are taken over a minute, in which all steps that count have happened.
const VARIABLES: [(&str, &str); 4] = [
    ("$namespace", ".*"),
    ("$node", ".*"),
    ("$__range", "30m"),
    ("$__rate_interval", "1m"),
];

/// Panels that have shown nothing yet.
pub(super) struct Dashboard {
    panels: Vec<Panel>,
}

struct Panel {
    title: String,
    queries: Vec<String>,
}

impl Dashboard {
    /// All panels with queries, but those that are empty here.
    pub(super) fn read(story: &super::Story<'_>) -> Result<Self> {
        let path = story.path(FILE);
        let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let dashboard: Value = serde_json::from_str(&text).context(FILE)?;
        let panels = list(&dashboard["panels"]).map(|panel| Panel {
            title: text_of(&panel["title"]),
            queries: list(&panel["targets"])
                .map(|target| query(&text_of(&target["expr"])))
                .collect(),
        });
        let is_expected = |panel: &Panel| EMPTY.iter().all(|(title, _)| *title != panel.title);
        let panels = panels.filter(|panel| !panel.queries.is_empty() && is_expected(panel));
        Ok(Self {
            panels: panels.collect(),
        })
    }

    /// Evaluates the panels that have shown nothing yet; returns the titles of those that still
    /// show nothing.
    pub(super) fn empty(&mut self, prometheus: &Prometheus) -> Result<Vec<&str>> {
        for panel in std::mem::take(&mut self.panels) {
            let mut shown = false;
            for query in &panel.queries {
                shown |= prometheus.query(query)?.iter().any(is_number);
            }
            if !shown {
                self.panels.push(panel);
            }
        }
        Ok(self.panels.iter().map(|it| it.title.as_str()).collect())
    }
}

/// Whether a series has a value that Grafana can draw.
fn is_number(series: &Value) -> bool {
    series["value"][1]
        .as_str()
        .and_then(|value| value.parse::<f64>().ok())
        .is_some_and(f64::is_finite)
}

fn query(text: &str) -> String {
    let mut query = text.to_owned();
    for (variable, value) in VARIABLES {
        query = query.replace(variable, value);
    }
    query
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn text_of(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
