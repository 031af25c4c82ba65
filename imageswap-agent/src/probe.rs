//! The probes in the kernel: loaded, attached, read. The only module that knows how.
//!
//! Raw tracepoints need `CAP_BPF` and `CAP_PERFMON`, no tracefs and no mount.

use crate::offsets::Offsets;
use aya::maps::{HashMap, Map, MapData, PerCpuArray, RingBuf};
use aya::programs::links::FdLink;
use aya::programs::{ProgramError, RawTracePoint};
use aya::{Ebpf, EbpfError, EbpfLoader};
pub use cost::Cost;
use imageswap_ebpf::{
    FLAG_CGROUP_IN_USE, FLAG_FIRST_OF_PID_NAMESPACE, FLAG_NEW_PID_NAMESPACE, Header, Kind, Lost,
    Record, names,
};
use pins::Pins;
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::io::unix::AsyncFd;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{MissedTickBehavior, interval};

mod cost;
mod pins;

/// How late a new or removed cgroup is read where nothing makes the reader look.
const LATEST: Duration = Duration::from_millis(100);

/// Requests to look that may wait.
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
    /// A program began in another mount namespace than its parent in a pending cgroup, or as the first process of a pid
    /// namespace in any.
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
        /// Whether the cgroup was not pending.
        cgroup_in_use: bool,
        /// Nanoseconds since boot.
        time_ns: u64,
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
    /// Whether to attach the probe that sees execs, which tells nothing where the hierarchy is not v2: there every
    /// task's v2 cgroup is the root.
    pub confirm: bool,
    /// Bytes of the ring buffer, a power of two and whole pages; `None` for [`imageswap_ebpf::RING_BYTES`].
    pub ring_bytes: Option<u32>,
    /// Folder of a BPF file system to keep the probes in while no agent runs.
    pub pin: Option<PathBuf>,
}

/// The probes in the kernel. They leave it when this is dropped, unless they are pinned.
pub struct Probes {
    events: AsyncFd<RingBuf<MapData>>,
    control: Control,
}

/// What user space tells the probes and asks of them; they stay attached as long as it lives.
pub struct Control {
    pending: HashMap<MapData, u64, [u32; 2]>,
    overflow: HashMap<MapData, u64, [u8; size_of::<Header>()]>,
    lost: PerCpuArray<MapData, u64>,
    kept: Kept,
}

/// Makes the reader of events look at the ring, for only execs wake it.
#[derive(Debug, Clone)]
pub struct Reader(mpsc::Sender<oneshot::Sender<()>>);

/// What keeps the programs attached, and out of another agent's hands.
struct Kept {
    programs: Vec<&'static str>,
    /// None where another agent left them.
    attached: Option<Ebpf>,
    pins: Option<Pins>,
}

impl Probes {
    /// Loads and attaches the probes, or goes on with those that an agent of this version has left pinned.
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

    /// Whether the probes were there already, with what they have seen since the last agent.
    pub fn resumed(&self) -> bool {
        self.control.kept.attached.is_none()
    }

    /// Whether the probes stay when this agent ends.
    pub fn pinned(&self) -> bool {
        self.control.kept.pins.is_some()
    }

    /// What the probes have seen that nobody has read yet.
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
        // No relocation needs the kernel's BTF, and parsed it would be most of the agent's memory.
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
        // Maps before links: pinned links alone would fill a ring that nobody can read.
        for name in &programs {
            attach(&mut ebpf, name, pins.as_ref())?;
        }
        if let Some(pins) = &pins {
            pins.clear_others();
        }
        let [events, pending, overflow, lost] = MAPS.map(|name| take(&mut ebpf, name));
        let kept = Kept {
            programs,
            attached: Some(ebpf),
            pins,
        };
        Self::open([events?, pending?, overflow?, lost?], kept)
    }

    fn open([events, pending, overflow, lost]: [Map; 4], kept: Kept) -> Result<Self, ProbeError> {
        let events = RingBuf::try_from(events).map_err(ProbeError::of)?;
        let pending = HashMap::try_from(pending).map_err(ProbeError::of)?;
        let overflow = HashMap::try_from(overflow).map_err(ProbeError::of)?;
        let lost = PerCpuArray::try_from(lost).map_err(ProbeError::of)?;
        Ok(Self {
            events: readable(events)?,
            control: Control {
                pending,
                overflow,
                lost,
                kept,
            },
        })
    }

    /// Splits off what the table of starts needs and what makes the reader look, and sends every event to `events`
    /// until its receiver is gone.
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
            let mut look = interval(LATEST);
            look.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                let asked = tokio::select! {
                    // Not ready any more before it is read: what comes meanwhile makes it ready again.
                    ready = ring.readable_mut() => {
                        ready?.clear_ready();
                        None
                    }
                    Some(done) = asked.recv() => Some(done),
                    _ = look.tick() => None,
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
                    // Whoever only wanted it to look does not wait.
                    let _waits = done.send(());
                }
            }
        };
        (control, Reader(asks), pump)
    }
}

impl Reader {
    /// Makes it look now, without waiting for that.
    pub fn nudge(&self) {
        // Where others wait already, it is about to look.
        drop(self.0.try_send(oneshot::channel().0));
    }

    /// Comes back when all that the kernel had told before is on its way to the receiver of events, which has to be
    /// read meanwhile.
    pub async fn catch_up(&self) {
        let (done, caught_up) = oneshot::channel();
        if self.0.send(done).await.is_ok() {
            // It ends without a word only with the agent.
            drop(caught_up.await);
        }
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

    /// Takes the execs that the ring buffer had no room for, oldest first.
    pub fn overflow(&mut self) -> Vec<KernelEvent> {
        let keys: Vec<_> = self.overflow.keys().filter_map(Result::ok).collect();
        let kept = keys.iter().filter_map(|key| self.overflow.get(key, 0).ok());
        let mut headers: Vec<_> = kept.collect();
        for key in &keys {
            // Nobody else takes them away.
            drop(self.overflow.remove(key));
        }
        headers.sort_by_key(|bytes| Record::read(bytes).map(|record| record.header.time_ns));
        let records = headers.iter().filter_map(|bytes| Record::read(bytes));
        records.map(KernelEvent::from).collect()
    }

    /// What the programs have cost, as far as the kernel counts that.
    pub fn costs(&self) -> Vec<Cost> {
        let Kept {
            programs,
            attached,
            pins,
        } = &self.kept;
        cost::of(programs.iter().copied(), attached.as_ref(), pins.as_ref())
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
                first_of_pid_namespace: header.flags & FLAG_FIRST_OF_PID_NAMESPACE != 0,
                cgroup_in_use: header.flags & FLAG_CGROUP_IN_USE != 0,
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

/// Whether probes could be kept in the folder `root`; else why not, for people.
pub fn can_pin(root: &Path) -> Result<(), String> {
    pins::can_pin(root).map_err(|error| error.to_string())
}

/// The maps that user space reads.
const MAPS: [&str; 4] = [names::EVENTS, names::PENDING, names::OVERFLOW, names::LOST];

/// The programs, each named as its tracepoint.
fn programs(confirm: bool) -> Vec<&'static str> {
    let mut programs = vec![names::CGROUP_MKDIR, names::CGROUP_RMDIR];
    programs.extend(confirm.then_some(names::PROCESS_EXEC));
    programs
}

fn from_pins(pins: &Pins) -> Result<[Map; 4], ProbeError> {
    let open = |name| MapData::from_pin(pins.path(name)).map_err(ProbeError::of);
    let [events, pending, overflow, lost] = MAPS.map(open);
    Ok([
        Map::RingBuf(events?),
        Map::HashMap(pending?),
        Map::HashMap(overflow?),
        Map::PerCpuArray(lost?),
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
