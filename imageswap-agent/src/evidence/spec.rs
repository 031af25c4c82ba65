//! The part of an OCI runtime configuration that says whose container it is.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;

/// A `config.json` of the OCI runtime specification, or what containerd keeps
/// of one in its records; everything else in it is skipped.
///
/// `null` stands for "absent" in what Go writes, hence the options.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Spec {
    annotations: Option<BTreeMap<String, String>>,
    linux: Option<Linux>,
    root: Option<Root>,
}

#[derive(Debug, Default, Deserialize)]
struct Root {
    path: Option<PathBuf>,
}

#[derive(Debug, Default, Deserialize)]
struct Linux {
    #[serde(rename = "cgroupsPath")]
    cgroups_path: Option<String>,
}

impl Spec {
    /// `root.path` where it says by itself which folder that is: not below the bundle.
    pub(super) fn root(&self) -> Option<PathBuf> {
        let path = self.root.as_ref()?.path.clone()?;
        path.is_absolute().then_some(path)
    }

    /// `linux.cgroupsPath`, unless empty, and the annotations.
    pub(super) fn into_parts(self) -> (Option<String>, BTreeMap<String, String>) {
        let path = self
            .linux
            .and_then(|linux| linux.cgroups_path)
            .filter(|path| !path.is_empty());
        (path, self.annotations.unwrap_or_default())
    }
}
