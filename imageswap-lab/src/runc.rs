//! A container that runc alone knows.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::json;

use crate::cgroup;
use crate::error::{Error, Result};
use crate::image::unpack_root;
use crate::oci::{self, oci_runtime};
use crate::process::run;
use crate::wait::wait_until;
use crate::workspace::Lab;

/// How long a runtime may take to create a container.
const CREATED: Duration = Duration::from_secs(20);

/// Runs a container in the background.
const RUN: &[&str] = &["run", "--detach"];

/// A bundle on disk and the container that `runc run --detach` started from it;
/// dropping it ends the container.
#[derive(Debug)]
pub struct Bundle {
    dir: PathBuf,
    id: String,
    pure_v2: bool,
    root: Option<PathBuf>,
    _lab: Lab,
}

impl Bundle {
    /// Writes a bundle with a busybox root and starts `cmd` in it as `id`. With `pure_v2` it sees
    /// cgroup v2 alone (see [`in_pure_v2`](crate::in_pure_v2)). runc keeps its state in its default
    /// folder.
    ///
    /// Needs a cgroup that `runc` may make: `/<id>` in each hierarchy.
    pub fn run(lab: &Lab, id: &str, cmd: &[&str], pure_v2: bool) -> Result<Self> {
        Self::start(RUN, lab, &spec(id, cmd), id, pure_v2, None)
    }

    /// Like [`Bundle::run`], with a forged cgroup and forged annotations.
    pub fn run_forged(
        lab: &Lab,
        id: &str,
        cmd: &[&str],
        cgroup: &str,
        annotations: &[(&str, &str)],
    ) -> Result<Self> {
        let mut spec = in_cgroup(id, cmd, cgroup);
        spec["annotations"] = annotations
            .iter()
            .map(|(key, value)| ((*key).to_owned(), json!(value)))
            .collect();
        Self::start(RUN, lab, &spec, id, false, None)
    }

    /// Like [`Bundle::run`], in this cgroup and without some kinds of namespaces, such as `pid`.
    pub fn run_without(
        lab: &Lab,
        id: &str,
        cmd: &[&str],
        cgroup: &str,
        kinds: &[&str],
    ) -> Result<Self> {
        let spec = spec_without(id, cmd, cgroup, kinds);
        Self::start(RUN, lab, &spec, id, false, None)
    }

    /// Like [`Bundle::run_without`], but `cmd` does not run before [`Bundle::begin`].
    pub fn create_without(
        lab: &Lab,
        id: &str,
        cmd: &[&str],
        cgroup: &str,
        kinds: &[&str],
    ) -> Result<Self> {
        let spec = spec_without(id, cmd, cgroup, kinds);
        Self::start(&["create"], lab, &spec, id, false, None)
    }

    /// Like [`Bundle::run`], with runc's state in the folder `state` of the bundle, which
    /// the agent does not search.
    pub fn run_hidden(lab: &Lab, id: &str, cmd: &[&str], pure_v2: bool) -> Result<Self> {
        let root = lab.make_dir(&format!("bundle-{id}"))?.join("state");
        Self::start(RUN, lab, &spec(id, cmd), id, pure_v2, Some(root))
    }

    /// Like [`Bundle::create`], in podman's way: from the folder `dir`, by a monitor with these
    /// options, which stays the parent of the process.
    pub(crate) fn create_monitored(
        lab: &Lab,
        id: &str,
        cmd: &[&str],
        dir: &Path,
        options: &[&str],
    ) -> Result<Self> {
        let bundle = Self::written(lab, &spec(id, cmd), id, dir)?;
        let mut monitor = Command::new("conmon");
        monitor
            .args([
                "--full-attach",
                "--api-version",
                "1",
                "-c",
                id,
                "-u",
                id,
                "-n",
                "forged",
            ])
            .arg("-r")
            .arg(oci::program(dir, false)?)
            .args(["-l", "none", "-b"])
            .arg(dir)
            .arg("-p")
            .arg(dir.join("forged.pid"))
            .args(["--exit-command", "true"]);
        for option in options {
            monitor.args(["--exit-command-arg", option]);
        }
        run(monitor)?;
        // The monitor goes on in the background.
        wait_until(CREATED, || {
            bundle.pid().is_ok_and(|pid| pid.is_some_and(|pid| pid > 0))
        });
        Ok(bundle)
    }

    /// Like [`Bundle::run`], but `cmd` does not run before [`Bundle::begin`].
    pub fn create(lab: &Lab, id: &str, cmd: &[&str]) -> Result<Self> {
        Self::start(&["create"], lab, &spec(id, cmd), id, false, None)
    }

    /// The container's process, if it has one.
    pub fn pid(&self) -> Result<Option<u32>> {
        let mut command = self.runc();
        command.args(["state", &self.id]);
        let state = run(command)?.stdout;
        let state: serde_json::Value = serde_json::from_slice(&state).unwrap_or_default();
        Ok(state["pid"]
            .as_u64()
            .and_then(|pid| u32::try_from(pid).ok()))
    }

    /// Runs the command of a container that was only created.
    pub fn begin(&self) -> Result<()> {
        let mut command = self.runc();
        command.args(["start", &self.id]);
        run(command).map(drop)
    }

    /// Runs another command in the container, and waits for its end.
    pub fn exec(&self, cmd: &[&str]) -> Result<()> {
        let mut command = self.runc();
        command.args(["exec", &self.id]).args(cmd);
        run(command).map(drop)
    }

    fn start(
        verb: &[&str],
        lab: &Lab,
        spec: &serde_json::Value,
        id: &str,
        pure_v2: bool,
        root: Option<PathBuf>,
    ) -> Result<Self> {
        let dir = lab.make_dir(&format!("bundle-{id}"))?;
        let mut bundle = Self::written(lab, spec, id, &dir)?;
        (bundle.pure_v2, bundle.root) = (pure_v2, root);
        let mut command = bundle.runc();
        command.args(verb).arg("--bundle").arg(&bundle.dir).arg(id);
        // A container would keep pipes open.
        let log = lab.log_path(&format!("bundle-{id}"));
        let output = || fs::File::create(&log).map_err(Error::io(log.display().to_string()));
        let status = command
            .stdin(std::process::Stdio::null())
            .stdout(output()?)
            .stderr(output()?)
            .status()
            .map_err(Error::io("runc run"))?;
        if status.success() {
            return Ok(bundle);
        }
        Err(Error::Command {
            command: format!("runc {}", verb.join(" ")),
            status,
            stderr: fs::read_to_string(&log)
                .unwrap_or_default()
                .trim()
                .to_owned(),
        })
    }

    /// Writes a bundle with a busybox root into the folder `dir`.
    fn written(lab: &Lab, spec: &serde_json::Value, id: &str, dir: &Path) -> Result<Self> {
        let failed = |path: &Path| Error::io(path.display().to_string());
        let rootfs = dir.join("rootfs");
        fs::create_dir_all(&rootfs).map_err(failed(&rootfs))?;
        unpack_root(&rootfs)?;
        let config = dir.join("config.json");
        fs::write(&config, spec.to_string()).map_err(failed(&config))?;
        Ok(Self {
            dir: dir.to_owned(),
            id: id.to_owned(),
            pure_v2: false,
            root: None,
            _lab: lab.clone(),
        })
    }

    /// The bundle's folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    fn runc(&self) -> Command {
        let mut command = if self.pure_v2 {
            cgroup::in_pure_v2(oci_runtime())
        } else {
            Command::new(oci_runtime())
        };
        if let Some(root) = &self.root {
            command.arg("--root").arg(root);
        }
        command
    }
}

impl Drop for Bundle {
    fn drop(&mut self) {
        let mut command = self.runc();
        command.args(["delete", "--force", &self.id]);
        if let Err(error) = run(command) {
            eprintln!("{error}");
        }
    }
}

fn in_cgroup(id: &str, cmd: &[&str], cgroup: &str) -> serde_json::Value {
    let mut spec = spec(id, cmd);
    spec["linux"]["cgroupsPath"] = json!(cgroup);
    spec
}

fn spec_without(id: &str, cmd: &[&str], cgroup: &str, kinds: &[&str]) -> serde_json::Value {
    let mut spec = in_cgroup(id, cmd, cgroup);
    if let Some(namespaces) = spec["linux"]["namespaces"].as_array_mut() {
        namespaces.retain(|it| !kinds.iter().any(|kind| it["type"] == *kind));
    }
    spec
}

/// The minimum that runc accepts: namespaces, a root and the mounts that programs expect. It sets
/// no resource limits, so that it starts on a bare cgroup v2 too.
fn spec(id: &str, cmd: &[&str]) -> serde_json::Value {
    let namespaces = ["pid", "ipc", "uts", "mount", "network"].map(|kind| json!({"type": kind}));
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "user": {"uid": 0, "gid": 0},
            "args": cmd,
            "env": ["PATH=/bin"],
            "cwd": "/",
        },
        "root": {"path": "rootfs"},
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs"},
        ],
        "linux": {"namespaces": namespaces, "cgroupsPath": format!("/{id}")},
    })
}
