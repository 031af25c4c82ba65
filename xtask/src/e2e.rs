//! `cargo xtask e2e`: runs ImageSwap in a whole cluster, step by step.
//!
//! Without a context it starts a cluster on this machine: control plane, a node with a real
//! kubelet, a registry. A webhook under ImageSwap's names serves it, and ours takes over without a
//! gap. Then follow what users do, what reaches the node past admission, and alerts. With a context
//! it runs the users' steps in a cluster that `cargo xtask deploy` has installed to.

mod dashboard;
mod kubectl;
mod node;
mod steps;
mod story;
mod switch;
mod watched;

use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result};

use crate::builder::{self, Profile};
use crate::deploy::{self, Cluster};
use crate::image::What;
use crate::process::Workspace;
use crate::site::{self, NAMESPACE, Site};
use crate::ui::{self, Took};
use kubectl::Kubectl;
use story::Story;

/// Which cluster.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Options {
    /// Context of a cluster that `cargo xtask deploy` installed to; by default a cluster on this
    /// machine
    #[arg(long, value_name = "NAME")]
    context: Option<String>,
    /// Build the images as shipped, which takes some minutes more
    #[arg(long, conflicts_with = "context")]
    shipped: bool,
}

/// Runs the steps; exit code 1 if one fails.
pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<ExitCode> {
    if let Some(context) = &options.context {
        return elsewhere(workspace, context);
    }
    let what = What {
        quick: !options.shipped,
        ..What::default()
    };
    here(workspace, &what)
}

/// Runs all steps on this machine.
fn here(workspace: &Workspace, what: &What) -> Result<ExitCode> {
    if let Some(code) = site::isolate(workspace, what)? {
        return Ok(code);
    }
    let start = Instant::now();
    let programs = builder::programs(workspace, Profile::Dev)?;
    ui::heading("A cluster on this machine");
    let site = Site::start("e2e")?;
    let told = tell(workspace, what, &site, &programs);
    if told.is_err() {
        site.show_logs();
    }
    told?;
    println!("\n  done in {}", Took(start.elapsed()));
    Ok(ExitCode::SUCCESS)
}

fn tell(workspace: &Workspace, what: &What, site: &Site, programs: &Path) -> Result<()> {
    let cluster = site.cluster()?;
    let kubectl = Kubectl(cluster.clone());
    let story = Story::new(&kubectl, workspace);
    let gap = switch::begin(&story, site, programs)?;
    let values = workspace
        .root
        .join("deploy/charts/imageswap/values-imageswap.yaml");
    let values = vec![values, site.values()?];
    // Until one of our replicas answers, a configuration with `Fail` would refuse what ImageSwap
    // swaps.
    let lenient = ["webhook.failurePolicy=Ignore"];
    let options = site.deployment(values.clone(), &lenient, Some(what.clone()));
    let ready = deploy::deploy(workspace, &options, &cluster)?;
    println!("\n  from helm to both ready: {}", Took(ready));
    let options = site.deployment(values, &[], None);
    deploy::deploy(workspace, &options, &cluster).context("failurePolicy Fail")?;
    switch::end(&story, gap)?;

    let options = site.deployment(vec![site.values()?], &[], None);
    deploy::deploy(workspace, &options, &cluster).context("upgrading to the chart's own values")?;
    steps::tell(&story)?;
    node::tell(&story, site, programs)?;
    watched::tell(&story, site)
}

fn elsewhere(workspace: &Workspace, context: &str) -> Result<ExitCode> {
    let cluster = Cluster::find(context, None)?;
    let kubectl = Kubectl(cluster.clone());
    let deployment = format!("get deployment imageswap-webhook -n {NAMESPACE}");
    kubectl.run(&deployment).with_context(|| {
        format!("ImageSwap is not there yet: cargo xtask deploy --context {context}")
    })?;
    let told = steps::tell(&Story::new(&kubectl, workspace));
    steps::tidy(&kubectl);
    told?;
    println!("\n  what was tried with it is gone");
    Ok(ExitCode::SUCCESS)
}
