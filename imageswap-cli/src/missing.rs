//! `--missing`: asks the registries of the policy's results whether they have them.

use crate::wait::runtime;
use anyhow::{Context as _, Result};
use clap::Args;
use imageswap_policy::Reason;
use imageswap_registry::{Client, Platform, RegistryArgs};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use tokio::task::JoinSet;

/// Images that are asked about at a time.
const AT_A_TIME: usize = 8;

/// Which images are missing, and how registries are asked.
#[derive(Debug, Args)]
#[group(skip)]
pub(crate) struct MissingArgs {
    /// Ask the registries of the results, and list what they do not have
    #[arg(long)]
    missing: bool,
    /// Platform that every image has to have, such as linux/arm64; repeatable
    #[arg(
        long,
        value_name = "OS/ARCH",
        value_delimiter = ',',
        requires = "missing"
    )]
    platform: Vec<Platform>,
    #[command(flatten)]
    registries: RegistryArgs,
}

/// What a registry lacks of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Lack {
    Nothing,
    /// The whole image.
    Image,
    /// The image is there, but not for these platforms.
    Platforms(Vec<String>),
    /// The registry gave no answer that counts.
    Unknown(String),
}

/// The answers, by image.
pub(crate) type Lacks = BTreeMap<String, Lack>;

impl MissingArgs {
    /// Whether registries are asked.
    pub(crate) fn asks(&self) -> bool {
        self.missing
    }

    /// Asks about images, each once.
    ///
    /// # Errors
    /// The flags about registries cannot be used.
    pub(crate) async fn ask(&self, images: BTreeSet<String>) -> Result<Lacks> {
        let home = std::env::var_os("HOME").map(PathBuf::from);
        let client = Arc::new(self.registries.client_of_user(home.as_deref())?);
        let mut rest = images.into_iter();
        let mut tasks = JoinSet::new();
        let mut lacks = Lacks::new();
        loop {
            while tasks.len() < AT_A_TIME
                && let Some(image) = rest.next()
            {
                let (client, wanted) = (Arc::clone(&client), self.platform.clone());
                tasks.spawn(async move {
                    let lack = Lack::of(&client, &image, &wanted).await;
                    (image, lack)
                });
            }
            match tasks.join_next().await {
                None => return Ok(lacks),
                Some(answer) => lacks.extend([answer.context("a question failed")?]),
            }
        }
    }

    /// [`Self::ask`], for commands that wait for nothing else.
    pub(crate) fn ask_now(&self, images: BTreeSet<String>) -> Result<Lacks> {
        runtime()?.block_on(self.ask(images))
    }
}

impl Lack {
    async fn of(client: &Client, image: &str, wanted: &[Platform]) -> Self {
        match client.lacks(image, wanted).await {
            Ok(None) => Self::Image,
            Ok(Some(lacking)) if lacking.is_empty() => Self::Nothing,
            Ok(Some(lacking)) => Self::Platforms(lacking.iter().map(Platform::to_string).collect()),
            Err(problem) => Self::Unknown(problem.to_string()),
        }
    }

    /// Stable name.
    pub(crate) fn as_str(&self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Image => "image",
            Self::Platforms(_) => "platforms",
            Self::Unknown(_) => "unknown",
        }
    }

    /// The platforms that the image lacks.
    pub(crate) fn platforms(&self) -> &[String] {
        match self {
            Self::Platforms(platforms) => platforms,
            _ => &[],
        }
    }
}

/// Whether the policy leads an image to a registry that has to have it.
pub(crate) fn is_mirrored(reason: &str) -> bool {
    [Reason::Swapped, Reason::AlreadyTarget]
        .iter()
        .any(|it| it.as_str() == reason)
}
