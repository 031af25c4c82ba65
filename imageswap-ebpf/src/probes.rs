//! The programs in the kernel: three raw tracepoints. No helper needs more than `CAP_BPF` and
//! `CAP_PERFMON`.
//!
//! `cgroup_mkdir` reports that a container may be about to start and remembers the cgroup as
//! pending. `sched_process_exec` reports that a container started: the first program in a pending
//! cgroup whose mount namespace differs from its parent's, or the first process of a pid namespace
//! in any cgroup, or the first program in a pid namespace whose first process runs none of its own.
//! `cgroup_rmdir` reports that it ended. The condition on mount namespaces is
//! Tracee's: a runtime runs itself again inside the new cgroup, in its own mount namespace, even if
//! the entrypoint does not exist.
//!
//! Rust emits no CO-RE relocations, so the offsets of kernel structures are globals that user space fills in
//! from the running kernel's BTF before it loads the programs.
#![no_std]
#![no_main]
#![expect(
    unsafe_code,
    reason = "BPF helpers, kernel memory and maps shared with other CPUs are unsafe by nature"
)]
#![expect(
    missing_docs,
    unreachable_pub,
    reason = "the attribute macro repeats each program as a public function"
)]

use aya_ebpf::bindings::{
    BPF_NOEXIST, BPF_RB_AVAIL_DATA, BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP, BPF_RB_RING_SIZE,
};
use aya_ebpf::helpers::generated::{bpf_get_current_task_btf, bpf_ktime_get_boot_ns};
use aya_ebpf::helpers::{
    bpf_get_current_cgroup_id, bpf_get_current_comm, bpf_get_current_pid_tgid,
    bpf_get_current_task, bpf_probe_read_kernel, bpf_probe_read_kernel_str_bytes,
};
use aya_ebpf::macros::{map, raw_tracepoint};
use aya_ebpf::maps::{Array, HashMap, LruHashMap, PerCpuArray, RingBuf};
use aya_ebpf::programs::RawTracePointContext;
use imageswap_ebpf::{
    FLAG_BY_ANOTHER, FLAG_FIRST_OF_PID_NAMESPACE, FLAG_NEW_PID_NAMESPACE, Header, Kind, Lost,
    MOST_REPORTS, MkdirRecord, OVERFLOW_ENTRIES, PATH_BYTES, PENDING_ENTRIES, Pending,
    REPORTED_ENTRIES, RING_BYTES, SEEN_ENTRIES,
};

/// An address in kernel memory.
type Address = usize;

#[map]
static EVENTS: RingBuf = RingBuf::with_byte_size(RING_BYTES, 0);
#[map]
static PENDING: HashMap<u64, Pending> = HashMap::with_max_entries(PENDING_ENTRIES, 0);
#[map]
static OVERFLOW: HashMap<u64, Header> = HashMap::with_max_entries(OVERFLOW_ENTRIES, 0);
/// Address of each pid namespace in which a program has been reported, with the start time of its
/// first process: the kernel uses addresses and inode numbers again.
#[map]
static REPORTED: LruHashMap<Address, u64> = LruHashMap::with_max_entries(REPORTED_ENTRIES, 0);
#[map]
static SEEN: LruHashMap<u32, Header> = LruHashMap::with_max_entries(SEEN_ENTRIES, 0);
#[map]
static LOST: PerCpuArray<u64> = PerCpuArray::with_max_entries(Lost::ALL.len() as u32, 0);
/// For the agent that comes next.
#[map]
static LOST_REPORTED: Array<u64> = Array::with_max_entries(Lost::ALL.len() as u32, 0);

/// For a record that the reader must see at once. Without the force, it would be woken only if it
/// had read all others.
const NOW: u64 = BPF_RB_FORCE_WAKEUP as u64;
/// For a record that the reader will find when it looks by itself: waking a sleeping reader takes at least
/// ten times as long as writing the record.
const LATER: u64 = BPF_RB_NO_WAKEUP as u64;

/// Globals that user space sets before loading; see `offsets.rs` of the agent.
macro_rules! globals {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => { $(
        $(#[$doc])*
        #[unsafe(no_mangle)]
        static $name: u32 = 0;
    )* };
}

globals! {
    /// The hierarchy to watch: 0 is cgroup v2.
    HIERARCHY,
    /// 1 if this kernel has the helper `bpf_get_current_task_btf` (5.11); without it, the verifier never
    /// reaches the call.
    HAS_CURRENT_TASK_BTF,
    CGROUP_KN,
    CGROUP_ROOT,
    CGROUP_ROOT_HIERARCHY_ID,
    KERNFS_NODE_ID,
    MNT_NAMESPACE_NS,
    NSPROXY_MNT_NS,
    NS_COMMON_INUM,
    PID_NAMESPACE_CHILD_REAPER,
    PID_LEVEL,
    PID_NUMBERS,
    TASK_STRUCT_COMM,
    TASK_STRUCT_GROUP_LEADER,
    TASK_STRUCT_NSPROXY,
    TASK_STRUCT_REAL_PARENT,
    TASK_STRUCT_START_BOOTTIME,
    TASK_STRUCT_TGID,
    TASK_STRUCT_THREAD_PID,
    UPID_NS,
    UPID_SIZE,
}

/// Reads a global. The compiler must not replace it by the constant zero of the object file.
macro_rules! global {
    ($name:ident) => {{
        // SAFETY: a static of this program, written before it was loaded and never after.
        unsafe { core::ptr::read_volatile(&raw const $name) }
    }};
}

#[raw_tracepoint(tracepoint = "cgroup_mkdir")]
pub fn cgroup_mkdir(ctx: RawTracePointContext) -> i32 {
    if let Some(cgroup_id) = watched(ctx.arg::<Address>(0)) {
        let pending = Pending {
            mount_namespace: mount_namespace(current_task()),
            reports: 0,
        };
        if PENDING.insert(cgroup_id, pending, 0).is_err() {
            lose(Lost::Pending);
        }
        tell_mkdir(cgroup_id, ctx.arg::<Address>(1));
    }
    0
}

#[raw_tracepoint(tracepoint = "sched_process_exec")]
pub fn sched_process_exec(ctx: RawTracePointContext) -> i32 {
    if global!(HAS_CURRENT_TASK_BTF) == 1 && is_ordinary() {
        return 0;
    }
    let task = ctx.arg::<Address>(0);
    let parent = read(task, global!(TASK_STRUCT_REAL_PARENT)).unwrap_or(0);
    let own = pid_namespace(task);
    let first = first_of(own);
    let is_first = first == task;
    // The first process of a pid namespace may never run a program of its own.
    let is_unreported = first != 0 && !is_reported(own, first);
    // Tasks that share all their namespaces share one structure, as after a fork.
    if !is_first && !is_unreported && proxy(task) == proxy(parent) {
        return 0;
    }
    // SAFETY: a helper without arguments.
    let cgroup_id = unsafe { bpf_get_current_cgroup_id() };
    // SAFETY: the value is two integers that are written once, before the key can be found.
    let pending = unsafe { PENDING.get(cgroup_id) };
    let mount = mount_namespace(task);
    let above = mount_namespace(parent);
    // A parent that has exited has no namespaces left; the maker of the cgroup replaces it.
    let runtime = match pending {
        Some(pending) if above == 0 => pending.mount_namespace,
        _ => above,
    };
    let is_apart = mount != 0 && mount != runtime;
    #[cfg(feature = "log")]
    if pending.is_some() && !is_first && !is_apart {
        aya_log_ebpf::debug!(
            &ctx,
            "exec in pending cgroup {} by its runtime, in mount namespace {}",
            cgroup_id,
            mount
        );
    }
    if is_first || is_apart {
        let namespace = if is_first {
            FLAG_FIRST_OF_PID_NAMESPACE | FLAG_NEW_PID_NAMESPACE
        } else if own != 0 && own != pid_namespace(parent) {
            FLAG_NEW_PID_NAMESPACE
        } else {
            0
        };
        let record = Header {
            started_ns: start_of(task),
            ..header(Kind::Exec, namespace, cgroup_id, 0)
        };
        // One by another process in a cgroup that is not pending is usually one into a running container.
        if !is_first && pending.is_none() {
            let _full = SEEN.insert(record.pid, record, 0);
        } else if report(record) {
            count_report(cgroup_id);
        } else {
            return 0;
        }
    }
    if is_unreported {
        let about_first = Header {
            pid: read(first, global!(TASK_STRUCT_TGID)).unwrap_or(0),
            comm: read(first, global!(TASK_STRUCT_COMM)).unwrap_or_default(),
            started_ns: start_of(first),
            ..header(
                Kind::Exec,
                FLAG_FIRST_OF_PID_NAMESPACE | FLAG_NEW_PID_NAMESPACE | FLAG_BY_ANOTHER,
                cgroup_id,
                0,
            )
        };
        if is_first || report(about_first) {
            let _full = REPORTED.insert(own, start_of(first), 0);
        }
    }
    0
}

/// Whether the current task lives in the node's pid namespace and shares its parent's namespaces, as
/// nearly every program on a node that is in no container. The verifier knows the type of this task,
/// so that the program reads its fields without calling a helper for each.
#[inline(always)]
fn is_ordinary() -> bool {
    // SAFETY: a helper without arguments.
    let task = (unsafe { bpf_get_current_task_btf() }) as Address;
    let [to_pid, to_parent, to_proxy, to_level] = [
        global!(TASK_STRUCT_THREAD_PID),
        global!(TASK_STRUCT_REAL_PARENT),
        global!(TASK_STRUCT_NSPROXY),
        global!(PID_LEVEL),
    ];
    // SAFETY: fields of their types. Where a pointer is bad, the kernel reads 0.
    unsafe {
        let pid: Address = typed(task, to_pid);
        let parent: Address = typed(task, to_parent);
        let level: u32 = typed(pid, to_level);
        level == 0 && typed::<Address>(task, to_proxy) == typed(parent, to_proxy)
    }
}

/// Reads a field of a structure whose type the verifier knows.
///
/// # Safety
/// `base` is a pointer with the kernel's type, and `offset` that of a field of type `T` in it.
#[inline(always)]
unsafe fn typed<T>(base: Address, offset: u32) -> T {
    // SAFETY: the caller's promise; the verifier checks it.
    unsafe { core::ptr::read_volatile((base + offset as usize) as *const T) }
}

/// Reports an exec; false if the record is lost. Its cgroup stays pending until user space knows whether
/// it is the container's: other programs can begin there before.
#[inline(always)]
fn report(record: Header) -> bool {
    let is_kept = submit(record, NOW) || keep(record);
    if !is_kept {
        lose(Lost::Exec);
    }
    is_kept
}

/// Counts a program that was reported in a pending cgroup.
#[inline(always)]
fn count_report(cgroup_id: u64) {
    let Some(pending) = PENDING.get_ptr_mut(cgroup_id) else {
        return;
    };
    // SAFETY: an integer of a map's value; if two CPUs count at a time, one more is reported.
    let reports = unsafe {
        (*pending).reports += 1;
        (*pending).reports
    };
    if reports >= MOST_REPORTS {
        let _unlikely = PENDING.remove(cgroup_id);
        lose(Lost::Pending);
    }
}

#[raw_tracepoint(tracepoint = "cgroup_rmdir")]
pub fn cgroup_rmdir(ctx: RawTracePointContext) -> i32 {
    if let Some(cgroup_id) = watched(ctx.arg::<Address>(0)) {
        let _absent_when_started = PENDING.remove(cgroup_id);
        if !submit(header(Kind::Rmdir, 0, cgroup_id, 0), when()) {
            lose(Lost::Rmdir);
        }
    }
    0
}

/// Id of the `struct cgroup` at `cgroup`, if it belongs to the watched hierarchy.
#[inline(always)]
fn watched(cgroup: Address) -> Option<u64> {
    let root = read::<Address>(cgroup, global!(CGROUP_ROOT))?;
    if read::<u32>(root, global!(CGROUP_ROOT_HIERARCHY_ID))? != global!(HIERARCHY) {
        return None;
    }
    let node = read::<Address>(cgroup, global!(CGROUP_KN))?;
    read::<u64>(node, global!(KERNFS_NODE_ID))
}

/// Address of the `struct nsproxy` of the `struct task_struct` at `task`; 0 for a task that has exited.
#[inline(always)]
fn proxy(task: Address) -> Address {
    read(task, global!(TASK_STRUCT_NSPROXY)).unwrap_or(0)
}

/// Inode number of a task's mount namespace; 0, which no inode has, for a task that has exited. An
/// `Option` instead would compile to a read of a register that the verifier has not seen written.
#[inline(always)]
fn mount_namespace(task: Address) -> u32 {
    let mount = read::<Address>(proxy(task), global!(NSPROXY_MNT_NS)).unwrap_or(0);
    let inum = global!(NS_COMMON_INUM);
    read(mount, global!(MNT_NAMESPACE_NS) + inum).unwrap_or(0)
}

/// Address of the `struct pid_namespace` in which a task lives, whatever it has unshared for its
/// children; 0 for the node's.
#[inline(always)]
fn pid_namespace(task: Address) -> Address {
    let pid = read::<Address>(task, global!(TASK_STRUCT_THREAD_PID)).unwrap_or(0);
    let level = read::<u32>(pid, global!(PID_LEVEL)).unwrap_or(0);
    if level == 0 {
        return 0;
    }
    let number = global!(PID_NUMBERS) + level * global!(UPID_SIZE) + global!(UPID_NS);
    read(pid, number).unwrap_or(0)
}

/// Address of the first process of the pid namespace at `namespace`, 0 for the node's: an `exec`
/// into a container is never by that process.
#[inline(always)]
fn first_of(namespace: Address) -> Address {
    if namespace == 0 {
        return 0;
    }
    // After its first thread has ended, another one takes that thread's place.
    let thread = read::<Address>(namespace, global!(PID_NAMESPACE_CHILD_REAPER)).unwrap_or(0);
    read(thread, global!(TASK_STRUCT_GROUP_LEADER)).unwrap_or(0)
}

/// When a process began, in nanoseconds since boot.
#[inline(always)]
fn start_of(task: Address) -> u64 {
    read(task, global!(TASK_STRUCT_START_BOOTTIME)).unwrap_or(0)
}

/// Whether a program in this pid namespace, whose first process is `first`, has been reported.
#[inline(always)]
fn is_reported(namespace: Address, first: Address) -> bool {
    // SAFETY: the value is one integer.
    let known = unsafe { REPORTED.get(namespace) };
    known.is_some_and(|started| *started == start_of(first))
}

/// Reads a field at an offset that came from the kernel's BTF.
#[inline(always)]
fn read<T>(base: Address, offset: u32) -> Option<T> {
    // SAFETY: the helper checks the address and fails on one that cannot be read.
    unsafe { bpf_probe_read_kernel((base + offset as usize) as *const T) }.ok()
}

#[inline(always)]
fn current_task() -> Address {
    // SAFETY: a helper without arguments.
    (unsafe { bpf_get_current_task() }) as Address
}

/// Submits a mkdir record. The path goes straight into the ring, because a program's stack has no
/// room for it.
#[inline(always)]
fn tell_mkdir(cgroup_id: u64, path: Address) {
    let Some(mut entry) = EVENTS.reserve::<MkdirRecord>(0) else {
        lose(Lost::Mkdir);
        return;
    };
    let record = entry.as_mut_ptr();
    // SAFETY: `record` points to reserved memory of this size; every byte that is submitted is written here.
    unsafe {
        (&raw mut (*record).path).write_bytes(0, 1);
        let room = &mut (*record).path;
        let path_len =
            bpf_probe_read_kernel_str_bytes(path as *const u8, room).map_or(0, |read| read.len());
        let path_len = if path_len > PATH_BYTES {
            PATH_BYTES
        } else {
            path_len
        };
        let header = header(Kind::Mkdir, 0, cgroup_id, path_len as u32);
        (&raw mut (*record).header).write(header);
    }
    entry.submit(when());
}

/// How to submit the record of a cgroup: it wakes the reader only while a quarter of the ring is unread.
#[inline(always)]
fn when() -> u64 {
    let [unread, size] =
        [BPF_RB_AVAIL_DATA, BPF_RB_RING_SIZE].map(|what| EVENTS.query(what.into()));
    if unread > size / 4 { NOW } else { LATER }
}

/// Submits a record without a path; false when the ring is full.
#[inline(always)]
fn submit(record: Header, when: u64) -> bool {
    let Some(mut entry) = EVENTS.reserve::<Header>(0) else {
        return false;
    };
    entry.write(record);
    entry.submit(when);
    true
}

/// Keeps an exec record that does not fit into the full ring until user space looks; false if that
/// map is full, too.
#[inline(always)]
fn keep(record: Header) -> bool {
    // One thread can have two records: about itself, and about the first process of its namespace.
    let thread = bpf_get_current_pid_tgid() & u64::from(u32::MAX);
    let key = u64::from(record.pid) << 32 | thread;
    // A later process can have the pid of one whose record is still there.
    OVERFLOW.insert(key, record, u64::from(BPF_NOEXIST)).is_ok()
}

#[inline(always)]
fn header(kind: Kind, flags: u32, cgroup_id: u64, path_len: u32) -> Header {
    Header {
        kind: kind as u32,
        flags,
        cgroup_id,
        // SAFETY: a helper without arguments.
        time_ns: unsafe { bpf_ktime_get_boot_ns() },
        pid: (bpf_get_current_pid_tgid() >> 32) as u32,
        path_len,
        comm: bpf_get_current_comm().unwrap_or_default(),
        started_ns: 0,
    }
}

/// Counts what could not be reported, so that user space can say so and look for itself.
#[inline(always)]
fn lose(cause: Lost) {
    if let Some(counter) = LOST.get_ptr_mut(cause as u32) {
        // SAFETY: the counter belongs to this CPU.
        unsafe { *counter += 1 };
    }
}

#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    // SAFETY: the verifier refuses a program in which this could be reached.
    unsafe { core::hint::unreachable_unchecked() }
}

/// `bpf_probe_read_kernel` requires a licence that is compatible with the kernel's.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
