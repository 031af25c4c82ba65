//! Reads a process in the node's /proc: its name, and whether it belongs to the container or is
//! still the runtime.

use crate::file;
use crate::node;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::fs;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, SystemTime};

/// How long an OCI runtime's own process may stay in the container's cgroup before it counts as the
/// container's. It takes milliseconds, or seconds on an overloaded machine.
pub const RUNTIMES_OWN: Duration = Duration::from_secs(10);

/// How much of one file of a process is read.
const LARGEST_FILE: u64 = 64 << 10;

/// How much of one line of `status` is kept. A process has at most 33 ids (pid_namespaces(7)).
const LARGEST_LINE: u64 = 4 << 10;

/// The kernel keeps so many bytes of the name of a process (`TASK_COMM_LEN`).
const LONGEST_COMM: usize = 15;

/// Mounts that are looked at for that of a process's root.
const MOST_BEFORE_ROOT: usize = 64;

/// How long a file system of a container may take to answer about a file.
const LOOK: Duration = Duration::from_millis(50);

/// Threads that may wait for file systems of containers at a time.
const MOST_LOOKING: usize = 4;

/// A chain of parents is short; a loop in a forged /proc must end.
const MOST_ANCESTORS: usize = 64;

/// Ticks per second in `/proc/PID/stat`, fixed by the kernel's interface (`USER_HZ`).
const TICKS_PER_SECOND: u64 = 100;

/// Position of `starttime` in `/proc/PID/stat`, counted from the field after the name (proc(5), field 22).
const START_TIME: usize = 19;

/// Position of `num_threads` there (proc(5), field 20).
const THREADS: usize = 17;

/// How much later than a process began its record may have been written, by the file system's
/// clock. A record older than its process belongs to an earlier one with the same pid.
const CLOCKS_APART: Duration = Duration::from_secs(1);

/// A process, distinguished from earlier ones with the same pid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Subject {
    /// Process id in the initial pid namespace.
    pub pid: u32,
    /// When it began, in ticks since boot (proc(5), `starttime`); `None` if it was gone before that
    /// was read.
    pub started: Option<u64>,
}

/// A recorded pid without the start time of its process.
#[derive(Debug, Clone, Copy)]
pub struct Recorded {
    /// Process id in the initial pid namespace.
    pub pid: u32,
    /// When it was written.
    pub at: SystemTime,
}

impl Subject {
    /// The present process with this pid.
    pub fn now(proc: &Path, pid: u32) -> Self {
        let started = Stat::read(proc, pid).map(|stat| stat.started);
        Self { pid, started }
    }

    /// Whether the process runs or is a zombie.
    pub fn is_alive(self, proc: &Path) -> bool {
        self.started.is_some() && Self::now(proc, self.pid) == self
    }

    /// Whether any thread of the process runs. The first thread of a process can end before the
    /// others, and looks like a zombie then.
    pub fn runs(self, proc: &Path) -> bool {
        let stat = Stat::read(proc, self.pid);
        stat.is_some_and(|stat| {
            let has_ended = matches!(stat.state, 'Z' | 'X') && stat.threads <= 1;
            self.started == Some(stat.started) && !has_ended
        })
    }

    /// Whether `other` can be the same process: if one start time is unknown, equal pids are
    /// enough.
    pub fn may_be(self, other: Self) -> bool {
        let starts = self.started.zip(other.started);
        self.pid == other.pid && starts.is_none_or(|(own, other)| own == other)
    }

    /// Whether a record is about this process and not about an earlier one with its pid.
    pub fn is(self, recorded: Recorded) -> bool {
        let now = node::now();
        let began = self.age(now.boot_ns).map(|age| now.wall - age);
        self.pid == recorded.pid && began.is_some_and(|began| began <= recorded.at + CLOCKS_APART)
    }

    /// The time since the process began, at this time since boot.
    pub fn age(self, boot_ns: u64) -> Option<Duration> {
        let now = Duration::from_nanos(boot_ns);
        self.started
            .map(|ticks| now.saturating_sub(since_boot(ticks)))
    }
}

/// The processes above one, its parent first.
pub fn ancestors(proc: &Path, pid: u32) -> impl Iterator<Item = u32> {
    let parent = |pid: &u32| Stat::read(proc, *pid).map(|stat| stat.parent);
    std::iter::successors(parent(&pid), parent)
        .take(MOST_ANCESTORS)
        .filter(|pid| *pid > 1)
}

/// The command line of a process.
#[derive(Clone, Debug)]
pub struct CommandLine(String);

impl CommandLine {
    /// The words after the program's name. They are not copied, because a program can have as many
    /// as it wants.
    pub fn words(&self) -> impl Iterator<Item = &str> + Clone {
        self.0.split('\0').skip(1)
    }

    /// A command line of words with a space between them.
    #[cfg(test)]
    pub(crate) fn of_words(words: &str) -> Self {
        Self(words.replace(' ', "\0"))
    }
}

/// The ids of all processes.
pub fn all(proc: &Path) -> impl Iterator<Item = u32> {
    let entries = fs::read_dir(proc).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// The command line of a process that root runs on the node itself, if it runs a program of this
/// name. Containers have a mount namespace of their own, even those that share all others with the
/// node.
pub fn command(proc: &Path, pid: u32, program: &str) -> Option<CommandLine> {
    let is_nodes = |owner| owner == 0 && has_root_of_node(proc, pid);
    let (_, command) = command_if(proc, pid, program, is_nodes)?;
    Some(command)
}

/// The same for a process of another user than root, in any mount namespace, with that user's id.
pub fn command_of_user(proc: &Path, pid: u32, program: &str) -> Option<(u32, CommandLine)> {
    command_if(proc, pid, program, |owner| owner != 0)
}

/// Everything is checked before the command line is read: that reads the memory of the process,
/// which its owner can make wait.
fn command_if(
    proc: &Path,
    pid: u32,
    program: &str,
    is_wanted: impl Fn(u32) -> bool,
) -> Option<(u32, CommandLine)> {
    let comm = read(proc, pid, "comm")?;
    if comm.trim_end() != program.get(..LONGEST_COMM).unwrap_or(program) {
        return None;
    }
    if depth(proc, pid) != 1 {
        return None;
    }
    let owner = user(proc, pid).filter(|owner| is_wanted(*owner))?;
    let command = CommandLine(read(proc, pid, "cmdline")?);
    let name = command.0.split('\0').next()?;
    let is_it = Path::new(name).file_name()? == program;
    is_it.then_some((owner, command))
}

/// The user of a process, unless it has several: a program can run with the rights of its file's
/// owner.
fn user(proc: &Path, pid: u32) -> Option<u32> {
    let ids = status(proc, pid, "Uid:");
    let mut ids = ids.split_whitespace();
    let user = ids.next()?;
    ids.all(|id| id == user).then(|| user.parse().ok())?
}

/// Whether a process has the root file system of the node's first process as its root. A mount has
/// one id, and belongs to one mount namespace. Other than the namespaces of a process, its mounts
/// can be read without privileges.
fn has_root_of_node(proc: &Path, pid: u32) -> bool {
    let root = root_mount(proc, pid);
    // The whole of a node may have been started with another root than its first process, the agent
    // as well. No container has the agent's root.
    let own = || root_mount(Path::new("/proc"), std::process::id());
    root.is_some() && (root == root_mount(proc, 1) || root == own())
}

/// The id of the mount at the root of a process. It is one of the first mounts, and the kernel takes
/// long to write all of them.
fn root_mount(proc: &Path, pid: u32) -> Option<Vec<u8>> {
    let mounts = proc.join(format!("{pid}/mountinfo"));
    let lines = file::kernel_lines(&mounts, LARGEST_LINE).ok()?;
    lines.take(MOST_BEFORE_ROOT).find_map(|line| {
        let mut fields = line.split(|byte| *byte == b' ');
        let id = fields.next()?;
        (fields.nth(3)? == b"/").then(|| id.to_vec())
    })
}

/// A variable of a process's environment, as it was when its program started.
pub fn variable(proc: &Path, pid: u32, name: &str) -> Option<String> {
    let text = read(proc, pid, "environ")?;
    let mut entries = text.split('\0').filter_map(|entry| entry.split_once('='));
    entries
        .find(|(key, _)| *key == name)
        .map(|(_, value)| value.to_owned())
}

/// The cgroups of a process, as /proc spells them.
pub fn cgroups(proc: &Path, pid: u32) -> Option<String> {
    read(proc, pid, "cgroup")
}

/// How many pid namespaces a process lives in, including the node's.
pub fn depth(proc: &Path, pid: u32) -> usize {
    ids(proc, pid).len()
}

/// Name of a process in a container's cgroup that belongs to the container; `None` if it is, or may
/// still be, the runtime.
///
/// runc runs itself again as `/proc/self/exe`, or from a file descriptor, and is called `exe` or
/// `6` until it takes a recognisable name. Until then it also shares its parent's mount namespace,
/// which the container's program does not. Any program can take a runtime's name: the name counts
/// only for a young process whose program is not one of the container's own files.
pub fn own_name(proc: &Path, pid: u32, boot_ns: u64) -> Option<String> {
    let comm = read(proc, pid, "comm")?;
    let comm = comm.trim_end();
    let stat = Stat::read(proc, pid)?;
    let apart = || {
        let own = mount_namespace(proc, pid)?;
        Some(own != mount_namespace(proc, stat.parent)?)
    };
    // If the namespace cannot be read, the first process of a pid namespace belongs to the
    // container, and other processes are judged by their age.
    let is_apart = || apart().unwrap_or_else(|| is_first_of_pid_namespace(proc, pid));
    let is_own = stat.age(boot_ns) >= RUNTIMES_OWN
        || ((!is_runtime(comm) || runs_own_file(proc, pid)) && is_apart());
    is_own.then(|| comm.to_owned())
}

/// Whether a process runs a file of its own root file system, if that can be read in time. A runtime
/// that is about to run the container's program comes from the node's.
///
/// The container's file system may be one that never answers, such as FUSE, and the caller must not
/// wait for it. So a thread looks, and threads that wait for such a file system are few.
fn runs_own_file(proc: &Path, pid: u32) -> bool {
    static LOOKING: AtomicUsize = AtomicUsize::new(0);
    if LOOKING.fetch_add(1, Ordering::AcqRel) >= MOST_LOOKING {
        LOOKING.fetch_sub(1, Ordering::AcqRel);
        return false;
    }
    let (answer, answered) = mpsc::sync_channel(1);
    let proc = proc.to_owned();
    let look = move || {
        let is_own = is_own_file(&proc, pid);
        LOOKING.fetch_sub(1, Ordering::AcqRel);
        // Nobody waits any more if it took too long.
        let _unheard = answer.send(is_own);
    };
    if thread::Builder::new()
        .name("own-file".to_owned())
        .spawn(look)
        .is_err()
    {
        LOOKING.fetch_sub(1, Ordering::AcqRel);
        return false;
    }
    answered.recv_timeout(LOOK).unwrap_or(false)
}

fn is_own_file(proc: &Path, pid: u32) -> bool {
    let folder = proc.join(pid.to_string());
    let Ok(program) = fs::read_link(folder.join("exe")) else {
        return false;
    };
    let inside = folder
        .join("root")
        .join(program.strip_prefix("/").unwrap_or(&program));
    let file = |path: &Path| fs::metadata(path).map(|it| (it.dev(), it.ino()));
    match (file(&folder.join("exe")), file(&inside)) {
        (Ok(program), Ok(inside)) => program == inside,
        (Err(_), _) | (_, Err(_)) => false,
    }
}

/// Whether a process lives in a pid namespace below the one of /proc, as containers usually do
/// (proc(5), `NSpid`).
pub fn in_own_pid_namespace(proc: &Path, pid: u32) -> bool {
    ids(proc, pid).len() > 1
}

/// Whether a process is the first one of such a pid namespace.
pub fn is_first_of_pid_namespace(proc: &Path, pid: u32) -> bool {
    matches!(&*ids(proc, pid), [_, .., last] if last == "1")
}

/// Whether two processes are known to live in the same pid namespace.
pub fn share_pid_namespace(proc: &Path, one: u32, other: u32) -> bool {
    let of = |pid| namespace(proc, pid, "pid");
    of(one).is_some_and(|own| of(other) == Some(own))
}

/// The ids of a process, from the namespace that /proc shows to its own.
fn ids(proc: &Path, pid: u32) -> Vec<String> {
    let ids = ids_by_descriptor(proc, pid).unwrap_or_else(|| status(proc, pid, "NSpid:"));
    ids.split_whitespace().map(str::to_owned).collect()
}

/// The same by a descriptor (pidfd_open(2)) of a process that /proc and this program number alike. To read
/// `status` takes the kernel 25 ms if the process has 65,536 groups, as any with `CAP_SETGID` can.
fn ids_by_descriptor(proc: &Path, pid: u32) -> Option<String> {
    let process = Pid::from_raw(i32::try_from(pid).ok()?)?;
    let descriptor = pidfd_open(process, PidfdFlags::empty()).ok()?;
    let info = proc.join(format!("self/fdinfo/{}", descriptor.as_raw_fd()));
    let line = |name| file::read_kernel_line(&info, name, LARGEST_LINE).ok();
    let is_its = line("Pid:")?.trim() == pid.to_string();
    is_its.then(|| line("NSpid:"))?
}

/// A line of a process's `status`. One of them, `Groups`, can have 700 KB.
fn status(proc: &Path, pid: u32, name: &str) -> String {
    let status = proc.join(format!("{pid}/status"));
    file::read_kernel_line(&status, name, LARGEST_LINE).unwrap_or_default()
}

/// Whether a process may still be an OCI runtime that is about to run a container's program, by its
/// age and name alone. Runs no code of a container's file system.
pub fn may_be_runtime(proc: &Path, pid: u32, boot_ns: u64) -> bool {
    let comm = read(proc, pid, "comm").unwrap_or_default();
    let comm = comm.trim_end();
    // A runtime that runs itself from memory is called `exe`, or like the file descriptor.
    let is_unnamed = comm == "exe" || comm.parse::<u32>().is_ok();
    let is_young = |stat: Stat| stat.age(boot_ns) < RUNTIMES_OWN;
    (is_runtime(comm) || is_unnamed) && Stat::read(proc, pid).is_some_and(is_young)
}

/// Whether a process is known to live in another mount namespace than its parent, as a container's first
/// one does.
pub fn is_apart(proc: &Path, pid: u32) -> bool {
    let parent = || mount_namespace(proc, Stat::read(proc, pid)?.parent);
    mount_namespace(proc, pid).is_some_and(|own| parent().is_some_and(|parent| parent != own))
}

/// Whether a process has the name of an OCI runtime, as any program can.
pub fn is_called_like_runtime(proc: &Path, pid: u32) -> bool {
    read(proc, pid, "comm").is_some_and(|comm| is_runtime(comm.trim_end()))
}

/// The needed fields of `/proc/PID/stat`.
struct Stat {
    state: char,
    parent: u32,
    threads: u32,
    started: u64,
}

impl Stat {
    fn read(proc: &Path, pid: u32) -> Option<Self> {
        let text = read(proc, pid, "stat")?;
        // The name is in parentheses, and may have some of its own.
        let (_, rest) = text.rsplit_once(')')?;
        let fields: Vec<&str> = rest.split_whitespace().collect();
        Some(Self {
            state: fields.first()?.chars().next()?,
            parent: fields.get(1)?.parse().ok()?,
            threads: fields.get(THREADS)?.parse().ok()?,
            started: fields.get(START_TIME)?.parse().ok()?,
        })
    }

    fn age(&self, boot_ns: u64) -> Duration {
        Duration::from_nanos(boot_ns).saturating_sub(since_boot(self.started))
    }
}

/// A time since boot in the unit of `/proc/PID/stat`.
pub const fn ticks(since_boot_ns: u64) -> u64 {
    since_boot_ns / (1_000_000_000 / TICKS_PER_SECOND)
}

/// The time since boot that is so many ticks of `/proc/PID/stat`.
pub const fn since_boot(ticks: u64) -> Duration {
    Duration::from_millis(ticks.saturating_mul(1000 / TICKS_PER_SECOND))
}

/// The mount namespace as the kernel spells it, `mnt:[4026531841]`; `None` if it cannot be read.
fn mount_namespace(proc: &Path, pid: u32) -> Option<PathBuf> {
    namespace(proc, pid, "mnt")
}

fn namespace(proc: &Path, pid: u32, kind: &str) -> Option<PathBuf> {
    fs::read_link(proc.join(format!("{pid}/ns/{kind}"))).ok()
}

fn read(proc: &Path, pid: u32, file: &str) -> Option<String> {
    file::read_kernel(&proc.join(format!("{pid}/{file}")), LARGEST_FILE).ok()
}

/// Whether a task is the OCI runtime, not yet turned into the container's program.
fn is_runtime(comm: &str) -> bool {
    matches!(comm, "runc" | "crun" | "youki")
        || comm.starts_with("runc:[")
        || comm.starts_with("youki:[")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    /// Seconds since boot at which the tests look at processes.
    const NOW: u64 = 1000;

    /// A /proc with the parent, pid 7, and the process, pid 8, that started `age` seconds ago.
    fn proc(comm: &str, mounts: [Option<&str>; 2], age: u64) -> tempfile::TempDir {
        let proc = tempfile::tempdir().unwrap();
        let one = |pid: u32, parent: u32, comm: &str, mounts: Option<&str>, started: u64| {
            let dir = proc.path().join(pid.to_string());
            fs::create_dir_all(dir.join("ns")).unwrap();
            fs::write(dir.join("comm"), format!("{comm}\n")).unwrap();
            let ticks = started * TICKS_PER_SECOND;
            let between = "8 8 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0";
            let stat = format!("{pid} ({comm}) S {parent} {between} {ticks} 4096 1\n");
            fs::write(dir.join("stat"), stat).unwrap();
            if let Some(mounts) = mounts {
                symlink(mounts, dir.join("ns/mnt")).unwrap();
            }
        };
        one(7, 1, "containerd-shim", mounts[0], 1);
        one(8, 7, comm, mounts[1], NOW - age);
        proc
    }

    #[test]
    fn a_runtime_that_runs_itself_again_is_not_the_containers_program() {
        const NODE: Option<&str> = Some("mnt:[1]");
        const CONTAINER: Option<&str> = Some("mnt:[2]");
        #[rustfmt::skip]
        let rows = [
            ("its program",                      "sleep",         NODE, CONTAINER,    0, true),
            ("a name with parentheses",          "a) S 9 (b",     NODE, CONTAINER,    0, true),
            ("runc as /proc/self/exe",           "exe",           NODE, NODE,         0, false),
            ("runc from a file descriptor",      "6",             NODE, NODE,         0, false),
            ("runc with a name, mounts done",    "runc:[2:INIT]", NODE, CONTAINER,    9, false),
            ("youki the same",                   "youki:[2:INIT]", NODE, CONTAINER,   9, false),
            ("whoever calls itself so",          "crun",          NODE, CONTAINER,   10, true),
            ("a program of that name",           "exe",           NODE, CONTAINER,    0, true),
            ("no mount namespace, young",        "qemu",          NODE, NODE,         9, false),
            ("no mount namespace, old",          "qemu",          NODE, NODE,        10, true),
            ("no privilege to look, young",      "sleep",         None, None,         0, false),
            ("no privilege to look, old",        "sleep",         None, None,        60, true),
        ];
        for (what, comm, parent, own, age, expected) in rows {
            let proc = proc(comm, [parent, own], age);
            let name = own_name(proc.path(), 8, NOW * 1_000_000_000);
            assert_eq!(name.as_deref(), expected.then_some(comm), "{what}");
        }
    }

    #[test]
    fn of_a_process_that_is_gone_nothing_is_said() {
        let proc = proc("sleep", [None, None], 60);
        assert_eq!(own_name(proc.path(), 9, NOW * 1_000_000_000), None);
        assert_eq!(Subject::now(proc.path(), 9).started, None);
        assert!(!in_own_pid_namespace(proc.path(), 9));
    }

    #[test]
    fn a_young_process_that_is_called_like_a_runtime_may_be_one() {
        for (comm, age, expected) in [
            ("runc:[2:INIT]", 9, true),
            ("runc:[2:INIT]", 10, false),
            ("crun", 0, true),
            ("6", 0, true),
            ("bwrap", 0, false),
        ] {
            let proc = proc(comm, [None, None], age);
            let is_one = may_be_runtime(proc.path(), 8, NOW * 1_000_000_000);
            assert_eq!(is_one, expected, "{comm}, {age} s");
        }
        let proc = proc("runc", [None, None], 0);
        assert!(!may_be_runtime(proc.path(), 9, NOW), "it is gone");
    }

    #[test]
    fn ids_are_found_however_many_groups_a_process_has() {
        let proc = proc("sleep", [None, None], 60);
        for count in [0, 12_000, 65_536] {
            let groups = "4294967294 ".repeat(count);
            let status = format!("Name:\tsleep\nGroups:\t{groups}\nNSpid:\t8\t1\nVmPeak:\t1 kB\n");
            fs::write(proc.path().join("8/status"), status).unwrap();
            assert!(is_first_of_pid_namespace(proc.path(), 8), "{count} groups");
            assert_eq!(depth(proc.path(), 8), 2, "{count} groups");
        }
        fs::write(proc.path().join("8/status"), "Name:\tNSpid:\t8\t1\n").unwrap();
        assert_eq!(depth(proc.path(), 8), 0, "only whole lines count");
    }

    #[test]
    fn a_descriptor_shows_the_ids_that_the_status_shows() {
        let (proc, pid) = (Path::new("/proc"), std::process::id());
        let ids = ids_by_descriptor(proc, pid).unwrap();
        assert_eq!(ids.trim(), status(proc, pid, "NSpid:").trim());
        assert!(ids.split_whitespace().count() > 0);
        // Another /proc may number other processes so.
        let other = tempfile::tempdir().unwrap();
        assert_eq!(ids_by_descriptor(other.path(), pid), None);
    }

    /// Ends a process with the test.
    struct Ended(std::process::Child);

    impl Drop for Ended {
        fn drop(&mut self) {
            drop(self.0.kill());
            drop(self.0.wait());
        }
    }

    #[test]
    fn a_program_with_mounts_of_its_own_is_not_the_nodes() {
        let proc = Path::new("/proc");
        let is_root = rustix::process::geteuid().is_root();
        if !is_root || !has_root_of_node(proc, std::process::id()) {
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("dockerd");
        fs::copy("/bin/sleep", &program).unwrap();
        let start = |before: &[&str]| {
            let words = before.iter().map(Path::new).chain([&*program]);
            let words: Vec<_> = words.collect();
            let mut command = std::process::Command::new(words[0]);
            command.args(&words[1..]).arg("1000");
            let child = Ended(command.spawn().unwrap());
            let is_called = || read(proc, child.0.id(), "comm").is_some_and(|it| it == "dockerd\n");
            while !is_called() {
                thread::sleep(Duration::from_millis(5));
            }
            child
        };
        for (before, expected) in [(&[][..], true), (&["unshare", "--mount"], false)] {
            let child = start(before);
            let command = command(proc, child.0.id(), "dockerd");
            let words = command.map(|it| it.words().next().map(str::to_owned));
            let expected = expected.then(|| Some("1000".to_owned()));
            assert_eq!(words, expected, "{before:?}");
        }
    }

    #[test]
    fn this_process_is_read_from_the_real_proc() {
        let pid = std::process::id();
        let stat = Stat::read(Path::new("/proc"), pid).unwrap();
        assert_eq!(stat.parent, std::os::unix::process::parent_id());
        let now = node::now().boot_ns;
        assert!(stat.age(now) < Duration::from_nanos(now));
    }
}
