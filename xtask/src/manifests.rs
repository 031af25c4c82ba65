//! `cargo xtask manifests`: generates files of `deploy/` and `docs/` from the code and from the
//! chart.

mod chart;
mod install;
mod metrics;
mod object;

use std::fs;
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use imageswap_policy::document;

use crate::helm;
use crate::process::Workspace;
use crate::ui;
use chart::Chart;

const HEAD: &str = "# Generated from the code by `cargo xtask manifests`; do not edit.\n";
/// The resource definition: where people apply it from, and where Helm does.
const DEFINITION: [&str; 2] = [
    "deploy/crds/imageswappolicies.yaml",
    "deploy/charts/imageswap/crds/imageswappolicies.yaml",
];

/// What to do.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct Options {
    /// Write nothing; exit with code 1 if a file differs from what would be generated
    #[arg(long)]
    check: bool,
}

/// A generated file: its path in the workspace, and its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Generated {
    pub(crate) path: String,
    pub(crate) text: String,
}

/// Writes or checks every generated file.
pub(crate) fn run(workspace: &Workspace, options: Options) -> Result<ExitCode> {
    let mut stale = Vec::new();
    // The chart includes a copy of the resource, so this is written before the chart is rendered.
    settle(workspace, &from_code()?, options.check, &mut stale)?;
    versions(workspace)?;
    let chart = Chart::new(workspace, helm::helm()?);
    let files = install::generate(&chart)?;
    settle(workspace, &files, options.check, &mut stale)?;
    for path in &stale {
        ui::bad(format_args!(
            "{path} is not up to date: cargo xtask manifests"
        ));
    }
    Ok(ExitCode::from(u8::from(!stale.is_empty())))
}

/// The text of `install.yaml` for images in a registry.
pub(crate) fn install(workspace: &Workspace, registry: &str) -> Result<String> {
    let chart = Chart::new(workspace, helm::helm()?);
    install::text(&chart, registry)
}

/// Writes files that differ, or collects their names.
fn settle(
    workspace: &Workspace,
    files: &[Generated],
    check: bool,
    stale: &mut Vec<String>,
) -> Result<()> {
    for Generated { path, text } in files {
        if is_current(workspace, path, text) {
            ui::good(path);
        } else if check {
            stale.push(path.clone());
        } else {
            let file = workspace.root.join(path);
            if let Some(folder) = file.parent() {
                fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
            }
            fs::write(&file, text).with_context(|| path.clone())?;
            ui::good(format_args!("{path} written"));
        }
    }
    Ok(())
}

fn is_current(workspace: &Workspace, path: &str, text: &str) -> bool {
    fs::read_to_string(workspace.root.join(path)).is_ok_and(|it| it == *text)
}

/// Files that need only the code.
fn from_code() -> Result<Vec<Generated>> {
    let definition = format!("{HEAD}{}", serde_saphyr::to_string(&document::crd())?);
    let files = DEFINITION.map(|path| Generated {
        path: path.to_owned(),
        text: definition.clone(),
    });
    Ok(files.into_iter().chain(metrics::generate()?).collect())
}

/// Checks that the chart has the programs' version, because they are released together.
pub(crate) fn versions(workspace: &Workspace) -> Result<()> {
    const CHART: &str = "deploy/charts/imageswap/Chart.yaml";
    let text = fs::read_to_string(workspace.root.join(CHART)).context(CHART)?;
    let chart: serde_json::Value = serde_saphyr::from_str(&text).context(CHART)?;
    let workspace = env!("CARGO_PKG_VERSION");
    for key in ["version", "appVersion"] {
        let said = chart[key].as_str().unwrap_or_default();
        ensure!(
            said == workspace,
            "{CHART}: {key} is {said:?}, the workspace's version is {workspace:?}"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The chart; skips the test if Helm is not available.
    pub(super) fn chart(test: &str) -> Option<Chart> {
        let helm = helm::helm();
        if let Err(error) = &helm {
            imageswap_lab::skip(test, &format!("{error:#}"));
        }
        Some(Chart::new(&Workspace::find().unwrap(), helm.ok()?))
    }

    fn assert_current(files: &[Generated]) {
        let workspace = Workspace::find().unwrap();
        assert!(!files.is_empty());
        for Generated { path, text } in files {
            assert!(
                is_current(&workspace, path, text),
                "{path}: cargo xtask manifests"
            );
        }
    }

    #[test]
    fn files_from_the_code_are_up_to_date() {
        assert_current(&from_code().unwrap());
    }

    #[test]
    fn files_from_the_chart_are_up_to_date() {
        if let Some(chart) = chart("files_from_the_chart_are_up_to_date") {
            assert_current(&install::generate(&chart).unwrap());
        }
    }

    #[test]
    fn the_chart_has_the_workspaces_version() {
        versions(&Workspace::find().unwrap()).unwrap();
    }

    #[test]
    fn a_file_that_differs_is_written_or_reported() {
        let root = tempfile::tempdir().unwrap();
        let workspace = Workspace {
            root: root.path().to_owned(),
            target: root.path().join("target"),
        };
        let path = "deploy/a/b.yaml";
        let mut stale = Vec::new();
        let changed = [Generated {
            path: path.to_owned(),
            text: "new".to_owned(),
        }];
        settle(&workspace, &changed, true, &mut stale).unwrap();
        assert_eq!(stale, [path]);
        settle(&workspace, &changed, false, &mut Vec::new()).unwrap();
        assert!(is_current(&workspace, path, "new"));
    }
}
