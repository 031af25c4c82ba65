//! The attacks, and how their clients continue until time is up.

use std::net::Ipv4Addr;
use std::time::Duration;

use bytes::Bytes;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::time::{sleep, timeout};

use super::body::Content;
use super::client::{Problem, Target, connect};
use super::request;
use super::review::review;
use super::tls;
use crate::error::{Error, Result};

/// Pause before reconnecting after the server has closed.
const PAUSE: Duration = Duration::from_millis(500);
/// Pause between two bytes of a slow sender.
const SLOW: Duration = Duration::from_secs(1);
/// How long impatient clients wait for an answer before they hang up and ask again.
const IMPATIENT: Duration = Duration::from_millis(500);
/// How long patient clients wait.
const PATIENT: Duration = Duration::from_secs(30);
/// Pause between two reviews of a client that only wants to look proven.
const SELDOM: Duration = Duration::from_secs(20);
/// Bytes of a review of a usual Pod.
const USUAL: usize = 3200;
/// Number of addresses of attackers that come from many.
const ADDRESSES: usize = 250;

/// File descriptors beside those of connections.
const OTHER_FILES: u64 = 100;

/// A way to attack a webhook.
#[derive(Debug, Clone, Copy)]
pub struct Attack {
    /// Its name on the command line.
    pub name: &'static str,
    /// A description for people.
    pub what: &'static str,
    /// Number of clients.
    pub clients: usize,
    kind: Kind,
    from: From,
}

/// Where the attackers come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum From {
    /// The address that the API server has, too.
    Same,
    /// Many addresses.
    Many,
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    AdminSilent,
    AdminHeads,
    AdminUnread,
    AdminScrapes,
    Idle,
    /// Good reviews, so rare that they cost nothing, and so frequent that the connection counts as
    /// proven.
    Proven,
    HalfHandshakes,
    Handshakes,
    Heads,
    HeadsAlone,
    SlowBodies,
    AlmostAll(usize),
    HundredMegabytes,
    TinyChunks,
    LargeHeads,
    Broken,
    Pipelined,
    UnreadAnswers(Content),
    HelloByBytes,
    RequestByBytes,
    Noise,
    NewKeys,
    Renegotiation,
    /// Whole reviews; every second client hangs up soon.
    Reviews(Content),
}

/// All attacks.
pub const ATTACKS: &[Attack] = &[
    of(
        "admin-silent-64",
        "silent admin connections",
        64,
        Kind::AdminSilent,
    ),
    of(
        "admin-silent-2000",
        "silent admin connections",
        2000,
        Kind::AdminSilent,
    ),
    of(
        "admin-heads",
        "admin heads, a byte a second",
        2000,
        Kind::AdminHeads,
    ),
    of(
        "admin-unread",
        "admin readers that never read",
        200,
        Kind::AdminUnread,
    ),
    of(
        "admin-scrapes",
        "scrapes without a pause",
        64,
        Kind::AdminScrapes,
    ),
    of("idle", "idle connections", 2000, Kind::Idle),
    of("proven", "a good review in 20 s", 2000, Kind::Proven),
    Attack {
        from: From::Many,
        ..of(
            "proven-many",
            "the same from 250 addresses",
            2000,
            Kind::Proven,
        )
    },
    of("half", "half handshakes", 2000, Kind::HalfHandshakes),
    of(
        "handshakes",
        "handshakes and nothing else",
        50,
        Kind::Handshakes,
    ),
    of("heads-slow", "heads, a byte a second", 500, Kind::Heads),
    of("heads-1100", "heads without a body", 1100, Kind::HeadsAlone),
    of("heads-5000", "heads without a body", 5000, Kind::HeadsAlone),
    Attack {
        from: From::Many,
        ..of(
            "heads-5000-many",
            "the same from 250 addresses",
            5000,
            Kind::HeadsAlone,
        )
    },
    of(
        "bodies-slow",
        "bodies, a byte a second",
        1100,
        Kind::SlowBodies,
    ),
    of(
        "bodies-almost",
        "bodies of 32 KiB but for a byte",
        2000,
        Kind::AlmostAll(32 << 10),
    ),
    of(
        "bodies-almost-8m",
        "bodies of 8 MiB but for a byte",
        10,
        Kind::AlmostAll(8 << 20),
    ),
    of("bodies-100m", "bodies of 100 MB", 8, Kind::HundredMegabytes),
    of("chunks", "chunks of one byte", 50, Kind::TinyChunks),
    of(
        "heads-large",
        "large heads for what there is not",
        50,
        Kind::LargeHeads,
    ),
    of("broken", "malformed HTTP", 50, Kind::Broken),
    of("pipelined", "pipelined reviews", 20, Kind::Pipelined),
    of(
        "unread",
        "large answers, unread",
        50,
        Kind::UnreadAnswers(Content::Containers(2000)),
    ),
    of(
        "unread-8m",
        "answers to 8 MiB, unread",
        20,
        Kind::UnreadAnswers(IMAGES),
    ),
    of(
        "tls-hello",
        "a ClientHello in records of a byte",
        50,
        Kind::HelloByBytes,
    ),
    of(
        "tls-bytes",
        "reviews in records of a byte",
        50,
        Kind::RequestByBytes,
    ),
    of("tls-noise", "records that fit nothing", 50, Kind::Noise),
    of("tls-keys", "new keys again and again", 20, Kind::NewKeys),
    of("tls-renegotiation", "renegotiation", 8, Kind::Renegotiation),
    of(
        "containers",
        "8,000 containers, old and new",
        10,
        Kind::Reviews(Content::Containers(8000)),
    ),
    of(
        "containers-named",
        "the same with names",
        10,
        Kind::Reviews(Content::NamedContainers(8000)),
    ),
    of(
        "commas",
        "8 MiB of {},",
        10,
        Kind::Reviews(Content::Filled("{}")),
    ),
    of("images", "8 MiB of images", 10, Kind::Reviews(IMAGES)),
    of(
        "labels",
        "8 MiB of labels",
        10,
        Kind::Reviews(Content::Labels),
    ),
    of(
        "nested",
        "8 MiB of lists in lists",
        10,
        Kind::Reviews(Content::Nested),
    ),
    of(
        "duplicates",
        "8 MiB of the same key",
        10,
        Kind::Reviews(Content::Duplicates),
    ),
    of(
        "escapes",
        "8 MiB of escapes in a name",
        10,
        Kind::Reviews(Content::Escapes),
    ),
    of(
        "names",
        "reviews with long names",
        64,
        Kind::Reviews(Content::LongNames),
    ),
    of(
        "regexes-400",
        "policies of 400 regexes",
        4,
        Kind::Reviews(Content::Regexes(400)),
    ),
    of(
        "regexes-4000",
        "policies of 4,000 regexes",
        4,
        Kind::Reviews(Content::Regexes(4000)),
    ),
    of(
        "globs",
        "policies of 20,000 wildcards",
        4,
        Kind::Reviews(Content::Globs(20_000)),
    ),
    of(
        "chain",
        "policies of 20,000 linked rules",
        4,
        Kind::Reviews(Content::Chain(20_000)),
    ),
];

const IMAGES: Content = Content::Filled(r#"{"image":"a"}"#);

const fn of(name: &'static str, what: &'static str, clients: usize, kind: Kind) -> Attack {
    Attack {
        name,
        what,
        clients,
        kind,
        from: From::Same,
    }
}

impl Attack {
    /// The attack of this name.
    pub fn named(name: &str) -> Option<&'static Self> {
        ATTACKS.iter().find(|attack| attack.name == name)
    }

    /// Runs the attack on `target` for `duration`, on threads of its own.
    pub fn run(&self, target: &Target, duration: Duration) -> Result<()> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .map_err(Error::io("an async runtime"))?;
        raise_files(self.clients as u64 + OTHER_FILES)?;
        let body = match self.kind {
            Kind::Reviews(content) | Kind::UnreadAnswers(content) => content.body(),
            _ => Bytes::new(),
        };
        for at in 0..self.clients {
            let (attack, target, body) = (*self, target.clone(), body.clone());
            runtime.spawn(async move {
                loop {
                    // These clients expect to be refused or closed.
                    attack.once(&target, at, &body).await.ok();
                    sleep(attack.pause()).await;
                }
            });
        }
        runtime.block_on(async { sleep(duration).await });
        runtime.shutdown_timeout(Duration::from_secs(1));
        Ok(())
    }

    /// Clients that make each connection expensive reconnect at once.
    fn pause(&self) -> Duration {
        match self.kind {
            Kind::Handshakes | Kind::Broken | Kind::Reviews(_) => Duration::from_millis(5),
            _ => PAUSE,
        }
    }

    fn source(&self, at: usize) -> Ipv4Addr {
        match self.from {
            From::Same => Ipv4Addr::LOCALHOST,
            From::Many => {
                let last = u8::try_from(at % ADDRESSES + 1).expect("there are fewer than 256");
                Ipv4Addr::new(127, 1, 1, last)
            }
        }
    }

    /// One client's actions, until the server closes.
    async fn once(
        &self,
        target: &Target,
        at: usize,
        body: &Bytes,
    ) -> std::result::Result<(), Problem> {
        let source = self.source(at);
        let admin = connect(target.admin, source, None);
        let tls = target.tls(source);
        match self.kind {
            Kind::AdminSilent => request::wait(&mut admin.await?).await,
            Kind::AdminHeads => {
                request::dribble(&mut admin.await?, "GET /metrics HTTP/1.1\r\nX: ", SLOW).await
            }
            Kind::AdminUnread => request::unread_metrics(target, source).await,
            Kind::AdminScrapes => request::scrapes(target, source).await,
            Kind::Idle => request::wait(&mut tls.await?).await,
            Kind::Proven => {
                let body = Bytes::from(review(USUAL).to_string());
                let mut connection = target.open(source).await?;
                loop {
                    let answer = connection.post("/mutate?timeout=30s", body.clone());
                    timeout(PATIENT, answer).await??;
                    sleep(SELDOM).await;
                }
            }
            Kind::HalfHandshakes => tls::half_handshake(target, source).await,
            Kind::Handshakes => tls::handshake_alone(target, source).await,
            Kind::Heads => request::dribble(&mut tls.await?, "POST / HTTP/1.1\r\nX: ", SLOW).await,
            Kind::HeadsAlone => request::head_alone(&mut tls.await?).await,
            Kind::SlowBodies => request::slow_body(&mut tls.await?, SLOW).await,
            Kind::AlmostAll(bytes) => request::almost_all(&mut tls.await?, bytes).await,
            Kind::HundredMegabytes => request::hundred_megabytes(&mut tls.await?).await,
            Kind::TinyChunks => request::tiny_chunks(&mut tls.await?).await,
            Kind::LargeHeads => request::large_heads(&mut tls.await?).await,
            Kind::Broken => request::broken(&mut tls.await?, at).await,
            Kind::Pipelined => request::pipelined(tls.await?).await,
            Kind::UnreadAnswers(_) => request::unread_answers(target, source, body).await,
            Kind::HelloByBytes => tls::hello_by_bytes(target, source).await,
            Kind::RequestByBytes => tls::request_by_bytes(tls.await?).await,
            Kind::Noise => tls::noise(target, source, at).await,
            Kind::NewKeys => tls::new_keys(tls.await?).await,
            Kind::Renegotiation => tls::renegotiation(target).await,
            Kind::Reviews(content) => {
                let patience = if at.is_multiple_of(4) {
                    IMPATIENT
                } else {
                    PATIENT
                };
                let mut connection = target.open(source).await?;
                loop {
                    let answer = connection.post(content.path(at), body.clone());
                    timeout(patience, answer).await??;
                }
            }
        }
    }
}

/// Lets this process open this many files, if its hard limit allows it.
fn raise_files(wanted: u64) -> Result<()> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current.is_none_or(|it| it >= wanted) {
        return Ok(());
    }
    let raised = Rlimit {
        current: Some(wanted),
        maximum,
    };
    setrlimit(Resource::Nofile, raised)
        .map_err(|errno| Error::io(format!("a limit of {wanted} open files"))(errno.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_attack_has_a_name_of_its_own() {
        for attack in ATTACKS {
            let same = ATTACKS.iter().filter(|other| other.name == attack.name);
            assert_eq!(same.count(), 1, "{}", attack.name);
            assert!(Attack::named(attack.name).is_some());
        }
    }
}
