//! Finds the binaries of Kubernetes.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use crate::error::{Error, Result};
use crate::process::run;

/// Names a folder with kube-apiserver, etcd and kubectl, as for envtest.
const VARIABLE: &str = "KUBEBUILDER_ASSETS";
/// Programs that a control plane needs at least.
const NEEDED: [&str; 3] = ["kube-apiserver", "etcd", "kubectl"];

/// The first minor version with current admission: match conditions are generally available.
const CURRENT: u32 = 30;

/// The program with the controllers.
pub(super) const CONTROLLERS: &str = "kube-controller-manager";

/// Programs that are needed besides to run Pods for real.
pub(super) const NODE: [&str; 2] = ["kube-scheduler", "kubelet"];

/// A folder with Kubernetes' binaries.
#[derive(Debug, Clone)]
pub struct Assets {
    folder: PathBuf,
}

impl Assets {
    /// Finds a folder with an API server; the error says what to set.
    pub fn find() -> Result<Self> {
        Self::find_with(&[])
    }

    /// Finds a folder with all that a cluster consists of.
    pub fn find_all() -> Result<Self> {
        Self::find_with(&[CONTROLLERS, NODE[0], NODE[1]])
    }

    /// Finds a folder with an API server and these programs: the given folder, or one that was
    /// built here.
    pub(super) fn find_with(programs: &[&str]) -> Result<Self> {
        let needed: Vec<_> = NEEDED.iter().chain(programs).copied().collect();
        folders("kube-")?
            .filter(|it| needed.iter().all(|program| it.join(program).exists()))
            .map(|folder| Self { folder })
            .find(|it| !it.crashes())
            .ok_or_else(|| {
                Error::Unusable(format!(
                    "needs {VARIABLE}, a folder with {} that were built for each other",
                    needed.join(", ")
                ))
            })
    }

    /// Finds a folder with an API server of a current version: the given one, else one that was built here and serves
    /// only what admission is about (see `cargo xtask test`).
    pub fn find_current() -> Result<Self> {
        folders("admission-")?
            .filter(|it| NEEDED.iter().all(|program| it.join(program).exists()))
            .map(|folder| Self { folder })
            .find(|it| it.minor_version().is_ok_and(|it| it >= CURRENT))
            .ok_or_else(|| {
                Error::Unusable(format!(
                    "needs {VARIABLE}, a folder with {} of Kubernetes 1.{CURRENT} or later",
                    NEEDED.join(", ")
                ))
            })
    }

    /// Whether the API server was built by a Go version whose maps its JSON library does not know:
    /// up to Kubernetes 1.32 the library reads maps by the layout that they had up to Go 1.23. Such
    /// a build crashes at the first custom resource and at the first patch of a webhook.
    fn crashes(&self) -> bool {
        let kubernetes = self.minor_version().unwrap_or(u32::MAX);
        let go = fs::read(self.program("kube-apiserver"))
            .ok()
            .and_then(|it| go_minor_version(&it));
        kubernetes < 33 && go.is_some_and(|it| it > 23)
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The path of a program.
    pub fn program(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The minor version of Kubernetes: 20 for v1.20.2.
    pub fn minor_version(&self) -> Result<u32> {
        let mut command = Command::new(self.program("kube-apiserver"));
        command.arg("--version");
        let printed = run(command)?;
        let printed = String::from_utf8_lossy(&printed.stdout);
        let minor = printed.trim().strip_prefix("Kubernetes v1.");
        minor
            .and_then(|it| it.split('.').next()?.parse().ok())
            .ok_or_else(|| {
                Error::Unusable(format!(
                    "kube-apiserver --version printed {:?}",
                    printed.trim()
                ))
            })
    }
}

/// The minor version of the Go that built a program, from its build information: 23 for go1.23.9.
///
/// Go's package `debug/buildinfo` describes the format: a magic text, and from byte 32 on a length
/// and the version.
fn go_minor_version(program: &[u8]) -> Option<u32> {
    const MAGIC: &[u8] = b"\xff Go buildinf:";
    let at = program.windows(MAGIC.len()).position(|it| it == MAGIC)?;
    let length = usize::from(*program.get(at + 32)?);
    let version = str::from_utf8(program.get(at + 33..at + 33 + length)?).ok()?;
    version
        .strip_prefix("go1.")?
        .split('.')
        .next()?
        .parse()
        .ok()
}

/// The given folder, then those of the cache that begin with `prefix`, the last one first.
fn folders(prefix: &str) -> Result<impl Iterator<Item = PathBuf>> {
    let given = env::var_os(VARIABLE).map(PathBuf::from);
    if let Some(folder) = &given {
        let missing = NEEDED.iter().find(|it| !folder.join(it).exists());
        if let Some(missing) = missing {
            return Err(Error::Unusable(format!(
                "{VARIABLE} is {}, where there is no {missing}",
                folder.display()
            )));
        }
    }
    let is_of_prefix = |folder: &PathBuf| {
        let name = folder.file_name();
        name.is_some_and(|it| it.as_encoded_bytes().starts_with(prefix.as_bytes()))
    };
    let mut cached: Vec<_> = cache()
        .and_then(|it| it.read_dir().ok())
        .into_iter()
        .flatten()
        .flatten()
        .map(|it| it.path())
        .filter(is_of_prefix)
        .collect();
    cached.sort();
    Ok(given.into_iter().chain(cached.into_iter().rev()))
}

fn cache() -> Option<PathBuf> {
    let base = env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".cache")))?;
    Some(base.join("imageswap"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_go_of_a_program_is_known() {
        let program = |version: &str| {
            let mut bytes = b"before\xff Go buildinf:".to_vec();
            bytes.resize(6 + 32, 0);
            bytes.push(u8::try_from(version.len()).unwrap());
            bytes.extend_from_slice(version.as_bytes());
            bytes
        };
        assert_eq!(go_minor_version(&program("go1.23.9")), Some(23));
        assert_eq!(go_minor_version(&program("go1.26")), Some(26));
        assert_eq!(go_minor_version(&program("devel")), None);
        assert_eq!(go_minor_version(b"\xff Go buildinf:"), None);
    }
}
