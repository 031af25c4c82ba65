//! Offsets of the kernel fields that the probes read.

use crate::btf::{Btf, BtfError};
use std::path::Path;

/// Offsets and sizes in bytes, and which helpers there are, by the name of the global that the probes
/// read them from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offsets(Vec<(&'static str, u32)>);

/// Global of the object file, structure, field. The probes declare the same globals.
const FIELDS: [(&str, &str, &str); 18] = [
    ("CGROUP_KN", "cgroup", "kn"),
    ("CGROUP_ROOT", "cgroup", "root"),
    ("CGROUP_ROOT_HIERARCHY_ID", "cgroup_root", "hierarchy_id"),
    ("KERNFS_NODE_ID", "kernfs_node", "id"),
    ("MNT_NAMESPACE_NS", "mnt_namespace", "ns"),
    ("NSPROXY_MNT_NS", "nsproxy", "mnt_ns"),
    ("NS_COMMON_INUM", "ns_common", "inum"),
    (
        "PID_NAMESPACE_CHILD_REAPER",
        "pid_namespace",
        "child_reaper",
    ),
    ("PID_LEVEL", "pid", "level"),
    ("PID_NUMBERS", "pid", "numbers"),
    ("TASK_STRUCT_COMM", "task_struct", "comm"),
    ("TASK_STRUCT_GROUP_LEADER", "task_struct", "group_leader"),
    ("TASK_STRUCT_NSPROXY", "task_struct", "nsproxy"),
    ("TASK_STRUCT_REAL_PARENT", "task_struct", "real_parent"),
    (
        "TASK_STRUCT_START_BOOTTIME",
        "task_struct",
        "start_boottime",
    ),
    ("TASK_STRUCT_TGID", "task_struct", "tgid"),
    ("TASK_STRUCT_THREAD_PID", "task_struct", "thread_pid"),
    ("UPID_NS", "upid", "ns"),
];

/// Global of the object file, helper of the kernel: 1 if it has it.
const HELPERS: [(&str, &str); 1] = [("HAS_CURRENT_TASK_BTF", "BPF_FUNC_get_current_task_btf")];

/// Global of the object file, structure: sizes of the elements of arrays.
const SIZES: [(&str, &str); 1] = [("UPID_SIZE", "upid")];

impl Offsets {
    /// Resolves all offsets from the BTF file of the running kernel.
    pub fn of_kernel(btf: &Path) -> Result<Self, BtfError> {
        let btf = Btf::read(btf)?;
        let fields = FIELDS
            .iter()
            .map(|&(global, structure, field)| Ok((global, btf.offset(structure, field)?)));
        let sizes = SIZES
            .iter()
            .map(|&(global, structure)| Ok((global, btf.size(structure)?)));
        let helpers = HELPERS
            .iter()
            .map(|&(global, helper)| Ok((global, u32::from(btf.has_value(helper)?))));
        let all = fields.chain(sizes).chain(helpers);
        all.collect::<Result<_, _>>().map(Self)
    }

    /// Pairs of global and offset.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &u32)> {
        self.0.iter().map(|(global, offset)| (*global, offset))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_running_kernel_has_every_field() {
        let path = Path::new("/sys/kernel/btf/vmlinux");
        if !path.exists() {
            imageswap_lab::skip(
                "the_running_kernel_has_every_field",
                "no /sys/kernel/btf/vmlinux",
            );
            return;
        }
        let offsets = Offsets::of_kernel(path).unwrap();
        assert_eq!(
            offsets.iter().count(),
            FIELDS.len() + SIZES.len() + HELPERS.len()
        );
    }

    #[test]
    #[ignore = "needs the BTF of another kernel, which `cargo xtask matrix` extracts"]
    fn another_kernel_has_every_field() {
        let path = std::env::var_os("IMAGESWAP_BTF").unwrap();
        let offsets = Offsets::of_kernel(Path::new(&path)).unwrap();
        assert_eq!(
            offsets.iter().count(),
            FIELDS.len() + SIZES.len() + HELPERS.len()
        );
    }
}
