//! The kernel and what it lets us do.

use super::Check;
use crate::hierarchy::{Hierarchy, Mode};
use crate::offsets::Offsets;
use crate::places::NodeArgs;
use crate::probe::{Options, Probes, can_pin};
use std::fs;
use std::path::{Path, PathBuf};

const BTF: &str = "/sys/kernel/btf/vmlinux";

/// The first kernel with BPF ring buffers, and the first whose BPF maps do not count against `RLIMIT_MEMLOCK`.
const RING_BUFFERS: (u32, u32) = (5, 8);
const NO_MEMLOCK: (u32, u32) = (5, 11);

/// Bits of a capability set (linux/capability.h), and their purpose.
const CAPABILITIES: [(&str, u32, &str); 2] = [
    ("CAP_BPF", 39, "loading the probes"),
    ("CAP_PERFMON", 38, "attaching them"),
];
/// Older systems have one capability for everything.
const CAP_SYS_ADMIN: u32 = 21;
const CAP_SYS_PTRACE: u32 = 19;

/// The facts about a node.
#[derive(Debug, Clone)]
pub(super) struct Facts {
    pub(super) kernel: String,
    /// Effective capabilities.
    pub(super) capabilities: u64,
    pub(super) host_root: PathBuf,
}

impl Facts {
    pub(super) fn of_this_node(host_root: &Path) -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let status = read("/proc/self/status");
        let capabilities = status
            .lines()
            .find_map(|line| line.strip_prefix("CapEff:"))
            .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok());
        Self {
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            capabilities: capabilities.unwrap_or_default(),
            host_root: host_root.to_owned(),
        }
    }

    fn can(&self, bit: u32) -> bool {
        self.capabilities & (1 << bit) != 0
    }

    /// Major and minor version of the kernel.
    fn version(&self) -> Option<(u32, u32)> {
        let mut parts = self.kernel.split(['.', '-', '+']);
        Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
    }
}

/// In the order in which an administrator would fix them.
pub(super) fn checks(facts: &Facts, args: &NodeArgs) -> Vec<Check> {
    let hierarchy = Hierarchy::detect(&facts.host_root);
    let offsets = Offsets::of_kernel(Path::new(BTF));
    let mut checks = vec![kernel(facts)];
    checks.push(match &offsets {
        Ok(offsets) => Check::ok("btf", format!("{} fields found", offsets.iter().count())),
        Err(error) => Check::missing("btf", error.to_string()),
    });
    checks.push(match &hierarchy {
        Ok(hierarchy) => cgroups(hierarchy.mode),
        Err(error) => Check::missing("cgroups", error.to_string()),
    });
    checks.extend(privileges(facts));
    if let (Ok(offsets), Ok(hierarchy)) = (&offsets, &hierarchy) {
        checks.push(probes(offsets, hierarchy));
    }
    checks.push(match can_pin(&args.pin) {
        Ok(()) => Check::ok("pinning", args.pin.display().to_string()),
        Err(why) => {
            let cost = "what starts while no agent runs is not seen";
            Check::lacking("pinning", why, cost)
        }
    });
    checks
}

fn kernel(facts: &Facts) -> Check {
    let found = facts.kernel.clone();
    match facts.version() {
        Some(version) if version < RING_BUFFERS => {
            Check::missing("kernel", format!("{found}, before 5.8"))
        }
        Some(version) if version < NO_MEMLOCK => {
            let cost = "maps count against RLIMIT_MEMLOCK: raise it, or grant CAP_SYS_RESOURCE";
            Check::lacking("kernel", format!("{found}, before 5.11"), cost)
        }
        Some(_) | None => Check::ok("kernel", found),
    }
}

fn cgroups(mode: Mode) -> Check {
    match mode {
        Mode::V2 | Mode::Hybrid => Check::ok("cgroups", mode.as_str()),
        Mode::V1 => {
            let cost = "starts are confirmed by containerd or a walk, and short ones without it are missed";
            Check::lacking("cgroups", mode.as_str(), cost)
        }
    }
}

fn privileges(facts: &Facts) -> Vec<Check> {
    let mut checks = Vec::new();
    for (name, bit, what) in CAPABILITIES {
        checks.push(if facts.can(bit) || facts.can(CAP_SYS_ADMIN) {
            Check::ok("privileges", format!("{name}, for {what}"))
        } else {
            Check::missing("privileges", format!("no {name}, which is for {what}"))
        });
    }
    if !facts.can(CAP_SYS_PTRACE) {
        let cost =
            "containers from before the agent that are not containerd's are reported after 10 s";
        checks.push(Check::lacking("privileges", "no CAP_SYS_PTRACE", cost));
    }
    checks
}

/// Loads the probes for a moment.
fn probes(offsets: &Offsets, hierarchy: &Hierarchy) -> Check {
    let options = Options {
        hierarchy: hierarchy.id,
        confirm: hierarchy.sees_execs(),
        ring_bytes: None,
        pin: None,
    };
    match Probes::load(offsets, &options) {
        Ok(_attached_for_a_moment) => Check::ok("probes", "loaded and attached"),
        Err(error) => Check::missing("probes", error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Status;
    use super::*;

    fn facts(kernel: &str, capabilities: u64) -> Facts {
        Facts {
            kernel: kernel.to_owned(),
            capabilities,
            host_root: "/".into(),
        }
    }

    #[test]
    fn kernels_are_told_by_what_they_can() {
        for (release, expected) in [
            ("5.4.0-1-amd64", Status::Missing),
            ("5.10.0-32-amd64", Status::Lacking),
            ("5.15.0+", Status::Ok),
            ("6.1.0-26-amd64", Status::Ok),
            ("of the future", Status::Ok),
        ] {
            assert_eq!(kernel(&facts(release, 0)).status, expected, "{release}");
        }
    }

    #[test]
    fn two_capabilities_are_enough() {
        let statuses = |capabilities| -> Vec<_> {
            let checks = privileges(&facts("6.1.0", capabilities));
            checks.iter().map(|check| check.status).collect()
        };
        assert_eq!(
            statuses(1 << 39 | 1 << 38),
            [Status::Ok, Status::Ok, Status::Lacking]
        );
        assert_eq!(statuses(1 << 39 | 1 << 19), [Status::Ok, Status::Missing]);
        assert_eq!(statuses(u64::MAX), [Status::Ok, Status::Ok]);
        assert_eq!(statuses(1 << 21), [Status::Ok, Status::Ok, Status::Lacking]);
    }
}
