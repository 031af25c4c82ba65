//! Keeps images under the maps file's targets, which rules of the policy would move on.

use super::Written;
use super::patterns::names_registry;
use super::rules::{Importer, qualified};
use crate::maps::lines::{Entry, Section};
use crate::maps_engine::Glob;
use crate::maps_engine::{is_bare_host, target_prefix};
use crate::pattern::Pattern;
use crate::reference::{Reference, split_port};
use regex_automata::meta::Regex;

impl Importer<'_> {
    /// In the file, images under a target stay and are approved, even if the line of that target is
    /// never used. So targets that a rule of the policy would move on, or that none mentions, are
    /// kept before all other rules.
    pub(super) fn settle(&mut self) {
        let mut kept: Vec<(usize, String)> = Vec::new();
        for entry in self.effective.all() {
            for (image, pattern) in targets(entry) {
                let lost = !self.holds(&image) || self.may_move(&pattern);
                if lost && !kept.iter().any(|(_, it)| *it == pattern) {
                    kept.push((entry.line, pattern));
                }
            }
        }
        let count = kept.len();
        for (line, keep) in kept {
            let keep = Some(keep);
            let name = format!("maps:{line} target");
            self.push(
                line,
                &name,
                Written {
                    keep,
                    ..Written::default()
                },
            );
        }
        self.rules.rotate_right(count);
        self.lines.rotate_right(count);
    }

    /// Whether an `[EXACT]` key or a `[REPLACE]` pattern may match some matches of a pattern.
    fn may_move(&self, pattern: &str) -> bool {
        let registry = pattern.split('/').next().unwrap_or(pattern);
        let place = Pattern::parse(pattern);
        let within = |key: &str| {
            let key = Reference::parse(key);
            key.is_ok_and(|key| place.as_ref().is_ok_and(|it| it.matches(&key)))
        };
        self.effective.exact.keys().any(|it| within(it))
            || self.effective.replace.iter().any(|it| {
                let named = names_registry(&Glob::new(&it.key));
                !named || it.key.split('/').next() == Some(registry)
            })
    }

    /// Whether by the rules so far an image stays and is approved, judging by patterns.
    fn holds(&self, image: &str) -> bool {
        let Ok(reference) = Reference::parse(image) else {
            return true;
        };
        let means = |pattern: &str| Pattern::parse(pattern).is_ok_and(|it| it.matches(&reference));
        let under = |it: &Written| {
            it.to
                .as_deref()
                .is_some_and(|it| means(&format!("{it}/**")))
        };
        let canonical = reference.canonical();
        let fits = |regex: &str| {
            let whole = Regex::new(&format!("^(?:{regex})$"));
            whole.is_ok_and(|it| it.is_match(&canonical))
        };
        let first = self.rules.iter().find(|it| {
            let pattern = it.keep.as_deref().or(it.from.as_deref());
            pattern.is_some_and(means) || it.regex.as_deref().is_some_and(fits) || under(it)
        });
        first.is_some_and(|it| it.keep.is_some() || under(it))
    }
}

/// The target of a line: an image there, and the pattern of all of them.
fn targets(entry: &Entry<'_>) -> Vec<(String, String)> {
    let prefix = target_prefix(&entry.value);
    let below = |place: String| (format!("{place}/image"), format!("{place}/**"));
    match entry.section {
        _ if prefix.is_empty() => Vec::new(),
        Section::NoSwap => Vec::new(),
        Section::Exact => {
            let Ok(image) = Reference::parse(&entry.value) else {
                return Vec::new();
            };
            let latest = if image.tag().is_none() && image.digest().is_none() {
                ":latest"
            } else {
                ""
            };
            vec![(
                entry.value.clone(),
                format!("{}{latest}", image.canonical()),
            )]
        }
        Section::Default if prefix.ends_with('-') => {
            let prefix = qualified(prefix);
            vec![(format!("{prefix}a.example/image"), format!("{prefix}*/**"))]
        }
        Section::Plain if prefix.ends_with('-') => {
            let host = entry.key.strip_suffix("/library").unwrap_or(&entry.key);
            let host = split_port(host).0;
            vec![below(qualified(&format!("{prefix}{host}")))]
        }
        Section::Plain if is_bare_host(prefix) && split_port(&entry.key).1.is_none() => {
            // A host is also a target with the port that it takes over.
            let place = qualified(prefix);
            let port = (format!("{prefix}:443/image"), format!("{prefix}:*/**"));
            vec![below(place), port]
        }
        Section::Default | Section::Plain | Section::Replace => vec![below(qualified(prefix))],
    }
}
