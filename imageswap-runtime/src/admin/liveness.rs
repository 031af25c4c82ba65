//! The activities that must continue for a service to count as alive.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The activities that must continue for the service to count as alive. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Liveness {
    activities: Arc<Mutex<Vec<(&'static str, Activity)>>>,
}

/// One activity of [`Liveness`], which is repeated for as long as the service runs.
#[derive(Debug, Clone)]
pub struct Activity {
    limit: Duration,
    begun: Instant,
    /// When it last finished: milliseconds after `begun`.
    finished: Arc<AtomicU64>,
}

impl Liveness {
    /// Without activities; counts as alive.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an activity that must finish at least once per `limit`, starting now.
    pub fn activity(&self, name: &'static str, limit: Duration) -> Activity {
        let activity = Activity {
            limit,
            begun: Instant::now(),
            finished: Arc::default(),
        };
        let mut activities = self
            .activities
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        activities.push((name, activity.clone()));
        activity
    }

    /// The activities that have not finished for too long, one per line; `None` if the service is
    /// alive.
    pub(super) fn failures(&self) -> Option<String> {
        let activities = self
            .activities
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let mut lines = String::new();
        for (name, activity) in activities.iter() {
            let age = activity.age();
            if age > activity.limit {
                let (age, limit) = (age.as_secs(), activity.limit.as_secs());
                // Writing to a string does not fail.
                let _written = writeln!(
                    lines,
                    "[-]{name} last finished {age} s ago, limit {limit} s"
                );
            }
        }
        (!lines.is_empty()).then(|| lines + "livez check failed\n")
    }
}

impl Activity {
    /// Records that the activity has finished once more.
    pub fn finished(&self) {
        let now = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.finished.store(now, Ordering::Relaxed);
    }

    fn age(&self) -> Duration {
        let finished = Duration::from_millis(self.finished.load(Ordering::Relaxed));
        self.begun.elapsed().saturating_sub(finished)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_activity_that_is_not_finished_in_time_is_named() {
        let liveness = Liveness::new();
        assert_eq!(liveness.failures(), None);
        let patient = liveness.activity("walk", Duration::from_hours(1));
        let late = liveness.activity("loop", Duration::ZERO);
        std::thread::sleep(Duration::from_millis(2));
        let failures = liveness.failures().unwrap_or_default();
        let expected = "[-]loop last finished 0 s ago, limit 0 s\nlivez check failed\n";
        assert_eq!(failures, expected);
        let before = late.age();
        late.finished();
        assert!(late.age() < before);
        patient.finished();
        assert!(patient.age() < patient.limit);
    }
}
