//! A Prometheus, and an Alertmanager: Debian's packages on free ports.

use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use http::StatusCode;
use serde_json::{Value, json};

use crate::error::{Error, Result};
use crate::http::HttpClient;
use crate::needs::{ALERTMANAGER, PROMETHEUS, missing_of};
use crate::port;
use crate::process::Process;
use crate::skip::skip;
use crate::workspace::Lab;

/// How often a port that somebody else took in between is replaced.
const PORTS: usize = 5;

/// A running Prometheus that scrapes once a second, plain HTTP on 127.0.0.1.
#[derive(Debug)]
pub struct Prometheus {
    addr: SocketAddr,
    client: HttpClient,
    _process: Process,
}

impl Prometheus {
    /// Whether `test` can start one; says that it is skipped where it cannot.
    ///
    /// # Panics
    ///
    /// Where skipping is a failure (see [`skip`]).
    pub fn is_installed_for(test: &str) -> bool {
        let missing = missing_of(&PROMETHEUS);
        for need in &missing {
            skip(test, &format!("needs the package {}", need.package));
        }
        missing.is_empty()
    }

    /// Starts one with its storage in the lab's folder, which scrapes `targets` at `/metrics`, and waits until it
    /// answers.
    pub fn start(lab: &Lab, targets: &[SocketAddr]) -> Result<Self> {
        let jobs = [ScrapeJob::new("imageswap", targets)];
        Self::start_with(lab, &jobs, None)
    }

    /// The same for several jobs, and with a file of rules that it evaluates once a second and whose alerts it sends
    /// to an Alertmanager.
    pub fn start_with(
        lab: &Lab,
        jobs: &[ScrapeJob],
        rules: Option<(&Path, &Alertmanager)>,
    ) -> Result<Self> {
        on_free_port(|port| Self::start_on(lab, jobs, rules, port))
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Evaluates an instant query of PromQL and returns the result's list: objects with `metric` (labels) and
    /// `value` (time, value as text).
    pub fn query(&self, query: &str) -> Result<Vec<Value>> {
        let form = format!("query={}", percent(query));
        let path = "/api/v1/query";
        let answer = self
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

    fn start_on(
        lab: &Lab,
        jobs: &[ScrapeJob],
        rules: Option<(&Path, &Alertmanager)>,
        port: u16,
    ) -> Result<Self> {
        let name = format!("prometheus-{port}");
        let storage = lab.make_dir(&name)?;
        let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        // JSON is YAML too.
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
            config["rule_files"] = json!([file]);
            config["alerting"] =
                json!({"alertmanagers": [{"static_configs": [{"targets": [alertmanager.addr]}]}]});
        }
        let path = lab.path().join(format!("{name}.yml"));
        fs::write(&path, config.to_string()).map_err(Error::io(path.display().to_string()))?;
        let mut command = Command::new("prometheus");
        command
            .arg(format!("--config.file={}", path.display()))
            .arg(format!("--storage.tsdb.path={}", storage.display()))
            .arg(format!("--web.listen-address={addr}"));
        let mut process = Process::start(lab, &name, command)?;
        let client = HttpClient::new(addr)?;
        process.wait_ready(Duration::from_mins(1), || {
            client
                .get("/-/ready")
                .is_ok_and(|answer| answer.status == StatusCode::OK)
        })?;
        Ok(Self {
            addr,
            client,
            _process: process,
        })
    }
}

/// What a Prometheus scrapes under one name.
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

    /// One more target, with the labels that discovery would give it.
    #[must_use]
    pub fn target(mut self, target: SocketAddr, labels: &[(&str, &str)]) -> Self {
        let labels = labels.iter();
        let labels = labels.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        self.targets.push((target, labels.collect()));
        self
    }
}

/// A running Alertmanager that sends nothing to anybody, plain HTTP on 127.0.0.1.
#[derive(Debug)]
pub struct Alertmanager {
    addr: SocketAddr,
    client: HttpClient,
    _process: Process,
}

impl Alertmanager {
    /// Starts one, and waits until it answers.
    pub fn start(lab: &Lab) -> Result<Self> {
        on_free_port(|port| Self::start_on(lab, port))
    }

    /// The alerts of a name that are active now: objects with `labels`, `annotations` and `startsAt`.
    pub fn active(&self, name: &str) -> Result<Vec<Value>> {
        let filter = percent(&format!("alertname=\"{name}\""));
        let path =
            format!("/api/v2/alerts?active=true&silenced=false&inhibited=false&filter={filter}");
        let answer = self.client.get(&path)?;
        match serde_json::from_slice(&answer.body) {
            Ok(alerts) if answer.status == StatusCode::OK => Ok(alerts),
            _ => Err(Error::Http {
                request: path,
                problem: format!("{}: {}", answer.status, answer.text()),
            }),
        }
    }

    fn start_on(lab: &Lab, port: u16) -> Result<Self> {
        let name = format!("alertmanager-{port}");
        let storage = lab.make_dir(&name)?;
        let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let config = json!({
            "route": {"receiver": "nobody", "group_wait": "1s", "group_interval": "1s"},
            "receivers": [{"name": "nobody"}],
        });
        let path = lab.path().join(format!("{name}.yml"));
        fs::write(&path, config.to_string()).map_err(Error::io(path.display().to_string()))?;
        let mut command = Command::new(ALERTMANAGER[0].program);
        command
            .arg(format!("--config.file={}", path.display()))
            .arg(format!("--storage.path={}", storage.display()))
            .arg(format!("--web.listen-address={addr}"))
            // One alone: no peers to gossip with.
            .arg("--cluster.listen-address=");
        let mut process = Process::start(lab, &name, command)?;
        let client = HttpClient::new(addr)?;
        process.wait_ready(Duration::from_mins(1), || {
            client
                .get("/-/ready")
                .is_ok_and(|answer| answer.status == StatusCode::OK)
        })?;
        Ok(Self {
            addr,
            client,
            _process: process,
        })
    }
}

/// Starts something on a free port; another one is tried where somebody else took that in between.
fn on_free_port<T>(mut start: impl FnMut(u16) -> Result<T>) -> Result<T> {
    let mut tries = 0;
    loop {
        tries += 1;
        match start(port::free(Ipv4Addr::LOCALHOST)?) {
            Err(_) if tries < PORTS => {}
            result => return result,
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
