//! The caller that waits for an answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// The caller that waits for an answer. Clones are the same caller.
#[derive(Debug, Clone, Default)]
pub struct Caller {
    gone: Arc<AtomicBool>,
    patient: bool,
}

/// Marks a caller as gone when it is dropped, as a request's future is.
#[derive(Debug)]
pub(crate) struct Waiting(Caller);

impl Caller {
    /// A caller that waits until everything that the answer needs is learned.
    pub(crate) fn patient() -> Self {
        Self {
            patient: true,
            ..Self::default()
        }
    }

    /// Whether the caller waits until everything that the answer needs is learned.
    pub fn is_patient(&self) -> bool {
        self.patient
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
