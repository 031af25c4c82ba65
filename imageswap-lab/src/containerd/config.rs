//! The files that containerd reads: its configuration and the registry hosts.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::ContainerdOptions;
use crate::error::{Error, Result};
use crate::oci;

/// The longest path of a Unix socket, without its closing zero; see unix(7).
const SOCKET_PATH: usize = 107;

/// Writes everything below `dir`.
pub(super) fn write(dir: &Path, options: &ContainerdOptions, pause: &str) -> Result<()> {
    let socket = super::socket(dir);
    if socket.as_os_str().len() + ".ttrpc".len() > SOCKET_PATH {
        return Err(Error::Unusable(format!(
            "{}: too long for the path of a socket; set TMPDIR to a shorter folder",
            socket.display()
        )));
    }
    for (host, registry) in &options.mirrors {
        write_host(dir, host, *registry)?;
        write_host(dir, &registry.to_string(), *registry)?;
    }
    let runtime = oci::program(dir, options.pure_cgroup_v2)?;
    write_file(&file(dir), &toml(dir, options, pause, &runtime))
}

/// The configuration file.
pub(super) fn file(dir: &Path) -> PathBuf {
    dir.join("config.toml")
}

/// The folder with a `hosts.toml` for each registry host.
pub(super) fn hosts_dir(dir: &Path) -> PathBuf {
    dir.join("hosts")
}

/// Where runc keeps its state. All containerds share the default folder, where containers of the
/// same name would collide.
pub(super) fn runc_root(dir: &Path) -> PathBuf {
    dir.join("runc")
}

/// Version 2 of the file, which containerd 1.5 to 2 read. From 1.7 on each containerd of the machine
/// would otherwise listen on the same socket of NRI, and the one that comes second ends.
fn toml(dir: &Path, options: &ContainerdOptions, pause: &str, runtime: &Path) -> String {
    let dir = dir.display();
    let runtime = runtime.display();
    let systemd = options.systemd_cgroup;
    let disabled = if options.cri {
        ""
    } else {
        r#""io.containerd.grpc.v1.cri""#
    };
    format!(
        r#"version = 2
root = "{dir}/root"
state = "{dir}/state"
temp = "{dir}/tmp"
disabled_plugins = [{disabled}]
[grpc]
  address = "{dir}/containerd.sock"
[ttrpc]
  address = "{dir}/containerd.sock.ttrpc"
[debug]
  address = "{dir}/debug.sock"
  level = "info"
[plugins."io.containerd.internal.v1.opt"]
  path = "{dir}/opt"
[plugins."io.containerd.nri.v1.nri"]
  socket_path = "{dir}/nri.sock"
  plugin_path = "{dir}/nri"
  plugin_config_path = "{dir}/nri"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause}"
  stream_server_address = "127.0.0.1"
  stream_server_port = "0"
  enable_selinux = false
  disable_apparmor = true
  restrict_oom_score_adj = true
  tolerate_missing_hugetlb_controller = true
  disable_hugetlb_controller = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{dir}/cni"
    conf_dir = "{dir}/cni"
  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = "{dir}/hosts"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        BinaryName = "{runtime}"
        Root = "{dir}/runc"
        SystemdCgroup = {systemd}
"#
    )
}

fn write_host(dir: &Path, host: &str, registry: SocketAddr) -> Result<()> {
    let folder = hosts_dir(dir).join(host);
    fs::create_dir_all(&folder).map_err(Error::io(folder.display().to_string()))?;
    let text = format!(
        "server = \"http://{registry}\"\n\
         [host.\"http://{registry}\"]\n  capabilities = [\"pull\", \"resolve\", \"push\"]\n"
    );
    write_file(&folder.join("hosts.toml"), &text)
}

fn write_file(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).map_err(Error::io(path.display().to_string()))
}
