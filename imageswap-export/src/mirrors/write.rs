//! The files of the runtimes.

use super::Mirror;
use std::fmt::Write;

/// containerd's `hosts.toml` for the registry of a mirror. The mirror is the host and the server, after
/// which containerd asks nobody: images come from the mirror or not at all. Version 1.6 refuses a
/// file that names only a server.
pub fn hosts_toml(policy: &str, mirror: &Mirror, plain_http: bool) -> String {
    let scheme = if plain_http { "http" } else { "https" };
    let (url, path) = match mirror.location.split_once('/') {
        Some((host, path)) => (
            format!("{scheme}://{host}/v2/{path}"),
            "override_path = true\n",
        ),
        None => (format!("{scheme}://{}", mirror.location), ""),
    };
    let options = format!("capabilities = [\"pull\", \"resolve\"]\n{path}");
    format!(
        "{}# {}: rule {}\nserver = \"{url}\"\n{options}\n[host.\"{url}\"]\n{options}",
        head("hosts-toml", policy),
        mirror.prefix,
        one_line(&mirror.rule),
    )
}

/// `registries.conf` of podman and CRI-O. `is_plain_http` returns whether a registry has no TLS.
pub fn registries_conf(
    policy: &str,
    mirrors: &[Mirror],
    is_plain_http: impl Fn(&str) -> bool,
) -> String {
    let mut text = head("registries.conf", policy);
    for mirror in mirrors {
        let host = mirror.location.split('/').next().unwrap_or_default();
        write!(
            text,
            "\n# rule {}\n[[registry]]\nprefix = \"{}\"\nlocation = \"{}\"\n",
            one_line(&mirror.rule),
            mirror.prefix,
            mirror.location
        )
        .expect(FITS);
        if is_plain_http(host) {
            text.push_str("insecure = true\n");
        }
    }
    text
}

const FITS: &str = "a String takes all text";

fn head(command: &str, policy: &str) -> String {
    format!("# Exported by `imageswap export {command}` from policy {policy}.\n")
}

fn one_line(text: &str) -> String {
    text.replace(char::is_control, " ")
}
