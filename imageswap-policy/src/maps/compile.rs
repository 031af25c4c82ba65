//! Compiles the entries of a maps file to the engine.

use super::Options;
use super::lines::{Entry, Section};
use crate::document::{Enforcement, LabelSelector, Operator, Requirement};
use crate::guard::Names;
use crate::maps_engine::Glob;
use crate::maps_engine::{
    Engine, File, Item, Mode, Path, Place, Rule, is_bare_host, target_prefix,
};
use crate::policy::Head;
use crate::reference::{DEFAULT_REGISTRY, Reference, canonical_registry, is_registry, split_port};
use crate::scope::ScopeRule;
use std::collections::{BTreeMap, BTreeSet, HashSet};

/// The key for `docker.io` images that are only a name.
pub(super) const LIBRARY_KEY: &str = "docker.io/library";

/// The entries that count: for a repeated key, the last one.
#[derive(Debug, Default)]
pub(super) struct Effective<'a> {
    pub(super) default: Option<&'a Entry<'a>>,
    pub(super) noswap: Option<&'a Entry<'a>>,
    pub(super) exact: BTreeMap<&'a str, &'a Entry<'a>>,
    /// In the order of the first occurrence of each pattern.
    pub(super) replace: Vec<&'a Entry<'a>>,
    pub(super) plain: BTreeMap<&'a str, &'a Entry<'a>>,
}

/// What compiling collects.
#[derive(Debug, Default)]
struct Draft {
    rules: Vec<Rule>,
    targets: Vec<Place>,
    registries: BTreeSet<String>,
}

/// Compiles entries in ImageSwap's order of evaluation: exact, patterns, registries, `noswap_wildcards`, default.
pub(super) fn maps(effective: &Effective<'_>, options: &Options) -> (Head, Engine) {
    let mut draft = Draft::default();
    let mut file = File::default();
    for (key, entry) in &effective.exact {
        if let Ok(key) = Reference::parse(key) {
            draft.registries.insert(key.registry().to_owned());
        }
        if let Ok(value) = Reference::parse(&entry.value) {
            draft.target(Place::image(&value));
        }
        file.exact.insert((*key).to_owned(), draft.rule(entry));
    }
    for entry in &effective.replace {
        let prefix = target_prefix(&entry.value);
        if !prefix.is_empty() {
            draft.target(Place::named(prefix));
        }
        file.patterns
            .push((Glob::new(&entry.key), draft.rule(entry)));
    }
    registries(effective, &mut draft, &mut file);
    if let Some(noswap) = effective.noswap {
        items(noswap, &mut draft, &mut file);
    }
    if let Some(default) = effective.default {
        let prefix = target_prefix(&default.value);
        if prefix.ends_with('-') {
            draft.target(Place::Mirrors(familiar_prefix(prefix).to_owned()));
        } else if !prefix.is_empty() {
            draft.target(Place::named(prefix));
        }
        file.default = Some(draft.rule(default));
    }
    draft.finish("maps", Mode::File(file), options)
}

/// Compiles `IMAGE_PREFIX`.
pub(super) fn prefix(text: &str, options: &Options) -> (Head, Engine) {
    const NAME: &str = "image-prefix";
    let mut draft = Draft::default();
    if !text.is_empty() {
        let prefix = target_prefix(text);
        draft.target(if prefix.ends_with('-') {
            Place::Names(familiar_prefix(prefix).to_owned())
        } else {
            Place::named(prefix)
        });
        draft.rules.push(Rule {
            name: NAME.to_owned(),
            key: String::new(),
            value: text.to_owned(),
        });
    }
    draft.finish(NAME, Mode::Prefix, options)
}

/// The registry keys.
fn registries(effective: &Effective<'_>, draft: &mut Draft, file: &mut File) {
    for entry in effective.plain_in_order() {
        let key = entry.key.as_str();
        let rule = draft.rule(entry);
        let registry = key.strip_suffix("/library");
        if let Some(registry) = registry {
            file.registries
                .entry(registry.to_owned())
                .or_default()
                .library = Some(rule);
        }
        file.registries.entry(key.to_owned()).or_default().plain = Some(rule);
        let registry = registry.unwrap_or(key);
        if is_registry(registry) && !registry.contains('/') {
            draft
                .registries
                .insert(canonical_registry(registry).to_owned());
        }
        if !entry.value.is_empty() {
            draft.lead(registry, target_prefix(&entry.value));
        }
    }
}

/// The items of `noswap_wildcards`: they approve if they are the whole host or a path prefix.
fn items(entry: &Entry<'_>, draft: &mut Draft, file: &mut File) {
    for item in entry.items() {
        let place = Path::named(item.text).with_any_port();
        if is_registry(item.text.split('/').next().unwrap_or(item.text)) {
            draft.registries.insert(place.registry.clone());
        }
        file.items.push(Item {
            rule: draft.rules.len(),
            text: item.text.to_owned(),
            place,
        });
        draft.rules.push(Rule {
            name: format!("{} {}", rule_name(entry), item.text)
                .trim_end()
                .to_owned(),
            key: "noswap_wildcards".to_owned(),
            value: item.text.to_owned(),
        });
    }
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

    /// All entries, in ImageSwap's order of evaluation.
    pub(super) fn all(&self) -> impl Iterator<Item = &'a Entry<'a>> + use<'a> {
        let exact: Vec<_> = self.exact.values().copied().collect();
        let last = self.noswap.into_iter().chain(self.default);
        let plain = self.plain_in_order();
        exact
            .into_iter()
            .chain(self.replace.clone())
            .chain(plain)
            .chain(last)
    }

    /// The registry keys. A key with a port comes before the same host without, and the key of bare
    /// names before that of `docker.io`.
    pub(super) fn plain_in_order(&self) -> Vec<&'a Entry<'a>> {
        let rank = |key: &str| match key {
            _ if key.contains(':') => 0,
            LIBRARY_KEY => 1,
            _ => 2,
        };
        let mut plain: Vec<_> = self.plain.values().copied().collect();
        plain.sort_by_key(|it| rank(&it.key));
        plain
    }
}

impl Draft {
    /// Adds the rule of an entry, and returns its position.
    fn rule(&mut self, entry: &Entry<'_>) -> usize {
        self.rules.push(Rule {
            name: rule_name(entry),
            key: entry.written_key(),
            value: entry.value.clone(),
        });
        self.rules.len() - 1
    }

    fn target(&mut self, place: Place) {
        if let Some(registry) = place.registry() {
            self.registries.insert(registry.to_owned());
        }
        self.targets.push(place);
    }

    /// Adds the target of a registry's key.
    fn lead(&mut self, registry: &str, prefix: &str) {
        let host = split_port(registry).0;
        if prefix.ends_with('-') {
            return self.target(Place::named(&format!("{prefix}{host}")));
        }
        if !is_bare_host(prefix) || host != registry {
            return self.target(Place::named(prefix));
        }
        // A port of the image may follow the new host.
        self.target(Place::Path(Path::named(prefix).with_any_port()));
        if !is_registry(prefix) {
            // A bare name is a path on docker.io, until a port makes it a host.
            self.targets.push(Place::Path(Path {
                registry: prefix.to_owned(),
                any_port: true,
                below: String::new(),
            }));
        }
    }

    fn finish(self, name: &str, mode: Mode, options: &Options) -> (Head, Engine) {
        let mut known = HashSet::new();
        let places = self.targets.iter().map(ToString::to_string);
        let places = places.filter(|it| known.insert(it.clone())).collect();
        let head = Head {
            name: name.to_owned(),
            // Any ImageSwapPolicy takes precedence.
            priority: i32::MIN,
            scope: scope(options),
            // ImageSwap swaps, and never denies.
            enforcement: Enforcement::Audit,
            swaps: true,
            message: None,
            pull_secrets: Vec::new(),
            registries: self.registries,
            places,
        };
        (head, Engine::new(self.rules, mode, self.targets))
    }
}

/// As in ImageSwap: a namespace opts in, an object opts out. Containers without a Pod are in scope.
fn scope(options: &Options) -> ScopeRule {
    let opt_in = [(options.namespace_label.clone(), "enabled".to_owned())];
    let opt_out = Requirement {
        key: options.disable_label.clone(),
        operator: Operator::NotIn,
        values: vec!["disabled".to_owned()],
    };
    ScopeRule {
        namespaces: Some(Names::new(["*"])),
        excluded: None,
        namespace: LabelSelector {
            match_labels: opt_in.into(),
            ..LabelSelector::default()
        },
        object: LabelSelector {
            match_expressions: vec![opt_out],
            ..LabelSelector::default()
        },
        node: true,
        opt_out: None,
        trusts_labels: true,
    }
}

/// `maps:3 gitlab.com`: the line, and the key as written.
pub(super) fn rule_name(entry: &Entry<'_>) -> String {
    format!("maps:{} {}", entry.line, entry.written_key())
}

/// A prefix for familiar names, without the registry that they omit.
fn familiar_prefix(prefix: &str) -> &str {
    match prefix.split_once('/') {
        Some((first, rest)) if canonical_registry(first) == DEFAULT_REGISTRY => rest,
        _ => prefix,
    }
}
