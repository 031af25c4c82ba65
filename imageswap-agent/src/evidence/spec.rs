//! The parts of an OCI runtime configuration that identify its container.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;

/// A `config.json` of the OCI runtime specification, or containerd's record of one; all other
/// fields are skipped.
///
/// Go writes `null` for absent fields, hence the options.
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
    /// `root.path` as written.
    pub(super) fn root_path(&self) -> Option<PathBuf> {
        self.root.as_ref()?.path.clone()
    }

    /// The annotations.
    pub(super) fn into_annotations(self) -> BTreeMap<String, String> {
        self.annotations.unwrap_or_default()
    }
}
