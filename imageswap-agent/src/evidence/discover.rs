//! The default sockets of runtimes.

use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};

use super::on_host;

/// containerd: its own default, then k3s and RKE2, k0s, MicroK8s, Bottlerocket.
const CONTAINERD: [&str; 5] = [
    "/run/containerd/containerd.sock",
    "/run/k3s/containerd/containerd.sock",
    "/run/k0s/containerd.sock",
    "/var/snap/microk8s/common/run/containerd.sock",
    "/run/dockershim.sock",
];

/// The containerd that dockerd starts if none runs: without its CRI plugin.
const DOCKERS: [&str; 1] = ["/run/docker/containerd/containerd.sock"];

/// CRI servers other than containerd: CRI-O, cri-dockerd.
const CRI_ONLY: [&str; 3] = [
    "/run/crio/crio.sock",
    "/var/run/crio/crio.sock",
    "/run/cri-dockerd.sock",
];

/// The sockets of containerd that exist below `host_root`.
pub fn containerd_sockets(host_root: &Path) -> Vec<PathBuf> {
    let mut sockets = existing(host_root, &CONTAINERD);
    sockets.extend(existing(host_root, &DOCKERS));
    deduplicated(sockets)
}

/// The sockets that may serve CRI and exist below `host_root`: containerd's serve it too, unless
/// its CRI plugin is disabled.
pub fn cri_sockets(host_root: &Path) -> Vec<PathBuf> {
    let mut sockets = existing(host_root, &CONTAINERD);
    sockets.extend(existing(host_root, &CRI_ONLY));
    deduplicated(sockets)
}

/// All paths that are searched, for the message that nothing was found.
pub fn looked_at() -> impl Iterator<Item = &'static str> {
    CONTAINERD.into_iter().chain(DOCKERS).chain(CRI_ONLY)
}

fn existing(host_root: &Path, candidates: &[&str]) -> Vec<PathBuf> {
    let sockets = candidates
        .iter()
        .map(|path| on_host(host_root, Path::new(path)));
    deduplicated(sockets.filter(|path| is_socket(path)).collect())
}

fn is_socket(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket())
}

/// Drops a path to the same socket as an earlier one: /var/run is a link to /run, and distributions
/// link their socket to the usual place.
fn deduplicated(sockets: Vec<PathBuf>) -> Vec<PathBuf> {
    let mut seen = Vec::new();
    sockets
        .into_iter()
        .filter(|path| {
            let real = path.canonicalize().unwrap_or_else(|_gone| path.clone());
            let is_new = !seen.contains(&real);
            seen.push(real);
            is_new
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn finds_sockets_below_the_hosts_root_once() {
        let root = tempfile::tempdir().unwrap();
        let folders = [
            "run/containerd",
            "run/crio",
            "run/docker/containerd",
            "run/k3s/containerd",
        ];
        for folder in folders {
            std::fs::create_dir_all(root.path().join(folder)).unwrap();
        }
        assert!(cri_sockets(root.path()).is_empty());

        let socket = root.path().join("run/containerd/containerd.sock");
        let crio = root.path().join("run/crio/crio.sock");
        let dockers = root.path().join("run/docker/containerd/containerd.sock");
        let _containerd = UnixListener::bind(&socket).unwrap();
        let _dockers = UnixListener::bind(&dockers).unwrap();
        let _crio = UnixListener::bind(&crio).unwrap();
        symlink(
            &socket,
            root.path().join("run/k3s/containerd/containerd.sock"),
        )
        .unwrap();
        // A plain file of that name is not a socket.
        std::fs::write(root.path().join("run/cri-dockerd.sock"), "").unwrap();

        assert_eq!(containerd_sockets(root.path()), [socket.clone(), dockers]);
        assert_eq!(cri_sockets(root.path()), [socket, crio]);
    }
}
