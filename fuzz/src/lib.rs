//! Properties that must hold for any text that people or programs give to ImageSwap.
//!
//! Each target reads one kind of text and panics if a property is broken. Tests run the targets on
//! their seeds; libFuzzer runs them on mutations of the seeds (`cargo xtask fuzz`). The programs in
//! `targets/` only connect the two.
#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};
use std::{env, fs, io};

pub mod import;
pub mod manifest;
pub mod maps;
pub mod policy;
pub mod reference;
pub mod review;
mod sound;

/// Every target.
pub const TARGETS: [Target; 6] = [
    maps::TARGET,
    policy::TARGET,
    reference::TARGET,
    manifest::TARGET,
    import::TARGET,
    review::TARGET,
];

/// Environment variable with the folder that [`Target::prepare`] writes to; unset, it writes nothing.
pub const FOLDER: &str = "IMAGESWAP_FUZZ_FOLDER";

/// One kind of text, and its properties.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Short name, such as `maps`.
    pub name: &'static str,
    /// Panics if this text breaks a property.
    pub check: fn(&str),
    /// Texts to begin with.
    pub seeds: fn() -> Vec<String>,
    /// Words of such texts; the fuzzer inserts them anywhere.
    pub words: &'static [&'static str],
}

impl Target {
    /// Checks the text of `input`. Bytes that are not UTF-8 become U+FFFD, because the readers of
    /// files refuse them before any of this code runs.
    pub fn run(&self, input: &[u8]) {
        (self.check)(&String::from_utf8_lossy(input));
    }

    /// Writes the seeds and the dictionary into the folder that [`FOLDER`] names, before libFuzzer looks for them.
    ///
    /// # Panics
    /// If a file cannot be written: a run without seeds would find little without saying why.
    pub fn prepare(&self) {
        if let Some(folder) = env::var_os(FOLDER).map(PathBuf::from)
            && let Err(error) = self.write(&folder)
        {
            panic!("{}: {error}", folder.display());
        }
    }

    fn write(&self, folder: &Path) -> io::Result<()> {
        let seeds = folder.join("seeds");
        // Seeds of another version would stay forever.
        if seeds.exists() {
            fs::remove_dir_all(&seeds)?;
        }
        fs::create_dir_all(&seeds)?;
        for (number, seed) in (self.seeds)().iter().enumerate() {
            fs::write(seeds.join(number.to_string()), seed)?;
        }
        let entries = self.words.iter().map(|word| entry(word));
        fs::write(folder.join("words"), entries.collect::<String>())
    }
}

/// A line of libFuzzer's dictionary format.
fn entry(word: &str) -> String {
    let escaped = word.bytes().map(|byte| match byte {
        b'"' | b'\\' => format!("\\{}", char::from(byte)),
        b' '..=b'~' => char::from(byte).to_string(),
        _ => format!("\\x{byte:02x}"),
    });
    format!("\"{}\"\n", escaped.collect::<Vec<_>>().concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn promises_hold_of_every_seed_and_of_every_beginning_of_one() {
        for target in TARGETS {
            for seed in (target.seeds)() {
                target.run(seed.as_bytes());
                for end in 0..seed.len() {
                    target.run(&seed.as_bytes()[..end]);
                }
            }
        }
    }

    #[test]
    fn seeds_and_words_are_written_anew() {
        let folder = env::temp_dir().join(format!("imageswap-fuzz-{}", std::process::id()));
        let old = folder.join("seeds/old");
        fs::create_dir_all(old.parent().unwrap()).unwrap();
        fs::write(&old, "").unwrap();
        maps::TARGET.write(&folder).unwrap();
        let seeds = fs::read_dir(folder.join("seeds")).unwrap().count();
        let words = fs::read_to_string(folder.join("words")).unwrap();
        fs::remove_dir_all(&folder).unwrap();
        assert_eq!(seeds, (maps::TARGET.seeds)().len());
        assert_eq!(words.lines().count(), maps::TARGET.words.len());
        assert!(!old.exists());
    }

    #[test]
    fn a_word_is_written_as_libfuzzer_reads_it() {
        assert_eq!(entry("a\"\\\n\u{e9}"), "\"a\\\"\\\\\\x0a\\xc3\\xa9\"\n");
    }
}
