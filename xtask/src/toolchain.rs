//! Finds or installs what is needed to build the probes and to run real parts.
//!
//! bpf-linker links the probes, which need `core` for the BPF target. Two compilers provide that:
//! rustup's, which builds `core` from rust-src, and Debian's rustc-web, which has it precompiled.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use imageswap_lab::{Need, is_root};

use crate::process::{cache, cargo, cargo_home, find, find_all, output, run};
use crate::ui;

const LINKER: &str = "bpf-linker";
/// The version that is installed if missing, and the oldest that is used.
const LINKER_VERSION: [u32; 3] = [0, 13, 0];
const LLVM_PREFIX: &str = "/usr/lib/llvm-22";
/// What bpf-linker's build needs: LLVM with Polly, and a C++ compiler with zlib
/// to link them.
const LLVM_PACKAGES: [&str; 4] = ["llvm-22-dev", "libpolly-22-dev", "g++", "zlib1g-dev"];

/// A compiler with `core` for the BPF target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Compiler {
    /// The one that builds the workspace; `core` is built from rust-src.
    Workspace,
    /// Debian's, whose `core` is precompiled.
    Debian(PathBuf),
}

/// The tools that build the probes.
#[derive(Debug, Clone)]
pub(crate) struct ProbeTools {
    /// The compiler.
    pub(crate) compiler: Compiler,
    /// The linker's path.
    pub(crate) linker: PathBuf,
}

impl ProbeTools {
    /// Finds the tools, or installs them if possible. The error names every command that is left to
    /// the user.
    pub(crate) fn find_or_install() -> Result<Self> {
        Ok(Self {
            compiler: compiler()?,
            linker: linker()?,
        })
    }
}

/// Installs the Debian packages of missing programs, if any is missing.
pub(crate) fn provide(missing: &[Need], purpose: &str) -> Result<()> {
    let mut packages: Vec<_> = missing.iter().map(|need| need.package).collect();
    packages.dedup();
    if packages.is_empty() {
        return Ok(());
    }
    install(&packages, purpose)
}

/// Installs Debian packages; only as root, and announced first.
pub(crate) fn install(packages: &[&str], purpose: &str) -> Result<()> {
    let list = packages.join(" ");
    let by_hand = format!("apt-get install --no-install-recommends {list}");
    if find("apt-get").is_none() {
        bail!("{purpose} needs what Debian calls {list}; there is no apt-get here");
    }
    if !is_root() {
        bail!("{purpose} needs Debian packages; run as root: {by_hand}");
    }
    ui::step(format_args!("installing for {purpose}: {list}"));
    // A fresh container has no package lists, an old one has lists of versions that are gone.
    let updated = output(Command::new("apt-get").args(["update", "-qq"]));
    let mut command = Command::new("apt-get");
    command
        .args(["install", "-y", "-qq", "--no-install-recommends"])
        .args(packages)
        .env("DEBIAN_FRONTEND", "noninteractive");
    let installed = output(&mut command);
    match (installed, updated) {
        (Ok(_), _) => Ok(()),
        (Err(error), Ok(_)) => {
            Err(error.context(format!("cannot install; try as root: {by_hand}")))
        }
        (Err(_), Err(error)) => Err(error.context(format!(
            "no package lists; with a network, as root: apt-get update && {by_hand}"
        ))),
    }
}

fn compiler() -> Result<Compiler> {
    let sysroot = output(Command::new("rustc").args(["--print", "sysroot"]))?;
    let sysroot = Path::new(sysroot.trim());
    if sysroot.join("lib/rustlib/src/rust/library/core").is_dir() {
        return Ok(Compiler::Workspace);
    }
    let debian = Path::new("/usr/bin/rustc");
    if has_bpf_core(debian) {
        return Ok(Compiler::Debian(debian.to_owned()));
    }
    if find("rustup").is_none() {
        bail!(
            "building the probes needs rust-src: install rustup, or as root: apt-get install rustc-web libstd-rust-web-dev-bpf"
        );
    }
    ui::step("installing rust-src with rustup, for core on the BPF target");
    run(Command::new("rustup").args(["component", "add", "rust-src"])).context(
        "building the probes needs rust-src; with a network: rustup component add rust-src",
    )?;
    Ok(Compiler::Workspace)
}

/// Whether `rustc` comes with a compiled `core` for the BPF target.
fn has_bpf_core(rustc: &Path) -> bool {
    let mut command = Command::new(rustc);
    command.args(["--print", "target-libdir", "--target", "bpfel-unknown-none"]);
    let folder = output(&mut command).unwrap_or_default();
    fs::read_dir(folder.trim())
        .into_iter()
        .flatten()
        .flatten()
        .any(|entry| entry.file_name().to_string_lossy().starts_with("libcore-"))
}

fn linker() -> Result<PathBuf> {
    let tools = cache("tools")?;
    let mut folders = vec![tools.join("bin")];
    folders.extend(cargo_home().map(|home| home.join("bin")));
    let found = find_all(LINKER, &folders)
        .into_iter()
        .find(|path| is_new_enough(path));
    if let Some(path) = found {
        return Ok(path);
    }
    let version = LINKER_VERSION.map(|number| number.to_string()).join(".");
    let mut command = cargo();
    command
        .args([
            "install",
            "--locked",
            "--no-default-features",
            "--features",
            "llvm-22",
            "--root",
        ])
        .arg(&tools)
        .arg(format!("{LINKER}@{version}"))
        .env("LLVM_PREFIX", LLVM_PREFIX);
    let by_hand = format!(
        "building the probes needs {LINKER} {version}:\n  \
         apt-get install --no-install-recommends {}\n  \
         LLVM_PREFIX={LLVM_PREFIX} cargo install {LINKER}@{version} --locked \\\n    \
         --no-default-features --features llvm-22",
        LLVM_PACKAGES.join(" ")
    );
    if !Path::new(LLVM_PREFIX).join("lib/libPolly.a").exists() || find("g++").is_none() {
        install(&LLVM_PACKAGES, LINKER).context(by_hand.clone())?;
    }
    ui::step(format_args!(
        "installing {LINKER} {version} with cargo (about a minute)"
    ));
    // The workspace's target folder must not mix with another project's build.
    command.env_remove("CARGO_TARGET_DIR");
    run(&mut command).context(by_hand)?;
    Ok(tools.join("bin").join(LINKER))
}

fn is_new_enough(linker: &Path) -> bool {
    output(Command::new(linker).arg("--version"))
        .is_ok_and(|text| version(&text).is_some_and(|version| version >= LINKER_VERSION))
}

/// The version in `bpf-linker 0.13.0`.
fn version(text: &str) -> Option<[u32; 3]> {
    let mut numbers = text
        .split_whitespace()
        .nth(1)?
        .splitn(3, '.')
        .map(str::parse);
    Some([
        numbers.next()?.ok()?,
        numbers.next()?.ok()?,
        numbers.next()?.ok()?,
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_by_number() {
        assert_eq!(version("bpf-linker 0.13.0\n"), Some([0, 13, 0]));
        assert_eq!(version("bpf-linker"), None);
        assert!(version("bpf-linker 0.9.15") < Some(LINKER_VERSION));
        assert!(version("bpf-linker 1.0.0") > Some(LINKER_VERSION));
    }
}
