//! Runs every test that the machine can run, and counts them.

use std::env;
use std::fmt;
use std::io::{BufRead, BufReader, Read};
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use anyhow::{Context, Error, Result, anyhow};
use clap::ValueEnum;
use imageswap_lab::{Assets, is_root, missing_for_tests};

use crate::builder;
use crate::fuzz;
use crate::helm;
use crate::kubernetes;
use crate::matrix;
use crate::process::{Workspace, cargo, find};
use crate::toolchain;
use crate::ui::{self, Took};
use crate::vm;

/// Inputs that each fuzz target tries: the seeds and inputs near them, the same in every run.
const SMOKE: fuzz::Effort = fuzz::Effort::Runs(20_000);

/// Long enough for everything to happen once, at a rate that an unoptimized build can serve.
const SOAK: [&str; 6] = ["soak", "--dev", "--seconds", "45", "--rate", "50"];

/// What to test.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct Options {
    /// Only the node's tests, in a virtual machine with Debian's kernel
    #[arg(long, conflicts_with = "no_vm")]
    vm: bool,
    /// Leave the virtual machine out
    #[arg(long)]
    no_vm: bool,
}

/// The results of a stage.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Count {
    passed: usize,
    failed: usize,
    /// The line of each skipped test.
    skipped: Vec<String>,
    /// Failures other than failed tests.
    broken: Vec<String>,
}

/// Runs the stages and prints the summary; the exit code is 0 when nothing
/// failed.
pub(crate) fn run(workspace: &Workspace, options: Options) -> ExitCode {
    install_parts();
    let mut total = Count::default();
    let mut times = Vec::new();
    let mut stage = |name: &'static str, work: &dyn Fn(&mut Count) -> Result<()>| {
        ui::heading(name);
        let start = Instant::now();
        let mut count = Count::default();
        if let Err(error) = work(&mut count) {
            count.broken.push(format!("{name}: {error:#}"));
        }
        let done = count.is_good();
        times.push([name.to_owned(), Took(start.elapsed()).to_string()]);
        total.add(count);
        done
    };
    let built = stage("Probes", &|_| builder::probes(workspace));
    if !options.vm {
        stage("Control plane", &|count| {
            if let Err(error) = kubernetes::find_or_build() {
                count.cannot("control plane", error)?;
            }
            match kubernetes::find_or_build_current() {
                Ok(()) => Ok(()),
                Err(error) => count.cannot("admission of a current version", error),
            }
        });
    }
    if !options.vm {
        stage("Workspace", &|count| cargo_test(workspace, count));
        stage("Demo", &|count| own_task(workspace, &["demo"], count));
        stage("Cluster", &|count| in_cluster(workspace, count));
        stage("Fuzzing", &|count| fuzzing(workspace, count));
        stage("Other runtimes", &|count| other_runtimes(workspace, count));
    }
    // The virtual machine can only show what the probes see.
    if !options.no_vm && built {
        stage("Virtual machine", &|count| {
            virtual_machine(workspace, options.vm, count)
        });
    }
    summary(&total, &times);
    if total.is_good() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

impl Count {
    /// Records that `test` cannot run: an error if skips are failures.
    fn cannot(&mut self, test: &str, reason: Error) -> Result<()> {
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
                println!("{line}");
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
}

/// Installs the real parts that tests start; if that fails, the tests report what they lack.
fn install_parts() {
    let mut packages: Vec<_> = missing_for_tests()
        .iter()
        .map(|need| need.package)
        .collect();
    if find("skopeo").is_none() {
        packages.push("skopeo");
    }
    packages.dedup();
    if !packages.is_empty()
        && let Err(error) = toolchain::install(&packages, "tests with real containers")
    {
        ui::left_out(format_args!("{error:#}"));
    }
    if let Err(error) = helm::provide() {
        ui::left_out(format_args!("{error:#}"));
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let failed = self.failed + self.broken.len();
        write!(f, "{} passed, {failed} failed", self.passed)
    }
}

fn cargo_test(workspace: &Workspace, count: &mut Count) -> Result<()> {
    let mut command = cargo();
    command
        .current_dir(&workspace.root)
        .args([
            "test",
            "--workspace",
            "--no-fail-fast",
            "--",
            "--show-output",
        ])
        .env("IMAGESWAP_PROBES", workspace.probes());
    watch(command, count)
}

/// Runs e2e in a cluster and a short soak, each of which counts as a test.
fn in_cluster(workspace: &Workspace, count: &mut Count) -> Result<()> {
    if let Err(error) = Assets::find() {
        return count.cannot("e2e and soak", error.into());
    }
    if !is_root() {
        return count.cannot("e2e and soak", anyhow!("a network namespace needs root"));
    }
    own_task(workspace, &["e2e"], count)?;
    own_task(workspace, &SOAK, count)
}

/// Runs a task of this program, which counts as a test.
fn own_task(workspace: &Workspace, task: &[&str], count: &mut Count) -> Result<()> {
    // The tests may have relinked this program, so its path may be gone.
    let mut command = cargo();
    command
        .current_dir(&workspace.root)
        .args(["run", "--quiet", "--package", "xtask", "--"])
        .args(task)
        .stdin(Stdio::null());
    let status = command.status().context("cannot run cargo")?;
    if status.success() {
        count.passed += 1;
    } else {
        count.failed += 1;
        ui::bad(format_args!("cargo xtask {}: {status}", task.join(" ")));
    }
    Ok(())
}

/// A short run of each fuzz target, which counts as a test.
fn fuzzing(workspace: &Workspace, count: &mut Count) -> Result<()> {
    if let Err(error) = fuzz::ready() {
        return count.cannot("fuzzing", error);
    }
    for run in fuzz::fuzz(workspace, fuzz::Target::value_variants(), SMOKE)? {
        match run.finding {
            None => count.passed += 1,
            Some(finding) => {
                count.failed += 1;
                ui::bad(finding);
            }
        }
    }
    Ok(())
}

/// The agent's tests with containerd 2, a newer runc, and crun.
fn other_runtimes(workspace: &Workspace, count: &mut Count) -> Result<()> {
    if !is_root() {
        return count.cannot("other runtimes", anyhow!("a mount namespace needs root"));
    }
    matrix::quick(workspace, count)
}

fn virtual_machine(workspace: &Workspace, asked_for: bool, count: &mut Count) -> Result<()> {
    if let Err(error) = vm::ready() {
        if asked_for {
            return Err(error);
        }
        return count.cannot("virtual machine", error);
    }
    vm::run(workspace, count)
}

/// Runs tests to the end and counts failed tests; any other failure is an error.
fn watch(mut command: Command, count: &mut Count) -> Result<()> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot run cargo test")?;
    let output = child.stdout.take().context("cargo test has no output")?;
    let read = count.read(output, |_| true);
    let status = child.wait().context("cargo test")?;
    read?;
    if !status.success() && count.failed == 0 {
        count.broken.push(format!("cargo test: {status}"));
    }
    Ok(())
}

fn summary(total: &Count, times: &[[String; 2]]) {
    ui::heading("Summary");
    ui::table(times);
    for line in &total.skipped {
        println!("{line}");
    }
    for line in &total.broken {
        ui::bad(line);
    }
    let skipped = total.skipped.len();
    // libtest counts a skipped test as passed; what broke is a failure of its own.
    let passed = total.passed.saturating_sub(skipped);
    let failed = total.failed + total.broken.len();
    println!("\n{passed} passed, {failed} failed, {skipped} skipped");
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
