//! Roots of processes, by the tables of mounts that the kernel shows.

use super::*;

/// Whether it is the root; `None` if such a mount cannot be compared.
fn is_its(proc: &Path, process: Subject, mount: &Mount, at: &Path) -> Option<bool> {
    is_mount(proc, process, mount, at).map(|it| it == IsRoot::Yes)
}

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
        let found = is_its(proc.path(), PROCESS, &made, AT.as_ref());
        assert_eq!(found, Some(expected), "{options}");
    }
    let below = root(rows[0].0).replacen(" / / ", " /evil / ", 1);
    let found = is_its(proc(&below).path(), PROCESS, &made, AT.as_ref());
    assert_eq!(found, Some(false), "a folder of the same overlay");
    let two = format!(
        "{}49 1 8:1 /evil / rw - ext4 /dev/sda1 rw\n",
        root(rows[0].0)
    );
    assert_eq!(
        is_its(proc(&two).path(), PROCESS, &made, AT.as_ref()),
        Some(false)
    );
    assert_eq!(
        is_its(proc("").path(), PROCESS, &made, AT.as_ref()),
        Some(false),
        "gone"
    );
    let earlier = Subject {
        started: Some(99),
        ..PROCESS
    };
    let own = proc(&root(rows[0].0));
    assert_eq!(
        is_its(own.path(), earlier, &made, AT.as_ref()),
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
        let found = is_its(proc(&root(&options)).path(), PROCESS, &mapped, AT.as_ref());
        assert_eq!(found, Some(false), "{layers}");
    }
    let unknown = Mount {
        kind: "zfs".into(),
        ..made
    };
    assert_eq!(
        is_its(proc(&two).path(), PROCESS, &unknown, AT.as_ref()),
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
        let is_made = kept.is_root_of(Path::new("/none"), proc.path(), PROCESS) == IsRoot::Yes;
        (is_its(proc.path(), PROCESS, &made, at.as_ref()), is_made)
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
        is_its(proc.path(), PROCESS, &made, AT.as_ref()) == Some(true)
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
            is_its(own.path(), PROCESS, &made, AT.as_ref()),
            Some(expected),
            "{lower}"
        );
        let own = proc(&line("/s/u/diff", &lower.replace("/fs", "/diff")));
        let found = kept.is_root_of(Path::new("/none"), own.path(), PROCESS) == IsRoot::Yes;
        assert_eq!(found, expected, "{lower}");
    }
}

#[test]
fn many_layers_are_named_from_their_folder() {
    let layers: Vec<_> = (0..100)
        .map(|at| {
            format!("/var/lib/containerd/io.containerd.snapshotter.v1.overlayfs/snapshots/{at}/fs")
        })
        .collect();
    let lower = format!("lowerdir={}", layers.join(":"));
    let made = overlay(&["workdir=/w", "upperdir=/u", &lower]);
    let relative: Vec<_> = (0..100).map(|at| format!("{at}/fs")).collect();
    let line = |layers: &str| {
        format!("50 1 0:60 / / rw - overlay overlay rw,lowerdir={layers},upperdir=/u,workdir=/w\n")
    };
    let own = proc(&line(&relative.join(":")));
    assert_eq!(is_its(own.path(), PROCESS, &made, AT.as_ref()), Some(true));
    let other = proc(&line(&relative.join(":").replace("99/fs", "100/fs")));
    assert_eq!(
        is_its(other.path(), PROCESS, &made, AT.as_ref()),
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
            is_folder(proc.path(), PROCESS, path) == IsRoot::Yes,
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
        let found = made.is_root_of(host.path(), whole.path(), PROCESS) == IsRoot::Yes;
        assert_eq!(found, expected, "{lower} {upper}");
        let found = made.is_root_of(host.path(), below.path(), PROCESS) == IsRoot::Yes;
        assert!(!found, "a folder of {lower} {upper}");
    }
    let folder = Made::Folder("/var/lib/x".into());
    for (container, expected) in [
        ("50 1 8:2 /data/x / rw - ext4 /dev/sdb1 rw\n", true),
        ("50 1 8:2 /data/y / rw - ext4 /dev/sdb1 rw\n", false),
    ] {
        let proc = proc(container);
        let found = folder.is_root_of(host.path(), proc.path(), PROCESS) == IsRoot::Yes;
        assert_eq!(found, expected, "{container}");
        let found = Made::Otherwise.is_root_of(host.path(), proc.path(), PROCESS);
        assert_eq!(found, IsRoot::Unknown);
    }
}

/// Only another root is remembered: what is unknown may be known a moment later.
#[test]
fn a_root_that_cannot_be_compared_is_not_another_one() {
    let options = "lowerdir=/s/1/fs,upperdir=/s/2/fs,workdir=/s/2/work";
    let made = overlay(&["workdir=/s/2/work", "upperdir=/s/2/fs", "lowerdir=/s/1/fs"]);
    let root = format!("50 1 0:60 / / rw - overlay overlay rw,{options}\n");
    let evil = root.replace("0:60", "0:61");
    let ended = Subject {
        started: Some(99),
        ..PROCESS
    };
    for (what, mounts, process, at, expected) in [
        ("its", &root, PROCESS, AT, IsRoot::Yes),
        ("another", &evil, PROCESS, AT, IsRoot::No),
        (
            "the runtime has mounted nothing",
            &root,
            PROCESS,
            "x/rootfs",
            IsRoot::Unknown,
        ),
        (
            "its mounts cannot be read",
            &String::new(),
            PROCESS,
            AT,
            IsRoot::Unknown,
        ),
        ("it has ended", &evil, ended, AT, IsRoot::Unknown),
    ] {
        let proc = proc(mounts);
        let found = is_mount(proc.path(), process, &made, at.as_ref());
        assert_eq!(found, Some(expected), "{what}");
    }
}
