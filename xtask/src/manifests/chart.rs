//! The chart as Helm renders it.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use super::object::{self, Object};
use crate::process::{Workspace, output};

/// The version that plain manifests are rendered for. An older API server ignores what it does not
/// know or refuses it by name; the chart asks the cluster instead.
pub(super) const KUBERNETES: &str = "1.36.0";
/// The namespace of everything but the agent.
const NAMESPACE: &str = "imageswap-system";
/// Resources of an operator that most clusters with such an operator have.
const API_VERSIONS: [&str; 2] = ["monitoring.coreos.com/v1", "cert-manager.io/v1"];

/// The chart of this workspace.
pub(super) struct Chart {
    helm: PathBuf,
    pub(super) folder: PathBuf,
}

/// Values in addition to the chart's defaults.
#[derive(Debug, Clone, Default)]
pub(super) struct Values {
    /// Files of the chart.
    pub(super) files: &'static [&'static str],
    /// Single values, as `--set` takes them.
    pub(super) set: Vec<String>,
}

impl Chart {
    pub(super) fn new(workspace: &Workspace, helm: PathBuf) -> Self {
        Self {
            helm,
            folder: workspace.root.join("deploy/charts/imageswap"),
        }
    }

    /// The objects of an installation with these values, without Helm's own labels.
    pub(super) fn render(&self, values: &Values) -> Result<Vec<Object>> {
        let text = self.text(values)?;
        let mut objects = object::parse(&text).context("what helm template printed")?;
        objects.iter_mut().for_each(Object::forget_helm);
        object::sort(&mut objects);
        Ok(objects)
    }

    /// As Helm prints it.
    pub(super) fn text(&self, values: &Values) -> Result<String> {
        let mut command = Command::new(&self.helm);
        command
            .args(["template", "imageswap"])
            .arg(&self.folder)
            .args(["--namespace", NAMESPACE, "--include-crds", "--no-hooks"])
            .args(["--kube-version", KUBERNETES])
            // The user's kubeconfig must not affect the result.
            .env("KUBECONFIG", "/dev/null");
        for version in API_VERSIONS {
            command.args(["--api-versions", version]);
        }
        for file in values.files {
            command.arg("--values").arg(self.folder.join(file));
        }
        // Helm does not create a namespace with labels; a plain apply needs the manifest.
        let namespace = "namespace.create=true".to_owned();
        for value in std::iter::once(&namespace).chain(&values.set) {
            command.args(["--set", value]);
        }
        output(&mut command)
    }
}

impl Values {
    pub(super) fn set(set: &[&str]) -> Self {
        Self {
            files: &[],
            set: set.iter().map(|it| (*it).to_owned()).collect(),
        }
    }
}
