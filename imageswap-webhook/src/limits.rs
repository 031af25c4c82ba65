//! How much the webhook takes on at once, and what each figure protects.
//!
//! Whoever reaches the port can open connections and send bodies, for the API server shows no certificate. What such a
//! client can do to the others is bounded here: connections ([`Limits::max_connections`]), time (a head, a body, an
//! idle connection), memory ([`Limits::large_bodies`]) and answers at a time ([`Limits::max_in_flight`]).

use std::num::NonZeroU32;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::time::Instant;

/// A review holds an object twice, and the API server stores none over 1.5 MiB (etcd's limit) by default.
pub const MAX_BODY: usize = 8 << 20;
/// Bodies up to this size are read without asking for a share of [`Limits::large_bodies`]; several times a usual review.
pub const SMALL_BODY: usize = 32 << 10;
/// What a request's head may have, in bytes; the API server's has 500.
pub const MAX_HEAD: usize = 16 << 10;
/// What the API server waits for a webhook unless it says otherwise.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest that a webhook configuration can ask for.
const MAX_TIMEOUT: Duration = Duration::from_secs(30);
/// File descriptors besides those of connections: listeners, the runtime, files, and clients of ours.
const OTHER_FILES: u64 = 128;

/// Limits that an operator may want to change; flatten it into a command's arguments.
#[derive(Debug, Clone, Copy, clap::Args)]
#[command(next_help_heading = "Limits")]
pub struct LimitArgs {
    /// Connections at a time; when full, a new one replaces the idlest
    #[arg(long, value_name = "N", default_value = "1024")]
    pub max_connections: NonZeroU32,
    /// Reviews answered at a time; others wait for half of their timeout, and then get 429
    #[arg(long, value_name = "N", default_value = "64")]
    pub max_in_flight: NonZeroU32,
}

/// How much the webhook takes on at once.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Open connections. An API server keeps a handful to each webhook.
    pub max_connections: usize,
    /// Connections that have not finished their handshake; when there are more, the oldest is closed.
    pub max_handshakes: usize,
    /// Reviews that are answered at the same time.
    pub max_in_flight: usize,
    /// Bytes of bodies over [`SMALL_BODY`] that are held at the same time.
    pub large_bodies: usize,
    /// From the first byte of a request's head to its last.
    pub head: Duration,
    /// How long a connection may lie idle. Longer than a Go client keeps idle connections (90 s), so that the client
    /// is the one who closes them and no request meets a closing connection.
    pub idle: Duration,
}

/// The times of one request. They count from when its head is read.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// Until then the answer has to be begun; later it would come too late, and the caller had better ask another
    /// replica.
    pub queue: Instant,
    /// Until then the body has to be there; the caller is gone afterwards.
    pub body: Instant,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_connections: 1024,
            max_handshakes: 256,
            max_in_flight: 64,
            large_bodies: 4 * MAX_BODY,
            head: Duration::from_secs(10),
            idle: Duration::from_mins(2),
        }
    }
}

impl LimitArgs {
    /// The limits, with as many connections as the process may have files. Raises the soft limit of files to what is
    /// needed, if the hard one allows it.
    pub fn load(self) -> Limits {
        let wanted = self.max_connections.get();
        let files = raise_files(u64::from(wanted) + OTHER_FILES);
        let possible = u32::try_from(files.saturating_sub(OTHER_FILES).max(1)).unwrap_or(u32::MAX);
        if possible < wanted {
            tracing::warn!(
                wanted,
                possible,
                files,
                "fewer connections than asked for: the process may not open more files"
            );
        }
        let max_connections = wanted.min(possible) as usize;
        Limits {
            max_connections,
            max_handshakes: max_connections.div_ceil(4),
            max_in_flight: self.max_in_flight.get() as usize,
            ..Limits::default()
        }
    }
}

impl Patience {
    /// Of a request whose head is read `now`. The API server says in the URL how long it waits, such as
    /// `/mutate?timeout=5s`.
    pub fn new(query: Option<&str>, now: Instant) -> Self {
        let timeout = query
            .into_iter()
            .flat_map(|query| query.split('&'))
            .find_map(|pair| go_duration(pair.strip_prefix("timeout=")?))
            .map_or(DEFAULT_TIMEOUT, |timeout| timeout.min(MAX_TIMEOUT));
        Self {
            queue: now + timeout / 2,
            body: now + timeout,
        }
    }
}

/// A duration as Go prints it, of whole hours, minutes, seconds and milliseconds: `5s`, `1m0s`, `500ms`.
fn go_duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut sum = Duration::ZERO;
    while !rest.is_empty() {
        let unit_at = rest.find(|c: char| !c.is_ascii_digit())?;
        let number: u32 = rest[..unit_at].parse().ok()?;
        let after = &rest[unit_at..];
        let unit_end = after
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(after.len());
        let unit = match &after[..unit_end] {
            "h" => Duration::from_hours(1),
            "m" => Duration::from_mins(1),
            "s" => Duration::from_secs(1),
            "ms" => Duration::from_millis(1),
            _ => return None,
        };
        sum = sum.checked_add(unit.checked_mul(number)?)?;
        rest = &after[unit_end..];
    }
    Some(sum).filter(|sum| !sum.is_zero())
}

/// Raises the limit of open files to `wanted`, as far as it goes, and returns what it is then.
fn raise_files(wanted: u64) -> u64 {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    // No limit is told as none.
    let soft = current.unwrap_or(u64::MAX);
    if soft >= wanted {
        return soft;
    }
    let raised = wanted.min(maximum.unwrap_or(u64::MAX));
    let limit = Rlimit {
        current: Some(raised),
        maximum,
    };
    match setrlimit(Resource::Nofile, limit) {
        Ok(()) => raised,
        Err(_refused) => soft,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_read_as_go_writes_them() {
        for (text, milliseconds) in [
            ("5s", Some(5_000)),
            ("10s", Some(10_000)),
            ("1m0s", Some(60_000)),
            ("1h0m1s", Some(3_601_000)),
            ("500ms", Some(500)),
            ("", None),
            ("0s", None),
            ("5", None),
            ("s", None),
            ("-5s", None),
            ("1.5s", None),
            ("5 s", None),
            ("99999999999999999999s", None),
            ("4294967295h", Some(4_294_967_295 * 3_600_000)),
        ] {
            let expected = milliseconds.map(Duration::from_millis);
            assert_eq!(go_duration(text), expected, "{text}");
        }
    }

    #[test]
    fn a_request_waits_for_half_of_its_timeout() {
        let now = Instant::now();
        for (query, queue, body) in [
            (None, 5_000, 10_000),
            (Some("timeout=4s"), 2_000, 4_000),
            (Some("a=b&timeout=1s"), 500, 1_000),
            (Some("timeout=forever"), 5_000, 10_000),
            (Some("timeout=1h0m0s"), 15_000, 30_000),
        ] {
            let patience = Patience::new(query, now);
            assert_eq!(
                patience.queue - now,
                Duration::from_millis(queue),
                "{query:?}"
            );
            assert_eq!(
                patience.body - now,
                Duration::from_millis(body),
                "{query:?}"
            );
        }
    }

    #[test]
    fn the_limit_of_files_is_raised_no_further_than_needed() {
        let before = raise_files(0);
        assert_eq!(raise_files(before), before);
        assert!(raise_files(u64::MAX) >= before);
    }
}
