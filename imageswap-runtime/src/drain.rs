//! Draining: a signal starts it, and its holders are notified.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Notifies tasks that the process is stopping. Clones share the drain; once begun it does not end.
#[derive(Debug, Clone, Default)]
pub struct Drain {
    token: CancellationToken,
}

impl Drain {
    /// A drain that only [`start`](Self::start) begins.
    pub fn new() -> Self {
        Self::default()
    }

    /// A drain that SIGTERM or SIGINT begins. A second signal ends the process at once, because the
    /// sender does not want to wait.
    ///
    /// # Errors
    /// If the handlers cannot be installed. Panics outside a tokio runtime.
    pub fn on_signals() -> io::Result<Self> {
        let drain = Self::new();
        let terminate = signal(SignalKind::terminate())?;
        let interrupt = signal(SignalKind::interrupt())?;
        tokio::spawn(drain.clone().listen(terminate, interrupt));
        Ok(drain)
    }

    /// Begins the drain.
    pub fn start(&self) {
        self.token.cancel();
    }

    /// Resolves when the drain has begun, at once if it has already.
    pub async fn signaled(&self) {
        self.token.cancelled().await;
    }

    /// Whether the drain has begun.
    pub fn is_signaled(&self) -> bool {
        self.token.is_cancelled()
    }

    async fn listen(self, mut terminate: Signal, mut interrupt: Signal) {
        loop {
            let (name, number) = tokio::select! {
                _ = terminate.recv() => ("SIGTERM", 15),
                _ = interrupt.recv() => ("SIGINT", 2),
            };
            if self.is_signaled() {
                tracing::warn!(signal = name, "second signal, ending at once");
                // The shell's convention for a process ended by a signal.
                std::process::exit(128 + number);
            }
            tracing::info!(signal = name, "draining");
            self.start();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_clone_sees_the_start() {
        let drain = Drain::new();
        let clone = drain.clone();
        assert!(!clone.is_signaled());
        let waiting = tokio::spawn({
            let clone = clone.clone();
            async move { clone.signaled().await }
        });
        drain.start();
        waiting.await.unwrap();
        assert!(clone.is_signaled());
        clone.signaled().await;
    }
}
