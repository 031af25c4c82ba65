//! The design that the agent's benchmark compares the probes with: every exec of the machine is
//! sent to user space, which looks in /proc for a container.
//!
//! `every_exec OBJECT` reads until its standard input ends, and prints one line of JSON.

use anyhow::Context as _;
use aya::maps::RingBuf;
use aya::programs::RawTracePoint;
use aya::{Ebpf, EbpfLoader};
use imageswap_agent::container::classify;
use imageswap_ebpf::{Record, names};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::time::Timespec;
use serde_json::json;
use std::io::Read as _;
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Programs of the object: the measured one, and an empty one.
const PROGRAMS: [&str; 2] = ["every_exec", "nothing"];

/// Longest wait for the next exec before the end of the input is checked.
const PATIENCE: Timespec = Timespec {
    tv_sec: 1,
    tv_nsec: 0,
};

fn main() -> anyhow::Result<()> {
    let path = std::env::args().nth(1).context("no object file given")?;
    let object = std::fs::read(&path).context(path)?;
    let mut ebpf = EbpfLoader::new().btf(None).load(&object)?;
    for name in PROGRAMS {
        let program: &mut RawTracePoint = ebpf
            .program_mut(name)
            .with_context(|| format!("no program {name}"))?
            .try_into()?;
        program.load()?;
        program.attach(names::PROCESS_EXEC)?;
    }
    let events = ebpf.take_map(names::EVENTS).context("no ring buffer")?;
    let mut ring = RingBuf::try_from(events)?;
    let ended = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&ended);
    std::thread::spawn(move || {
        // An error means the end, too.
        drop(std::io::stdin().read_to_end(&mut Vec::new()));
        told.store(true, Ordering::Relaxed);
    });

    let (mut execs, mut containers) = (0_u64, 0_u64);
    while !ended.load(Ordering::Relaxed) {
        while let Some(item) = ring.next() {
            let Some(record) = Record::read(&item) else {
                continue;
            };
            execs += 1;
            containers += u64::from(is_container(record.header.pid));
        }
        poll(
            &mut [PollFd::new(&ring.as_fd(), PollFlags::IN)],
            Some(&PATIENCE),
        )?;
    }
    let cost = |name| -> anyhow::Result<_> { cost(&ebpf, name) };
    let [every, nothing] = PROGRAMS.map(cost);
    println!(
        "{}",
        json!({"execs": execs, "containers": containers, "every_exec": every?, "nothing": nothing?})
    );
    Ok(())
}

fn is_container(pid: u32) -> bool {
    let text = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    let path = text.lines().find_map(|line| line.strip_prefix("0::"));
    path.is_some_and(|path| classify(path).is_container_root == Some(true))
}

/// Nanoseconds per run, from the kernel's own statistics; 0 if they are off.
fn cost(ebpf: &Ebpf, name: &str) -> anyhow::Result<u128> {
    let program: &RawTracePoint = ebpf.program(name).context("no program")?.try_into()?;
    let info = program.info()?;
    let time = info.run_time().as_nanos();
    Ok(time.checked_div(info.run_count().into()).unwrap_or(0))
}
