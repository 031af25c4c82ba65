//! The event records that the probes write and the agent reads, and the names that both must spell
//! alike.
//!
//! Layouts are `repr(C)` without implicit padding: the verifier refuses a record with uninitialized
//! bytes.
#![no_std]

/// Bytes kept of a cgroup path, with its closing NUL. The longest path seen so far (a nested
/// systemd driver) has 325.
pub const PATH_BYTES: usize = 512;

/// Bytes of the ring buffer: a burst of 1,000 starts, two records each, fits while user space is not scheduled.
pub const RING_BYTES: u32 = 1 << 20;

/// Cgroups in which no container process has been seen yet; more than a node can hold.
pub const PENDING_ENTRIES: u32 = 8192;

/// Programs in one pending cgroup that are reported; usually user space takes the mark away after the
/// first one. While no agent runs, each program that is run in a new container is one.
pub const MOST_REPORTS: u32 = 64;

/// Starts that are kept while the ring buffer is full; any more are counted as lost.
pub const OVERFLOW_ENTRIES: u32 = 4096;

/// Pid namespaces whose first program has been reported. If there are more, the next program of a
/// forgotten one is reported as well, which user space recognizes by the first process.
pub const REPORTED_ENTRIES: u32 = 4096;

/// Programs that were seen and not reported, about the latest ones: each processor keeps some entries for
/// itself. A runtime says within milliseconds that one of them is a container's.
pub const SEEN_ENTRIES: u32 = 16384;

/// Names of programs, maps and globals in the object file.
pub mod names {
    /// Program on the raw tracepoint `cgroup_mkdir`.
    pub const CGROUP_MKDIR: &str = "cgroup_mkdir";
    /// Program on the raw tracepoint `cgroup_rmdir`.
    pub const CGROUP_RMDIR: &str = "cgroup_rmdir";
    /// Program on the raw tracepoint `sched_process_exec`.
    pub const PROCESS_EXEC: &str = "sched_process_exec";
    /// Ring buffer of records.
    pub const EVENTS: &str = "EVENTS";
    /// Hash of pending cgroups: id to [`super::Pending`].
    pub const PENDING: &str = "PENDING";
    /// Hash of execs that did not fit the ring buffer: thread id to [`super::Header`].
    pub const OVERFLOW: &str = "OVERFLOW";
    /// Execs that were not reported, because they were in another mount namespace than their parent but in
    /// a cgroup that was not pending: process id to [`super::Header`].
    pub const SEEN: &str = "SEEN";
    /// Per-CPU counters of lost records, by [`super::Lost`].
    pub const LOST: &str = "LOST";
    /// How many of [`LOST`] an agent has reported, by [`super::Lost`]. Only user space uses it.
    pub const LOST_REPORTED: &str = "LOST_REPORTED";
}

/// The kind of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Kind {
    /// A cgroup was made; followed by its path.
    Mkdir = 1,
    /// A program was started in a mount namespace that differs from its parent's, in a pending
    /// cgroup; or as the first process of a pid namespace, or as the first program of one, in any
    /// cgroup. It is a container process.
    Exec = 2,
    /// A cgroup was removed.
    Rmdir = 3,
}

/// Index of a counter in the map [`names::LOST`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Lost {
    /// The ring buffer had no room for a mkdir record.
    Mkdir = 0,
    /// Neither the ring buffer nor the map of overflow had room for an exec record.
    Exec = 1,
    /// The ring buffer had no room for an rmdir record.
    Rmdir = 2,
    /// The map of pending cgroups had no room, or a pending cgroup had [`MOST_REPORTS`] programs.
    Pending = 3,
}

impl Lost {
    /// All causes, in the order of their index.
    pub const ALL: [Self; 4] = [Self::Mkdir, Self::Exec, Self::Rmdir, Self::Pending];

    /// The cause as a metric label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Mkdir => "ring-full-mkdir",
            Self::Exec => "ring-full-exec",
            Self::Rmdir => "ring-full-rmdir",
            Self::Pending => "pending-full",
        }
    }
}

/// Set in [`Header::flags`] of an exec whose process has another pid namespace than its parent.
pub const FLAG_NEW_PID_NAMESPACE: u32 = 1;

/// Set in [`Header::flags`] of a record about the first process of a pid namespace.
pub const FLAG_FIRST_OF_PID_NAMESPACE: u32 = 4;

/// Set in [`Header::flags`] of an exec by another process than the first one of its pid namespace,
/// in which no program had begun before. Process id, name and start time are those of the first
/// process.
pub const FLAG_BY_ANOTHER: u32 = 8;

/// The beginning of every record; exec and rmdir records consist of this alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Header {
    /// A [`Kind`].
    pub kind: u32,
    /// Bits of `FLAG_*`.
    pub flags: u32,
    /// Kernfs id of the cgroup: the inode number of its directory.
    pub cgroup_id: u64,
    /// Nanoseconds since boot, suspend included (`CLOCK_BOOTTIME`).
    pub time_ns: u64,
    /// Process id (thread group) in the initial pid namespace.
    pub pid: u32,
    /// Length of the path that follows, without NUL; 0 if no path follows.
    pub path_len: u32,
    /// Name of the task, NUL padded.
    pub comm: [u8; 16],
    /// Start time of an exec's process, in nanoseconds since boot; 0 in other records.
    pub started_ns: u64,
}

/// A mkdir record: the header and the path of the cgroup within its hierarchy.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct MkdirRecord {
    /// The beginning of every record.
    pub header: Header,
    /// The path; only `header.path_len` bytes are valid.
    pub path: [u8; PATH_BYTES],
}

/// What the kernel stores about a pending cgroup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Pending {
    /// Inode number of the mount namespace of the task that made it: the runtime's, unless systemd
    /// made it.
    pub mount_namespace: u32,
    /// Programs in it that were reported.
    pub reports: u32,
}

/// A record as user space reads it, borrowed from the ring buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    /// The kind of the record.
    pub kind: Kind,
    /// Its fixed part.
    pub header: Header,
    /// Path of a mkdir record; empty otherwise. Cut off when [`Record::is_truncated`].
    pub path: &'a [u8],
}

impl<'a> Record<'a> {
    /// Reads a record from the bytes of one ring buffer entry; `None` if they are not a record of
    /// this version.
    pub fn read(bytes: &'a [u8]) -> Option<Self> {
        let (head, rest) = bytes.split_at_checked(size_of::<Header>())?;
        let u32_at = |at: usize| {
            head.get(at..at + 4)?
                .try_into()
                .ok()
                .map(u32::from_ne_bytes)
        };
        let u64_at = |at: usize| {
            head.get(at..at + 8)?
                .try_into()
                .ok()
                .map(u64::from_ne_bytes)
        };
        let header = Header {
            kind: u32_at(0)?,
            flags: u32_at(4)?,
            cgroup_id: u64_at(8)?,
            time_ns: u64_at(16)?,
            pid: u32_at(24)?,
            path_len: u32_at(28)?,
            comm: head.get(32..48)?.try_into().ok()?,
            started_ns: u64_at(48)?,
        };
        let kind = match header.kind {
            1 => Kind::Mkdir,
            2 => Kind::Exec,
            3 => Kind::Rmdir,
            _ => return None,
        };
        let path = if kind == Kind::Mkdir {
            rest.get(..header.path_len as usize)?
        } else {
            &[]
        };
        Some(Self { kind, header, path })
    }

    /// Whether the path did not fit into the record.
    pub fn is_truncated(&self) -> bool {
        self.path.len() + 1 >= PATH_BYTES
    }

    /// The task's name without its padding.
    pub fn comm(&self) -> &[u8] {
        let end = self
            .header
            .comm
            .iter()
            .position(|&b| b == 0)
            .unwrap_or(self.header.comm.len());
        self.header.comm.get(..end).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(kind: u32, path_len: u32) -> [u8; size_of::<MkdirRecord>()] {
        let mut out = [0u8; size_of::<MkdirRecord>()];
        out[0..4].copy_from_slice(&kind.to_ne_bytes());
        out[8..16].copy_from_slice(&42u64.to_ne_bytes());
        out[24..28].copy_from_slice(&7u32.to_ne_bytes());
        out[28..32].copy_from_slice(&path_len.to_ne_bytes());
        out[32..36].copy_from_slice(b"runc");
        out[56..60].copy_from_slice(b"/a/b");
        out
    }

    #[test]
    fn layouts_have_no_implicit_padding() {
        assert_eq!(size_of::<Header>(), 56);
        assert_eq!(size_of::<MkdirRecord>(), 56 + PATH_BYTES);
        assert_eq!(size_of::<Pending>(), 8);
    }

    #[test]
    fn a_mkdir_record_is_read_back() {
        let bytes = bytes(1, 4);
        let record = Record::read(&bytes).unwrap();
        assert_eq!(
            (record.kind, record.header.cgroup_id, record.header.pid),
            (Kind::Mkdir, 42, 7)
        );
        assert_eq!(
            (record.path, record.comm()),
            (b"/a/b".as_slice(), b"runc".as_slice())
        );
    }

    #[test]
    fn what_is_no_record_is_refused() {
        assert_eq!(Record::read(&[]), None);
        assert_eq!(Record::read(&bytes(9, 0)), None);
        assert_eq!(
            Record::read(&bytes(1, 4096)),
            None,
            "a path longer than the entry"
        );
        assert_eq!(Record::read(&bytes(2, 0)[..40]), None, "half a header");
    }
}
