//! The files that containerd reads: its configuration, the registry hosts, and
//! the wrapper around runc.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::ContainerdOptions;
use crate::error::{Error, Result};
use crate::image::BUSYBOX;
use crate::needs::find;

/// The longest path of a Unix socket, without its closing zero; see unix(7).
const SOCKET_PATH: usize = 107;

/// Takes the resource limits out of the bundle and starts runc.
///
/// A cgroup v2 hierarchy without controllers refuses any limit. `config.json`
/// has no `"resources":{` outside `linux`, for quotes in strings are escaped.
const WRAPPER: &str = r#"#!BUSYBOX sh
bundle=.
create=
previous=
for word in "$@"; do
    [ "$previous" = --bundle ] && bundle=$word
    [ "$word" = create ] && create=1
    previous=$word
done
if [ -n "$create" ]; then
    BUSYBOX awk '
    { text = text $0 }
    END {
        start = index(text, "\"resources\":{")
        if (!start) { print text; exit }
        end = start + length("\"resources\":{")
        for (depth = 1; depth > 0; end++) {
            char = substr(text, end, 1)
            if (char == "") exit 1
            if (escaped) escaped = 0
            else if (char == "\\") escaped = 1
            else if (char == "\"") quoted = !quoted
            else if (!quoted && char == "{") depth++
            else if (!quoted && char == "}") depth--
        }
        print substr(text, 1, start - 1) "\"resources\":{}" substr(text, end)
    }' "$bundle/config.json" > "$bundle/config.json.new" || exit 1
    BUSYBOX mv "$bundle/config.json.new" "$bundle/config.json"
fi
exec RUNC "$@"
"#;

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
    let runc = find("runc").ok_or_else(|| Error::Unusable("runc is not installed".to_owned()))?;
    let binary = if options.pure_cgroup_v2 {
        let path = runc_wrapper(dir);
        let script = WRAPPER
            .replace("BUSYBOX", BUSYBOX)
            .replace("RUNC", &runc.display().to_string());
        write_file(&path, &script)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))
            .map_err(Error::io(path.display().to_string()))?;
        path
    } else {
        runc
    };
    write_file(&file(dir), &toml(dir, options, pause, &binary))
}

/// The configuration file.
pub(super) fn file(dir: &Path) -> PathBuf {
    dir.join("config.toml")
}

/// The folder with a `hosts.toml` for each registry host.
pub(super) fn hosts_dir(dir: &Path) -> PathBuf {
    dir.join("hosts")
}

/// The program that stands before runc on pure cgroup v2.
pub(super) fn runc_wrapper(dir: &Path) -> PathBuf {
    dir.join("runc-without-limits")
}

/// Where runc keeps its state. Its default is shared by every containerd, whose
/// containers of one name would then disturb each other.
pub(super) fn runc_root(dir: &Path) -> PathBuf {
    dir.join("runc")
}

/// Version 2 of the file, which containerd 1.5 to 2 read.
fn toml(dir: &Path, options: &ContainerdOptions, pause: &str, runc: &Path) -> String {
    let dir = dir.display();
    let runc = runc.display();
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
        BinaryName = "{runc}"
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
