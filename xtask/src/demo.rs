//! placeholder
use crate::process::Workspace;
use anyhow::Result;
use std::process::ExitCode;
#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct Options {}
pub(crate) fn run(_: &Workspace, _: Options) -> Result<ExitCode> {
    Ok(ExitCode::SUCCESS)
}
