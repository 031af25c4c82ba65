//! containerd with a root, state, socket and registry hosts of its own.

mod config;

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::cgroup;
use crate::cri::Cri;
use crate::error::{Error, Result};
use crate::hierarchy;
use crate::image::Image;
use crate::leftovers::{cgroups_of, processes};
use crate::oci;
use crate::process::{Process, run};
use crate::wait::wait_until;
use crate::workspace::Lab;

/// The name of the pause image that the CRI plugin uses here.
const PAUSE: &str = "registry.k8s.io/pause:3.9";
/// The folder of the tasks' folders, below containerd's state.
const TASKS: &str = "io.containerd.runtime.v2.task";
/// Time for the removal of a task.
const REMOVED: Duration = Duration::from_secs(10);

/// Which containerd of this program has a container with this namespace and id. Every containerd of
/// a machine puts it into the same cgroup, `/<namespace>/<id>`, and removes all that runs there.
static TAKEN: Mutex<BTreeMap<[String; 2], PathBuf>> = Mutex::new(BTreeMap::new());

/// Options of a containerd.
#[derive(Debug, Clone, Default)]
pub struct ContainerdOptions {
    /// Registry hosts that a local registry replaces, such as `registry.example.com`.
    pub mirrors: Vec<(String, SocketAddr)>,
    /// Whether containerd and its containers see cgroup v2 alone in `/sys/fs/cgroup`; see
    /// [`in_pure_v2`](crate::in_pure_v2). Resource limits are then removed from each container.
    pub pure_cgroup_v2: bool,
    /// Whether to enable the CRI plugin; Pods use the host's network, so that no CNI plugin is
    /// needed.
    pub cri: bool,
    /// Whether systemd makes the Pods' cgroups; it has to run.
    pub systemd_cgroup: bool,
}

/// A running containerd; dropping it ends its containers too.
#[derive(Debug)]
pub struct Containerd {
    process: Process,
    options: ContainerdOptions,
    dir: PathBuf,
    lab: Lab,
}

impl Containerd {
    /// Starts one in the lab's folder, and waits until it answers.
    pub fn start(lab: &Lab, options: ContainerdOptions) -> Result<Self> {
        let dir = lab.make_dir("ctd")?;
        config::write(&dir, &options, PAUSE)?;
        let process = launch(lab, &dir, &options)?;
        let mut containerd = Self {
            process,
            options,
            dir,
            lab: lab.clone(),
        };
        containerd.wait_ready()?;
        if containerd.options.cri {
            containerd.import("k8s.io", &Image::pause()?, PAUSE)?;
            let cri = containerd.cri()?;
            let limit = Duration::from_secs(30);
            if !wait_until(limit, || cri.has_image(PAUSE).unwrap_or(false)) {
                return Err(Error::Timeout {
                    what: format!("{PAUSE} in the CRI plugin"),
                    seconds: limit.as_secs(),
                    log: String::new(),
                });
            }
        }
        Ok(containerd)
    }

    /// Its gRPC socket, for its own API and for CRI.
    pub fn socket(&self) -> PathBuf {
        socket(&self.dir)
    }

    /// Its folder of bundles and other state, by default `/run/containerd`.
    pub fn state(&self) -> PathBuf {
        self.dir.join("state")
    }

    /// The folder of its CNI plugins and their configuration; without them Pods use the machine's
    /// network.
    pub fn network_dir(&self) -> PathBuf {
        self.dir.join("cni")
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// The first two numbers of its version: `[2, 1]` for 2.1.9.
    pub fn version(&self) -> Result<[u32; 2]> {
        let output = run(self.ctr_command("default", ["version"]))?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        // The client's comes before the server's.
        let version = text.rsplit("Version:").next().unwrap_or_default().trim();
        let mut numbers = version.split(['.', '~', '+']).map(str::parse);
        match (numbers.next(), numbers.next()) {
            (Some(Ok(major)), Some(Ok(minor))) => Ok([major, minor]),
            _ => Err(Error::Unusable(format!(
                "no version of containerd in {text}"
            ))),
        }
    }

    /// Its log.
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// A client of its CRI plugin.
    pub fn cri(&self) -> Result<Cri> {
        Cri::connect(&self.socket(), self.options.systemd_cgroup)
    }

    /// Stops the daemon and leaves its containers running.
    pub fn stop(&mut self) {
        self.process.stop();
    }

    /// Starts the daemon again after [`Containerd::stop`].
    pub fn start_again(&mut self) -> Result<()> {
        self.process = launch(&self.lab, &self.dir, &self.options)?;
        self.wait_ready()
    }

    /// Runs `ctr --namespace <namespace> <args>`.
    pub fn ctr<A: AsRef<std::ffi::OsStr>>(
        &self,
        namespace: &str,
        args: impl IntoIterator<Item = A>,
    ) -> Result<Output> {
        run(self.ctr_command(namespace, args))
    }

    /// Pulls `reference` from the local registry that replaces its host.
    pub fn pull(&self, namespace: &str, reference: &str) -> Result<()> {
        let hosts = config::hosts_dir(&self.dir);
        let mut command = self.ctr_command(namespace, ["image", "pull", "--hosts-dir"]);
        command.arg(hosts).arg(reference);
        run(command).map(drop)
    }

    /// Imports `image` under the name `reference`, without a registry.
    pub fn import(&self, namespace: &str, image: &Image, reference: &str) -> Result<()> {
        let hex = image.digest().replace(':', "-");
        let tar = self.lab.path().join(format!("{hex}-{namespace}.tar"));
        image.write_tar(&tar, reference)?;
        let mut command = self.ctr_command(namespace, ["image", "import"]);
        command.arg(&tar);
        let imported = run(command);
        fs::remove_file(&tar).map_err(Error::io(tar.display().to_string()))?;
        imported.map(drop)
    }

    /// Gives the image `from` the further name `to`.
    pub fn tag(&self, namespace: &str, from: &str, to: &str) -> Result<()> {
        self.ctr(namespace, ["image", "tag", "--force", from, to])
            .map(drop)
    }

    /// Starts a container and leaves it running. Its cgroup is `/<namespace>/<id>`, so the pair has
    /// to be unique on the machine, not only in this containerd; it panics if another containerd of
    /// this program had it. Without `cmd` it runs the image's command.
    pub fn run(&self, namespace: &str, reference: &str, id: &str, cmd: &[&str]) -> Result<()> {
        self.run_with(&["--detach"], namespace, reference, id, cmd)
    }

    /// Like [`Self::run`], with further flags of `ctr run`, such as labels or a cgroup.
    pub fn run_as(
        &self,
        flags: &[&str],
        namespace: &str,
        reference: &str,
        id: &str,
        cmd: &[&str],
    ) -> Result<()> {
        let flags: Vec<_> = flags.iter().copied().chain(["--detach"]).collect();
        self.run_with(&flags, namespace, reference, id, cmd)
    }

    /// Runs a container to its end and removes it.
    pub fn run_to_end(
        &self,
        namespace: &str,
        reference: &str,
        id: &str,
        cmd: &[&str],
    ) -> Result<()> {
        self.run_with(&["--rm"], namespace, reference, id, cmd)
    }

    /// Kills a container by SIGKILL, and removes it.
    pub fn remove(&self, namespace: &str, id: &str) -> Result<()> {
        let mut stopped = Ok(());
        wait_until(REMOVED, || {
            stopped = match self.ctr(namespace, ["task", "rm", "--force", id]) {
                // A container whose start failed has no task.
                Err(Error::Command { stderr, .. }) if stderr.contains("not found") => Ok(()),
                // The CRI plugin removes a task that ends at the same time.
                other => other.map(drop),
            };
            stopped.is_ok()
        });
        // A task that the CRI plugin removes is off the list before its folder is gone, and no task of
        // this id can be made until then.
        let task = self.state().join(TASKS).join(namespace).join(id);
        wait_until(REMOVED, || !task.exists());
        self.ctr(namespace, ["container", "rm", id])?;
        stopped
    }

    /// Lets its shims hang, or go on.
    pub fn hang_shims(&self, hang: bool) -> Result<()> {
        let signal = if hang { Signal::STOP } else { Signal::CONT };
        let mut shims = shims_of(&self.socket()).into_iter();
        shims
            .try_for_each(|pid| kill_process(pid, signal))
            .map_err(|error| Error::io("a shim")(error.into()))
    }

    fn run_with(
        &self,
        flags: &[&str],
        namespace: &str,
        reference: &str,
        id: &str,
        cmd: &[&str],
    ) -> Result<()> {
        self.take(namespace, id);
        let mut command = self.ctr_command(namespace, ["run"]);
        command
            .args(flags)
            .arg("--runc-root")
            .arg(config::runc_root(&self.dir));
        command
            .arg("--runc-binary")
            .arg(oci::program(&self.dir, self.options.pure_cgroup_v2)?);
        command.args([reference, id]).args(cmd);
        run(command).map(drop)
    }

    /// # Panics
    ///
    /// If another containerd of this program had the container: two tests would stop each other's.
    fn take(&self, namespace: &str, id: &str) {
        let mut taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
        let name = [namespace, id].map(str::to_owned);
        let owner = taken.entry(name).or_insert_with(|| self.dir.clone());
        assert_eq!(
            *owner, self.dir,
            "container {id:?} in namespace {namespace:?} is another test's; give it another id"
        );
    }

    fn ctr_command<A: AsRef<std::ffi::OsStr>>(
        &self,
        namespace: &str,
        args: impl IntoIterator<Item = A>,
    ) -> Command {
        let mut command = Command::new("ctr");
        command
            .arg("--address")
            .arg(self.socket())
            .args(["--namespace", namespace])
            .args(args);
        command
    }

    fn wait_ready(&mut self) -> Result<()> {
        let socket = socket(&self.dir);
        self.process.wait_ready(Duration::from_mins(1), || {
            let mut command = Command::new("ctr");
            command
                .args(["--timeout", "5s", "--address"])
                .arg(&socket)
                .arg("version");
            run(command).is_ok()
        })
    }

    /// The lines of a `ctr` listing.
    fn list(&self, namespace: &str, args: &[&str]) -> Vec<String> {
        let output = self
            .ctr(namespace, args)
            .map(|output| output.stdout)
            .unwrap_or_default();
        String::from_utf8_lossy(&output)
            .lines()
            .map(str::to_owned)
            .collect()
    }
}

impl Drop for Containerd {
    /// Ends containers through the API, so that runc removes the cgroups, and then kills the
    /// remaining shims by id.
    fn drop(&mut self) {
        if !self.process.is_running() && self.start_again().is_err() {
            eprintln!("containerd could not be started again to end its containers");
        }
        if let Err(error) = self.hang_shims(false) {
            eprintln!("{error}");
        }
        let cgroups: Vec<_> = cgroups_of(&self.state()).collect();
        for namespace in self.list("default", &["namespace", "ls", "--quiet"]) {
            for id in self.list(&namespace, &["task", "ls", "--quiet"]) {
                // The CRI plugin may have removed it meanwhile.
                drop(self.ctr(&namespace, ["task", "rm", "--force", &id]));
            }
        }
        for path in cgroups {
            hierarchy::remove(&path);
        }
        self.process.stop();
        for pid in shims_of(&self.socket()) {
            if let Err(error) = kill_process(pid, Signal::KILL) {
                eprintln!("shim {}: {error}", pid.as_raw_nonzero());
            }
        }
    }
}

fn launch(lab: &Lab, dir: &Path, options: &ContainerdOptions) -> Result<Process> {
    let mut command = if options.pure_cgroup_v2 {
        cgroup::in_pure_v2("containerd")
    } else {
        Command::new("containerd")
    };
    command.arg("--config").arg(config::file(dir));
    Process::start(lab, "containerd", command)
}

fn socket(dir: &Path) -> PathBuf {
    dir.join("containerd.sock")
}

/// The shims that serve the containerd at `socket`; they outlive it.
fn shims_of(socket: &Path) -> Vec<Pid> {
    let socket = socket.as_os_str().as_encoded_bytes();
    let is_ours = |cmdline: &[u8]| {
        let mut words = cmdline.split(|byte| *byte == 0);
        words
            .next()
            .is_some_and(|program| program.windows(15).any(|part| part == b"containerd-shim"))
            && words.any(|word| word == socket)
    };
    processes(|process| {
        let cmdline = fs::read(process.join("cmdline"));
        cmdline.is_ok_and(|cmdline| is_ours(&cmdline))
    })
}
