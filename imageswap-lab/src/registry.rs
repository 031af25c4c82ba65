//! A registry: Debian's docker-registry on a free port.

use std::net::SocketAddr;
use std::process::Command;

use http::StatusCode;

use crate::daemon::Daemon;
use crate::error::{Error, Result};
use crate::http::HttpResponse;
use crate::image::{Image, MANIFEST_TYPE};
use crate::workspace::Lab;

/// A running registry, plain HTTP on 127.0.0.1.
#[derive(Debug)]
pub struct Registry {
    daemon: Daemon,
}

impl Registry {
    /// Starts one with its storage in the lab's folder, and waits until it
    /// answers.
    pub fn start(lab: &Lab) -> Result<Self> {
        let daemon = Daemon::start(lab, "registry", "/v2/", |place| {
            let config = serde_json::json!({
                "version": 0.1,
                "log": {"level": "warn"},
                "storage": {"filesystem": {"rootdirectory": place.storage}},
                "http": {"addr": place.addr.to_string()},
            });
            let mut command = Command::new("docker-registry");
            command.arg("serve").arg(&place.config);
            (config, command)
        })?;
        Ok(Self { daemon })
    }

    /// Its address.
    pub fn addr(&self) -> SocketAddr {
        self.daemon.addr
    }

    /// Pushes `image` as `<repository>:<tag>`; returns its digest.
    ///
    /// By the distribution specification 1.0: a monolithic upload for each
    /// blob, then the manifest.
    pub fn push(&self, image: &Image, repository: &str, tag: &str) -> Result<String> {
        for (digest, blob) in image.blobs() {
            let uploads = format!("/v2/{repository}/blobs/uploads/");
            let begun = self
                .daemon
                .client
                .post(&uploads, "application/octet-stream", "")?;
            expect(&begun, StatusCode::ACCEPTED, &uploads)?;
            let location = begun.headers.get(http::header::LOCATION);
            let location = location
                .and_then(|value| value.to_str().ok())
                .unwrap_or_default();
            let origin = format!("http://{}", self.addr());
            let path = location.strip_prefix(&origin).unwrap_or(location);
            let path = format!("{path}&digest={digest}");
            let done = self
                .daemon
                .client
                .put(&path, "application/octet-stream", blob.to_vec())?;
            expect(&done, StatusCode::CREATED, &path)?;
        }
        let path = format!("/v2/{repository}/manifests/{tag}");
        let done = self
            .daemon
            .client
            .put(&path, MANIFEST_TYPE, image.manifest().to_vec())?;
        expect(&done, StatusCode::CREATED, &path)?;
        Ok(image.digest())
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
