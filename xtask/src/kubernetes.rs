//! Kubernetes for tests: found, or put together from Debian's packages.

use std::fmt::Display;
use std::fs;
use std::process::Command;

use anyhow::{Context, Result, bail};
use imageswap_lab::{Assets, is_root};

use crate::helm;
use crate::process::{cache, find, run};
use crate::ui;

/// Puts the binaries of a whole cluster into the user's cache folder, where the lab looks for them.
const SERVER: &str = include_str!("kubernetes/server.sh");
/// Builds [`PROGRAM`], an API server of a current version, into the user's cache folder.
const ADMISSION: &str = include_str!("kubernetes/admission.sh");
const PROGRAM: &str = include_str!("kubernetes/admission.go");
/// The part of it that evaluates admission policies.
const EVALUATION: &str = include_str!("kubernetes/evaluation.go");

/// Finds the binaries of a whole cluster, or builds them: as root, on Debian. The error says what is missing otherwise.
pub(crate) fn find_or_build() -> Result<()> {
    let Err(missing) = Assets::find_all() else {
        return Ok(());
    };
    can_build(&missing)?;
    ui::step(format_args!(
        "{missing}; building Kubernetes, once (7 minutes)"
    ));
    run(Command::new("bash").args(["-c", SERVER, "kubernetes"])).context(
        "Kubernetes could not be built; KUBEBUILDER_ASSETS can name a folder with its programs",
    )?;
    Assets::find_all().context("the Kubernetes that was built")?;
    Ok(())
}

/// Finds an API server of a current version, or builds one that has its admission, under the same conditions.
///
/// One that was built from another [`PROGRAM`] is built again.
pub(crate) fn find_or_build_current() -> Result<()> {
    let missing = match Assets::find_current() {
        Err(missing) => missing.to_string(),
        Ok(found) => {
            let differs = |(name, text): (&str, &str)| {
                let built = fs::read_to_string(found.folder().join(name)).unwrap_or_default();
                built != text
            };
            let parts = [("admission.go", PROGRAM), ("evaluation.go", EVALUATION)];
            // Only a folder that was built here has the text.
            if !found.folder().join("admission.go").exists() || !parts.into_iter().any(differs) {
                return Ok(());
            }
            "the API server for admission is out of date".to_owned()
        }
    };
    can_build(&missing)?;
    ui::step(format_args!(
        "{missing}; building one from Kubernetes' libraries, once (4 minutes)"
    ));
    let folder = cache("")?;
    let kubectl = helm::kubectl()?;
    run(Command::new("bash")
        .args(["-c", ADMISSION, "admission"])
        .args([folder, kubectl])
        .env("PROGRAM", PROGRAM)
        .env("EVALUATION", EVALUATION))
    .context("it could not be built; KUBEBUILDER_ASSETS can name a folder with a current one")?;
    Assets::find_current().context("the API server that was built")?;
    Ok(())
}

fn can_build(missing: impl Display) -> Result<()> {
    if !is_root() || find("apt-get").is_none() {
        bail!("{missing}");
    }
    Ok(())
}
