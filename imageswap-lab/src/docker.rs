//! Docker with its own data root, on a lab's containerd.

use std::ffi::OsStr;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use serde_json::json;

use crate::containerd::Containerd;
use crate::error::{Error, Result};
use crate::hierarchy;
use crate::image::layer;
use crate::needs::{DOCKER, require};
use crate::oci;
use crate::process::{Process, run};
use crate::workspace::Lab;

/// dockerd's default parent of its containers' cgroups.
const CGROUPS: &str = "docker";

/// No network, because it would change the machine's, and the storage driver that most nodes use.
const FLAGS: [&str; 4] = [
    "--bridge=none",
    "--iptables=false",
    "--ip6tables=false",
    "--storage-driver=overlay2",
];

/// A running dockerd; dropping it removes its containers.
#[derive(Debug)]
pub struct Docker {
    process: Process,
    dir: PathBuf,
}

impl Docker {
    /// Starts a dockerd that runs its containers with `containerd`, and waits until it answers. A
    /// local registry may replace `hosts`.
    pub fn start(
        lab: &Lab,
        containerd: &Containerd,
        hosts: &[(String, SocketAddr)],
    ) -> Result<Self> {
        require(&DOCKER)?;
        let dir = lab.make_dir("docker")?;
        // Otherwise dockerd would read the machine's own file.
        let config = dir.join("daemon.json");
        let mut settings = json!({});
        if !oci::is_default() {
            let path = oci::program(&dir, false)?;
            settings = json!({"default-runtime": "lab", "runtimes": {"lab": {"path": path}}});
        }
        fs::write(&config, settings.to_string())
            .map_err(Error::io(config.display().to_string()))?;
        let mut command = Command::new("dockerd");
        command.args(FLAGS).arg("--config-file").arg(config);
        command.arg("--data-root").arg(data_root(&dir));
        command.arg("--exec-root").arg(dir.join("exec"));
        command.arg("--pidfile").arg(dir.join("pid"));
        command.arg("--containerd").arg(containerd.socket());
        command.arg("--host").arg(url(&dir));
        for (host, registry) in hosts {
            // The registry accepts proxy requests for any host as its own.
            let proxy = format!("http://{registry}");
            command.env("HTTP_PROXY", &proxy).env("HTTPS_PROXY", &proxy);
            command.args(["--insecure-registry", host]);
        }
        let mut docker = Self {
            process: Process::start(lab, "dockerd", command)?,
            dir,
        };
        let dir = docker.dir.clone();
        docker.process.wait_ready(Duration::from_mins(1), || {
            run(client(&dir, ["version"])).is_ok()
        })?;
        Ok(docker)
    }

    /// Its data root, by default `/var/lib/docker`.
    pub fn data_root(&self) -> PathBuf {
        data_root(&self.dir)
    }

    /// Pulls `reference`.
    pub fn pull(&self, reference: &str) -> Result<()> {
        self.docker(["pull", "--quiet", reference]).map(drop)
    }

    /// Makes an image called `reference`; `salt` makes it differ from others.
    pub fn make(&self, reference: &str, salt: &str) -> Result<()> {
        let tar = self.dir.join("layer.tar");
        let write = || fs::write(&tar, layer(salt)?);
        write().map_err(Error::io(tar.display().to_string()))?;
        let import = [OsStr::new("import"), tar.as_ref(), reference.as_ref()];
        self.docker(import).map(drop)
    }

    /// Starts a container and leaves it running; returns its id.
    pub fn run(&self, flags: &[&str], image: &str) -> Result<String> {
        self.make_container(&["run", "--detach"], flags, image)
    }

    /// Makes a container without starting it; returns its id.
    pub fn create(&self, image: &str) -> Result<String> {
        self.make_container(&["create"], &[], image)
    }

    /// Kills a container by SIGKILL, and keeps it.
    pub fn stop(&self, id: &str) -> Result<()> {
        self.docker(["stop", "--time", "0", id]).map(drop)
    }

    /// Runs docker with these arguments, and returns what it prints.
    pub fn docker<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Result<String> {
        let Output { stdout, .. } = run(client(&self.dir, args))?;
        Ok(String::from_utf8_lossy(&stdout).trim().to_owned())
    }

    fn make_container(&self, words: &[&str], flags: &[&str], image: &str) -> Result<String> {
        let what = [image, "sleep", "2147483647"];
        let words = words.iter().chain(&["--network=none", "--pull=never"]);
        self.docker(words.chain(flags).chain(&what))
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        let all = self.docker(["ps", "--all", "--quiet", "--no-trunc"]);
        for id in all.unwrap_or_default().lines() {
            if let Err(error) = self.docker(["rm", "--force", id]) {
                eprintln!("docker's container {id}: {error}");
            }
            // Another Docker on the machine may have cgroups beside it.
            hierarchy::remove(&format!("{CGROUPS}/{id}"));
        }
        self.process.stop();
    }
}

fn client<A: AsRef<OsStr>>(dir: &Path, args: impl IntoIterator<Item = A>) -> Command {
    let mut command = Command::new("docker");
    // The user who runs the tests may have a configuration with a context.
    command.arg("--config").arg(dir.join("client"));
    command.arg("--host").arg(url(dir)).args(args);
    command
}

fn data_root(dir: &Path) -> PathBuf {
    dir.join("data")
}

fn url(dir: &Path) -> String {
    format!("unix://{}", dir.join("docker.sock").display())
}
