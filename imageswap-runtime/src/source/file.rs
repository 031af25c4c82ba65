//! A policy file on disk, and its changes.

use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::FileTypeExt as _;
use std::path::PathBuf;
use std::time::Duration;

use crate::settle::Settle;

/// Nothing that a person maintains is larger, and a ConfigMap cannot be.
const MAX_BYTES: u64 = 4 << 20;

/// Two looks that agree make a change, so it is in force after at most three of these.
const POLL_INTERVAL: Duration = Duration::from_millis(250);

/// A file that holds a policy's text.
#[derive(Debug, Clone)]
pub(super) struct PolicyFile {
    path: PathBuf,
}

/// Why the file gives no text.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The operating system's reason.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What happened.
        source: io::Error,
    },
    /// Larger than any policy.
    #[error("cannot read {}: larger than {MAX_BYTES} bytes", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// Not text.
    #[error("{}:{line}:{column}: this byte is no UTF-8, expected text", path.display())]
    NotText {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// Column in characters, from 1.
        column: usize,
    },
}

impl PolicyFile {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// The file's name in diagnostics.
    pub(super) fn name(&self) -> String {
        self.path.display().to_string()
    }

    /// Reads the whole text.
    pub(super) fn read(&self) -> Result<String, ReadError> {
        let io_error = |source| ReadError::Io {
            path: self.path.clone(),
            source,
        };
        let mut bytes = Vec::new();
        let file = File::open(&self.path).map_err(io_error)?;
        file.take(MAX_BYTES + 1)
            .read_to_end(&mut bytes)
            .map_err(io_error)?;
        if bytes.len() as u64 > MAX_BYTES {
            return Err(ReadError::TooLarge {
                path: self.path.clone(),
            });
        }
        String::from_utf8(bytes).map_err(|error| {
            let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
            let before = String::from_utf8_lossy(valid);
            ReadError::NotText {
                path: self.path.clone(),
                line: before.matches('\n').count() + 1,
                column: before.chars().rev().take_while(|c| *c != '\n').count() + 1,
            }
        })
    }

    /// Whether reading again could give anything: a pipe is empty after the first time, and blocks.
    fn can_change(&self) -> bool {
        std::fs::metadata(&self.path).map_or(true, |metadata| !is_stream(&metadata))
    }
}

/// The distinct contents that a file takes on, told once each.
///
/// It looks at the content and not at file events: a mounted ConfigMap changes by a symlink that is
/// swapped one level up, where no event names the file.
#[derive(Debug)]
pub(super) struct Changes<'a> {
    file: &'a PolicyFile,
    /// The text, or the message of the error in its place.
    content: Settle<Result<String, String>>,
}

impl<'a> Changes<'a> {
    /// Tells what differs from `known`.
    pub(super) fn new(file: &'a PolicyFile, known: String) -> Self {
        Self {
            file,
            content: Settle::new(Ok(known)),
        }
    }

    /// The next content, or the reason why there is none any more. May be dropped and called again.
    pub(super) async fn next(&mut self) -> Result<String, ReadError> {
        loop {
            tokio::time::sleep(POLL_INTERVAL).await;
            let file = self.file.clone();
            let look = tokio::task::spawn_blocking(move || file.can_change().then(|| file.read()));
            // Only a runtime that shuts down cancels a blocking task.
            let Ok(Some(look)) = look.await else { continue };
            let seen = match &look {
                Ok(text) => Ok(text.clone()),
                Err(error) => Err(error.to_string()),
            };
            if self.content.look(seen).is_some() {
                return look;
            }
        }
    }
}

fn is_stream(metadata: &Metadata) -> bool {
    let kind = metadata.file_type();
    kind.is_fifo() || kind.is_char_device() || kind.is_socket()
}
