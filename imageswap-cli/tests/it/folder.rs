//! A folder with files, in which the command runs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use imageswap_lab::Ran;

/// Three rules and approvals of one registry; the spec is the end of the text.
pub(crate) const CORP: &str = include_str!("../data/corp.yaml");

/// A maps file as users have it.
pub(crate) const MAPS: &str = "default:registry.example.com\n#gcr.io: # This is a comment\n\
                    gitlab.com:registry.example.com/gitlab\nnoswap_wildcards:example.com\n";

pub(crate) struct Folder(tempfile::TempDir);

impl Folder {
    pub(crate) fn new(files: &[(&str, &str)]) -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        for (name, text) in files {
            folder.write(name, text);
        }
        folder
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.at(name)).unwrap()
    }

    /// Writes a file, and makes the folders above it.
    pub(crate) fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        let path = self.at(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Runs the command in the folder; words are separated by single spaces.
    pub(crate) fn run(&self, words: &str) -> Ran {
        self.run_with(words, "")
    }

    /// [`Self::run`], with a text on standard input.
    pub(crate) fn run_with(&self, words: &str, input: &str) -> Ran {
        let mut command = imageswap(self.path());
        Ran::of(command.args(words.split(' ')), input).unwrap()
    }
}

/// The command in a folder, without settings of the user.
pub(crate) fn imageswap(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_imageswap"));
    command
        .current_dir(folder)
        .env("HOME", folder)
        .env("NO_COLOR", "1")
        .env_remove("IMAGESWAP_POLICY");
    command
}

/// Runs a line of a shell in a folder; `imageswap` is the command under test.
pub(crate) fn shell(folder: &Path, line: &str) -> Ran {
    let bin = Path::new(env!("CARGO_BIN_EXE_imageswap")).parent().unwrap();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let mut command = Command::new("sh");
    command
        .args(["-ec", line])
        .current_dir(folder)
        .env("PATH", path)
        .env("NO_COLOR", "1");
    Ran::of(&mut command, "").unwrap()
}

/// A policy of this name and spec.
pub(crate) fn policy(name: &str, spec: &str) -> String {
    format!(
        "apiVersion: imageswap.io/v1alpha1\nkind: ImageSwapPolicy\nmetadata: {{name: {name}}}\nspec: {spec}\n"
    )
}

/// A folder of measured cases beside the repository; prints a note and returns `None` if it is missing.
pub(crate) fn measured(name: &str) -> Option<PathBuf> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared");
    let folder = Path::new(folder).join(name);
    if !folder.exists() {
        imageswap_lab::skip(name, &format!("no {}", folder.display()));
        return None;
    }
    Some(folder)
}

/// Compares with a file of `tests/data`; `IMAGESWAP_WRITE=1` writes it anew.
#[track_caller]
pub(crate) fn assert_snapshot(name: &str, found: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data")
        .join(name);
    if std::env::var_os("IMAGESWAP_WRITE").is_some() {
        fs::write(&path, found).unwrap();
    }
    let kept = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        kept == found,
        "{name}: IMAGESWAP_WRITE=1 cargo test writes it anew\n{found}"
    );
}
