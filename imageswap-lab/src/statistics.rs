//! The kernel's statistics of BPF programs.

use std::fs;

use crate::error::{Error, Result};

/// The file with the switch.
const SWITCH: &str = "/proc/sys/kernel/bpf_stats_enabled";

/// While this value lives, the kernel counts runs and time of BPF programs; dropping it restores
/// the setting.
#[derive(Debug)]
pub struct BpfStatistics {
    before: String,
}

impl BpfStatistics {
    /// Turns the statistics on.
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
