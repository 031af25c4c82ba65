//! Pure cgroup v2 on a machine that has v1 hierarchies too.

mod memory;

use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::process::Command;

use crate::error::{Error, Result};
use crate::hierarchy::{remove, roots};
use crate::workspace::Lab;
pub use memory::{MemoryCgroup, MemoryUse};

/// Whether this machine has cgroup v2 alone.
pub fn is_pure_v2() -> bool {
    fs::exists("/sys/fs/cgroup/cgroup.controllers").unwrap_or(false)
}

/// A command that runs `program` in a mount namespace of its own, whose
/// `/sys/fs/cgroup` is cgroup v2 alone. The process id is the program's own.
///
/// On a hybrid machine the v2 hierarchy has no controllers there, so that a
/// container with resource limits cannot start (see
/// [`ContainerdOptions`](crate::ContainerdOptions)).
pub fn in_pure_v2(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "--propagation", "private", "--", "sh", "-c"])
        .arg(r#"mount -t cgroup2 none /sys/fs/cgroup && exec "$0" "$@""#)
        .arg(program);
    command
}

/// An empty cgroup that exists before any container is put into it; dropping it removes it.
#[derive(Debug)]
pub struct Cgroup {
    path: String,
    _lab: Lab,
}

impl Cgroup {
    /// Makes the cgroup `/<path>` in every hierarchy that allows it.
    pub fn make(lab: &Lab, path: &str) -> Result<Self> {
        let path = path.trim_start_matches('/').to_owned();
        let made = roots().filter(|root| fs::create_dir_all(root.join(&path)).is_ok());
        if made.count() == 0 {
            return Err(Error::Unusable(format!(
                "no cgroup hierarchy takes /{path}"
            )));
        }
        Ok(Self {
            path,
            _lab: lab.clone(),
        })
    }

    /// A command that runs `command` in this cgroup, which becomes the root of its cgroup
    /// namespace, as for a container on nodes with cgroup v2. The process id is the command's own.
    pub fn with_namespace(&self, command: &Command) -> Command {
        self.with(&["unshare", "--cgroup", "--"], command)
    }

    /// A command that runs `command` in this cgroup. The process id is the command's own.
    pub fn with_process(&self, command: &Command) -> Command {
        self.with(&[], command)
    }

    fn with(&self, before: &[&str], command: &Command) -> Command {
        let procs = roots().map(|root| root.join(&self.path).join("cgroup.procs"));
        let procs: Vec<_> = procs.filter(|path| path.exists()).collect();
        let mut inside = Command::new("sh");
        inside
            .arg("-c")
            .arg(r#"while [ "$1" != -- ]; do echo $$ > "$1"; shift; done; shift; exec "$@""#)
            .arg("sh")
            .args(procs)
            .arg("--")
            .args(before)
            .arg(command.get_program())
            .args(command.get_args());
        inside
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        remove(&self.path);
        let above = Path::new(&self.path).ancestors().skip(1);
        for parent in above.filter(|parent| !parent.as_os_str().is_empty()) {
            // Rightly fails while the folder holds another cgroup.
            roots().for_each(|root| drop(fs::remove_dir(root.join(parent))));
        }
    }
}
