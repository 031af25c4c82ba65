//! Builds programs that need nothing from the system they run on, and whose bytes do not depend on
//! the machine that built them.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result};

use super::Architecture;
use crate::builder::{self, PACKAGES};
use crate::process::{self, Workspace, cargo, find};
use crate::toolchain;
use crate::ui;

/// The tools for an architecture's static programs.
struct Toolchain {
    target: &'static str,
    /// C compiler, for the cryptography.
    compiler: &'static str,
    linker: &'static str,
    packages: &'static [&'static str],
}

/// Builds every program; returns their folder. `quick` leaves out what takes time and makes builds
/// reproducible.
pub(super) fn build(
    workspace: &Workspace,
    architecture: Architecture,
    quick: bool,
) -> Result<PathBuf> {
    let toolchain = architecture.toolchain();
    if find(toolchain.compiler).is_none() {
        toolchain::install(toolchain.packages, "static programs")?;
    }
    add_target(toolchain.target)?;
    builder::probes(workspace)?;
    // A folder of its own: other flags would rebuild everything in the workspace's.
    let name = if quick {
        "static-quick"
    } else {
        "static-build"
    };
    let folder = workspace.target.join(name);
    let variable = toolchain.target.replace('-', "_");
    let mut command = cargo();
    command
        .current_dir(&workspace.root)
        .args([
            "build",
            "--release",
            "--locked",
            "--bins",
            "--target",
            toolchain.target,
        ])
        .arg("--target-dir")
        .arg(&folder)
        .env("IMAGESWAP_PROBES", workspace.probes())
        .env(format!("CC_{variable}"), toolchain.compiler)
        .env(
            format!("CARGO_TARGET_{}_LINKER", variable.to_uppercase()),
            toolchain.linker,
        );
    if quick {
        command
            .env("CARGO_PROFILE_RELEASE_LTO", "off")
            .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16")
            .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1");
    } else {
        let flags = rust_flags(workspace)?.join("\x1f");
        command
            .env("CARGO_ENCODED_RUSTFLAGS", flags)
            .env(format!("CFLAGS_{variable}"), c_flags(&folder)?);
    }
    for package in PACKAGES {
        command.args(["--package", package]);
    }
    process::run(&mut command)?;
    Ok(folder.join(toolchain.target).join("release"))
}

fn rust_flags(workspace: &Workspace) -> Result<Vec<String>> {
    let mut flags = builder::remapped(workspace)?;
    flags.push("-Clink-arg=-Wl,--build-id=none".to_owned());
    Ok(flags)
}

fn c_flags(folder: &std::path::Path) -> Result<String> {
    Ok(format!(
        "-ffile-prefix-map={}=/build -ffile-prefix-map={}=/cargo",
        folder.display(),
        process::cargo_home()?.display()
    ))
}

fn add_target(target: &str) -> Result<()> {
    let mut command = Command::new("rustc");
    command.args(["--print", "target-libdir", "--target", target]);
    if PathBuf::from(process::output(&mut command)?.trim()).is_dir() {
        return Ok(());
    }
    ui::step(format_args!("installing the target {target} with rustup"));
    process::run(Command::new("rustup").args(["target", "add", target])).with_context(|| {
        format!("static programs need the target; with a network: rustup target add {target}")
    })
}

impl Architecture {
    fn toolchain(self) -> Toolchain {
        match self {
            Self::Amd64 => Toolchain {
                target: "x86_64-unknown-linux-musl",
                compiler: "musl-gcc",
                // rustup's target brings musl's start files; musl-gcc does not know -static-pie and
                // links a program that asks for a loader.
                linker: if cfg!(target_arch = "x86_64") {
                    "cc"
                } else {
                    "x86_64-linux-gnu-gcc"
                },
                packages: &["musl-tools"],
            },
            // Debian has musl for this architecture only. rustup's target brings its own musl, and
            // the headers that the C code uses are the same in both.
            Self::Arm64 => Toolchain {
                target: "aarch64-unknown-linux-musl",
                compiler: "aarch64-linux-gnu-gcc",
                linker: "aarch64-linux-gnu-gcc",
                packages: &["gcc-aarch64-linux-gnu", "libc6-dev-arm64-cross"],
            },
        }
    }
}
