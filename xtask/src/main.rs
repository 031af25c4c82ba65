//! `cargo xtask`: builds, tests and demonstrates ImageSwap.

mod builder;
mod demo;
mod fuzz;
mod initramfs;
mod process;
mod test;
mod toolchain;
mod ui;
mod vm;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::process::Workspace;

/// Builds, tests and demonstrates ImageSwap; installs or names what that needs
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Build the probes, and the programs for release
    Build(builder::Options),
    /// Run every test that this machine can run
    Test(test::Options),
    /// Show the main job on this machine: webhook, agent, a container that drifts
    Demo(demo::Options),
    /// Look for texts that break what must hold of any text
    Fuzz(fuzz::Options),
}

fn main() -> ExitCode {
    match run(&Cli::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli) -> Result<ExitCode> {
    let workspace = Workspace::find()?;
    match &cli.task {
        Task::Build(options) => builder::run(&workspace, *options),
        Task::Test(options) => Ok(test::run(&workspace, *options)),
        Task::Demo(options) => demo::run(&workspace, *options),
        Task::Fuzz(options) => fuzz::run(&workspace, options),
    }
}
