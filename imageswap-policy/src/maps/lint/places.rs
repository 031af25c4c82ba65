//! Targets: two registries to one place, and how a second pass of ImageSwap would change the
//! first's result.

use super::{
    At, Checker, DEFAULT_REGISTRY, Effective, Engine, Entry, Glob, HashMap, LIBRARY_KEY, Reference,
    Section, canonical_registry, is_registry, target_prefix,
};

pub(super) fn check(checker: &mut Checker<'_>, effective: &Effective<'_>, engine: &Engine) {
    merged(checker, effective);
    second_pass(checker, effective, engine);
}

/// Registries whose images get the same names.
fn merged(checker: &mut Checker<'_>, effective: &Effective<'_>) {
    let Some(default) = effective.default else {
        return;
    };
    let mirrors = |value: &str| target_prefix(value).ends_with('-');
    let mut keys: Vec<_> = effective
        .plain
        .values()
        .filter(|it| !it.value.is_empty() && !mirrors(&it.value))
        .filter(|it| it.key == LIBRARY_KEY || (is_registry(&it.key) && !it.key.contains('/')))
        .collect();
    keys.sort_by_key(|it| it.line);
    let mut first: HashMap<&str, (&str, usize)> = HashMap::new();
    for entry in keys {
        let registry = if entry.key == LIBRARY_KEY {
            DEFAULT_REGISTRY
        } else {
            canonical_registry(&entry.key)
        };
        let prefix = target_prefix(&entry.value);
        let (earlier, line) = *first.entry(prefix).or_insert((registry, entry.line));
        if earlier != registry {
            let message = format!(
                "`{registry}/a/b` becomes `{prefix}/a/b`, and so does `{earlier}/a/b` by line {line}"
            );
            let help =
                format!("give each registry a path of its own, such as `{prefix}/{registry}`");
            checker.warn(&At::value(entry), "merged-registries", message, Some(help));
        }
    }
    if !default.value.is_empty() && !mirrors(&default.value) {
        let prefix = target_prefix(&default.value);
        let message = format!(
            "all registries that no key names become one: `quay.io/a/b` and `ghcr.io/a/b` are both `{prefix}/a/b`"
        );
        let help = format!("write `{prefix}/mirror-` to keep their names apart");
        checker.note(
            &At::value(default),
            "merged-registries",
            message,
            Some(help),
        );
    }
}

/// Values whose results ImageSwap moves again when an object is updated.
fn second_pass(checker: &mut Checker<'_>, effective: &Effective<'_>, engine: &Engine) {
    let all = effective
        .exact
        .values()
        .chain(&effective.replace)
        .chain(effective.plain.values())
        .chain(&effective.default);
    for entry in all.filter(|it| !it.value.is_empty()) {
        let moved = probes(entry, effective).into_iter().find_map(|image| {
            let once = engine.imageswap(&image)?;
            let twice = engine.imageswap(&once)?;
            let sound = Reference::parse(&image).is_ok() && Reference::parse(&once).is_ok();
            (sound && once != image && twice != once).then_some((once, twice))
        });
        if let Some((once, twice)) = moved {
            let message = format!(
                "the Python ImageSwap would make `{twice}` of `{once}` on the next update; here it stays"
            );
            checker.note(&At::value(entry), "second-pass", message, None);
        }
    }
}

/// Images that the entry matches.
fn probes(entry: &Entry<'_>, effective: &Effective<'_>) -> Vec<String> {
    match entry.section {
        Section::Exact => vec![entry.key.clone()],
        Section::Replace => {
            let glob = Glob::new(&entry.key);
            ["", "a", "a/b"].map(|it| glob.sample(it)).to_vec()
        }
        Section::Plain if entry.key == LIBRARY_KEY => vec!["image".to_owned()],
        Section::Plain if entry.key == DEFAULT_REGISTRY => {
            vec!["team/image".to_owned(), "docker.io/team/image".to_owned()]
        }
        Section::Plain => vec![format!("{}/image", entry.key)],
        Section::Default => {
            // A registry that no key names.
            let named = |it: &&str| effective.plain.contains_key(it);
            let host = ["quay.io", "ghcr.io", "registry.k8s.io", "example.net"];
            let mut images = vec!["team/image".to_owned(), "image".to_owned()];
            let hosts = host.iter().filter(|it| !named(it));
            images.extend(hosts.map(|it| format!("{it}/team/image")));
            images
        }
        Section::NoSwap => Vec::new(),
    }
}
