//! Limits the time in which the agent's main loop reads the processes of a cgroup: any user can have
//! thousands of them, and the starts of others wait meanwhile.

use std::cell::Cell;
use std::time::{Duration, Instant};

const PERIOD: Duration = Duration::from_secs(1);

/// Of each period.
const MOST: Duration = Duration::from_millis(50);

/// Time left in the current period.
pub(super) struct Budget {
    since: Cell<Instant>,
    spent: Cell<Duration>,
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            since: Cell::new(Instant::now()),
            spent: Cell::default(),
        }
    }
}

impl Budget {
    /// Whether nothing is left of the current period.
    pub(super) fn is_spent(&self) -> bool {
        self.since.get().elapsed() < PERIOD && self.spent.get() >= MOST
    }

    /// What `read` returns; `None`, without a call, if nothing is left.
    pub(super) fn spend<T>(&self, read: impl FnOnce() -> T) -> Option<T> {
        let begun = Instant::now();
        if begun.duration_since(self.since.get()) >= PERIOD {
            self.since.set(begun);
            self.spent.take();
        }
        if self.is_spent() {
            return None;
        }
        let read = read();
        self.spent.set(self.spent.get() + begun.elapsed());
        Some(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_takes_long_is_not_done_again_in_the_same_period() {
        let budget = Budget::default();
        assert_eq!(budget.spend(|| 1), Some(1));
        budget.spend(|| std::thread::sleep(MOST));
        assert_eq!(budget.spend(|| 2), None);
        budget
            .since
            .set(Instant::now().checked_sub(PERIOD).unwrap());
        assert_eq!(budget.spend(|| 3), Some(3));
    }
}
