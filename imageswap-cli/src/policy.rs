//! The policy that the command line names.

use crate::report;
use anyhow::{Context, Result, bail};
use clap::Args;
use imageswap_policy::maps::{self, Loaded};
use imageswap_policy::{Diagnostics, Policy};
use std::path::PathBuf;

/// Where the policy comes from.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct PolicyArgs {
    /// ImageSwap's maps file
    #[arg(long, value_name = "FILE")]
    maps: Option<PathBuf>,
    /// ImageSwap's legacy mode: the prefix that every image gets
    #[arg(long, value_name = "PREFIX")]
    image_prefix: Option<String>,
}

impl PolicyArgs {
    /// Reads and compiles the policy; its diagnostics go to standard error.
    pub(crate) fn load(&self) -> Result<Policy> {
        let (source, loaded) = match (&self.maps, &self.image_prefix) {
            (Some(path), _) => {
                let source = path.display().to_string();
                let bytes = std::fs::read(path).with_context(|| format!("cannot read {source}"))?;
                let text =
                    String::from_utf8(bytes).with_context(|| format!("{source} is not UTF-8"))?;
                let loaded = maps::load(&source, &text);
                (source, loaded)
            }
            (None, Some(prefix)) => (
                "--image-prefix".to_owned(),
                maps::load_prefix("--image-prefix", prefix),
            ),
            (None, None) => bail!("no policy is named: give --maps or --image-prefix"),
        };
        match loaded {
            Ok(Loaded { policy, warnings }) => {
                show(&warnings);
                Ok(policy)
            }
            Err(diagnostics) => {
                show(&diagnostics);
                bail!("{source} does not load")
            }
        }
    }
}

fn show(diagnostics: &Diagnostics) {
    if !diagnostics.is_empty() {
        report(&format!("{diagnostics}\n"));
    }
}
