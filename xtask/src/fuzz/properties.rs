//! The property tests, with other seeds than the test run's.

use std::process::{ExitCode, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};

use crate::process::{Workspace, cargo};
use crate::ui;

/// Sets the seed; `.cargo/config.toml` sets the one of the tests.
const SEED: &str = "PROPTEST_RNG_SEED";
/// The unit tests of the crates that have properties.
const TESTS: [&str; 11] = [
    "test",
    "--quiet",
    "--lib",
    "--bins",
    "--package",
    "imageswap-policy",
    "--package",
    "imageswap-agent",
    "--package",
    "imageswap-webhook",
    "--package=imageswap-cli",
];

/// Runs the tests with one seed after another until the time is over or a test fails.
pub(super) fn run(workspace: &Workspace, time: Duration) -> Result<ExitCode> {
    let start = Instant::now();
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let first = since.context("the clock is before 1970")?.as_secs();
    for seed in first.. {
        ui::step(format_args!("property tests with {SEED}={seed}"));
        let status = cargo()
            .current_dir(&workspace.root)
            .args(TESTS)
            .env(SEED, seed.to_string())
            .stdin(Stdio::null())
            .status()
            .context("cannot run cargo")?;
        if !status.success() {
            let again = TESTS.join(" ");
            ui::bad(format_args!(
                "a test failed\n    again: {SEED}={seed} cargo {again}"
            ));
            return Ok(ExitCode::FAILURE);
        }
        if start.elapsed() >= time {
            break;
        }
    }
    ui::good("every property holds");
    Ok(ExitCode::SUCCESS)
}
