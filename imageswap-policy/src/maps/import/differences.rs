//! What a policy does otherwise than its maps file, in words.

use super::Entry;
use super::patterns::names_registry;
use super::rules::{Importer, qualified};
use crate::maps::checks::At;
use crate::reference::{DEFAULT_REGISTRY, Reference, canonical_registry, split_port};
use crate::rules::{Glob, Target};

impl<'x> Importer<'x, '_> {
    /// A target on Docker Hub, where canonical forms are not the texts that a maps file makes.
    pub(super) fn hub(&mut self, entry: &Entry<'x>, target: &Target) {
        let place = qualified(&target.prefix);
        let registry = canonical_registry(place.split('/').next().unwrap_or_default());
        if split_port(registry).0 == DEFAULT_REGISTRY && !target.prefix.is_empty() {
            let message = "this leads to docker.io, and what is there already, however it is written, may stay here where the file moves it on".to_owned();
            self.differences
                .note(&At::value(entry), "hub-target", message, None);
        }
    }

    /// A pattern that also speaks of what lies deeper under its own target, or may.
    pub(super) fn flattened(&mut self, entry: &Entry<'x>, glob: &Glob, target: &Target) {
        let deeper = ["a/b", "library/library", "a/nginx"];
        let met = deeper
            .iter()
            .any(|it| glob.matches(&format!("{}/{it}", target.prefix)))
            || !names_registry(glob);
        if met {
            let message = "images that lie under this target already stay here; the file would move those that lie deeper right under it".to_owned();
            self.differences
                .note(&At::value(entry), "under-target", message, None);
        }
    }

    /// A line that means images on Docker Hub, which people spell in many ways.
    pub(super) fn spellings(&mut self, at: At<'x>) {
        self.spelled.push(at);
    }

    /// What holds of all lines that mean images on Docker Hub, said of the first.
    pub(super) fn note_spellings(&mut self) {
        self.spelled.sort_by_key(At::line);
        self.spelled.dedup_by_key(|it| it.line());
        let Some(first) = self.spelled.first() else {
            return;
        };
        let more = match self.spelled.len() - 1 {
            0 => String::new(),
            1 => " (1 more line like this)".to_owned(),
            more => format!(" ({more} more lines like this)"),
        };
        let message = format!(
            "`nginx`, `library/nginx`, `docker.io/nginx` and `index.docker.io/library/nginx` go one way here; by the file their spelling counts{more}"
        );
        self.differences
            .note(first, "library-spelling", message, None);
    }

    pub(super) fn spelling_of(&mut self, entry: &Entry<'x>, image: &Reference<'_>) {
        if image.registry() == DEFAULT_REGISTRY {
            let message =
                "every spelling of this image counts here; by the file only this one".to_owned();
            self.differences
                .note(&At::key(entry), "exact-spelling", message, None);
        }
    }

    pub(super) fn approved_here(&mut self, entry: &Entry<'x>) {
        let message = "its images stay, and are approved here; by the file they are not, for the key does not apply".to_owned();
        self.differences
            .warn(&At::key(entry), "approved-here", message, None);
    }

    pub(super) fn left_out(&mut self, at: &At<'_>, what: &str) {
        let message = format!("left out: {what}");
        self.differences.warn(at, "not-imported", message, None);
    }
}
