//! Who is connected, what each connection is at, and which of them has to go.
//!
//! One task looks at all connections four times a second, instead of timers that every request would have to set. It
//! closes those that take too long. When all places are taken, a new connection takes that of another: first of one
//! that has never been answered, of the peer that has the most, and has been still for the longest. So a crowd of
//! silent or slow clients closes its own connections before any of an API server.

use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::net::IpAddr;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use futures::task::AtomicWaker;
use imageswap_runtime::metrics::Closed;

use crate::limits::Limits;

/// How often connections are looked at; the unit of [`Connection::since`].
pub(super) const TICK: Duration = Duration::from_millis(250);

/// All open connections.
#[derive(Debug)]
pub(super) struct Connections {
    limits: Limits,
    now: AtomicU32,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    next: u64,
    connections: HashMap<u64, Arc<Connection>>,
}

/// A place among the connections; given back when it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    id: u64,
    connection: Arc<Connection>,
    all: Arc<Connections>,
}

/// What is known of a connection. It is written by the connection's task, and read by whoever looks for one to close.
#[derive(Debug)]
struct Connection {
    peer: IpAddr,
    phase: AtomicU8,
    /// Tick in which the phase began.
    since: AtomicU32,
    /// Whether a request of this connection has had a good answer.
    proven: AtomicBool,
    closing: AtomicU8,
    waker: AtomicWaker,
}

/// What a connection is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Phase {
    Handshake,
    Idle,
    /// A request's head has begun.
    Head,
    /// A request is being read or answered; it has limits of its own.
    Busy,
}

/// How a connection is to be closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Closing {
    /// Not at all.
    No,
    /// If no request has come meanwhile.
    IfIdle,
    /// When the request that is being answered is.
    Graceful,
    /// At once.
    Now,
}

impl Connections {
    pub(super) fn new(limits: Limits) -> Arc<Self> {
        Arc::new(Self {
            limits,
            now: AtomicU32::new(0),
            open: Mutex::default(),
        })
    }

    /// A place for a new connection of `peer`, and why another had to give it up, if one had. `None` when every place
    /// is taken by a request that is being answered.
    pub(super) fn admit(self: &Arc<Self>, peer: IpAddr) -> (Option<Place>, Option<Closed>) {
        let mut open = self.lock();
        let crowded = open.connections.len() >= self.limits.max_connections;
        let handshakes = open.in_phase(Phase::Handshake);
        let mut closed = None;
        if crowded || handshakes >= self.limits.max_handshakes {
            let victim = open.victim(|phase| {
                if crowded {
                    phase != Phase::Busy
                } else {
                    phase == Phase::Handshake
                }
            });
            closed = Some(Closed::Crowded);
            match victim {
                Some(id) => {
                    if let Some(connection) = open.connections.remove(&id) {
                        connection.close(Closing::Now);
                    }
                }
                None => return (None, closed),
            }
        }
        let connection = Arc::new(Connection {
            peer: peer.to_canonical(),
            phase: AtomicU8::new(Phase::Handshake as u8),
            since: AtomicU32::new(self.now.load(Relaxed)),
            proven: AtomicBool::new(false),
            closing: AtomicU8::new(Closing::No as u8),
            waker: AtomicWaker::new(),
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

    /// Moves the time on by a tick, closes what has taken too long, and tells `closed` about each.
    pub(super) fn tick(&self, mut closed: impl FnMut(Closed)) {
        let now = self.now.fetch_add(1, Relaxed).wrapping_add(1);
        for connection in self.lock().connections.values() {
            let age = TICK * now.wrapping_sub(connection.since.load(Relaxed));
            match connection.phase() {
                Phase::Head if age > self.limits.head => {
                    connection.close(Closing::Now);
                    closed(Closed::SlowHead);
                }
                Phase::Idle if age > self.limits.idle => {
                    connection.close(Closing::IfIdle);
                    closed(Closed::Idle);
                }
                // A handshake has a timeout of its own.
                _ => {}
            }
        }
    }

    /// Closes all connections in that way.
    pub(super) fn close_all(&self, how: Closing) {
        for connection in self.lock().connections.values() {
            connection.close(how);
        }
    }

    /// How many connections are open, and how many of them have a request that is being read or answered.
    pub(super) fn count(&self) -> (usize, usize) {
        let open = self.lock();
        (open.connections.len(), open.in_phase(Phase::Busy))
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open {
    fn in_phase(&self, phase: Phase) -> usize {
        self.connections
            .values()
            .filter(|it| it.phase() == phase)
            .count()
    }

    /// The connection that is missed least, among those in phases that `may_go`.
    fn victim(&self, may_go: impl Fn(Phase) -> bool) -> Option<u64> {
        let mut of_peer: HashMap<IpAddr, usize> = HashMap::new();
        for connection in self.connections.values() {
            *of_peer.entry(connection.peer).or_default() += 1;
        }
        self.connections
            .iter()
            .filter(|(_, it)| may_go(it.phase()))
            .min_by_key(|(id, it)| {
                let crowd = std::cmp::Reverse(of_peer.get(&it.peer).copied());
                (it.proven.load(Relaxed), crowd, it.since.load(Relaxed), **id)
            })
            .map(|(id, _)| *id)
    }
}

impl Place {
    /// The handshake is done.
    pub(super) fn established(&self) {
        self.enter(Phase::Idle);
    }

    /// Bytes came in.
    pub(super) fn heard(&self) {
        if self.connection.phase() == Phase::Idle {
            self.enter(Phase::Head);
        }
    }

    /// A request's head is complete.
    pub(super) fn begun(&self) {
        self.connection.phase.store(Phase::Busy as u8, Relaxed);
    }

    /// A request was answered, and whether with what it asked for.
    pub(super) fn answered(&self, good: bool) {
        self.enter(Phase::Idle);
        if good && !self.connection.proven.load(Relaxed) {
            self.connection.proven.store(true, Relaxed);
        }
    }

    /// Polls `work`, and then how the connection is to be closed; `None` when that is now. `graceful` is called when
    /// it is to be closed as soon as it may.
    pub(super) async fn until_closed<W: Future>(
        &self,
        work: W,
        graceful: impl Fn(std::pin::Pin<&mut W>),
    ) -> Option<W::Output> {
        let mut work = pin!(work);
        poll_fn(|context| {
            self.connection.waker.register(context.waker());
            loop {
                // What has arrived is read first, so that no request is cut off that is there.
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
        [Phase::Handshake, Phase::Idle, Phase::Head]
            .into_iter()
            .find(|it| *it as u8 == phase)
            .unwrap_or(Phase::Busy)
    }

    fn close(&self, how: Closing) {
        self.closing.fetch_max(how as u8, Relaxed);
        self.waker.wake();
    }

    fn take_closing(&self) -> Closing {
        // Read before written: this is asked whenever the connection is polled.
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
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        max_connections: 4,
        max_handshakes: 3,
        max_in_flight: 1,
        large_bodies: 0,
        head: Duration::from_secs(1),
        idle: Duration::from_secs(2),
    };

    fn peer(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    /// A connection whose handshake is done.
    fn open(all: &Arc<Connections>, last: u8) -> Place {
        let (place, _) = all.admit(peer(last));
        let place = place.unwrap();
        place.established();
        place
    }

    fn closing(place: &Place) -> Closing {
        place.connection.take_closing()
    }

    fn ticks(all: &Connections, time: Duration) -> Vec<Closed> {
        let mut closed = Vec::new();
        for _ in 0..time.as_millis() / TICK.as_millis() {
            all.tick(|why| closed.push(why));
        }
        closed
    }

    #[test]
    fn who_was_never_answered_goes_first() {
        let all = Connections::new(LIMITS);
        let served = open(&all, 1);
        served.answered(true);
        ticks(&all, TICK);
        let silent = [open(&all, 2), open(&all, 3), open(&all, 4)];
        let (new, closed) = all.admit(peer(5));
        assert!(new.is_some());
        assert_eq!(closed, Some(Closed::Crowded));
        assert_eq!(closing(&silent[0]), Closing::Now);
        assert_eq!(closing(&served), Closing::No);
        assert_eq!(all.count().0, 4);
    }

    #[test]
    fn the_peer_with_most_connections_pays() {
        let all = Connections::new(LIMITS);
        let alone = open(&all, 1);
        ticks(&all, TICK);
        let crowd = [open(&all, 2), open(&all, 2), open(&all, 2)];
        for place in crowd.iter().chain([&alone]) {
            place.answered(true);
        }
        ticks(&all, TICK);
        crowd[0].answered(true);
        assert!(all.admit(peer(1)).0.is_some());
        assert_eq!(closing(&crowd[1]), Closing::Now);
        assert_eq!(closing(&alone), Closing::No);
    }

    #[test]
    fn requests_that_are_being_answered_keep_their_place() {
        let all = Connections::new(LIMITS);
        let busy: Vec<_> = (0..4).map(|last| open(&all, last)).collect();
        for place in &busy {
            place.begun();
        }
        assert_eq!(all.count(), (4, 4));
        let (place, closed) = all.admit(peer(9));
        assert!(place.is_none());
        assert_eq!(closed, Some(Closed::Crowded));
        busy[2].answered(false);
        assert!(all.admit(peer(9)).0.is_some());
        assert_eq!(closing(&busy[2]), Closing::Now);
    }

    #[test]
    fn half_handshakes_push_each_other_out() {
        let all = Connections::new(LIMITS);
        let done = open(&all, 1);
        let half: Vec<_> = (0..3).map(|_| all.admit(peer(2)).0.unwrap()).collect();
        let fourth = all.admit(peer(2)).0.unwrap();
        assert_eq!(closing(&half[0]), Closing::Now);
        assert_eq!(closing(&half[1]), Closing::No);
        assert_eq!(closing(&done), Closing::No);
        drop(fourth);
    }

    #[test]
    fn heads_and_idle_connections_have_their_time() {
        let all = Connections::new(LIMITS);
        let (idle, head, busy) = (open(&all, 1), open(&all, 2), open(&all, 3));
        head.heard();
        busy.heard();
        busy.begun();
        assert_eq!(ticks(&all, LIMITS.head), []);
        // More bytes of the same head win it no time.
        head.heard();
        assert_eq!(ticks(&all, TICK), [Closed::SlowHead]);
        assert_eq!(closing(&head), Closing::Now);
        drop(head);
        assert_eq!(
            ticks(&all, LIMITS.idle.saturating_sub(LIMITS.head)),
            [Closed::Idle]
        );
        assert_eq!(closing(&idle), Closing::IfIdle);
        drop(idle);
        assert_eq!(ticks(&all, LIMITS.idle * 10), []);
        assert_eq!(closing(&busy), Closing::No);
        assert_eq!(all.count(), (1, 1));
        drop(busy);
        assert_eq!(all.count(), (0, 0));
    }
}
