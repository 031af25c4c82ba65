//! Podman with its own store.

use std::ffi::OsStr;
use std::fs;
use std::process::{Command, Output};

use crate::cgroup;
use crate::error::{Error, Result};
use crate::image::Image;
use crate::needs::{PODMAN, missing_of};
use crate::oci;
use crate::process::run;
use crate::workspace::Lab;

/// The limits can be set without CAP_SYS_RESOURCE; the network is the machine's own.
const CONFIGURATION: &str = "\
[containers]
default_ulimits = [\"nofile=1024:4096\", \"nproc=1024:1024\"]
netns = \"host\"
[engine]
cgroup_manager = \"cgroupfs\"
events_logger = \"file\"
";

/// Podman's default parent of its containers' cgroups.
const CGROUPS: &str = "libpod_parent";

/// Podman; dropping it removes its containers.
#[derive(Debug)]
pub struct Podman {
    lab: Lab,
}

impl Podman {
    /// Prepares an empty store.
    pub fn new(lab: &Lab) -> Result<Self> {
        if let Some(need) = missing_of(&PODMAN).first() {
            let message = format!("{} is missing: install {}", need.program, need.package);
            return Err(Error::Unusable(message));
        }
        let dir = lab.make_dir("podman")?;
        let file = dir.join("containers.conf");
        let runtime = oci::program(&dir, false)?;
        let text = format!("{CONFIGURATION}runtime = \"{}\"\n", runtime.display());
        fs::write(&file, text).map_err(Error::io(file.display().to_string()))?;
        Ok(Self { lab: lab.clone() })
    }

    /// Loads `image` under the name `reference`.
    pub fn load(&self, image: &Image, reference: &str) -> Result<()> {
        let tar = self.lab.path().join("podman/image.tar");
        image.write_tar(&tar, reference)?;
        self.podman([OsStr::new("load"), "--input".as_ref(), tar.as_ref()])
            .map(drop)
    }

    /// Starts a container and leaves it running; returns its id.
    pub fn run(&self, reference: &str, command: &[&str]) -> Result<String> {
        self.run_with(&[], reference, command)
    }

    /// Does what [`Self::run`] does, with more options for `podman run`.
    pub fn run_with(&self, options: &[&str], reference: &str, command: &[&str]) -> Result<String> {
        let run = ["run", "--detach", "--pull=never"];
        let words = run.iter().chain(options).chain([&reference]).chain(command);
        let output = self.podman(words)?;
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    /// Runs podman with these arguments.
    pub fn podman<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Result<Output> {
        let folder = self.lab.path().join("podman");
        let mut command = Command::new("podman");
        command.env("CONTAINERS_CONF", folder.join("containers.conf"));
        command.arg("--root").arg(folder.join("root"));
        command.arg("--runroot").arg(folder.join("run"));
        command.args(["--storage-driver", "overlay"]).args(args);
        run(command)
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        if let Err(error) = self.podman(["rm", "--all", "--force", "--time", "0"]) {
            eprintln!("podman's containers: {error}");
        }
        if let Err(error) = self.podman(["pod", "rm", "--all", "--force"]) {
            eprintln!("podman's Pods: {error}");
        }
        cgroup::remove(CGROUPS);
    }
}
