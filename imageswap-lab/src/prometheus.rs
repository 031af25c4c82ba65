//! A Prometheus: Debian's package on a free port.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;
use std::time::Duration;

use http::StatusCode;
use serde_json::{Value, json};

use crate::error::{Error, Result};
use crate::http::HttpClient;
use crate::needs::{PROMETHEUS, missing_of};
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
        let mut tries = 0;
        loop {
            tries += 1;
            match Self::start_on(lab, targets, port::free(Ipv4Addr::LOCALHOST)?) {
                Err(_) if tries < PORTS => {}
                result => return result,
            }
        }
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

    fn start_on(lab: &Lab, targets: &[SocketAddr], port: u16) -> Result<Self> {
        let name = format!("prometheus-{port}");
        let storage = lab.make_dir(&name)?;
        let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        // JSON is YAML too.
        let config = json!({
            "global": {"scrape_interval": "1s", "scrape_timeout": "1s"},
            "scrape_configs": [{"job_name": "imageswap", "static_configs": [{"targets": targets}]}],
        });
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
