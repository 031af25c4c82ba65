//! The caller that waits for an answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// The caller that waits for an answer. Clones are the same caller.
#[derive(Debug, Clone, Default)]
pub struct Caller {
    gone: Arc<AtomicBool>,
    waits: Waits,
}

/// What a caller waits for before it is answered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Waits {
    /// Present knowledge has to be enough.
    #[default]
    Nothing,
    /// Answers of registries.
    Registries,
    /// Labels of the namespace, and then answers of registries.
    All,
}

/// Marks a caller as gone when it is dropped, as a request's future is.
#[derive(Debug)]
pub(crate) struct Waiting(Caller);

impl Caller {
    /// A caller that waits until everything that the answer needs is learned.
    pub(crate) fn patient() -> Self {
        Self {
            waits: Waits::All,
            ..Self::default()
        }
    }

    /// A caller that no longer waits for the labels of the namespace.
    pub(crate) fn of_registries() -> Self {
        Self {
            waits: Waits::Registries,
            ..Self::default()
        }
    }

    /// Whether the caller waits until the labels of the namespace are learned.
    pub fn waits_for_namespace(&self) -> bool {
        self.waits == Waits::All
    }

    /// Whether the caller waits for answers of registries.
    pub fn waits_for_registries(&self) -> bool {
        self.waits != Waits::Nothing
    }

    /// Whether the caller has gone.
    pub fn is_gone(&self) -> bool {
        self.gone.load(Relaxed)
    }

    /// The caller is there as long as this value.
    pub(crate) fn waiting(&self) -> Waiting {
        Waiting(self.clone())
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.gone.store(true, Relaxed);
    }
}
