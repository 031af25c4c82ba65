//! A simulation: replicas that see old states, stop anywhere and have wrong clocks, with one Secret
//! and one configuration.
//!
//! In any order of events, a served leaf that has not expired verifies with the bundle that the API
//! server uses.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, SystemTime};

use imageswap_runtime::tls::{Certificate, Pair, verify};
use proptest::prelude::*;

use super::{Settings, Step, found, perform, plan};
use crate::certificates::state::State;

const REPLICAS: usize = 3;
/// Largest difference between replicas' clocks and the API server's.
const SKEW: i64 = 5;
/// Seconds after which an API server uses a changed configuration at the latest.
const LAG: u64 = 8;

fn settings() -> Settings {
    let mut settings = Settings {
        names: BTreeSet::from(["web.ns.svc".to_owned()]),
        leaf_lifetime: Duration::from_mins(1),
        ca_lifetime: Duration::ZERO,
        propagation: Duration::from_secs(LAG + SKEW.unsigned_abs()),
    };
    settings.ca_lifetime = settings.shortest_ca_lifetime();
    settings
}

fn start() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(2_000_000_000)
}

#[derive(Debug, Clone, Copy)]
enum Event {
    /// Time passes.
    Time(u64),
    /// The API server starts to use a later configuration, if there is one.
    TakeUp,
    /// A replica reads the Secret.
    Read(usize),
    /// A replica reads the configuration.
    Look(usize),
    /// A replica plans on what it last read.
    Plan(usize),
    /// A replica's planned write arrives.
    Write(usize),
    /// A replica begins to repair the configuration; the version it read will be the condition.
    Begin(usize),
    /// It reads the Secret again for that.
    Fetch(usize),
    /// Its patch arrives.
    Patch(usize),
    /// A replica restarts.
    Restart(usize),
}

struct Versioned<T> {
    version: usize,
    value: T,
}

struct World {
    now: SystemTime,
    settings: Settings,
    secret: Versioned<State>,
    /// Every bundle that the configuration ever held, with its time.
    bundles: Vec<(SystemTime, String)>,
    /// The one that the API server uses.
    in_use: usize,
    replicas: [Replica; REPLICAS],
    rotations: usize,
    verified: HashMap<(Vec<u8>, String), bool>,
}

struct Replica {
    ahead: i64,
    view: Versioned<State>,
    /// The served pair; may differ from the planned one.
    served: Pair,
    published: Option<(String, SystemTime)>,
    write: Option<Versioned<State>>,
    repair: Option<Versioned<Option<String>>>,
}

impl World {
    fn new(clocks: [i64; REPLICAS]) -> Self {
        let settings = settings();
        let state = found(start(), &settings).unwrap();
        Self {
            now: start(),
            bundles: vec![(start(), state.bundle())],
            in_use: 0,
            replicas: clocks.map(|ahead| Replica::start(ahead, &state, 0)),
            secret: Versioned {
                version: 0,
                value: state,
            },
            settings,
            rotations: 0,
            verified: HashMap::new(),
        }
    }

    fn apply(&mut self, event: Event) {
        let (secret, now) = (&mut self.secret, self.now);
        match event {
            Event::Time(seconds) => {
                self.now += Duration::from_secs(seconds);
                let due = self.now - Duration::from_secs(LAG);
                let due = self.bundles.iter().rposition(|(since, _)| *since <= due);
                self.in_use = self.in_use.max(due.unwrap_or(0));
            }
            Event::TakeUp => self.in_use = (self.in_use + 1).min(self.bundles.len() - 1),
            Event::Read(i) => self.replicas[i].read(secret),
            Event::Look(i) => {
                let replica = &mut self.replicas[i];
                let (_, held) = &self.bundles[self.bundles.len() - 1];
                let wanted = replica.view.value.bundle();
                if *held != wanted {
                    replica.published = None;
                } else if replica.published.as_ref().is_none_or(|(b, _)| *b != wanted) {
                    replica.published = Some((wanted, now));
                }
            }
            Event::Plan(i) => {
                let replica = &mut self.replicas[i];
                let clock = replica.clock(now);
                let view = &replica.view;
                let published = replica
                    .published
                    .as_ref()
                    .filter(|(bundle, _)| *bundle == view.value.bundle())
                    .map(|(_, since)| now.duration_since(*since).unwrap());
                let step = plan(&view.value, published, clock, &self.settings);
                replica.write = (!matches!(step, Step::Rest(_))).then(|| Versioned {
                    version: view.version,
                    value: perform(step, &view.value, clock, &self.settings).unwrap(),
                });
            }
            Event::Write(i) => {
                let replica = &mut self.replicas[i];
                let written = replica.write.take();
                if let Some(written) = written.filter(|w| w.version == secret.version) {
                    let signing = written.value.signing.certificate();
                    if signing != secret.value.signing.certificate() {
                        self.rotations += 1;
                    }
                    secret.version += 1;
                    secret.value = written.value;
                    replica.read(secret);
                }
            }
            Event::Begin(i) => {
                self.replicas[i].repair = Some(Versioned {
                    version: self.bundles.len(),
                    value: None,
                });
            }
            Event::Fetch(i) => {
                if let Some(repair) = &mut self.replicas[i].repair {
                    repair.value = Some(secret.value.bundle());
                }
            }
            Event::Patch(i) => {
                let repair = self.replicas[i].repair.take();
                if let Some(Versioned {
                    version,
                    value: Some(bundle),
                }) = repair
                    && version == self.bundles.len()
                    && bundle != self.bundles[version - 1].1
                {
                    self.bundles.push((now, bundle));
                }
            }
            Event::Restart(i) => {
                let ahead = self.replicas[i].ahead;
                self.replicas[i] = Replica::start(ahead, &secret.value, secret.version);
            }
        }
    }

    fn check(&mut self) -> Result<(), TestCaseError> {
        let bundle = &self.bundles[self.in_use].1;
        for (i, replica) in self.replicas.iter().enumerate() {
            let leaf = &replica.served;
            if leaf.not_after().unwrap() <= self.now {
                continue;
            }
            let key = (leaf.chain_pem().to_owned(), bundle.clone());
            let verifies = *self.verified.entry(key).or_insert_with(|| {
                let roots = Certificate::all_from_pem(bundle.as_bytes()).unwrap();
                let at = leaf.certificate().unwrap().validity().not_before;
                verify(&roots, leaf, &self.settings.names, at).is_ok()
            });
            prop_assert!(verifies, "replica {i} serves what clients refuse");
        }
        prop_assert!(self.secret.value.trusted().count() <= 2);
        Ok(())
    }
}

impl Replica {
    fn start(ahead: i64, state: &State, version: usize) -> Self {
        Self {
            ahead,
            view: Versioned {
                version,
                value: state.clone(),
            },
            served: state.leaf.clone().unwrap(),
            published: None,
            write: None,
            repair: None,
        }
    }

    fn read(&mut self, secret: &Versioned<State>) {
        self.served = secret.value.leaf.clone().unwrap();
        self.view.version = secret.version;
        self.view.value = secret.value.clone();
    }

    fn clock(&self, now: SystemTime) -> SystemTime {
        let skew = Duration::from_secs(self.ahead.unsigned_abs());
        if self.ahead < 0 {
            now - skew
        } else {
            now + skew
        }
    }
}

fn event() -> impl Strategy<Value = Event> {
    let replica = 0..REPLICAS;
    prop_oneof![
        6 => (0_u64..8).prop_map(Event::Time),
        1 => Just(Event::TakeUp),
        2 => replica.clone().prop_map(Event::Read),
        3 => replica.clone().prop_map(Event::Look),
        3 => replica.clone().prop_map(Event::Plan),
        3 => replica.clone().prop_map(Event::Write),
        2 => replica.clone().prop_map(Event::Begin),
        2 => replica.clone().prop_map(Event::Fetch),
        2 => replica.clone().prop_map(Event::Patch),
        1 => replica.prop_map(Event::Restart),
    ]
}

/// One replica that works all the time.
fn diligent(i: usize) -> [Event; 9] {
    [
        Event::Time(1),
        Event::Read(i),
        Event::Begin(i),
        Event::Fetch(i),
        Event::Patch(i),
        Event::Look(i),
        Event::Plan(i),
        Event::Write(i),
        Event::TakeUp,
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_served_verifies_in_any_order_of_events(
        clocks in prop::array::uniform3(-SKEW..=SKEW),
        events in prop::collection::vec(event(), 100..1200),
    ) {
        let mut world = World::new(clocks);
        for event in events {
            world.apply(event);
            // If no replica worked for a third of an authority's life, nothing is left that could
            // verify.
            let signing = world.secret.value.signing.certificate().validity();
            if signing.not_after <= world.now + Duration::from_secs(SKEW.unsigned_abs()) {
                break;
            }
            world.check()?;
        }
    }

    #[test]
    fn one_replica_that_works_rotates_while_others_lag(
        clocks in prop::array::uniform3(-SKEW..=SKEW),
        disturbances in prop::collection::vec(event(), 700),
    ) {
        let mut world = World::new(clocks);
        for disturbance in disturbances {
            // The last replica may do anything, including nothing for a long time.
            if !matches!(disturbance, Event::Restart(0 | 1) | Event::Time(_)) {
                world.apply(disturbance);
                world.check()?;
            }
            for event in diligent(0) {
                world.apply(event);
                world.check()?;
            }
        }
        let served = world.secret.value.leaf.as_ref().unwrap();
        prop_assert!(served.not_after().unwrap() > world.now);
        // 700 seconds, and an authority lasts 258.
        prop_assert!(world.rotations >= 3, "{} rotations", world.rotations);
    }
}
