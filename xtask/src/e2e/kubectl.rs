//! kubectl, called as a user would.

use anyhow::{Context, Result, bail};

use crate::deploy::Cluster;

/// kubectl, with what it needs to reach the cluster.
pub(super) struct Kubectl(pub(super) Cluster);

impl Kubectl {
    /// Runs a line of arguments with a space between two, and returns the standard output; the
    /// error carries the standard error.
    pub(super) fn run(&self, line: &str) -> Result<String> {
        self.with(line, "")
    }

    /// The same with `input` on its standard input.
    pub(super) fn with(&self, line: &str, input: &str) -> Result<String> {
        let args: Vec<_> = line.split(' ').collect();
        let output = self.0.kubectl_with(&args, input)?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let error = String::from_utf8_lossy(&output.stderr);
        bail!("kubectl {line}: {}", error.trim())
    }

    /// The message with which the cluster refuses; an error if it accepts.
    pub(super) fn refused(&self, line: &str, input: &str) -> Result<String> {
        match self.with(line, input) {
            Ok(_) => bail!("kubectl {line} was not refused"),
            Err(error) => Ok(error.to_string()),
        }
    }

    /// The minor version of the cluster's Kubernetes.
    pub(super) fn minor_version(&self) -> Result<u32> {
        let version = self.0.version()?;
        let minor = version.split('.').nth(1).and_then(|it| it.parse().ok());
        minor.with_context(|| format!("the cluster's version {version:?}"))
    }
}
