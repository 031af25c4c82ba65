//! Shares of the webhook's capacity: memory for bodies and answers, and concurrent reviews.
//!
//! There are two: one for clients that proved something, and one for all others. So the others
//! cannot take capacity that an API server needs.

use std::sync::Arc;

use crate::metrics::Webhook;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};
use tokio::time::{Instant, timeout_at};

use crate::limits::{Limits, MEDIUM_BODY};

/// The total for clients of one kind.
#[derive(Debug)]
pub(super) struct Share {
    in_flight: Semaphore,
    heavy: Arc<Semaphore>,
    policies: Arc<Semaphore>,
    /// Bytes of bodies up to [`MEDIUM_BODY`], and of answers.
    medium: Arc<Semaphore>,
    /// Bytes of larger bodies.
    large: Arc<Semaphore>,
}

/// Bytes that a request holds; dropping it returns them.
#[derive(Debug, Default)]
pub(super) struct Held {
    permits: Vec<OwnedSemaphorePermit>,
    bytes: usize,
}

impl Held {
    pub(super) fn is_empty(&self) -> bool {
        self.permits.is_empty()
    }
}

impl Share {
    pub(super) fn new(limits: &Limits) -> Self {
        let bytes = limits.bodies.min(Semaphore::MAX_PERMITS);
        Self {
            in_flight: Semaphore::new(limits.max_in_flight),
            heavy: Arc::new(Semaphore::new(limits.max_heavy)),
            // One policy is compiled at a time, which takes longer than any review.
            policies: Arc::new(Semaphore::new(1)),
            medium: Arc::new(Semaphore::new(bytes)),
            large: Arc::new(Semaphore::new(bytes)),
        }
    }

    /// Waits for the memory of a body; `None` if that takes until `until`.
    pub(super) async fn body(&self, bytes: usize, until: Instant) -> Option<Held> {
        let pool = if bytes > MEDIUM_BODY {
            &self.large
        } else {
            &self.medium
        };
        let permits = u32::try_from(bytes).ok()?;
        let waiting = timeout_at(until, Arc::clone(pool).acquire_many_owned(permits));
        let permit = waiting.await.ok()?.ok()?;
        Some(Held {
            permits: vec![permit],
            bytes,
        })
    }

    /// Reserves the memory of an answer, beyond what its request holds; `false` if it is not
    /// available now.
    pub(super) fn answer(&self, held: &mut Held, bytes: usize) -> bool {
        let Some(more) = bytes.checked_sub(held.bytes).filter(|more| *more > 0) else {
            return true;
        };
        let permits = u32::try_from(more).unwrap_or(u32::MAX);
        let Ok(permit) = Arc::clone(&self.medium).try_acquire_many_owned(permits) else {
            return false;
        };
        held.permits.push(permit);
        held.bytes = bytes;
        true
    }

    /// Waits for a place among the reviews being answered; `None` if that takes until `until`. The
    /// queue is no longer than the number of connections, because each has one request at a time.
    pub(super) async fn turn(&self, until: Instant) -> Option<SemaphorePermit<'_>> {
        if let Ok(turn) = self.in_flight.try_acquire() {
            return Some(turn);
        }
        let waiting = timeout_at(until, self.in_flight.acquire());
        waiting.await.ok()?.ok()
    }

    /// Waits for a place among the requests that are answered on their own threads; `None` if that
    /// takes until `until`. Policies have their own queue.
    pub(super) async fn heavy_turn(
        &self,
        webhook: Webhook,
        until: Instant,
    ) -> Option<OwnedSemaphorePermit> {
        let queue = match webhook {
            Webhook::Policy => &self.policies,
            Webhook::Mutate | Webhook::Validate => &self.heavy,
        };
        let waiting = timeout_at(until, Arc::clone(queue).acquire_owned());
        waiting.await.ok()?.ok()
    }
}
