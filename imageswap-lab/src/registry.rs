//! A registry: Debian's docker-registry on a free port.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;
use std::time::Duration;

use http::StatusCode;

use crate::error::{Error, Result};
use crate::http::{HttpClient, HttpResponse};
use crate::image::{Image, MANIFEST_TYPE};
use crate::port;
use crate::process::Process;
use crate::workspace::Lab;

/// How often a port that somebody else took in between is replaced.
const PORTS: usize = 5;

/// A running registry, plain HTTP on 127.0.0.1.
#[derive(Debug)]
pub struct Registry {
    addr: SocketAddr,
    client: HttpClient,
    _process: Process,
}

impl Registry {
    /// Starts one with its storage in the lab's folder, and waits until it
    /// answers.
    pub fn start(lab: &Lab) -> Result<Self> {
        let mut tries = 0;
        loop {
            tries += 1;
            match Self::start_on(lab, port::free(Ipv4Addr::LOCALHOST)?) {
                Err(_) if tries < PORTS => {}
                result => return result,
            }
        }
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Pushes `image` as `<repository>:<tag>`; returns its digest.
    ///
    /// By the distribution specification 1.0: a monolithic upload for each
    /// blob, then the manifest.
    pub fn push(&self, image: &Image, repository: &str, tag: &str) -> Result<String> {
        for (digest, blob) in image.blobs() {
            let uploads = format!("/v2/{repository}/blobs/uploads/");
            let begun = self.client.post(&uploads, "application/octet-stream", "")?;
            expect(&begun, StatusCode::ACCEPTED, &uploads)?;
            let location = begun.headers.get(http::header::LOCATION);
            let location = location
                .and_then(|value| value.to_str().ok())
                .unwrap_or_default();
            let origin = format!("http://{}", self.addr);
            let path = location.strip_prefix(&origin).unwrap_or(location);
            let path = format!("{path}&digest={digest}");
            let done = self
                .client
                .put(&path, "application/octet-stream", blob.to_vec())?;
            expect(&done, StatusCode::CREATED, &path)?;
        }
        let path = format!("/v2/{repository}/manifests/{tag}");
        let done = self
            .client
            .put(&path, MANIFEST_TYPE, image.manifest().to_vec())?;
        expect(&done, StatusCode::CREATED, &path)?;
        Ok(image.digest())
    }

    fn start_on(lab: &Lab, port: u16) -> Result<Self> {
        let name = format!("registry-{port}");
        let storage = lab.make_dir(&name)?;
        let addr = SocketAddr::from(([127, 0, 0, 1], port));
        // JSON is YAML too.
        let config = serde_json::json!({
            "version": 0.1,
            "log": {"level": "warn"},
            "storage": {"filesystem": {"rootdirectory": storage}},
            "http": {"addr": addr.to_string()},
        });
        let path = lab.path().join(format!("{name}.yml"));
        fs::write(&path, config.to_string()).map_err(Error::io(path.display().to_string()))?;
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(&path);
        let mut process = Process::start(lab, &name, command)?;
        let client = HttpClient::new(addr)?;
        process.wait_ready(Duration::from_secs(30), || {
            client
                .get("/v2/")
                .is_ok_and(|answer| answer.status == StatusCode::OK)
        })?;
        Ok(Self {
            addr,
            client,
            _process: process,
        })
    }
}

fn expect(answer: &HttpResponse, status: StatusCode, path: &str) -> Result<()> {
    if answer.status == status {
        return Ok(());
    }
    Err(Error::Http {
        request: path.to_owned(),
        problem: format!(
            "{} instead of {status}: {}",
            answer.status,
            answer.text().trim()
        ),
    })
}
