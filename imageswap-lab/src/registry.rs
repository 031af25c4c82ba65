//! A registry: Debian's docker-registry on a free port.

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use http::StatusCode;
use imageswap_runtime::tls::{Authority, Validity};
use serde_json::{Value, json};

use crate::daemon::{Daemon, Place, Ready};
use crate::error::{Error, Result};
use crate::http::{HttpClient, HttpResponse};
use crate::image::{Image, MANIFEST_TYPE};
use crate::workspace::Lab;

/// A running registry, plain HTTP on 127.0.0.1.
#[derive(Debug)]
pub struct Registry {
    daemon: Daemon,
    storage: PathBuf,
}

/// A running registry with TLS, on 127.0.0.1, for the name `localhost`.
#[derive(Debug)]
pub struct SecureRegistry {
    daemon: Daemon,
    ca: Vec<u8>,
}

/// User and password of a [`SecureRegistry`] with users.
pub const REGISTRY_USER: (&str, &str) = ("puller", "secret");
/// The line of a file of htpasswd for that user: bcrypt, as the registry requires.
const HTPASSWD: &str = "puller:$2b$04$UcDEvtiw5mjn/Mjgdj8mO.yMqARB9qJhiFiU2e0S57zk2H0tKy6xG";

impl Registry {
    /// Starts one with its storage in the lab's folder, and waits until it
    /// answers.
    pub fn start(lab: &Lab) -> Result<Self> {
        let daemon = Daemon::start(lab, "registry", "/v2/", |place| serve(place, place.storage))?;
        let storage = lab.path().join(format!("registry-{}", daemon.addr.port()));
        Ok(Self { daemon, storage })
    }

    /// Starts another with TLS over the same storage. With users, it answers [`REGISTRY_USER`] alone.
    pub fn start_secure(&self, lab: &Lab, with_users: bool) -> Result<SecureRegistry> {
        let (ca, pair) = certificate()?;
        let folder = lab.make_dir(&format!("secure-{with_users}"))?;
        let write = |name: &str, bytes: &[u8]| {
            let path = folder.join(name);
            fs::write(&path, bytes).map_err(Error::io(path.display().to_string()))?;
            Ok::<_, Error>(path)
        };
        let [chain, key] = pair;
        let chain = write("tls.crt", &chain)?;
        let key = write("tls.key", &key)?;
        let users = write("htpasswd", HTPASSWD.as_bytes())?;
        let ready = Ready {
            path: "/v2/",
            status: if with_users {
                StatusCode::UNAUTHORIZED
            } else {
                StatusCode::OK
            },
            client: &|addr| HttpClient::with_tls(addr, "localhost", &ca),
        };
        let name = if with_users {
            "registry-users"
        } else {
            "registry-tls"
        };
        let daemon = Daemon::start_ready(lab, name, &ready, |place| {
            let (mut config, command) = serve(place, &self.storage);
            config["http"]["tls"] = json!({"certificate": chain, "key": key});
            if with_users {
                config["auth"] = json!({"htpasswd": {"realm": "lab", "path": users}});
            }
            (config, command)
        })?;
        Ok(SecureRegistry { daemon, ca })
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

impl SecureRegistry {
    /// Its name in references: host and port.
    pub fn name(&self) -> String {
        format!("localhost:{}", self.daemon.addr.port())
    }

    /// The certificate that clients verify it with, in PEM.
    pub fn ca_pem(&self) -> &[u8] {
        &self.ca
    }
}

/// The configuration of a registry with this storage, and its command.
fn serve(place: &Place<'_>, storage: &Path) -> (Value, Command) {
    let config = json!({
        "version": 0.1,
        "log": {"level": "warn"},
        "storage": {"filesystem": {"rootdirectory": storage}},
        "http": {"addr": place.addr.to_string()},
    });
    let mut command = Command::new("docker-registry");
    command.arg("serve").arg(&place.config);
    (config, command)
}

/// The certificate of an authority; and chain and key, in PEM, of a server called `localhost`.
fn certificate() -> Result<(Vec<u8>, [Vec<u8>; 2])> {
    const HOUR: Duration = Duration::from_hours(1);
    let unusable = |error: &dyn std::error::Error| Error::Unusable(error.to_string());
    let now = SystemTime::now();
    let validity = Validity {
        not_before: now - HOUR,
        not_after: now + 24 * HOUR,
    };
    let authority = Authority::generate("lab registry", validity).map_err(|it| unusable(&it))?;
    let names = BTreeSet::from(["localhost".to_owned()]);
    let pair = authority
        .issue(&names, validity)
        .map_err(|it| unusable(&it))?;
    let ca = authority.certificate().pem();
    Ok((ca.into(), [pair.chain_pem().into(), pair.key_pem().into()]))
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
