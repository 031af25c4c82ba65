//! How a test reports that it did not run.

use std::env;
use std::fs::OpenOptions;
use std::io::Write;

/// Prints on standard error that `test` is skipped, and why.
///
/// Also appends the line to the file that `IMAGESWAP_SKIP_LOG` names, because `cargo test` hides
/// the output of passing tests and the count would be lost.
///
/// # Panics
///
/// With `IMAGESWAP_NO_SKIP=1`, which makes a skipped test a failure.
pub fn skip(test: &str, reason: &str) {
    let line = format!("SKIP: {test}: {reason}");
    assert!(
        env::var_os("IMAGESWAP_NO_SKIP").is_none_or(|value| value != "1"),
        "{line} (and IMAGESWAP_NO_SKIP=1 is set)"
    );
    eprintln!("{line}");
    if let Some(path) = env::var_os("IMAGESWAP_SKIP_LOG") {
        let written = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)
            .and_then(|mut file| writeln!(file, "{line}"));
        if let Err(error) = written {
            eprintln!("{}: {error}", path.display());
        }
    }
}

/// A part that a test needs, or the end of the test, which has been reported as skipped:
/// `let lab = require!(Lab::for_test("name"));`.
#[macro_export]
macro_rules! require {
    ($part:expr) => {{
        let Some(part) = $part else {
            return;
        };
        part
    }};
}
