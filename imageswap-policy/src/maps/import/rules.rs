//! The rules of a maps file, one after another, as rules of an ImageSwapPolicy.

use super::patterns::{last_segments, names_registry};
use super::{Diagnostics, Entry, Policy, Written};
use crate::decision::Scope;
use crate::maps::Options;
use crate::maps::checks::{At, Checker};
use crate::pattern::Pattern;
use crate::reference::{DEFAULT_REGISTRY, Reference, canonical_registry, is_registry, split_port};
use crate::rules::{Action, Expression, Join, Matcher, Place, Rule, Target};
use std::collections::BTreeSet;
use time::Date;

/// Images on Docker Hub whose path is a name alone.
const OFFICIAL: &str = "docker.io/library/*";
const OFFICIAL_REGEX: &str = r"docker\.io/library/([^/]+)";
/// Registry without port, and the rest.
const ANY_REGEX: &str = r"([^/:]+)(?::[0-9]+)?/(.+)";

pub(super) struct Importer<'x, 'a> {
    entries: &'x [Entry<'a>],
    policy: &'x Policy,
    pub(super) rules: Vec<Written>,
    pub(super) lines: Vec<usize>,
    names: BTreeSet<String>,
    pub(super) differences: Checker<'x>,
    /// Whether a rule speaks of all of [`OFFICIAL`] already.
    official: bool,
    /// Lines that mean images on Docker Hub.
    pub(super) spelled: Vec<At<'x>>,
    /// Lines by which a port of the old registry follows to the new host.
    pub(super) carried: BTreeSet<usize>,
}

impl<'x, 'a> Importer<'x, 'a> {
    pub(super) fn new(source: &'x str, entries: &'x [Entry<'a>], policy: &'x Policy) -> Self {
        Self {
            entries,
            policy,
            rules: Vec::new(),
            lines: Vec::new(),
            names: BTreeSet::new(),
            differences: Checker::new(source, &Options::default()),
            official: false,
            spelled: Vec::new(),
            carried: BTreeSet::new(),
        }
    }

    /// Rules, their lines in the maps file, and differences.
    pub(super) fn finish(mut self) -> (Vec<Written>, Vec<usize>, Diagnostics) {
        self.settle();
        self.note_spellings();
        (self.rules, self.lines, self.differences.finish())
    }

    /// What no rule speaks of stays, and is approved.
    pub(super) fn rest(&mut self, entry: Option<&Entry<'_>>) {
        let line = entry.map_or(1, |it| it.line);
        let keep = Some("**".to_owned());
        self.push(
            line,
            &format!("maps:{line} the rest"),
            Written {
                keep,
                ..Written::default()
            },
        );
    }

    pub(super) fn rule(&mut self, rule: &Rule) {
        let Some(entry) = self.entry(&rule.name) else {
            return;
        };
        if let Action::Replace(target) = &rule.action {
            self.hub(entry, target);
            if carries_port(target) {
                self.carried.insert(entry.line);
            }
        }
        match (&rule.matcher, &rule.action) {
            (Matcher::Text(image), Action::Keep { .. }) => self.keep_image(rule, entry, image),
            (Matcher::Text(image), Action::Replace(target)) => {
                self.image(rule, entry, image, target);
            }
            (Matcher::Glob(glob), Action::Replace(target)) => {
                if target.prefix.is_empty() {
                    let why = "a value that leaves the last path segment alone";
                    return self.left_out(&At::value(entry), why);
                }
                let to = format!("{}/$1", self.goal(entry, &target.prefix));
                if !names_registry(glob) {
                    self.spellings(At::key(entry));
                }
                self.flattened(entry, glob, target);
                for regex in last_segments(glob) {
                    self.regex(rule, entry, &regex, to.clone());
                }
            }
            // Registries of `/library` keys without their own; `default` speaks for them here, too.
            (Matcher::Registry(key), _) if *key != entry.key => {}
            (Matcher::Registry(key), Action::Keep { approved }) => {
                for host in hosts(key, true) {
                    self.keep(rule, entry, &format!("{host}/**"));
                }
                if canonical_registry(key) == DEFAULT_REGISTRY {
                    self.official = true;
                    self.spellings(At::key(entry));
                }
                if !approved {
                    self.approved_here(entry);
                }
            }
            (Matcher::Registry(key), Action::Replace(target)) => {
                self.registry(rule, entry, key, target);
            }
            (Matcher::Name, Action::Keep { approved }) => {
                self.keep(rule, entry, OFFICIAL);
                self.spellings(At::key(entry));
                if !approved {
                    self.approved_here(entry);
                }
            }
            (Matcher::Name, Action::Replace(target)) => {
                let to = self.place(entry, target, DEFAULT_REGISTRY);
                self.official(rule, entry, &to);
            }
            (Matcher::Within(item, place), _) => self.item(rule, entry, item, place),
            (Matcher::Contains(item), _) => {
                let message = format!(
                    "images that hold `{item}` elsewhere stay by the file, not approved; here other rules speak for them"
                );
                let at = item_at(entry, item);
                self.differences.note(&at, "substring-item", message, None);
            }
            (Matcher::Any, Action::Replace(target)) => self.any(rule, entry, target),
            _ => self.left_out(&At::key(entry), "a rule of this kind"),
        }
    }

    fn entry(&self, rule: &str) -> Option<&'x Entry<'a>> {
        let line = rule.strip_prefix("maps:")?.split(' ').next()?;
        let line: usize = line.parse().ok()?;
        self.entries.iter().find(|it| it.line == line)
    }

    fn registry(&mut self, rule: &Rule, entry: &Entry<'x>, key: &str, target: &Target) {
        let to = self.place(entry, target, split_port(key).0);
        if canonical_registry(key) == DEFAULT_REGISTRY {
            self.official(rule, entry, &to);
        }
        for host in hosts(key, true) {
            self.swap(rule, entry, &format!("{host}/**"), &to);
        }
        if carries_port(target) {
            let message = format!(
                "by the file, `{key}:443/a` becomes `{}:443/a`; here the port is left out",
                target.prefix
            );
            self.differences
                .note(&At::value(entry), "old-port", message, None);
        }
    }

    /// Everything that no rule before speaks of.
    fn any(&mut self, rule: &Rule, entry: &Entry<'x>, target: &Target) {
        if target.join != Join::Mirror {
            let to = self.place(entry, target, DEFAULT_REGISTRY);
            self.official(rule, entry, &to);
            return self.swap(rule, entry, "**", &to);
        }
        if !target.prefix.contains('/') {
            let why =
                "a `default` without a registry of its own, for each registry becomes another";
            return self.left_out(&At::value(entry), why);
        }
        let prefix = qualified(&target.prefix);
        if !self.official {
            self.official = true;
            let to = format!("{prefix}{DEFAULT_REGISTRY}/$1");
            self.regex(rule, entry, OFFICIAL_REGEX, to);
        }
        self.spellings(At::key(entry));
        self.regex(rule, entry, ANY_REGEX, format!("{prefix}$1/$2"));
    }

    /// Names alone, which ImageSwap gives no `library/`.
    fn official(&mut self, rule: &Rule, entry: &Entry<'x>, to: &str) {
        if !self.official {
            self.official = true;
            self.swap(rule, entry, OFFICIAL, to);
        }
        self.spellings(At::key(entry));
    }

    fn image(&mut self, rule: &Rule, entry: &Entry<'x>, image: &str, target: &Target) {
        let Ok(key) = Reference::parse(image) else {
            return;
        };
        let decided = self
            .decide(&target.prefix)
            .unwrap_or_else(|| target.prefix.clone());
        let to = Reference::parse(&decided).map_or_else(|_| decided.clone(), |it| it.canonical());
        self.regex(rule, entry, &regex_syntax::escape(&key.canonical()), to);
        self.spelling_of(entry, &key);
    }

    fn keep_image(&mut self, rule: &Rule, entry: &Entry<'x>, image: &str) {
        let Ok(key) = Reference::parse(image) else {
            return;
        };
        let latest = if key.tag().is_none() && key.digest().is_none() {
            ":latest"
        } else {
            ""
        };
        self.keep(rule, entry, &format!("{}{latest}", key.canonical()));
        if key.digest().is_none() || key.tag().is_none() {
            let message = format!(
                "by the file only `{image}` stays; here so does the same image with a tag or digest beside what is written"
            );
            self.differences
                .note(&At::key(entry), "exact-spelling", message, None);
        }
        self.spelling_of(entry, &key);
    }

    /// An item of `noswap_wildcards`, for what lies within it as a place.
    fn item(&mut self, rule: &Rule, entry: &Entry<'x>, item: &str, place: &Place) {
        let at = item_at(entry, item);
        let Place::Path {
            registry,
            any_port,
            path,
        } = place
        else {
            return self.left_out(&at, "an item that is no place");
        };
        let hub = registry == DEFAULT_REGISTRY;
        if hub && (path.is_empty() || path.split('/').next() == Some("library")) {
            let why = "an item that only some spellings of images on docker.io hold";
            return self.left_out(&at, why);
        }
        for host in hosts(registry, *any_port) {
            if path.is_empty() {
                self.keep(rule, entry, &format!("{host}/**"));
            } else {
                self.keep(rule, entry, &format!("{host}/{path}"));
                self.keep(rule, entry, &format!("{host}/{path}/**"));
            }
        }
    }

    /// Where a target leads in the end: what another line moves on goes there at once.
    fn place(&mut self, entry: &Entry<'x>, target: &Target, host: &str) -> String {
        match target.join {
            Join::Mirror => self.goal(entry, &format!("{}{host}", target.prefix)),
            _ => self.goal(entry, &target.prefix),
        }
    }

    fn goal(&mut self, entry: &Entry<'x>, prefix: &str) -> String {
        let last = self.decide(&format!("{prefix}/image"));
        let Some(last) = last.as_deref().and_then(|it| it.strip_suffix("/image")) else {
            return qualified(prefix);
        };
        let message = format!(
            "another line moves these images on, so they go to `{last}` at once; by the file a few stay on the way"
        );
        self.differences
            .note(&At::value(entry), "moved-target", message, None);
        qualified(last)
    }

    /// What the maps file makes of an image that it moves.
    pub(super) fn decide(&self, image: &str) -> Option<String> {
        let decision = self.policy.select(Scope::Node, Date::MIN).decide(image);
        decision.swapped().then(|| decision.result.into_owned())
    }

    fn keep(&mut self, rule: &Rule, entry: &Entry<'x>, pattern: &str) {
        if Pattern::parse(pattern).is_err() {
            return self.left_out(&At::key(entry), "a key that no pattern means");
        }
        let keep = Some(pattern.to_owned());
        self.push(
            entry.line,
            &rule.name,
            Written {
                keep,
                ..Written::default()
            },
        );
    }

    fn swap(&mut self, rule: &Rule, entry: &Entry<'x>, from: &str, to: &str) {
        if Pattern::parse(from).is_err() || Pattern::parse(&format!("{to}/**")).is_err() {
            return self.left_out(&At::key(entry), "a line that no pattern means");
        }
        let written = Written {
            from: Some(from.to_owned()),
            to: Some(to.to_owned()),
            ..Written::default()
        };
        self.push(entry.line, &rule.name, written);
    }

    fn regex(&mut self, rule: &Rule, entry: &Entry<'x>, regex: &str, to: String) {
        if Expression::parse(regex).is_err() {
            return self.left_out(&At::key(entry), "a pattern that is too large");
        }
        let written = Written {
            regex: Some(format!("^{regex}$")),
            to: Some(to),
            ..Written::default()
        };
        self.push(entry.line, &rule.name, written);
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

/// Whether a port of the old registry follows to the new host.
fn carries_port(target: &Target) -> bool {
    matches!(target.join, Join::Remainder { carry_port: true }) && target.is_bare_host()
}

/// The hosts that a registry's key means, as patterns.
fn hosts(key: &str, any_port: bool) -> Vec<String> {
    let mut hosts = vec![key.to_owned()];
    if any_port && split_port(key).1.is_none() {
        hosts.push(format!("{key}:*"));
    }
    hosts
}

/// With the registry that is meant where none is written.
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
