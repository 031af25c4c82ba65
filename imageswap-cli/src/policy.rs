//! Reads the policy that the command line names.

use crate::{input, report};
use anyhow::{Context, Result, bail};
use clap::Args;
use imageswap_policy::document;
use imageswap_policy::maps::{self, Loaded};
use imageswap_policy::{Date, Diagnostics, Policies, parse_day};
use std::path::{Path, PathBuf};
use time::OffsetDateTime;

/// A file or folder with the policy of commands that are given none.
const VARIABLE: &str = "IMAGESWAP_POLICY";

/// Where the policy comes from: a flag, or else [`VARIABLE`].
#[derive(Debug, Args)]
#[group(skip)]
pub(crate) struct PolicyArgs {
    #[command(flatten)]
    flags: PolicyFlags,
}

/// Flags for the policy; at most one may be given.
#[derive(Debug, Args)]
#[group(multiple = false)]
pub(crate) struct PolicyFlags {
    /// ImageSwapPolicies: files, folders, or `-`; repeatable
    #[arg(long, value_name = "FILE or DIR")]
    policy: Vec<PathBuf>,
    /// A maps file of the Python ImageSwap
    #[arg(long, value_name = "FILE")]
    maps: Option<PathBuf>,
    /// The Python ImageSwap's legacy mode: the prefix that every image gets
    #[arg(long, value_name = "PREFIX")]
    image_prefix: Option<String>,
}

/// The day that decides about ended exceptions.
#[derive(Debug, Args)]
pub(crate) struct DateArgs {
    /// Decide as on this day (UTC) [default: today]
    #[arg(long, value_name = "YYYY-MM-DD", value_parser = parse_date)]
    date: Option<Date>,
}

impl DateArgs {
    /// The given day, or today, in UTC.
    pub(crate) fn date(&self) -> Date {
        self.date.unwrap_or_else(today)
    }
}

impl PolicyArgs {
    /// The maps file, if a flag names one.
    pub(crate) fn maps(&self) -> Option<&Path> {
        self.flags.maps.as_deref()
    }

    /// Reads and compiles the policies; their diagnostics go to standard error.
    ///
    /// # Errors
    /// They do not load, or none is named.
    pub(crate) fn load(&self) -> Result<Policies> {
        match std::env::var_os(VARIABLE) {
            Some(path) if !self.flags.given() && !path.is_empty() => {
                load_any(Path::new(&path)).context(VARIABLE)
            }
            _ => self.flags.load(),
        }
    }
}

impl PolicyFlags {
    /// Whether a flag is given.
    pub(crate) fn given(&self) -> bool {
        !self.policy.is_empty() || self.maps.is_some() || self.image_prefix.is_some()
    }

    /// Reads and compiles the policies; their diagnostics go to standard error.
    ///
    /// # Errors
    /// They do not load, or no flag is given.
    pub(crate) fn load(&self) -> Result<Policies> {
        if !self.policy.is_empty() {
            return documents(&self.policy);
        }
        match (&self.maps, &self.image_prefix) {
            (Some(path), _) => maps_file(path),
            (None, Some(prefix)) => one(
                "--image-prefix",
                maps::load_prefix("--image-prefix", prefix),
            ),
            (None, None) => bail!(
                "no policy is named: give --policy, --maps or --image-prefix, or set {VARIABLE} to a file or folder"
            ),
        }
    }
}

/// Reads a policy of either format, recognised by the file's content.
pub(crate) fn load_any(path: &Path) -> Result<Policies> {
    if path.is_dir() {
        return documents(&[path.to_owned()]);
    }
    let input = input::read(path)?;
    if is_document(path, &input.text) {
        set([(input.name.as_str(), input.text.as_str())])
    } else {
        one(&input.name, maps::load(&input.name, &input.text))
    }
}

/// Whether to read a text as ImageSwapPolicies instead of a maps file.
pub(crate) fn is_document(path: &Path, text: &str) -> bool {
    let extension = path.extension().and_then(|it| it.to_str());
    if matches!(extension, Some("yaml" | "yml" | "json")) {
        return true;
    }
    // `kind::x` is a line of a maps file.
    let is_field = |line: &str| {
        let rest = ["apiVersion:", "kind:"]
            .iter()
            .find_map(|it| line.strip_prefix(it));
        rest.is_some_and(|it| it.is_empty() || it.starts_with([' ', '\t']))
    };
    let begins = |line: &str| line.starts_with("---") || line.starts_with('{') || is_field(line);
    text.lines()
        .map(|it| it.trim_start_matches('\u{feff}'))
        .find(|it| !it.trim().is_empty() && !it.trim_start().starts_with('#'))
        .is_some_and(begins)
}

/// Today, in UTC.
pub(crate) fn today() -> Date {
    OffsetDateTime::now_utc().date()
}

/// Reads a day, `YYYY-MM-DD`.
pub(crate) fn parse_date(text: &str) -> Result<Date, String> {
    parse_day(text).map_err(|it| it.to_string())
}

fn documents(paths: &[PathBuf]) -> Result<Policies> {
    let (inputs, errors) = input::read_all(paths);
    if let Some(error) = errors.into_iter().next() {
        return Err(error);
    }
    set(inputs.iter().map(|it| (it.name.as_str(), it.text.as_str())))
}

fn set<'a>(texts: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Policies> {
    match document::load_all(texts) {
        Ok(loaded) => {
            show(&loaded.warnings);
            Ok(Policies::new(loaded.policies))
        }
        Err(diagnostics) => {
            show(&diagnostics);
            bail!("the policy does not load")
        }
    }
}

fn maps_file(path: &Path) -> Result<Policies> {
    let input = input::read(path)?;
    one(&input.name, maps::load(&input.name, &input.text))
}

fn one(source: &str, loaded: Result<Loaded, Diagnostics>) -> Result<Policies> {
    match loaded {
        Ok(Loaded { policy, warnings }) => {
            show(&warnings);
            Ok(Policies::one(policy))
        }
        Err(diagnostics) => {
            show(&diagnostics);
            bail!("{source} does not load")
        }
    }
}

fn show(diagnostics: &Diagnostics) {
    if !diagnostics.is_empty() {
        report(&format!("{diagnostics}\n"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_maps_file_is_no_document() {
        for (name, text, expected) in [
            ("p", "kind: ImageSwapPolicy\n", true),
            ("p", "# ours\n\napiVersion: imageswap.io/v1alpha1\r\n", true),
            ("p", "\u{feff}kind:\n  ImageSwapPolicy\n", true),
            ("p", "---\n", true),
            ("p", "{\"kind\": \"ImageSwapPolicy\"}", true),
            ("p.yaml", "kind::x\n", true),
            ("p", "kind::x\n", false),
            ("p", "kind:5000::x\n", false),
            ("p", "apiVersion::r.io\n", false),
            ("p", "default::r.io\nkind: x\n", false),
            ("p", "", false),
        ] {
            assert_eq!(
                is_document(Path::new(name), text),
                expected,
                "{name}: {text}"
            );
        }
    }
}
