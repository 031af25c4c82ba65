//! The layers that a container of an image has to run on, and its command, from the content in
//! containerd.
//!
//! Every blob that is read here is hashed, so that a digest identifies bytes and not a name.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use super::{Containerd, is_digest, wire};
use crate::evidence::EvidenceError;
use crate::evidence::kept::Kept;
use crate::evidence::layers::{self, Blob};
use crate::evidence::root::Mount;
use crate::evidence::transport::ORDINARY;

/// A configuration keeps the image's history; containerd itself refuses manifests of more than 8 MiB.
const LARGEST_BLOB: usize = 8 << 20;

/// The method that reads a blob.
const READ: &str = "/containerd.services.content.v1.Content/Read";

/// Configurations that are cached: about 5,000 usual ones, and more images than a node has.
const MOST_KEPT: usize = 4 << 20;

/// What a word of a command takes beside its text.
const WORD: usize = 64;

/// Configurations by the digest of a manifest. They never change, because the digest is that of the
/// content.
#[derive(Clone, Debug)]
pub(super) struct Configurations(Arc<Mutex<Kept<String, Configuration>>>);

impl Default for Configurations {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Kept::new(MOST_KEPT))))
    }
}

/// The part of an image's configuration that its containers are compared with.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Configuration {
    /// The chain id of the layers. containerd names an image's snapshot by this id.
    pub chain: String,
    /// What a container runs by default; empty if that is not known.
    pub command: Vec<String>,
}

/// A snapshot in containerd's records. Another one that is given the same key later differs in when it
/// was made, which containerd notes and no client can choose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotRecord {
    /// The key of the snapshot below; empty if there is none.
    pub parent: String,
    /// When it was made: seconds and nanoseconds since 1970.
    pub created: (i64, i32),
}

impl Containerd {
    /// The snapshot `key`; `None` if it does not exist.
    pub async fn snapshot(
        &self,
        namespace: &str,
        snapshotter: &str,
        key: &str,
    ) -> Result<Option<SnapshotRecord>, EvidenceError> {
        let answer: Option<wire::StatSnapshotResponse> = self
            .transport
            .call(
                "/containerd.services.snapshots.v1.Snapshots/Stat",
                Some(namespace),
                wire::SnapshotRequest {
                    snapshotter: snapshotter.to_owned(),
                    key: key.to_owned(),
                },
            )
            .await?;
        Ok(answer.and_then(|answer| answer.info).map(|info| {
            let created = info.created_at.unwrap_or_default();
            SnapshotRecord {
                parent: info.parent,
                created: (created.seconds, created.nanos),
            }
        }))
    }

    /// The mounts of a snapshot's root file system; `None` if the snapshot does not exist.
    pub async fn mounts_of(
        &self,
        namespace: &str,
        snapshotter: &str,
        key: &str,
    ) -> Result<Option<Vec<Mount>>, EvidenceError> {
        let answer: Option<wire::MountsResponse> = self
            .transport
            .call(
                "/containerd.services.snapshots.v1.Snapshots/Mounts",
                Some(namespace),
                wire::SnapshotRequest {
                    snapshotter: snapshotter.to_owned(),
                    key: key.to_owned(),
                },
            )
            .await?;
        let mount = |mount: wire::Mount| Mount {
            kind: mount.kind,
            source: mount.source,
            options: mount.options,
        };
        Ok(answer.map(|answer| answer.mounts.into_iter().map(mount).collect()))
    }

    /// The configurations of the image `digest`, for each platform whose configuration exists. The
    /// digest can be that of an index, a manifest or a configuration.
    pub async fn configurations(
        &self,
        namespace: &str,
        digest: &str,
    ) -> Result<BTreeSet<Configuration>, EvidenceError> {
        let manifests = match self.blob(namespace, digest).await? {
            Found::Kept(known) => return Ok(BTreeSet::from([known])),
            Found::Blob(Blob::Index(manifests)) => manifests,
            Found::Blob(other) => {
                let known = self.configuration(namespace, digest, other).await?;
                return Ok(known.into_iter().collect());
            }
            Found::Nothing => return Ok(BTreeSet::new()),
        };
        let mut all = BTreeSet::new();
        for manifest in &manifests {
            match self.blob(namespace, manifest).await? {
                Found::Kept(known) => drop(all.insert(known)),
                Found::Blob(blob) => {
                    all.extend(self.configuration(namespace, manifest, blob).await?);
                }
                // For another platform, which was not fetched.
                Found::Nothing => {}
            }
        }
        Ok(all)
    }

    /// The configuration of a manifest, or the configuration itself.
    async fn configuration(
        &self,
        namespace: &str,
        digest: &str,
        blob: Blob,
    ) -> Result<Option<Configuration>, EvidenceError> {
        let blob = match blob {
            Blob::Manifest { config } => match self.blob(namespace, &config).await? {
                Found::Blob(blob) => blob,
                Found::Kept(known) => return Ok(Some(self.keep(digest, known))),
                Found::Nothing => return Ok(None),
            },
            other => other,
        };
        let Blob::Configuration { diff_ids, command } = blob else {
            return Ok(None);
        };
        let known = layers::chain_id(&diff_ids).map(|chain| Configuration { chain, command });
        Ok(known.map(|known| self.keep(digest, known)))
    }

    fn kept(&self, digest: &str) -> Option<Configuration> {
        let kept = &self.configurations.0;
        let kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.get(digest).cloned()
    }

    fn keep(&self, digest: &str, known: Configuration) -> Configuration {
        let words = known.command.iter().map(|word| word.len() + WORD);
        let bytes = digest.len() + known.chain.len() + words.sum::<usize>();
        let kept = &self.configurations.0;
        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.insert(digest.to_owned(), known.clone(), bytes);
        known
    }

    /// A small blob; [`Found::Nothing`] if it does not exist or its content does not match its
    /// digest.
    async fn blob(&self, namespace: &str, digest: &str) -> Result<Found, EvidenceError> {
        if !is_digest(digest) {
            return Ok(Found::Nothing);
        }
        if let Some(known) = self.kept(digest) {
            return Ok(Found::Kept(known));
        }
        let mut bytes = self.read(namespace, digest, ORDINARY).await?;
        let mut turn = None;
        if bytes.len() > ORDINARY {
            turn = Some(self.transport.large_turn(READ).await?);
            bytes = self.read(namespace, digest, LARGEST_BLOB).await?;
        }
        let blob = layers::read(digest, &bytes);
        drop(turn);
        Ok(blob.map_or(Found::Nothing, Found::Blob))
    }

    /// A blob's content, of which what follows `most` bytes may be missing; nothing if it does not
    /// exist.
    async fn read(
        &self,
        namespace: &str,
        digest: &str,
        most: usize,
    ) -> Result<Vec<u8>, EvidenceError> {
        let mut bytes = Vec::new();
        let take = |piece: wire::ReadContentResponse| {
            bytes.extend(piece.data);
            bytes.len() <= most
        };
        let found = self
            .transport
            .collect(READ, namespace, digest.to_owned(), take)
            .await?;
        Ok(found.map_or_else(Vec::new, |()| bytes))
    }
}

/// What a digest refers to.
enum Found {
    /// Its configuration, from the cache.
    Kept(Configuration),
    Blob(Blob),
    Nothing,
}
