//! Bills of materials: the crates that a program is built from, as CycloneDX 1.5.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use serde::Deserialize;
use serde_json::{Value, json};

use super::Commit;
use crate::process::{Workspace, cargo, output};

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    resolve: Resolve,
}

#[derive(Deserialize)]
struct Package {
    id: String,
    name: String,
    version: String,
    license: Option<String>,
    /// `None` for the workspace's own.
    source: Option<String>,
}

#[derive(Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Deserialize)]
struct Node {
    id: String,
    deps: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    pkg: String,
    dep_kinds: Vec<Kind>,
}

#[derive(Deserialize)]
struct Kind {
    /// `dev` or `build`; `None` for what is linked.
    kind: Option<String>,
}

/// The bill of `package`, as JSON; the same for the same commit.
pub(super) fn of(workspace: &Workspace, package: &str, commit: &Commit) -> Result<Vec<u8>> {
    let mut command = cargo();
    command
        .current_dir(&workspace.root)
        .args(["metadata", "--format-version", "1", "--locked"]);
    // For every platform: a crate that one platform leaves out does not matter to someone who looks
    // for a vulnerable one.
    let metadata = output(&mut command)?;
    let metadata: Metadata =
        serde_json::from_str(&metadata).context("what cargo metadata printed")?;
    let packages: BTreeMap<_, _> = metadata
        .packages
        .iter()
        .map(|it| (it.id.as_str(), it))
        .collect();
    let nodes: BTreeMap<_, _> = metadata
        .resolve
        .nodes
        .iter()
        .map(|it| (it.id.as_str(), it))
        .collect();
    let root = metadata
        .packages
        .iter()
        .find(|it| it.name == package && it.source.is_none())
        .with_context(|| format!("there is no package {package}"))?;
    let mut linked = BTreeSet::new();
    let mut left = vec![root.id.as_str()];
    while let Some(id) = left.pop() {
        if linked.insert(id) {
            let node = nodes
                .get(id)
                .with_context(|| format!("{id} is not resolved"))?;
            left.extend(
                node.deps
                    .iter()
                    .filter(|it| it.is_linked())
                    .map(|it| it.pkg.as_str()),
            );
        }
    }
    linked.remove(root.id.as_str());
    let mut components: Vec<_> = linked
        .iter()
        .filter_map(|id| Some(component("library", packages.get(id)?)))
        .collect();
    components.sort_by_key(|it| it["purl"].to_string());
    let bill = json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {
            "timestamp": commit.time(),
            "component": component("application", root),
            "properties": [{"name": "imageswap:commit", "value": commit.id}],
        },
        "components": components,
    });
    Ok(serde_json::to_vec_pretty(&bill)?)
}

impl Dependency {
    fn is_linked(&self) -> bool {
        self.dep_kinds.iter().any(|it| it.kind.is_none())
    }
}

fn component(kind: &str, package: &Package) -> Value {
    let purl = format!("pkg:cargo/{}@{}", package.name, package.version);
    let mut component = json!({
        "type": kind,
        "bom-ref": purl,
        "name": package.name,
        "version": package.version,
        "purl": purl,
    });
    if let Some(license) = &package.license {
        // Old manifests write a slash for `OR`.
        component["licenses"] = json!([{"expression": license.replace('/', " OR ")}]);
    }
    component
}
