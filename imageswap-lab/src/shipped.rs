//! The objects that users apply.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::error::{Error, Result};

const INSTALL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/install.yaml");

/// What the services need before their Pods: namespaces, accounts, rights, and the ConfigMap that the webhook writes.
pub(crate) const RIGHTS: [&str; 7] = [
    "Namespace",
    "ServiceAccount",
    "Role",
    "RoleBinding",
    "ClusterRole",
    "ClusterRoleBinding",
    "ConfigMap",
];

/// The objects of these kinds in `deploy/install.yaml`, in its order.
///
/// # Errors
/// The file cannot be read, or has no object of one of the kinds.
pub fn shipped(kinds: &[&str]) -> Result<Vec<Value>> {
    let objects = objects(Path::new(INSTALL))?;
    if let Some(missing) = kinds
        .iter()
        .find(|kind| objects.iter().all(|it| it["kind"] != **kind))
    {
        return Err(Error::Unusable(format!("{INSTALL} has no {missing}")));
    }
    let is_chosen = |it: &Value| kinds.iter().any(|kind| it["kind"] == *kind);
    Ok(objects.into_iter().filter(is_chosen).collect())
}

/// The objects of a file of YAML documents.
pub(crate) fn objects(path: &Path) -> Result<Vec<Value>> {
    let shown = path.display().to_string();
    let text = fs::read_to_string(path).map_err(Error::io(shown.clone()))?;
    serde_saphyr::from_multiple(&text).map_err(|error| Error::Unusable(format!("{shown}: {error}")))
}
