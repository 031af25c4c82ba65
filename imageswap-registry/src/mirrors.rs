//! Answers of registries that are kept, so that many Pods with an image cost one question.
//!
//! A question that has begun goes on even if nobody waits for it any more: the next one who asks gets its answer.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::{BoxFuture, Shared, join_all};
use imageswap_policy::Reference;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout, timeout_at};

use crate::Presence;
use crate::client::Client;
use crate::credentials::Credentials;
use crate::problem::Problem;

/// How long an image that is there is not asked about again.
const PRESENT: Duration = Duration::from_mins(10);
/// How long an image that is missing is not asked about again: somebody may be copying it.
const MISSING: Duration = Duration::from_secs(30);
/// Pause after a question without an answer, and for a host that cannot be reached.
const PAUSE: Duration = Duration::from_secs(5);
/// The longest time that a question about an image takes, with all its requests.
const QUESTION: Duration = Duration::from_secs(10);
/// Images whose answers are kept.
const MAX_IMAGES: usize = 4096;
/// Hosts that are known to fail. The policy names the registries, so there are few.
const MAX_HOSTS: usize = 256;
/// Questions at a time, to each host.
const MAX_QUESTIONS: usize = 16;
/// Questions at a time, to all hosts.
const MAX_ALL: usize = 64;

/// Asks registries, and keeps their answers. Clones share them.
#[derive(Debug, Clone)]
pub struct Mirrors {
    shared: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    client: Client,
    images: Mutex<HashMap<String, Entry>>,
    hosts: Mutex<HashMap<String, Host>>,
    turns: Arc<Semaphore>,
}

#[derive(Debug, Clone)]
struct Entry {
    asked: Instant,
    answer: Shared<BoxFuture<'static, Arc<Answer>>>,
}

#[derive(Debug)]
struct Answer {
    presence: Presence,
    until: Instant,
}

#[derive(Debug, Clone)]
struct Host {
    turns: Arc<Semaphore>,
    /// When and why it failed last.
    failed: Option<(Instant, String)>,
}

impl Mirrors {
    /// Asks with `client`.
    pub fn new(client: Client) -> Self {
        Self {
            shared: Arc::new(Inner {
                client,
                images: Mutex::default(),
                hosts: Mutex::default(),
                turns: Arc::new(Semaphore::new(MAX_ALL)),
            }),
        }
    }

    /// Uses these credentials from now on, and forgets the answers that others gave.
    pub fn set_credentials(&self, credentials: Credentials) {
        self.shared.client.set_credentials(credentials);
        lock(&self.shared.images).clear();
        lock(&self.shared.hosts).clear();
    }

    /// The answer about an image, if there is one that still counts.
    pub fn known(&self, image: &str) -> Option<Presence> {
        let images = lock(&self.shared.images);
        let answer = images.get(image)?.answer.peek()?;
        (Instant::now() < answer.until).then(|| answer.presence.clone())
    }

    /// Asks about images whose answers are not known. Returns once all are, or at `until`.
    pub async fn ask(&self, images: impl IntoIterator<Item = String>, until: Instant) {
        let answers = images.into_iter().filter_map(|it| self.answer(it));
        let answers: Vec<_> = answers.collect();
        _ = timeout_at(until, join_all(answers)).await;
    }

    /// The question about an image, begun if it has not been; `None` if there are too many.
    fn answer(&self, image: String) -> Option<Shared<BoxFuture<'static, Arc<Answer>>>> {
        let now = Instant::now();
        let mut images = lock(&self.shared.images);
        if let Some(entry) = images.get(&image).filter(|it| !it.is_over(now)) {
            return Some(entry.answer.clone());
        }
        if images.len() >= MAX_IMAGES {
            images.retain(|_, it| !it.is_over(now));
        }
        if images.len() >= MAX_IMAGES {
            // An answer that is kept for long makes room for one that is needed now.
            let answered = images.iter().filter(|it| it.1.answer.peek().is_some());
            let oldest = answered.min_by_key(|it| it.1.asked)?.0.clone();
            images.remove(&oldest);
        }
        let (shared, name) = (Arc::clone(&self.shared), image.clone());
        let answer = async move { Arc::new(shared.question(&name).await) };
        let answer = answer.boxed().shared();
        let entry = Entry {
            asked: now,
            answer: answer.clone(),
        };
        images.insert(image, entry);
        tokio::spawn(answer.clone());
        Some(answer)
    }
}

impl Inner {
    async fn question(&self, image: &str) -> Answer {
        let result = match timeout(QUESTION, self.ask(image)).await {
            Ok(result) => result,
            Err(_elapsed) => Err(Problem::TimedOut {
                host: Reference::registry_of(image).to_owned(),
                limit: QUESTION,
            }),
        };
        let (presence, kept) = match result {
            Ok(true) => (Presence::Present, PRESENT),
            Ok(false) => (Presence::Missing, MISSING),
            Err(problem) => {
                let problem = problem.to_string();
                tracing::debug!(image, problem, "a registry gave no answer that counts");
                (Presence::Unknown(problem.into()), PAUSE)
            }
        };
        Answer {
            presence,
            until: Instant::now() + kept,
        }
    }

    async fn ask(&self, image: &str) -> Result<bool, Problem> {
        let registry = Reference::registry_of(image);
        let host = self.host(registry).ok_or(Problem::Crowded)?;
        let closed = |_closed| Problem::Crowded;
        let _turn = host.turns.acquire().await.map_err(closed)?;
        let _turn_of_all = self.turns.acquire().await.map_err(closed)?;
        // Others may have found out while this one waited.
        if let Some((when, why)) = self.host(registry).and_then(|it| it.failed)
            && when.elapsed() < PAUSE
        {
            return Err(Problem::Paused {
                host: registry.to_owned(),
                why,
            });
        }
        let result = self.client.has(image).await;
        if let Err(problem) = &result
            && problem.concerns_host()
        {
            tracing::warn!(registry, %problem, "cannot ask whether images are there; swapped as usual");
            if let Some(host) = lock(&self.hosts).get_mut(registry) {
                host.failed = Some((Instant::now(), problem.to_string()));
            }
        }
        result
    }

    fn host(&self, registry: &str) -> Option<Host> {
        let mut hosts = lock(&self.hosts);
        if let Some(host) = hosts.get(registry) {
            return Some(host.clone());
        }
        if hosts.len() >= MAX_HOSTS {
            hosts.retain(|_, it| Arc::strong_count(&it.turns) > 1);
        }
        if hosts.len() >= MAX_HOSTS {
            return None;
        }
        let host = Host {
            turns: Arc::new(Semaphore::new(MAX_QUESTIONS)),
            failed: None,
        };
        hosts.insert(registry.to_owned(), host.clone());
        Some(host)
    }
}

impl Entry {
    fn is_over(&self, now: Instant) -> bool {
        match self.answer.peek() {
            Some(answer) => now >= answer.until,
            None => now.duration_since(self.asked) > 2 * QUESTION,
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
