//! The node's name, boot id and clocks.

use crate::finding::Origin;
use crate::starts::Now;
use std::path::Path;
use std::{fs, io};

/// Reads the identity of this boot. `name` is the node's name, if the user gave one.
pub fn origin(proc: &Path, name: Option<String>) -> io::Result<Origin> {
    let read = |path: &str| fs::read_to_string(proc.join(path)).map(|text| text.trim().to_owned());
    Ok(Origin {
        node: name.map_or_else(|| read("sys/kernel/hostname"), Ok)?,
        boot_id: read("sys/kernel/random/boot_id")?,
    })
}

/// The current time on the wall clock and since boot.
pub fn now() -> Now {
    let boot = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let nanos = boot
        .tv_sec
        .saturating_mul(1_000_000_000)
        .saturating_add(boot.tv_nsec);
    Now {
        wall: std::time::SystemTime::now(),
        boot_ns: u64::try_from(nanos).unwrap_or_default(),
    }
}
