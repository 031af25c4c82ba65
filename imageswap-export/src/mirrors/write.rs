//! The files of the runtimes.

use super::Mirror;
use std::fmt::Write;

/// containerd's `hosts.toml` for the registry of a mirror. It names no other place, so that images
/// come from the mirror or not at all.
pub fn hosts_toml(policy: &str, mirror: &Mirror, plain_http: bool) -> String {
    let scheme = if plain_http { "http" } else { "https" };
    let (host, path) = match mirror.location.split_once('/') {
        Some((host, path)) => (host, Some(path)),
        None => (mirror.location.as_str(), None),
    };
    let mut text = head("hosts-toml", policy);
    writeln!(text, "# {}: rule {}", mirror.prefix, one_line(&mirror.rule)).expect(FITS);
    match path {
        None => writeln!(text, "server = \"{scheme}://{host}\""),
        Some(path) => writeln!(text, "server = \"{scheme}://{host}/v2/{path}\""),
    }
    .expect(FITS);
    text.push_str("capabilities = [\"pull\", \"resolve\"]\n");
    if path.is_some() {
        text.push_str("override_path = true\n");
    }
    text
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
