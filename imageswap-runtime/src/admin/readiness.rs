//! The conditions under which a service may receive traffic.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// The conditions under which the service may receive traffic. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Readiness {
    conditions: Arc<Mutex<Vec<(&'static str, Condition)>>>,
}

/// One named condition of [`Readiness`]; false until it is set.
#[derive(Debug, Clone, Default)]
pub struct Condition {
    holds: Arc<AtomicBool>,
}

impl Readiness {
    /// Without conditions; counts as ready.
    pub fn new() -> Self {
        Self::default()
    }

    /// The condition of that name; a new one starts as false.
    pub fn condition(&self, name: &'static str) -> Condition {
        let mut conditions = self
            .conditions
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some((_, condition)) = conditions.iter().find(|(known, _)| *known == name) {
            return condition.clone();
        }
        let condition = Condition::default();
        conditions.push((name, condition.clone()));
        condition
    }

    /// Names of the conditions that are false, in order of creation.
    pub fn missing(&self) -> Vec<&'static str> {
        let states = self.states().into_iter();
        states
            .filter(|(_, holds)| !holds)
            .map(|(name, _)| name)
            .collect()
    }

    /// Every condition's name and state, in order of creation.
    pub(super) fn states(&self) -> Vec<(&'static str, bool)> {
        let conditions = self
            .conditions
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        conditions
            .iter()
            .map(|(name, condition)| (*name, condition.holds()))
            .collect()
    }
}

impl Condition {
    /// Sets the state of the condition.
    pub fn set(&self, holds: bool) {
        self.holds.store(holds, Ordering::Release);
    }

    /// Whether it holds.
    pub fn holds(&self) -> bool {
        self.holds.load(Ordering::Acquire)
    }
}

/// The conditions one per line, in kube-apiserver's format, which people and tools know.
pub(super) fn report(states: &[(&'static str, bool)]) -> String {
    let mut text = String::new();
    for (name, holds) in states {
        let _infallible = if *holds {
            writeln!(text, "[+]{name} ok")
        } else {
            writeln!(text, "[-]{name} failed")
        };
    }
    let passed = states.iter().all(|(_, holds)| *holds);
    text.push_str("readyz check ");
    text.push_str(if passed { "passed\n" } else { "failed\n" });
    text
}
