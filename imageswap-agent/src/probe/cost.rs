//! What the programs cost, as the kernel counts it while its statistics are on (`sysctl kernel.bpf_stats_enabled=1`).

use super::pins::Pins;
use aya::Ebpf;
use aya::programs::{ProgramInfo, RawTracePoint};
use std::time::Duration;

/// Suffix of a program's pin, beside the one of its link; the BPF file system refuses dots in names.
const PROGRAM: &str = "-program";

/// Runs of one program since it was loaded, as far as the statistics were on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cost {
    /// Its name, which is its tracepoint's.
    pub program: &'static str,
    /// How often it ran.
    pub runs: u64,
    /// All its runs together.
    pub time: Duration,
}

/// Name of a program's pin.
pub(super) fn pin_name(program: &str) -> String {
    format!("{program}{PROGRAM}")
}

/// What is known of these programs, loaded by this agent or pinned by another. What the kernel does not tell is left
/// out: without `CAP_SYS_ADMIN` a program is known only to who loaded or pinned it.
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
