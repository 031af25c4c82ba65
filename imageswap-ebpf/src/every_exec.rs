//! For the agent's benchmark: a program that sends every exec of the machine to user space, and an
//! empty one, which shows the cost of the kernel's own counting.
#![no_std]
#![no_main]
#![expect(
    unsafe_code,
    reason = "BPF helpers and maps shared with other CPUs are unsafe by nature"
)]
#![expect(
    missing_docs,
    unreachable_pub,
    reason = "the attribute macro repeats each program as a public function"
)]

use aya_ebpf::helpers::generated::bpf_ktime_get_boot_ns;
use aya_ebpf::helpers::{
    bpf_get_current_cgroup_id, bpf_get_current_comm, bpf_get_current_pid_tgid,
};
use aya_ebpf::macros::{map, raw_tracepoint};
use aya_ebpf::maps::RingBuf;
use aya_ebpf::programs::RawTracePointContext;
use imageswap_ebpf::{Header, Kind, RING_BYTES};

#[map]
static EVENTS: RingBuf = RingBuf::with_byte_size(RING_BYTES, 0);

#[raw_tracepoint(tracepoint = "sched_process_exec")]
pub fn every_exec(_ctx: RawTracePointContext) -> i32 {
    let Some(mut entry) = EVENTS.reserve::<Header>(0) else {
        return 0;
    };
    // SAFETY: helpers without arguments.
    let (cgroup_id, time_ns) = unsafe { (bpf_get_current_cgroup_id(), bpf_ktime_get_boot_ns()) };
    entry.write(Header {
        kind: Kind::Exec as u32,
        flags: 0,
        cgroup_id,
        time_ns,
        pid: (bpf_get_current_pid_tgid() >> 32) as u32,
        path_len: 0,
        comm: bpf_get_current_comm().unwrap_or_default(),
        started_ns: 0,
    });
    entry.submit(0);
    0
}

#[raw_tracepoint(tracepoint = "sched_process_exec")]
pub fn nothing(_ctx: RawTracePointContext) -> i32 {
    0
}

#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    // SAFETY: the verifier refuses a program in which this could be reached.
    unsafe { core::hint::unreachable_unchecked() }
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
