//! Whether the cgroup path in a container's OCI configuration is this cgroup.

use super::mount_relative;

/// Whether a container whose `linux.cgroupsPath` is `cgroups_path` has its own
/// cgroup at `path` (in any form that [`classify`](super::classify) takes).
///
/// The configuration has one of two forms: a plain path, absolute or below the
/// runtime's own cgroup, or systemd's `slice:prefix:name`, which becomes
/// `<slice>/<prefix>-<name>.scope`. A runtime without the systemd driver takes
/// the latter for a plain path as well. Below another container, and on the
/// hierarchies of a hybrid host, the path may have a longer beginning.
pub fn owns(cgroups_path: &str, path: &str) -> bool {
    let path = mount_relative(path);
    let plain = cgroups_path.trim_matches('/');
    if plain.is_empty() {
        return false;
    }
    if path
        .strip_suffix(plain)
        .is_some_and(|above| above.is_empty() || above.ends_with('/'))
    {
        return true;
    }
    let mut parts = plain.splitn(3, ':');
    match (parts.next(), parts.next(), parts.next()) {
        (Some(slice), Some(prefix), Some(name)) if !cgroups_path.starts_with('/') => {
            owns_unit(slice, prefix, name, path)
        }
        _ => false,
    }
}

/// The unit name is made as runc's systemd driver makes it.
fn owns_unit(slice: &str, prefix: &str, name: &str, path: &str) -> bool {
    let (above, unit) = path.rsplit_once('/').unwrap_or(("", path));
    let is_unit = match (name.strip_suffix(".slice"), unit.strip_suffix(".scope")) {
        (Some(_), _) => unit == name,
        (None, Some(unit)) if prefix.is_empty() => unit == name,
        (None, Some(unit)) => {
            unit.strip_prefix(prefix)
                .and_then(|rest| rest.strip_prefix('-'))
                == Some(name)
        }
        (None, None) => false,
    };
    // Without a slice the runtime takes system.slice, or user.slice when rootless.
    let is_in_slice = slice.is_empty() || above.rsplit('/').next() == Some(slice);
    is_unit && is_in_slice
}

#[cfg(test)]
mod tests {
    use super::owns;

    #[test]
    fn tells_a_containers_cgroup_by_its_configuration() {
        let cases = [
            ("/default/x", "/default/x", true),
            ("/default/x", "0::/default/x", true),
            ("/default/x", "/docker/abc/default/x", true),
            ("x", "/user.slice/x", true),
            ("/default/x", "/default/xx", false),
            ("/default/x", "/otherdefault/x", false),
            ("/default/x", "/default/x/below", false),
            ("", "/", false),
            ("/", "/", false),
            (
                "kubepods-pod1.slice:cri-containerd:ab",
                "/kubepods.slice/kubepods-pod1.slice/cri-containerd-ab.scope",
                true,
            ),
            (
                "kubepods-pod1.slice:cri-containerd:ab",
                "/a.service/kubepods-pod1.slice:cri-containerd:ab",
                true,
            ),
            (
                "kubepods-pod1.slice:cri-containerd:ab",
                "/kubepods.slice/kubepods-pod2.slice/cri-containerd-ab.scope",
                false,
            ),
            (
                "kubepods-pod1.slice:cri-containerd:ab",
                "/kubepods.slice/kubepods-pod1.slice/cri-containerd-cd.scope",
                false,
            ),
            (
                "kubepods-pod1.slice:cri-containerd:ab",
                "/kubepods.slice/kubepods-pod1.slice/cri-containerd-ab.scope/init",
                false,
            ),
            (
                "system.slice:docker:ab",
                "/system.slice/docker-ab.scope",
                true,
            ),
            (":nerdctl:ab", "/system.slice/nerdctl-ab.scope", true),
            ("a.slice::ab", "/a.slice/ab.scope", true),
            ("a.slice:x:a-b.slice", "/a.slice/a-b.slice", true),
        ];
        for (cgroups_path, path, expected) in cases {
            assert_eq!(
                owns(cgroups_path, path),
                expected,
                "{cgroups_path:?} at {path:?}"
            );
        }
    }
}
