//! Attacks on the webhook under its container's memory limit: a short form of `cargo xtask bench hostile`, and what can be
//! sent through an API server. No time is measured here.
#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests fail by panicking, as tests do"
)]

mod api_server;

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use imageswap_lab::hostile::{Attack, Attackers, Container, Trial};
use imageswap_lab::{is_root, skip};

/// Of each kind of attack the one that took the most from others. The bench has all of them.
const ATTACKS: [&str; 12] = [
    "admin-silent-2000",
    "admin-unread",
    "proven",
    "proven-many",
    "half",
    "heads-1100",
    "bodies-almost",
    "unread",
    "tls-noise",
    "containers",
    "images",
    "regexes-400",
];

/// The webhook of a test is built without optimisation, and other tests may run beside it.
const PATIENCE: Duration = Duration::from_secs(30);

const DEPLOYMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/install.yaml");

fn program() -> PathBuf {
    env!("CARGO_BIN_EXE_imageswap-webhook").into()
}

fn container() -> Container {
    Container::read(Path::new(DEPLOYMENT)).unwrap()
}

/// Attackers of two tests would share the processors.
fn one_at_a_time() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

#[test]
fn the_api_server_is_answered_under_attack() {
    if !is_root() {
        skip(
            "the_api_server_is_answered_under_attack",
            "a memory limit needs root",
        );
        return;
    }
    let _one = one_at_a_time();
    let trial = Trial {
        program: program(),
        container: container(),
        attackers: Attackers::Thread,
        timeout: PATIENCE,
        calm: Duration::ZERO,
        attack: Duration::from_secs(1),
    };
    let mut broken = Vec::new();
    for name in ATTACKS {
        let outcome = trial.run(Attack::named(name).unwrap()).unwrap();
        for (what, reviews) in [("kept", &outcome.reviews), ("new", &outcome.fresh)] {
            if reviews.failures() > 0 || reviews.sent == 0 {
                let (sent, failed) = (reviews.sent, &reviews.failed);
                broken.push(format!("{name}: of {sent} reviews ({what}) {failed:?}"));
            }
        }
        let memory = outcome.memory;
        if memory.limit_reached > 0 || memory.killed > 0 {
            broken.push(format!("{name}: {memory:?}"));
        }
        if let Some(ended) = outcome.ended {
            broken.push(format!("{name}: the webhook ended: {ended}"));
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}
