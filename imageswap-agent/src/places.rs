//! Arguments that say where things are on the node, of `run` and of `doctor`.

use std::path::PathBuf;

/// Places on the node.
#[derive(Debug, clap::Args)]
#[group(skip)]
pub struct NodeArgs {
    /// Socket of a containerd; repeatable [default: those found]
    #[arg(long, value_name = "SOCK")]
    pub containerd: Vec<PathBuf>,
    /// Socket of a CRI runtime; repeatable [default: those found]
    #[arg(long, value_name = "SOCK")]
    pub cri: Vec<PathBuf>,
    /// Mount point of the node's root file system
    #[arg(long, value_name = "DIR", default_value = "/")]
    pub host_root: PathBuf,
    /// Folder of a BPF file system that keeps the probes while no agent runs, so that the next one
    /// misses nothing; off disables it
    #[arg(
        long,
        value_name = "DIR",
        default_value = "/sys/fs/bpf/imageswap",
        overrides_with = "pin"
    )]
    pub pin: PathBuf,
}
