//! Texts that regular expressions and wildcards match, so that images near them are tried.

use regex_syntax::hir::{Class, Hir, HirKind};

/// Samples of one expression at most.
const MAX: usize = 16;
/// Longer samples are not part of an image.
const MAX_LENGTH: usize = 120;
/// Characters that stand for a class, if it has them.
const CHARACTERS: [char; 8] = ['.', 'q', 'w', '-', 'z', '0', 'k', '/'];

/// Texts that an expression matches. Another round gives others.
pub(crate) fn of_regex(pattern: &str, round: usize) -> Vec<String> {
    let Ok(hir) = regex_syntax::parse(pattern) else {
        return Vec::new();
    };
    [2 * round, 2 * round + 1]
        .into_iter()
        .flat_map(|seed| samples(&hir, seed))
        .collect()
}

/// A wildcard with characters in place of each `?`; `?*` stays.
pub(crate) fn of_wildcard(wildcard: &str, round: usize) -> Vec<String> {
    let text = wildcard.replace("?*", "*").replace("*?", "*");
    if !text.contains('?') {
        return Vec::new();
    }
    let fill = |seed: usize| text.replace('?', &CHARACTERS[seed % 7].to_string());
    vec![fill(2 * round), fill(2 * round + 1)]
}

/// Wildcards that match about what an expression matches, for candidates: what is not literal becomes
/// `*`.
pub(crate) fn wildcards(pattern: &str) -> Vec<String> {
    let Ok(hir) = regex_syntax::parse(pattern) else {
        return Vec::new();
    };
    let open = |at: bool| if at { "" } else { "*" };
    let begin = open(pattern.starts_with('^'));
    let end = open(pattern.ends_with('$'));
    let all = loosened(&hir).into_iter();
    all.map(|it| format!("{begin}{it}{end}")).collect()
}

fn loosened(hir: &Hir) -> Vec<String> {
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => vec![String::new()],
        HirKind::Literal(it) => vec![String::from_utf8_lossy(&it.0).into_owned()],
        HirKind::Capture(it) => loosened(&it.sub),
        HirKind::Alternation(parts) => parts.iter().flat_map(loosened).take(MAX).collect(),
        HirKind::Repetition(it) if it.max == Some(1) => {
            let present = loosened(&it.sub).into_iter();
            present.chain([String::new()]).take(MAX).collect()
        }
        HirKind::Class(_) | HirKind::Repetition(_) => vec!["*".to_owned()],
        HirKind::Concat(parts) => parts.iter().fold(vec![String::new()], |all, part| {
            let next = loosened(part);
            let longer = all
                .iter()
                .flat_map(|before| next.iter().map(move |it| format!("{before}{it}")));
            longer
                .filter(|it| it.len() <= MAX_LENGTH)
                .take(MAX)
                .collect()
        }),
    }
}

fn samples(hir: &Hir, seed: usize) -> Vec<String> {
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => vec![String::new()],
        HirKind::Literal(it) => vec![String::from_utf8_lossy(&it.0).into_owned()],
        HirKind::Class(class) => vec![character(class, seed).to_string()],
        HirKind::Capture(it) => samples(&it.sub, seed),
        HirKind::Alternation(parts) => {
            let all = parts.iter().flat_map(|it| samples(it, seed));
            all.take(MAX).collect()
        }
        HirKind::Repetition(it) => {
            let least = usize::try_from(it.min).unwrap_or(MAX_LENGTH);
            let most = it.max.and_then(|it| usize::try_from(it).ok());
            // What may be absent is there in one of two samples.
            let count = (least + (seed + 1) % 2)
                .min(most.unwrap_or(MAX_LENGTH))
                .min(MAX_LENGTH);
            let each = samples(&it.sub, seed).into_iter();
            // Repetitions of repetitions would grow without an end.
            let short = each.filter(|it| it.len().saturating_mul(count) <= MAX_LENGTH);
            short.map(|it| it.repeat(count)).collect()
        }
        HirKind::Concat(parts) => {
            let mut all = vec![String::new()];
            for part in parts {
                let next = samples(part, seed);
                let longer = all
                    .iter()
                    .flat_map(|before| next.iter().map(move |it| format!("{before}{it}")));
                all = longer
                    .filter(|it| it.len() <= MAX_LENGTH)
                    .take(MAX)
                    .collect();
            }
            all
        }
    }
}

fn character(class: &Class, seed: usize) -> char {
    let has = |it: char| match class {
        Class::Unicode(class) => class
            .iter()
            .any(|range| range.start() <= it && it <= range.end()),
        Class::Bytes(class) => class
            .iter()
            .any(|range| char::from(range.start()) <= it && it <= char::from(range.end())),
    };
    let known: Vec<char> = CHARACTERS.into_iter().filter(|it| has(*it)).collect();
    if !known.is_empty() {
        return known[seed % known.len()];
    }
    match class {
        Class::Unicode(class) => class
            .ranges()
            .first()
            .map_or('x', regex_syntax::hir::ClassUnicodeRange::start),
        Class::Bytes(class) => class.iter().next().map_or('x', |it| char::from(it.start())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::regex;

    #[test]
    fn repeated_repetitions_stay_short() {
        let nested = format!("quay{}io", "+".repeat(80));
        let doubled = format!("{}a{}", "(".repeat(40), ")*+{2,9}".repeat(40));
        for pattern in [nested, doubled] {
            for round in 0..3 {
                let all = of_regex(&pattern, round);
                assert!(all.iter().all(|it| it.len() <= MAX_LENGTH), "{pattern}");
            }
        }
    }

    #[test]
    fn expressions_have_wildcards() {
        for (pattern, expected) in [
            (":(latest|dev)$", &["*:latest", "*:dev"][..]),
            (r"^[^/]+\.corp\.net/", &["*.corp.net/*"]),
            (r"^(eu\.)?gcr\.io/", &["eu.gcr.io/*", "gcr.io/*"]),
            ("(", &[]),
        ] {
            assert_eq!(wildcards(pattern), expected, "{pattern}");
        }
    }

    #[test]
    fn samples_match() {
        for pattern in [
            r"^(eu\.corp|bar)\.example/.+$",
            "^[a-z0-9.-]+/team/(a|b)?",
            r"^\d{2,3}x",
            "reg.example.com/",
        ] {
            for round in 0..3 {
                let all = of_regex(pattern, round);
                assert!(!all.is_empty(), "{pattern}");
                for it in all {
                    assert!(
                        regex(pattern).is_some_and(|regex| regex.is_match(&it)),
                        "{pattern}: {it}"
                    );
                }
            }
        }
        let all = of_regex(r"^(eu\.corp|bar)\.example/.+$", 0);
        assert!(
            all.iter().any(|it| it.starts_with("bar.example/")),
            "{all:?}"
        );
        assert_eq!(of_wildcard("reg?a.io/*", 0), ["reg.a.io/*", "regqa.io/*"]);
        assert!(of_wildcard("a.io/?*", 0).is_empty());
    }
}
