//! Fuzzes the readers of texts that others write, with libFuzzer and the stable compiler.
//!
//! libFuzzer has to see which edges of the code an input reaches. The compiler's flags that count
//! edges are stable. Only the sanitizers are not, and code without `unsafe` does not need them.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;

use crate::process::{self, Workspace, cache, cargo, find, output};
use crate::toolchain;
use crate::ui;

mod properties;
mod status;

use status::Status;

/// What `-Zsanitizer` would set, without a sanitizer; see LLVM's `sancov` pass and what `cargo
/// fuzz` passes.
const FLAGS: [&str; 7] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "--cfg",
    "fuzzing",
];
/// The profile in the root `Cargo.toml`.
const PROFILE: &str = "fuzz";
/// Names the folder to which a target writes its seeds and its dictionary.
const FOLDER: &str = "IMAGESWAP_FUZZ_FOLDER";
/// Longest input in bytes, memory and time per run: an input of a few kilobytes that takes more is
/// a finding.
const LIMITS: [&str; 3] = ["-max_len=4096", "-rss_limit_mb=1024", "-timeout=20"];
/// Interval of progress messages.
const PROGRESS: Duration = Duration::from_secs(15);

/// What to fuzz.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Options {
    /// Targets to fuzz; all of them by default
    #[arg(value_enum)]
    targets: Vec<Target>,
    /// Seconds per target
    #[arg(long, default_value_t = 60, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
    /// Run the property tests instead, each round with a new seed
    #[arg(long, conflicts_with_all = ["targets", "input"])]
    properties: bool,
    /// Run one target once, on the input in this file
    #[arg(long, value_name = "FILE", conflicts_with = "seconds")]
    input: Option<PathBuf>,
}

/// A kind of input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Target {
    /// The text of a maps file
    Maps,
    /// The text of ImageSwapPolicies
    Policy,
    /// An image reference
    Reference,
    /// Kubernetes manifests
    Manifest,
    /// Policies of other programs
    Import,
    /// Reviews of the API server
    Review,
}

impl Target {
    fn name(self) -> &'static str {
        match self {
            Self::Maps => "maps",
            Self::Policy => "policy",
            Self::Reference => "reference",
            Self::Manifest => "manifest",
            Self::Import => "import",
            Self::Review => "review",
        }
    }

    fn binary(self) -> String {
        format!("fuzz-{}", self.name())
    }
}

/// Builds the targets and runs one after the other; the exit code is 1 when an
/// input breaks a promise.
pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<ExitCode> {
    if let Some(input) = &options.input {
        let [target] = options.targets[..] else {
            anyhow::bail!("--input needs the one target that the file is for");
        };
        return again(workspace, target, input);
    }
    let time = Duration::from_secs(options.seconds);
    if options.properties {
        return properties::run(workspace, time);
    }
    let targets = match &options.targets[..] {
        [] => Target::value_variants(),
        some => some,
    };
    let runs = fuzz(workspace, targets, Effort::Time(time))?;
    ui::heading("Fuzzing");
    summary(&runs);
    let found = runs.iter().any(|run| run.finding.is_some());
    Ok(ExitCode::from(u8::from(found)))
}

/// The result of a target's run.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) target: Target,
    status: Status,
    /// The finding, and the command that reproduces it.
    pub(crate) finding: Option<String>,
}

/// How much to try.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Effort {
    /// New inputs for this long, starting with what earlier runs learned.
    Time(Duration),
    /// This many inputs, the same in every run.
    Runs(u32),
}

/// Fuzzes each target.
pub(crate) fn fuzz(workspace: &Workspace, targets: &[Target], effort: Effort) -> Result<Vec<Run>> {
    let folder = build(workspace, targets)?;
    targets
        .iter()
        .map(|&target| fuzz_one(&folder, target, effort).context(target.name()))
        .collect()
}

/// The C++ compiler that builds libFuzzer, installed if possible.
pub(crate) fn ready() -> Result<()> {
    if find("c++").is_none() {
        toolchain::install(&["g++"], "fuzzing")?;
    }
    Ok(())
}

/// Prints the results.
fn summary(runs: &[Run]) {
    let mut rows =
        vec![["target", "runs", "per second", "edges", "of", "corpus"].map(str::to_owned)];
    rows.extend(runs.iter().map(|run| {
        let status = &run.status;
        [
            run.target.name().to_owned(),
            status.runs.to_string(),
            status.per_second.to_string(),
            status.edges.to_string(),
            status.all_edges.to_string(),
            status.corpus.to_string(),
        ]
    }));
    ui::table(&rows);
    for run in runs {
        match &run.finding {
            None => ui::good(format_args!("{}: nothing found", run.target.name())),
            Some(finding) => ui::bad(finding),
        }
    }
}

/// Builds the targets' programs and returns their folder.
fn build(workspace: &Workspace, targets: &[Target]) -> Result<PathBuf> {
    ready()?;
    let host = host()?;
    // A folder of its own: other flags would rebuild everything in the workspace's.
    let folder = workspace.target.join("fuzz-build");
    ui::step("building the fuzz targets");
    let mut command = cargo();
    command
        .current_dir(&workspace.root)
        .args(["build", "--quiet", "--package", "fuzz", "--features", "libfuzzer"])
        // Without a target, build scripts and macros would get the flags too, and would not link
        // with them.
        .args(["--profile", PROFILE, "--target", &host, "--target-dir"])
        .arg(&folder)
        .env("CARGO_ENCODED_RUSTFLAGS", FLAGS.join("\x1f"));
    for target in targets {
        command.args(["--bin", &target.binary()]);
    }
    process::run(&mut command)?;
    Ok(folder.join(host).join(PROFILE))
}

fn host() -> Result<String> {
    let version = output(Command::new("rustc").arg("-vV"))?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("rustc -vV names no host")?.to_owned())
}

/// Fuzzes one target. Its folder keeps corpus, seeds, findings and the log of the last run.
fn fuzz_one(programs: &Path, target: Target, effort: Effort) -> Result<Run> {
    let folder = cache("fuzz")?.join(target.name());
    let name = target.name();
    let (corpus, limit, seed) = match effort {
        Effort::Time(time) => {
            let seconds = time.as_secs();
            ui::step(format_args!("fuzzing {name} for {seconds} s"));
            // libFuzzer takes 0 to mean a random seed.
            ("corpus", format!("-max_total_time={seconds}"), "-seed=0")
        }
        Effort::Runs(runs) => {
            ui::step(format_args!("fuzzing {name} with {runs} inputs"));
            // The corpus of an earlier run would change the inputs.
            let corpus = folder.join("same");
            if corpus.exists() {
                fs::remove_dir_all(&corpus).with_context(|| corpus.display().to_string())?;
            }
            ("same", format!("-runs={runs}"), "-seed=1")
        }
    };
    let (corpus, findings) = (folder.join(corpus), folder.join("findings"));
    for folder in [&corpus, &findings] {
        fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    }
    let mut child = Command::new(programs.join(target.binary()))
        .args([&corpus, &folder.join("seeds")])
        .arg(argument("-dict=", &folder.join("words")))
        .arg(format!("{}/", argument("-artifact_prefix=", &findings)))
        .args([limit.as_str(), seed])
        .args(LIMITS)
        .env(FOLDER, &folder)
        .env("RUST_BACKTRACE", "0")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot run the fuzz target")?;
    let messages = child
        .stderr
        .take()
        .context("the fuzz target has no output")?;
    let log = folder.join("log");
    let status = watch(messages, &log, target);
    let exit = child.wait().context("the fuzz target")?;
    let status = status?;
    let finding = (!exit.success()).then(|| describe(target, &status, &log));
    ensure!(
        finding.is_some() || status.runs > 0,
        "nothing ran; see {}",
        log.display()
    );
    Ok(Run {
        target,
        status,
        finding,
    })
}

/// Reads libFuzzer's messages to their end, keeps them in `log`, and prints progress now and then.
fn watch(messages: impl Read, log: &Path, target: Target) -> Result<Status> {
    let mut file = File::create(log).with_context(|| log.display().to_string())?;
    let (start, mut told) = (Instant::now(), Instant::now());
    let mut status = Status::default();
    for line in BufReader::new(messages).split(b'\n') {
        let line = line.context("reading the fuzz target's output")?;
        let line = String::from_utf8_lossy(&line);
        writeln!(file, "{line}").with_context(|| log.display().to_string())?;
        status.read(&line);
        if told.elapsed() > PROGRESS {
            told = Instant::now();
            let seconds = start.elapsed().as_secs();
            ui::step(format_args!(
                "{} after {seconds} s: {status}",
                target.name()
            ));
        }
    }
    Ok(status)
}

fn describe(target: Target, status: &Status, log: &Path) -> String {
    let name = target.name();
    let what = status
        .failure
        .as_deref()
        .unwrap_or("the target ended early");
    match &status.artifact {
        Some(input) => {
            format!("{name}: {what}\n    again: cargo xtask fuzz {name} --input {input}")
        }
        None => format!("{name}: {what}\n    see {}", log.display()),
    }
}

/// Runs a target on one input, with all its output.
fn again(workspace: &Workspace, target: Target, input: &Path) -> Result<ExitCode> {
    ensure!(input.is_file(), "{}: no such file", input.display());
    let input = input
        .canonicalize()
        .with_context(|| input.display().to_string())?;
    let programs = build(workspace, &[target])?;
    let status = Command::new(programs.join(target.binary()))
        .arg(&input)
        .args(LIMITS)
        .stdin(Stdio::null())
        .status()
        .context("cannot run the fuzz target")?;
    if status.success() {
        ui::good(format_args!("{}: every promise is kept", target.name()));
        return Ok(ExitCode::SUCCESS);
    }
    ui::bad(format_args!("{}: {}", target.name(), input.display()));
    Ok(ExitCode::FAILURE)
}

/// libFuzzer's `-name=value` with a path. libFuzzer cannot be given a path that is not UTF-8.
fn argument(name: &str, path: &Path) -> String {
    format!("{name}{}", path.display())
}
