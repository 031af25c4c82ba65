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
use std::path::{Path, PathBuf};

/// How much of the mounts of a process is read, line by line. A node with many containers has thousands of
/// mounts; a container has dozens, but root of one can make 100,000.
const LARGEST_MOUNTINFO: usize = 16 << 20;

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
    pub fn is_root_of(&self, host_root: &Path, proc: &Path, process: Subject) -> bool {
        match self {
            Self::Overlay { home, top, layers } => {
                let own = home.join(top).join("diff");
                let device = device_at(proc, process, &home.join(top).join("merged"));
                every_root(proc, process, |root| {
                    if device.as_ref() != Some(&root.device) {
                        return false;
                    }
                    let Some(below) = root.folders("lowerdir") else {
                        return false;
                    };
                    let names = below
                        .iter()
                        .map(|folder| layer_of(host_root, home, Path::new(folder)));
                    root.is_whole_overlay()
                        && root.folders("upperdir") == Some(vec![own.to_string_lossy().into()])
                        && names.eq(layers.iter().map(|layer| Some(layer.clone())))
                })
            }
            Self::Folder(folder) => folder
                .to_str()
                .is_some_and(|path| is_folder(proc, process, path)),
            Self::Otherwise => false,
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
pub fn is_mount(proc: &Path, process: Subject, mount: &Mount, at: &Path) -> Option<bool> {
    match mount.kind.as_str() {
        "overlay" => {
            let device = device_at(proc, process, at);
            Some(every_root(proc, process, |root| {
                device.as_ref() == Some(&root.device) && is_overlay(root, &mount.options)
            }))
        }
        "bind" | "rbind" => Some(is_folder(proc, process, &mount.source)),
        _ => None,
    }
}

/// Whether the root of a process is the folder `path`, as its parent sees it: the runtime's
/// process, which made the mount.
fn is_folder(proc: &Path, process: Subject, path: &str) -> bool {
    let Some((device, folder)) = place(proc, maker(proc, process), path) else {
        return false;
    };
    every_root(proc, process, |root| {
        root.device == device && root.root == folder
    })
}

/// The device of the overlay that a container's runtime has mounted in a folder with the end `at`, if
/// there is one alone. Each overlay is a device of its own. Its options name folders as its maker sees
/// them: in the mounts of the container, another overlay can have the same ones.
fn device_at(proc: &Path, process: Subject, at: &Path) -> Option<String> {
    only(proc, maker(proc, process), |line| {
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
/// other. Not for a process that has ended, because another one may have its pid.
fn every_root(proc: &Path, process: Subject, is_it: impl Fn(&Line) -> bool) -> bool {
    let (mut any, mut all) = (false, true);
    let read = mounts(proc, process.pid, |line| {
        if line.target == "/" {
            any = true;
            all &= is_it(&line);
        }
    });
    read.is_some() && any && all && process.is_alive(proc)
}

/// The folder with this end on which a process sees something mounted, if there is one alone.
pub(super) fn mounted_on(proc: &Path, pid: u32, end: &Path) -> Option<PathBuf> {
    only(proc, pid, |line| {
        let target = PathBuf::from(line.target);
        target.ends_with(end).then_some(target)
    })
}

/// The value that `of` has for some of the mounts that a process sees, if it is the same for all of them.
fn only<T: Ord>(proc: &Path, pid: u32, of: impl Fn(Line) -> Option<T>) -> Option<T> {
    let mut values = BTreeSet::new();
    mounts(proc, pid, |line| {
        // Two are as good as any number.
        if values.len() < 2 {
            values.extend(of(line));
        }
    })?;
    values.pop_first().filter(|_| values.is_empty())
}

/// Calls `visit` for every mount that a process sees, one at a time: any user can make thousands of mounts
/// with long names, of any bytes. `None` if they are not known or some are left out, because there are too
/// many.
fn mounts(proc: &Path, pid: u32, mut visit: impl FnMut(Line)) -> Option<()> {
    let path = proc.join(format!("{pid}/mountinfo"));
    let mut read = 0;
    for text in file::kernel_lines(&path, LARGEST_LINE).ok()? {
        read += text.len();
        if read > LARGEST_MOUNTINFO {
            return None;
        }
        visit(line(&cgroup_path::text(text.strip_suffix(b"\n")?))?);
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
    mounts(proc, pid, |line| {
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
mod tests {
    use super::*;

    const NODE: &str = "\
22 1 8:1 / / rw - ext4 /dev/sda1 rw
30 22 8:2 /data /var/lib rw - ext4 /dev/sdb1 rw
40 30 0:51 / /var/lib/docker/overlay2/abc/merged rw - overlay overlay rw,lowerdir=/l,upperdir=/u,workdir=/w
41 30 0:60 / /run/containerd/io.containerd.runtime.v2.task/default/web/rootfs rw - overlay overlay rw
42 30 0:60 / /s/u/merged rw - overlay overlay rw
43 30 0:60 / /store/overlay/own/merged rw - overlay overlay rw
";

    /// The end of the folder in which the shim has mounted the container's root.
    const AT: &str = "default/web/rootfs";

    /// The container's process, whose parent is on the node.
    const PROCESS: Subject = Subject {
        pid: 8,
        started: Some(100),
    };

    fn proc(container: &str) -> tempfile::TempDir {
        let proc = tempfile::tempdir().unwrap();
        for (pid, parent, text) in [(7, 1, NODE), (8, 7, container)] {
            let folder = proc.path().join(pid.to_string());
            std::fs::create_dir(&folder).unwrap();
            std::fs::write(folder.join("mountinfo"), text).unwrap();
            let stat = format!("{pid} (x) S {parent} {}100 0", "0 ".repeat(17));
            std::fs::write(folder.join("stat"), stat).unwrap();
        }
        proc
    }

    fn overlay(options: &[&str]) -> Mount {
        Mount {
            kind: "overlay".into(),
            source: "overlay".into(),
            options: options.iter().map(|&it| it.to_owned()).collect(),
        }
    }

    #[test]
    fn an_overlay_of_other_folders_is_another_root() {
        let root = |options: &str| {
            format!(
                "50 1 0:60 / / rw - overlay overlay rw,{options}\n51 50 0:61 / /proc rw - proc proc rw\n"
            )
        };
        let made = overlay(&[
            "index=off",
            "workdir=/s/3/work",
            "upperdir=/s/3/fs",
            "lowerdir=/s/2/fs:/s/1/fs",
        ]);
        let rows = [
            (
                "lowerdir=/s/2/fs:/s/1/fs,upperdir=/s/3/fs,workdir=/s/3/work,index=off",
                true,
            ),
            (
                "lowerdir+=/s/2/fs,lowerdir+=/s/1/fs,upperdir=/s/3/fs,workdir=/s/3/work",
                true,
            ),
            ("lowerdir=/s/2/fs,upperdir=/s/3/fs,workdir=/s/3/work", false),
            (
                "lowerdir=/evil:/s/1/fs,upperdir=/s/3/fs,workdir=/s/3/work",
                false,
            ),
            (
                "lowerdir=2/fs:1/fs,upperdir=/s/3/fs,workdir=/s/3/work",
                false,
            ),
            (
                "lowerdir+=/s/2/fs:/s/1/fs,upperdir=/s/3/fs,workdir=/s/3/work",
                false,
            ),
            (
                "lowerdir=/s/2/fs:/s/1/fs,upperdir=/evil,workdir=/s/3/work",
                false,
            ),
        ];
        for (options, expected) in rows {
            let proc = proc(&root(options));
            let found = is_mount(proc.path(), PROCESS, &made, AT.as_ref());
            assert_eq!(found, Some(expected), "{options}");
        }
        let below = root(rows[0].0).replacen(" / / ", " /evil / ", 1);
        let found = is_mount(proc(&below).path(), PROCESS, &made, AT.as_ref());
        assert_eq!(found, Some(false), "a folder of the same overlay");
        let two = format!(
            "{}49 1 8:1 /evil / rw - ext4 /dev/sda1 rw\n",
            root(rows[0].0)
        );
        assert_eq!(
            is_mount(proc(&two).path(), PROCESS, &made, AT.as_ref()),
            Some(false)
        );
        assert_eq!(
            is_mount(proc("").path(), PROCESS, &made, AT.as_ref()),
            Some(false),
            "gone"
        );
        let earlier = Subject {
            started: Some(99),
            ..PROCESS
        };
        let own = proc(&root(rows[0].0));
        assert_eq!(
            is_mount(own.path(), earlier, &made, AT.as_ref()),
            Some(false),
            "another"
        );
        let mapped = overlay(&[
            "uidmap=0:100000:65536",
            "gidmap=0:100000:65536",
            "workdir=/s/3/work",
            "upperdir=/s/3/fs",
            "lowerdir=/s/2/fs:/s/1/fs",
        ]);
        for layers in [
            "/tmp/ovl-idmapped7/0:/tmp/ovl-idmapped7/1",
            "/evil/2/fs:/evil/1/fs",
        ] {
            let options = format!("lowerdir={layers},upperdir=/s/3/fs,workdir=/s/3/work");
            let found = is_mount(proc(&root(&options)).path(), PROCESS, &mapped, AT.as_ref());
            assert_eq!(found, Some(false), "{layers}");
        }
        let unknown = Mount {
            kind: "zfs".into(),
            ..made
        };
        assert_eq!(
            is_mount(proc(&two).path(), PROCESS, &unknown, AT.as_ref()),
            None
        );
    }

    #[test]
    fn an_overlay_of_the_same_names_is_another_root() {
        let options = "lowerdir=/s/base/diff,upperdir=/s/u/diff,workdir=/w";
        let made = overlay(&["workdir=/w", "upperdir=/s/u/diff", "lowerdir=/s/base/diff"]);
        let kept = Made::Overlay {
            home: "/s".into(),
            top: "u".to_owned(),
            layers: vec!["base".to_owned()],
        };
        let is_root = |device: &str, node: &str, at: &str| {
            let line = format!("50 1 {device} / / rw - overlay overlay rw,{options}\n");
            let proc = proc(&line);
            std::fs::write(proc.path().join("7/mountinfo"), format!("{NODE}{node}")).unwrap();
            let is_made = kept.is_root_of(Path::new("/none"), proc.path(), PROCESS);
            (is_mount(proc.path(), PROCESS, &made, at.as_ref()), is_made)
        };
        assert_eq!(is_root("0:60", "", AT), (Some(true), true));
        assert_eq!(is_root("0:61", "", AT), (Some(false), false), "its own");
        let found = is_root("0:60", "", "default/other/rootfs");
        assert_eq!(found.0, Some(false), "of another container");
        let shared = "70 1 0:61 / /x/default/web/rootfs rw - overlay overlay rw\n\
            71 1 0:61 / /s/u/merged rw - overlay overlay rw\n";
        for device in ["0:60", "0:61"] {
            let found = is_root(device, shared, AT);
            assert_eq!(found, (Some(false), false), "two that differ, {device}");
        }
        let twice = "70 1 0:60 / /x/default/web/rootfs rw - overlay overlay rw\n";
        assert_eq!(is_root("0:60", twice, AT).0, Some(true), "one, twice");
    }

    #[test]
    fn mounts_with_long_names_of_any_bytes_hide_no_root() {
        let made = overlay(&["lowerdir=/l/\u{fffd}", "upperdir=/u", "workdir=/w"]);
        let root = |lower: &[u8]| {
            let options = [b"lowerdir=/l/", lower, b",upperdir=/u,workdir=/w\n"].concat();
            [&b"50 1 0:60 / / rw - overlay overlay rw,"[..], &options].concat()
        };
        let made_here = root("\u{fffd}".as_bytes());
        let name = b"\xff".repeat(4000);
        let other = [
            b"51 50 0:61 /",
            &*name,
            b" /",
            &name,
            b" rw - tmpfs tmpfs rw\n",
        ]
        .concat();
        let is_root = |mounts: &[&[u8]]| {
            let proc = proc("");
            std::fs::write(proc.path().join("8/mountinfo"), mounts.concat()).unwrap();
            is_mount(proc.path(), PROCESS, &made, AT.as_ref()) == Some(true)
        };
        let few = other.repeat(100);
        assert!(is_root(&[&few, &made_here, &few]));
        assert!(!is_root(&[&root(b"\xff")]), "another name");
        assert!(
            !is_root(&[&made_here, &few, &root(b"\xff")]),
            "one above it"
        );
        let many = other.repeat(LARGEST_MOUNTINFO / other.len() + 1);
        assert!(!is_root(&[&made_here, &many]), "too many to know");
        let long = [&*name.repeat(40), b"\n"].concat();
        assert!(!is_root(&[&made_here, &long]), "one that is too long");
    }

    #[test]
    fn a_colon_in_the_name_of_a_folder_separates_nothing() {
        let made = overlay(&["workdir=/w", "upperdir=/u", "lowerdir=/s/4/fs:/s/3/fs"]);
        let kept = Made::Overlay {
            home: "/s".into(),
            top: "u".to_owned(),
            layers: vec!["4".to_owned(), "3".to_owned()],
        };
        for (lower, expected) in [
            ("/s/4/fs:/s/3/fs", true),
            (r"/s/4/fs\072/s/3/fs", false),
            (r"/s/4/fs\134:/s/3/fs", false),
            (r"/s/4/fs\:/s/3/fs", false),
        ] {
            let line = |upper: &str, lower: &str| {
                format!(
                    "50 1 0:60 / / rw - overlay overlay rw,lowerdir={lower},upperdir={upper},workdir=/w\n"
                )
            };
            let own = proc(&line("/u", lower));
            assert_eq!(
                is_mount(own.path(), PROCESS, &made, AT.as_ref()),
                Some(expected),
                "{lower}"
            );
            let own = proc(&line("/s/u/diff", &lower.replace("/fs", "/diff")));
            let found = kept.is_root_of(Path::new("/none"), own.path(), PROCESS);
            assert_eq!(found, expected, "{lower}");
        }
    }

    #[test]
    fn many_layers_are_named_from_their_folder() {
        let layers: Vec<_> = (0..100)
            .map(|at| {
                format!(
                    "/var/lib/containerd/io.containerd.snapshotter.v1.overlayfs/snapshots/{at}/fs"
                )
            })
            .collect();
        let lower = format!("lowerdir={}", layers.join(":"));
        let made = overlay(&["workdir=/w", "upperdir=/u", &lower]);
        let relative: Vec<_> = (0..100).map(|at| format!("{at}/fs")).collect();
        let line = |layers: &str| {
            format!(
                "50 1 0:60 / / rw - overlay overlay rw,lowerdir={layers},upperdir=/u,workdir=/w\n"
            )
        };
        let own = proc(&line(&relative.join(":")));
        assert_eq!(
            is_mount(own.path(), PROCESS, &made, AT.as_ref()),
            Some(true)
        );
        let other = proc(&line(&relative.join(":").replace("99/fs", "100/fs")));
        assert_eq!(
            is_mount(other.path(), PROCESS, &made, AT.as_ref()),
            Some(false)
        );
    }

    #[test]
    fn a_folder_is_found_by_its_file_system() {
        let rows = [
            (
                "50 1 0:51 / / rw - overlay overlay rw\n",
                "/var/lib/docker/overlay2/abc/merged",
                true,
            ),
            (
                "50 1 8:2 /data/x\\040y / rw - ext4 /dev/sdb1 rw\n",
                "/var/lib/x y",
                true,
            ),
            (
                "50 1 8:2 /data/evil / rw - ext4 /dev/sdb1 rw\n",
                "/var/lib/x",
                false,
            ),
            (
                "50 1 8:1 /var/lib/x / rw - ext4 /dev/sda1 rw\n",
                "/var/lib/x",
                false,
            ),
        ];
        for (container, path, expected) in rows {
            let proc = proc(container);
            assert_eq!(
                is_folder(proc.path(), PROCESS, path),
                expected,
                "{container}"
            );
        }
    }

    #[test]
    fn an_overlay_of_a_store_has_its_layers() {
        let host = tempfile::tempdir().unwrap();
        let links = host.path().join("store/overlay/l");
        std::fs::create_dir_all(&links).unwrap();
        for (link, target) in [
            ("A", "../init/diff"),
            ("B", "../base/diff"),
            ("E", "../../../evil"),
        ] {
            std::os::unix::fs::symlink(target, links.join(link)).unwrap();
        }
        let made = Made::Overlay {
            home: "/store/overlay".into(),
            top: "own".to_owned(),
            layers: vec!["init".to_owned(), "base".to_owned()],
        };
        let upper = "upperdir=/store/overlay/own/diff";
        let rows = [
            (
                "lowerdir=/store/overlay/l/A:/store/overlay/l/B",
                upper,
                true,
            ),
            (
                "lowerdir=/store/overlay/init/diff:/store/overlay/base/diff",
                upper,
                true,
            ),
            (
                "lowerdir=/store/overlay/l/B:/store/overlay/l/A",
                upper,
                false,
            ),
            (
                "lowerdir=/store/overlay/l/E:/store/overlay/l/B",
                upper,
                false,
            ),
            (
                "lowerdir=/store/overlay/l/C:/store/overlay/l/B",
                upper,
                false,
            ),
            ("lowerdir=/store/overlay/l/B", upper, false),
            (
                "lowerdir=/evil:/store/overlay/l/A:/store/overlay/l/B",
                upper,
                false,
            ),
            ("lowerdir=l/A:l/B", upper, false),
            (
                "lowerdir=/store/overlay/l/A:/store/overlay/l/B",
                "upperdir=/evil",
                false,
            ),
        ];
        for (lower, upper, expected) in rows {
            let line = |root: &str| {
                format!("50 1 0:60 {root} / rw - overlay overlay rw,{lower},{upper},workdir=/w\n")
            };
            let (whole, below) = (proc(&line("/")), proc(&line("/evil")));
            let found = made.is_root_of(host.path(), whole.path(), PROCESS);
            assert_eq!(found, expected, "{lower} {upper}");
            let found = made.is_root_of(host.path(), below.path(), PROCESS);
            assert!(!found, "a folder of {lower} {upper}");
        }
        let folder = Made::Folder("/var/lib/x".into());
        for (container, expected) in [
            ("50 1 8:2 /data/x / rw - ext4 /dev/sdb1 rw\n", true),
            ("50 1 8:2 /data/y / rw - ext4 /dev/sdb1 rw\n", false),
        ] {
            let proc = proc(container);
            let found = folder.is_root_of(host.path(), proc.path(), PROCESS);
            assert_eq!(found, expected, "{container}");
            assert!(!Made::Otherwise.is_root_of(host.path(), proc.path(), PROCESS));
        }
    }
}
