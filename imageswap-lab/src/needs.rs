//! Which programs the parts need, and the Debian packages that hold them.

use std::env;
use std::fs;
use std::path::PathBuf;

use crate::error::{Error, Result};
use crate::skip::skip;

/// A program and the Debian package that installs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Need {
    /// The program's name.
    pub program: &'static str,
    /// The Debian package.
    pub package: &'static str,
}

const fn need(program: &'static str, package: &'static str) -> Need {
    Need { program, package }
}

/// Programs that start containers.
pub(crate) const CONTAINERS: [Need; 5] = [
    need("containerd", "containerd"),
    need("ctr", "containerd"),
    need("runc", "runc"),
    need("docker-registry", "docker-registry"),
    need("busybox", "busybox-static"),
];

/// The program that collects metrics.
pub(crate) const PROMETHEUS: [Need; 1] = [need("prometheus", "prometheus")];

/// The program that receives alerts.
pub(crate) const ALERTMANAGER: [Need; 1] =
    [need("prometheus-alertmanager", "prometheus-alertmanager")];

/// The program that shows pages.
pub(crate) const BROWSER: [Need; 1] = [need("chromium", "chromium")];

/// The plugins that give a Pod its addresses.
pub(crate) const POD_NETWORK: [Need; 1] = [need("/usr/lib/cni/ptp", "containernetworking-plugins")];

/// A second runtime, and the OCI runtime that it uses if it is installed.
pub(crate) const PODMAN: [Need; 2] = [need("podman", "podman"), need("crun", "crun")];

/// A third runtime. Debian's package has the client, too.
pub(crate) const DOCKER: [Need; 2] = [need("dockerd", "docker.io"), need("docker", "docker.io")];

/// Programs that run what the documentation shows.
pub(crate) const DOCUMENTATION: [Need; 2] = [need("curl", "curl"), need("lua5.1", "lua5.1")];

/// The programs that containers need and that are not installed.
///
/// A busybox that is not statically linked counts as missing, because it could not run in an image
/// of its own.
pub fn missing() -> Vec<Need> {
    missing_of(&CONTAINERS)
}

/// Missing programs of all parts.
pub fn missing_for_tests() -> Vec<Need> {
    let others: [&[Need]; 7] = [
        &PROMETHEUS,
        &ALERTMANAGER,
        &BROWSER,
        &POD_NETWORK,
        &PODMAN,
        &DOCKER,
        &DOCUMENTATION,
    ];
    let others = others.iter().flat_map(|needs| missing_of(needs));
    missing().into_iter().chain(others).collect()
}

/// Those of `needs` that are not installed.
pub(crate) fn missing_of(needs: &[Need]) -> Vec<Need> {
    needs
        .iter()
        .copied()
        .filter(|need| match find(need.program) {
            None => true,
            Some(path) => {
                need.program == "busybox" && !fs::read(path).is_ok_and(|it| is_static(&it))
            }
        })
        .collect()
}

/// An error that says what to install, if a program is missing.
pub(crate) fn require(needs: &[Need]) -> Result<()> {
    match missing_of(needs).first() {
        None => Ok(()),
        Some(Need { program, package }) => Err(Error::Unusable(format!(
            "{program} is missing: install {package}"
        ))),
    }
}

/// Whether `test` has these programs; prints that the test is skipped if not.
pub(crate) fn are_installed_for(test: &str, needs: &[Need]) -> bool {
    let missing = missing_of(needs);
    let packages: Vec<_> = missing.iter().map(|need| need.package).collect();
    if !missing.is_empty() {
        skip(test, &format!("needs the packages {}", packages.join(" ")));
    }
    missing.is_empty()
}

/// Whether this process runs as root.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// The path of `program`, looked up in `PATH` and in Debian's folders of administrator programs.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin", "/usr/bin", "/bin"].map(PathBuf::from))
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
}

/// Whether the kernel alone can run a program: it does not name a loader, which our images lack.
pub fn is_static(program: &[u8]) -> bool {
    const INTERPRETER: [u8; 4] = 3_u32.to_le_bytes();
    // Offsets of a little-endian ELF file of 64 bits: elf(5).
    let number = |at: usize, bytes: usize| {
        let field = program.get(at..at + bytes)?;
        let digits = field.iter().rev();
        Some(digits.fold(0_usize, |sum, it| sum << 8 | usize::from(*it)))
    };
    let headers = || Some((number(32, 8)?, number(54, 2)?, number(56, 2)?));
    let Some((start, size, count)) = headers().filter(|_| program.starts_with(b"\x7fELF\x02\x01"))
    else {
        return false;
    };
    (0..count).all(|at| {
        let header = start + at * size;
        let kind = program.get(header..header + 4);
        kind.is_some_and(|it| it != INTERPRETER)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_on_the_path_is_found() {
        assert!(find("sh").is_some());
        assert!(find("no-such-program-anywhere").is_none());
    }

    #[test]
    fn a_program_with_a_loader_is_not_static() {
        let own = fs::read(env::current_exe().unwrap()).unwrap();
        assert!(!is_static(&own));
        assert!(!is_static(b"#!/bin/sh\n") && !is_static(b"\x7fELF\x02\x01") && !is_static(b""));
        match fs::read(crate::BUSYBOX) {
            Ok(busybox) => assert!(is_static(&busybox)),
            Err(error) => {
                skip("a_program_with_a_loader_is_not_static", &error.to_string());
            }
        }
    }
}
