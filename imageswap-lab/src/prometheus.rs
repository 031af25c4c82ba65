//! A Prometheus, and an Alertmanager: Debian's packages on free ports.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use http::StatusCode;
use serde_json::{Value, json};

use crate::daemon::Daemon;
use crate::error::{Error, Result};
use crate::needs::{ALERTMANAGER, PROMETHEUS, are_installed_for};
use crate::workspace::Lab;

/// The path at which both report ready.
const READY: &str = "/-/ready";

/// A running Prometheus that scrapes once a second, plain HTTP on 127.0.0.1.
#[derive(Debug)]
pub struct Prometheus {
    daemon: Daemon,
}

impl Prometheus {
    /// Whether `test` can start one; prints that the test is skipped if not.
    ///
    /// # Panics
    ///
    /// If skipping is a failure (see [`skip`](crate::skip)).
    pub fn is_installed_for(test: &str) -> bool {
        are_installed_for(test, &PROMETHEUS)
    }

    /// Starts one with its storage in the lab's folder that scrapes `targets` at `/metrics`, and
    /// waits until it answers.
    pub fn start(lab: &Lab, targets: &[SocketAddr]) -> Result<Self> {
        let jobs = [ScrapeJob::new("imageswap", targets)];
        Self::start_with(lab, &jobs, None)
    }

    /// Like `start`, for several jobs, with a file of rules that it evaluates once a second. It
    /// sends their alerts to an Alertmanager.
    pub fn start_with(
        lab: &Lab,
        jobs: &[ScrapeJob],
        rules: Option<(&Path, &Alertmanager)>,
    ) -> Result<Self> {
        let scraped = jobs.iter().map(|job| {
            let targets = job
                .targets
                .iter()
                .map(|(target, labels)| json!({"targets": [target], "labels": labels}));
            json!({"job_name": job.name, "static_configs": targets.collect::<Vec<_>>()})
        });
        let mut config = json!({
            "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
            "scrape_configs": scraped.collect::<Vec<_>>(),
        });
        if let Some((file, alertmanager)) = rules {
            let target = alertmanager.daemon.addr;
            config["rule_files"] = json!([file]);
            config["alerting"] =
                json!({"alertmanagers": [{"static_configs": [{"targets": [target]}]}]});
        }
        let daemon = Daemon::start(lab, "prometheus", READY, |place| {
            let mut command = Command::new(PROMETHEUS[0].program);
            command
                .arg(format!("--config.file={}", place.config.display()))
                .arg(format!("--storage.tsdb.path={}", place.storage.display()))
                .arg(format!("--web.listen-address={}", place.addr));
            (config.clone(), command)
        })?;
        Ok(Self { daemon })
    }

    /// Its address.
    pub fn addr(&self) -> SocketAddr {
        self.daemon.addr
    }

    /// Evaluates an instant query of PromQL and returns the result's list: objects with `metric` (labels) and
    /// `value` (time, value as text).
    pub fn query(&self, query: &str) -> Result<Vec<Value>> {
        let form = format!("query={}", percent(query));
        let path = "/api/v1/query";
        let answer = self
            .daemon
            .client
            .post(path, "application/x-www-form-urlencoded", form)?;
        let failed = |problem: String| Error::Http {
            request: format!("{path} of {query}"),
            problem,
        };
        let body: Value =
            serde_json::from_slice(&answer.body).map_err(|error| failed(error.to_string()))?;
        match &body["data"]["result"] {
            Value::Array(result) if answer.status == StatusCode::OK => Ok(result.clone()),
            _ => Err(failed(format!("{}: {body}", answer.status))),
        }
    }
}

/// A scrape job: a name and its targets.
#[derive(Debug, Clone)]
pub struct ScrapeJob {
    name: String,
    targets: Vec<(SocketAddr, BTreeMap<String, String>)>,
}

impl ScrapeJob {
    /// These targets, without labels of their own.
    pub fn new(name: &str, targets: &[SocketAddr]) -> Self {
        let targets = targets.iter().map(|target| (*target, BTreeMap::new()));
        Self {
            name: name.to_owned(),
            targets: targets.collect(),
        }
    }

    /// Adds a target, with the labels that discovery would give it.
    #[must_use]
    pub fn target(mut self, target: SocketAddr, labels: &[(&str, &str)]) -> Self {
        let labels = labels.iter();
        let labels = labels.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        self.targets.push((target, labels.collect()));
        self
    }
}

/// A running Alertmanager without receivers, plain HTTP on 127.0.0.1.
#[derive(Debug)]
pub struct Alertmanager {
    daemon: Daemon,
}

impl Alertmanager {
    /// Starts one, and waits until it answers.
    pub fn start(lab: &Lab) -> Result<Self> {
        let config = json!({
            "route": {"receiver": "nobody", "group_wait": "1s", "group_interval": "1s"},
            "receivers": [{"name": "nobody"}],
        });
        let daemon = Daemon::start(lab, "alertmanager", READY, |place| {
            let mut command = Command::new(ALERTMANAGER[0].program);
            command
                .arg(format!("--config.file={}", place.config.display()))
                .arg(format!("--storage.path={}", place.storage.display()))
                .arg(format!("--web.listen-address={}", place.addr))
                // Alone, without peers to gossip with.
                .arg("--cluster.listen-address=");
            (config.clone(), command)
        })?;
        Ok(Self { daemon })
    }

    /// The active alerts of this name: objects with `labels`, `annotations` and `startsAt`.
    pub fn active(&self, name: &str) -> Result<Vec<Value>> {
        let filter = percent(&format!("alertname=\"{name}\""));
        let path =
            format!("/api/v2/alerts?active=true&silenced=false&inhibited=false&filter={filter}");
        let answer = self.daemon.client.get(&path)?;
        match serde_json::from_slice(&answer.body) {
            Ok(alerts) if answer.status == StatusCode::OK => Ok(alerts),
            _ => Err(Error::Http {
                request: path,
                problem: format!("{}: {}", answer.status, answer.text()),
            }),
        }
    }
}

/// A text as a value of a form (<https://url.spec.whatwg.org/#application/x-www-form-urlencoded>).
fn percent(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'-' | b'.' => {
                char::from(byte).to_string()
            }
            _ => format!("%{byte:02X}"),
        })
        .collect()
}
