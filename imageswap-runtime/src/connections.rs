//! A server's table of open connections: what each connection does, and which one closes to make room.
//!
//! One task checks all connections four times a second, so that requests set no timers. It closes
//! connections that take too long. If all places are taken, a new connection takes the place of the
//! connection that has proven least (`room`).
//!
//! Until a connection's first good answer, the table measures how long the server has waited for the client. This
//! distinguishes clients that want an answer from clients that only hold a place: the former always do the next step as
//! soon as they can, however busy the server is.

mod http;
mod room;
mod watched;

use std::cmp::Reverse;
use std::collections::HashMap;
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use futures::task::AtomicWaker;
use strum::{IntoStaticStr, VariantArray};
use tokio::sync::Notify;
use tokio::time::Instant;

use room::{Candidate, Standing};

pub use http::{HttpLimits, serve_http};

/// Interval between checks; the unit of all times in the table.
const TICK: Duration = Duration::from_millis(250);
/// For how long a client is preferred after a good answer.
pub const RECENT: Duration = Duration::from_mins(1);
/// Good answers in a row are at most this far apart, and so many make a connection one that is in use.
const ROW: Duration = Duration::from_secs(5);
const IN_USE: u8 = 8;

/// The limits of the table.
#[derive(Debug, Clone, Copy)]
pub struct ConnectionLimits {
    /// Open connections.
    pub connections: usize,
    /// Open connections from one address.
    pub per_peer: usize,
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
    /// What times of waiting count from.
    made: Instant,
    open: Mutex<Open>,
    /// Signalled for each new connection.
    added: Notify,
}

#[derive(Debug, Default)]
struct Open {
    next: u64,
    connections: HashMap<u64, Arc<Connection>>,
}

/// Why the server closed a connection; its name is the value of a metric's label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "kebab-case")]
pub enum Closed {
    /// Its TLS handshake failed or took too long.
    Handshake,
    /// A request's head took too long.
    SlowHead,
    /// A request's body took too long, and so did the answer that says so.
    SlowBody,
    /// The client took too long to read an answer.
    SlowRead,
    /// It idled for too long.
    Idle,
    /// Its place was needed for another connection, or it found none free.
    Crowded,
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
    /// Tick of the last good answer that was read; 0 before the first.
    answered: AtomicU32,
    /// Good answers in a row.
    row: AtomicU8,
    /// Whether a good answer is being written.
    answering: AtomicBool,
    /// Whether the client proved who it is.
    trusted: AtomicBool,
    /// Until the first good answer: for how long the server has waited for the client, in microseconds.
    waited: AtomicU64,
    /// Since when it waits now, in microseconds since the table was made; 0 while it does not.
    waiting: AtomicU64,
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
            // So that no time is 0.
            made: Instant::now() - Duration::from_micros(1),
            open: Mutex::default(),
            added: Notify::new(),
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
        if full || of_peer {
            closed = Some(Closed::Crowded);
            let victim = if of_peer {
                self.victim(&open, self.limits.per_peer, |it| it.peer == peer)
            } else {
                self.victim(&open, self.limits.connections, |_| true)
            };
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
            row: AtomicU8::new(0),
            answering: AtomicBool::new(false),
            trusted: AtomicBool::new(false),
            waited: AtomicU64::new(0),
            waiting: AtomicU64::new(0),
            closing: AtomicU8::new(Closing::No as u8),
            waker: AtomicWaker::new(),
            reading: AtomicWaker::new(),
        });
        let id = open.next;
        open.next += 1;
        open.connections.insert(id, Arc::clone(&connection));
        self.added.notify_one();
        let place = Place {
            id,
            connection,
            all: Arc::clone(self),
        };
        (Some(place), closed)
    }

    /// Checks all connections four times a second while there are any: closes those that take too
    /// long, and reports each to `closed`. Reports to `counted` how many connections are open, and
    /// how many of them have a request that is being read or answered.
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
            if open == 0 {
                self.added.notified().await;
                ticks.reset();
            }
        }
    }

    /// Closes all connections in this way.
    pub fn close_all(&self, how: Closing) {
        for connection in self.lock().connections.values() {
            connection.close(how);
        }
    }

    /// How long ago a tick was.
    fn age(&self, tick: u32) -> Duration {
        TICK * self.now.load(Relaxed).wrapping_sub(tick)
    }

    fn tick(&self, mut closed: impl FnMut(Closed)) {
        self.now.fetch_add(1, Relaxed);
        let age = |tick: &AtomicU32| self.age(tick.load(Relaxed));
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

    /// The connection that has proven least among those that share so many places, if one may be closed.
    fn victim(
        &self,
        open: &Open,
        places: usize,
        share: impl Fn(&Connection) -> bool,
    ) -> Option<u64> {
        let now = self.micros();
        let sharing = open.connections.iter().filter(|(_, it)| share(it));
        let candidates: Vec<_> = sharing
            .map(|(id, it)| Candidate {
                id: *id,
                peer: it.peer,
                trusted: it.is_trusted(),
                busy: it.phase() == Phase::Busy,
                standing: it.standing(now),
            })
            .collect();
        room::victim(&candidates, places)
    }

    /// Microseconds since the table was made.
    fn micros(&self) -> u64 {
        u64::try_from(self.made.elapsed().as_micros()).unwrap_or(u64::MAX)
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
        let victim = self.all.victim(&open, limit, stranger);
        open.close(victim.unwrap_or(self.id));
        Some(Closed::Crowded)
    }

    /// Whether the client proved who it is; if clients are not asked, whether it had a good answer
    /// recently.
    pub fn is_preferred(&self) -> bool {
        if self.all.limits.strangers.is_some() {
            return self.connection.is_trusted();
        }
        let answered = self.connection.answered.load(Relaxed);
        answered != 0 && self.all.age(answered) <= RECENT
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
            self.goes_on();
            loop {
                // Received data is read first, so that a complete request is answered.
                if let Poll::Ready(output) = work.as_mut().poll(context) {
                    return Poll::Ready(Some(output));
                }
                match self.connection.take_closing() {
                    Closing::No => break,
                    Closing::IfIdle if self.connection.phase() != Phase::Idle => break,
                    Closing::IfIdle | Closing::Graceful => graceful(work.as_mut()),
                    Closing::Now => return Poll::Ready(None),
                }
            }
            self.waits();
            Poll::Pending
        })
        .await
    }

    /// The client has sent something, or this server goes on without that.
    fn goes_on(&self) {
        let connection = &self.connection;
        let since = connection.waiting.load(Relaxed);
        if since != 0 {
            let now = self.all.micros();
            connection.waiting.store(0, Relaxed);
            connection
                .waited
                .fetch_add(now.saturating_sub(since), Relaxed);
        }
    }

    /// There is nothing to do for this server before the client does something, unless a request is being answered.
    fn waits(&self) {
        let connection = &self.connection;
        if connection.answered.load(Relaxed) == 0 && connection.phase() != Phase::Busy {
            connection.waiting.store(self.all.micros(), Relaxed);
        }
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
            let connection = &self.connection;
            connection.answering.store(false, Relaxed);
            let before = connection.answered.load(Relaxed);
            let in_row = before != 0 && self.all.age(before) <= ROW;
            let row = if in_row {
                connection.row.load(Relaxed).saturating_add(1)
            } else {
                1
            };
            connection.row.store(row, Relaxed);
            let now = self.all.now.load(Relaxed);
            connection.answered.store(now, Relaxed);
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

    /// What the connection has proven `now`, in microseconds since the table was made.
    fn standing(&self, now: u64) -> Standing {
        match self.answered.load(Relaxed) {
            0 => {
                let waits = match self.waiting.load(Relaxed) {
                    0 => 0,
                    since => now.saturating_sub(since),
                };
                let waited = Reverse(self.waited.load(Relaxed) + waits);
                Standing::Unproven { waited }
            }
            at if self.row.load(Relaxed) >= IN_USE => Standing::InUse { at },
            at => Standing::Answered { at },
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
