//! Counts the results of tests.

use std::env;
use std::fmt;
use std::io::{BufRead, BufReader, Read};
use std::process::{Command, ExitStatus, Stdio};

use anyhow::{Context, Error, Result};

use crate::ui;

/// The results of a stage.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Count {
    passed: usize,
    failed: usize,
    /// The line of each skipped test.
    skipped: Vec<String>,
    /// Failures other than failed tests.
    broken: Vec<String>,
    /// Before each line that is shown.
    prefix: String,
}

impl Count {
    /// A count that shows lines after `prefix`.
    pub(crate) fn with_prefix(prefix: String) -> Self {
        Self {
            prefix,
            ..Self::default()
        }
    }

    /// Records that `test` cannot run: an error if skips are failures.
    pub(crate) fn cannot(&mut self, test: &str, reason: Error) -> Result<()> {
        if env::var_os("IMAGESWAP_NO_SKIP").is_some_and(|value| value == "1") {
            return Err(reason);
        }
        self.skipped.push(format!("SKIP: {test}: {reason:#}"));
        Ok(())
    }

    /// Reads what test binaries print with `--show-output`, shows it without the output of passed
    /// tests, and counts. Lines for which `shown` returns false are not shown.
    pub(crate) fn read(
        &mut self,
        output: impl Read,
        mut shown: impl FnMut(&str) -> bool,
    ) -> Result<()> {
        let mut quiet = false;
        for line in BufReader::new(output).split(b'\n') {
            let line = line.context("reading the tests' output")?;
            let line = String::from_utf8_lossy(&line);
            let line = line.trim_end_matches('\r');
            if line.starts_with("SKIP: ") {
                self.skipped.push(line.to_owned());
                continue;
            }
            match line {
                "successes:" => quiet = true,
                "failures:" => quiet = false,
                _ => {}
            }
            if let Some((passed, failed)) = result(line) {
                quiet = false;
                self.passed += passed;
                self.failed += failed;
            }
            if shown(line) && !quiet {
                println!("{}{line}", self.prefix);
            }
        }
        Ok(())
    }

    /// How many tests ran to the end.
    pub(crate) fn ran(&self) -> usize {
        self.passed + self.failed
    }

    pub(crate) fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped.extend(other.skipped);
        self.broken.extend(other.broken);
    }

    pub(crate) fn is_good(&self) -> bool {
        self.failed == 0 && self.broken.is_empty()
    }

    /// Records one test.
    pub(crate) fn one(&mut self, passed: bool) {
        if passed {
            self.passed += 1;
        } else {
            self.failed += 1;
        }
    }

    /// Records a failure that is not a test's.
    pub(crate) fn broke(&mut self, what: String) {
        self.broken.push(what);
    }

    /// Runs tests to the end and counts failed tests; any other failure is recorded. `what` names
    /// the program.
    pub(crate) fn watch(&mut self, mut command: Command, what: &str) -> Result<()> {
        let status = self.run(&mut command, what)?;
        if !status.success() && self.failed == 0 {
            self.broken.push(format!("{what}: {status}"));
        }
        Ok(())
    }

    /// Runs tests to the end and counts; `what` names the program in errors.
    pub(crate) fn run(&mut self, command: &mut Command, what: &str) -> Result<ExitStatus> {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot run {what}"))?;
        let output = child.stdout.take().context("the tests have no output")?;
        let read = self.read(output, |_| true);
        let status = child.wait().context(what.to_owned())?;
        read?;
        Ok(status)
    }

    /// Prints what was skipped and what broke, and the totals.
    pub(crate) fn print(&self) {
        for line in &self.skipped {
            println!("{line}");
        }
        for line in &self.broken {
            ui::bad(line);
        }
        let skipped = self.skipped.len();
        // libtest counts a skipped test as passed; what broke is a failure of its own.
        let passed = self.passed.saturating_sub(skipped);
        let failed = self.failed + self.broken.len();
        println!("\n{passed} passed, {failed} failed, {skipped} skipped");
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let failed = self.failed + self.broken.len();
        write!(f, "{} passed, {failed} failed", self.passed)
    }
}

/// The numbers of libtest's `test result: ok. 7 passed; 0 failed; ...`.
fn result(line: &str) -> Option<(usize, usize)> {
    let (_, numbers) = line.strip_prefix("test result: ")?.split_once(". ")?;
    let mut numbers = numbers.split("; ");
    let passed = numbers.next()?.strip_suffix(" passed")?.parse().ok()?;
    let failed = numbers.next()?.strip_suffix(" failed")?.parse().ok()?;
    Some((passed, failed))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = "\
running 3 tests
test a ... ok

successes:

---- a stdout ----
noise
SKIP: a: needs root

successes:
    a

failures:

---- b stdout ----
thread 'b' panicked

test result: FAILED. 2 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.1s
test result: ok. 4 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.1s
";

    #[test]
    fn results_of_all_binaries_are_added_up() {
        let mut count = Count::default();
        // If shown, the output of this test would be counted too.
        count.read(OUTPUT.as_bytes(), |_| false).unwrap();
        assert_eq!((count.passed, count.failed), (6, 1));
        assert_eq!(count.skipped, ["SKIP: a: needs root"]);
        assert!(!count.is_good());
    }

    #[test]
    fn other_lines_are_no_results() {
        assert_eq!(
            result("test result: ok. 7 passed; 0 failed; 0 ignored"),
            Some((7, 0))
        );
        assert_eq!(result("test a ... ok"), None);
    }
}
