//! Loads, attaches and reads the probes in the kernel. No other module does.
//!
//! Raw tracepoints need `CAP_BPF` and `CAP_PERFMON`, no tracefs and no mount.

use crate::cgroup_path;
use crate::offsets::Offsets;
use aya::maps::{Array, HashMap, Map, MapData, PerCpuArray, RingBuf};
use aya::programs::links::FdLink;
use aya::programs::{ProgramError, RawTracePoint};
use aya::{Ebpf, EbpfError, EbpfLoader};
pub use cost::Cost;
use imageswap_ebpf::{
    FLAG_BY_ANOTHER, FLAG_FIRST_OF_PID_NAMESPACE, FLAG_NEW_PID_NAMESPACE, Header, Kind, Lost,
    Record, names,
};
use pins::Pins;
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::io::unix::AsyncFd;
use tokio::sync::{mpsc, oneshot};
use tokio::time::sleep;

mod cost;
mod pins;

/// How long until a look at records that wake nobody. A quarter of the ring wakes the reader.
const LOOK: Duration = Duration::from_millis(500);

/// Requests to read that may wait.
const ASKS_WAITING: usize = 16;

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
    /// The kernel refused because privileges are missing.
    #[error("no privilege to load the probes: run as root, or grant CAP_BPF and CAP_PERFMON")]
    Denied,
    /// Any other error of the loader.
    #[error("cannot load the probes: {0}")]
    Load(String),
    /// The ring buffer cannot be waited on.
    #[error("cannot wait for the probes' events: {0}")]
    Wait(String),
}

/// An event of the kernel, copied out of the ring buffer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KernelEvent {
    /// A cgroup was made.
    Mkdir {
        /// Inode number of its directory.
        cgroup_id: u64,
        /// Path in its hierarchy; `None` if it was too long for a record.
        path: Option<String>,
        /// Nanoseconds since boot.
        time_ns: u64,
    },
    /// A program began in a pending cgroup, in another mount namespace than its parent; or as the
    /// first process of a pid namespace, in any cgroup; or as the first program of such a namespace.
    Exec {
        /// Inode number of the cgroup's directory.
        cgroup_id: u64,
        /// Process id in the initial pid namespace.
        pid: u32,
        /// Name of the task.
        comm: String,
        /// Whether its pid namespace differs from its parent's too.
        new_pid_namespace: bool,
        /// Whether it is the first process of a pid namespace.
        first_of_pid_namespace: bool,
        /// Whether another process of the pid namespace ran the program; all else is about the first
        /// process.
        by_another: bool,
        /// Nanoseconds since boot.
        time_ns: u64,
        /// Start time of the process, in nanoseconds since boot.
        started_ns: u64,
    },
    /// A cgroup was removed.
    Rmdir {
        /// Inode number of its directory.
        cgroup_id: u64,
    },
}

/// How to load the probes.
#[derive(Debug, Clone)]
pub struct Options {
    /// The cgroup hierarchy to watch; 0 is cgroup v2.
    pub hierarchy: u32,
    /// Whether to attach the probe for execs. It is useless if the hierarchy is not v2, because
    /// every task's v2 cgroup is then the root.
    pub confirm: bool,
    /// Bytes of the ring buffer, a power of two and whole pages; `None` for [`imageswap_ebpf::RING_BYTES`].
    pub ring_bytes: Option<u32>,
    /// Folder of a BPF file system to keep the probes in while no agent runs.
    pub pin: Option<PathBuf>,
}

/// The probes in the kernel. Dropping this removes them, unless they are pinned.
pub struct Probes {
    events: AsyncFd<RingBuf<MapData>>,
    control: Control,
}

/// User space's access to the probes' maps; the probes stay attached as long as it lives.
pub struct Control {
    pending: HashMap<MapData, u64, [u32; 2]>,
    overflow: HashMap<MapData, u64, [u8; size_of::<Header>()]>,
    seen: HashMap<MapData, u32, [u8; size_of::<Header>()]>,
    lost: PerCpuArray<MapData, u64>,
    lost_reported: Array<MapData, u64>,
    kept: Kept,
}

/// Numbers of lost records by cause.
pub type Losses = [(Lost, u64); Lost::ALL.len()];

/// Wakes the reader of events, because only execs do so by themselves.
#[derive(Debug, Clone)]
pub struct Reader(mpsc::Sender<oneshot::Sender<()>>);

/// Keeps the programs attached, and unavailable to another agent.
struct Kept {
    programs: Vec<&'static str>,
    /// `None` if another agent left them.
    attached: Option<Ebpf>,
    pins: Option<Pins>,
}

impl Probes {
    /// Loads and attaches the probes, or reuses those that an agent of this version has pinned.
    ///
    /// Must run inside a tokio runtime.
    pub fn load(offsets: &Offsets, options: &Options) -> Result<Self, ProbeError> {
        if OBJECT.is_empty() {
            return Err(ProbeError::NotBuilt);
        }
        let pins = options.pin.as_ref().and_then(|root| {
            let globals: Vec<_> = offsets.iter().map(|(name, at)| (name, *at)).collect();
            let probes = (OBJECT, globals, options.hierarchy, options.ring_bytes);
            let pins = Pins::take(root, probes);
            pins.inspect_err(|error| {
                tracing::info!("what starts while no agent runs will not be seen: {error}");
            })
            .ok()
        });
        let programs = programs(options.confirm);
        let names = || programs.iter().map(|program| (*program).to_owned());
        let pinned = names()
            .chain(programs.iter().map(|name| cost::pin_name(name)))
            .chain(MAPS.map(str::to_owned));
        match pins {
            Some(pins) if pins.hold(pinned) => match from_pins(&pins) {
                Ok(maps) => {
                    let kept = Kept {
                        programs,
                        attached: None,
                        pins: Some(pins),
                    };
                    Self::open(maps, kept)
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot go on with pinned probes; loading them anew");
                    Self::load_anew(offsets, options, programs, Some(pins))
                }
            },
            pins => Self::load_anew(offsets, options, programs, pins),
        }
    }

    /// Whether the probes existed already, with records since the last agent.
    pub fn resumed(&self) -> bool {
        self.control.kept.attached.is_none()
    }

    /// Whether the probes stay when this agent ends.
    pub fn pinned(&self) -> bool {
        self.control.kept.pins.is_some()
    }

    /// Records that nobody has read yet.
    pub fn backlog(&mut self) -> Vec<KernelEvent> {
        let ring = self.events.get_mut();
        let mut events = Vec::new();
        while let Some(item) = ring.next() {
            events.extend(Record::read(&item).map(KernelEvent::from));
        }
        events
    }

    fn load_anew(
        offsets: &Offsets,
        options: &Options,
        programs: Vec<&'static str>,
        pins: Option<Pins>,
    ) -> Result<Self, ProbeError> {
        let mut loader = EbpfLoader::new();
        // No relocation needs the kernel's BTF, and parsing it would take most of the agent's
        // memory.
        loader
            .btf(None)
            .override_global("HIERARCHY", &options.hierarchy, true);
        for (global, offset) in offsets.iter() {
            loader.override_global(global, offset, true);
        }
        if let Some(bytes) = options.ring_bytes {
            loader.map_max_entries(names::EVENTS, bytes);
        }
        let mut ebpf = loader.load(OBJECT).map_err(ProbeError::of_loader)?;
        #[cfg(debug_assertions)]
        kernel_log(&mut ebpf);
        let pins = pins.filter(|pins| {
            let made = pins.make().map_err(|error| error.to_string());
            let pinned = made.and_then(|()| pin_maps(&ebpf, pins));
            pinned
                .inspect_err(|error| tracing::warn!(error, "cannot pin the probes"))
                .is_ok()
        });
        // Maps before links: pinned links alone would fill a ring that nothing can read.
        for name in &programs {
            attach(&mut ebpf, name, pins.as_ref())?;
        }
        if let Some(pins) = &pins {
            pins.clear_others();
        }
        let maps = MAPS.map(|name| take(&mut ebpf, name));
        let [events, pending, overflow, seen, lost, reported] = maps;
        let kept = Kept {
            programs,
            attached: Some(ebpf),
            pins,
        };
        let maps = [events?, pending?, overflow?, seen?, lost?, reported?];
        Self::open(maps, kept)
    }

    fn open(maps: [Map; MAPS.len()], kept: Kept) -> Result<Self, ProbeError> {
        let [events, pending, overflow, seen, lost, reported] = maps;
        let events = RingBuf::try_from(events).map_err(ProbeError::of)?;
        let pending = HashMap::try_from(pending).map_err(ProbeError::of)?;
        let overflow = HashMap::try_from(overflow).map_err(ProbeError::of)?;
        let seen = HashMap::try_from(seen).map_err(ProbeError::of)?;
        let lost = PerCpuArray::try_from(lost).map_err(ProbeError::of)?;
        let lost_reported = Array::try_from(reported).map_err(ProbeError::of)?;
        Ok(Self {
            events: readable(events)?,
            control: Control {
                pending,
                overflow,
                seen,
                lost,
                lost_reported,
                kept,
            },
        })
    }

    /// Returns what the table of starts needs and what wakes the reader, and sends every event to
    /// `events` until its receiver is gone.
    pub fn run(
        self,
        events: mpsc::Sender<KernelEvent>,
    ) -> (Control, Reader, impl Future<Output = io::Result<()>> + Send) {
        let Self {
            events: mut ring,
            control,
        } = self;
        let (asks, mut asked) = mpsc::channel::<oneshot::Sender<()>>(ASKS_WAITING);
        let pump = async move {
            loop {
                let asked = tokio::select! {
                    // Marked as read before it is read, so that later records make it ready again.
                    ready = ring.readable_mut() => {
                        ready?.clear_ready();
                        None
                    }
                    Some(done) = asked.recv() => Some(done),
                    () = sleep(LOOK) => None,
                };
                while let Some(item) = ring.get_mut().next() {
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
                if let Some(done) = asked {
                    // A caller that only wanted a wake-up does not wait.
                    let _waits = done.send(());
                }
            }
        };
        (control, Reader(asks), pump)
    }
}

impl Reader {
    /// Wakes the reader without waiting for it.
    pub fn nudge(&self) {
        // If others wait already, it is about to read.
        drop(self.0.try_send(oneshot::channel().0));
    }

    /// Returns when all earlier records of the kernel have been sent to the receiver of events,
    /// which has to be read meanwhile.
    pub async fn catch_up(&self) {
        let (done, caught_up) = oneshot::channel();
        if self.0.send(done).await.is_ok() {
            // The sender is dropped only when the agent ends.
            drop(caught_up.await);
        }
    }
}

impl Control {
    /// Marks a cgroup as pending, as if the probes had seen its mkdir. If it is already, its programs
    /// are counted anew.
    pub fn watch(&mut self, cgroup_id: u64) {
        let [maker, _reports] = self.pending.get(&cgroup_id, 0).unwrap_or_default();
        if let Err(error) = self.pending.insert(cgroup_id, [maker, 0], 0) {
            tracing::warn!(cgroup_id, %error, "cannot mark a cgroup as pending");
        }
    }

    /// Stops reporting execs of a cgroup that cannot be a container's.
    pub fn forget(&mut self, cgroup_id: u64) {
        // A missing entry is fine: the kernel may have removed it first.
        drop(self.pending.remove(&cgroup_id));
    }

    /// Takes the execs that did not fit into the ring buffer, oldest first.
    pub fn overflow(&mut self) -> Vec<KernelEvent> {
        let keys: Vec<_> = self.overflow.keys().filter_map(Result::ok).collect();
        let kept = keys.iter().filter_map(|key| self.overflow.get(key, 0).ok());
        let mut headers: Vec<_> = kept.collect();
        for key in &keys {
            // No other process removes entries.
            drop(self.overflow.remove(key));
        }
        headers.sort_by_key(|bytes| Record::read(bytes).map(|record| record.header.time_ns));
        let records = headers.iter().filter_map(|bytes| Record::read(bytes));
        records.map(KernelEvent::from).collect()
    }

    /// Takes an exec of this process that the probes saw and did not report, if it is among the latest.
    pub fn seen(&mut self, pid: u32) -> Option<KernelEvent> {
        let header = self.seen.get(&pid, 0).ok()?;
        // The kernel may have removed it first.
        drop(self.seen.remove(&pid));
        Record::read(&header).map(KernelEvent::from)
    }

    /// The cost of the programs, if the kernel counts it.
    pub fn costs(&self) -> Vec<Cost> {
        let Kept {
            programs,
            attached,
            pins,
        } = &self.kept;
        cost::of(programs.iter().copied(), attached.as_ref(), pins.as_ref())
    }

    /// Number of lost records that no agent has reported, by cause.
    pub fn lost(&self) -> Losses {
        Lost::ALL.map(|cause| {
            let index = cause as u32;
            let cpus = self.lost.get(&index, 0);
            let total: u64 = cpus.map_or(0, |cpus| cpus.iter().sum());
            let reported = self.lost_reported.get(&index, 0).unwrap_or(0);
            (cause, total.saturating_sub(reported))
        })
    }

    /// Notes that `losses` were reported, for this agent and the next one.
    pub fn lost_reported(&mut self, losses: &Losses) {
        for (cause, events) in losses.iter().filter(|(_, events)| *events > 0) {
            let index = *cause as u32;
            let before = self.lost_reported.get(&index, 0).unwrap_or(0);
            // If the kernel refuses, they are reported once more.
            drop(self.lost_reported.set(index, before + events, 0));
        }
    }
}

impl From<Record<'_>> for KernelEvent {
    fn from(record: Record<'_>) -> Self {
        let header = record.header;
        match record.kind {
            Kind::Mkdir => Self::Mkdir {
                cgroup_id: header.cgroup_id,
                path: (!record.is_truncated()).then(|| cgroup_path::text(record.path)),
                time_ns: header.time_ns,
            },
            Kind::Exec => Self::Exec {
                cgroup_id: header.cgroup_id,
                pid: header.pid,
                comm: String::from_utf8_lossy(record.comm()).into_owned(),
                new_pid_namespace: header.flags & FLAG_NEW_PID_NAMESPACE != 0,
                first_of_pid_namespace: header.flags & FLAG_FIRST_OF_PID_NAMESPACE != 0,
                by_another: header.flags & FLAG_BY_ANOTHER != 0,
                time_ns: header.time_ns,
                started_ns: header.started_ns,
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

/// Checks whether probes could be kept in the folder `root`; the error is for people.
pub fn can_pin(root: &Path) -> Result<(), String> {
    pins::can_pin(root).map_err(|error| error.to_string())
}

/// The maps that user space reads.
const MAPS: [&str; 6] = [
    names::EVENTS,
    names::PENDING,
    names::OVERFLOW,
    names::SEEN,
    names::LOST,
    names::LOST_REPORTED,
];

/// The programs; each has the name of its tracepoint.
fn programs(confirm: bool) -> Vec<&'static str> {
    let mut programs = vec![names::CGROUP_MKDIR, names::CGROUP_RMDIR];
    programs.extend(confirm.then_some(names::PROCESS_EXEC));
    programs
}

fn from_pins(pins: &Pins) -> Result<[Map; MAPS.len()], ProbeError> {
    let open = |name| MapData::from_pin(pins.path(name)).map_err(ProbeError::of);
    let [events, pending, overflow, seen, lost, reported] = MAPS.map(open);
    Ok([
        Map::RingBuf(events?),
        Map::HashMap(pending?),
        Map::HashMap(overflow?),
        Map::LruHashMap(seen?),
        Map::PerCpuArray(lost?),
        Map::Array(reported?),
    ])
}

fn pin_maps(ebpf: &Ebpf, pins: &Pins) -> Result<(), String> {
    for name in MAPS {
        let map = ebpf.map(name).ok_or_else(|| format!("no map {name}"))?;
        map.pin(pins.path(name)).map_err(|error| chain(&error))?;
    }
    Ok(())
}

fn attach(ebpf: &mut Ebpf, name: &'static str, pins: Option<&Pins>) -> Result<(), ProbeError> {
    let program = ebpf
        .program_mut(name)
        .ok_or_else(|| ProbeError::Load(format!("no program {name}")))?;
    let program: &mut RawTracePoint = program.try_into().map_err(ProbeError::of)?;
    let failed = |error: ProgramError| {
        if denied(&error) {
            ProbeError::Denied
        } else {
            ProbeError::Load(format!("{name}: {}", chain(&error)))
        }
    };
    let link = program
        .load()
        .and_then(|()| program.attach(name))
        .map_err(failed)?;
    if let Some(pins) = pins {
        let link = FdLink::from(program.take_link(link).map_err(failed)?);
        link.pin(pins.path(name)).map_err(ProbeError::of)?;
        let pin = pins.path(&cost::pin_name(name));
        program.pin(pin).map_err(ProbeError::of)?;
    }
    Ok(())
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

/// Whether the chain of causes contains `EPERM`; the verifier refuses a program with `EACCES`.
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

/// The error with its causes in one line. The verifier's output, hundreds of lines, goes to the
/// debug log.
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

/// Logs the messages of debug builds of the probes.
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
