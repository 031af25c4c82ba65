//! The part of an OCI runtime configuration that says whose container it is.

use std::collections::BTreeMap;

use serde::Deserialize;

/// A `config.json` of the OCI runtime specification, or what containerd keeps
/// of one in its records; everything else in it is skipped.
///
/// `null` stands for "absent" in what Go writes, hence the options.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Spec {
    annotations: Option<BTreeMap<String, String>>,
    linux: Option<Linux>,
}

#[derive(Debug, Default, Deserialize)]
struct Linux {
    #[serde(rename = "cgroupsPath")]
    cgroups_path: Option<String>,
}

impl Spec {
    /// `linux.cgroupsPath`, unless empty, and the annotations.
    pub(super) fn into_parts(self) -> (Option<String>, BTreeMap<String, String>) {
        let path = self
            .linux
            .and_then(|linux| linux.cgroups_path)
            .filter(|path| !path.is_empty());
        (path, self.annotations.unwrap_or_default())
    }
}
