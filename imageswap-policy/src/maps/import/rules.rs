//! Converts the lines of a maps file, in ImageSwap's order, to rules of an ImageSwapPolicy.

use super::patterns::{last_segments, names_registry};
use super::{Diagnostics, Effective, Entry, Policy, Written};
use crate::decision::{Decision, Scope};
use crate::maps::Options;
use crate::maps::checks::{At, Checker, instead, unused_key};
use crate::maps::compile::{LIBRARY_KEY, rule_name};
use crate::maps_engine::Glob;
use crate::maps_engine::{Path, is_bare_host, target_prefix};
use crate::pattern::Pattern;
use crate::reference::{DEFAULT_REGISTRY, Reference, canonical_registry, is_registry, split_port};
use crate::rules::Expression;
use std::collections::BTreeSet;
use time::Date;

/// Images on Docker Hub whose path is a bare name.
const OFFICIAL: &str = "docker.io/library/*";
const OFFICIAL_REGEX: &str = r"docker\.io/library/([^/]+)";
const HUB_REGEX: &str = r"docker\.io/(.+)";
/// Registry without port, and the rest.
const ANY_REGEX: &str = r"([^/:]+)(?::[0-9]+)?/(.+)";

pub(super) struct Importer<'x> {
    pub(super) effective: &'x Effective<'x>,
    /// The last line that counts.
    last: Option<&'x Entry<'x>>,
    policy: &'x Policy,
    pub(super) rules: Vec<Written>,
    pub(super) lines: Vec<usize>,
    names: BTreeSet<String>,
    pub(super) differences: Checker<'x>,
    /// Whether a rule matches all of [`OFFICIAL`] already.
    official: bool,
    /// Lines that match images on Docker Hub.
    pub(super) spelled: Vec<At<'x>>,
    /// Lines that replace a registry's name wherever it occurs.
    pub(super) replaced: Vec<At<'x>>,
}

impl<'x> Importer<'x> {
    pub(super) fn new(
        source: &'x str,
        effective: &'x Effective<'x>,
        last: Option<&'x Entry<'x>>,
        policy: &'x Policy,
    ) -> Self {
        Self {
            effective,
            last,
            policy,
            rules: Vec::new(),
            lines: Vec::new(),
            names: BTreeSet::new(),
            differences: Checker::new(source, &Options::default()),
            official: false,
            spelled: Vec::new(),
            replaced: Vec::new(),
        }
    }

    /// Rules, their lines in the maps file, and differences.
    pub(super) fn finish(mut self) -> (Vec<Written>, Vec<usize>, Diagnostics) {
        let effective = self.effective;
        for entry in effective.exact.values() {
            self.exact(entry);
        }
        for entry in &effective.replace {
            self.pattern(entry);
        }
        for entry in effective.plain_in_order() {
            self.key(entry);
        }
        self.fallback();
        self.settle();
        self.note_many();
        (self.rules, self.lines, self.differences.finish())
    }

    /// `noswap_wildcards` and `default`.
    fn fallback(&mut self) {
        let default = self.effective.default;
        let Some(default) = default.filter(|it| !it.value.is_empty()) else {
            // Images that no line names stay, and are approved.
            let line = default.or(self.last).map_or(1, |it| it.line);
            return self.keep_all(line);
        };
        if let Some(noswap) = self.effective.noswap {
            let items: BTreeSet<_> = noswap.items().into_iter().map(|it| it.text).collect();
            for item in items.iter().filter(|it| !it.is_empty()) {
                self.item(noswap, item);
            }
            // Every image contains the empty text, so `default` moves none.
            if items.contains("") {
                return;
            }
        }
        self.default(default);
        self.without_dot(default);
    }

    fn keep_all(&mut self, line: usize) {
        let keep = Written {
            keep: Some("**".to_owned()),
            ..Written::default()
        };
        self.push(line, &format!("maps:{line} the rest"), keep);
    }

    fn exact(&mut self, entry: &'x Entry<'x>) {
        let Ok(key) = Reference::parse(&entry.key) else {
            return self.left_out(&At::key(entry), "the key is not an image reference");
        };
        if entry.value.is_empty() {
            return self.keep_image(entry, &key);
        }
        let value = Reference::parse(&entry.value).map(|it| it.canonical());
        let to = value.unwrap_or_else(|_| entry.value.clone());
        self.regex(entry, &regex_syntax::escape(&key.canonical()), to);
        self.spelling_of(entry, &key);
    }

    fn keep_image(&mut self, entry: &'x Entry<'x>, key: &Reference<'_>) {
        let latest = if key.tag().is_none() && key.digest().is_none() {
            ":latest"
        } else {
            ""
        };
        self.keep(entry, &format!("{}{latest}", key.canonical()));
        if key.digest().is_none() || key.tag().is_none() {
            let message = format!(
                "by the file only `{key}` stays; here so does the same image with a tag or digest beside what is written",
                key = entry.key
            );
            self.differences
                .note(&At::key(entry), "exact-spelling", message, None);
        }
        self.spelling_of(entry, key);
    }

    fn pattern(&mut self, entry: &'x Entry<'x>) {
        let prefix = target_prefix(&entry.value);
        if prefix.is_empty() {
            let why = "a value that leaves the last path segment alone";
            return self.left_out(&At::value(entry), why);
        }
        let glob = Glob::new(&entry.key);
        let to = format!("{}/$1", qualified(prefix));
        if !names_registry(&glob) {
            self.spelled.push(At::key(entry));
        }
        for regex in last_segments(&glob) {
            self.regex(entry, &regex, to.clone());
        }
    }

    /// A registry key.
    fn key(&mut self, entry: &'x Entry<'x>) {
        let key = entry.key.as_str();
        if let Some(why) = unused_key(key) {
            let message = format!("left out: the file never uses this line, because its key {why}");
            let help = instead(key, &entry.value);
            return self
                .differences
                .warn(&At::key(entry), "not-imported", message, help);
        }
        let registry = key.strip_suffix("/library").unwrap_or(key);
        let hub = canonical_registry(registry) == DEFAULT_REGISTRY;
        if self.effective.default.is_none() {
            return self.unapplied(entry);
        }
        if hub {
            self.spelled.push(At::key(entry));
        }
        let froms = if key == LIBRARY_KEY {
            vec![OFFICIAL.to_owned()]
        } else {
            let used = hosts(key, true).filter(|it| self.uses(entry, it));
            used.map(|it| format!("{it}/**")).collect()
        };
        if froms.is_empty() {
            let why = "the file never uses this line, because the Python ImageSwap reads a registry without a dot as a path on docker.io";
            return self.left_out(&At::key(entry), why);
        }
        if entry.value.is_empty() {
            for from in &froms {
                self.keep(entry, from);
            }
            self.official |= hub;
            return;
        }
        let prefix = target_prefix(&entry.value);
        let host = split_port(registry).0;
        let to = if prefix.ends_with('-') {
            self.mirror_port(entry, host, prefix);
            qualified(&format!("{prefix}{host}"))
        } else {
            self.replaced.push(At::value(entry));
            qualified(prefix)
        };
        if hub && !self.official {
            self.official = true;
            self.swap(entry, OFFICIAL, &to);
        }
        if key == LIBRARY_KEY {
            return;
        }
        for from in &froms {
            self.swap(entry, from, &to);
        }
        if is_bare_host(prefix) && !prefix.ends_with('-') && host == key {
            self.old_port(entry, prefix);
        }
    }

    /// Whether the file uses a key for images of the host. ImageSwap usually takes a host without a
    /// dot as a path.
    fn uses(&self, entry: &Entry<'_>, host: &str) -> bool {
        let image = probe(host);
        let decision = self.decide(&image);
        let rule = rule_name(entry);
        host.contains('.')
            || self.rests(&image)
            || (decision.rule == Some(&rule) && decision.swapped() != entry.value.is_empty())
    }

    /// A key in a file without `default`: its images stay, although their author wanted to move
    /// them.
    fn unapplied(&mut self, entry: &'x Entry<'x>) {
        if !entry.value.is_empty() {
            self.approved_here(entry);
        }
    }

    /// An item of `noswap_wildcards`, for images that lie within it as a place.
    fn item(&mut self, entry: &'x Entry<'x>, item: &str) {
        let message = format!(
            "images that hold `{item}` elsewhere stay by the file, not approved; here other rules decide about them"
        );
        let at = item_at(entry, item);
        self.differences.note(&at, "substring-item", message, None);
        let place = Path::named(item).with_any_port();
        let hub = place.registry == DEFAULT_REGISTRY;
        if hub && (place.below.is_empty() || place.below.split('/').next() == Some("library")) {
            let why = "an item that only some spellings of images on docker.io hold";
            return self.left_out(&at, why);
        }
        let name = format!("{} {item}", rule_name(entry));
        for host in hosts(&place.registry, place.any_port) {
            if place.below.is_empty() {
                self.keep_as(entry, &name, &format!("{host}/**"));
            } else {
                self.keep_as(entry, &name, &format!("{host}/{}", place.below));
                self.keep_as(entry, &name, &format!("{host}/{}/**", place.below));
            }
        }
    }

    /// Everything that no earlier rule matches.
    fn default(&mut self, entry: &'x Entry<'x>) {
        let prefix = target_prefix(&entry.value);
        self.spelled.push(At::key(entry));
        if !prefix.ends_with('-') {
            self.replaced.push(At::value(entry));
            let to = qualified(prefix);
            if !self.official {
                self.swap(entry, OFFICIAL, &to);
            }
            return self.swap(entry, "**", &to);
        }
        if !prefix.contains('/') {
            let why = "a `default` without a registry of its own: each registry becomes another";
            return self.left_out(&At::value(entry), why);
        }
        let prefix = qualified(prefix);
        if !self.official {
            let to = format!("{prefix}{DEFAULT_REGISTRY}/$1");
            self.regex(entry, OFFICIAL_REGEX, to.clone());
            self.regex(entry, HUB_REGEX, to);
        }
        // ImageSwap writes the registry twice.
        self.regex(entry, ANY_REGEX, format!("{prefix}$1/$1/$2"));
    }

    /// The maps file's decision about an image.
    pub(super) fn decide<'i>(&self, image: &'i str) -> Decision<'i>
    where
        'x: 'i,
    {
        self.policy.select(Scope::Node, Date::MIN).decide(image)
    }

    /// Whether the maps file leaves the image alone because a line leads there.
    pub(super) fn rests(&self, image: &str) -> bool {
        self.policy
            .select(Scope::Node, Date::MIN)
            .is_under_target(image)
    }

    fn keep(&mut self, entry: &'x Entry<'x>, pattern: &str) {
        self.keep_as(entry, &rule_name(entry), pattern);
    }

    fn keep_as(&mut self, entry: &'x Entry<'x>, name: &str, pattern: &str) {
        if Pattern::parse(pattern).is_err() {
            return self.left_out(&At::key(entry), "a key that no pattern means");
        }
        let keep = Written {
            keep: Some(pattern.to_owned()),
            ..Written::default()
        };
        self.push(entry.line, name, keep);
    }

    fn swap(&mut self, entry: &'x Entry<'x>, from: &str, to: &str) {
        if Pattern::parse(from).is_err() || Pattern::parse(&format!("{to}/**")).is_err() {
            return self.left_out(&At::key(entry), "a line that no pattern means");
        }
        // Nothing would move: the image is at another line's target.
        let host = from.strip_suffix("/**");
        if host.is_some_and(|it| self.rests(&probe(it))) {
            return;
        }
        let written = Written {
            from: Some(from.to_owned()),
            to: Some(to.to_owned()),
            ..Written::default()
        };
        self.push(entry.line, &rule_name(entry), written);
    }

    fn regex(&mut self, entry: &'x Entry<'x>, regex: &str, to: String) {
        if Expression::parse(regex).is_err() {
            return self.left_out(&At::key(entry), "a pattern that is too large");
        }
        let written = Written {
            regex: Some(format!("^{regex}$")),
            to: Some(to),
            ..Written::default()
        };
        self.push(entry.line, &rule_name(entry), written);
    }

    pub(super) fn push(&mut self, line: usize, name: &str, rule: Written) {
        let mut unique = name.to_owned();
        let mut count = 1;
        while !self.names.insert(unique.clone()) {
            count += 1;
            unique = format!("{name} ({count})");
        }
        self.lines.push(line);
        self.rules.push(Written {
            name: Some(unique),
            ..rule
        });
    }
}

/// The hosts of a registry's key, as patterns.
fn hosts(key: &str, any_port: bool) -> impl Iterator<Item = String> {
    let any_port = any_port && split_port(key).1.is_none();
    let every_port = any_port.then(|| format!("{key}:*"));
    std::iter::once(key.to_owned()).chain(every_port)
}

/// An image of a host, possibly with a port.
fn probe(host: &str) -> String {
    format!("{}/image", host.replace(":*", ":443"))
}

/// With the implied registry written out.
pub(super) fn qualified(prefix: &str) -> String {
    if is_registry(prefix.split('/').next().unwrap_or(prefix)) {
        prefix.to_owned()
    } else {
        format!("{DEFAULT_REGISTRY}/{prefix}")
    }
}

fn item_at<'a>(entry: &Entry<'a>, item: &str) -> At<'a> {
    let items = entry.items();
    let span = items
        .iter()
        .find(|it| it.text == item)
        .map(|it| it.span.clone());
    At::columns(entry, span.unwrap_or_else(|| entry.value_span.clone()))
}
