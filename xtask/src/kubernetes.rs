//! Kubernetes for tests: found, or put together from Debian's source.

use std::process::Command;

use anyhow::{Context, Result, bail};
use imageswap_lab::{Assets, is_root};

use crate::process::{find, run};
use crate::ui;

/// Puts the binaries into the user's cache folder, where the lab looks for them.
const SCRIPT: &str = include_str!("kubernetes.sh");

/// Finds the binaries, or builds them as root on Debian. Otherwise the error says what is missing.
pub(crate) fn find_or_build() -> Result<()> {
    let Err(missing) = Assets::find_all() else {
        return Ok(());
    };
    if !is_root() || find("apt-get").is_none() {
        bail!("{missing}");
    }
    ui::step(format_args!(
        "{missing}; building Kubernetes, once (7 minutes)"
    ));
    run(Command::new("bash").args(["-c", SCRIPT, "kubernetes"])).context(
        "Kubernetes could not be built; KUBEBUILDER_ASSETS can name a folder with its programs",
    )?;
    Assets::find_all().context("the Kubernetes that was built")?;
    Ok(())
}
