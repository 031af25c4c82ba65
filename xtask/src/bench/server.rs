//! Servers that are measured: programs built for release, on free ports.

use std::ffi::OsStr;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use imageswap_lab::{Containerd, HttpClient, free_address, wait_until};

use crate::process::{Workspace, cargo, run};

/// A server under test; dropping the value ends it.
pub(super) struct Server {
    pub(super) name: &'static str,
    pub(super) addr: SocketAddr,
    child: Ended,
}

/// A process that is killed when this value is dropped.
pub(super) struct Ended(pub(super) Child);

impl Drop for Ended {
    fn drop(&mut self) {
        // The process may have ended by itself.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// How long a server may take to start.
const START: Duration = Duration::from_mins(1);
/// The kernel's clock ticks per second in `/proc/PID/stat` (`USER_HZ`).
const TICKS: f64 = 100.0;

/// A service, and the time from its exec until it was ready.
pub(super) struct Ready {
    pub(super) server: Server,
    pub(super) took: Duration,
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

    /// Starts a webhook with a certificate of its own in the folder `lab`, and waits until it is ready.
    pub(super) fn ready_webhook(programs: &Path, lab: &Path, options: &[&OsStr]) -> Result<Ready> {
        let admin = free_address(Ipv4Addr::LOCALHOST)?;
        let listen = free_address(Ipv4Addr::LOCALHOST)?;
        let mut command = Command::new(programs.join("imageswap-webhook"));
        command.args(["serve", "--log-level", "warn", "--tls-self-signed"]);
        command.arg(lab.join("tls")).args(options);
        command.args(["--admin", &admin.to_string()]);
        command.args(["--listen", &listen.to_string()]);
        Self::ready("webhook", &mut command, admin)
    }

    /// Starts an agent that asks `containerd` and writes its findings to a file, and waits until it is ready.
    pub(super) fn ready_agent(
        programs: &Path,
        containerd: &Containerd,
        findings: &Path,
        options: &[&OsStr],
    ) -> Result<Ready> {
        let admin = free_address(Ipv4Addr::LOCALHOST)?;
        let mut command = Command::new(programs.join("imageswap-agent"));
        command.args(["run", "--pin", "off", "--log-level", "warn", "--findings"]);
        command.arg(findings).args(options);
        command.args(["--admin", &admin.to_string()]);
        for flag in ["--containerd", "--cri"] {
            command.arg(flag).arg(containerd.socket());
        }
        Self::ready("agent", &mut command, admin)
    }

    /// Runs `command`, which listens on `addr`, and waits until it does.
    pub(super) fn start(
        name: &'static str,
        mut command: Command,
        addr: SocketAddr,
    ) -> Result<Self> {
        let server = Self::spawn(name, &mut command, addr)?;
        let up = wait_until(START, || TcpStream::connect(addr).is_ok());
        ensure!(up, "the {name} does not come up");
        Ok(server)
    }

    /// Runs the `command` of a service with this admin port, and waits until it is ready.
    fn ready(name: &'static str, command: &mut Command, admin: SocketAddr) -> Result<Ready> {
        let http = HttpClient::new(admin)?;
        let begin = Instant::now();
        let server = Self::spawn(name, command, admin)?;
        while !http.get("/readyz").is_ok_and(|it| it.status.is_success()) {
            ensure!(begin.elapsed() < START, "the {name} is not ready");
            sleep(Duration::from_millis(1));
        }
        let took = begin.elapsed();
        Ok(Ready { server, took })
    }

    fn spawn(name: &'static str, command: &mut Command, addr: SocketAddr) -> Result<Self> {
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            // Logs are written but not read: reading them is not part of the measurement.
            .stderr(Stdio::null());
        let child = command
            .spawn()
            .with_context(|| format!("cannot run the {name}"))?;
        let child = Ended(child);
        Ok(Self { name, addr, child })
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.0.id()
    }

    /// Seconds of processor time, also of threads that have ended.
    pub(super) fn processor_time(&self) -> Result<f64> {
        let path = format!("/proc/{}/stat", self.pid());
        let stat = fs::read_to_string(&path).with_context(|| path.clone())?;
        // The name, which may have spaces, ends with the last parenthesis (proc(5)).
        let fields = stat.rsplit(')').next().unwrap_or_default();
        let ticks = fields.split_whitespace().skip(11).take(2);
        let ticks: Result<Vec<u32>, _> = ticks.map(str::parse).collect();
        let ticks = ticks.with_context(|| format!("{path} has no times"))?;
        Ok(f64::from(ticks.iter().sum::<u32>()) / TICKS)
    }

    pub(super) fn memory(&self, name: &str) -> Result<f64> {
        memory(self.pid(), name)
    }
}

/// The memory of a process in MiB, by that name in `/proc/PID/status`.
pub(super) fn memory(pid: u32, name: &str) -> Result<f64> {
    let path = format!("/proc/{pid}/status");
    let status = fs::read_to_string(&path).with_context(|| path.clone())?;
    let kib = status
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
        .and_then(|rest| rest.trim().strip_suffix(" kB")?.parse::<f64>().ok());
    kib.map(|kib| kib / 1024.0)
        .with_context(|| format!("{path} has no {name}"))
}
