//! Gets images to where nodes find them: a registry, or the store of a cluster's own runtime.
//!
//! skopeo pushes: what a registry asks for (tokens, credential helpers, a private CA) is a program
//! of its own, and skopeo reads the files that `docker login` and `podman login` write.

use std::fmt::{self, Display};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::str::FromStr;

use anyhow::{Context, Result, bail};

use crate::process::{find, output};
use crate::toolchain;

/// Where a containerd of Debian, Docker or kubeadm listens.
const CONTAINERD: &str = "/run/containerd/containerd.sock";

/// The spellings of a [`Store`].
pub(crate) const STORES: &str =
    "kind[:NAME], k3d[:NAME], minikube[:PROFILE], containerd[:SOCKET] or k3s";

/// The store to load images into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Store {
    /// The nodes of a kind cluster.
    Kind(String),
    /// The nodes of a k3d cluster.
    K3d(String),
    /// A minikube profile.
    Minikube(String),
    /// The containerd of this machine, by its socket.
    Containerd(PathBuf),
    /// The k3s of this machine.
    K3s,
}

impl Store {
    /// The store of the cluster that a context's name refers to, as kind, k3d and minikube write
    /// it. A runtime of this machine is used only if the user names it.
    pub(crate) fn of(context: &str) -> Result<Self> {
        if let Some(name) = context.strip_prefix("kind-") {
            return Ok(Self::Kind(name.to_owned()));
        }
        if let Some(name) = context.strip_prefix("k3d-") {
            return Ok(Self::K3d(name.to_owned()));
        }
        if context == "minikube" {
            return Ok(Self::Minikube(context.to_owned()));
        }
        bail!(
            "{context} is not a context of kind, k3d or minikube; push the images with --registry, or say \
             with --load in whose store they belong"
        )
    }

    /// Loads an archive, which contains its names.
    pub(crate) fn load(&self, archive: &Path) -> Result<()> {
        output(&mut self.command(archive)?)
            .with_context(|| format!("cannot load {} into {self}", archive.display()))?;
        Ok(())
    }

    fn command(&self, archive: &Path) -> Result<Command> {
        let program = self.program();
        let path = find(program).with_context(|| format!("{self} needs {program} in PATH"))?;
        let mut command = Command::new(path);
        match self {
            Self::Kind(name) => command
                .args(["load", "image-archive"])
                .arg(archive)
                .args(["--name", name]),
            Self::K3d(name) => command
                .args(["image", "import"])
                .arg(archive)
                .args(["--cluster", name]),
            Self::Minikube(name) => command
                .args(["--profile", name, "image", "load"])
                .arg(archive),
            Self::Containerd(socket) => command
                .arg("--address")
                .arg(socket)
                .args(["--namespace", "k8s.io", "images", "import"])
                .arg(archive),
            Self::K3s => command.args(["ctr", "images", "import"]).arg(archive),
        };
        Ok(command)
    }

    fn program(&self) -> &'static str {
        match self {
            Self::Kind(_) => "kind",
            Self::K3d(_) => "k3d",
            Self::Minikube(_) => "minikube",
            Self::Containerd(_) => "ctr",
            Self::K3s => "k3s",
        }
    }
}

impl FromStr for Store {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (kind, rest) = text.split_once(':').unwrap_or((text, ""));
        let or = |default: &str| if rest.is_empty() { default } else { rest }.to_owned();
        match (kind, rest) {
            ("kind", _) => Ok(Self::Kind(or("kind"))),
            ("k3d", _) => Ok(Self::K3d(or("k3s-default"))),
            ("minikube", _) => Ok(Self::Minikube(or("minikube"))),
            ("containerd", _) => Ok(Self::Containerd(or(CONTAINERD).into())),
            ("k3s", "") => Ok(Self::K3s),
            _ => Err(format!("not one of {STORES}")),
        }
    }
}

impl Display for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kind(name) => write!(f, "kind's cluster {name}"),
            Self::K3d(name) => write!(f, "k3d's cluster {name}"),
            Self::Minikube(name) => write!(f, "minikube's profile {name}"),
            Self::Containerd(socket) => write!(f, "the containerd at {}", socket.display()),
            Self::K3s => f.write_str("the k3s of this machine"),
        }
    }
}

/// Installs skopeo if missing.
pub(crate) fn provide() -> Result<()> {
    if find("skopeo").is_none() {
        toolchain::install(&["skopeo"], "pushing images")?;
    }
    Ok(())
}

/// Pushes an archive, with the images of all its architectures, as `reference`; the digest does not
/// change.
pub(crate) fn push(archive: &Path, reference: &str, plain_http: bool) -> Result<()> {
    provide()?;
    let mut command = Command::new("skopeo");
    // The signature policy is about images that are pulled; these were built here.
    command.args([
        "--insecure-policy",
        "copy",
        "--quiet",
        "--all",
        "--preserve-digests",
    ]);
    if plain_http {
        command.arg("--dest-tls-verify=false");
    }
    let from = format!("oci-archive:{}", archive.display());
    output(command.args([from, format!("docker://{reference}")]))
        .with_context(|| format!("cannot push {reference}"))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use imageswap_lab::{BUSYBOX, Containerd, ContainerdOptions, Lab, Registry, require, skip};

    use super::super::oci::{Archive, sample};
    use super::*;

    #[test]
    fn a_store_is_known_by_the_contexts_name_or_given() {
        for (context, store) in [
            ("kind-kind", "kind:kind"),
            ("kind-a-b", "kind:a-b"),
            ("k3d-dev", "k3d:dev"),
            ("minikube", "minikube"),
        ] {
            assert_eq!(Store::of(context).unwrap(), store.parse().unwrap());
        }
        // Must hold whatever runs here.
        assert!(Store::of("prod").is_err());
        let socket = "containerd:/run/x.sock".parse::<Store>().unwrap();
        assert_eq!(socket, Store::Containerd("/run/x.sock".into()));
        for unknown in ["docker", "k3s:x", ""] {
            assert!(unknown.parse::<Store>().is_err(), "{unknown}");
        }
    }

    /// An image like ours, with another program.
    fn archive(reference: &str, folder: &Path) -> (Archive, PathBuf) {
        let archive = sample(reference, "usr/bin/echo", &fs::read(BUSYBOX).unwrap());
        let path = folder.join("image.tar");
        fs::write(&path, archive.bytes()).unwrap();
        (archive, path)
    }

    #[test]
    fn an_archive_runs_from_a_registry_and_loaded() {
        const TEST: &str = "an_archive_runs_from_a_registry_and_loaded";
        let lab = require!(Lab::for_test(TEST));
        if find("skopeo").is_none() {
            return skip(TEST, "needs skopeo (Debian: skopeo)");
        }
        let registry = Registry::start(&lab).unwrap();
        let mirrors = vec![("registry.example.com".to_owned(), registry.addr())];
        let options = ContainerdOptions {
            mirrors,
            ..ContainerdOptions::default()
        };
        let containerd = Containerd::start(&lab, options).unwrap();
        let says = |id: &str, reference: &str| {
            let run = ["run", "--rm", reference, id, "/usr/bin/echo", "it runs"];
            let output = containerd.ctr("k8s.io", run).unwrap();
            String::from_utf8_lossy(&output.stdout).trim().to_owned()
        };

        let loaded = "localhost/team/echo:1";
        let (archive, path) = archive(loaded, lab.path());
        Store::Containerd(containerd.socket()).load(&path).unwrap();
        assert_eq!(says("loaded", loaded), "it runs");

        let reference = format!("{}/team/echo:1", registry.addr());
        push(&path, &reference, true).unwrap();
        let digest = archive.digest();
        let pulled = format!("registry.example.com/team/echo@{digest}");
        containerd.pull("k8s.io", &pulled).unwrap();
        assert_eq!(says("pulled", &pulled), "it runs");

        // skopeo needs a flag for a registry without TLS.
        let error = format!("{:#}", push(&path, &reference, false).unwrap_err());
        assert!(
            error.contains("cannot push") && error.contains("HTTPS"),
            "{error}"
        );
    }
}
