//! Limits the cost of one source: the number of concurrent calls, and no calls while the source
//! hangs.
//!
//! If a call reaches its deadline, the gate checks the source. If the source does not answer the
//! check either, it hangs: the gate stays closed, and callers get an error at once, until a later
//! check is answered.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit, watch};
use tokio::time::sleep;

/// Concurrent calls of one source: a burst of starts must not become a burst of calls.
const CONCURRENT: usize = 16;

/// Pause before the next check of a hanging source; twice as long after each further check.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(8);

/// The gate in front of one source; clones share it.
#[derive(Clone, Debug)]
pub(super) struct Gate(Arc<State>);

#[derive(Debug)]
struct State {
    permits: Semaphore,
    hangs: watch::Sender<bool>,
    is_checked: AtomicBool,
}

impl Gate {
    /// An open gate.
    pub(super) fn new() -> Self {
        Self(Arc::new(State {
            permits: Semaphore::new(CONCURRENT),
            hangs: watch::Sender::new(false),
            is_checked: AtomicBool::new(false),
        }))
    }

    /// Waits for a turn. `None` if the source hangs, or is found to hang meanwhile.
    pub(super) async fn enter(&self) -> Option<SemaphorePermit<'_>> {
        let mut hangs = self.0.hangs.subscribe();
        tokio::select! {
            biased;
            // Its sender lives as long as this gate.
            _ = hangs.wait_for(|hangs| *hangs) => None,
            permit = self.0.permits.acquire() => permit.ok(),
        }
    }

    /// Checks whether the source hangs, and closes the gate for as long as it does. `answers` makes one call.
    ///
    /// Must be called within a Tokio runtime. A second call during a check changes nothing.
    pub(super) fn check<F>(&self, answers: impl Fn() -> F + Send + 'static)
    where
        F: Future<Output = bool> + Send,
    {
        if self.0.is_checked.swap(true, Ordering::AcqRel) {
            return;
        }
        let state = Arc::clone(&self.0);
        tokio::spawn(async move {
            let mut pause = FIRST_PAUSE;
            while !answers().await {
                state.hangs.send_replace(true);
                sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
            state.hangs.send_replace(false);
            state.is_checked.store(false, Ordering::Release);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn callers_of_a_source_that_hangs_do_not_wait() {
        let gate = Gate::new();
        let mut turns = Vec::new();
        for _ in 0..CONCURRENT {
            turns.push(gate.enter().await.expect("there is a turn"));
        }
        let answers = Arc::new(AtomicBool::new(false));
        let check = {
            let answers = Arc::clone(&answers);
            move || {
                let answers = answers.load(Ordering::Relaxed);
                async move { answers }
            }
        };
        // No turn is left: a caller waits for one, and learns that the source hangs.
        let (waits, ()) = tokio::join!(gate.enter(), async { gate.check(check) });
        assert!(waits.is_none());
        drop(turns);
        assert!(
            gate.enter().await.is_none(),
            "there are turns, but it still hangs"
        );
        answers.store(true, Ordering::Relaxed);
        let mut hangs = gate.0.hangs.subscribe();
        hangs.wait_for(|hangs| !hangs).await.unwrap();
        assert!(gate.enter().await.is_some(), "it answers again");
    }

    #[tokio::test]
    async fn a_source_that_answers_the_check_stays_open() {
        let gate = Gate::new();
        gate.check(|| async { true });
        while gate.0.is_checked.load(Ordering::Acquire) {
            tokio::task::yield_now().await;
        }
        assert!(gate.enter().await.is_some());
    }
}
