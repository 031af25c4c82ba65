//! Steps: what is done, whether it succeeded, and how long it took.

use std::fs;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::Kubectl;
use crate::process::Workspace;
use crate::ui::{self, Took};

/// How long to wait for something that must happen.
pub(super) const PATIENCE: Duration = Duration::from_mins(2);

/// Context of the steps.
pub(super) struct Story<'a> {
    pub(super) kubectl: &'a Kubectl,
    workspace: &'a Workspace,
}

impl<'a> Story<'a> {
    pub(super) fn new(kubectl: &'a Kubectl, workspace: &'a Workspace) -> Self {
        Self { kubectl, workspace }
    }

    /// A file of the workspace.
    pub(super) fn path(&self, name: &str) -> std::path::PathBuf {
        self.workspace.root.join(name)
    }
}

impl Story<'_> {
    /// Runs a step and prints its time; the error names the step.
    pub(super) fn step(&self, what: &str, happens: impl FnOnce(&Self) -> Result<()>) -> Result<()> {
        let start = Instant::now();
        let came = happens(self);
        if came.is_err() {
            ui::bad(what);
        } else {
            ui::good(format_args!("{what} ({})", Took(start.elapsed())));
        }
        came.with_context(|| what.to_owned())
    }

    /// A step that the cluster refuses with a message that contains each of `says`.
    pub(super) fn refused(&self, what: &str, line: &str, input: &str, says: &[&str]) -> Result<()> {
        self.step(what, |it| {
            let message = it.kubectl.refused(line, input)?;
            for part in says {
                ensure!(message.contains(part), "expected {part:?} in: {message}");
            }
            Ok(())
        })
    }

    /// Applies a manifest of `deploy/`.
    pub(super) fn apply(&self, name: &str) -> Result<()> {
        let path = self
            .workspace
            .root
            .join("deploy")
            .join(format!("{name}.yaml"));
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        self.kubectl.with("apply -f -", &text)?;
        Ok(())
    }

    /// Creates a namespace and waits for its service account, which comes a moment later.
    pub(super) fn namespace(&self, name: &str) -> Result<()> {
        self.kubectl.run(&format!("create ns {name}"))?;
        self.until("its service account", |it| {
            Ok(it
                .kubectl
                .run(&format!("-n {name} get serviceaccount default"))
                .is_ok())
        })
    }

    /// Waits until the selected Pods exist and all have this image.
    pub(super) fn pods(&self, namespace: &str, selector: &str, image: &str) -> Result<()> {
        let mut last = String::new();
        let seen = self.until(&format!("Pods with {image}"), |it| {
            let path = "jsonpath={.items[*].spec.containers[0].image}";
            last = it
                .kubectl
                .run(&format!("-n {namespace} get pods -l {selector} -o {path}"))?;
            let mut images = last.split_whitespace().peekable();
            Ok(images.peek().is_some() && images.all(|it| it == image))
        });
        seen.with_context(|| format!("the images are: {last}"))
    }

    /// Waits for a condition that must become true.
    pub(super) fn until(
        &self,
        what: &str,
        mut holds: impl FnMut(&Self) -> Result<bool>,
    ) -> Result<()> {
        let start = Instant::now();
        while !holds(self)? {
            ensure!(start.elapsed() < PATIENCE, "never seen: {what}");
            sleep(Duration::from_millis(200));
        }
        Ok(())
    }
}
