//! A network namespace for a cluster on this machine, where any address is free.
//!
//! Endpoints of a Service may not be loopback addresses.

use std::env;
use std::net::Ipv4Addr;
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, ensure};
use imageswap_lab::is_root;

use crate::process::{find, output};
use crate::toolchain;

/// Set in the process that runs inside the namespace.
const INSIDE: &str = "IMAGESWAP_NETWORK_NAMESPACE";
/// Where the control plane listens.
pub(crate) const CONTROL_PLANE: Ipv4Addr = Ipv4Addr::new(10, 89, 0, 1);
/// An address on which a program of this machine can act as a Pod.
pub(crate) const SPARE: Ipv4Addr = Ipv4Addr::new(10, 89, 0, 11);

/// Whether this process runs in the network namespace without downloads already.
pub(crate) fn is_isolated() -> bool {
    env::var_os(INSIDE).is_some()
}

/// This program, also after a build has replaced its file.
pub(crate) fn own_program() -> String {
    format!("/proc/{}/exe", std::process::id())
}

/// Runs this command again in network and mount namespaces of its own and returns its exit code;
/// `None` if this process is that second run.
pub(crate) fn isolate() -> Result<Option<ExitCode>> {
    if is_isolated() {
        addresses()?;
        return Ok(None);
    }
    ensure!(is_root(), "a network namespace needs root");
    if find("ip").is_none() {
        toolchain::install(&["iproute2"], "a network namespace")?;
    }
    let program = own_program();
    // A node has a BPF file system, which its init mounts.
    let enter = r#"mount -t bpf bpf /sys/fs/bpf; exec "$0" "$@""#;
    let status = Command::new("unshare")
        .args(["--net", "--mount", "--propagation", "private", "--"])
        .args(["sh", "-c", enter])
        .arg(program)
        .args(env::args_os().skip(1))
        .env(INSIDE, "1")
        .stdin(Stdio::null())
        .status()
        .context("cannot run unshare")?;
    let code = status.code().and_then(|it| u8::try_from(it).ok());
    Ok(Some(ExitCode::from(code.unwrap_or(1))))
}

fn addresses() -> Result<()> {
    let ip = |args: &str| output(Command::new("ip").args(args.split(' ')));
    ip("link set lo up")?;
    for address in [CONTROL_PLANE, SPARE] {
        ip(&format!("address add {address}/32 dev lo"))?;
    }
    Ok(())
}
