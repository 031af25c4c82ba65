//! Compares the root file system of a process with the one that its runtime made for it.
//!
//! The client that creates a containerd task chooses its mounts, which need not be those of the
//! container's snapshot, and anyone with root can mount something else where Docker or podman have
//! a container's root. The kernel shows the mounts of every process (proc(5), `mountinfo`), and
//! reading them needs no privilege.

use super::{is_component, on_host};
use crate::cgroup_path;
use crate::file;
use crate::process::{Subject, ancestors};
use std::collections::BTreeSet;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// How much of the mounts of a process is read, line by line. A node with many containers has thousands of
/// mounts; a container has dozens, but root of one can make 100,000.
const LARGEST_MOUNTINFO: usize = 64 << 20;

/// How much of one line is read: two paths and the options of an overlay, of which each character can have
/// four bytes.
const LARGEST_LINE: u64 = 128 << 10;

/// The options of a mount have to fit a page. If they are longer than this, containerd mounts an
/// overlay with paths that are relative to a common folder of all layers.
const RELATIVE_FROM: usize = 3900;

/// A mount, as a snapshotter describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Such as `overlay` or `bind`.
    pub kind: String,
    /// The device or folder.
    pub source: String,
    /// Options as for mount(8).
    pub options: Vec<String>,
}

/// Whether a process has a root file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IsRoot {
    /// Yes.
    Yes,
    /// It has another one.
    No,
    /// It has ended, or its mounts or those of the runtime do not show it.
    Unknown,
}

/// The root file system that Docker or podman made for a container. Paths are as the host names
/// them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Made {
    /// An overlay of layers, each of which is the folder `<name>/diff` below `home`; `l/<link>` is
    /// a short name for it.
    Overlay {
        /// The folder of the storage driver.
        home: PathBuf,
        /// Name of the container's own layer.
        top: String,
        /// Names of the layers below it, topmost first.
        layers: Vec<String>,
    },
    /// A folder of the store's own file system.
    Folder(PathBuf),
    /// By a storage driver whose mounts cannot be compared.
    Otherwise,
}

impl Made {
    /// Whether the root of a process is this one.
    pub fn is_root_of(&self, host_root: &Path, proc: &Path, process: Subject) -> IsRoot {
        match self {
            Self::Overlay { home, top, layers } => {
                let own = home.join(top).join("diff");
                let Some(device) = device_at(proc, process, &Path::new(top).join("merged")) else {
                    return IsRoot::Unknown;
                };
                every_root(proc, process, |root| {
                    let Some(below) = root.folders("lowerdir") else {
                        return false;
                    };
                    let names = below
                        .iter()
                        .map(|folder| layer_of(host_root, home, Path::new(folder)));
                    root.device == device
                        && root.is_whole_overlay()
                        && root.folders("upperdir") == Some(vec![own.to_string_lossy().into()])
                        && names.eq(layers.iter().map(|layer| Some(layer.clone())))
                })
            }
            Self::Folder(folder) => folder
                .to_str()
                .map_or(IsRoot::Unknown, |path| is_folder(proc, process, path)),
            Self::Otherwise => IsRoot::Unknown,
        }
    }
}

/// The name of the layer that an overlay refers to by its folder or by its short name.
fn layer_of(host_root: &Path, home: &Path, folder: &Path) -> Option<String> {
    let below = folder.strip_prefix(home).ok()?;
    let parts: Vec<&str> = below.iter().filter_map(|part| part.to_str()).collect();
    let link = match parts[..] {
        [name, "diff"] => return Some(name.to_owned()),
        ["l", link] if is_component(link) => link,
        _ => return None,
    };
    let target = std::fs::read_link(on_host(host_root, &home.join("l").join(link))).ok()?;
    let name = target
        .to_str()?
        .strip_prefix("../")?
        .strip_suffix("/diff")?;
    is_component(name).then(|| name.to_owned())
}

/// A line of `mountinfo`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Line {
    device: String,
    /// The mounted folder within the file system.
    root: String,
    target: String,
    kind: String,
    /// As the kernel writes them, with escapes.
    options: Vec<String>,
}

impl Line {
    /// The folders in one of an overlay's options. `None` if one of them cannot be told from
    /// several: kernels differ in how they write a colon in a folder's name.
    fn folders(&self, name: &str) -> Option<Vec<String>> {
        let folders = folders(&self.options, name);
        let is_plain = |folder: &String| {
            let escapes = ["\\072", "\\134", "\\:", "\\\\"];
            !escapes.iter().any(|escape| folder.contains(escape))
        };
        let plain = folders.iter().all(is_plain);
        plain.then(|| folders.iter().map(|folder| unescaped(folder)).collect())
    }

    /// Whether it is an overlay from its top. A bind mount of a folder in it has the same options.
    fn is_whole_overlay(&self) -> bool {
        self.kind == "overlay" && self.root == "/"
    }
}

/// Whether the root of a process is this mount, which its runtime has made in a folder with the end
/// `at`; `None` if mounts of this kind cannot be compared.
pub fn is_mount(proc: &Path, process: Subject, mount: &Mount, at: &Path) -> Option<IsRoot> {
    match mount.kind.as_str() {
        "overlay" => {
            let Some(device) = device_at(proc, process, at) else {
                return Some(IsRoot::Unknown);
            };
            Some(every_root(proc, process, |root| {
                root.device == device && is_overlay(root, &mount.options)
            }))
        }
        "bind" | "rbind" => Some(is_folder(proc, process, &mount.source)),
        _ => None,
    }
}

/// Whether the root of a process is the folder `path`, as its parent sees it: the runtime's
/// process, which made the mount.
fn is_folder(proc: &Path, process: Subject, path: &str) -> IsRoot {
    let Some((device, folder)) = place(proc, maker(proc, process), path) else {
        return IsRoot::Unknown;
    };
    every_root(proc, process, |root| {
        root.device == device && root.root == folder
    })
}

/// The device of the overlay that a container's runtime has mounted in a folder with the end `at`, if
/// there is one alone. Each overlay is a device of its own. Its options name folders as its maker sees
/// them: in the mounts of the container, another overlay can have the same ones.
fn device_at(proc: &Path, process: Subject, at: &Path) -> Option<String> {
    only(proc, maker(proc, process), at, |line| {
        let is_there = line.is_whole_overlay() && Path::new(&line.target).ends_with(at);
        is_there.then_some(line.device)
    })
}

/// The process in whose mount namespace a container's root was made: the parent of its first process,
/// which is the shim or `conmon`, or the node's first process once that has ended.
fn maker(proc: &Path, process: Subject) -> u32 {
    ancestors(proc, process.pid).next().unwrap_or(1)
}

/// Whether this holds for the mounts at the root of a process: one, or several on top of each
/// other. Unknown for a process that has ended, because another one may have its pid.
fn every_root(proc: &Path, process: Subject, is_it: impl Fn(&Line) -> bool) -> IsRoot {
    let (mut any, mut all) = (false, true);
    let read = mounts(proc, process.pid, b"", |line| {
        if line.target == "/" {
            any = true;
            all &= is_it(&line);
        }
    });
    if read.is_none() || !any || !process.is_alive(proc) {
        IsRoot::Unknown
    } else if all {
        IsRoot::Yes
    } else {
        IsRoot::No
    }
}

/// The folder with this end on which a process sees something mounted, if there is one alone.
pub(super) fn mounted_on(proc: &Path, pid: u32, end: &Path) -> Option<PathBuf> {
    only(proc, pid, end, |line| {
        let target = PathBuf::from(line.target);
        target.ends_with(end).then_some(target)
    })
}

/// The value that `of` has for some of the mounts in folders with the end `at` that a process sees, if it is
/// the same for all of them. A node has thousands of mounts: only lines with the longest name of `at` are
/// taken apart, unless the kernel would escape it.
fn only<T: Ord>(proc: &Path, pid: u32, at: &Path, of: impl Fn(Line) -> Option<T>) -> Option<T> {
    let mut values = BTreeSet::new();
    let names = at.iter().map(OsStrExt::as_bytes);
    let name = names.max_by_key(|name| name.len()).unwrap_or_default();
    let is_plain = |byte: &u8| byte.is_ascii_graphic() && !br"\#".contains(byte);
    let name = if name.iter().all(is_plain) { name } else { b"" };
    mounts(proc, pid, name, |line| {
        // Two are as good as any number.
        if values.len() < 2 {
            values.extend(of(line));
        }
    })?;
    values.pop_first().filter(|_| values.is_empty())
}

/// Calls `visit` for every mount that a process sees and whose line has `name` in it, one at a time: any
/// user can make thousands of mounts with long names, of any bytes. `None` if they are not known or some are
/// left out, because there are too many.
fn mounts(proc: &Path, pid: u32, name: &[u8], mut visit: impl FnMut(Line)) -> Option<()> {
    let has_name =
        |text: &[u8]| name.is_empty() || text.windows(name.len()).any(|part| part == name);
    let path = proc.join(format!("{pid}/mountinfo"));
    let mut read = 0;
    for text in file::kernel_lines(&path, LARGEST_LINE).ok()? {
        read += text.len();
        if read > LARGEST_MOUNTINFO {
            return None;
        }
        if has_name(&text) {
            visit(line(&cgroup_path::text(text.strip_suffix(b"\n")?))?);
        }
    }
    Some(())
}

fn line(text: &str) -> Option<Line> {
    let (place, file_system) = text.split_once(" - ")?;
    let mut place = place.split(' ').skip(2);
    let device = place.next()?.to_owned();
    let (root, target) = (unescaped(place.next()?), unescaped(place.next()?));
    let mut file_system = file_system.split(' ');
    let kind = file_system.next()?.to_owned();
    let options = file_system.nth(1)?.split(',').map(str::to_owned).collect();
    Some(Line {
        device,
        root,
        target,
        kind,
        options,
    })
}

/// The device of a folder that a process sees, and the folder's path in its file system.
fn place(proc: &Path, pid: u32, path: &str) -> Option<(String, String)> {
    let mut mount: Option<Line> = None;
    mounts(proc, pid, b"", |line| {
        // The last mount on a folder hides the others.
        let is_longer = |known: &Line| line.target.len() >= known.target.len();
        if Path::new(path).starts_with(&line.target) && mount.as_ref().is_none_or(is_longer) {
            mount = Some(line);
        }
    })?;
    let mount = mount?;
    let rest = Path::new(path).strip_prefix(&mount.target).ok()?;
    let folder = if rest.as_os_str().is_empty() {
        mount.root.clone()
    } else {
        Path::new(&mount.root).join(rest).to_str()?.to_owned()
    };
    Some((mount.device, folder))
}

/// Whether a mount is an overlay of these folders. If containerd maps the users of the layers
/// (`uidmap=`), it mounts them in a temporary folder first, so that nothing shows which layers they
/// are: then it is not.
fn is_overlay(root: &Line, expected: &[String]) -> bool {
    let same = |name| root.folders(name) == Some(folders(expected, name));
    let length: usize = expected.iter().map(|it| it.len() + 1).sum();
    let Some(own) = root.folders("lowerdir") else {
        return false;
    };
    let layers = folders(expected, "lowerdir");
    let is_layer = |(own, layer): (&String, &String)| {
        own == layer
            || (length >= RELATIVE_FROM
                && !own.starts_with('/')
                && layer.ends_with(&format!("/{own}")))
    };
    let is_layers = own.len() == layers.len() && own.iter().zip(&layers).all(is_layer);
    root.is_whole_overlay() && same("upperdir") && same("workdir") && is_layers
}

/// The folders in one of an overlay's options.
fn folders(options: &[String], name: &str) -> Vec<String> {
    let values = options.iter().filter_map(|it| it.strip_prefix(name));
    let mut folders = Vec::new();
    for value in values {
        if let Some(list) = value.strip_prefix('=') {
            folders.extend(list.split(':').map(str::to_owned));
        } else if let Some(one) = value.strip_prefix("+=") {
            folders.push(one.to_owned());
        }
    }
    folders
}

/// The kernel writes spaces, commas and similar characters as a backslash and three octal digits.
fn unescaped(text: &str) -> String {
    let mut parts = text.split('\\');
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let code = part.get(..3).and_then(|it| u8::from_str_radix(it, 8).ok());
        if let Some(code) = code.filter(u8::is_ascii) {
            out.push(char::from(code));
            out.push_str(&part[3..]);
        } else {
            out.push('\\');
            out.push_str(part);
        }
    }
    out
}

#[cfg(test)]
mod tests;
