//! Where the policy comes from, and how a change of it comes into force.
//!
//! A policy is loaded once before anything else happens, so that a bad one stops the process early. After that a
//! file is watched: a good change replaces the policy in force, a bad one is reported and changes nothing.

mod file;

use std::path::PathBuf;
use std::sync::Arc;

use imageswap_policy::{Diagnostics, Policy, maps};
use tokio::sync::watch;

use crate::drain::Drain;
use crate::metrics::PolicyMetrics;

pub use file::ReadError;

/// Where the policy comes from; flatten it into a command's arguments. Exactly one of the flags is given.
#[derive(Debug, Clone, clap::Args)]
#[group(required = true, multiple = false)]
#[command(next_help_heading = "Policy")]
pub struct PolicyArgs {
    /// ImageSwap maps file; read again whenever it changes
    #[arg(long, value_name = "FILE")]
    pub maps: Option<PathBuf>,
    /// Prefix for every image, as in ImageSwap's legacy mode
    #[arg(long, value_name = "PREFIX")]
    pub image_prefix: Option<String>,
}

/// Holds the policy in force. Clones share it.
#[derive(Debug, Clone)]
pub struct PolicySource {
    origin: Arc<Origin>,
    policy: watch::Sender<Arc<Policy>>,
}

/// Why there is no policy to start with.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The file cannot be read, or holds no text.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The text does not load; rendered with source, line and column of everything that is wrong with it.
    #[error("{0}")]
    Policy(Diagnostics),
    /// No flag says where the policy is.
    #[error("no policy: one of --maps FILE and --image-prefix PREFIX is needed")]
    Missing,
}

/// What was asked for.
#[derive(Debug)]
enum Origin {
    /// A maps file, and its content when it was first read.
    Maps {
        file: file::PolicyFile,
        first: String,
    },
    /// Something that cannot change.
    Fixed(&'static str),
}

impl PolicyArgs {
    /// Loads the policy for the first time and logs the warnings about its text.
    pub fn load(self) -> Result<PolicySource, SourceError> {
        let Self {
            maps: maps_file,
            image_prefix,
        } = self;
        if let Some(path) = maps_file {
            let file = file::PolicyFile::new(path);
            let first = file.read()?;
            let policy = accept(maps::load(&file.name(), &first))?;
            return Ok(PolicySource::new(Origin::Maps { file, first }, policy));
        }
        let prefix = image_prefix.ok_or(SourceError::Missing)?;
        let policy = accept(maps::load_prefix("--image-prefix", &prefix))?;
        Ok(PolicySource::new(Origin::Fixed("image-prefix"), policy))
    }
}

impl PolicySource {
    /// A source that never changes, for tests and tools.
    pub fn fixed(policy: Policy) -> Self {
        Self::new(Origin::Fixed("fixed"), policy)
    }

    /// The policy in force.
    pub fn current(&self) -> Arc<Policy> {
        Arc::clone(&self.policy.borrow())
    }

    /// Told of every policy that comes into force from now on.
    pub fn subscribe(&self) -> watch::Receiver<Arc<Policy>> {
        self.policy.subscribe()
    }

    /// The kind of source, as metrics name it: `maps`, `image-prefix` or `fixed`.
    pub fn kind(&self) -> &'static str {
        match &*self.origin {
            Origin::Maps { .. } => "maps",
            Origin::Fixed(kind) => kind,
        }
    }

    /// Puts changes of the source into force within about a second, until the drain begins.
    ///
    /// What does not load, or cannot be read any more, is logged once and leaves the policy in force as it is.
    pub async fn watch(self, drain: Drain, metrics: PolicyMetrics) {
        metrics.loaded(self.current().revision(), self.kind());
        let Origin::Maps { file, first } = &*self.origin else {
            return;
        };
        let mut changes = file::Changes::new(file, first.clone());
        loop {
            let change = tokio::select! {
                change = changes.next() => change,
                () = drain.signaled() => return,
            };
            let loaded = change
                .map_err(SourceError::from)
                .and_then(|text| accept(maps::load(&file.name(), &text)));
            match loaded {
                Ok(policy) => {
                    tracing::info!(
                        source = %file.name(), revision = policy.revision(), "policy reloaded"
                    );
                    metrics.loaded(policy.revision(), self.kind());
                    self.policy.send_replace(Arc::new(policy));
                }
                Err(error) => {
                    metrics.reload_failed();
                    tracing::error!(
                        revision = self.current().revision(),
                        "policy not reloaded, the last good one stays in force: {error}"
                    );
                }
            }
        }
    }

    fn new(origin: Origin, policy: Policy) -> Self {
        Self {
            origin: Arc::new(origin),
            policy: watch::Sender::new(Arc::new(policy)),
        }
    }
}

/// Takes the policy out of what loaded, and logs the warnings.
fn accept(loaded: Result<maps::Loaded, Diagnostics>) -> Result<Policy, SourceError> {
    let maps::Loaded { policy, warnings } = loaded.map_err(SourceError::Policy)?;
    if !warnings.0.is_empty() {
        tracing::warn!("the policy loads, with warnings: {warnings}");
    }
    Ok(policy)
}
