//! Servers that are measured: programs built for release, on free ports.

use std::ffi::OsStr;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use imageswap_lab::{free_address, wait_until};

use crate::process::{Workspace, cargo, run};

/// A server under test; dropping the value ends it.
pub(super) struct Server {
    pub(super) name: &'static str,
    pub(super) addr: SocketAddr,
    child: Child,
}

/// Builds the webhook and its examples for release.
pub(super) fn build(workspace: &Workspace) -> Result<()> {
    let mut build = cargo();
    build.current_dir(&workspace.root).args([
        "build",
        "--release",
        "--quiet",
        "--package=imageswap-webhook",
        "--bins",
        "--examples",
    ]);
    run(&mut build)
}

impl Server {
    /// Starts a webhook whose certificate is signed by `ca.crt` in the folder `certificates`.
    pub(super) fn webhook(
        name: &'static str,
        program: &Path,
        certificates: &Path,
        options: &[&OsStr],
    ) -> Result<Self> {
        let addr = free_address(Ipv4Addr::LOCALHOST)?;
        let mut command = Command::new(program);
        command
            .args(["serve", "--admin", "127.0.0.1:0", "--listen"])
            .arg(addr.to_string())
            .arg("--tls-self-signed")
            .arg(certificates)
            .args(options);
        Self::start(name, command, addr)
    }

    /// Runs `command`, which listens on `addr`, and waits until it does.
    pub(super) fn start(
        name: &'static str,
        mut command: Command,
        addr: SocketAddr,
    ) -> Result<Self> {
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            // Logs are written but not read: reading them is not part of the measurement.
            .stderr(Stdio::null());
        let child = command
            .spawn()
            .with_context(|| format!("cannot run the {name}"))?;
        let server = Self { name, addr, child };
        let up = wait_until(Duration::from_secs(20), || TcpStream::connect(addr).is_ok());
        ensure!(up, "the {name} does not come up");
        Ok(server)
    }

    /// MiB, by that name in `/proc/PID/status`.
    pub(super) fn memory(&self, name: &str) -> Result<f64> {
        let path = format!("/proc/{}/status", self.child.id());
        let status = fs::read_to_string(&path).with_context(|| path.clone())?;
        let kib = status
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
            .and_then(|rest| rest.trim().strip_suffix(" kB")?.parse::<f64>().ok());
        kib.map(|kib| kib / 1024.0)
            .with_context(|| format!("{path} has no {name}"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Err(error) = self.child.kill().and_then(|()| self.child.wait()) {
            eprintln!("{}: {error}", self.name);
        }
    }
}
