//! What ImageSwap 1.5 itself makes of an image, mistakes included: the measure of what a note says of it.

use crate::maps::compile::{Effective, LIBRARY_KEY};
use crate::maps::lines::Entry;
use crate::reference::DEFAULT_REGISTRY;
use crate::rules::Glob;

/// ImageSwap under one maps file.
pub(super) struct ImageSwap<'a> {
    effective: &'a Effective<'a>,
    patterns: Vec<(Glob, &'a str)>,
}

impl<'a> ImageSwap<'a> {
    pub(super) fn new(effective: &'a Effective<'a>) -> Self {
        let patterns = effective.replace.iter();
        Self {
            effective,
            patterns: patterns
                .map(|it| (Glob::new(&it.key), it.value.as_str()))
                .collect(),
        }
    }

    /// Its answer; `None` where it fails, or where that hangs on regular expressions in keys or values.
    pub(super) fn answer(&self, image: &str) -> Option<String> {
        if let Some(entry) = self.effective.exact.get(image) {
            return Some(entry.value.clone());
        }
        if let Some((_, prefix)) = self.patterns.iter().find(|(glob, _)| glob.matches(image)) {
            let last = image.rsplit('/').next().unwrap_or(image);
            let slash = if prefix.is_empty() || prefix.ends_with('/') {
                ""
            } else {
                "/"
            };
            return Some(format!("{prefix}{slash}{last}"));
        }
        let Some(default) = self.effective.default else {
            return Some(image.to_owned());
        };
        let written = image
            .split_once('/')
            .filter(|(first, rest)| first.contains('.') && !rest.is_empty())
            .map(|(first, _)| first);
        let registry = written.unwrap_or(DEFAULT_REGISTRY);
        let host = registry.split(':').next().unwrap_or(registry);
        let plain = &self.effective.plain;
        let key = if !plain.contains_key(registry) && plain.contains_key(host) {
            host
        } else {
            registry
        };
        let library = format!("{key}/library");
        if plain.contains_key(key) || plain.contains_key(library.as_str()) {
            let key = if !image.contains('/') && plain.contains_key(library.as_str()) {
                library.as_str()
            } else {
                key
            };
            let value = plain.get(key)?.value.as_str();
            if value.is_empty() {
                return Some(image.to_owned());
            }
            if value.ends_with('-') {
                let host = written.map_or_else(|| format!("{host}/"), |_| String::new());
                return Some(format!("{value}{host}{}", without_port(image)));
            }
            return replace(key, value, image);
        }
        if self.keeps(image) || default.value.is_empty() {
            return Some(image.to_owned());
        }
        if default.value.ends_with('-') {
            return Some(format!("{}{host}/{image}", default.value));
        }
        replace(registry, &default.value, image)
    }

    fn keeps(&self, image: &str) -> bool {
        let items = self.effective.noswap.map(Entry::items);
        items
            .unwrap_or_default()
            .iter()
            .any(|it| image.contains(it.text))
    }
}

/// Whether a key is one that only bare names take.
pub(super) fn is_library(key: &str) -> bool {
    key == LIBRARY_KEY
}

/// What is left when everything from the first `:` to the last `/` after it goes: meant for ports.
fn without_port(image: &str) -> String {
    match (image.find(':'), image.rfind('/')) {
        (Some(colon), Some(slash)) if colon < slash => {
            format!("{}{}", &image[..colon], &image[slash..])
        }
        _ => image.to_owned(),
    }
}

/// Every occurrence of the key gives way to the value, the key being a regular expression and the value a template.
fn replace(key: &str, value: &str, image: &str) -> Option<String> {
    let plain = |it: char| it.is_ascii_alphanumeric() || ".:/-_".contains(it);
    if !key.chars().all(plain) || value.contains('\\') || !image.is_ascii() {
        return None;
    }
    if key.is_empty() || !image.contains(key) {
        return Some(format!("{value}/{image}"));
    }
    let (mut text, mut at) = (String::new(), 0);
    while at < image.len() {
        let here = image.as_bytes().get(at..at + key.len());
        let found = here.is_some_and(|it| {
            key.bytes()
                .zip(it)
                .all(|(key, it)| key == b'.' || key == *it)
        });
        if found {
            text.push_str(value);
            at += key.len();
        } else {
            text.push(char::from(image.as_bytes()[at]));
            at += 1;
        }
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::maps::lines;

    fn answer(maps: &str, image: &str) -> Option<String> {
        let entries: Vec<_> = lines::lines(maps)
            .filter_map(|it| it.entry().ok())
            .collect();
        let effective = Effective::of(&entries);
        ImageSwap::new(&effective).answer(image)
    }

    #[test]
    fn answers_are_those_that_were_measured() {
        let mut seen = 0;
        for file in ["imageswap_maps.jsonl", "imageswap_maps_invariants.jsonl"] {
            for row in crate::testing::rows(file).unwrap_or_default() {
                let text = |key: &str| row[key].as_str().map(str::to_owned);
                if text("mode").as_deref() != Some("maps") {
                    continue;
                }
                let got = answer(&text("maps").unwrap(), &text("image").unwrap());
                assert_eq!(got, text("expected").or(text("peer_result")), "{row}");
                seen += 1;
                let notes = text("note").unwrap_or_default();
                if let Some((_, again)) = notes.split_once("a second pass gives ") {
                    let again = again.split("; ").next().unwrap();
                    let second = answer(&text("maps").unwrap(), &got.unwrap());
                    assert_eq!(second.as_deref(), Some(again), "{row}");
                }
            }
        }
        assert!(seen == 0 || seen > 500, "{seen} rows");
    }

    #[test]
    fn what_cannot_be_told_is_not_said() {
        for (maps, image, expected) in [
            ("default::\na[b]:1::x.io\n", "a[b]:1/x", Some("a[b]:1/x")),
            ("default::\na.[b]::x.io\n", "a.[b]/x", None),
            ("default::d.io/\\1\n", "x", None),
            ("default::d.io\n", "\u{e4}", None),
            ("default::d.io\nquay.io/library::l.io\n", "quay.io/x", None),
        ] {
            assert_eq!(
                answer(maps, image).as_deref(),
                expected,
                "{image} under\n{maps}"
            );
        }
    }
}
