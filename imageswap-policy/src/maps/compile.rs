//! From the entries of a maps file to rules.

use super::Options;
use super::lines::{Entry, Section};
use crate::document::Enforcement;
use crate::reference::{DEFAULT_REGISTRY, Reference, canonical_registry, is_registry, split_port};
use crate::rules::{Action, Approval, Draft, Glob, Join, Matcher, Place, Rule, ScopeRule, Target};
use std::collections::{BTreeMap, BTreeSet};

/// The key of `docker.io` images that are a name alone.
pub(super) const LIBRARY_KEY: &str = "docker.io/library";

/// The entries that count: for a key that stands twice, the last.
#[derive(Debug, Default)]
pub(super) struct Effective<'a> {
    pub(super) default: Option<&'a Entry<'a>>,
    pub(super) noswap: Option<&'a Entry<'a>>,
    pub(super) exact: BTreeMap<&'a str, &'a Entry<'a>>,
    /// In the order in which patterns stand first.
    pub(super) replace: Vec<&'a Entry<'a>>,
    pub(super) plain: BTreeMap<&'a str, &'a Entry<'a>>,
}

/// Compiles entries in ImageSwap's order of evaluation: exact, patterns, registries, `noswap_wildcards`, default.
pub(super) fn maps(entries: &[Entry<'_>], options: &Options) -> Draft {
    let effective = Effective::of(entries);
    let mut draft = draft("maps", options);
    for entry in effective.exact.values() {
        exact(entry, &mut draft);
    }
    for entry in &effective.replace {
        let prefix = target_prefix(&entry.value);
        if !prefix.is_empty() {
            draft.target(Place::named(prefix));
        }
        let target = Target::new(prefix, Join::LastSegment);
        draft.rule(
            entry,
            Matcher::Glob(Glob::new(&entry.key)),
            Action::Replace(target),
        );
    }
    registries(&effective, &mut draft);
    if let Some(default) = effective.default.filter(|it| !it.value.is_empty()) {
        if let Some(entry) = effective.noswap {
            noswap(entry, &mut draft);
        }
        fallback(default, &effective, &mut draft);
    }
    draft
}

/// The rule for what no other speaks of.
fn fallback(default: &Entry<'_>, effective: &Effective<'_>, draft: &mut Draft) {
    let prefix = target_prefix(&default.value);
    let (join, place) = if prefix.ends_with('-') {
        (
            Join::Mirror,
            Place::Mirrors(familiar_prefix(prefix).to_owned()),
        )
    } else {
        (Join::Remainder { carry_port: false }, Place::named(prefix))
    };
    draft.target(place);
    let slip = prefix != default.value
        || effective
            .noswap
            .is_some_and(|it| it.items().iter().any(|it| it.text.is_empty()));
    let target = Target {
        mended: slip,
        ..Target::new(prefix, join)
    };
    // A key for the library of a registry without one for the registry: ImageSwap fails for want of the latter.
    for registry in effective
        .plain
        .keys()
        .filter_map(|it| it.strip_suffix("/library"))
    {
        if !effective.plain.contains_key(registry) {
            let target = Target {
                mended: true,
                ..target.clone()
            };
            draft.rule(
                default,
                Matcher::Registry(registry.to_owned()),
                Action::Replace(target),
            );
        }
    }
    draft.rule(default, Matcher::Any, Action::Replace(target));
    draft.approval = Approval::ByRules { rest: false };
}

/// Compiles `IMAGE_PREFIX`.
pub(super) fn prefix(text: &str, options: &Options) -> Draft {
    const NAME: &str = "image-prefix";
    let mut draft = draft(NAME, options);
    if text.is_empty() {
        return draft;
    }
    draft.approval = Approval::ByRules { rest: false };
    let prefix = target_prefix(text);
    let (join, place) = if prefix.ends_with('-') {
        (Join::Text, Place::Names(familiar_prefix(prefix).to_owned()))
    } else {
        (Join::LastSegment, Place::named(prefix))
    };
    let target = Target {
        mended: prefix != text,
        ..Target::new(prefix, join)
    };
    for (matcher, action) in [
        (
            Matcher::Contains(text.to_owned()),
            Action::Keep { approved: false },
        ),
        (Matcher::Any, Action::Replace(target)),
    ] {
        draft.rules.push(Rule {
            name: NAME.to_owned(),
            matcher,
            action,
        });
    }
    draft.target(place);
    draft
}

/// What a value puts before the image. A `/` at its end would double the one that follows.
pub(super) fn target_prefix(value: &str) -> &str {
    match value.trim_end_matches('/') {
        "" => value,
        trimmed => trimmed,
    }
}

fn draft(name: &str, options: &Options) -> Draft {
    Draft {
        name: name.to_owned(),
        scope: ScopeRule::Labels {
            opt_in: options.namespace_label.clone(),
            opt_out: options.disable_label.clone(),
        },
        // Any ImageSwapPolicy goes first.
        priority: i32::MIN,
        rules: Vec::new(),
        targets: Vec::new(),
        approval: Approval::ByRules { rest: true },
        exceptions: Vec::new(),
        pull_secrets: Vec::new(),
        regexes: None,
        registries: BTreeSet::new(),
        // ImageSwap swaps, and never denies.
        enforcement: Enforcement::Audit,
        swaps: true,
        message: None,
        as_imageswap: true,
    }
}

fn exact(entry: &Entry<'_>, draft: &mut Draft) {
    let matcher = Matcher::Text(entry.key.clone());
    if let Ok(key) = Reference::parse(&entry.key) {
        draft.registries.insert(key.registry().to_owned());
    }
    if entry.value.is_empty() {
        draft.rule(entry, matcher, Action::Keep { approved: true });
        return;
    }
    if let Ok(value) = Reference::parse(&entry.value) {
        draft.target(Place::image(&value));
    }
    let target = Target::new(&entry.value, Join::Nothing);
    draft.rule(entry, matcher, Action::Replace(target));
}

/// The registry keys. Without a `default` key ImageSwap applies none of them, and without a non-empty one, or a key for
/// `docker.io`, it keeps images of registries without a dot. What such keys name stays too then, but is not approved:
/// whoever wrote them wanted it elsewhere.
fn registries(effective: &Effective<'_>, draft: &mut Draft) {
    // A key with a port goes before the same host without one, and the key of bare names before that of `docker.io`.
    let rank = |key: &str| match key {
        _ if key.contains(':') => 0,
        LIBRARY_KEY => 1,
        _ => 2,
    };
    let mut plain: Vec<_> = effective.plain.iter().collect();
    plain.sort_by_key(|(key, _)| rank(key));
    for (&key, entry) in plain {
        let (registry, matcher) = if key == LIBRARY_KEY {
            (DEFAULT_REGISTRY, Matcher::Name)
        } else {
            (key, Matcher::Registry(key.to_owned()))
        };
        if is_registry(registry) && !registry.contains('/') {
            draft
                .registries
                .insert(canonical_registry(registry).to_owned());
        }
        let applies = match effective.default {
            None => false,
            Some(default) => {
                registry.contains('.')
                    || !default.value.is_empty()
                    || [DEFAULT_REGISTRY, LIBRARY_KEY]
                        .iter()
                        .any(|it| effective.plain.contains_key(it))
            }
        };
        if entry.value.is_empty() || !applies {
            draft.rule(
                entry,
                matcher,
                Action::Keep {
                    approved: entry.value.is_empty(),
                },
            );
            continue;
        }
        let prefix = target_prefix(&entry.value);
        let host = split_port(registry).0;
        let join = if prefix.ends_with('-') {
            Join::Mirror
        } else {
            Join::Remainder {
                carry_port: host == registry,
            }
        };
        let target = Target {
            mended: prefix != entry.value,
            ..Target::new(prefix, join)
        };
        draft.target(match join {
            Join::Mirror => Place::named(&format!("{prefix}{host}")),
            _ if target.is_bare_host() && host == registry => Place::named(prefix).with_any_port(),
            _ => Place::named(prefix),
        });
        // A bare name as a value is a path on docker.io, until an old port makes it a host.
        if target.is_bare_host() && host == registry && !is_registry(prefix) && join != Join::Mirror
        {
            draft.targets.push(Place::Path {
                registry: prefix.to_owned(),
                any_port: true,
                path: String::new(),
            });
        }
        draft.rule(entry, matcher, Action::Replace(target));
    }
}

/// What `noswap_wildcards` keeps: approved where an item is the whole host or a path prefix, and kept without that
/// where it only stands somewhere in the text.
fn noswap(entry: &Entry<'_>, draft: &mut Draft) {
    let mut loose = Vec::new();
    // An empty one, from a comma too many, would be in every image; it is left out.
    let items: BTreeSet<_> = entry
        .items()
        .into_iter()
        .map(|it| it.text)
        .filter(|it| !it.is_empty())
        .collect();
    for item in items {
        let place = Place::named(item).with_any_port();
        if let Some(registry) = place
            .registry()
            .filter(|_| is_registry(item.split('/').next().unwrap_or(item)))
        {
            draft.registries.insert(registry.to_owned());
        }
        let name = format!("{} {item}", rule_name(entry));
        let strict = Matcher::Within(item.to_owned(), place);
        draft.rules.push(Rule {
            name: name.clone(),
            matcher: strict,
            action: Action::Keep { approved: true },
        });
        let matcher = Matcher::Contains(item.to_owned());
        loose.push(Rule {
            name,
            matcher,
            action: Action::Keep { approved: false },
        });
    }
    draft.rules.append(&mut loose);
}

impl<'a> Effective<'a> {
    pub(super) fn of(entries: &'a [Entry<'a>]) -> Self {
        let mut all = Self::default();
        for entry in entries {
            match entry.section {
                Section::Default => all.default = Some(entry),
                Section::NoSwap => all.noswap = Some(entry),
                Section::Plain => _ = all.plain.insert(&entry.key, entry),
                Section::Exact => _ = all.exact.insert(&entry.key, entry),
                Section::Replace => match all.replace.iter_mut().find(|it| it.key == entry.key) {
                    Some(earlier) => *earlier = entry,
                    None => all.replace.push(entry),
                },
            }
        }
        all
    }
}

impl Draft {
    fn rule(&mut self, entry: &Entry<'_>, matcher: Matcher, action: Action) {
        self.rules.push(Rule {
            name: rule_name(entry),
            matcher,
            action,
        });
    }

    fn target(&mut self, place: Place) {
        if let Some(registry) = place.registry() {
            self.registries.insert(registry.to_owned());
        }
        self.targets.push(place);
    }
}

/// `maps:3 gitlab.com`: the line, and the key as it is written there.
fn rule_name(entry: &Entry<'_>) -> String {
    format!("maps:{} {}", entry.line, entry.written_key())
}

/// A prefix of familiar names: without the registry that they leave out.
fn familiar_prefix(prefix: &str) -> &str {
    match prefix.split_once('/') {
        Some((first, rest)) if canonical_registry(first) == DEFAULT_REGISTRY => rest,
        _ => prefix,
    }
}
