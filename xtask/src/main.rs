//! `cargo xtask`: builds, tests and demonstrates ImageSwap.

mod bench;
mod builder;
mod cli;
mod count;
mod demo;
mod deploy;
mod e2e;
mod fuzz;
mod helm;
mod image;
mod initramfs;
mod isolation;
mod kubernetes;
mod manifests;
mod matrix;
mod process;
mod programs;
mod release;
mod site;
mod soak;
mod test;
mod toolchain;
mod ui;
mod vm;

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;

use crate::cli::{Cli, Task};
use crate::process::Workspace;

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
        Task::Bench(options) => bench::run(&workspace, options),
        Task::Build(options) => builder::run(&workspace, *options),
        Task::Test(options) => Ok(test::run(&workspace, *options)),
        Task::Demo(options) => demo::run(&workspace, *options),
        Task::Image(options) => image::run(&workspace, options),
        Task::Deploy(options) => deploy::run(&workspace, options),
        Task::Release(options) => release::run(&workspace, options),
        Task::E2e(options) => e2e::run(&workspace, options),
        Task::Soak(options) => soak::run(&workspace, options),
        Task::Manifests(options) => manifests::run(&workspace, *options),
        Task::Matrix(options) => matrix::run(&workspace, options),
        Task::Fuzz(options) => fuzz::run(&workspace, options),
    }
}
