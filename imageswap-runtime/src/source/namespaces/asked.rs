//! Answers of the API server about single namespaces, for the moment until the watch reports them.
//!
//! Whoever asks about a namespace while somebody else does waits for the same answer, and for a short time nobody asks
//! again. So a flood of Pods in a namespace costs one request, also if the API server does not answer.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, Client};
use tokio::sync::{OnceCell, Semaphore};
use tokio::time::{Instant, timeout_at};

use super::Labels;

/// How long one answer may take. The API server itself waits 5 s for the webhook, as the chart configures it.
const DEADLINE: Duration = Duration::from_secs(2);
/// How long an answer is used. The watch is faster, unless it is broken.
const KEPT: Duration = Duration::from_secs(5);
/// How long nobody asks again after there was no answer, or no such namespace.
const KEPT_WITHOUT: Duration = Duration::from_secs(1);
/// Namespaces that are remembered. Names come from whoever sends requests.
const MAX_NAMES: usize = 1024;
/// Requests at a time.
const MAX_REQUESTS: usize = 8;

/// The answer about one namespace, and since when there is one: its labels, or `None` without any.
type Answer = OnceCell<(Instant, Option<Arc<Labels>>)>;

/// What the API server was asked, and how it answered.
pub(super) struct Asked {
    client: Client,
    answers: Mutex<HashMap<String, Entry>>,
    requests: Semaphore,
}

#[derive(Debug, Clone)]
struct Entry {
    asked: Instant,
    answer: Arc<Answer>,
}

impl Asked {
    pub(super) fn new(client: Client) -> Self {
        Self {
            client,
            answers: Mutex::default(),
            requests: Semaphore::new(MAX_REQUESTS),
        }
    }

    /// The labels that the API server named not long ago.
    pub(super) fn labels(&self, namespace: &str) -> Option<Arc<Labels>> {
        let answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = answers.get(namespace).filter(|it| !it.is_over())?;
        entry.answer.get()?.1.clone()
    }

    /// Asks, or waits for whoever asks already.
    pub(super) async fn ask(&self, namespace: &str) {
        let Some(entry) = self.entry(namespace) else {
            tracing::warn!("too many unknown namespaces at a time; not asked about another");
            return;
        };
        let deadline = Instant::now() + DEADLINE;
        let asking = entry.answer.get_or_init(|| async {
            let labels = self.get(namespace, deadline).await;
            (Instant::now(), labels)
        });
        // Another's answer may come later than this one's patience lasts.
        _ = timeout_at(deadline, asking).await;
    }

    async fn get(&self, namespace: &str, deadline: Instant) -> Option<Arc<Labels>> {
        let asking = async {
            let _turn = self.requests.acquire().await.ok()?;
            let api = Api::<Namespace>::all(self.client.clone());
            let found = api.get_metadata_opt(namespace).await;
            found
                .inspect_err(|error| tracing::warn!(namespace, %error, "cannot get a namespace"))
                .ok()?
        };
        let found = timeout_at(deadline, asking).await;
        let found = found
            .inspect_err(|_elapsed| tracing::warn!(namespace, "no answer about a namespace"))
            .ok()??;
        Some(Arc::new(found.metadata.labels.unwrap_or_default()))
    }

    /// The entry of a namespace, a new one if there is none that can be used; `None` if there are too many.
    fn entry(&self, namespace: &str) -> Option<Entry> {
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = answers.get(namespace).filter(|it| !it.is_over()) {
            return Some(entry.clone());
        }
        if answers.len() >= MAX_NAMES {
            answers.retain(|_, it| !it.is_over());
        }
        if answers.len() >= MAX_NAMES {
            return None;
        }
        let entry = Entry {
            asked: Instant::now(),
            answer: Arc::default(),
        };
        answers.insert(namespace.to_owned(), entry.clone());
        Some(entry)
    }
}

impl Entry {
    fn is_over(&self) -> bool {
        let (since, kept) = match self.answer.get() {
            Some((since, Some(_))) => (*since, KEPT),
            Some((since, None)) => (*since, KEPT_WITHOUT),
            // Somebody asks, or was told to stop while asking.
            None => (self.asked, 2 * DEADLINE),
        };
        since.elapsed() > kept
    }
}

impl std::fmt::Debug for Asked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Asked").finish_non_exhaustive()
    }
}
