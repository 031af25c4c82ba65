//! The probes in the kernel: loaded, attached, read. The only module that knows how.
//!
//! Raw tracepoints need `CAP_BPF` and `CAP_PERFMON`, no tracefs and no mount.

use crate::offsets::Offsets;
use aya::maps::{HashMap, Map, MapData, PerCpuArray, RingBuf};
use aya::programs::{ProgramError, RawTracePoint};
use aya::{Ebpf, EbpfError, EbpfLoader};
use imageswap_ebpf::{FLAG_NEW_PID_NAMESPACE, Kind, Lost, Record, names};
use std::io;
use std::os::fd::AsRawFd;
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;

/// Operation not permitted, errno(3).
const EPERM: i32 = 1;

/// The object file that `cargo xtask build` made; empty in a build without it.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/probes.o"));

/// Why the probes could not be put into the kernel.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// The binary was built without the object file.
    #[error("this agent was built without its probes; build it with `cargo xtask build`")]
    NotBuilt,
    /// The kernel refused for want of privilege.
    #[error("no privilege to load the probes: run as root, or grant CAP_BPF and CAP_PERFMON")]
    Denied,
    /// Anything else that the loader said.
    #[error("cannot load the probes: {0}")]
    Load(String),
    /// The ring buffer cannot be waited on.
    #[error("cannot wait for the probes' events: {0}")]
    Wait(String),
}

/// What the kernel saw, copied out of the ring buffer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KernelEvent {
    /// A cgroup was made.
    Mkdir {
        /// Inode number of its directory.
        cgroup_id: u64,
        /// Path in its hierarchy; `None` where it was too long for a record.
        path: Option<String>,
        /// Nanoseconds since boot.
        time_ns: u64,
    },
    /// A program began in a pending cgroup, in another mount namespace than its parent.
    Exec {
        /// Inode number of the cgroup's directory.
        cgroup_id: u64,
        /// Process id in the initial pid namespace.
        pid: u32,
        /// Name of the task.
        comm: String,
        /// Whether its pid namespace differs from its parent's too.
        new_pid_namespace: bool,
        /// Nanoseconds since boot.
        time_ns: u64,
    },
    /// A cgroup was removed.
    Rmdir {
        /// Inode number of its directory.
        cgroup_id: u64,
    },
}

/// The probes in the kernel. They leave it when this is dropped.
pub struct Probes {
    attached: Ebpf,
    events: AsyncFd<RingBuf<MapData>>,
    control: Control,
}

/// What user space tells the probes and asks of them.
pub struct Control {
    pending: HashMap<MapData, u64, [u32; 2]>,
    lost: PerCpuArray<MapData, u64>,
}

impl Probes {
    /// Loads and attaches the probes for one cgroup hierarchy (0 is cgroup v2). `confirm` attaches the one that
    /// sees execs, which tells nothing where the hierarchy is not v2: there every task's v2 cgroup is the root.
    ///
    /// Must run inside a tokio runtime.
    pub fn load(offsets: &Offsets, hierarchy: u32, confirm: bool) -> Result<Self, ProbeError> {
        if OBJECT.is_empty() {
            return Err(ProbeError::NotBuilt);
        }
        let mut loader = EbpfLoader::new();
        // No relocation needs the kernel's BTF, and parsed it would be most of the agent's memory.
        loader
            .btf(None)
            .override_global("HIERARCHY", &hierarchy, true);
        for (global, offset) in offsets.iter() {
            loader.override_global(global, offset, true);
        }
        let mut ebpf = loader.load(OBJECT).map_err(ProbeError::of_loader)?;
        #[cfg(debug_assertions)]
        kernel_log(&mut ebpf);
        attach(&mut ebpf, names::CGROUP_MKDIR)?;
        attach(&mut ebpf, names::CGROUP_RMDIR)?;
        if confirm {
            attach(&mut ebpf, names::PROCESS_EXEC)?;
        }
        let events = RingBuf::try_from(take(&mut ebpf, names::EVENTS)?).map_err(ProbeError::of)?;
        let pending =
            HashMap::try_from(take(&mut ebpf, names::PENDING)?).map_err(ProbeError::of)?;
        let lost = PerCpuArray::try_from(take(&mut ebpf, names::LOST)?).map_err(ProbeError::of)?;
        Ok(Self {
            attached: ebpf,
            events: readable(events)?,
            control: Control { pending, lost },
        })
    }

    /// Splits off what the table of starts needs, and sends every event to `events` until its receiver is gone.
    /// The probes stay attached as long as the future lives.
    pub fn run(
        self,
        events: mpsc::Sender<KernelEvent>,
    ) -> (Control, impl Future<Output = io::Result<()>> + Send) {
        let Self {
            attached,
            events: mut ring,
            control,
        } = self;
        let pump = async move {
            // Dropping it would detach the programs.
            let _kept = attached;
            loop {
                let mut ready = ring.readable_mut().await?;
                while let Some(item) = ready.get_inner_mut().next() {
                    let event = Record::read(&item).map(KernelEvent::from);
                    drop(item);
                    let Some(event) = event else {
                        tracing::error!("a record of the probes has an unknown shape");
                        continue;
                    };
                    if events.send(event).await.is_err() {
                        return Ok(());
                    }
                }
                ready.clear_ready();
            }
        };
        (control, pump)
    }
}

impl Control {
    /// Marks a cgroup as pending, as if the probes had seen it made.
    pub fn watch(&mut self, cgroup_id: u64) {
        if let Err(error) = self.pending.insert(cgroup_id, [0, 0], 0) {
            tracing::warn!(cgroup_id, %error, "cannot mark a cgroup as pending");
        }
    }

    /// No longer reports execs of a cgroup that can be no container's.
    pub fn forget(&mut self, cgroup_id: u64) {
        // Not there is as good as removed: the kernel may have been first.
        drop(self.pending.remove(&cgroup_id));
    }

    /// How often something could not be told since the probes were loaded, by cause.
    pub fn lost(&self) -> [(Lost, u64); Lost::ALL.len()] {
        Lost::ALL.map(|cause| {
            let cpus = self.lost.get(&(cause as u32), 0);
            (cause, cpus.map_or(0, |cpus| cpus.iter().sum()))
        })
    }
}

impl From<Record<'_>> for KernelEvent {
    fn from(record: Record<'_>) -> Self {
        let header = record.header;
        match record.kind {
            Kind::Mkdir => Self::Mkdir {
                cgroup_id: header.cgroup_id,
                path: (!record.is_truncated())
                    .then(|| String::from_utf8_lossy(record.path).into_owned()),
                time_ns: header.time_ns,
            },
            Kind::Exec => Self::Exec {
                cgroup_id: header.cgroup_id,
                pid: header.pid,
                comm: String::from_utf8_lossy(record.comm()).into_owned(),
                new_pid_namespace: header.flags & FLAG_NEW_PID_NAMESPACE != 0,
                time_ns: header.time_ns,
            },
            Kind::Rmdir => Self::Rmdir {
                cgroup_id: header.cgroup_id,
            },
        }
    }
}

impl ProbeError {
    fn of(error: impl std::error::Error) -> Self {
        Self::Load(chain(&error))
    }

    fn of_loader(error: EbpfError) -> Self {
        if denied(&error) {
            Self::Denied
        } else {
            Self::of(error)
        }
    }
}

fn attach(ebpf: &mut Ebpf, name: &'static str) -> Result<(), ProbeError> {
    let program = ebpf
        .program_mut(name)
        .ok_or_else(|| ProbeError::Load(format!("no program {name}")))?;
    let program: &mut RawTracePoint = program.try_into().map_err(ProbeError::of)?;
    let attached = program.load().and_then(|()| program.attach(name));
    attached.map(drop).map_err(|error: ProgramError| {
        if denied(&error) {
            ProbeError::Denied
        } else {
            ProbeError::Load(format!("{name}: {}", chain(&error)))
        }
    })
}

fn take(ebpf: &mut Ebpf, name: &'static str) -> Result<Map, ProbeError> {
    ebpf.take_map(name)
        .ok_or_else(|| ProbeError::Load(format!("no map {name}")))
}

/// Registers a ring buffer with the reactor.
#[expect(
    unsafe_code,
    reason = "the reactor must be told by promise that the descriptor outlives the registration"
)]
fn readable<T: AsRawFd>(ring: T) -> Result<AsyncFd<T>, ProbeError> {
    // SAFETY: both kinds of ring own their descriptor, return the same one always, and are owned by the `AsyncFd`.
    unsafe { AsyncFd::register(ring) }.map_err(|error| ProbeError::Wait(error.to_string()))
}

/// Whether the system said `EPERM` somewhere in the chain of causes; `EACCES` is how the verifier refuses a program.
fn denied(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if error
            .downcast_ref::<io::Error>()
            .is_some_and(|io| io.raw_os_error() == Some(EPERM))
        {
            return true;
        }
        cause = error.source();
    }
    false
}

/// The error with its causes in one line. What the verifier printed, hundreds of lines, goes to the debug log.
fn chain(error: &dyn std::error::Error) -> String {
    let text = causes(error);
    let mut lines = text.lines();
    let first = lines.next().unwrap_or_default().to_owned();
    if lines.next().is_some() {
        tracing::debug!("{text}");
    }
    first
}

fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.ends_with(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}

/// Passes on what debug builds of the probes log.
#[cfg(debug_assertions)]
fn kernel_log(ebpf: &mut Ebpf) {
    let logger = aya_log::EbpfLogger::init(ebpf)
        .map_err(|error| chain(&error))
        .and_then(|logger| readable(logger).map_err(|error| error.to_string()));
    match logger {
        Ok(mut logger) => {
            tokio::spawn(async move {
                while let Ok(mut ready) = logger.readable_mut().await {
                    ready.get_inner_mut().flush();
                    ready.clear_ready();
                }
            });
        }
        Err(error) => tracing::warn!(error, "no log from inside the kernel"),
    }
}
