//! The node's name, boot id and clocks.

use imageswap_policy::Date;
use std::path::Path;
use std::time::{Duration, SystemTime};
use std::{fs, io};
use time::OffsetDateTime;

/// Fields that all findings of an agent share.
#[derive(Debug, Clone)]
pub struct Origin {
    /// The node's name.
    pub node: String,
    /// `/proc/sys/kernel/random/boot_id`.
    pub boot_id: String,
}

/// The time of an observation, on both clocks.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    /// Wall clock, for people.
    pub wall: SystemTime,
    /// Nanoseconds since boot, for latencies: the wall clock may step.
    pub boot_ns: u64,
}

impl Now {
    /// The day by which exceptions of a policy end, in UTC.
    pub fn today(self) -> Date {
        OffsetDateTime::from(self.wall).date()
    }
}

/// A length of time, as clocks since boot count it.
pub fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// Reads the identity of this boot. `name` is the node's name, if the user gave one.
pub fn origin(proc: &Path, name: Option<String>) -> io::Result<Origin> {
    let read = |path: &str| fs::read_to_string(proc.join(path)).map(|text| text.trim().to_owned());
    Ok(Origin {
        // The kubelet names a node by its host's name in lower case.
        node: match name {
            Some(name) => name,
            None => read("sys/kernel/hostname")?.to_lowercase(),
        },
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
        wall: SystemTime::now(),
        boot_ns: u64::try_from(nanos).unwrap_or_default(),
    }
}
