//! Answers of the API server about single namespaces, for the moment until the watch reports them.
//!
//! Concurrent callers for the same namespace share one request, and for a short time it is not
//! repeated. So a flood of Pods in a namespace costs one request, even if the API server does not
//! answer.

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
/// How long an answer is used. The watch is usually faster.
const KEPT: Duration = Duration::from_secs(5);
/// Pause after a request without an answer, or for a namespace that does not exist.
const KEPT_WITHOUT: Duration = Duration::from_secs(1);
/// Namespaces that are remembered. Names come from the senders of requests.
const MAX_NAMES: usize = 1024;
/// Concurrent requests.
const MAX_REQUESTS: usize = 8;

/// The answer about one namespace, and its time: its labels, or `None`.
type Answer = OnceCell<(Instant, Option<Arc<Labels>>)>;

/// Requests to the API server, and its answers.
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

    /// The labels that the API server returned recently.
    pub(super) fn labels(&self, namespace: &str) -> Option<Arc<Labels>> {
        let answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = answers.get(namespace).filter(|it| !it.is_over())?;
        entry.answer.get()?.1.clone()
    }

    /// Asks, or waits for a request in progress.
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
        // Another caller's answer may come after this one's deadline.
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

    /// The entry of a namespace, a new one if there is none to reuse; `None` if there are too many.
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
            // A request is in progress, or was cancelled.
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
