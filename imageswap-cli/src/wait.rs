//! Waits for a cluster or a registry, in a program that does nothing else meanwhile.

use anyhow::{Context as _, Result};
use tokio::runtime::{Builder, Runtime};

/// A runtime on this thread.
pub(crate) fn runtime() -> Result<Runtime> {
    let mut builder = Builder::new_current_thread();
    builder
        .enable_all()
        .build()
        .context("cannot start the runtime")
}
