//! The cost of the programs, as the kernel counts it while `sysctl kernel.bpf_stats_enabled=1`.

use super::pins::Pins;
use aya::Ebpf;
use aya::programs::{ProgramInfo, RawTracePoint};
use std::time::Duration;

/// Suffix of a program's pin, beside the pin of its link; the BPF file system does not allow dots
/// in names.
const PROGRAM: &str = "-program";

/// Runs of one program since it was loaded, while statistics were on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cost {
    /// Its name, which is its tracepoint's.
    pub program: &'static str,
    /// How often it ran.
    pub runs: u64,
    /// Total time of its runs.
    pub time: Duration,
}

/// Name of a program's pin.
pub(super) fn pin_name(program: &str) -> String {
    format!("{program}{PROGRAM}")
}

/// Statistics of these programs, loaded by this agent or pinned by another. Programs for which the
/// kernel refuses the answer are left out: without `CAP_SYS_ADMIN` only the process that loaded or
/// pinned a program can read them.
pub(super) fn of(
    programs: impl Iterator<Item = &'static str>,
    loaded: Option<&Ebpf>,
    pins: Option<&Pins>,
) -> Vec<Cost> {
    let info = |name: &str| match (loaded, pins) {
        (Some(ebpf), _) => {
            let program: &RawTracePoint = ebpf.program(name)?.try_into().ok()?;
            program.info().ok()
        }
        (None, Some(pins)) => ProgramInfo::from_pin(pins.path(&pin_name(name))).ok(),
        (None, None) => None,
    };
    programs
        .filter_map(|program| {
            let info = info(program)?;
            Some(Cost {
                program,
                runs: info.run_count(),
                time: info.run_time(),
            })
        })
        .collect()
}
