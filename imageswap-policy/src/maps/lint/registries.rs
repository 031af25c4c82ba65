//! Keys that name registries: which spellings of an image match in ImageSwap, and which here.

use super::{
    At, Checker, DEFAULT_REGISTRY, Effective, Entry, First, LIBRARY_KEY, Reference,
    canonical_registry, is_registry, split_port, target_prefix,
};

pub(super) fn check(checker: &mut Checker<'_>, effective: &Effective<'_>) {
    let Some(default) = effective.default else {
        return;
    };
    hub(checker, effective);
    without_dot(checker, effective, default);
    ports(checker, effective, default);
    if let Some(noswap) = effective.noswap.filter(|_| !default.value.is_empty()) {
        substrings(checker, noswap);
    }
}

/// The keys for Docker Hub.
fn hub(checker: &mut Checker<'_>, effective: &Effective<'_>) {
    let hub = effective.plain.get(DEFAULT_REGISTRY);
    let library = effective.plain.get(LIBRARY_KEY);
    if let Some(entry) = hub.or(library) {
        let message = "images written `index.docker.io/...` or `registry-1.docker.io/...` do not take this key, though they are on the same registry".to_owned();
        checker.note(&At::key(entry), "registry-alias", message, None);
    }
    if let Some(entry) = library {
        let message = "only a name alone, such as `nginx`, takes this key; `library/nginx`, `docker.io/nginx` and `docker.io/library/nginx` do not".to_owned();
        checker.note(&At::key(entry), "library-spelling", message, None);
    }
    for (key, entry) in &effective.plain {
        let registry = key.strip_suffix("/library");
        if let Some(registry) = registry.filter(|it| !effective.plain.contains_key(it)) {
            let message = format!(
                "the Python ImageSwap fails for other images of `{registry}`, which has no key of its own; here `default` decides about them"
            );
            let help = format!("add `{registry}::` with where they are to go");
            checker.note(&At::key(entry), "library-alone", message, Some(help));
        }
    }
}

/// Registries that ImageSwap does not recognise, because they have no dot.
fn without_dot(checker: &mut Checker<'_>, effective: &Effective<'_>, default: &Entry<'_>) {
    let hub = effective
        .plain
        .get(DEFAULT_REGISTRY)
        .or(effective.plain.get(LIBRARY_KEY));
    let place = match hub {
        Some(hub) => Some(At::key(hub)),
        None => (!default.value.is_empty()).then(|| At::value(default)),
    };
    if let Some(at) = place {
        let message = "`localhost/a` comes here as a path of `docker.io`, as in the Python ImageSwap; with a port, as in `localhost:5000/a`, the Python ImageSwap's answer is mostly not a reference, and here the registry's key or `default` decides".to_owned();
        checker.note(&at, "dotless-registry", message, None);
    }
    let keys = effective
        .plain
        .iter()
        .filter(|(key, _)| is_registry(key) && !key.contains(['.', '/']));
    if let Some(First { entry, more }) = First::of(keys.map(|(_, it)| *it)) {
        let message = format!(
            "the Python ImageSwap never uses this key, because it has no dot; here it applies to images for which the Python ImageSwap's answer is not a reference{more}"
        );
        checker.note(&At::key(entry), "dotless-key", message, None);
    }
}

/// Ports, and names of registries in the middle of an image.
fn ports(checker: &mut Checker<'_>, effective: &Effective<'_>, default: &Entry<'_>) {
    let sound = |value: &str| {
        let prefix = target_prefix(value);
        let rest = if prefix.ends_with('-') { "x/x" } else { "/x" };
        !value.is_empty() && Reference::parse(&format!("{prefix}{rest}")).is_ok()
    };
    let keys = || {
        let plain = effective.plain.values().copied();
        plain.filter(|it| is_registry(&it.key) && !it.key.contains('/') && sound(&it.value))
    };
    let mirrors = |it: &&Entry<'_>| target_prefix(&it.value).ends_with('-');
    let portless = |it: &&Entry<'_>| split_port(&it.key).1.is_none();
    let bare = |it: &&Entry<'_>| !target_prefix(&it.value).contains(['/', ':']);
    let follows = keys().filter(|it| !mirrors(it) && portless(it) && bare(it));
    if let Some(First { entry, more }) = First::of(follows) {
        let message = format!(
            "a port of the image follows to the new host: `{key}:443/a` becomes `{value}:443/a`{more}",
            key = entry.key,
            value = target_prefix(&entry.value)
        );
        let help = format!("add `{}:443::...` where that is wrong", entry.key);
        checker.note(&At::value(entry), "old-port", message, Some(help));
    }
    let behind = keys().filter(|it| !mirrors(it) && portless(it) && !bare(it));
    if let Some(First { entry, more }) = First::of(behind) {
        let message = format!(
            "the Python ImageSwap makes `{value}:443/a` of `{key}:443/a`; here the port is left out{more}",
            key = entry.key,
            value = target_prefix(&entry.value)
        );
        checker.note(&At::value(entry), "old-port", message, None);
    }
    if let Some(First { entry, more }) = First::of(keys().filter(mirrors)) {
        let host = split_port(&entry.key).0;
        let message = format!(
            "of an image with a port only the last path segment is kept: `{host}:443/a/b` becomes `{value}{host}/b`{more}",
            value = target_prefix(&entry.value)
        );
        checker.note(&At::value(entry), "mirror-port", message, None);
    }
    if sound(&default.value) && mirrors(&default) {
        let message = format!(
            "the registry is written twice: `quay.io/a` becomes `{value}quay.io/quay.io/a`",
            value = target_prefix(&default.value)
        );
        checker.note(&At::value(default), "mirror-default", message, None);
    }
    let replaced = keys()
        .chain(Some(default).filter(|it| sound(&it.value)))
        .filter(|it| !mirrors(it));
    if let Some(First { entry, more }) = First::of(replaced) {
        let key = if entry.key == "default" {
            "quay.io"
        } else {
            &entry.key
        };
        let message = format!(
            "this replaces the registry's name wherever it occurs, also the second in `{key}/mirror/{key}/a`{more}"
        );
        checker.note(&At::value(entry), "repeated-name", message, None);
    }
}

/// Items that are registries, and other images that contain them.
fn substrings(checker: &mut Checker<'_>, noswap: &Entry<'_>) {
    let items = noswap.items();
    let mut places = items.iter().filter(|it| {
        let host = it.text.split('/').next().unwrap_or(it.text);
        is_registry(host) && Reference::parse(&format!("{}/x", it.text)).is_ok()
    });
    let Some(item) = places.next() else {
        return;
    };
    let host = canonical_registry(item.text.split('/').next().unwrap_or(item.text));
    let more = match places.count() {
        0 => String::new(),
        1 => " (1 more text like this)".to_owned(),
        more => format!(" ({more} more texts like this)"),
    };
    let message = format!(
        "images that hold this elsewhere stay too, but are not approved: `{host}.evil.example/a`, `evil.example/{}/a`{more}",
        item.text
    );
    let at = At::columns(noswap, item.span.clone());
    checker.note(&at, "substring-item", message, None);
}
