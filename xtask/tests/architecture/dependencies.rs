//! Which package depends on which, from `cargo metadata`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// The packages of the build and what they depend on.
pub(crate) struct Graph {
    metadata: Value,
}

impl Graph {
    /// Asks cargo about the workspace at `root`.
    pub(crate) fn of(root: &Path) -> Self {
        let output = Command::new(env!("CARGO"))
            .current_dir(root)
            .args(["metadata", "--format-version", "1"])
            .output()
            .expect("cargo runs this test");
        let metadata = serde_json::from_slice(&output.stdout);
        Self {
            metadata: metadata
                .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr))),
        }
    }

    /// The names of the workspace's packages; their folders have the same names.
    pub(crate) fn members(&self) -> Vec<String> {
        self.packages()
            .filter(|package| package["source"].is_null())
            .map(name)
            .collect()
    }

    /// Packages of the workspace that have `dependency` outside their tests.
    pub(crate) fn that_depend_on(&self, dependency: &str) -> Vec<String> {
        self.dependents(dependency, Value::is_null)
    }

    /// Packages of the workspace that have `dependency`, even if only in their tests.
    pub(crate) fn that_depend_on_at_all(&self, dependency: &str) -> Vec<String> {
        self.dependents(dependency, |_| true)
    }

    /// Packages of the workspace with a binary that is built by default.
    pub(crate) fn programs(&self) -> BTreeSet<String> {
        let is_program = |target: &Value| {
            target["kind"][0] == "bin"
                && target["required-features"]
                    .as_array()
                    .is_none_or(Vec::is_empty)
        };
        self.packages()
            .filter(|package| package["source"].is_null())
            .filter(|package| list(&package["targets"]).any(is_program))
            .map(name)
            .collect()
    }

    /// All packages that `package` is built with.
    pub(crate) fn reached_from(&self, package: &str) -> BTreeSet<String> {
        let names: BTreeMap<_, _> = self
            .packages()
            .map(|package| (package["id"].as_str(), name(package)))
            .collect();
        let nodes: BTreeMap<_, _> = list(&self.metadata["resolve"]["nodes"])
            .map(|node| (node["id"].as_str(), node))
            .collect();
        let mut rest: Vec<_> = names
            .iter()
            .filter(|(_, name)| *name == package)
            .map(|(id, _)| *id)
            .collect();
        let mut reached = BTreeSet::new();
        while let Some(id) = rest.pop() {
            for dependency in nodes
                .get(&id)
                .into_iter()
                .flat_map(|node| list(&node["deps"]))
            {
                let built_in = list(&dependency["dep_kinds"]).any(|kind| kind["kind"].is_null());
                let id = dependency["pkg"].as_str();
                if built_in
                    && names
                        .get(&id)
                        .is_some_and(|name| reached.insert(name.clone()))
                {
                    rest.push(id);
                }
            }
        }
        reached
    }

    fn dependents(&self, dependency: &str, kind: fn(&Value) -> bool) -> Vec<String> {
        let has = |package: &&Value| {
            list(&package["dependencies"])
                .any(|known| known["name"] == dependency && kind(&known["kind"]))
        };
        self.packages()
            .filter(|package| package["source"].is_null())
            .filter(has)
            .map(name)
            .collect()
    }

    fn packages(&self) -> impl Iterator<Item = &Value> {
        list(&self.metadata["packages"])
    }
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn name(package: &Value) -> String {
    package["name"].as_str().unwrap_or_default().to_owned()
}
