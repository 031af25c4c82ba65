//! Where the binaries of Kubernetes are.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::{Error, Result};
use crate::process::run;

/// Names a folder with kube-apiserver, etcd and kubectl, as for envtest.
const VARIABLE: &str = "KUBEBUILDER_ASSETS";
/// What a control plane needs at the least.
const NEEDED: [&str; 3] = ["kube-apiserver", "etcd", "kubectl"];

/// A folder with Kubernetes' binaries.
#[derive(Debug, Clone)]
pub struct Assets {
    folder: PathBuf,
}

impl Assets {
    /// Finds the folder; the error says what to set.
    pub fn find() -> Result<Self> {
        if let Some(folder) = env::var_os(VARIABLE) {
            let folder = PathBuf::from(folder);
            let missing: Vec<_> = NEEDED
                .iter()
                .filter(|it| !folder.join(it).exists())
                .collect();
            if missing.is_empty() {
                return Ok(Self { folder });
            }
            return Err(Error::Unusable(format!(
                "{VARIABLE} is {}, where there is no {}",
                folder.display(),
                missing[0]
            )));
        }
        let mut cached: Vec<_> = cache()
            .and_then(|it| it.read_dir().ok())
            .into_iter()
            .flatten()
            .flatten()
            .map(|it| it.path())
            .filter(|it| is_kube(it) && NEEDED.iter().all(|program| it.join(program).exists()))
            .collect();
        cached.sort();
        let folder = cached.pop().ok_or_else(|| {
            Error::Unusable(format!(
                "needs {VARIABLE}, a folder with {}",
                NEEDED.join(", ")
            ))
        })?;
        Ok(Self { folder })
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

fn is_kube(folder: &Path) -> bool {
    folder
        .file_name()
        .is_some_and(|it| it.as_encoded_bytes().starts_with(b"kube-"))
}

fn cache() -> Option<PathBuf> {
    let base = env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".cache")))?;
    Some(base.join("imageswap"))
}
