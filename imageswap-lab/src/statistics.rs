//! What the kernel counts of BPF programs.

use std::fs;

use crate::error::{Error, Result};

/// Where the switch is.
const SWITCH: &str = "/proc/sys/kernel/bpf_stats_enabled";

/// The kernel counts runs and time of BPF programs while this lives; dropping it puts back what was set before.
#[derive(Debug)]
pub struct BpfStatistics {
    before: String,
}

impl BpfStatistics {
    /// Turns them on.
    pub fn on() -> Result<Self> {
        let before = fs::read_to_string(SWITCH).map_err(Error::io(SWITCH))?;
        fs::write(SWITCH, "1").map_err(Error::io(SWITCH))?;
        Ok(Self { before })
    }
}

impl Drop for BpfStatistics {
    fn drop(&mut self) {
        if let Err(error) = fs::write(SWITCH, &self.before) {
            eprintln!("{SWITCH}: {error}");
        }
    }
}
