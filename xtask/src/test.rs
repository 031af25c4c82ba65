//! Runs every test that the machine can run, and counts them.

use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, anyhow};
use imageswap_lab::{Assets, is_root, missing_for_tests};

use crate::builder;
use crate::count::Count;
use crate::fuzz;
use crate::helm;
use crate::image;
use crate::isolation::own_program;
use crate::kubernetes;
use crate::matrix;
use crate::process::{Workspace, cargo};
use crate::programs;
use crate::toolchain;
use crate::ui::{self, Took};
use crate::vm;

/// The fuzz targets that are built in a minute. That of reviews is built with all that the webhook depends
/// on; its seeds, and every beginning of one, are a test of the crate `fuzz`.
const QUICK: [fuzz::Target; 5] = [
    fuzz::Target::Maps,
    fuzz::Target::Policy,
    fuzz::Target::Reference,
    fuzz::Target::Manifest,
    fuzz::Target::Import,
];
/// Inputs that each fuzz target tries: the seeds and inputs near them, the same in every run.
const SMOKE: fuzz::Effort = fuzz::Effort::Runs(20_000);

/// Long enough for everything to happen once, at a rate that an unoptimized build can serve.
const SOAK: [&str; 6] = ["soak", "--dev", "--seconds", "20", "--rate", "50"];

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
            count.broke(format!("{name}: {error:#}"));
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
    ExitCode::from(u8::from(!total.is_good()))
}

/// Installs the real parts that tests start; if that fails, the tests report what they lack.
fn install_parts() {
    let parts = toolchain::provide(&missing_for_tests(), "tests with real containers");
    for provided in [parts, image::provide(), helm::provide()] {
        if let Err(error) = provided {
            ui::left_out(format_args!("{error:#}"));
        }
    }
}

/// The test programs, and the examples in docstrings.
fn cargo_test(workspace: &Workspace, count: &mut Count) -> Result<()> {
    ui::step("building the tests");
    programs::run(workspace, programs::build(workspace, &[])?, count)?;
    let mut command = cargo();
    command
        .current_dir(&workspace.root)
        .args(["test", "--workspace", "--doc"])
        .env("IMAGESWAP_PROBES", workspace.probes());
    count.watch(command, "examples in docstrings")
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
    let mut command = Command::new(own_program());
    command
        .current_dir(&workspace.root)
        .args(task)
        .stdin(Stdio::null());
    let status = command.status().context("cannot run a task of xtask")?;
    if status.success() {
        count.one(true);
    } else {
        count.one(false);
        ui::bad(format_args!("cargo xtask {}: {status}", task.join(" ")));
    }
    Ok(())
}

/// A short run of each fuzz target, which counts as a test.
fn fuzzing(workspace: &Workspace, count: &mut Count) -> Result<()> {
    if let Err(error) = fuzz::ready() {
        return count.cannot("fuzzing", error);
    }
    for run in fuzz::fuzz(workspace, &QUICK, SMOKE)? {
        match run.finding {
            None => count.one(true),
            Some(finding) => {
                count.one(false);
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

fn summary(total: &Count, times: &[[String; 2]]) {
    ui::heading("Summary");
    ui::table(times);
    total.print();
}
