//! A server's table of open connections: what each connection does, and which one closes to make room.
//!
//! One task checks all connections four times a second, so that requests set no timers. It closes
//! connections that take too long. If all places are taken, a new connection takes the place of the
//! connection that has proven least:
//!
//! 1. one that was never answered: of a peer that holds an unusual number of such connections, then the oldest;
//! 2. one whose last good answer is more than [`RECENT`] ago.
//!
//! A connection that had a good answer within [`RECENT`], or whose request is being answered, never makes room. Clients
//! that prove who they are ([`Place::established`]) go last in each step.

mod http;
mod watched;

use std::cmp::Reverse;
use std::collections::HashMap;
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use futures::task::AtomicWaker;

use crate::metrics::Closed;

pub use http::{HttpLimits, serve_http};

/// Interval between checks; the unit of all times in the table.
const TICK: Duration = Duration::from_millis(250);
/// For how long a good answer protects a connection.
pub const RECENT: Duration = Duration::from_mins(1);
/// A peer with fewer unproven connections than this share of all places is not a crowd.
const CROWD_SHARE: usize = 16;

/// The limits of the table.
#[derive(Debug, Clone, Copy)]
pub struct ConnectionLimits {
    /// Open connections.
    pub connections: usize,
    /// Open connections from one address.
    pub per_peer: usize,
    /// Connections that have not finished their handshake.
    pub handshakes: usize,
    /// If clients are asked who they are: connections that finished their handshake and did not
    /// prove it.
    pub strangers: Option<usize>,
    /// Whether a good answer proves something. It does not if everyone gets one.
    pub answers_prove: bool,
    /// From the first byte of a request's head to its last.
    pub head: Duration,
    /// From the end of a request's head to the end of its body, unless the handler stops earlier.
    pub body: Duration,
    /// From when the client stops reading an answer until it has read the whole answer.
    pub write: Duration,
    /// How long a connection may stay without a request.
    pub idle: Duration,
}

/// All open connections of a server.
#[derive(Debug)]
pub struct Connections {
    limits: ConnectionLimits,
    /// Counts ticks from 1; 0 means never.
    now: AtomicU32,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    next: u64,
    connections: HashMap<u64, Arc<Connection>>,
}

/// A place in the table; dropping it frees the place.
#[derive(Debug)]
pub struct Place {
    id: u64,
    connection: Arc<Connection>,
    all: Arc<Connections>,
}

/// One connection. Its task writes these fields; the search for a connection to close reads them.
#[derive(Debug)]
struct Connection {
    peer: IpAddr,
    phase: AtomicU8,
    /// Tick in which the phase began.
    since: AtomicU32,
    /// Tick in which the client stopped reading; 0 while it reads.
    stuck: AtomicU32,
    /// Tick of the last good answer that was read.
    answered: AtomicU32,
    /// Whether a good answer is being written.
    answering: AtomicBool,
    /// Whether the client proved who it is.
    trusted: AtomicBool,
    closing: AtomicU8,
    /// Wakes the connection's task.
    waker: AtomicWaker,
    /// Wakes a request that waits for the client to read.
    reading: AtomicWaker,
}

/// The phase of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Phase {
    Handshake,
    Idle,
    /// A request's head has begun.
    Head,
    /// A request's head is complete and its body is not.
    Body,
    /// A request is being answered.
    Busy,
}

/// How much a connection has proven, least first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Standing {
    Unproven,
    Answered,
    Recent,
}

/// How to close a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Closing {
    /// It stays open.
    No,
    /// Close it unless a request has begun.
    IfIdle,
    /// Close it after the request that is being answered.
    Graceful,
    /// Close it at once.
    Now,
}

impl Connections {
    /// An empty table.
    pub fn new(limits: ConnectionLimits) -> Arc<Self> {
        Arc::new(Self {
            limits,
            now: AtomicU32::new(1),
            open: Mutex::default(),
        })
    }

    /// A place for a new connection of `peer`, and the reason if this closes another connection. `None` if no
    /// connection may be closed for it.
    pub fn admit(self: &Arc<Self>, peer: IpAddr) -> (Option<Place>, Option<Closed>) {
        let peer = peer.to_canonical();
        let mut open = self.lock();
        let mut closed = None;
        let full = open.connections.len() >= self.limits.connections;
        let of_peer = open.count(|it| it.peer == peer) >= self.limits.per_peer;
        let handshakes = open.count(Connection::is_handshake) >= self.limits.handshakes;
        if full || of_peer || handshakes {
            closed = Some(Closed::Crowded);
            let victim = self.victim(&open, |it| {
                (!of_peer || it.peer == peer) && (full || of_peer || it.is_handshake())
            });
            let Some(victim) = victim else {
                return (None, closed);
            };
            open.close(victim);
        }
        let connection = Arc::new(Connection {
            peer,
            phase: AtomicU8::new(Phase::Handshake as u8),
            since: AtomicU32::new(self.now.load(Relaxed)),
            stuck: AtomicU32::new(0),
            answered: AtomicU32::new(0),
            answering: AtomicBool::new(false),
            trusted: AtomicBool::new(false),
            closing: AtomicU8::new(Closing::No as u8),
            waker: AtomicWaker::new(),
            reading: AtomicWaker::new(),
        });
        let id = open.next;
        open.next += 1;
        open.connections.insert(id, Arc::clone(&connection));
        let place = Place {
            id,
            connection,
            all: Arc::clone(self),
        };
        (Some(place), closed)
    }

    /// Checks all connections four times a second: closes those that take too long, and reports
    /// each to `closed`. Reports to `counted` how many connections are open, and how many of them
    /// have a request that is being read or answered.
    pub async fn watch(
        &self,
        mut closed: impl FnMut(Closed),
        counted: impl Fn(usize, usize),
    ) -> Infallible {
        let mut ticks = tokio::time::interval(TICK);
        loop {
            ticks.tick().await;
            self.tick(&mut closed);
            let (open, busy) = self.count();
            counted(open, busy);
        }
    }

    /// Closes all connections in this way.
    pub fn close_all(&self, how: Closing) {
        for connection in self.lock().connections.values() {
            connection.close(how);
        }
    }

    fn tick(&self, mut closed: impl FnMut(Closed)) {
        let now = self.now.fetch_add(1, Relaxed).wrapping_add(1);
        let age = |tick: &AtomicU32| TICK * now.wrapping_sub(tick.load(Relaxed));
        for connection in self.lock().connections.values() {
            let in_phase = age(&connection.since);
            let (how, why) = match connection.phase() {
                _ if connection.is_stuck() && age(&connection.stuck) > self.limits.write => {
                    (Closing::Now, Closed::SlowRead)
                }
                Phase::Head if in_phase > self.limits.head => (Closing::Now, Closed::SlowHead),
                Phase::Body if in_phase > self.limits.body => (Closing::Now, Closed::SlowBody),
                Phase::Idle if in_phase > self.limits.idle => (Closing::IfIdle, Closed::Idle),
                // A handshake has a timeout of its own.
                _ => continue,
            };
            connection.close(how);
            closed(why);
        }
    }

    /// How many connections are open, and how many of them have a request that is being read or answered.
    fn count(&self) -> (usize, usize) {
        let open = self.lock();
        let busy = open.count(|it| matches!(it.phase(), Phase::Body | Phase::Busy));
        (open.connections.len(), busy)
    }

    /// The connection that has proven least among those that `may_go`.
    fn victim(&self, open: &Open, may_go: impl Fn(&Connection) -> bool) -> Option<u64> {
        let now = self.now.load(Relaxed);
        let mut unproven: HashMap<IpAddr, usize> = HashMap::new();
        for connection in open.connections.values() {
            if connection.standing(now) == Standing::Unproven {
                *unproven.entry(connection.peer).or_default() += 1;
            }
        }
        let crowd = (self.limits.connections / CROWD_SHARE).max(1);
        let candidates = open.connections.iter().filter(|(_, it)| {
            may_go(it) && it.phase() != Phase::Busy && it.standing(now) != Standing::Recent
        });
        candidates
            .min_by_key(|(id, it)| {
                let trusted = it.trusted.load(Relaxed);
                let standing = it.standing(now);
                let crowd = unproven.get(&it.peer).map_or(0, |count| count / crowd);
                let crowd = if standing == Standing::Unproven {
                    crowd
                } else {
                    0
                };
                (
                    trusted,
                    standing,
                    Reverse(crowd),
                    it.answered.load(Relaxed),
                    **id,
                )
            })
            .map(|(id, _)| *id)
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open {
    fn count(&self, which: impl Fn(&Connection) -> bool) -> usize {
        self.connections.values().filter(|it| which(it)).count()
    }

    fn close(&mut self, id: u64) {
        if let Some(connection) = self.connections.remove(&id) {
            connection.close(Closing::Now);
        }
    }
}

impl Place {
    /// The handshake is done. `trusted` says whether the client proved who it is. Returns the reason if this closes a
    /// connection, perhaps this one.
    pub fn established(&self, trusted: bool) -> Option<Closed> {
        let mut open = self.all.lock();
        self.connection.trusted.store(trusted, Relaxed);
        self.enter(Phase::Idle);
        let stranger = |it: &Connection| !it.is_trusted() && !it.is_handshake();
        let limit = self.all.limits.strangers.filter(|_| !trusted)?;
        if open.count(stranger) <= limit {
            return None;
        }
        let victim = self.all.victim(&open, stranger);
        open.close(victim.unwrap_or(self.id));
        Some(Closed::Crowded)
    }

    /// Whether the client proved who it is; if clients are not asked, whether it had a good answer
    /// recently.
    pub fn is_preferred(&self) -> bool {
        if self.all.limits.strangers.is_some() {
            return self.connection.is_trusted();
        }
        let now = self.all.now.load(Relaxed);
        self.connection.standing(now) == Standing::Recent
    }

    /// A request's body has arrived; from now on the connection is not closed to make room.
    pub fn arrived(&self) {
        self.connection.phase.store(Phase::Busy as u8, Relaxed);
    }

    /// Polls `work`, and closes the connection when that is due: calls `graceful` to close it as soon as possible,
    /// returns `None` to close it at once.
    pub async fn until_closed<W: Future>(
        &self,
        work: W,
        graceful: impl Fn(Pin<&mut W>),
    ) -> Option<W::Output> {
        let mut work = pin!(work);
        poll_fn(|context| {
            self.connection.waker.register(context.waker());
            loop {
                // Received data is read first, so that a complete request is answered.
                if let Poll::Ready(output) = work.as_mut().poll(context) {
                    return Poll::Ready(Some(output));
                }
                match self.connection.take_closing() {
                    Closing::No => return Poll::Pending,
                    Closing::IfIdle if self.connection.phase() != Phase::Idle => {
                        return Poll::Pending;
                    }
                    Closing::IfIdle | Closing::Graceful => graceful(work.as_mut()),
                    Closing::Now => return Poll::Ready(None),
                }
            }
        })
        .await
    }

    /// Bytes were received.
    fn heard(&self) {
        if self.connection.phase() == Phase::Idle {
            self.enter(Phase::Head);
        }
    }

    /// A request's head is complete.
    fn begun(&self) {
        self.enter(Phase::Body);
    }

    /// A request was answered; `good` says whether successfully.
    fn answered(&self, good: bool) {
        self.enter(Phase::Idle);
        if good && self.all.limits.answers_prove {
            self.connection.answering.store(true, Relaxed);
        }
    }

    /// The client does not read.
    fn stuck(&self) {
        if !self.connection.is_stuck() {
            let now = self.all.now.load(Relaxed);
            self.connection.stuck.store(now, Relaxed);
        }
    }

    /// The client has read everything, as far as the system knows.
    fn flushed(&self) {
        // Read before written, because this runs whenever the connection is polled.
        if self.connection.answering.load(Relaxed) {
            self.connection.answering.store(false, Relaxed);
            let now = self.all.now.load(Relaxed);
            self.connection.answered.store(now, Relaxed);
        }
        if self.connection.is_stuck() {
            self.connection.stuck.store(0, Relaxed);
            self.connection.reading.wake();
        }
    }

    /// Waits while the client does not read, so that answers do not pile up.
    async fn until_flushed(&self) {
        poll_fn(|context| {
            if !self.connection.is_stuck() {
                return Poll::Ready(());
            }
            self.connection.reading.register(context.waker());
            Poll::Pending
        })
        .await;
    }

    fn enter(&self, phase: Phase) {
        self.connection
            .since
            .store(self.all.now.load(Relaxed), Relaxed);
        self.connection.phase.store(phase as u8, Relaxed);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.all.lock().connections.remove(&self.id);
    }
}

impl Connection {
    fn phase(&self) -> Phase {
        let phase = self.phase.load(Relaxed);
        [Phase::Handshake, Phase::Idle, Phase::Head, Phase::Body]
            .into_iter()
            .find(|it| *it as u8 == phase)
            .unwrap_or(Phase::Busy)
    }

    fn is_handshake(&self) -> bool {
        self.phase() == Phase::Handshake
    }

    fn is_trusted(&self) -> bool {
        self.trusted.load(Relaxed)
    }

    fn is_stuck(&self) -> bool {
        self.stuck.load(Relaxed) != 0
    }

    fn standing(&self, now: u32) -> Standing {
        match self.answered.load(Relaxed) {
            0 => Standing::Unproven,
            tick if TICK * now.wrapping_sub(tick) <= RECENT => Standing::Recent,
            _ => Standing::Answered,
        }
    }

    fn close(&self, how: Closing) {
        self.closing.fetch_max(how as u8, Relaxed);
        self.waker.wake();
    }

    fn take_closing(&self) -> Closing {
        // Read before written, because this runs whenever the connection is polled.
        if self.closing.load(Relaxed) == Closing::No as u8 {
            return Closing::No;
        }
        let closing = self.closing.swap(Closing::No as u8, Relaxed);
        [Closing::IfIdle, Closing::Graceful, Closing::Now]
            .into_iter()
            .find(|it| *it as u8 == closing)
            .unwrap_or(Closing::No)
    }
}

#[cfg(test)]
mod tests;
