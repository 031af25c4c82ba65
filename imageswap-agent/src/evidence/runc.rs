//! State files of runc and crun: the only record of a plain `runc run`.
//!
//! They name the bundle that a process was started from, not the image. The runtime writes them
//! before the container's own process runs.

use std::collections::HashSet;
use std::fmt;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::bundle::LARGEST_CONFIG;
use super::kept::Kept;
use super::{EvidenceError, LONGEST_PATH, entries, is_component, on_host, read_json};
use crate::claim::{Claim, Kind, Source};
use crate::process::Subject;

/// Where runc and crun keep their state by default, for root.
pub const ROOTS: [&str; 2] = ["/run/runc", "/run/crun"];

/// Where containerd's shim, and dockerd's, let runc and crun keep their state: a folder per
/// namespace.
pub const NAMESPACED_ROOTS: [&str; 2] = ["/run/containerd/runc", "/run/docker/runtime-runc"];

/// A state file holds the whole configuration.
const LARGEST_STATE: u64 = LARGEST_CONFIG;

/// More containers than the kubelet's default of 110 pods can make.
const MOST_CONTAINERS: usize = 4096;

/// States that are kept: about 10,000 usual ones.
const MOST_KEPT: usize = 8 << 20;

/// A container as runc or crun recorded it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuncState {
    /// The id that was given to the runtime.
    pub id: String,
    /// The state folder it was found in, as this process sees it.
    pub root: PathBuf,
    /// The bundle it was started from, as this process sees it.
    pub bundle: Option<PathBuf>,
    /// Its first process, with the time of its start.
    pub init: Option<Subject>,
}

impl RuncState {
    /// The claim, which has no image.
    pub fn claim(&self) -> Claim {
        // containerd's shim lets runc keep its state in a folder per namespace, below Docker's folder
        // for Docker.
        let is_below = |name: &str| self.root.iter().any(|part| part == name);
        let runtime = ["containerd", "docker"].into_iter().find(|it| is_below(it));
        Claim {
            kind: Some(Kind::Container),
            ..Claim::new(Source::Runc, self.id.clone(), runtime.unwrap_or("runc"))
        }
    }
}

/// The state folders of this node.
#[derive(Clone, Debug)]
pub struct RuncStates {
    host_root: PathBuf,
    roots: Vec<PathBuf>,
    namespaced: Vec<PathBuf>,
    /// Content of files that have not changed since, by the container's folder.
    kept: Arc<Mutex<KeptStates>>,
}

type KeptStates = Kept<PathBuf, (Stamp, RuncState)>;

/// What distinguishes a file from its next version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    size: u64,
    modified: SystemTime,
}

impl Stamp {
    fn of(file: &Path) -> Option<Self> {
        let metadata = fs::metadata(file).ok()?;
        Some(Self {
            inode: metadata.ino(),
            size: metadata.size(),
            modified: metadata.modified().ok()?,
        })
    }

    /// Whether a further change would be noticed: file systems count time in steps of some
    /// milliseconds.
    fn is_settled(self) -> bool {
        self.modified
            .elapsed()
            .is_ok_and(|age| age > Duration::from_secs(1))
    }
}

impl RuncStates {
    /// The default state folders below `host_root`. They need not exist.
    pub fn new(host_root: &Path) -> Self {
        Self::with_roots(host_root, ROOTS, NAMESPACED_ROOTS)
    }

    /// These state folders, as the host names them; `namespaced` ones have a
    /// folder for each containerd namespace.
    pub fn with_roots<P: AsRef<Path>, N: AsRef<Path>>(
        host_root: &Path,
        roots: impl IntoIterator<Item = P>,
        namespaced: impl IntoIterator<Item = N>,
    ) -> Self {
        Self {
            host_root: host_root.to_owned(),
            roots: roots
                .into_iter()
                .map(|root| on_host(host_root, root.as_ref()))
                .collect(),
            namespaced: namespaced
                .into_iter()
                .map(|root| on_host(host_root, root.as_ref()))
                .collect(),
            kept: Arc::new(Mutex::new(Kept::new(MOST_KEPT))),
        }
    }

    /// The container whose first process this is; a later process with the same pid does not count. One that is called
    /// `likely` is looked at first. An error if it is not found and not every container's folder is known. A state that
    /// cannot be read is another container's that is being made or removed.
    pub fn of_process(
        &self,
        process: Subject,
        likely: Option<&str>,
    ) -> Result<Option<RuncState>, EvidenceError> {
        let mut unread = None;
        let roots = self.all_roots(&mut unread);
        let is_its = |state: &RuncState| state.init.is_some_and(|init| init == process);
        let likely = likely.filter(|id| is_component(id));
        let likely = likely.and_then(|id| {
            let states = roots.iter().filter_map(|root| self.read(root, id).ok()?);
            states.into_iter().find(is_its)
        });
        if likely.is_some() {
            return Ok(likely);
        }
        let folders = self.folders(&roots, &mut unread);
        let states = folders
            .iter()
            .filter_map(|(root, id)| self.read(root, id).ok()?);
        match (states.into_iter().find(is_its), unread) {
            (None, Some(error)) => Err(error),
            (found, _) => Ok(found),
        }
    }

    /// containerd's namespace, from the folder in which the state was found.
    pub fn namespace_of(&self, state: &RuncState) -> Option<String> {
        let above = state.root.parent()?;
        let namespaced = self.namespaced.iter().any(|root| root == above);
        let name = state.root.file_name().filter(|_| namespaced)?;
        Some(name.to_string_lossy().into_owned())
    }

    /// All containers, and why the list may be incomplete.
    pub fn list(&self) -> (Vec<RuncState>, Option<EvidenceError>) {
        let mut unread = None;
        let mut states = Vec::new();
        let roots = self.all_roots(&mut unread);
        for (root, id) in self.folders(&roots, &mut unread) {
            match self.read(&root, &id) {
                Ok(state) => states.extend(state),
                Err(error) => unread = Some(error),
            }
        }
        (states, unread)
    }

    /// The folders that have a folder for each container.
    fn all_roots(&self, unread: &mut Option<EvidenceError>) -> Vec<PathBuf> {
        let mut roots = self.roots.clone();
        for root in &self.namespaced {
            let namespaces = names(root, unread);
            roots.extend(namespaces.iter().map(|namespace| root.join(namespace)));
        }
        roots
    }

    /// The root and id of every container's folder.
    fn folders(
        &self,
        roots: &[PathBuf],
        unread: &mut Option<EvidenceError>,
    ) -> Vec<(PathBuf, String)> {
        let mut of_root = |root: &PathBuf| -> Vec<_> {
            let ids = names(root, unread).into_iter();
            ids.map(|id| (root.clone(), id)).collect()
        };
        let folders: Vec<_> = roots.iter().flat_map(&mut of_root).collect();
        let listed: HashSet<_> = folders.iter().map(|(root, id)| root.join(id)).collect();
        self.kept(|kept| kept.retain(|folder| listed.contains(folder)));
        folders
    }

    /// A container's state, read again only if the file has changed, because all of them are
    /// searched for a cgroup without an owner.
    fn read(&self, root: &Path, id: &str) -> Result<Option<RuncState>, EvidenceError> {
        let folder = root.join(id);
        let stamp = ["state.json", "status"]
            .iter()
            .find_map(|file| Stamp::of(&folder.join(file)));
        let known = |kept: &mut KeptStates| kept.get(&folder).cloned();
        if let Some((kept, state)) = self.kept(known)
            && Some(kept) == stamp
        {
            return Ok(Some(state));
        }
        let state = self.parse(root, id)?;
        match (stamp, &state) {
            (Some(stamp), Some(state)) if stamp.is_settled() => {
                let paths = [Some(&folder), Some(&state.root), state.bundle.as_ref()];
                let paths = paths
                    .into_iter()
                    .flatten()
                    .map(|path| path.as_os_str().len());
                let bytes = state.id.len() + paths.sum::<usize>();
                self.kept(|kept| kept.insert(folder.clone(), (stamp, state.clone()), bytes));
            }
            _ => self.kept(|kept| kept.remove(&folder)),
        }
        Ok(state)
    }

    fn kept<T>(&self, ask: impl FnOnce(&mut KeptStates) -> T) -> T {
        ask(&mut self.kept.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn parse(&self, root: &Path, id: &str) -> Result<Option<RuncState>, EvidenceError> {
        let folder = root.join(id);
        let state = RuncState {
            id: id.to_owned(),
            root: root.to_owned(),
            bundle: None,
            init: None,
        };
        let file = folder.join("state.json");
        if let Some(runc) = read_json::<RuncFile>(&file, LARGEST_STATE)? {
            let bundle = runc.config.and_then(|config| config.labels.bundle);
            return Ok(Some(RuncState {
                bundle: self.bundle(bundle),
                init: init(runc.init_process_pid, runc.init_process_start),
                ..state
            }));
        }
        let file = folder.join("status");
        let Some(crun) = read_json::<CrunFile>(&file, LARGEST_STATE)? else {
            return Ok(None);
        };
        Ok(Some(RuncState {
            bundle: self.bundle(crun.bundle),
            init: init(crun.pid, crun.started),
            ..state
        }))
    }

    /// The bundle at a path of the host.
    fn bundle(&self, path: Option<String>) -> Option<PathBuf> {
        let path = path.filter(|path| path.len() <= LONGEST_PATH)?;
        Some(on_host(&self.host_root, Path::new(&path)))
    }
}

/// The folders in one folder; `unread` gets the first reason why the list is incomplete.
fn names(folder: &Path, unread: &mut Option<EvidenceError>) -> Vec<String> {
    let (names, error) = entries(folder, MOST_CONTAINERS);
    *unread = unread.take().or(error);
    names
}

/// `<root>/<id>/state.json`, written by libcontainer.
#[derive(Deserialize)]
struct RuncFile {
    init_process_pid: Option<i64>,
    init_process_start: Option<u64>,
    config: Option<RuncConfig>,
}

#[derive(Deserialize)]
struct RuncConfig {
    #[serde(default)]
    labels: Labels,
}

/// The labels `key=value`: the annotations of the bundle, which a client can write, and then runc's
/// own, `bundle=<path>`.
#[derive(Default)]
struct Labels {
    bundle: Option<String>,
}

impl<'de> Deserialize<'de> for Labels {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(LabelsVisitor)
    }
}

struct LabelsVisitor;

impl<'de> Visitor<'de> for LabelsVisitor {
    type Value = Labels;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of labels")
    }

    fn visit_unit<E>(self) -> Result<Labels, E> {
        Ok(Labels::default())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut labels: A) -> Result<Labels, A::Error> {
        let mut bundle = None;
        while let Some(label) = labels.next_element::<String>()? {
            // A long one is not kept, and not another one in its place.
            if let Some(path) = label.strip_prefix("bundle=") {
                bundle = Some(path.get(..=LONGEST_PATH).unwrap_or(path).to_owned());
            }
        }
        Ok(Labels { bundle })
    }
}

/// `<root>/<id>/status`, written by crun.
#[derive(Deserialize)]
struct CrunFile {
    pid: Option<i64>,
    #[serde(rename = "process-start-time")]
    started: Option<u64>,
    bundle: Option<String>,
}

/// A pid without its start time proves nothing: another process may have it by now.
fn init(pid: Option<i64>, started: Option<u64>) -> Option<Subject> {
    Some(Subject {
        pid: u32::try_from(pid?).ok().filter(|pid| *pid != 0)?,
        started: Some(started?),
    })
}

#[cfg(test)]
mod tests;
