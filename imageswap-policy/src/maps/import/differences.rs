//! Messages about decisions that differ from the maps file's.

use super::Entry;
use super::rules::Importer;
use crate::maps::checks::At;
use crate::reference::{DEFAULT_REGISTRY, Reference};

impl<'x> Importer<'x> {
    /// A difference of many lines is reported at the first.
    pub(super) fn note_many(&mut self) {
        let spelled = "`nginx`, `library/nginx`, `docker.io/nginx` and `index.docker.io/library/nginx` are one image here; in the file each spelling counts";
        let replaced = "the file puts this wherever the registry's name occurs in an image; here it takes the registry's place only";
        for (code, mut lines, message) in [
            (
                "library-spelling",
                std::mem::take(&mut self.spelled),
                spelled,
            ),
            (
                "repeated-name",
                std::mem::take(&mut self.replaced),
                replaced,
            ),
        ] {
            lines.sort_by_key(At::line);
            lines.dedup_by_key(|it| it.line());
            let Some(first) = lines.first() else {
                continue;
            };
            let more = match lines.len() - 1 {
                0 => String::new(),
                1 => " (1 more line like this)".to_owned(),
                more => format!(" ({more} more lines like this)"),
            };
            self.differences
                .note(first, code, format!("{message}{more}"), None);
        }
    }

    /// Registries that ImageSwap takes as paths on Docker Hub.
    pub(super) fn without_dot(&mut self, entry: &Entry<'x>) {
        let message = "`localhost` and other registries without a dot are paths on docker.io to the file, mostly; here they are registries".to_owned();
        self.differences
            .note(&At::value(entry), "dotless-registry", message, None);
    }

    pub(super) fn mirror_port(&mut self, entry: &Entry<'x>, host: &str, prefix: &str) {
        let message = format!(
            "by the file, `{host}:443/a/b` becomes `{prefix}{host}/b`; here the path stays"
        );
        self.differences
            .note(&At::value(entry), "mirror-port", message, None);
    }

    pub(super) fn old_port(&mut self, entry: &Entry<'x>, prefix: &str) {
        let key = &entry.key;
        let message = format!(
            "by the file, `{key}:443/a` becomes `{prefix}:443/a`; here the port is left out"
        );
        self.differences
            .note(&At::value(entry), "old-port", message, None);
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
        let message = "its images stay, and are approved here; by the file they are not, because the key does not apply".to_owned();
        self.differences
            .warn(&At::key(entry), "approved-here", message, None);
    }

    pub(super) fn left_out(&mut self, at: &At<'_>, what: &str) {
        let message = format!("left out: {what}");
        self.differences.warn(at, "not-imported", message, None);
    }
}
