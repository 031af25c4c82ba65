//! A server on a thread of its own, which ends when its value is dropped.

use std::future::Future;
use std::thread::JoinHandle;

use tokio::runtime::Runtime;
use tokio::sync::oneshot;

/// The thread of a server.
#[derive(Debug)]
pub(crate) struct Background {
    /// For messages.
    name: &'static str,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Background {
    /// Runs `serving` until the value is dropped.
    pub(crate) fn run(
        name: &'static str,
        runtime: Runtime,
        serving: impl Future<Output = ()> + Send + 'static,
    ) -> Self {
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    () = serving => {}
                    // The sender was dropped: the server stops.
                    _ = stopped => {}
                }
            });
        });
        Self {
            name,
            stop: Some(stop),
            thread: Some(thread),
        }
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(Err(panic)) = self.thread.take().map(JoinHandle::join) {
            eprintln!("{}: {panic:?}", self.name);
        }
    }
}
