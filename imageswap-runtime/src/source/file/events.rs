//! Events of the file system after which a file may have another content.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use tokio::net::unix::pipe::Receiver;

/// Not events of reading, which the reader causes itself.
const CHANGES: WatchFlags = WatchFlags::MODIFY
    .union(WatchFlags::ATTRIB)
    .union(WatchFlags::CREATE)
    .union(WatchFlags::DELETE)
    .union(WatchFlags::MOVED_FROM)
    .union(WatchFlags::MOVED_TO)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::MOVE_SELF);

/// Events of one file or folder since [`listen`].
#[derive(Debug)]
pub(super) struct FileEvents {
    /// Not a pipe, but readable like one, and there is no safe type for other descriptors.
    inotify: Receiver,
}

/// Collects events from now on: of the folder that `path` is in, where files and symlinks are
/// replaced, and of the file or folder that `path` resolves to, which may be written under another
/// name.
pub(super) fn listen(path: &Path) -> io::Result<OwnedFd> {
    let inotify = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
    let folder = path.parent().filter(|it| !it.as_os_str().is_empty());
    inotify::add_watch(&inotify, folder.unwrap_or(Path::new(".")), CHANGES)?;
    // If there is no file, the folder reports when it is created.
    let _watched_or_missing = inotify::add_watch(&inotify, path, CHANGES);
    Ok(inotify)
}

impl FileEvents {
    pub(super) fn new(inotify: OwnedFd) -> io::Result<Self> {
        let inotify = Receiver::from_owned_fd_unchecked(inotify)?;
        Ok(Self { inotify })
    }

    /// Returns as soon as there was any event.
    pub(super) async fn any(&self) {
        // An error would be one of every later call too; the caller then looks at the files.
        let _ready = self.inotify.readable().await;
    }
}
