//! The data roots of the dockerds of this node.
//!
//! Whoever chooses a data root chooses Docker's records. So a dockerd counts only if it is not a
//! container's process, and a folder that another runtime fills is not a data root. Any number of
//! processes can be called dockerd: they are looked for once in a while, and not for each container.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::Deserialize;

use crate::evidence::{EvidenceError, LONGEST_PATH, on_host, read_of_root};
use crate::process::{self, CommandLine};

/// dockerd's default data root and configuration file.
const DATA_ROOT: &str = "/var/lib/docker";
const CONFIGURATION: &str = "/etc/docker/daemon.json";

/// A configuration file has a few lines.
const LARGEST_CONFIGURATION: u64 = 1 << 20;

/// The daemon's program.
const PROGRAM: &str = "dockerd";

/// More dockerds than any node has.
const MOST_DOCKERDS: usize = 16;

/// How long they are looked for.
const LONGEST_LOOK: Duration = Duration::from_millis(500);

/// How long what was found counts.
const AGAIN: Duration = Duration::from_secs(3);

/// Folders of other runtimes and of the kubelet, in which containers have files.
const OTHERS: [&str; 3] = ["/var/lib/containers", "/run/containers", "/var/lib/kubelet"];

/// The names of folders in containerd's root and state folders begin so.
const CONTAINERDS: &str = "io.containerd.";

/// The data roots of the dockerds of this node, as the host names them.
#[derive(Debug, Default)]
pub struct Roots {
    pub(super) folders: BTreeSet<PathBuf>,
    /// The dockerds.
    pub(super) dockerds: Vec<u32>,
    /// Whether there may be dockerds whose options were not read.
    pub(super) is_cut: bool,
}

/// What was found last; clones share it.
#[derive(Clone, Debug, Default)]
pub struct DataRoots(Arc<Mutex<Option<Found>>>);

/// When data roots were found, and which.
type Found = (Instant, Arc<Roots>);

impl DataRoots {
    /// The data roots of the node whose /proc is `proc`. They may be as they were some seconds ago.
    pub fn of_node(&self, host_root: &Path, proc: &Path) -> Arc<Roots> {
        let mut found = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, roots)) = &*found
            && at.elapsed() < AGAIN
        {
            return Arc::clone(roots);
        }
        let known = found.as_ref().map(|(_, roots)| Arc::clone(roots));
        let known = known.as_ref().map_or(&[][..], |roots| &roots.dockerds);
        let roots = Arc::new(Roots::of_node(host_root, proc, known));
        *found = Some((Instant::now(), Arc::clone(&roots)));
        roots
    }
}

impl Roots {
    /// Docker's default, the one in its configuration, and those that running dockerds were started
    /// with. Those that were `known` are looked at first, so that no crowd hides them.
    fn of_node(host_root: &Path, proc: &Path, known: &[u32]) -> Self {
        let mut roots = Self::default();
        let configured = |file: &Path| configured(&on_host(host_root, file));
        roots.add(Some(DATA_ROOT.into()));
        roots.add(configured(Path::new(CONFIGURATION)));
        let began = Instant::now();
        let others = process::all(proc).filter(|pid| !known.contains(pid));
        for pid in known.iter().copied().chain(others) {
            if began.elapsed() > LONGEST_LOOK {
                roots.is_cut = true;
                break;
            }
            let Some(dockerd) = process::command(proc, pid, PROGRAM) else {
                continue;
            };
            if roots.dockerds.len() >= MOST_DOCKERDS {
                roots.is_cut = true;
                break;
            }
            roots.dockerds.push(pid);
            for name in ["--data-root", "--graph", "-g"] {
                roots.add(option(&dockerd, name));
            }
            if let Some(file) = option(&dockerd, "--config-file") {
                roots.add(configured(&file));
            }
        }
        roots
    }

    fn add(&mut self, root: Option<PathBuf>) {
        let is_its = |root: &PathBuf| {
            let is_containerds =
                |part: &OsStr| part.as_encoded_bytes().starts_with(CONTAINERDS.as_bytes());
            root.as_os_str().len() <= LONGEST_PATH
                && !root.iter().any(is_containerds)
                && !OTHERS.iter().any(|other| root.starts_with(other))
        };
        self.folders.extend(root.filter(is_its));
    }

    /// The folder with Docker's records that contains a path: a data root or, if dockerd maps users
    /// (`--userns-remap`), the folder of the mapping in it. An error if it may be in a data root
    /// that is not known.
    pub(super) fn above(&self, path: &Path) -> Result<Option<PathBuf>, EvidenceError> {
        let is_above = |root: &&PathBuf| path != *root && path.starts_with(root);
        let Some(root) = self.folders.iter().find(is_above) else {
            return if self.is_cut {
                Err(EvidenceError::TooManyProcesses { program: PROGRAM })
            } else {
                Ok(None)
            };
        };
        let below = path.strip_prefix(root).ok().and_then(|it| it.iter().next());
        let mapped = below.filter(|name| name.to_str().is_some_and(is_mapping));
        Ok(Some(
            mapped.map_or_else(|| root.clone(), |name| root.join(name)),
        ))
    }
}

/// Whether a folder is named like a mapping: by the node's ids of the containers' root,
/// `<user>.<group>`.
fn is_mapping(name: &str) -> bool {
    let is_id = |id: &str| id.parse::<u32>().is_ok();
    name.split_once('.')
        .is_some_and(|(user, group)| is_id(user) && is_id(group))
}

/// The path after an option, as a separate word or after `=`.
fn option(command: &CommandLine, name: &str) -> Option<PathBuf> {
    let mut words = command.words();
    let rest = words.by_ref().find_map(|word| {
        let rest = word.strip_prefix(name)?;
        (rest.is_empty() || rest.starts_with('=')).then_some(rest)
    })?;
    let value = rest.strip_prefix('=').or_else(|| words.next());
    value.map(PathBuf::from)
}

/// The data root in a configuration file of dockerd.
fn configured(file: &Path) -> Option<PathBuf> {
    let bytes = read_of_root(file, LARGEST_CONFIGURATION).ok()??;
    let configuration: Daemon = serde_json::from_slice(&bytes).ok()?;
    configuration.data_root.or(configuration.graph)
}

#[derive(Deserialize)]
struct Daemon {
    #[serde(rename = "data-root")]
    data_root: Option<PathBuf>,
    /// The name before Docker 17.05.
    graph: Option<PathBuf>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    /// A dockerd on the node, and one on another root.
    const NODES: &str =
        "22 27 0:21 / /proc rw - proc proc rw\n27 1 8:1 / / rw - ext4 /dev/sda1 rw\n";
    const ANOTHERS: &str =
        "90 80 0:60 / / rw - overlay overlay rw\n91 90 0:21 / /proc rw - proc proc rw\n";

    /// A host with its first process.
    struct Host(tempfile::TempDir);

    impl Host {
        fn new() -> Self {
            let host = Self(tempfile::tempdir().unwrap());
            host.process(1, "init", NODES, "0");
            host
        }

        fn process(&self, pid: u32, words: &str, mounts: &str, user: &str) {
            let folder = self.0.path().join(format!("proc/{pid}"));
            fs::create_dir_all(&folder).unwrap();
            let (comm, _) = words.split_once(' ').unwrap_or((words, ""));
            let status = format!("Uid:\t{user}\nGroups:\t\nNSpid:\t{pid}\n");
            for (file, text) in [
                ("comm", format!("{comm}\n")),
                ("cmdline", words.replace(' ', "\0")),
                ("mountinfo", mounts.to_owned()),
                ("status", status),
            ] {
                fs::write(folder.join(file), text).unwrap();
            }
        }

        fn file(&self, path: &str, text: &str) {
            let path = self.0.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }

        fn roots(&self) -> Roots {
            Roots::of_node(self.0.path(), &self.0.path().join("proc"), &[])
        }

        fn found(&self) -> Vec<String> {
            let folders = self.roots().folders.into_iter();
            folders.map(|it| it.display().to_string()).collect()
        }
    }

    #[test]
    fn data_roots_are_those_of_the_nodes_dockerds() {
        let host = Host::new();
        let root = "0\t0\t0\t0";
        host.process(2, "dockerd --data-root=/srv/a --graph /srv/b", NODES, root);
        host.process(3, "dockerd --config-file /etc/other.json", NODES, root);
        for (pid, words, mounts, user) in [
            (4, "dockerd --data-root=/evil/container", ANOTHERS, root),
            (5, "dockerd --data-root=/evil/none", "", root),
            (6, "dockerd --data-root=/evil/user", NODES, "7\t7\t7\t7"),
            (7, "dockerd --data-root=/evil/setuid", NODES, "7\t0\t0\t0"),
            (8, "sudo --data-root=/evil/name", NODES, root),
        ] {
            host.process(pid, words, mounts, user);
        }
        host.file("etc/docker/daemon.json", r#"{"data-root": "/srv/c"}"#);
        host.file("etc/other.json", r#"{"graph": "/srv/d"}"#);
        let mut expected = vec!["/srv/a", "/srv/b", DATA_ROOT];
        // The files belong to the user of the tests.
        if rustix::process::geteuid().is_root() {
            expected = vec!["/srv/a", "/srv/b", "/srv/c", "/srv/d", DATA_ROOT];
        }
        assert_eq!(host.found(), expected);
    }

    #[test]
    fn a_folder_of_another_runtime_is_not_a_data_root() {
        let host = Host::new();
        for (pid, root) in [
            "/run/containerd/io.containerd.runtime.v2.task/default/x/rootfs",
            "/var/lib/containers/storage/overlay/x/merged",
            "/var/lib/kubelet/pods/x/volumes/kubernetes.io~empty-dir/y",
            &format!("/{}", "x".repeat(LONGEST_PATH)),
        ]
        .iter()
        .enumerate()
        {
            let pid = u32::try_from(pid).unwrap() + 2;
            host.process(pid, &format!("dockerd -g {root}"), NODES, "0");
        }
        assert_eq!(host.found(), [DATA_ROOT]);
    }

    #[test]
    fn a_crowd_of_dockerds_hides_no_root_and_grows_nothing() {
        let host = Host::new();
        // They are not the node's.
        for pid in 100..200 {
            host.process(pid, "dockerd --data-root /evil", ANOTHERS, "0");
        }
        host.process(2, "dockerd --data-root /srv/a", NODES, "0");
        let path = Path::new("/srv/b/overlay2/x/merged");
        assert_eq!(host.found(), ["/srv/a", DATA_ROOT]);
        assert!(host.roots().above(path).unwrap().is_none());
        for pid in 3..300 {
            let long = "a ".repeat(30_000);
            host.process(pid, &format!("dockerd -g /srv/{pid} {long}"), NODES, "0");
        }
        let roots = host.roots();
        assert!(roots.folders.len() <= MOST_DOCKERDS + 1);
        let error = roots.above(path).unwrap_err().to_string();
        assert!(error.contains("run dockerd"), "{error}");
        let path = Path::new("/var/lib/docker/overlay2/x/merged");
        assert_eq!(roots.above(path).unwrap(), Some(DATA_ROOT.into()));
        let roots = Roots::of_node(host.0.path(), &host.0.path().join("proc"), &[299, 2]);
        assert_eq!(roots.dockerds[..2], [299, 2]);
    }

    #[test]
    fn dockerds_are_not_looked_for_at_every_question() {
        let host = Host::new();
        let proc = host.0.path().join("proc");
        let roots = DataRoots::default();
        let first = roots.of_node(host.0.path(), &proc);
        host.process(2, "dockerd --data-root /srv/a", NODES, "0");
        assert_eq!(roots.of_node(host.0.path(), &proc).folders, first.folders);
        *roots.0.lock().unwrap() = Some((Instant::now().checked_sub(AGAIN).unwrap(), first));
        assert_eq!(roots.of_node(host.0.path(), &proc).folders.len(), 2);
    }

    #[test]
    fn an_option_has_its_value_beside_it_or_after_a_sign() {
        let command = CommandLine::of_words("dockerd --data-root=/a --config-file /b");
        assert_eq!(option(&command, "--data-root"), Some("/a".into()));
        assert_eq!(option(&command, "--config-file"), Some("/b".into()));
        assert_eq!(option(&command, "--graph"), None);
    }

    #[test]
    fn a_mapping_of_users_has_a_folder_of_its_own() {
        let roots = Roots {
            folders: [DATA_ROOT.into()].into(),
            ..Roots::default()
        };
        for (path, expected) in [
            ("/var/lib/docker/overlay2/x", Some("/var/lib/docker")),
            (
                "/var/lib/docker/231072.231072/overlay2/x",
                Some("/var/lib/docker/231072.231072"),
            ),
            ("/var/lib/docker/x.1/overlay2/x", Some("/var/lib/docker")),
            ("/var/lib/docker", None),
            ("/var/lib/docker2/overlay2/x", None),
        ] {
            let found = roots.above(Path::new(path)).unwrap();
            assert_eq!(found, expected.map(PathBuf::from), "{path}");
        }
    }
}
