//! Demonstrates the main job on this machine: a webhook that swaps images, and an agent that sees
//! what the webhook was never asked about.

mod admission;
mod node;

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use imageswap_lab::{HttpClient, Lab, Process, is_root, missing, wait_until};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::builder::{self, Profile};
use crate::process::Workspace;
use crate::toolchain;
use crate::ui::{self, Took};

/// A registry mirror in four lines, in ImageSwap's own format.
const MAPS: &str = "\
default:registry.example.com
#gcr.io: # This is a comment
gitlab.com:registry.example.com/gitlab
noswap_wildcards:example.com
";

/// How long a service may take to become ready.
const START: Duration = Duration::from_secs(30);

/// How the demo is run.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct Options {
    /// Build the programs as shipped (takes longer)
    #[arg(long)]
    release: bool,
}

/// What the parts of the demo share.
struct Demo {
    lab: Lab,
    binaries: PathBuf,
    maps: PathBuf,
    interrupted: Arc<AtomicBool>,
    checks: Vec<(String, bool)>,
}

/// Runs the demo; the exit code is 0 when everything happened.
pub(crate) fn run(workspace: &Workspace, options: Options) -> Result<ExitCode> {
    let begun = Instant::now();
    let node = is_root();
    ui::heading("Building");
    if node {
        toolchain::provide(&missing(), "a registry and real containers")?;
        builder::probes(workspace)?;
    }
    let profile = if options.release {
        Profile::Release
    } else {
        Profile::Dev
    };
    let binaries = builder::programs(workspace, profile)?;

    let mut demo = Demo::new(binaries)?;
    let shown = demo.show(node);
    let interrupted = demo.interrupted.load(Ordering::Relaxed);
    if let (Err(error), false) = (&shown, interrupted) {
        demo.check(format!("{error:#}"), false);
    }
    let Demo { lab, checks, .. } = demo;
    drop(lab);
    if interrupted {
        eprintln!("interrupted; everything that was started is stopped");
        // The exit code that a shell gives a program ended by SIGINT.
        return Ok(ExitCode::from(130));
    }
    Ok(summary(&checks, node, begun.elapsed()))
}

impl Demo {
    fn new(binaries: PathBuf) -> Result<Self> {
        let interrupted = Arc::new(AtomicBool::new(false));
        for signal in [SIGHUP, SIGINT, SIGTERM] {
            signal_hook::flag::register(signal, Arc::clone(&interrupted))
                .context("cannot catch signals")?;
        }
        let lab = Lab::new_with_own_groups("demo")?;
        let maps = lab.path().join("maps.conf");
        fs::write(&maps, MAPS).with_context(|| maps.display().to_string())?;
        Ok(Self {
            lab,
            binaries,
            maps,
            interrupted,
            checks: Vec::new(),
        })
    }

    fn show(&mut self, node: bool) -> Result<()> {
        ui::heading("Policy: ImageSwap's maps file, for webhook and agent alike");
        for line in MAPS.lines() {
            println!("  {line}");
        }
        admission::show(self)?;
        if node {
            node::show(self)?;
        }
        Ok(())
    }

    /// Records and prints whether something happened.
    fn check(&mut self, what: impl Into<String>, happened: bool) {
        let what = what.into();
        ui::outcome(&what, happened);
        self.checks.push((what, happened));
    }

    /// Waits until `done` returns true, and returns whether that happened within `limit`. A signal
    /// ends the demo.
    fn wait(&self, limit: Duration, mut done: impl FnMut() -> bool) -> Result<bool> {
        let interrupted = || self.interrupted.load(Ordering::Relaxed);
        let held = wait_until(limit, || interrupted() || done());
        if interrupted() {
            bail!("interrupted");
        }
        Ok(held)
    }

    /// Waits until a service's admin port reports ready.
    fn wait_ready(&self, process: &mut Process, admin: &HttpClient) -> Result<()> {
        let mut running = true;
        let ready = self.wait(START, || {
            running = process.is_running();
            !running
                || admin
                    .get("/readyz")
                    .is_ok_and(|answer| answer.status.is_success())
        })?;
        if ready && running {
            return Ok(());
        }
        let log = process.log();
        let end = log.lines().last().unwrap_or("no log");
        if running {
            bail!("not ready after {} s: {end}", START.as_secs());
        }
        bail!("ended with code {:?}: {end}", process.exit_code());
    }
}

fn summary(checks: &[(String, bool)], node: bool, took: Duration) -> ExitCode {
    ui::heading("Summary");
    let failed: Vec<_> = checks.iter().filter(|(_, happened)| !happened).collect();
    for (what, _) in &failed {
        ui::bad(format_args!("did not happen: {what}"));
    }
    if !node {
        ui::left_out("the node's half: it loads probes into the kernel and starts");
        println!("  containers, which needs root. Run it as root: sudo -E cargo xtask demo");
    }
    println!(
        "  {} of {} as expected, in {}",
        checks.len() - failed.len(),
        checks.len(),
        Took(took)
    );
    ExitCode::from(u8::from(!failed.is_empty()))
}
