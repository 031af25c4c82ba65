//! A cluster, reached with kubectl and Helm as users do.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context, Result, bail};
use imageswap_lab::output_with;
use serde_json::{Value, json};

use crate::helm;
use crate::process;

/// How to reach it.
#[derive(Debug, Clone)]
pub(crate) struct Cluster {
    kubectl: PathBuf,
    helm: PathBuf,
    context: String,
    kubeconfig: Option<PathBuf>,
}

impl Cluster {
    /// The cluster of a context; kubectl and Helm are found or fetched.
    pub(crate) fn find(context: &str, kubeconfig: Option<&Path>) -> Result<Self> {
        Ok(Self::of_programs(
            helm::kubectl()?,
            helm::helm()?,
            context,
            kubeconfig,
        ))
    }

    /// The same with these programs.
    pub(crate) fn of_programs(
        kubectl: PathBuf,
        helm: PathBuf,
        context: &str,
        kubeconfig: Option<&Path>,
    ) -> Self {
        Self {
            kubectl,
            helm,
            context: context.to_owned(),
            kubeconfig: kubeconfig.map(Path::to_owned),
        }
    }

    pub(crate) fn context(&self) -> &str {
        &self.context
    }

    /// A kubectl command that has not run yet.
    pub(crate) fn kubectl_command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.kubectl);
        command.args(["--context", &self.context]);
        if let Some(file) = &self.kubeconfig {
            command.arg("--kubeconfig").arg(file);
        }
        command.args(args);
        command
    }

    /// Returns kubectl's standard output; the error carries its standard error.
    pub(crate) fn kubectl(&self, args: &[&str]) -> Result<String> {
        process::output(&mut self.kubectl_command(args))
    }

    /// The same as JSON.
    pub(crate) fn json(&self, args: &[&str]) -> Result<Value> {
        let text = self.kubectl(&[args, &["--output", "json"]].concat())?;
        serde_json::from_str(&text).with_context(|| format!("kubectl {}", args.join(" ")))
    }

    /// Runs kubectl with `input` as its standard input, and returns its output whatever the exit
    /// code.
    pub(crate) fn kubectl_with(&self, args: &[&str], input: &str) -> Result<Output> {
        Ok(output_with(&mut self.kubectl_command(args), input)?)
    }

    /// Sends an object with kubectl. Returns standard output and standard error; if the API server
    /// refuses, the error carries its text.
    pub(crate) fn send(&self, args: &[&str], object: &Value) -> Result<Result<Answer, String>> {
        let args = [args, &["--filename", "-"]].concat();
        let output = self.kubectl_with(&args, &object.to_string())?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        Ok(if output.status.success() {
            Ok(Answer {
                stdout: text(&output.stdout),
                warnings: text(&output.stderr),
            })
        } else {
            Err(text(&output.stderr))
        })
    }

    /// Runs helm; the error carries its standard error.
    pub(crate) fn helm(&self, args: &[String]) -> Result<String> {
        let mut command = Command::new(&self.helm);
        command.args(self.helm_context()).args(args);
        process::output(&mut command)
    }

    fn helm_context(&self) -> Vec<String> {
        let mut args = vec!["--kube-context".to_owned(), self.context.clone()];
        if let Some(file) = &self.kubeconfig {
            args.extend(["--kubeconfig".to_owned(), file.display().to_string()]);
        }
        args
    }

    /// The API server's version.
    pub(crate) fn version(&self) -> Result<String> {
        let version: Value = serde_json::from_str(&self.kubectl(&["get", "--raw", "/version"])?)
            .context("the cluster's version")?;
        let version = version["gitVersion"].as_str();
        Ok(version.context("a version without gitVersion")?.to_owned())
    }

    /// The architectures of its Linux nodes.
    pub(crate) fn architectures(&self) -> Result<BTreeSet<String>> {
        let nodes = self.json(&["get", "nodes"])?;
        let nodes = nodes["items"].as_array().into_iter().flatten();
        Ok(nodes
            .map(|it| &it["status"]["nodeInfo"])
            .filter(|it| it["operatingSystem"] == "linux")
            .filter_map(|it| it["architecture"].as_str().map(str::to_owned))
            .collect())
    }

    /// Creates a namespace for the webhook unless it exists; an existing one keeps its own labels.
    pub(crate) fn make_namespace(&self, name: &str) -> Result<()> {
        let existing = [
            "get",
            "namespace",
            name,
            "--ignore-not-found",
            "--output",
            "name",
        ];
        if !self.kubectl(&existing)?.trim().is_empty() {
            return Ok(());
        }
        let namespace = json!({
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": name, "labels": {
                // Set by the API server from 1.21 on; the webhook configurations select namespaces
                // by it.
                "kubernetes.io/metadata.name": name,
                "pod-security.kubernetes.io/enforce": "restricted",
                "pod-security.kubernetes.io/audit": "restricted",
                "pod-security.kubernetes.io/warn": "restricted",
            }},
        });
        if let Err(refused) = self.send(&["create"], &namespace)? {
            bail!("cannot make the namespace {name}: {refused}");
        }
        Ok(())
    }
}

/// kubectl's output for an object that the API server accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) stdout: String,
    /// Warnings of admission webhooks.
    pub(crate) warnings: String,
}
