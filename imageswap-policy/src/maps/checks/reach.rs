//! Rules that never decide, because earlier ones match the same images.

use super::{At, Checker};
use crate::maps::compile::{Effective, LIBRARY_KEY};
use crate::maps::lines::Entry;
use crate::maps_engine::Glob;
use crate::reference::{DEFAULT_REGISTRY, split_port};

pub(super) fn check(checker: &mut Checker<'_>, effective: &Effective<'_>) {
    let patterns: Vec<_> = effective
        .replace
        .iter()
        .map(|it| (*it, Glob::new(&it.key)))
        .collect();
    for (at, (entry, glob)) in patterns.iter().enumerate() {
        let earlier = patterns[..at].iter().find(|(_, it)| it.covers(glob));
        if let Some((earlier, _)) = earlier {
            unreachable(checker, entry, earlier, "matches all that this one matches");
        } else if let Some(exact) = effective
            .exact
            .get(entry.key.as_str())
            .filter(|_| glob.is_literal())
        {
            unreachable(checker, entry, exact, "matches the same text");
        }
    }
    if patterns.is_empty() {
        return;
    }
    for (&key, entry) in &effective.plain {
        let (images, which) = images_of(key);
        if let Some((earlier, _)) = patterns.iter().find(|(_, it)| it.covers(&images)) {
            unreachable(checker, entry, earlier, which);
        }
    }
    let rest = [effective.noswap, effective.default];
    let all = Glob::new("*");
    if let Some((earlier, _)) = patterns.iter().find(|(_, it)| it.covers(&all)) {
        for entry in rest.into_iter().flatten() {
            unreachable(checker, entry, earlier, "matches every image");
        }
    }
}

/// The images that a key matches, as a pattern, and the message about a pattern that takes them.
fn images_of(key: &str) -> (Glob, &'static str) {
    match key {
        DEFAULT_REGISTRY | LIBRARY_KEY => (Glob::new("*"), "matches every image"),
        _ if split_port(key).1.is_some() => (literal(key), "matches all images of this registry"),
        // A key without a port also matches the host with a port, which such a pattern may not
        // match.
        _ => (
            literal(key),
            "matches all images of this registry that name no port",
        ),
    }
}

/// `key/*` with wildcards in the key escaped.
fn literal(key: &str) -> Glob {
    let mut pattern = String::new();
    for it in key.chars() {
        match it {
            '*' | '?' | '[' => pattern.extend(['[', it, ']']),
            _ => pattern.push(it),
        }
    }
    Glob::new(&format!("{pattern}/*"))
}

fn unreachable(checker: &mut Checker<'_>, entry: &Entry<'_>, earlier: &Entry<'_>, why: &str) {
    let message = format!(
        "this line is never reached: `{}` in line {} {why}",
        earlier.written_key(),
        earlier.line
    );
    checker.warn(&At::key(entry), "unreachable-rule", message, None);
}
