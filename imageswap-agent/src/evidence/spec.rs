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
    root: Option<Root>,
}

#[derive(Debug, Default, Deserialize)]
struct Root {
    path: Option<PathBuf>,
}

impl Spec {
    /// `root.path` as it is written.
    pub(super) fn root_path(&self) -> Option<PathBuf> {
        self.root.as_ref()?.path.clone()
    }

    /// The annotations.
    pub(super) fn into_annotations(self) -> BTreeMap<String, String> {
        self.annotations.unwrap_or_default()
    }
}
