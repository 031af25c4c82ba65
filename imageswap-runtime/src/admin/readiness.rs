//! What has to be true before a service may receive traffic.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// What has to be true before the service may receive traffic. Clones share the conditions.
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
    /// No conditions yet, which is ready.
    pub fn new() -> Self {
        Self::default()
    }

    /// The condition of that name, made (as false) when it is new.
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

    /// Names of the conditions that are false, in order of their making.
    pub fn missing(&self) -> Vec<&'static str> {
        let states = self.states().into_iter();
        states
            .filter(|(_, holds)| !holds)
            .map(|(name, _)| name)
            .collect()
    }

    /// Every condition's name and whether it holds, in order of their making.
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
    /// Says whether the condition holds now.
    pub fn set(&self, holds: bool) {
        self.holds.store(holds, Ordering::Release);
    }

    pub(crate) fn holds(&self) -> bool {
        self.holds.load(Ordering::Acquire)
    }
}

/// The conditions a line each, as kube-apiserver writes its own, so that people and tools know how to read them.
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
