//! Where the policy comes from, and how a change of it comes into force.
//!
//! A policy is loaded once before anything else happens, so that a bad one stops the process early. After that a
//! file is watched: a good change replaces the policy in force, a bad one is reported and changes nothing.

mod file;

use std::path::PathBuf;
use std::sync::Arc;

use imageswap_policy::{Date, Diagnostics, Policies, document, maps};
use tokio::sync::watch;

use crate::drain::Drain;
use crate::metrics::PolicyMetrics;

pub use file::ReadError;

/// Where the policy comes from; flatten it into a command's arguments. Exactly one of the flags is given.
#[derive(Debug, Clone, clap::Args)]
#[group(required = true, multiple = false)]
#[command(next_help_heading = "Policy")]
pub struct PolicyArgs {
    /// ImageSwapPolicies: a file, or a folder of *.yaml, *.yml and *.json; read again whenever they change
    #[arg(long, value_name = "FILE or DIR")]
    pub policy: Option<PathBuf>,
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
    policy: watch::Sender<Arc<Policies>>,
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
    #[error("no policy: one of --policy FILE, --maps FILE and --image-prefix PREFIX is needed")]
    Missing,
}

/// What was asked for.
#[derive(Debug)]
enum Origin {
    /// Files, and their content when they were first read.
    Files {
        format: Format,
        files: file::PolicyFiles,
        first: Vec<file::Text>,
    },
    /// Something that cannot change.
    Fixed(&'static str),
}

/// What the files hold.
#[derive(Debug, Clone, Copy)]
enum Format {
    Documents,
    Maps,
}

impl PolicyArgs {
    /// Loads the policy for the first time and logs the warnings about its text.
    pub fn load(self) -> Result<PolicySource, SourceError> {
        let Self {
            policy,
            maps,
            image_prefix,
        } = self;
        let files = match (policy, maps) {
            (Some(path), _) => Some((Format::Documents, path)),
            (None, Some(path)) => Some((Format::Maps, path)),
            (None, None) => None,
        };
        if let Some((format, path)) = files {
            let files = file::PolicyFiles::new(path);
            let first = files.read()?;
            let policies = format.load(&first)?;
            let origin = Origin::Files {
                format,
                files,
                first,
            };
            return Ok(PolicySource::new(origin, policies));
        }
        let prefix = image_prefix.ok_or(SourceError::Missing)?;
        let loaded = maps::load_prefix("--image-prefix", &prefix).map_err(SourceError::Policy)?;
        warn(&loaded.warnings);
        Ok(PolicySource::new(
            Origin::Fixed("image-prefix"),
            Policies::one(loaded.policy),
        ))
    }
}

impl Format {
    fn load(self, texts: &[file::Text]) -> Result<Policies, SourceError> {
        let mut texts = texts.iter().map(|it| (it.name.as_str(), it.text.as_str()));
        let (policies, warnings) = match self {
            Self::Documents => {
                let loaded = document::load_all(texts).map_err(SourceError::Policy)?;
                (Policies::new(loaded.policies), loaded.warnings)
            }
            Self::Maps => {
                let (name, text) = texts.next_back().unwrap_or_default();
                let loaded = maps::load(name, text).map_err(SourceError::Policy)?;
                (Policies::one(loaded.policy), loaded.warnings)
            }
        };
        warn(&warnings);
        Ok(policies)
    }
}

/// The day by which exceptions end, in UTC.
pub fn today() -> Date {
    time::OffsetDateTime::now_utc().date()
}

impl PolicySource {
    /// A source that never changes, for tests and tools.
    pub fn fixed(policies: Policies) -> Self {
        Self::new(Origin::Fixed("fixed"), policies)
    }

    /// The policies in force.
    pub fn current(&self) -> Arc<Policies> {
        Arc::clone(&self.policy.borrow())
    }

    /// Told of every set of policies that comes into force from now on.
    pub fn subscribe(&self) -> watch::Receiver<Arc<Policies>> {
        self.policy.subscribe()
    }

    /// The kind of source, as metrics name it: `policy`, `maps`, `image-prefix` or `fixed`.
    pub fn kind(&self) -> &'static str {
        match &*self.origin {
            Origin::Files { format, .. } => match format {
                Format::Documents => "policy",
                Format::Maps => "maps",
            },
            Origin::Fixed(kind) => kind,
        }
    }

    /// Puts changes of the source into force within about a second, until the drain begins.
    ///
    /// What does not load, or cannot be read any more, is logged once and leaves the policy in force as it is.
    pub async fn watch(self, drain: Drain, metrics: PolicyMetrics) {
        metrics.loaded(self.current().revision(), self.kind());
        let Origin::Files {
            format,
            files,
            first,
        } = &*self.origin
        else {
            return;
        };
        let mut changes = file::Changes::new(files, first.clone());
        loop {
            let change = tokio::select! {
                change = changes.next() => change,
                () = drain.signaled() => return,
            };
            let loaded = change
                .map_err(SourceError::from)
                .and_then(|texts| format.load(&texts));
            match loaded {
                Ok(policies) => {
                    tracing::info!(
                        source = %files.name(), revision = policies.revision(), "policy reloaded"
                    );
                    metrics.loaded(policies.revision(), self.kind());
                    self.policy.send_replace(Arc::new(policies));
                }
                Err(error) => {
                    tracing::error!(
                        revision = self.current().revision(),
                        "policy not reloaded, the last good one stays in force: {error}"
                    );
                    // Who sees the counter rise finds the reason in the log.
                    metrics.reload_failed();
                }
            }
        }
    }

    fn new(origin: Origin, policies: Policies) -> Self {
        Self {
            origin: Arc::new(origin),
            policy: watch::Sender::new(Arc::new(policies)),
        }
    }
}

fn warn(warnings: &Diagnostics) {
    if !warnings.is_empty() {
        tracing::warn!("the policy loads, with warnings: {warnings}");
    }
}
