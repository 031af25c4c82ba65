//! Policy files on disk, and their changes.

mod events;

use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::settle::Settle;
use events::FileEvents;

/// No text that a person maintains is larger, and a ConfigMap cannot be.
const MAX_BYTES: u64 = 4 << 20;

/// From a file event to the look at the files, and between two looks that have to agree.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);
/// Between looks without a file event, for changes that no event reports.
const POLL_INTERVAL: Duration = Duration::from_secs(5);

/// The most files that a folder of policies may hold.
const MAX_FILES: usize = 1000;

/// A file with a policy's text, or a folder of such files.
#[derive(Debug, Clone)]
pub(super) struct PolicyFiles {
    path: PathBuf,
}

/// The content of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Text {
    /// The file's name in diagnostics.
    pub(super) name: String,
    pub(super) text: String,
}

/// Why a file cannot be read as text.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The operating system's reason.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// Larger than any policy.
    #[error("cannot read {}: larger than {MAX_BYTES} bytes", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// A folder without policy files.
    #[error("{}: expected *.yaml, *.yml or *.json files, found none", path.display())]
    Empty {
        /// The folder.
        path: PathBuf,
    },
    /// A folder with too many files.
    #[error("{}: expected at most {MAX_FILES} files", path.display())]
    TooMany {
        /// The folder.
        path: PathBuf,
    },
    /// Not text.
    #[error("{}:{line}:{column}: this byte is not UTF-8, expected text", path.display())]
    NotText {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// Column in characters, from 1.
        column: usize,
    },
}

impl PolicyFiles {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// Reads the text; for a folder, those of its files, in order of their names.
    pub(super) fn read(&self) -> Result<Vec<Text>, ReadError> {
        if !self.path.is_dir() {
            return Ok(vec![read(&self.path)?]);
        }
        let io_error = |source| ReadError::Io {
            path: self.path.clone(),
            source,
        };
        let mut paths = Vec::new();
        for entry in std::fs::read_dir(&self.path).map_err(io_error)? {
            let path = entry.map_err(io_error)?.path();
            let extension = path.extension().and_then(|it| it.to_str());
            // A mounted ConfigMap keeps its versions in folders that begin with `..`.
            let hidden = path
                .file_name()
                .is_some_and(|it| it.as_encoded_bytes().starts_with(b"."));
            if matches!(extension, Some("yaml" | "yml" | "json")) && !hidden && !path.is_dir() {
                paths.push(path);
            }
        }
        let path = || self.path.clone();
        match paths.len() {
            0 => return Err(ReadError::Empty { path: path() }),
            count if count > MAX_FILES => return Err(ReadError::TooMany { path: path() }),
            _ => paths.sort(),
        }
        paths.iter().map(|it| read(it)).collect()
    }

    /// Whether the content can change: a pipe is empty after the first time, and blocks.
    fn can_change(&self) -> bool {
        std::fs::metadata(&self.path).map_or(true, |metadata| !is_stream(&metadata))
    }
}

fn read(path: &Path) -> Result<Text, ReadError> {
    let io_error = |source| ReadError::Io {
        path: path.to_owned(),
        source,
    };
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(io_error)?;
    file.take(MAX_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(io_error)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(ReadError::TooLarge {
            path: path.to_owned(),
        });
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let before = String::from_utf8_lossy(valid);
        ReadError::NotText {
            path: path.to_owned(),
            line: before.matches('\n').count() + 1,
            column: before.chars().rev().take_while(|c| *c != '\n').count() + 1,
        }
    })?;
    Ok(Text {
        name: path.display().to_string(),
        text,
    })
}

/// Reports each distinct content of the files once.
///
/// File events only say when to look. Some changes cause no event: on a network file system, or when
/// a symlink further up in the path is replaced. The files are therefore also read every
/// [`POLL_INTERVAL`], or every [`LOOK_INTERVAL`] if the kernel refuses to report events.
#[derive(Debug)]
pub(super) struct Changes<'a> {
    files: &'a PolicyFiles,
    /// The texts, or an error message instead.
    content: Settle<Result<Vec<Text>, String>>,
    /// Events since the last look began.
    events: Option<FileEvents>,
    poll: Duration,
}

impl<'a> Changes<'a> {
    /// Reports contents that differ from `known`.
    pub(super) fn new(files: &'a PolicyFiles, known: Vec<Text>) -> Self {
        Self {
            files,
            content: Settle::new(Ok(known)),
            events: None,
            poll: POLL_INTERVAL,
        }
    }

    /// The next content, or why it can no longer be read. May be dropped and called again.
    pub(super) async fn next(&mut self) -> Result<Vec<Text>, ReadError> {
        loop {
            if let Some(events) = self.events.as_ref().filter(|_| !self.content.is_pending()) {
                let _event_or_time = tokio::time::timeout(self.poll, events.any()).await;
            }
            // Files that change all the time are not read all the time.
            tokio::time::sleep(LOOK_INTERVAL).await;
            let files = self.files.clone();
            let look = tokio::task::spawn_blocking(move || {
                // In this order, so that no change falls between the two.
                let events = events::listen(&files.path);
                files.can_change().then(|| (events, files.read()))
            });
            // Only a runtime that shuts down cancels a blocking task.
            let Ok(Some((events, look))) = look.await else {
                continue;
            };
            self.events = events.and_then(FileEvents::new).ok();
            let seen = match &look {
                Ok(texts) => Ok(texts.clone()),
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

#[cfg(test)]
mod tests;
