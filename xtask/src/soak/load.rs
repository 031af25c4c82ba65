//! Creates Pods at the given rate, and records the outcome of each.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::{Api, Client};
use serde_json::json;
use tokio::sync::Semaphore;
use tokio::time::MissedTickBehavior;

/// The namespace of the Pods.
pub(super) const NAMESPACE: &str = "soak";
/// Concurrent requests: as many as an API server of this size accepts.
const AT_A_TIME: usize = 48;
/// Pods are deleted in batches, so that etcd stays small.
const SWEEP: Duration = Duration::from_secs(3);
/// How many messages of a kind are shown.
const SHOWN: usize = 3;

/// The outcomes so far.
pub(super) struct Load {
    registries: [&'static str; 2],
    /// Whether images from the second registry are right, too.
    either: AtomicBool,
    away: AtomicBool,
    /// Whether the API server was killed: open requests stay unanswered, some until they time out.
    killed: AtomicBool,
    ended: AtomicBool,
    made: AtomicU64,
    second: AtomicU64,
    outcomes: Mutex<Outcomes>,
}

#[derive(Default)]
struct Outcomes {
    /// Time of each creation, in microseconds.
    times: Vec<u64>,
    /// Failures by kind: how many, and the first messages.
    failures: BTreeMap<Kind, (u64, Vec<String>)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    /// The API server could not call the webhook.
    Webhook,
    /// The Pod has another image than the policy says.
    Unswapped,
    /// The API server failed otherwise, although it was not killed.
    Server,
    /// The API server was down because it was killed.
    Away,
}

impl Load {
    pub(super) fn new(registries: [&'static str; 2]) -> Self {
        Self {
            registries,
            either: AtomicBool::new(false),
            away: AtomicBool::new(false),
            killed: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            made: AtomicU64::new(0),
            second: AtomicU64::new(0),
            outcomes: Mutex::default(),
        }
    }

    /// From now on images from the second registry are right, too.
    pub(super) fn expect_either(&self) {
        self.either.store(true, Ordering::Relaxed);
    }

    /// Says whether the API server is down on purpose. Failures until a second afterwards count as
    /// caused by that.
    pub(super) fn server_away(&self, away: bool) {
        if away {
            self.killed.store(true, Ordering::Relaxed);
        } else {
            std::thread::sleep(Duration::from_secs(1));
        }
        self.away.store(away, Ordering::Relaxed);
    }

    /// Waits for the first Pod that is swapped: a new configuration needs a second or two to become
    /// active.
    pub(super) async fn until_swapped(&self, client: &Client, registry: &str) -> Result<()> {
        let pods = Api::<Pod>::namespaced(client.clone(), NAMESPACE);
        let params = PostParams {
            dry_run: true,
            ..PostParams::default()
        };
        let mut last = String::new();
        for _ in 0..300 {
            match pods.create(&params, &pod(0)).await {
                Ok(made) if image(&made).starts_with(registry) => return Ok(()),
                Ok(made) => image(&made).clone_into(&mut last),
                Err(error) => last = error.to_string(),
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        bail!("no Pod was swapped in 30 s: {last}")
    }

    /// Ends [`run`](Self::run), once its last Pods are made.
    pub(super) fn end(&self) {
        self.ended.store(true, Ordering::Relaxed);
    }

    /// Creates Pods until the [end](Self::end), at most `rate` a second.
    pub(super) async fn run(self: Arc<Self>, client: Client, rate: u32) {
        let pods = Api::<Pod>::namespaced(client, NAMESPACE);
        let sweeping = tokio::spawn(sweep(pods.clone()));
        let turns = Arc::new(Semaphore::new(AT_A_TIME));
        let mut ticks = tokio::time::interval(Duration::from_secs(1) / rate);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut number = 0;
        while !self.ended.load(Ordering::Relaxed) {
            ticks.tick().await;
            let turn = Arc::clone(&turns).acquire_owned().await;
            number += 1;
            let (load, pods) = (Arc::clone(&self), pods.clone());
            tokio::spawn(async move {
                load.create(&pods, number).await;
                drop(turn);
            });
        }
        let _all = turns
            .acquire_many(u32::try_from(AT_A_TIME).unwrap_or(u32::MAX))
            .await;
        sweeping.abort();
    }

    async fn create(&self, pods: &Api<Pod>, number: u64) {
        let start = Instant::now();
        match pods.create(&PostParams::default(), &pod(number)).await {
            Ok(made) => self.made(&made, start.elapsed()),
            Err(error) => {
                let text = error.to_string();
                let answered = matches!(error, kube::Error::Api(_));
                let killed = self.killed.load(Ordering::Relaxed);
                let kind = if text.contains("failed calling webhook") {
                    Kind::Webhook
                } else if self.away.load(Ordering::Relaxed) || killed && !answered {
                    Kind::Away
                } else {
                    Kind::Server
                };
                self.failed(kind, text);
            }
        }
    }

    fn made(&self, pod: &Pod, took: Duration) {
        self.made.fetch_add(1, Ordering::Relaxed);
        let image = image(pod);
        let [first, second] = self.registries;
        if image.starts_with(second) && self.either.load(Ordering::Relaxed) {
            self.second.fetch_add(1, Ordering::Relaxed);
        } else if !image.starts_with(first) {
            self.failed(Kind::Unswapped, image.to_owned());
        }
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.lock().times.push(micros);
    }

    fn failed(&self, kind: Kind, message: String) {
        let mut outcomes = self.lock();
        let (count, messages) = outcomes.failures.entry(kind).or_default();
        *count += 1;
        if messages.len() < SHOWN {
            messages.push(message);
        }
    }

    /// Prints the figures; returns whether something failed that must not.
    pub(super) fn report(&self, took: Duration) -> bool {
        let mut outcomes = self.lock();
        outcomes.times.sort_unstable();
        let at = |percent: usize| {
            let index = outcomes.times.len() * percent / 100;
            outcomes.times.get(index).copied().unwrap_or_default() / 1000
        };
        let made = self.made.load(Ordering::Relaxed);
        println!(
            "  {made} Pods made, {} a second; {} of them by the second maps file",
            made / took.as_secs().max(1),
            self.second.load(Ordering::Relaxed)
        );
        println!("  a creation took {} ms (p50), {} ms (p99)", at(50), at(99));
        for (kind, what) in [
            (Kind::Webhook, "calls to the webhook failed"),
            (Kind::Unswapped, "Pods came out unswapped"),
            (Kind::Server, "requests failed otherwise"),
            (Kind::Away, "requests failed for the API server was killed"),
        ] {
            let none = (0, Vec::new());
            let (count, messages) = outcomes.failures.get(&kind).unwrap_or(&none);
            println!("  {count} {what}");
            if kind != Kind::Away {
                for message in messages {
                    println!("    {message}");
                }
            }
        }
        let unwanted = [Kind::Webhook, Kind::Unswapped, Kind::Server];
        let second =
            self.either.load(Ordering::Relaxed) && self.second.load(Ordering::Relaxed) == 0;
        made == 0 || second || unwanted.iter().any(|it| outcomes.failures.contains_key(it))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Outcomes> {
        self.outcomes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Deletes the Pods again and again.
async fn sweep(pods: Api<Pod>) {
    loop {
        tokio::time::sleep(SWEEP).await;
        let now = DeleteParams::default().grace_period(0);
        // The next sweep deletes what this one could not.
        drop(pods.delete_collection(&now, &ListParams::default()).await);
    }
}

fn pod(number: u64) -> Pod {
    let pod = json!({
        // Names generated by the API server collide now and then among this many.
        "metadata": {"name": format!("soak-{number}")},
        "spec": {
            "automountServiceAccountToken": false,
            // The node would pull their images.
            "schedulerName": "none",
            "containers": [{"name": "main", "image": format!("nginx:1.{number}")}],
            "initContainers": [{"name": "init", "image": format!("quay.io/team/init:{number}")}],
        },
    });
    serde_json::from_value(pod).expect("it is a Pod")
}

fn image(pod: &Pod) -> &str {
    let container = pod.spec.as_ref().and_then(|it| it.containers.first());
    container
        .and_then(|it| it.image.as_deref())
        .unwrap_or_default()
}
