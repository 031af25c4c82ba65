//! A client that sends reviews as an API server does: over open connections, with a deadline for
//! each review, and over a new connection now and then.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, sleep_until};

use super::client::{Connection, Problem, Target, within};
use super::review::{large_update, review};

/// Open connections, and how often each sends a review: 200 per second in all.
const CONNECTIONS: u32 = 4;
const PACE: Duration = Duration::from_millis(20);
/// How often a review gets a new connection, and how often a large review is sent.
const SELDOM: Duration = Duration::from_millis(500);
/// A review of a usual Pod.
const BYTES: usize = 3200;
/// A review of an update to a large object.
const LARGE_BYTES: usize = 150_000;

/// Reviews of one kind, and their outcome.
#[derive(Debug, Clone, Default)]
pub struct Reviews {
    /// How many were sent.
    pub sent: usize,
    /// How many had no good answer within the timeout, by reason.
    pub failed: BTreeMap<String, usize>,
    /// Microseconds from when each was due until its answer, of those that were answered.
    micros: Vec<u32>,
}

/// The reviews that an API server sent.
#[derive(Debug, Clone, Default)]
pub(super) struct Seen {
    /// Over open connections.
    pub(super) usual: Reviews,
    /// Each over a new connection.
    pub(super) fresh: Reviews,
    /// Of [`LARGE_BYTES`].
    pub(super) large: Reviews,
}

/// The client. Its connections outlive a call of [`ask`](Self::ask).
#[derive(Debug)]
pub(super) struct ApiServer {
    target: Target,
    timeout: Duration,
    usual: Vec<Option<Connection>>,
    large: Option<Connection>,
}

impl ApiServer {
    /// A client that gives up on a review after `timeout`.
    pub(super) fn new(target: Target, timeout: Duration) -> Self {
        Self {
            target,
            timeout,
            usual: (0..CONNECTIONS).map(|_| None).collect(),
            large: None,
        }
    }

    /// Sends reviews for `duration`, or until `ended` returns that the webhook has ended.
    pub(super) async fn ask(&mut self, duration: Duration, ended: impl Fn() -> bool) -> Seen {
        let usual_body = Bytes::from(review(BYTES).to_string());
        let large_body = Bytes::from(large_update(LARGE_BYTES).to_string());
        let stopped = Arc::new(AtomicBool::new(false));
        let begin = Instant::now();
        let series = |body: &Bytes, pace, at: u32, kept: Option<Connection>, fresh| {
            let series = Series {
                target: self.target.clone(),
                path: format!("/mutate?timeout={}s", self.timeout.as_secs()),
                body: body.clone(),
                pace,
                timeout: self.timeout,
                fresh,
                stopped: Arc::clone(&stopped),
            };
            tokio::spawn(series.send(begin + PACE * at / CONNECTIONS, kept))
        };
        let usual: Vec<_> = (0..)
            .zip(self.usual.drain(..))
            .map(|(at, kept)| series(&usual_body, PACE, at, kept, false))
            .collect();
        let large = series(&large_body, SELDOM, 1, self.large.take(), false);
        let fresh = series(&usual_body, SELDOM, 2, None, true);
        while begin.elapsed() < duration && !ended() {
            sleep_until(Instant::now() + Duration::from_millis(100)).await;
        }
        // Open requests are answered or fail; nothing more is sent.
        stopped.store(true, Relaxed);
        let mut seen = Seen::default();
        for connection in usual {
            let (reviews, kept) = connection.await.unwrap_or_default();
            seen.usual.add(reviews);
            self.usual.push(kept);
        }
        (seen.large, self.large) = large.await.unwrap_or_default();
        seen.fresh = fresh.await.unwrap_or_default().0;
        seen
    }
}

/// A review that is sent repeatedly.
struct Series {
    target: Target,
    path: String,
    body: Bytes,
    pace: Duration,
    timeout: Duration,
    /// Whether each is sent over a new connection.
    fresh: bool,
    stopped: Arc<AtomicBool>,
}

impl Series {
    /// Sends one review per `pace`. A late review is sent at once, and the delay counts.
    async fn send(
        self,
        start: Instant,
        mut connection: Option<Connection>,
    ) -> (Reviews, Option<Connection>) {
        let mut reviews = Reviews::default();
        let mut due = start;
        loop {
            sleep_until(due).await;
            if self.stopped.load(Relaxed) {
                return (reviews, connection);
            }
            if self.fresh {
                connection = None;
            }
            let answered = within(self.timeout, self.exchange(&mut connection)).await;
            reviews.sent += 1;
            match answered {
                Ok(()) => {
                    let micros = due.elapsed().as_micros();
                    let micros = u32::try_from(micros).unwrap_or(u32::MAX);
                    reviews.micros.push(micros);
                }
                Err(problem) => {
                    connection = None;
                    *reviews.failed.entry(reason(&*problem)).or_default() += 1;
                }
            }
            due += self.pace;
        }
    }

    /// Sends one review. If the server closed an idle connection, opens a new one, as Go's client
    /// does.
    async fn exchange(&self, kept: &mut Option<Connection>) -> Result<(), Problem> {
        loop {
            let was_open = kept.as_ref().is_some_and(|it| !it.is_closed());
            let connection = match kept {
                Some(connection) if was_open => connection,
                _ => kept.insert(self.target.open(Ipv4Addr::LOCALHOST).await?),
            };
            match connection.post(&self.path, self.body.clone()).await {
                Ok((status, answer)) => {
                    if !status.is_success() {
                        return Err(status.to_string().into());
                    }
                    let text = String::from_utf8_lossy(&answer);
                    if !text.contains("\"allowed\":true") || !text.contains("\"patch\":") {
                        return Err("another answer".into());
                    }
                    return Ok(());
                }
                // Nothing of the request was sent.
                Err(error) if was_open && (error.is_canceled() || error.is_closed()) => {
                    *kept = None;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// The innermost reason.
fn reason(problem: &(dyn std::error::Error + 'static)) -> String {
    let mut innermost = problem;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

impl Reviews {
    /// How many failed.
    pub fn failures(&self) -> usize {
        self.failed.values().sum()
    }

    /// Milliseconds within which this percentage was answered; NaN if none was.
    pub fn percentile(&self, percent: usize) -> f64 {
        let mut sorted = self.micros.clone();
        sorted.sort_unstable();
        let at = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
        sorted
            .get(at)
            .map_or(f64::NAN, |micros| f64::from(*micros) / 1e3)
    }

    fn add(&mut self, other: Self) {
        self.sent += other.sent;
        self.micros.extend(other.micros);
        for (reason, count) in other.failed {
            *self.failed.entry(reason).or_default() += count;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_what_was_answered() {
        let reviews = Reviews {
            micros: (1..=200).rev().map(|it| it * 1000).collect(),
            ..Reviews::default()
        };
        assert!((reviews.percentile(50) - 100.0).abs() < 1e-9);
        assert!((reviews.percentile(99) - 198.0).abs() < 1e-9);
        assert!(Reviews::default().percentile(99).is_nan());
    }
}
