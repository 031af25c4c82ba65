//! Alerts and dashboard: runs promtool's tests of the rules, and checks that every metric is one
//! that the code exports.

mod known;
mod promql;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use imageswap_lab::Prometheus;
use serde_json::Value;

use known::assert_known;

const ALERTS: &str = "deploy/charts/imageswap/files/alerts.yaml";
const DASHBOARD: &str = "deploy/charts/imageswap/files/dashboard.json";
const TESTS: &str = "deploy/monitoring/tests";
const RUNBOOK: &str = "docs/runbook.md";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn yaml(path: &str) -> Value {
    serde_saphyr::from_str(&read(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn rules() -> Vec<Value> {
    let file = yaml(ALERTS);
    let rules: Vec<_> = list(&file["groups"])
        .iter()
        .flat_map(|group| list(&group["rules"]).to_vec())
        .collect();
    assert!(rules.len() > 20, "{} rules", rules.len());
    rules
}

fn test_files() -> Vec<PathBuf> {
    let folder = fs::read_dir(root().join(TESTS)).expect(TESTS);
    let mut files: Vec<_> = folder.map(|entry| entry.expect(TESTS).path()).collect();
    files.sort();
    files
}

/// Runs promtool, which comes with Prometheus.
fn promtool(arguments: &[&str], files: &[PathBuf]) {
    let output = Command::new("promtool")
        .args(arguments)
        .args(files)
        .output()
        .expect("promtool comes with prometheus");
    assert!(
        output.status.success(),
        "promtool {}\n{}{}",
        arguments.join(" "),
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn prometheus_takes_the_rules_and_their_tests_pass() {
    if !Prometheus::is_installed_for("prometheus_takes_the_rules_and_their_tests_pass") {
        return;
    }
    promtool(&["check", "rules"], &[root().join(ALERTS)]);
    promtool(&["test", "rules"], &test_files());
}

/// Debian's Prometheus is built without Kubernetes discovery, so static targets replace it.
#[test]
fn prometheus_takes_the_scrape_configuration() {
    if !Prometheus::is_installed_for("prometheus_takes_the_scrape_configuration") {
        return;
    }
    let mut config = yaml("deploy/monitoring/prometheus.yaml");
    let jobs = config["scrape_configs"].as_array_mut().unwrap();
    for job in jobs {
        let job = job.as_object_mut().unwrap();
        job.remove("kubernetes_sd_configs").expect("discovery");
        let targets = serde_json::json!([{"targets": ["127.0.0.1:1"]}]);
        job.insert("static_configs".to_owned(), targets);
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("prometheus.yml");
    fs::write(&path, config.to_string()).unwrap();
    promtool(&["check", "config", "--syntax-only"], &[path]);
}

#[test]
fn every_alert_is_seen_to_fire_and_not_to() {
    let mut seen: BTreeMap<String, BTreeSet<bool>> = BTreeMap::new();
    for path in test_files() {
        let file: Value = serde_saphyr::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        let tests = list(&file["tests"]);
        for case in tests.iter().flat_map(|test| list(&test["alert_rule_test"])) {
            let fires = !list(&case["exp_alerts"]).is_empty();
            let alert = text(&case["alertname"]).to_owned();
            seen.entry(alert).or_default().insert(fires);
        }
    }
    let both = BTreeSet::from([false, true]);
    for rule in rules() {
        let alert = text(&rule["alert"]);
        assert_eq!(seen.remove(alert).as_ref(), Some(&both), "{alert}");
    }
    assert!(
        seen.is_empty(),
        "tests of alerts that are not there: {seen:?}"
    );
}

#[test]
fn every_alert_says_what_to_do() {
    let runbook = read(RUNBOOK);
    let mut sections: BTreeSet<_> = runbook
        .lines()
        .filter_map(|line| line.strip_prefix("## "))
        .collect();
    let mut names = BTreeSet::new();
    for rule in rules() {
        let alert = text(&rule["alert"]);
        assert!(alert.starts_with("ImageSwap"), "{alert}");
        assert!(names.insert(alert.to_owned()), "{alert} stands twice");
        let severity = text(&rule["labels"]["severity"]);
        assert!(
            ["critical", "warning", "info"].contains(&severity),
            "{alert}: {severity}"
        );
        let annotations = &rule["annotations"];
        for key in ["summary", "description"] {
            assert!(text(&annotations[key]).len() > 20, "{alert}: {key}");
        }
        // A summary is shown for a group of alerts, and in the documentation.
        assert!(!text(&annotations["summary"]).contains("{{"), "{alert}");
        assert!(sections.remove(alert), "{RUNBOOK} has no section {alert}");
        // The chart adds the link, and the command that prints the section.
        assert!(annotations.get("runbook_url").is_none(), "{alert}");
    }
    assert!(
        sections.is_empty(),
        "sections without an alert: {sections:?}"
    );
    for section in runbook.split("\n## ").skip(1) {
        let parts = ["**Means:**", "**Look:**", "**Do", "**False alarm:**"];
        for part in parts {
            let name = section.lines().next().unwrap_or_default();
            assert!(section.contains(part), "{name} has no {part}");
        }
    }
}

#[test]
fn alerts_name_what_the_code_exports() {
    for rule in rules() {
        let alert = text(&rule["alert"]);
        assert_known(alert, text(&rule["expr"]));
        // Queries of annotations, such as `query "count by (revision) (x)"`.
        let description = text(&rule["annotations"]["description"]);
        for query in description.split("query \"").skip(1) {
            assert_known(alert, query.split('"').next().unwrap());
        }
    }
}

#[test]
fn the_dashboard_names_what_the_code_exports() {
    let dashboard: Value = serde_json::from_str(&read(DASHBOARD)).unwrap();
    let mut shown = BTreeSet::new();
    let mut ids = BTreeSet::new();
    for panel in list(&dashboard["panels"]) {
        let title = text(&panel["title"]);
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{title}");
        if panel["type"] == "row" {
            continue;
        }
        assert!(!list(&panel["targets"]).is_empty(), "{title}");
        for target in list(&panel["targets"]) {
            assert_eq!(target["datasource"]["uid"], "${DS_PROMETHEUS}", "{title}");
            shown.extend(assert_known(title, text(&target["expr"])));
        }
    }
    for variable in list(&dashboard["templating"]["list"]) {
        let query = text(&variable["query"]["query"]);
        if let Some(inner) = query.strip_prefix("label_values(") {
            let (selector, label) = inner.trim_end_matches(')').rsplit_once(", ").unwrap();
            assert_known(query, &format!("sum by ({label}) ({selector})"));
        }
    }
    // An exported metric that nothing shows helps nobody.
    let exported = imageswap_runtime::metrics::catalogue().iter();
    let hidden: Vec<_> = exported
        .map(|metric| metric.name)
        .filter(|name| !shown.contains(*name) && !name.ends_with("_not_before_timestamp_seconds"))
        .collect();
    assert!(hidden.is_empty(), "not on the dashboard: {hidden:?}");
}

/// Overlapping panels cannot be read.
#[test]
fn panels_do_not_overlap() {
    let dashboard: Value = serde_json::from_str(&read(DASHBOARD)).unwrap();
    let mut taken = BTreeMap::new();
    for panel in list(&dashboard["panels"]) {
        let place = |key: &str| panel["gridPos"][key].as_u64().unwrap();
        assert!(place("x") + place("w") <= 24, "{}", panel["title"]);
        for y in place("y")..place("y") + place("h") {
            for x in place("x")..place("x") + place("w") {
                let other = taken.insert((x, y), text(&panel["title"]));
                assert_eq!(other, None, "under {}", panel["title"]);
            }
        }
    }
}
