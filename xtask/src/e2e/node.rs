//! Containers that reach the node past admission, and how they are reported.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::{Site, Story};
use crate::site::EVIL;
use crate::ui;

/// Runs every step.
pub(super) fn tell(story: &Story<'_>, site: &Site, programs: &Path) -> Result<()> {
    ui::heading("What gets past admission");
    let others = others(site, programs)?;
    story.step(
        "imageswap drift: a Pod of before the policy runs on as it was",
        |it| {
            is_told(it, site, programs, |finding| {
                finding["pod"]["name"] == "plain"
                    && finding["verdict"] == "drift"
                    && finding["expected_image"] == "registry.example.com/library/nginx"
            })
        },
    )?;
    story.step("it goes; nothing drifts, and nothing is unresolved", |it| {
        it.kubectl
            .run("delete namespace test1 test2 --wait=false")?;
        is_quiet(it, site, programs, &others)
    })?;
    let pod = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "static", "namespace": "test3"},
        "spec": {"containers": [{"name": "app", "image": EVIL}], "terminationGracePeriodSeconds": 1},
    });
    let manifest = site.static_pod("static", &pod.to_string())?;
    story.step(
        "a static Pod from elsewhere: the agent reports route and reason",
        |it| {
            is_told(it, site, programs, |finding| {
                finding["route"] == "static-pod"
                    && finding["reason"] == "not-admitted"
                    && finding["image"] == EVIL
                    && finding["pod"]["namespace"] == "test3"
            })
        },
    )?;
    story.step("an Event on its copy in the API", |it| {
        it.until("the Event", |it| {
            let reasons = "jsonpath={.items[*].reason}";
            let events = it
                .kubectl
                .run(&format!("-n test3 get events -o {reasons}"))?;
            Ok(events.contains("ImageSwapDrift"))
        })
    })?;
    story.step("it goes, and nothing drifts any more", |it| {
        fs::remove_file(&manifest).with_context(|| manifest.display().to_string())?;
        is_quiet(it, site, programs, &others)
    })
}

/// Waits until a finding matches.
fn is_told(
    story: &Story<'_>,
    site: &Site,
    programs: &Path,
    fits: impl Fn(&Value) -> bool,
) -> Result<()> {
    let mut last = Value::Null;
    let told = story.until("the finding", |_| {
        last = drift(site, programs)?;
        Ok(last["findings"]
            .as_array()
            .is_some_and(|all| all.iter().any(&fits)))
    });
    told.with_context(|| format!("{last:#}"))
}

/// The cgroups of reported containers that are not the cluster's. This machine may also run
/// containers of others, and the agent sees them, too.
fn others(site: &Site, programs: &Path) -> Result<Vec<Value>> {
    let found = drift(site, programs)?;
    let all = found["findings"].as_array().into_iter().flatten();
    let others = all.filter(|finding| finding["pod"].is_null());
    Ok(others.map(|finding| finding["cgroup"].clone()).collect())
}

/// Waits until nothing is reported, except containers of others.
fn is_quiet(story: &Story<'_>, site: &Site, programs: &Path, others: &[Value]) -> Result<()> {
    let mut last = Value::Null;
    let quiet = story.until("a quiet cluster", |_| {
        last = drift(site, programs)?;
        let all = last["findings"].as_array();
        let is_others = |finding: &Value| others.contains(&finding["cgroup"]);
        Ok(all.is_some_and(|all| all.iter().all(is_others)))
    });
    quiet.with_context(|| format!("{last:#}"))
}

/// The output of `imageswap drift`, which asks the agents' Pods through the API server.
fn drift(site: &Site, programs: &Path) -> Result<Value> {
    let mut command = Command::new(programs.join("imageswap"));
    command
        .args(["drift", "--unresolved", "-o", "json", "--kubeconfig"])
        .arg(site.plane.kubeconfig());
    let output = command.output().context("cannot run imageswap drift")?;
    ensure!(
        matches!(output.status.code(), Some(0 | 1)),
        "imageswap drift: {}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).context("the answer of imageswap drift")
}
