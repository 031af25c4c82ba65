//! Reads files that others control: on the node, and in bundles. A file system may not answer: so
//! reading happens on separate threads ([`Readers`]), and callers wait no longer than a deadline.

use std::cell::RefCell;
use std::fs::File;
use std::io::{self, BufReader, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, TryLockError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::OFlags;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::EvidenceError;
use super::gate::Gate;
use crate::file::{open, open_with, too_long};

/// Files up to this size are read before they are parsed, which is faster than parsing while
/// reading.
const READ_AT_ONCE: u64 = 256 << 10;

/// The records of about a thousand containers or images of a user.
const LARGEST_OF_USER: u64 = 1 << 20;

/// Pause before a thread asks again whether it is its turn to read a large file.
const BETWEEN: Duration = Duration::from_millis(5);

/// Held while a large file is read and used: others decide how large it is, and what is read of it
/// may take several times as much memory.
static LARGE: Mutex<()> = Mutex::new(());

thread_local! {
    /// This thread's turn, until it has read all that it was asked for.
    static TURN: RefCell<Option<MutexGuard<'static, ()>>> = const { RefCell::new(None) };
}

/// How long reading may take. A file system that takes longer counts as a runtime that hangs.
const DEADLINE: Duration = Duration::from_secs(2);

/// Threads that read at the same time. A thread that waits for a file system that never answers is
/// lost.
const THREADS: usize = 16;

/// Reads a whole file of at most `limit` bytes, if it belongs to root and is not a link; otherwise
/// `None`. Anybody else could write anything into their own file.
pub(super) fn read_of_root(path: &Path, limit: u64) -> Result<Option<Vec<u8>>, EvidenceError> {
    read_of(0, path, limit)
}

/// The same for a file of the user `owner`, of which a smaller one is read if that is not root: it
/// never approves anything, and any user can write one.
pub(super) fn read_of(
    owner: u32,
    path: &Path,
    limit: u64,
) -> Result<Option<Vec<u8>>, EvidenceError> {
    let limit = match owner {
        0 => limit,
        _ => limit.min(LARGEST_OF_USER),
    };
    let read = || {
        let Some(file) = open_with(path, limit, OFlags::NOFOLLOW)? else {
            return Ok(None);
        };
        if file.metadata()?.uid() != owner {
            return Ok(None);
        }
        // A user's file makes nobody wait.
        if owner == 0 {
            wait_for_turn(&file)?;
        }
        bytes_of(&file, limit).map(Some)
    };
    read().map_err(|error| failed(path, error))
}

/// Waits until no other thread reads a large file, if this is one.
fn wait_for_turn(file: &File) -> io::Result<()> {
    if file.metadata()?.size() <= READ_AT_ONCE || TURN.with_borrow(Option::is_some) {
        return Ok(());
    }
    let began = Instant::now();
    loop {
        match LARGE.try_lock() {
            Err(TryLockError::WouldBlock) if began.elapsed() < DEADLINE => thread::sleep(BETWEEN),
            Err(TryLockError::WouldBlock) => return Err(io::ErrorKind::TimedOut.into()),
            Err(TryLockError::Poisoned(turn)) => {
                TURN.set(Some(turn.into_inner()));
                return Ok(());
            }
            Ok(turn) => {
                TURN.set(Some(turn));
                return Ok(());
            }
        }
    }
}

/// Reads JSON. Only the requested fields of a large file are ever in memory.
pub(super) fn read_json<T: DeserializeOwned>(
    path: &Path,
    limit: u64,
) -> Result<Option<T>, EvidenceError> {
    let failed = |error| failed(path, error);
    let Some(file) = open(path, limit).map_err(failed)? else {
        return Ok(None);
    };
    if file.metadata().map_err(failed)?.size() <= READ_AT_ONCE {
        let bytes = bytes_of(&file, READ_AT_ONCE).map_err(failed)?;
        return parse_json(path, &bytes).map(Some);
    }
    wait_for_turn(&file).map_err(failed)?;
    let parsed = serde_json::from_reader(BufReader::new(file.take(limit)));
    parsed.map(Some).map_err(|error| malformed(path, &error))
}

/// Parses JSON; an error names file, line and column.
pub(super) fn parse_json<'b, T: Deserialize<'b>>(
    path: &Path,
    bytes: &'b [u8],
) -> Result<T, EvidenceError> {
    serde_json::from_slice(bytes).map_err(|error| malformed(path, &error))
}

fn bytes_of(file: &File, limit: u64) -> io::Result<Vec<u8>> {
    let size = file.metadata()?.size().min(limit);
    // Without room for the end, reading it would double the room.
    let mut bytes = Vec::with_capacity(usize::try_from(size + 1).unwrap_or_default());
    // The file may have grown since it was measured.
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    if u64::try_from(bytes.len()).is_ok_and(|len| len > limit) {
        return Err(too_long(limit));
    }
    Ok(bytes)
}

fn failed(path: &Path, source: io::Error) -> EvidenceError {
    match source.kind() {
        io::ErrorKind::PermissionDenied => EvidenceError::Denied {
            path: path.to_owned(),
            source: Box::new(source),
        },
        _ => EvidenceError::Unreadable {
            path: path.to_owned(),
            source,
        },
    }
}

pub(super) fn malformed(path: &Path, error: &serde_json::Error) -> EvidenceError {
    EvidenceError::Malformed {
        path: path.to_owned(),
        message: error.to_string(),
    }
}

/// The threads that read; clones share them.
#[derive(Clone, Debug)]
pub(crate) struct Readers {
    threads: Arc<Semaphore>,
    gate: Gate,
}

impl Readers {
    /// No thread is started before it is needed.
    pub(crate) fn new() -> Self {
        Self {
            threads: Arc::new(Semaphore::new(THREADS)),
            gate: Gate::new(),
        }
    }

    /// Runs `read` on one of the threads.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        read: impl FnOnce() -> Result<T, EvidenceError> + Send + 'static,
    ) -> Result<T, EvidenceError> {
        let threads = Arc::clone(&self.threads);
        let answer = async {
            // Separate from the gate's turn, which ends with this call: a hanging thread outlives
            // it.
            let thread = threads.acquire_owned().await.ok()?;
            let answer = spawn_blocking(move || {
                let answer = read();
                TURN.set(None);
                drop(thread);
                answer
            });
            // Fails only if the agent ends.
            answer.await.ok()
        };
        let answer = match self.gate.enter().await {
            Some(_turn) => timeout(DEADLINE, answer).await.ok().flatten(),
            None => None,
        };
        answer.unwrap_or_else(|| {
            let threads = Arc::clone(&self.threads);
            self.gate.check(move || {
                let threads = Arc::clone(&threads);
                async move { timeout(DEADLINE / 2, threads.acquire()).await.is_ok() }
            });
            Err(EvidenceError::SlowFiles { after: DEADLINE })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;
    use std::sync::atomic::{AtomicUsize, Ordering};

    const LIMIT: u64 = 1 << 10;

    fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
        open(path, LIMIT)?
            .map(|file| bytes_of(&file, LIMIT))
            .transpose()
    }

    fn error_of(path: &Path) -> String {
        read(path).unwrap_err().to_string()
    }

    /// A file that is not regular neither blocks nor is read.
    #[test]
    fn only_regular_files_of_bounded_size_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        assert!(read(&at("nothing")).unwrap().is_none());
        assert!(read(&at("nothing/below")).unwrap().is_none());
        std::fs::write(at("file"), "text").unwrap();
        let text = read(&at("file")).unwrap();
        assert_eq!(text.as_deref(), Some(&b"text"[..]));
        assert!(read(&at("file/below")).unwrap().is_none());

        let fifo = rustix::fs::FileType::Fifo;
        rustix::fs::mknodat(rustix::fs::CWD, at("fifo"), fifo, 0o600.into(), 0).unwrap();
        std::os::unix::fs::symlink(at("fifo"), at("link")).unwrap();
        std::fs::create_dir(at("folder")).unwrap();
        let _socket = UnixListener::bind(at("socket")).unwrap();
        for name in ["fifo", "link", "folder", "socket"] {
            let error = error_of(&at(name));
            assert!(error.ends_with("not a regular file"), "{error}");
        }
        let error = error_of(Path::new("/dev/zero"));
        assert!(error.ends_with("not a regular file"), "{error}");

        let large = File::create(at("large")).unwrap();
        large.set_len(LIMIT + 1).unwrap();
        let error = error_of(&at("large"));
        assert!(error.ends_with("longer than 1024 bytes"), "{error}");
        large.set_len(LIMIT).unwrap();
        assert!(read(&at("large")).unwrap().is_some());
    }

    #[test]
    fn a_link_is_not_taken_for_a_file_of_roots() {
        let folder = tempfile::tempdir().unwrap();
        let link = folder.path().join("link");
        std::os::unix::fs::symlink("/proc/self/mounts", &link).unwrap();
        assert!(read_of_root(&link, LIMIT).is_err());
        let file = folder.path().join("file");
        std::fs::write(&file, "text").unwrap();
        let is_roots = rustix::process::geteuid().is_root();
        assert_eq!(read_of_root(&file, LIMIT).unwrap().is_some(), is_roots);
    }

    #[test]
    fn a_users_file_is_shorter_than_roots() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("images.json");
        File::create(&path).unwrap().set_len(4 << 20).unwrap();
        for (owner, expected) in [(0, 2 << 20), (1000, 1 << 20)] {
            std::os::unix::fs::chown(&path, Some(owner), None).unwrap();
            let error = read_of(owner, &path, 2 << 20).unwrap_err().to_string();
            assert!(
                error.ends_with(&format!("longer than {expected} bytes")),
                "{error}"
            );
        }
    }

    #[test]
    fn a_large_file_is_parsed_as_a_small_one_is() {
        #[derive(Debug, PartialEq, Deserialize)]
        struct Part {
            kept: String,
        }
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("config.json");
        for padding in [0, READ_AT_ONCE] {
            let padding = "\\u003c".repeat(usize::try_from(padding).unwrap() / 6 + 1);
            let text = format!(r#"{{"env": ["A={padding}"], "kept": "x"}}"#);
            std::fs::write(&file, &text).unwrap();
            let part: Option<Part> = read_json(&file, READ_AT_ONCE * 2).unwrap();
            assert_eq!(part.unwrap().kept, "x");
            std::fs::write(&file, &text[..text.len() - 1]).unwrap();
            let error = read_json::<Part>(&file, READ_AT_ONCE * 2).unwrap_err();
            assert!(error.to_string().contains("EOF"), "{error}");
        }
    }

    #[tokio::test]
    async fn large_files_are_read_one_at_a_time() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let files = [
            ("small", 0),
            ("large", READ_AT_ONCE + 1),
            ("users", READ_AT_ONCE + 1),
        ];
        let [small, large, users] = files.map(|(name, length)| {
            let path = folder.path().join(name);
            File::create(&path).unwrap().set_len(length).unwrap();
            path
        });
        std::os::unix::fs::chown(&users, Some(1000), None).unwrap();
        let readers = Readers::new();
        let at_once = Arc::new(AtomicUsize::new(0));
        let read = |path: &Path| {
            let (path, at_once) = (path.to_owned(), Arc::clone(&at_once));
            readers.run(move || {
                let owner = std::fs::metadata(&path).unwrap().uid();
                let length = read_of(owner, &path, 2 * READ_AT_ONCE)?.unwrap().len();
                let others = at_once.fetch_add(1, Ordering::SeqCst);
                thread::sleep(Duration::from_millis(20));
                at_once.fetch_sub(1, Ordering::SeqCst);
                Ok((length, others))
            })
        };
        let answers = futures::future::join_all((0..8).map(|_| read(&large))).await;
        for answer in answers {
            let length = usize::try_from(READ_AT_ONCE).unwrap() + 1;
            assert_eq!(answer.unwrap(), (length, 0));
        }
        // Another thread reads a file that takes long.
        let (done, waits) = std::sync::mpsc::channel::<()>();
        let (began, has_begun) = std::sync::mpsc::channel();
        let other = thread::spawn(move || {
            let _turn = LARGE.lock().unwrap();
            began.send(()).unwrap();
            waits.recv().ok();
        });
        has_begun.recv().unwrap();
        assert!(read(&small).await.is_ok() && read(&users).await.is_ok());
        assert!(read(&large).await.is_err(), "another file takes too long");
        drop(done);
        other.join().unwrap();
        assert!(read(&large).await.is_ok());
    }

    /// A reader that hangs keeps one thread, and the others continue to answer. If all hang,
    /// callers do not wait for them.
    #[tokio::test]
    async fn readers_that_hang_are_not_waited_for() {
        let readers = Readers::new();
        let (release, held) = std::sync::mpsc::channel::<()>();
        let held = Arc::new(Mutex::new(held));
        let hang = || {
            let held = Arc::clone(&held);
            readers.run(move || Ok(held.lock().unwrap().recv().is_ok()))
        };
        let answers = (0..THREADS).map(|_| hang());
        let answers = futures::future::join_all(answers).await;
        assert!(answers.iter().all(Result::is_err), "{answers:?}");
        let mut hangs = false;
        while !hangs {
            let answer = readers.run(|| Ok(())).await;
            hangs = matches!(answer, Err(EvidenceError::SlowFiles { .. }));
        }
        drop(release);
        while readers.run(|| Ok(())).await.is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}
