//! A memory limit, as containers have.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::{Error, Result};
use crate::workspace::Lab;

/// A cgroup of the memory controller with a limit; dropping it removes it. The processes in it have to be gone by then.
#[derive(Debug)]
pub struct MemoryCgroup {
    path: PathBuf,
    version: Version,
    _lab: Lab,
}

/// What the kernel counted in a [`MemoryCgroup`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryUse {
    /// The most bytes that were in use at a time, buffers of sockets included.
    pub peak: u64,
    /// How often the limit was reached, so that the kernel had to take memory back.
    pub limit_reached: u64,
    /// Processes that the kernel killed because memory ran out.
    pub killed: u64,
}

#[derive(Debug, Clone, Copy)]
enum Version {
    V1,
    V2,
}

impl MemoryCgroup {
    /// Makes a cgroup named after the lab, with a limit of `bytes` and no swap.
    pub fn make(lab: &Lab, bytes: u64) -> Result<Self> {
        let (root, version) = hierarchy()?;
        let path = root.join(lab.name());
        fs::create_dir_all(&path).map_err(Error::io(path.display().to_string()))?;
        let cgroup = Self {
            path,
            version,
            _lab: lab.clone(),
        };
        match version {
            Version::V1 => {
                cgroup.write("memory.limit_in_bytes", bytes)?;
                // Socket buffers are counted separately, and only if they have a limit.
                cgroup.write("memory.kmem.tcp.limit_in_bytes", u64::MAX >> 2)?;
                cgroup.write_if_there("memory.memsw.limit_in_bytes", bytes)?;
            }
            Version::V2 => {
                cgroup.write("memory.max", bytes)?;
                cgroup.write_if_there("memory.swap.max", 0)?;
            }
        }
        Ok(cgroup)
    }

    /// A command that runs `program` in this cgroup. The process id is the program's own.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("sh");
        command
            .args(["-c", r#"echo $$ > "$0" && exec "$@""#])
            .arg(self.path.join("cgroup.procs"))
            .arg(program);
        command
    }

    /// What has been used since the cgroup was made.
    pub fn used(&self) -> Result<MemoryUse> {
        Ok(match self.version {
            Version::V1 => MemoryUse {
                peak: self.read("memory.max_usage_in_bytes")?
                    + self.read("memory.kmem.tcp.max_usage_in_bytes")?,
                limit_reached: self.read("memory.failcnt")?,
                killed: self.field("memory.oom_control", "oom_kill")?,
            },
            Version::V2 => MemoryUse {
                peak: self.read("memory.peak")?,
                limit_reached: self.field("memory.events", "max")?,
                killed: self.field("memory.events", "oom_kill")?,
            },
        })
    }

    fn write(&self, file: &str, value: u64) -> Result<()> {
        let path = self.path.join(file);
        fs::write(&path, value.to_string()).map_err(Error::io(path.display().to_string()))
    }

    fn write_if_there(&self, file: &str, value: u64) -> Result<()> {
        if self.path.join(file).exists() {
            self.write(file, value)?;
        }
        Ok(())
    }

    fn read(&self, file: &str) -> Result<u64> {
        let text = self.text(file)?;
        let value = text.trim().parse();
        value.map_err(|_not_a_number| self.unreadable(file, &text))
    }

    /// The number behind `name` on a line of its own.
    fn field(&self, file: &str, name: &str) -> Result<u64> {
        let text = self.text(file)?;
        let value = text.lines().find_map(|line| {
            let (key, value) = line.split_once(' ')?;
            value.parse().ok().filter(|_| key == name)
        });
        value.ok_or_else(|| self.unreadable(file, &text))
    }

    fn text(&self, file: &str) -> Result<String> {
        let path = self.path.join(file);
        fs::read_to_string(&path).map_err(Error::io(path.display().to_string()))
    }

    fn unreadable(&self, file: &str, text: &str) -> Error {
        Error::Unusable(format!("{}/{file} says {text:?}", self.path.display()))
    }
}

impl Drop for MemoryCgroup {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir(&self.path) {
            eprintln!("{}: {error}", self.path.display());
        }
    }
}

/// Where cgroups of the memory controller are made.
fn hierarchy() -> Result<(&'static Path, Version)> {
    let v1 = Path::new("/sys/fs/cgroup/memory");
    if v1.join("cgroup.procs").exists() {
        return Ok((v1, Version::V1));
    }
    let v2 = Path::new("/sys/fs/cgroup");
    let children = v2.join("cgroup.subtree_control");
    fs::write(&children, "+memory").map_err(Error::io(format!(
        "the memory controller, by {}",
        children.display()
    )))?;
    Ok((v2, Version::V2))
}
