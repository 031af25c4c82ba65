//! Cleans up after an interrupted run: containers, shims and mounts of a lab whose owner was
//! killed.
//!
//! A container that still runs has its cgroup. The next lab's container of the same id would be put
//! into it, and an agent would not see a start.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::mount::UnmountFlags;
use rustix::process::{Pid, Signal, kill_process};

use crate::error::{Error, Result};
use crate::hierarchy;
use crate::wait::wait_until;

/// The prefix of each lab's folder, followed by its name.
pub(crate) const PREFIX: &str = "isw-";

/// A file in the lab's folder that the owner keeps locked as long as it lives.
const OWNER: &str = "owner";

/// How long processes may take to die.
const PATIENCE: Duration = Duration::from_secs(5);

/// Marks the lab in `dir` as owned by this process until the returned file is dropped.
pub(crate) fn own(dir: &Path) -> Result<File> {
    let made = dir.join("owner.new");
    let lock = || {
        let file = File::create(&made)?;
        file.lock()?;
        // Locked before it gets its name, so that nobody finds it unlocked.
        fs::rename(&made, dir.join(OWNER))?;
        Ok(file)
    };
    lock().map_err(Error::io(dir.display().to_string()))
}

/// Ends the processes of labs below `temporary` whose owners are gone, and removes their folders.
pub(crate) fn sweep(temporary: &Path) {
    let labs = entries(temporary).filter(|path| {
        let name = path.file_name().unwrap_or_default();
        name.as_encoded_bytes().starts_with(PREFIX.as_bytes())
    });
    for lab in labs {
        // Without the file the lab is being made. If the lock is held, its owner lives or another
        // process sweeps it.
        if let Ok(owner) = File::open(lab.join(OWNER))
            && owner.try_lock().is_ok()
        {
            clear(&lab);
        }
    }
}

fn clear(lab: &Path) {
    // Processes that would restart others are ended first.
    kill(&processes(|process| mentions(process, lab)));
    let cgroups: Vec<_> = entries(lab)
        .flat_map(|part| cgroups_of(&part.join("state")))
        .collect();
    let named_after = lab
        .file_name()
        .map(|name| name.to_string_lossy().into_owned());
    let cgroups = cgroups.iter().chain(&named_after);
    for path in cgroups {
        kill(&hierarchy::processes(path));
        // The cgroup exists as long as a dying process is in it.
        wait_until(PATIENCE, || hierarchy::processes(path).is_empty());
        hierarchy::remove(path);
    }
    unmount_below(lab);
    if let Err(error) = fs::remove_dir_all(lab) {
        eprintln!("{}, left by an interrupted run: {error}", lab.display());
    }
}

/// Unmounts everything below `dir`.
pub(crate) fn unmount_below(dir: &Path) {
    for mount in mounts_below(dir) {
        if let Err(error) = rustix::mount::unmount(&mount, UnmountFlags::DETACH) {
            eprintln!("unmount {}: {error}", mount.display());
        }
    }
}

/// The mount points below `dir`, innermost first.
fn mounts_below(dir: &Path) -> Vec<PathBuf> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let mut mounts: Vec<_> = table
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(PathBuf::from)
        .filter(|mount| mount.starts_with(dir))
        .collect();
    mounts.reverse();
    mounts
}

/// The cgroups of containers that have a bundle below containerd's `state`, then those of its
/// namespaces named after a lab, which nobody else uses. All without the leading slash.
pub(crate) fn cgroups_of(state: &Path) -> impl Iterator<Item = String> + use<> {
    let namespaces: Vec<_> = entries(&state.join("io.containerd.runtime.v2.task")).collect();
    let own: Vec<_> = namespaces
        .iter()
        .filter_map(|namespace| Some(namespace.file_name()?.to_str()?.to_owned()))
        .filter(|name| name.starts_with(PREFIX))
        .collect();
    namespaces
        .into_iter()
        .flat_map(|namespace| entries(&namespace))
        .filter_map(|bundle| fs::read(bundle.join("config.json")).ok())
        .filter_map(|config| serde_json::from_slice::<serde_json::Value>(&config).ok())
        .filter_map(|config| {
            let path = config["linux"]["cgroupsPath"].as_str()?;
            Some(path.trim_start_matches('/').to_owned())
        })
        .chain(own)
}

/// The processes whose folder in /proc matches.
pub(crate) fn processes(fits: impl Fn(&Path) -> bool) -> Vec<Pid> {
    entries(Path::new("/proc"))
        .filter_map(|path| {
            Some((
                Pid::from_raw(path.file_name()?.to_str()?.parse().ok()?)?,
                path,
            ))
        })
        .filter(|(_, path)| fits(path))
        .map(|(pid, _)| pid)
        .collect()
}

/// Whether a process was started with a path below `dir` among its arguments.
fn mentions(process: &Path, dir: &Path) -> bool {
    let dir = dir.as_os_str().as_encoded_bytes();
    let cmdline = fs::read(process.join("cmdline")).unwrap_or_default();
    let mut words = cmdline.split(|byte| *byte == 0);
    words.any(|word| word.windows(dir.len()).any(|part| part == dir))
}

fn kill(pids: &[Pid]) {
    for pid in pids {
        // The process may have ended by itself.
        let _gone = kill_process(*pid, Signal::KILL);
    }
}

fn entries(dir: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.map(|entry| entry.path())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn what_nobody_owns_any_more_is_ended_and_removed() {
        let temporary = tempfile::tempdir().unwrap();
        let [orphan, owned, unborn] = ["isw-orphan-1", "isw-owned-2", "isw-unborn-3"].map(|name| {
            let dir = temporary.path().join(name);
            fs::create_dir(&dir).unwrap();
            dir
        });
        drop(own(&orphan).unwrap());
        let _alive = own(&owned).unwrap();
        let sleeps = |lab: &Path| {
            let mut command = Command::new("sh");
            command.args(["-c", "sleep 60; :"]).arg(lab.join("socket"));
            command.spawn().unwrap()
        };
        let mut left = sleeps(&orphan);
        let mut kept = sleeps(&owned);

        // A process that another test is just starting inherits the lock until it runs its program.
        let swept = wait_until(PATIENCE, || {
            sweep(temporary.path());
            !orphan.exists()
        });
        assert!(swept);
        assert!(!left.wait().unwrap().success());
        assert!(kept.try_wait().unwrap().is_none());
        kept.kill().unwrap();
        kept.wait().unwrap();
        assert_eq!(
            [&orphan, &owned, &unborn].map(|lab| lab.exists()),
            [false, true, true]
        );
    }
}
