//! Podman with its own store.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

use crate::error::{Error, Result};
use crate::hierarchy;
use crate::image::Image;
use crate::needs::{PODMAN, require};
use crate::oci;
use crate::process::run;
use crate::runc::Bundle;
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
    folder: PathBuf,
    /// Rootless: the user's id, and the folder, which no user could reach in the lab.
    user: Option<(u32, TempDir)>,
    lab: Lab,
}

impl Podman {
    /// Prepares an empty store.
    pub fn new(lab: &Lab) -> Result<Self> {
        Self::in_folder(lab, lab.make_dir("podman")?, None)
    }

    /// Prepares an empty store of the user `uid`, who need not have a name or further ids: containers
    /// have this user's id alone.
    pub fn rootless(lab: &Lab, uid: u32) -> Result<Self> {
        let prefix = format!("imageswap-{uid}-");
        let made = tempfile::Builder::new().prefix(&prefix).tempdir();
        let home = made.map_err(Error::io("a folder of a user"))?;
        let folder = home.path().to_owned();
        let failed = Error::io(folder.display().to_string());
        let own = |path: &Path| {
            fs::set_permissions(path, fs::Permissions::from_mode(0o700))?;
            chown(path, Some(uid), Some(uid))
        };
        let prepare = || {
            own(&folder)?;
            for name in ["run", "root", "xdg"] {
                fs::create_dir(folder.join(name))?;
                own(&folder.join(name))?;
            }
            Ok(())
        };
        prepare().map_err(failed)?;
        Self::in_folder(lab, folder, Some((uid, home)))
    }

    fn in_folder(lab: &Lab, folder: PathBuf, user: Option<(u32, TempDir)>) -> Result<Self> {
        require(&PODMAN)?;
        let file = folder.join("containers.conf");
        let runtime = oci::program(&folder, false)?;
        let text = format!("{CONFIGURATION}runtime = \"{}\"\n", runtime.display());
        fs::write(&file, text).map_err(Error::io(file.display().to_string()))?;
        Ok(Self {
            folder,
            user,
            lab: lab.clone(),
        })
    }

    /// Loads `image` under the name `reference`.
    pub fn load(&self, image: &Image, reference: &str) -> Result<()> {
        let tar = self.folder.join("image.tar");
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

    /// Makes a container without starting it; returns its id.
    pub fn create(&self, reference: &str, command: &[&str]) -> Result<String> {
        let words = ["create", "--pull=never", reference];
        let output = self.podman(words.iter().chain(command))?;
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    /// Starts `command` on another root file system under the id of a container that was made and
    /// not started, as podman would: from podman's folder, with podman's monitor and its options.
    pub fn run_forged(&self, id: &str, command: &[&str]) -> Result<Bundle> {
        let place = self.podman(["inspect", "--format={{.StaticDir}}", id])?;
        let folder = PathBuf::from(String::from_utf8_lossy(&place.stdout).trim());
        let [root, run] = ["root", "run"].map(|name| self.folder.join(name).display().to_string());
        let options = ["--root", &root, "--runroot", &run];
        let bundle = Bundle::create_monitored(&self.lab, id, command, &folder, &options)?;
        bundle.begin()?;
        Ok(bundle)
    }

    /// Runs podman with these arguments.
    pub fn podman<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Result<Output> {
        let folder = &self.folder;
        let mut command = match &self.user {
            None => Command::new("podman"),
            Some((uid, _)) => {
                let uid = uid.to_string();
                let mut command = Command::new("setpriv");
                command.args(["--reuid", &uid, "--regid", &uid, "--clear-groups", "podman"]);
                command
                    .env("HOME", folder)
                    .env("XDG_RUNTIME_DIR", folder.join("xdg"));
                command.current_dir(folder);
                command
            }
        };
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
        if self.user.is_none() {
            hierarchy::remove(CGROUPS);
        } else if let Err(error) = self.podman(["system", "migrate"]) {
            // Ends the process that keeps the user's namespaces between calls.
            eprintln!("podman's pause process: {error}");
        }
    }
}
