//! A compiled maps file: ImageSwap 1.5.3's answer, and the same by the grammar of references.

use super::{Answer, Glob, Path, Rule, last_segment, target_prefix};
use crate::reference::{DEFAULT_REGISTRY, Reference, cut, split_port};
use foldhash::HashMap;

/// Positions of rules, by their keys.
#[derive(Debug, Clone, Default)]
pub(crate) struct File {
    pub(crate) exact: HashMap<String, usize>,
    /// In the order of their first occurrence.
    pub(crate) patterns: Vec<(Glob, usize)>,
    /// By registry.
    pub(crate) registries: HashMap<String, Keys>,
    pub(crate) items: Vec<Item>,
    pub(crate) default: Option<usize>,
}

/// The keys for one registry.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Keys {
    /// `registry`.
    pub(crate) plain: Option<usize>,
    /// `registry/library`.
    pub(crate) library: Option<usize>,
}

/// An item of `noswap_wildcards`.
#[derive(Debug, Clone)]
pub(crate) struct Item {
    pub(crate) rule: usize,
    pub(crate) text: String,
    /// What it approves.
    pub(crate) place: Path,
}

impl File {
    /// ImageSwap's answer for `image`, mistakes included.
    pub(super) fn first_pass<'a>(&self, rules: &[Rule], image: &'a str) -> Answer<'a> {
        if let Some(answer) = self.whole(rules, image) {
            return answer;
        }
        let Some(default) = self.default else {
            return Answer::stays(None, image);
        };
        // To ImageSwap a first segment without a dot is part of the path.
        let written = cut(image, b'/')
            .filter(|(first, rest)| first.bytes().any(|it| it == b'.') && !rest.is_empty())
            .map(|(first, _)| first);
        let registry = written.unwrap_or(DEFAULT_REGISTRY);
        let host = cut(registry, b':').map_or(registry, |(host, _)| host);
        let (mut key, mut keys) = (registry, self.keys(registry));
        if keys.plain.is_none() && host != registry {
            let any_port = self.keys(host);
            if any_port.plain.is_some() {
                (key, keys) = (host, any_port);
            }
        }
        if keys.plain.is_some() || keys.library.is_some() {
            let library = keys.library.filter(|_| !image.contains('/'));
            let Some(rule) = library.or(keys.plain) else {
                return Answer::fails(None);
            };
            let value = rules[rule].value.as_str();
            if value.is_empty() {
                return Answer::stays(Some(rule), image);
            }
            if value.ends_with('-') {
                let image = without_port(image);
                return Answer::new(
                    rule,
                    match written {
                        Some(_) => format!("{value}{image}"),
                        None => format!("{value}{host}/{image}"),
                    },
                );
            }
            // A bare name does not contain the key `docker.io/library`, which ImageSwap then
            // searches for.
            let key = if library.is_some() { "" } else { key };
            return replaced(rule, key, value, image);
        }
        let value = rules[default].value.as_str();
        if value.is_empty() {
            return Answer::stays(None, image);
        }
        if let Some(item) = self.item(image) {
            return Answer::stays(Some(item.rule), image);
        }
        if value.ends_with('-') {
            return Answer::new(default, format!("{value}{host}/{image}"));
        }
        replaced(default, registry, value, image)
    }

    /// The same if ImageSwap's answer is not a reference or does not stay: by the grammar of
    /// references, in which a registry needs no dot, and only the registry is replaced.
    pub(super) fn mended<'a>(&self, rules: &[Rule], reference: &Reference<'a>) -> Answer<'a> {
        let image = reference.as_str();
        if let Some(Answer {
            rule: Some(rule), ..
        }) = self.whole(rules, image)
        {
            let value = rules[rule].value.as_str();
            return match (self.exact.contains_key(image), value) {
                (true, "") => Answer::stays(Some(rule), image),
                (true, _) | (_, "") => Answer::fails(Some(rule)),
                _ => {
                    let prefix = target_prefix(value);
                    Answer::new(rule, format!("{prefix}/{}", last_segment(image)))
                }
            };
        }
        let written = reference.written_registry();
        let registry = written.unwrap_or(DEFAULT_REGISTRY);
        let host = split_port(registry).0;
        let rest = reference.remainder();
        if let Some(rule) = self.named(reference) {
            let value = rules[rule].value.as_str();
            let prefix = target_prefix(value);
            if value.is_empty() {
                return Answer::stays(Some(rule), image);
            }
            if prefix.ends_with('-') {
                return Answer::new(rule, format!("{prefix}{host}/{rest}"));
            }
            let carries = is_bare_host(prefix) && self.keys(registry).plain != Some(rule);
            let port = if carries { &registry[host.len()..] } else { "" };
            return Answer::new(rule, format!("{prefix}{port}/{rest}"));
        }
        let default = self.default.filter(|it| !rules[*it].value.is_empty());
        let Some(default) = default else {
            return Answer::stays(None, image);
        };
        if let Some(item) = self.item(image) {
            return Answer::stays(Some(item.rule), image);
        }
        let prefix = target_prefix(&rules[default].value);
        let text = match written {
            // ImageSwap writes the registry twice, which is valid except for its port.
            Some(_) if prefix.ends_with('-') => format!("{prefix}{host}/{host}/{rest}"),
            None if prefix.ends_with('-') => format!("{prefix}{host}/{rest}"),
            _ => format!("{prefix}/{rest}"),
        };
        Answer::new(default, text)
    }

    /// Whether an image that stays is approved, because its author wanted it to stay.
    pub(super) fn approves(&self, rules: &[Rule], reference: &Reference<'_>) -> bool {
        let image = reference.as_str();
        let keeps = |rule: usize| rules[rule].value.is_empty();
        if let Some(rule) = self.exact.get(image) {
            return keeps(*rule);
        }
        if self.patterns.iter().any(|(it, _)| it.matches(image)) {
            return false;
        }
        if let Some(rule) = self.named(reference) {
            return keeps(rule);
        }
        self.default.is_none_or(keeps) || self.items.iter().any(|it| it.keeps(reference))
    }

    /// The registry key that names the image by the grammar of references. A key with a port comes
    /// before the same host without, and the key of bare names before that of `docker.io`.
    pub(super) fn named(&self, reference: &Reference<'_>) -> Option<usize> {
        let written = reference.written_registry();
        let registry = written.unwrap_or(DEFAULT_REGISTRY);
        let keys = self.keys(registry);
        let library = keys.library.filter(|_| !reference.as_str().contains('/'));
        let any_port = || self.keys(split_port(registry).0).plain;
        library.or(keys.plain).or_else(any_port)
    }

    /// The answer of an `[EXACT]` key or a `[REPLACE]` pattern.
    fn whole<'a>(&self, rules: &[Rule], image: &'a str) -> Option<Answer<'a>> {
        if let Some(&rule) = self.exact.get(image) {
            return Some(Answer::new(rule, rules[rule].value.clone()));
        }
        let (_, rule) = self.patterns.iter().find(|(it, _)| it.matches(image))?;
        let value = rules[*rule].value.as_str();
        let last = last_segment(image);
        Some(match value {
            "" => Answer::stays(Some(*rule), last),
            _ if value.ends_with('/') => Answer::new(*rule, format!("{value}{last}")),
            _ => Answer::new(*rule, format!("{value}/{last}")),
        })
    }

    fn keys(&self, registry: &str) -> Keys {
        self.registries.get(registry).copied().unwrap_or_default()
    }

    /// The first item that the text contains.
    fn item(&self, image: &str) -> Option<&Item> {
        self.items.iter().find(|it| image.contains(&it.text))
    }
}

impl Item {
    /// Whether it approves the image: it is the whole host, or host and path prefix.
    fn keeps(&self, reference: &Reference<'_>) -> bool {
        !self.text.is_empty()
            && reference.as_str().contains(&self.text)
            && self.place.holds(reference)
    }
}

/// A host without port and path, which an old port may follow.
pub(crate) fn is_bare_host(prefix: &str) -> bool {
    !prefix.contains(['/', ':'])
}

/// The text without everything from the first `:` to the last `/` after it: meant for ports.
fn without_port(image: &str) -> String {
    match (image.find(':'), image.rfind('/')) {
        (Some(colon), Some(slash)) if colon < slash => {
            format!("{}{}", &image[..colon], &image[slash..])
        }
        _ => image.to_owned(),
    }
}

/// Replaces every occurrence of the key by the value; the key is a regular expression and the value
/// a template. An image that does not contain the key gets the value as a prefix.
fn replaced<'a>(rule: usize, key: &str, value: &str, image: &'a str) -> Answer<'a> {
    let plain = |it: u8| it.is_ascii_alphanumeric() || b".:/-_".contains(&it);
    if key.is_empty() || !image.contains(key) {
        return Answer::new(rule, format!("{value}/{image}"));
    }
    // With groups and other regex syntax, the result is never a reference.
    if !key.bytes().all(plain) || value.contains('\\') || !image.is_ascii() {
        return Answer::fails(Some(rule));
    }
    let mut text = String::with_capacity(value.len() + image.len());
    let mut at = 0;
    while at < image.len() {
        let here = image.as_bytes().get(at..at + key.len());
        let found = here.is_some_and(|it| {
            let mut pairs = key.bytes().zip(it);
            pairs.all(|(key, it)| key == b'.' || key == *it)
        });
        if found {
            text.push_str(value);
            at += key.len();
        } else {
            text.push(char::from(image.as_bytes()[at]));
            at += 1;
        }
    }
    Answer::new(rule, text)
}
