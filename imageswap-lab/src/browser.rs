//! A headless Chromium without a network, to see pages as people do.

use std::path::Path;
use std::process::{Command, Output};

use crate::error::{Error, Result};
use crate::needs::{BROWSER, are_installed_for, is_root};
use crate::process::run;

/// A page opens in a second; a busy machine is slow.
const PATIENCE_SECONDS: &str = "180";

/// What people prefer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ColourScheme {
    /// Dark text on light ground.
    Light,
    /// Light text on dark ground.
    Dark,
}

/// An installed Chromium; each call starts it anew.
#[derive(Debug, Clone, Copy)]
pub struct Browser;

impl Browser {
    /// The browser, or `None` after printing that the test is skipped because it is not installed.
    ///
    /// # Panics
    ///
    /// If skipping is a failure (see [`skip`](crate::skip)).
    pub fn for_test(test: &str) -> Option<Self> {
        are_installed_for(test, &BROWSER).then_some(Self)
    }

    /// The document of a page, as HTML, after it was loaded.
    pub fn document(self, page: &Path) -> Result<String> {
        let output = Self::open(page, ColourScheme::Light, &["--dump-dom".to_owned()])?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Writes a picture of a page as PNG, in pixels.
    pub fn picture(
        self,
        page: &Path,
        scheme: ColourScheme,
        [width, height]: [u32; 2],
        to: &Path,
    ) -> Result<()> {
        let flags = [
            format!("--screenshot={}", to.display()),
            format!("--window-size={width},{height}"),
            "--hide-scrollbars".to_owned(),
        ];
        Self::open(page, scheme, &flags).map(drop)
    }

    fn open(page: &Path, scheme: ColourScheme, flags: &[String]) -> Result<Output> {
        let profile = tempfile::tempdir().map_err(Error::io("a folder for a profile"))?;
        let mut command = Command::new("timeout");
        command.arg(PATIENCE_SECONDS);
        if is_root() {
            // Whatever a page or the browser asks for, nobody answers.
            command.args(["unshare", "--net"]);
        }
        let preferred = match scheme {
            ColourScheme::Dark => 0,
            ColourScheme::Light => 1,
        };
        command
            .arg(BROWSER[0].program)
            .args([
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-quic",
                "--no-first-run",
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
            ])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg(format!("--blink-settings=preferredColorScheme={preferred}"))
            .args(flags)
            .arg(format!("file://{}", page.display()));
        run(command)
    }
}
