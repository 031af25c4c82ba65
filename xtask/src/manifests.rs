//! `cargo xtask manifests`: what of `deploy/` is generated from the code.

use std::fs;
use std::process::ExitCode;

use anyhow::{Context, Result};
use imageswap_policy::document;

use crate::process::Workspace;
use crate::ui;

const HEAD: &str = "# Generated from the code by `cargo xtask manifests`; do not edit.\n";

/// What is to be done.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct Options {
    /// Write nothing; exit with code 1 where a file is not what the code makes of it
    #[arg(long)]
    check: bool,
}

/// Writes or checks every generated file.
pub(crate) fn run(workspace: &Workspace, options: Options) -> Result<ExitCode> {
    let mut stale = false;
    for (path, text) in generated()? {
        let file = workspace.root.join(path);
        if fs::read_to_string(&file).is_ok_and(|it| it == text) {
            ui::good(path);
        } else if options.check {
            stale = true;
            ui::bad(format_args!(
                "{path} is not up to date: cargo xtask manifests"
            ));
        } else {
            if let Some(folder) = file.parent() {
                fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
            }
            fs::write(&file, text).with_context(|| file.display().to_string())?;
            ui::good(format_args!("{path} written"));
        }
    }
    Ok(if stale {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

/// Files by their path in the workspace.
fn generated() -> Result<Vec<(&'static str, String)>> {
    let definition = serde_saphyr::to_string(&document::crd())?;
    Ok(vec![(
        "deploy/crds/imageswappolicies.yaml",
        format!("{HEAD}{definition}"),
    )])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn committed_files_are_up_to_date() {
        let workspace = Workspace::find().unwrap();
        for (path, text) in generated().unwrap() {
            let committed = fs::read_to_string(workspace.root.join(path)).unwrap();
            assert!(committed == text, "{path}: cargo xtask manifests");
        }
    }
}
