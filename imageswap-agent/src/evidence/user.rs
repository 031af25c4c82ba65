//! Rootless podman and Docker: the image of a container, by the records of the user who runs it.
//!
//! The user can write anything into these records, and can name any process `conmon`. So they may
//! show drift and never approve. A container is found by the process that watches it, which is its
//! parent and belongs to the user: `conmon`, or the shim of the containerd that rootless Docker runs.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::storage::{self, Store, StoredImage};
use super::{EvidenceError, docker, on_host, read_of_root};
use crate::claim::{Claim, Kind, Naming, Source};
use crate::process::{self, CommandLine};

/// The program that watches a container of Docker's.
const SHIM: &str = "containerd-shim-runc-v2";

/// Docker's data root below the folder for a user's data.
const DOCKERS: &str = "docker";

/// The folder for a user's data below their home.
const DATA: &str = ".local/share";

const PASSWD: &str = "/etc/passwd";
const LARGEST_PASSWD: u64 = 4 << 20;

/// podman and Docker give 64 hex digits to each container.
const LENGTH_OF_ID: usize = 64;

/// A container of a user, by the user's own records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserContainer {
    /// `podman` or `docker`.
    pub runtime: &'static str,
    /// The container's id.
    pub id: String,
    /// Names of its image, the one that was asked for first.
    pub image: Option<String>,
    /// All names that the image has or had.
    pub names: BTreeSet<String>,
    /// Digest of its manifest.
    pub digest: Option<String>,
}

impl UserContainer {
    /// What the records claim. The user can write all of it, so no such claim is
    /// [trusted](crate::facts::Facts::trusted).
    pub fn claim(self) -> Claim {
        Claim {
            kind: Some(Kind::Container),
            image: self.image,
            naming: Naming::AnyOfDigest,
            names: self.names,
            digest: self.digest,
            ..Claim::new(Source::User, self.id, self.runtime)
        }
    }
}

/// The container whose first process this is; `None` if no user's podman or Docker watches it.
///
/// # Errors
/// A record cannot be read, or is not what it should be.
pub fn of_process(
    host_root: &Path,
    proc: &Path,
    pid: u32,
) -> Result<Option<UserContainer>, EvidenceError> {
    let Some(parent) = process::ancestors(proc, pid).next() else {
        return Ok(None);
    };
    if let Some((owner, command)) = process::command_of_user(proc, parent, storage::MONITOR) {
        return of_podman(host_root, owner, &command);
    }
    match process::command_of_user(proc, parent, SHIM) {
        Some((owner, command)) => {
            let homes = data_roots(host_root, proc, parent, owner);
            of_docker(&homes, owner, &command)
        }
        None => Ok(None),
    }
}

/// The value after an option.
fn value<'c>(command: &'c CommandLine, option: &str) -> Option<&'c str> {
    command.words().skip_while(|word| *word != option).nth(1)
}

fn id_in<'c>(command: &'c CommandLine, option: &str) -> Option<&'c str> {
    let is_id =
        |id: &&str| id.len() == LENGTH_OF_ID && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    value(command, option).filter(is_id)
}

fn of_podman(
    host_root: &Path,
    owner: u32,
    command: &CommandLine,
) -> Result<Option<UserContainer>, EvidenceError> {
    let Some(id) = id_in(command, "-c") else {
        return Ok(None);
    };
    let store = Store::of_monitor(host_root, command, owner);
    let bundle = value(command, "-b").map(|bundle| on_host(host_root, Path::new(bundle)));
    let stored = match (store, bundle) {
        (Some(store), Some(bundle)) => storage::of_bundle(&[store], &bundle, id)?,
        _ => None,
    };
    let StoredImage {
        name,
        names,
        digest,
        ..
    } = stored.unwrap_or_default();
    Ok(Some(UserContainer {
        runtime: "podman",
        id: id.to_owned(),
        image: name,
        names,
        digest,
    }))
}

fn of_docker(
    roots: &[PathBuf],
    owner: u32,
    command: &CommandLine,
) -> Result<Option<UserContainer>, EvidenceError> {
    let Some(id) = id_in(command, "-id") else {
        return Ok(None);
    };
    let mut image = None;
    for root in roots {
        if image.is_none() {
            image = docker::typed(root, id, owner)?;
        }
    }
    Ok(Some(UserContainer {
        runtime: "docker",
        id: id.to_owned(),
        image,
        names: BTreeSet::new(),
        digest: None,
    }))
}

/// Where the Docker of this user keeps its records by default: below the folder for data, or the
/// home, of the shim's environment or of `/etc/passwd`.
fn data_roots(host_root: &Path, proc: &Path, shim: u32, owner: u32) -> Vec<PathBuf> {
    let of = |name| process::variable(proc, shim, name).map(PathBuf::from);
    let passwd = read_of_root(&on_host(host_root, Path::new(PASSWD)), LARGEST_PASSWD);
    let passwd = passwd.ok().flatten().unwrap_or_default();
    let homes = [of("HOME"), home(&String::from_utf8_lossy(&passwd), owner)];
    let data = homes.into_iter().flatten().map(|home| home.join(DATA));
    let all = of("XDG_DATA_HOME").into_iter().chain(data);
    all.map(|data| on_host(host_root, &data).join(DOCKERS))
        .collect()
}

/// The home of a user, by the text of `/etc/passwd`.
fn home(passwd: &str, uid: u32) -> Option<PathBuf> {
    let uid = uid.to_string();
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.nth(2) == Some(&*uid)).then(|| fields.nth(2).map(PathBuf::from))?
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::chown;

    const UID: u32 = 20_000;
    const ID: &str = "aae4c340fcf4d50ec145fc42b9e7cec59fe27fbba4817cc881b72584d3771902";

    fn command(options: &str) -> CommandLine {
        CommandLine::of_words(&format!("program {options}"))
    }

    #[test]
    fn home_is_of_the_user_with_this_id() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\n20000:x:1:1::/no:/bin/sh\nann:x:20000:7:Ann:/srv/ann:/bin/sh\n";
        assert_eq!(home(passwd, UID), Some("/srv/ann".into()));
        assert_eq!(home(passwd, 7), None);
    }

    #[test]
    fn rootless_docker_is_known_by_its_users_record_alone() {
        let host = tempfile::tempdir().unwrap();
        let record = |owner: u32, id: &str| {
            let folder = host.path().join(format!("{owner}/docker/containers/{ID}"));
            fs::create_dir_all(&folder).unwrap();
            let file = folder.join("config.v2.json");
            let text = format!(
                r#"{{"ID": "{id}", "Image": "sha256:ab", "Driver": "overlay2", "Config": {{"Image": "evil.example.net/miner"}}}}"#
            );
            fs::write(&file, text).unwrap();
            // Only root can give a file away.
            chown(&file, Some(owner), None).is_ok()
        };
        let shim = command(&format!("-namespace moby -id {ID} -address /run/c.sock"));
        let ask = |owner: u32| {
            let roots = [
                host.path().join("none"),
                host.path().join(format!("{owner}/docker")),
            ];
            of_docker(&roots, UID, &shim).unwrap().unwrap().image
        };
        if !record(UID, ID) {
            return;
        }
        assert_eq!(ask(UID).as_deref(), Some("evil.example.net/miner"));
        record(UID + 1, ID);
        assert_eq!(ask(UID + 1), None, "the record of somebody else");
        record(UID, "another");
        assert_eq!(ask(UID), None, "the record of another container");
        let not_an_id = command("-namespace moby -id ../../etc");
        assert_eq!(of_docker(&[], UID, &not_an_id).unwrap(), None);
    }
}
