//! The limits of the webhook, and what each protects.
//!
//! Everyone who can reach the port can open connections and send bodies, because an API server
//! presents no certificate by default. The limits bound what one client can take from the others:
//! connections ([`Limits::max_connections`]), time (a head, a body, an answer that is not read, an
//! idle connection), memory ([`Limits::bodies`]), and concurrent reviews
//! ([`Limits::max_in_flight`], [`Limits::max_heavy`]).

mod memory;

use std::num::NonZeroU32;
use std::time::Duration;

use imageswap_runtime::connections::ConnectionLimits;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::time::Instant;

/// A review holds an object twice, and by default the API server stores none over 1.5 MiB (etcd's
/// limit).
pub const MAX_BODY: usize = 8 << 20;
/// Bodies up to this size need no share of [`Limits::bodies`]: the number of connections bounds them. Several times a
/// usual review.
pub const SMALL_BODY: usize = 16 << 10;
/// Larger bodies have a separate part of [`Limits::bodies`], so that they do not delay ordinary
/// ones.
pub const MEDIUM_BODY: usize = 256 << 10;
/// Largest head of a request, in bytes; the API server's has 500.
pub const MAX_HEAD: usize = 16 << 10;
/// The longest time that a review waits for registries, for all its images together.
pub const REGISTRY_WAIT: Duration = Duration::from_secs(1);
/// Images of one review that registries are asked about; others are swapped as usual.
pub const MAX_REGISTRY_QUESTIONS: usize = 64;
/// The API server's default timeout for webhooks.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest timeout that a webhook configuration can set.
const MAX_TIMEOUT: Duration = Duration::from_secs(30);
/// File descriptors besides those of connections: listeners, the admin port, the runtime, files, and our own clients.
const OTHER_FILES: u64 = 256;
/// Memory of one connection at most: TLS, buffered HTTP data, and a small body.
const CONNECTION_MEMORY: usize = 56 << 10;
/// More connections do not help: an API server keeps a handful to each webhook.
const MOST_CONNECTIONS: usize = 1024;
/// If clients are asked for a certificate, those without one share this part of the connections.
const STRANGERS: usize = 8;

/// Limits that an operator may want to change; flatten it into a command's arguments.
#[derive(Debug, Clone, Copy, clap::Args)]
#[command(next_help_heading = "Limits")]
pub struct LimitArgs {
    /// Memory that the process may take, in MiB [default: the limit of its cgroup, or 512]
    #[arg(long, value_name = "MIB", env = "IMAGESWAP_MEMORY_LIMIT")]
    pub memory_limit: Option<NonZeroU32>,
    /// Concurrent connections; when full, a new one replaces one that has proven less [default:
    /// what a quarter of the memory holds, at most 1024]
    #[arg(long, value_name = "N")]
    pub max_connections: Option<NonZeroU32>,
    /// Concurrent connections from one address [default: half of all]
    #[arg(long, value_name = "N")]
    pub max_connections_per_peer: Option<NonZeroU32>,
    /// Concurrent reviews; others wait for half of their timeout, and then get 429
    #[arg(long, value_name = "N", default_value = "64")]
    pub max_in_flight: NonZeroU32,
}

/// The limits of the webhook.
///
/// Reviews, and the memory of their bodies and answers, exist twice: once for clients that proved
/// something ([`is_preferred`](imageswap_runtime::connections::Place::is_preferred)), and once for
/// all others.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Open connections. An API server keeps a handful to each webhook.
    pub max_connections: usize,
    /// Open connections from one address. Half of all by default: behind a Service, or a node's
    /// address translation, all API servers may share one address, even with everyone else.
    pub max_per_peer: usize,
    /// Whether clients are asked for a certificate. Those without one then share an eighth of the
    /// connections.
    pub asks_certificates: bool,
    /// Concurrent reviews.
    pub max_in_flight: usize,
    /// Concurrent reviews with large bodies, on threads of their own.
    pub max_heavy: usize,
    /// Bytes of bodies over [`SMALL_BODY`], and of answers, held at the same time. Bodies over
    /// [`MEDIUM_BODY`] have as much again. Also the largest body that is read, up to [`MAX_BODY`].
    pub bodies: usize,
    /// From the first byte of a request's head to its last.
    pub head: Duration,
    /// From the end of a head to the end of its body; less if the caller's timeout is shorter.
    pub body: Duration,
    /// How long a client may take to read an answer.
    pub write: Duration,
    /// How long a connection may be idle. Longer than a Go client keeps idle connections (90 s), so
    /// that the client closes them and no request meets a closing connection.
    pub idle: Duration,
}

/// The deadlines of one request, counted from when its head is read.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// The answer has to be begun by then; later it would come too late, and the caller should ask
    /// another replica.
    pub queue: Instant,
    /// The body has to be complete by then.
    pub body: Instant,
    /// Registries have to answer by then; the review still needs its turn afterwards.
    pub registries: Instant,
}

impl Default for Limits {
    fn default() -> Self {
        Self::of_memory(memory::DEFAULT)
    }
}

impl LimitArgs {
    /// The limits, with as many connections as the process may have files. Raises the soft limit of
    /// files as needed, if the hard limit allows it.
    pub fn load(self) -> Limits {
        let number = |it: NonZeroU32| it.get() as usize;
        let memory = self.memory_limit.map(|it| number(it) << 20);
        let memory = memory.or_else(memory::of_cgroup);
        let defaults = Limits::of_memory(memory.unwrap_or(memory::DEFAULT));
        let wanted = self
            .max_connections
            .map_or(defaults.max_connections, number);
        let files = raise_files(wanted as u64 + OTHER_FILES);
        let possible = files.saturating_sub(OTHER_FILES).max(1);
        let possible = usize::try_from(possible).unwrap_or(usize::MAX);
        if possible < wanted {
            tracing::warn!(
                wanted,
                possible,
                files,
                "fewer connections than asked for: the process may not open more files"
            );
        }
        let max_connections = wanted.min(possible);
        let limits = Limits {
            max_connections,
            max_per_peer: self
                .max_connections_per_peer
                .map_or(max_connections.div_ceil(2), number),
            max_in_flight: number(self.max_in_flight),
            ..defaults
        };
        tracing::info!(
            memory_mib = memory.map(|it| it >> 20),
            connections = limits.max_connections,
            connections_per_peer = limits.max_per_peer,
            largest_body = limits.largest_body(),
            "limits"
        );
        limits
    }
}

impl Limits {
    /// Limits for this much memory. A quarter is for connections and a quarter for bodies and
    /// answers; the rest is for the program, the policies, and reviews that are being read.
    pub fn of_memory(bytes: usize) -> Self {
        let connections = (bytes / 4 / CONNECTION_MEMORY).clamp(16, MOST_CONNECTIONS);
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            max_connections: connections,
            max_per_peer: connections.div_ceil(2),
            asks_certificates: false,
            max_in_flight: 64,
            max_heavy: (cores / 2).max(1),
            // Two kinds of clients, two kinds of bodies.
            bodies: (bytes / 4 / 4).max(2 * MEDIUM_BODY),
            head: Duration::from_secs(5),
            body: Duration::from_secs(5),
            write: Duration::from_secs(10),
            idle: Duration::from_mins(2),
        }
    }

    /// Bytes of the largest body that is read.
    pub fn largest_body(&self) -> usize {
        self.bodies.min(MAX_BODY)
    }

    /// The limits for the table of connections.
    pub(crate) fn connections(&self) -> ConnectionLimits {
        let strangers = self.max_connections.div_ceil(STRANGERS);
        ConnectionLimits {
            connections: self.max_connections,
            per_peer: self.max_per_peer,
            strangers: self.asks_certificates.then_some(strangers),
            answers_prove: true,
            head: self.head,
            // A body may have to wait for memory first; the handler decides when a request has
            // waited for too long.
            body: MAX_TIMEOUT,
            write: self.write,
            idle: self.idle,
        }
    }
}

impl Patience {
    /// For a request whose head is read `now`, and whose body may take `body`. The API server puts
    /// its timeout into the URL, as in `/mutate?timeout=5s`.
    pub fn new(query: Option<&str>, now: Instant, body: Duration) -> Self {
        let timeout = query
            .into_iter()
            .flat_map(|query| query.split('&'))
            .find_map(|pair| go_duration(pair.strip_prefix("timeout=")?))
            .map_or(DEFAULT_TIMEOUT, |timeout| timeout.min(MAX_TIMEOUT));
        Self {
            queue: now + timeout / 2,
            body: now + timeout.min(body),
            registries: now + timeout / 4,
        }
    }
}

/// A duration as Go prints it, of whole hours, minutes, seconds and milliseconds: `5s`, `1m0s`,
/// `500ms`.
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

/// Raises the limit of open files up to `wanted`, and returns the new limit.
fn raise_files(wanted: u64) -> u64 {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    // `None` means unlimited.
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
    fn limits_fit_the_memory() {
        for mebibytes in [16, 64, 128, 512, 1 << 16] {
            let memory = mebibytes << 20;
            let limits = Limits::of_memory(memory);
            assert!(limits.max_connections >= 16 && limits.max_connections <= MOST_CONNECTIONS);
            let connections = limits.max_connections * CONNECTION_MEMORY;
            assert!(
                connections + 4 * limits.bodies <= memory / 2 + (1 << 20),
                "{mebibytes} MiB"
            );
            assert!(limits.largest_body() > MEDIUM_BODY);
        }
        // The chart's memory limit.
        let limits = Limits::of_memory(128 << 20);
        assert_eq!(limits.largest_body(), MAX_BODY);
        assert_eq!(limits.max_connections, 585);
    }

    #[test]
    fn a_request_waits_for_half_of_its_timeout() {
        let now = Instant::now();
        for (query, queue, body) in [
            (None, 5_000, 5_000),
            (Some("timeout=4s"), 2_000, 4_000),
            (Some("a=b&timeout=1s"), 500, 1_000),
            (Some("timeout=forever"), 5_000, 5_000),
            (Some("timeout=1h0m0s"), 15_000, 5_000),
        ] {
            let patience = Patience::new(query, now, Duration::from_secs(5));
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
