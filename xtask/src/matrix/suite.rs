//! A root file system of a Debian release, made from packages alone and kept.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::initramfs::unpack;
use crate::process::{cache, find, output, run};
use crate::toolchain;
use crate::ui;

/// What the node's tests start, and an init for the virtual machine.
const PACKAGES: [&str; 11] = [
    "busybox-static",
    "containerd",
    "containernetworking-plugins",
    "crun",
    "docker-registry",
    "docker.io",
    "iproute2",
    "podman",
    "procps",
    "runc",
    "systemd",
];

/// Suites whose `docker.io` comes without the client.
const WITH_DOCKER_CLI: [&str; 3] = ["trixie", "forky", "sid"];

/// A suite with its root file system and its package lists.
#[derive(Debug)]
pub(crate) struct Suite {
    name: &'static str,
    architecture: &'static str,
    /// The root file system; nothing writes to it.
    pub(crate) root: PathBuf,
    /// The source list and lists of packages.
    apt: PathBuf,
}

impl Suite {
    /// Finds the root file system of `name` in the cache, or makes it from the package source of this machine.
    pub(crate) fn find_or_make(name: &'static str) -> Result<Self> {
        let cache = cache("matrix")?;
        let suite = Self {
            name,
            architecture: "amd64",
            root: cache.join(name),
            apt: cache.join(format!("{name}-apt")),
        };
        let packages = suite.packages();
        let made_of = cache.join(format!("{name}.packages"));
        if fs::read_to_string(&made_of).is_ok_and(|text| text == packages) && suite.root.is_dir() {
            return Ok(suite);
        }
        if find("mmdebstrap").is_none() {
            toolchain::install(&["mmdebstrap"], "root file systems of other suites")?;
        }
        suite.write_sources()?;
        ui::step(format_args!(
            "making a root file system of {name} (kept in {})",
            cache.display()
        ));
        if suite.root.is_dir() {
            fs::remove_dir_all(&suite.root).with_context(|| suite.root.display().to_string())?;
        }
        let unfinished = cache.join(format!("{name}.unfinished"));
        if unfinished.is_dir() {
            fs::remove_dir_all(&unfinished).with_context(|| unfinished.display().to_string())?;
        }
        run(Command::new("mmdebstrap")
            .args(["--quiet", "--variant=minbase", "--format=directory"])
            // A mirror's release files may be older than their validity allows.
            .arg("--aptopt=Acquire::Check-Valid-Until \"false\"")
            .arg(format!("--include={packages}"))
            .arg(name)
            .arg(&unfinished)
            .arg(suite.sources()))?;
        fs::rename(&unfinished, &suite.root).with_context(|| suite.root.display().to_string())?;
        fs::write(&made_of, packages).with_context(|| made_of.display().to_string())?;
        Ok(suite)
    }

    /// The packages of `name` for arm64, without a root file system.
    pub(crate) fn of_arm64(name: &'static str) -> Result<Self> {
        let cache = cache("matrix")?;
        Ok(Self {
            name,
            architecture: "arm64",
            root: cache.join(format!("{name}-arm64")),
            apt: cache.join(format!("{name}-arm64-apt")),
        })
    }

    /// The upstream version of an installed package, such as `2.1.9`.
    pub(crate) fn version(&self, package: &str) -> Result<String> {
        let version = output(
            Command::new("dpkg-query")
                .arg("--admindir")
                .arg(self.root.join("var/lib/dpkg"))
                .args(["--show", "--showformat=${Version}", package]),
        )?;
        let end = version.find(['~', '+', '-']).unwrap_or(version.len());
        Ok(version[..end].to_owned())
    }

    /// The suite's kernel, unpacked into a folder of the cache and not installed.
    pub(crate) fn kernel(&self) -> Result<PathBuf> {
        let of = match self.architecture {
            "amd64" => self.name.to_owned(),
            other => format!("{}-{other}", self.name),
        };
        let folder = cache("matrix")?.join(format!("{of}-kernel"));
        if folder.is_dir() {
            return Ok(folder);
        }
        ui::step(format_args!(
            "downloading the kernel of {} for {}",
            self.name, self.architecture
        ));
        self.write_sources()?;
        let unfinished = folder.with_extension("unfinished");
        let packages = unfinished.join("packages");
        fs::create_dir_all(&packages).with_context(|| packages.display().to_string())?;
        run(self.apt("apt-get").args(["-qq", "update"]))?;
        let mut wanted = self.kernel_packages(&format!("linux-image-{}", self.architecture))?;
        ensure!(!wanted.is_empty(), "{} has no kernel", self.name);
        let mut at = 0;
        // Newer suites have the kernel and its modules in packages that the image depends on.
        while at < wanted.len() {
            for more in self.kernel_packages(&wanted[at])? {
                if !wanted.contains(&more) {
                    wanted.push(more);
                }
            }
            at += 1;
        }
        run(self
            .apt("apt-get")
            .args(["-qq", "download"])
            .args(&wanted)
            .current_dir(&packages))?;
        for file in fs::read_dir(&packages)?.flatten() {
            unpack(&file.path(), &unfinished)?;
        }
        fs::remove_dir_all(&packages)?;
        fs::rename(&unfinished, &folder).with_context(|| folder.display().to_string())?;
        Ok(folder)
    }

    /// The packages of a kernel's files that `package` depends on.
    fn kernel_packages(&self, package: &str) -> Result<Vec<String>> {
        let depends = output(self.apt("apt-cache").args(["depends", package]))?;
        Ok(depends
            .lines()
            .filter_map(|line| line.trim().strip_prefix("Depends: "))
            .filter(|name| {
                ["linux-image-", "linux-binary-", "linux-modules-"]
                    .iter()
                    .any(|begin| name.starts_with(begin))
            })
            .map(str::to_owned)
            .collect())
    }

    fn packages(&self) -> String {
        let mut packages = PACKAGES.to_vec();
        if WITH_DOCKER_CLI.contains(&self.name) {
            packages.push("docker-cli");
        }
        packages.join(",")
    }

    /// A program of apt that uses this suite alone.
    fn apt(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        for (option, path) in [
            ("Dir::Etc::SourceList", self.sources()),
            ("Dir::Etc::SourceParts", PathBuf::from("/dev/null")),
            ("Dir::State::Lists", self.apt.join("lists")),
            ("Dir::Cache::pkgcache", self.apt.join("pkgcache.bin")),
            ("Dir::Cache::srcpkgcache", self.apt.join("srcpkgcache.bin")),
        ] {
            command
                .arg("-o")
                .arg(format!("{option}={}", path.display()));
        }
        // Installed packages are this machine's.
        command.args(["-o", "Dir::State::status=/dev/null"]);
        for option in ["APT::Architecture", "APT::Architectures"] {
            command
                .arg("-o")
                .arg(format!("{option}={}", self.architecture));
        }
        command.args(["-o", "APT::Sandbox::User=root"]);
        command.args(["-o", "Acquire::Check-Valid-Until=false"]);
        command
    }

    fn sources(&self) -> PathBuf {
        self.apt.join("sources.list")
    }

    fn write_sources(&self) -> Result<()> {
        let uri = own_source(Path::new("/etc/apt"))
            .context("no package source of Debian in /etc/apt; the matrix needs one")?;
        let lists = self.apt.join("lists/partial");
        fs::create_dir_all(&lists).with_context(|| lists.display().to_string())?;
        let keys = "/usr/share/keyrings/debian-archive-keyring.gpg";
        let line = format!("deb [signed-by={keys}] {uri} {} main\n", self.name);
        fs::write(self.sources(), line).with_context(|| self.sources().display().to_string())
    }
}

/// The first address in a `.sources` file or `sources.list` below `apt` that has a suite's main archive.
fn own_source(apt: &Path) -> Option<String> {
    let mut files = vec![apt.join("sources.list")];
    let parts = fs::read_dir(apt.join("sources.list.d"));
    files.extend(
        parts
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path()),
    );
    files
        .iter()
        .filter(|path| {
            path.extension()
                .is_some_and(|end| end == "sources" || end == "list")
        })
        .filter_map(|path| fs::read_to_string(path).ok())
        .find_map(|text| address(&text))
}

/// The address of Debian's main archive in a list of package sources, in either of apt's two formats.
fn address(text: &str) -> Option<String> {
    let stanzas = text
        .split("\n\n")
        .filter(|stanza| stanza.contains("debian-archive"));
    let mut addresses = stanzas
        .flat_map(str::lines)
        .filter_map(|line| line.strip_prefix("URIs:"))
        .filter_map(|uris| uris.split_whitespace().next());
    let mut one_line = text.lines().filter_map(|line| {
        let words = line.strip_prefix("deb ")?;
        let words = words.split_once(']').map_or(words, |(_, words)| words);
        let address = words.split_whitespace().next()?;
        address
            .trim_end_matches('/')
            .ends_with("debian")
            .then_some(address)
    });
    addresses
        .next()
        .or_else(|| one_line.next())
        .map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_archive_of_this_machine_is_found_in_both_formats() {
        let sources = "Types: deb\nURIs: http://example.com/nodejs\nSigned-By: x\n\n\
                       Types: deb\nURIs: http://example.com/debian\nSuites: bookworm\n\
                       Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\n";
        assert_eq!(
            address(sources).as_deref(),
            Some("http://example.com/debian")
        );
        let list = "deb http://example.com/other x main\n\
                    deb [arch=amd64 trusted=yes] http://example.com/debian/ bookworm main\n";
        assert_eq!(address(list).as_deref(), Some("http://example.com/debian/"));
        assert_eq!(address("# nothing\n"), None);
    }
}
