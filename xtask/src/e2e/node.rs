//! What reaches the node past admission, and who tells of it.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::site::EVIL;
use super::{Site, Story};
use crate::ui;

/// Every step.
pub(super) fn tell(story: &Story<'_>, site: &Site, programs: &Path) -> Result<()> {
    ui::heading("What gets past admission");
    story.step("imageswap drift: nothing that should not runs now", |it| {
        let mut last = Value::Null;
        let quiet = it.until("a quiet cluster", |_| {
            last = drift(site, programs)?;
            Ok(last["findings"].as_array().is_some_and(Vec::is_empty))
        });
        quiet.with_context(|| format!("{last:#}"))
    })?;
    let pod = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "static", "namespace": "test3"},
        "spec": {"containers": [{"name": "app", "image": EVIL}], "terminationGracePeriodSeconds": 1},
    });
    let manifest = site.static_pod("static", &pod.to_string())?;
    story.step(
        "a static Pod from elsewhere: the agent tells, by whom and why",
        |it| {
            let mut last = Value::Null;
            let told = it.until("the static Pod's container", |_| {
                last = drift(site, programs)?;
                let mut findings = last["findings"].as_array().into_iter().flatten();
                Ok(findings.any(|finding| {
                    finding["route"] == "static-pod"
                        && finding["reason"] == "not-admitted"
                        && finding["image"] == EVIL
                        && finding["pod"]["namespace"] == "test3"
                }))
            });
            told.with_context(|| format!("{last:#}"))
        },
    )?;
    story.step("an Event on its copy in the API", |it| {
        it.until("the Event", |it| {
            let reasons = "jsonpath={.items[*].reason}";
            let events = it
                .kubectl
                .run(&["-n", "test3", "get", "events", "-o", reasons])?;
            Ok(events.contains("ImageSwapDrift"))
        })
    })?;
    story.step("it goes, and nothing drifts any more", |it| {
        fs::remove_file(&manifest).with_context(|| manifest.display().to_string())?;
        it.until("a quiet cluster", |_| {
            let all = drift(site, programs)?;
            Ok(all["findings"].as_array().is_some_and(Vec::is_empty))
        })
    })
}

/// What `imageswap drift` says, which asks the agents' Pods through the API server.
fn drift(site: &Site, programs: &Path) -> Result<Value> {
    let mut command = Command::new(programs.join("imageswap"));
    command
        .args(["drift", "-o", "json", "--kubeconfig"])
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
