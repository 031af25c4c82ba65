//! Builds the probes and the programs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, ensure};

use crate::process::{self, Workspace, cargo};
use crate::toolchain::{Compiler, ProbeTools};
use crate::ui;

const TARGET: &str = "bpfel-unknown-none";
const BINARY: &str = "imageswap-probes";
/// The design that the agent's benchmark compares the probes with.
const EVERY_EXEC: &str = "imageswap-every-exec";
/// Object file and feature: for release builds, and for debug builds, which also log from inside
/// the kernel.
const VARIANTS: [(&str, &str); 2] = [
    ("imageswap-probes.o", "probes"),
    ("imageswap-probes-log.o", "log"),
];
pub(crate) const PACKAGES: [&str; 3] = ["imageswap-agent", "imageswap-cli", "imageswap-webhook"];

const PROGRAMS: [&str; 3] = ["imageswap-agent", "imageswap", "imageswap-webhook"];

/// How the programs are built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Profile {
    /// Unoptimized, quickly built.
    Dev,
    /// As shipped.
    Release,
}

/// What to build.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct Options {
    /// Build the programs unoptimized
    #[arg(long)]
    dev: bool,
    /// Build the probes alone
    #[arg(long)]
    probes: bool,
}

/// Builds the probes and, unless they are wanted alone, the programs.
pub(crate) fn run(workspace: &Workspace, options: Options) -> Result<ExitCode> {
    probes(workspace)?;
    ui::good(workspace.probes().display());
    if !options.probes {
        let profile = if options.dev {
            Profile::Dev
        } else {
            Profile::Release
        };
        let folder = programs(workspace, profile)?;
        for program in PROGRAMS {
            ui::good(folder.join(program).display());
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Builds the probes' object files into [`Workspace::probes`].
pub(crate) fn probes(workspace: &Workspace) -> Result<()> {
    let tools = ProbeTools::find_or_install()?;
    ui::step("building the probes");
    for (file, feature) in VARIANTS {
        let built = probe_object(workspace, &tools, BINARY, feature)?;
        copy_if_changed(&built, &workspace.probes().join(file))?;
    }
    Ok(())
}

/// Builds the programs, which embed the probes built before. Returns the folder with the binaries.
pub(crate) fn programs(workspace: &Workspace, profile: Profile) -> Result<PathBuf> {
    ui::step("building webhook, agent and command");
    let mut command = cargo();
    command
        .current_dir(&workspace.root)
        .args(["build", "--bins"]);
    for package in PACKAGES {
        command.args(["--package", package]);
    }
    if profile == Profile::Release {
        command.arg("--release");
    }
    process::run(command.env("IMAGESWAP_PROBES", workspace.probes()))?;
    Ok(workspace.target.join(profile.folder()))
}

impl Profile {
    fn folder(self) -> &'static str {
        match self {
            Self::Dev => "debug",
            Self::Release => "release",
        }
    }
}

/// Builds the design that the agent's benchmark compares the probes with. Returns the object file.
pub(crate) fn every_exec(workspace: &Workspace) -> Result<PathBuf> {
    let tools = ProbeTools::find_or_install()?;
    probe_object(workspace, &tools, EVERY_EXEC, "probes")
}

fn probe_object(
    workspace: &Workspace,
    tools: &ProbeTools,
    binary: &str,
    feature: &str,
) -> Result<PathBuf> {
    // A folder of its own: other flags would rebuild everything in the workspace's.
    let target = workspace.target.join("probes-build");
    // BTF names source files and becomes part of the agent.
    let mut flags = remapped(workspace)?;
    flags.extend([
        "-Cdebuginfo=2".to_owned(),
        "-Clink-arg=--btf".to_owned(),
        format!("-Clinker={}", tools.linker.display()),
    ]);
    let mut command = cargo();
    command
        .current_dir(&workspace.root)
        .args(["build", "--package", "imageswap-ebpf", "--bin", binary, "--features", feature])
        .args(["--release", "--target", TARGET, "--target-dir"])
        .arg(&target)
        // A stable compiler otherwise refuses -Z and the target's features.
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"))
        // The loader reads types from BTF, which stripping would remove.
        .env("CARGO_PROFILE_RELEASE_STRIP", "none");
    match &tools.compiler {
        Compiler::Workspace => command.args(["-Z", "build-std=core"]),
        Compiler::Debian(rustc) => command.env("RUSTC", rustc),
    };
    process::run(&mut command)?;
    let object = target.join(TARGET).join("release").join(binary);
    ensure!(
        has_btf(&object)?,
        "{}: bpf-linker wrote no BTF",
        object.display()
    );
    Ok(object)
}

/// Compiler flags that map machine-specific paths to fixed names in the programs.
pub(crate) fn remapped(workspace: &Workspace) -> Result<Vec<String>> {
    let rustc = |args: &[&str]| process::output(Command::new("rustc").args(args));
    let sysroot = PathBuf::from(rustc(&["--print", "sysroot"])?.trim());
    let version = rustc(&["-vV"])?;
    let commit = version
        .lines()
        .find_map(|line| line.strip_prefix("commit-hash: "));
    let standard = format!("/rustc/{}", commit.unwrap_or("unknown"));
    let names = [
        (workspace.root.clone(), "/imageswap"),
        // Last, because the last matching mapping wins.
        (workspace.target.clone(), "/imageswap/target"),
        (process::cargo_home()?, "/cargo"),
        // The compiler's own name for the standard library when its sources are not installed.
        (sysroot.join("lib/rustlib/src/rust"), &standard),
    ];
    let flags = names.map(|(path, name)| format!("--remap-path-prefix={}={name}", path.display()));
    Ok(flags.into())
}

/// Whether an object file names a section `.BTF`.
fn has_btf(object: &Path) -> Result<bool> {
    let bytes = fs::read(object).with_context(|| object.display().to_string())?;
    Ok(bytes.windows(5).any(|name| name == b".BTF\0"))
}

/// Copies only if the content differs: an unchanged time stamp avoids rebuilding the programs.
fn copy_if_changed(from: &Path, to: &Path) -> Result<()> {
    let bytes = fs::read(from).with_context(|| from.display().to_string())?;
    if fs::read(to).is_ok_and(|old| old == bytes) {
        return Ok(());
    }
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    }
    fs::write(to, bytes).with_context(|| to.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unchanged_file_is_not_written() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("sub/to"));
        fs::write(&from, "one").unwrap();
        copy_if_changed(&from, &to).unwrap();
        let mut read_only = fs::metadata(&to).unwrap().permissions();
        read_only.set_readonly(true);
        fs::set_permissions(&to, read_only).unwrap();
        let first = fs::metadata(&to).unwrap().modified().unwrap();
        copy_if_changed(&from, &to).unwrap();
        assert_eq!(fs::metadata(&to).unwrap().modified().unwrap(), first);
        fs::write(&from, "two").unwrap();
        drop(copy_if_changed(&from, &to));
        assert!(!has_btf(&from).unwrap());
    }

    /// The result does not depend on whether the library's sources are installed.
    #[test]
    fn programs_name_no_path_of_this_machine() {
        let dir = tempfile::tempdir().unwrap();
        let workspace = Workspace {
            root: dir.path().to_owned(),
            target: dir.path().join("target"),
        };
        // A panic of the standard library inside code that is compiled here.
        let text =
            "fn main() { let mut v = vec![1]; v.remove(std::env::args().count()); panic!() }";
        fs::write(dir.path().join("main.rs"), text).unwrap();
        let build = |flags: &[String]| {
            let mut command = Command::new("rustc");
            command.current_dir(dir.path()).args(flags).arg("-o");
            command.arg("program").arg(dir.path().join("main.rs"));
            process::output(command.arg("-Cstrip=debuginfo")).unwrap();
            fs::read(dir.path().join("program")).unwrap()
        };
        let has = |program: &[u8], word: &str| {
            let mut windows = program.windows(word.len());
            windows.any(|it| it == word.as_bytes())
        };
        let own = dir.path().to_str().unwrap();
        assert!(has(&build(&[]), own));
        let program = build(&remapped(&workspace).unwrap());
        let toolchain = process::output(Command::new("rustc").args(["--print", "sysroot"]));
        for path in [own, toolchain.unwrap().trim()] {
            assert!(!has(&program, path), "{path}");
        }
        assert!(has(&program, "/imageswap/main.rs") && has(&program, "/rustc/"));
    }
}
