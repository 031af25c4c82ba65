//! Requests with a deadline, and pauses between attempts.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::time::Duration;

/// The owner of the written fields.
pub(crate) const FIELD_MANAGER: &str = "imageswap-webhook";

/// An API server that has not answered in this time is down.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RequestError {
    #[error("no answer from the API server after {} s", REQUEST_TIMEOUT.as_secs())]
    Timeout,
    #[error("{}", message(.0))]
    Refused(#[from] kube::Error),
}

/// Growing pauses, which differ between replicas.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    attempts: u32,
}

/// Awaits an answer, up to a deadline.
pub(crate) async fn request<T>(
    answer: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, RequestError> {
    let answer = tokio::time::timeout(REQUEST_TIMEOUT, answer).await;
    Ok(answer.map_err(|_elapsed| RequestError::Timeout)??)
}

/// The status code of a refusal by the API server.
pub(crate) fn status_code(error: &RequestError) -> Option<u16> {
    match error {
        RequestError::Refused(kube::Error::Api(status)) => Some(status.code),
        _ => None,
    }
}

impl Backoff {
    /// The longest pause, plus up to a quarter.
    pub(crate) const LONGEST: Duration = Duration::from_secs(30);
    const SHORTEST: Duration = Duration::from_millis(100);

    pub(crate) fn next(&mut self) -> Duration {
        let pause = Self::SHORTEST * 2_u32.saturating_pow(self.attempts.min(16));
        self.attempts += 1;
        let pause = pause.min(Self::LONGEST);
        // Hashers are seeded at random, which is enough for replicas to differ.
        let quarters = RandomState::new().hash_one(self.attempts) % 256;
        pause + pause * u32::try_from(quarters).unwrap_or_default() / 1024
    }

    pub(crate) fn reset(&mut self) {
        self.attempts = 0;
    }
}

fn message(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_end() {
        let mut backoff = Backoff::default();
        let pauses: Vec<_> = (0..40).map(|_| backoff.next()).collect();
        assert!(pauses[0] >= Backoff::SHORTEST && pauses[0] <= Backoff::SHORTEST * 5 / 4);
        assert!(pauses[3] >= Backoff::SHORTEST * 8);
        let last = pauses[39];
        assert!(last >= Backoff::LONGEST && last <= Backoff::LONGEST * 5 / 4);
        backoff.reset();
        assert!(backoff.next() <= Backoff::SHORTEST * 5 / 4);
    }
}
