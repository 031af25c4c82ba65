//! A server from a Debian package on a free port: a configuration file and storage in the lab's
//! folder, plain HTTP on 127.0.0.1.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use http::StatusCode;
use serde_json::Value;

use crate::error::{Error, Result};
use crate::http::HttpClient;
use crate::port::free_address;
use crate::process::Process;
use crate::workspace::Lab;

/// Time until the first answer; a busy machine is slow.
const START: Duration = Duration::from_mins(1);

/// A running server; dropping it ends it.
#[derive(Debug)]
pub(crate) struct Daemon {
    pub(crate) addr: SocketAddr,
    pub(crate) client: HttpClient,
    _process: Process,
}

/// How to learn that a server answers.
pub(crate) struct Ready<'a> {
    pub(crate) path: &'a str,
    pub(crate) status: StatusCode,
    pub(crate) client: &'a dyn Fn(SocketAddr) -> Result<HttpClient>,
}

/// Where a server keeps its files and listens.
pub(crate) struct Place<'a> {
    pub(crate) addr: SocketAddr,
    pub(crate) storage: &'a Path,
    /// The configuration file.
    pub(crate) config: PathBuf,
}

impl Daemon {
    /// Starts a server and waits until it answers at the path `ready`. `how` returns its
    /// configuration (JSON, which is valid YAML) and the command that runs it.
    pub(crate) fn start(
        lab: &Lab,
        name: &str,
        ready: &str,
        how: impl Fn(&Place<'_>) -> (Value, Command),
    ) -> Result<Self> {
        let ready = Ready {
            path: ready,
            status: StatusCode::OK,
            client: &HttpClient::new,
        };
        Self::start_ready(lab, name, &ready, how)
    }

    /// The same for a server that answers in another way.
    pub(crate) fn start_ready(
        lab: &Lab,
        name: &str,
        ready: &Ready<'_>,
        how: impl Fn(&Place<'_>) -> (Value, Command),
    ) -> Result<Self> {
        let addr = free_address(Ipv4Addr::LOCALHOST)?;
        let name = format!("{name}-{}", addr.port());
        let storage = lab.make_dir(&name)?;
        let place = Place {
            addr,
            storage: &storage,
            config: lab.path().join(format!("{name}.yml")),
        };
        let (config, command) = how(&place);
        fs::write(&place.config, config.to_string())
            .map_err(Error::io(place.config.display().to_string()))?;
        let mut process = Process::start(lab, &name, command)?;
        let client = (ready.client)(place.addr)?;
        process.wait_ready(START, || {
            let answer = client.get(ready.path);
            answer.is_ok_and(|answer| answer.status == ready.status)
        })?;
        Ok(Self {
            addr: place.addr,
            client,
            _process: process,
        })
    }
}
