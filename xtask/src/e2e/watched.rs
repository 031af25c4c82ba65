//! A real Prometheus with the shipped rules, and a real Alertmanager.

use std::net::SocketAddr;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use imageswap_lab::{Alertmanager, BpfStatistics, Prometheus, ScrapeJob};
use serde_json::Value;

use super::dashboard::Dashboard;
use super::{Site, Story};
use crate::site::EVIL;
use crate::ui::{self, Took};

const RULES: &str = "deploy/monitoring/alerts.yaml";
/// Port of `/metrics` by component.
const PORTS: [(&str, u16); 2] = [("webhook", 8080), ("agent", 9465)];
const CONTAINER: &str = "behind-their-back";

/// Runs every step.
pub(super) fn tell(story: &Story<'_>, site: &Site) -> Result<()> {
    ui::heading("Prometheus and Alertmanager, with the shipped rules");
    // One panel shows what the probes cost, which the kernel counts on request only.
    let _counted = BpfStatistics::on()?;
    let alertmanager = Alertmanager::start(&site.lab)?;
    let rules = story.path(RULES);
    let jobs = PORTS
        .iter()
        .map(|&(component, port)| job(story, component, port))
        .collect::<Result<Vec<_>>>()?;
    let prometheus = Prometheus::start_with(&site.lab, &jobs, Some((&rules, &alertmanager)))?;
    story.step(
        "both replicas of the webhook and the agent are scraped",
        |it| {
            it.until("three targets", |_| {
                let up =
                    prometheus.query("sum(up * on(instance) group_left imageswap_build_info)")?;
                Ok(value(&up) == Some(3.0))
            })
        },
    )?;
    let mut dashboard = Dashboard::read(story)?;
    // This machine may also run containers of others, and the agent sees them, too.
    let is_active = |name: &str| -> Result<bool> {
        let active = alertmanager.active(name)?;
        Ok(active
            .iter()
            .any(|it| it["labels"]["route"] == "containerd"))
    };
    let others = drifting(&prometheus)?;
    story.step(
        "no alert about drift, except for containers of others",
        |_| {
            ensure!(
                others > 0.0 || !is_active("ImageSwapDrift")?,
                "it is active"
            );
            Ok(())
        },
    )?;

    admissions(story)?;
    site.containerd.pull("default", EVIL)?;
    let came_and_went = || is_active("ImageSwapDriftCameAndWent");
    story.step(
        "a container of 20 ms, between two scrapes: it came and went",
        |it| {
            ensure!(!came_and_went()?, "the alert is active before");
            let sleep = ["sleep", "0.02"];
            site.containerd
                .run_to_end("default", EVIL, "came-and-went", &sleep)?;
            it.until("ImageSwapDriftCameAndWent", |_| came_and_went())
        },
    )?;
    let mut fired = None;
    let is_more = || Ok::<_, anyhow::Error>(drifting(&prometheus)? > others);
    story.step(
        &format!("ctr run {EVIL}: the alert is in Alertmanager"),
        |it| {
            site.containerd
                .run("default", EVIL, CONTAINER, &["sleep", "1000"])?;
            let started = Instant::now();
            it.until("ImageSwapDrift", |_| {
                let active = alertmanager.active("ImageSwapDrift")?;
                fired = active
                    .into_iter()
                    .find(|it| it["labels"]["route"] == "containerd");
                dashboard.empty(&prometheus)?;
                Ok(fired.is_some() && is_more()?)
            })?;
            let seconds = started.elapsed();
            ui::good(format_args!(
                "{} after ctr came back; scraped and evaluated once a second",
                Took(seconds)
            ));
            Ok(())
        },
    )?;
    let alert = fired.unwrap_or_default();
    println!(
        "    {}",
        alert["annotations"]["summary"].as_str().unwrap_or_default()
    );
    story.step("the container goes, and the alert resolves", |it| {
        site.containerd.remove("default", CONTAINER)?;
        it.until("no ImageSwapDrift", |_| {
            Ok(!is_more()? && (others > 0.0 || !is_active("ImageSwapDrift")?))
        })
    })?;
    story.step("each panel of the dashboard has shown something", |it| {
        let mut empty = String::new();
        let all = it.until("the last panel", |_| {
            empty = dashboard.empty(&prometheus)?.join(", ");
            Ok(empty.is_empty())
        });
        all.with_context(|| format!("these show nothing: {empty}"))
    })
}

/// How many containers of containerd's clients drift, by Prometheus.
fn drifting(prometheus: &Prometheus) -> Result<f64> {
    let series = "sum(imageswap_agent_drift_containers{route=\"containerd\"})";
    Ok(value(&prometheus.query(series)?).unwrap_or_default())
}

/// What the dashboard shows of admission and policies.
fn admissions(story: &Story<'_>) -> Result<()> {
    let exception = r#"{"spec":{"exceptions":[{"pattern":"ghcr.io/acme/debug","until":"2999-12-31","reason":"INC-1"}]}}"#;
    story.step("the policy gets an exception", |it| {
        it.kubectl
            .run(&format!("patch isp corp --type=merge -p {exception}"))?;
        Ok(())
    })?;
    story.step("a Pod is swapped", |it| {
        it.kubectl.run("-n test3 run watched --image=nginx")?;
        it.pods("test3", "run=watched", "registry.example.com/library/nginx")
    })?;
    story.refused(
        "another is refused",
        "-n test3 run evil --image=evil.io/x",
        "",
        &["evil.io/x"],
    )
}

/// The Pods of a component, with the labels that discovery gives.
fn job(story: &Story<'_>, component: &str, port: u16) -> Result<ScrapeJob> {
    let name = format!("imageswap-{component}");
    let selector = format!("app.kubernetes.io/name={name}");
    let pods = story
        .kubectl
        .run(&format!("get pods -A -l {selector} -o json"))?;
    let pods: Value = serde_json::from_str(&pods).context("Pods")?;
    let mut job = ScrapeJob::new(&name, &[]);
    for pod in pods["items"].as_array().into_iter().flatten() {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        if !pod["metadata"]["deletionTimestamp"].is_null() {
            continue;
        }
        let address = text(&pod["status"]["podIP"]);
        let address = address
            .parse()
            .with_context(|| format!("{name}: {address:?}"))?;
        let labels = [
            ("namespace", text(&pod["metadata"]["namespace"])),
            ("pod", text(&pod["metadata"]["name"])),
            ("node", text(&pod["spec"]["nodeName"])),
        ];
        let labels: Vec<_> = labels
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        job = job.target(SocketAddr::new(address, port), &labels);
    }
    Ok(job)
}

/// The value of a query whose result is one series.
fn value(result: &[Value]) -> Option<f64> {
    match result {
        [one] => one["value"][1].as_str()?.parse().ok(),
        _ => None,
    }
}
