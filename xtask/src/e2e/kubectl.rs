//! kubectl, called as a user would.

use anyhow::{Context, Result, bail};

use crate::deploy::Cluster;

/// kubectl, with what it needs to reach the cluster.
pub(super) struct Kubectl {
    cluster: Cluster,
}

impl Kubectl {
    pub(super) fn new(cluster: &Cluster) -> Self {
        Self {
            cluster: cluster.clone(),
        }
    }

    /// Runs kubectl and returns its standard output; the error carries its standard error.
    pub(super) fn run(&self, args: &[&str]) -> Result<String> {
        self.with(args, "")
    }

    /// The same with `input` on its standard input.
    pub(super) fn with(&self, args: &[&str], input: &str) -> Result<String> {
        let output = self.cluster.kubectl_with(args, input)?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        bail!(
            "kubectl {}: {}",
            args.join(" "),
            String::from_utf8_lossy(&output.stderr).trim()
        )
    }

    /// The message with which the cluster refuses; an error if it accepts.
    pub(super) fn refused(&self, args: &[&str], input: &str) -> Result<String> {
        match self.with(args, input) {
            Ok(_) => bail!("kubectl {} was not refused", args.join(" ")),
            Err(error) => Ok(error.to_string()),
        }
    }

    /// The minor version of the cluster's Kubernetes.
    pub(super) fn minor_version(&self) -> Result<u32> {
        let text = self.run(&["get", "--raw", "/version"])?;
        let version: serde_json::Value =
            serde_json::from_str(&text).context("the cluster's version")?;
        let minor = version["minor"].as_str().unwrap_or_default();
        minor
            .trim_end_matches('+')
            .parse()
            .with_context(|| format!("the cluster's minor version {minor:?}"))
    }
}
