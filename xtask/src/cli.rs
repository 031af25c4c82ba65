//! The command line.

use clap::{Parser, Subcommand};

use crate::{
    bench, builder, demo, deploy, e2e, fuzz, image, manifests, matrix, release, soak, test,
};

/// Builds, tests and demonstrates ImageSwap; finds or installs the tools it needs
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) task: Task,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Task {
    /// Measure, and compare with the project's own limits
    Bench(bench::Options),
    /// Build the probes, and the programs for release
    Build(builder::Options),
    /// Run every test that this machine can run
    Test(test::Options),
    /// Run the agent's tests with the runtimes and kernels of other Debian releases
    Matrix(matrix::Options),
    /// Show the main job on this machine: webhook, agent, a container that drifts
    Demo(demo::Options),
    /// Build container images, static and from nothing, as OCI archives
    Image(image::Options),
    /// Install or upgrade ImageSwap in a cluster: images, chart, rollout, a smoke test
    Deploy(deploy::Options),
    /// Build everything that is published, into one folder
    Release(release::Options),
    /// Write the files of deploy/ and docs/ that are generated from code and chart
    Manifests(manifests::Options),
    /// Load a webhook in a real cluster while everything around it changes
    Soak(soak::Options),
    /// Try the webhook in a real cluster, from installation to denials
    E2e(e2e::Options),
    /// Fuzz the readers of texts that others write
    Fuzz(fuzz::Options),
}
