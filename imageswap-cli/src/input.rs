//! Reads the files, folders and standard input that the command line names.

use anyhow::{Context, Error, Result, anyhow, bail};
use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

/// Largest text in bytes: a dump of a large cluster is smaller.
const SIZE_MAX: u64 = 64 << 20;
/// Deepest nesting of folders; bounds circular links.
const DEPTH_MAX: usize = 64;
/// Extensions of the files that are read in a folder.
const ENDINGS: [&str; 3] = ["yaml", "yml", "json"];
/// Whether standard input was read: a second read would give an empty text.
static STDIN_READ: AtomicBool = AtomicBool::new(false);

/// A text and its origin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Input {
    /// Its name in messages: the path as given, or as found in a folder.
    pub(crate) name: String,
    /// The file; `None` for standard input.
    pub(crate) path: Option<PathBuf>,
    /// The whole text.
    pub(crate) text: String,
}

/// Reads a file, or standard input for `-`.
///
/// # Errors
/// It cannot be read, was standard input before, has more than 64 MiB, or is not UTF-8; then the
/// message names line and column.
pub(crate) fn read(path: &Path) -> Result<Input> {
    let stdin = path.as_os_str() == "-";
    let name = if stdin {
        "standard input".to_owned()
    } else {
        path.display().to_string()
    };
    if stdin && STDIN_READ.swap(true, Ordering::Relaxed) {
        bail!("standard input can be read only once");
    }
    let bytes = if stdin {
        bytes(io::stdin().lock())
    } else {
        File::open(path).and_then(bytes)
    };
    let bytes = bytes.with_context(|| format!("cannot read {name}"))?;
    if bytes.len() as u64 > SIZE_MAX {
        bail!("{name} has more than {} MiB", SIZE_MAX >> 20);
    }
    Ok(Input {
        text: text(&name, bytes)?,
        path: (!stdin).then(|| path.to_owned()),
        name,
    })
}

/// Reads everything that `paths` name, in order. For a folder, reads the `*.yaml`, `*.yml` and
/// `*.json` files in it and below it, by name. Names in folders that begin with a dot are left out,
/// and no file is read twice.
///
/// Returns errors in addition to the texts that could be read.
pub(crate) fn read_all(paths: &[PathBuf]) -> (Vec<Input>, Vec<Error>) {
    read_all_of(paths, &ENDINGS, &[])
}

/// [`read_all`] with other extensions than `*.yaml`, `*.yml` and `*.json`, and with these names even if they begin with
/// a dot.
pub(crate) fn read_all_of(
    paths: &[PathBuf],
    endings: &'static [&'static str],
    names: &'static [&'static str],
) -> (Vec<Input>, Vec<Error>) {
    let mut walk = Walk {
        endings,
        names,
        ..Walk::default()
    };
    for path in paths {
        let before = walk.files.len() + walk.errors.len();
        if path.is_dir() {
            walk.folder(path, 0);
            if walk.files.len() + walk.errors.len() == before && !walk.repeats {
                let endings: Vec<_> = endings.iter().map(|it| format!("*.{it}")).collect();
                let endings = endings.join(", ");
                walk.errors
                    .push(anyhow!("{} has no file of {endings}", path.display()));
            }
        } else {
            walk.file(path);
        }
    }
    let mut inputs = Vec::new();
    for path in &walk.files {
        match read(path) {
            Ok(input) => inputs.push(input),
            Err(error) => walk.errors.push(error),
        }
    }
    (inputs, walk.errors)
}

/// The files found in paths.
#[derive(Debug, Default)]
struct Walk {
    /// Extensions of the files that are read in folders.
    endings: &'static [&'static str],
    /// Names of files that are read although they begin with a dot.
    names: &'static [&'static str],
    files: Vec<PathBuf>,
    errors: Vec<Error>,
    /// Visited files and folders, by their real path.
    seen: HashSet<PathBuf>,
    /// Whether something was found twice.
    repeats: bool,
}

impl Walk {
    fn folder(&mut self, path: &Path, depth: usize) {
        if depth > DEPTH_MAX || !self.is_new(path) {
            return;
        }
        let entries = fs::read_dir(path).and_then(Iterator::collect::<io::Result<Vec<_>>>);
        let entries = match entries.with_context(|| format!("cannot read {}", path.display())) {
            Ok(entries) => entries,
            Err(error) => return self.errors.push(error),
        };
        let mut entries: Vec<_> = entries.iter().map(fs::DirEntry::path).collect();
        entries.sort();
        for entry in entries {
            let name = entry.file_name().unwrap_or_default();
            let named = self.names.iter().any(|it| name == *it);
            if name.as_encoded_bytes().starts_with(b".") && !named {
                continue;
            }
            if entry.is_dir() {
                self.folder(&entry, depth + 1);
            } else if self.is_wanted(&entry) {
                self.file(&entry);
            }
        }
    }

    fn file(&mut self, path: &Path) {
        if self.is_new(path) {
            self.files.push(path.to_owned());
        }
    }

    fn is_wanted(&self, path: &Path) -> bool {
        let ending = path.extension().unwrap_or_default();
        self.endings
            .iter()
            .any(|it| ending.eq_ignore_ascii_case(it))
    }

    /// Whether this is new. Paths without a real path, such as standard input, are always new.
    fn is_new(&mut self, path: &Path) -> bool {
        let real = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let new = self.seen.insert(real);
        self.repeats |= !new;
        new
    }
}

fn bytes(source: impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    source.take(SIZE_MAX + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn text(name: &str, bytes: Vec<u8>) -> Result<String> {
    String::from_utf8(bytes).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        let bytes = error.into_bytes();
        let before = String::from_utf8_lossy(&bytes[..valid]);
        let line = before.matches('\n').count() + 1;
        let column = before
            .rsplit('\n')
            .next()
            .map_or(0, |it| it.chars().count())
            + 1;
        let byte = bytes[valid];
        anyhow!("{name}:{line}:{column}: the byte 0x{byte:02x} is not UTF-8")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_byte_that_is_no_utf8_has_a_place() {
        let error = text("f", b"a\n\xc3\xa9b\xffc".to_vec()).unwrap_err();
        assert_eq!(error.to_string(), "f:2:3: the byte 0xff is not UTF-8");
    }

    #[test]
    fn folders_are_read_by_name_and_once() {
        let folder = tempfile::tempdir().unwrap();
        let at = |it: &str| folder.path().join(it);
        fs::create_dir_all(at("sub/deep")).unwrap();
        fs::create_dir_all(at(".git")).unwrap();
        fs::create_dir_all(at("empty")).unwrap();
        for name in [
            "b.yaml",
            "a.yml",
            "sub/c.JSON",
            "sub/deep/d.json",
            "notes.txt",
            ".hidden.yaml",
            ".git/x.yaml",
        ] {
            fs::write(at(name), name).unwrap();
        }
        symlink(folder.path(), at("sub/loop")).unwrap();
        symlink(at("b.yaml"), at("z.yaml")).unwrap();
        symlink(at("nowhere"), at("broken.yaml")).unwrap();

        let (inputs, errors) = read_all(&[folder.path().to_owned(), at("b.yaml"), at("notes.txt")]);
        let texts: Vec<_> = inputs.iter().map(|it| it.text.as_str()).collect();
        assert_eq!(
            texts,
            [
                "a.yml",
                "b.yaml",
                "sub/c.JSON",
                "sub/deep/d.json",
                "notes.txt"
            ]
        );
        assert_eq!(inputs[1].path, Some(at("b.yaml")));
        let errors: Vec<_> = errors.iter().map(|it| format!("{it:#}")).collect();
        assert_eq!(errors.len(), 1, "{errors:?}");
        assert!(
            errors[0].contains("broken.yaml: No such file"),
            "{errors:?}"
        );

        let (inputs, errors) = read_all(&[at("empty")]);
        assert!(inputs.is_empty() && errors[0].to_string().contains("has no file of *.yaml"));
        let (_, errors) = read_all(&[at("b.yaml"), at("missing.yaml")]);
        assert!(errors[0].to_string().starts_with("cannot read "));
    }
}
