//! Opens files that others control, and reads those of the kernel.
//!
//! A file of others can be anything: a FIFO without a writer, a device, a folder or a file of any
//! size. So it is first opened without side effects, and read only if it is a regular one of
//! bounded size.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::iter;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustix::fs::{Mode, OFlags};

/// Opens a regular file of at most `limit` bytes; `None` if the file does not exist. Neither waits
/// nor has side effects, whatever is at `path`: opening a FIFO may wait for a writer, and opening a
/// device may trigger an action.
pub(crate) fn open(path: &Path, limit: u64) -> io::Result<Option<File>> {
    open_with(path, limit, OFlags::empty())
}

/// The same with more flags.
pub(crate) fn open_with(path: &Path, limit: u64, flags: OFlags) -> io::Result<Option<File>> {
    let flags = flags | OFlags::PATH | OFlags::CLOEXEC;
    let found = match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(found) => File::from(found),
        Err(error) if is_absent(&error.into()) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let metadata = found.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "not a regular file",
        ));
    }
    if metadata.size() > limit {
        return Err(too_long(limit));
    }
    // The same file again, even if `path` has been replaced.
    let same = format!("/proc/self/fd/{}", found.as_raw_fd());
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    Ok(Some(rustix::fs::open(same, flags, Mode::empty())?.into()))
}

/// The text of a kernel file; if it is longer than `limit`, the lines that fit.
pub(crate) fn read_kernel(path: &Path, limit: u64) -> io::Result<String> {
    let bytes = read_kernel_bytes(path, limit)?;
    let text = String::from_utf8(bytes);
    Ok(text.unwrap_or_else(|other| String::from_utf8_lossy(other.as_bytes()).into_owned()))
}

/// The same, which need not be UTF-8.
pub(crate) fn read_kernel_bytes(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let file = open(path, u64::MAX)?.ok_or(io::ErrorKind::NotFound)?;
    let mut bytes = Vec::new();
    let read = file.take(limit).read_to_end(&mut bytes)?;
    if u64::try_from(read).is_ok_and(|read| read == limit) {
        let whole = bytes.iter().rposition(|byte| *byte == b'\n');
        bytes.truncate(whole.map_or(0, |end| end + 1));
    }
    Ok(bytes)
}

/// The first line of a kernel file that begins with `prefix`, without the prefix. Earlier lines of
/// any length are passed over; at most `limit` bytes of the line are kept.
pub(crate) fn read_kernel_line(path: &Path, prefix: &str, limit: u64) -> io::Result<String> {
    let mut lines = kernel_lines(path, limit)?;
    let text = |line: Vec<u8>| {
        let rest = line.strip_prefix(prefix.as_bytes())?;
        Some(String::from_utf8_lossy(rest).into_owned())
    };
    lines
        .find_map(text)
        .ok_or_else(|| io::ErrorKind::NotFound.into())
}

/// The lines of a kernel file, as far as they are wanted, with at most `limit` bytes of each.
pub(crate) fn kernel_lines(
    path: &Path,
    limit: u64,
) -> io::Result<impl Iterator<Item = Vec<u8>> + use<>> {
    let file = open(path, u64::MAX)?.ok_or(io::ErrorKind::NotFound)?;
    let mut reader = BufReader::new(file);
    Ok(iter::from_fn(move || {
        let mut line = Vec::new();
        let mut part = reader.by_ref().take(limit);
        part.read_until(b'\n', &mut line).ok()?;
        if line.last() != Some(&b'\n') {
            reader.skip_until(b'\n').ok()?;
        }
        (!line.is_empty()).then_some(line)
    }))
}

/// The error about a file of more than `limit` bytes.
pub(crate) fn too_long(limit: u64) -> io::Error {
    let message = format!("longer than {limit} bytes");
    io::Error::new(io::ErrorKind::FileTooLarge, message)
}

/// Whether a path does not exist.
pub(crate) fn is_absent(error: &io::Error) -> bool {
    // If a file took the folder's place, the path does not exist either.
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_list_of_the_kernels_is_cut_between_two_lines() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("cgroup.procs");
        std::fs::write(&file, "12\n345\n").unwrap();
        let read = |limit| read_kernel(&file, limit).unwrap();
        assert_eq!(read(8), "12\n345\n");
        assert_eq!(read(5), "12\n");
        assert_eq!(read(2), "");
    }
}
