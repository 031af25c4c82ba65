//! Images in which the texts of a source stand at every place that an image has, as they are written.
//!
//! A rule matches texts, and a pattern matches hosts, paths and tags. What a text matches within any of
//! these is easily forgotten, and a policy that forgets it lets images in that the source refuses.

use crate::image::{Image, is_registry};
use crate::intent::Vocabulary;
use crate::probe::Probe;
use crate::sample;
use crate::text::unescaped;
use crate::vocabulary::REGEX_MARKS;
use std::collections::{BTreeMap, BTreeSet};

/// What may stand before a text; the first ones are tried for every source.
const BEFORE: [&str; 17] = [
    "",
    "x",
    "sub.",
    "quay.io/",
    "quay.io/team/",
    "quay.io/team/x",
    "quay.io/t/app:",
    "quay.io/t/app:1",
    "x-",
    "a.b2.",
    "quay.io/x",
    "quay.io/x-1/",
    "localhost:5000/",
    "10.0.0.1:5000/t/x.",
    "evil.example.net/a/b.",
    "t/x",
    "x.io",
];
/// What may stand behind a text.
const BEHIND: [&str; 19] = [
    "",
    ":1",
    "/x:1",
    "x/y:1",
    ".net/x:1",
    ".net:5000/x:1",
    ":5000/x:1",
    "-2",
    "0.0.5/x:1",
    "/a/b/c:1",
    "x",
    "x:latest",
    "-x.io/y:1",
    "-2/y:1",
    "x:5000/y:1",
    "0.0.5:5000/x:1",
    "080/a:1",
    "00/a:3",
    "y:1@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
];
/// What may stand between two texts and behind the second, where the first is the beginning of a name:
/// what is refused among images that are let in.
const BETWEEN: [(&str, &str); 12] = [
    ("x:", ""),
    ("x:1", ""),
    ("x:1-", "-2"),
    ("", ":1"),
    ("x", ":1"),
    ("x", ""),
    ("x-", "x/y:1"),
    ("/x:", ""),
    ("/x:1-", ""),
    ("/x-", ":1"),
    ("/t/x", "y:1"),
    ("/t/x-", ""),
];
/// With more texts than this, only the first places are tried.
const FEW: usize = 24;
/// The number of these places.
const FIRST: usize = 8;
/// Digits of a SHA-256 digest.
const DIGITS: usize = 64;
/// Longer texts are not part of an image.
const LONGEST: usize = 120;

/// The images.
pub(crate) fn placed(vocabulary: &Vocabulary) -> Vec<Probe> {
    let texts = texts(vocabulary);
    let (all_before, all_behind) = if texts.len() > FEW {
        (&BEFORE[..FIRST], &BEHIND[..FIRST])
    } else {
        (&BEFORE[..], &BEHIND[..])
    };
    let mut written: Vec<(String, bool)> = Vec::new();
    for (text, &is_sample) in &texts {
        let has_host = has_host(text);
        for before in all_before {
            for behind in all_behind {
                // Within a longer name, a registry's name in a path, or what an expression matches
                // besides what its author wrote.
                let is_longer = has_host && behind.starts_with(|it| it != '/' && it != ':');
                let is_within = !before.is_empty() && (!before.ends_with('/') || has_host);
                let odd = is_sample || is_longer || is_within;
                written.push((format!("{before}{text}{behind}"), odd));
            }
        }
    }
    for (text, &is_sample) in &texts {
        let odd = is_sample || !text.contains("sha256:");
        written.extend(in_digest(text).into_iter().map(|it| (it, odd)));
    }
    let by_author = || texts.iter().filter(|it| !it.1).map(|it| it.0);
    for name in by_author().filter(|it| has_host(it)).take(FEW) {
        for text in by_author().filter(|it| *it != name) {
            let odd = has_host(text);
            let both = |(between, behind)| (format!("{name}{between}{text}{behind}"), odd);
            written.extend(BETWEEN.map(both));
        }
    }
    // A registry without a path would be an official image.
    let is_host = |text: &str| !text.contains('/') && text.contains('.');
    let mut seen = BTreeSet::new();
    let images = written.into_iter().filter(|(text, _)| !is_host(text));
    let images = images.filter_map(|(text, odd)| Some((Image::parse(&text)?, odd)));
    images
        .filter(|(image, _)| seen.insert(image.clone()))
        .map(|(image, odd)| Probe {
            texts: image.spellings(),
            image,
            odd,
        })
        .collect()
}

/// Images with a text at the beginning of their digest, in it and at its end.
fn in_digest(text: &str) -> Vec<String> {
    let (name, digits) = text.rsplit_once(':').unwrap_or(("", text));
    let is_digit = |it: char| it.is_ascii_hexdigit() && !it.is_ascii_uppercase();
    let missing = DIGITS.checked_sub(digits.len());
    let Some(missing) = missing.filter(|_| !digits.is_empty() && digits.chars().all(is_digit))
    else {
        return Vec::new();
    };
    let name = match name
        .strip_suffix("sha256")
        .map(|it| it.trim_end_matches('@'))
    {
        Some("") => "quay.io/t/app",
        Some(name) => name,
        None if name.is_empty() => "quay.io/t/app",
        None => return Vec::new(),
    };
    let is_begin = text.contains(':');
    let places = if is_begin {
        vec![0]
    } else {
        vec![0, missing / 2, missing]
    };
    let image = |place: usize| {
        let before = "f".repeat(place);
        let behind = "f".repeat(missing - place);
        format!("{name}@sha256:{before}{digits}{behind}")
    };
    places.into_iter().map(image).collect()
}

/// Whether a text begins with the name of a registry.
fn has_host(text: &str) -> bool {
    is_registry(text.split(['/', ':']).next().unwrap_or_default())
}

/// The texts as written, without wildcards, and samples of expressions, which are `true`.
fn texts(vocabulary: &Vocabulary) -> BTreeMap<String, bool> {
    let is_regex = |it: &&String| it.contains(REGEX_MARKS);
    let regexes = vocabulary.templates.iter().map(|it| &it.0);
    let regexes = regexes.chain(vocabulary.texts.iter().filter(is_regex));
    let samples = regexes.flat_map(|it| (0..2).flat_map(|round| sample::of_regex(it, round)));
    let templates = vocabulary.templates.iter().map(|it| unescaped(&it.1));
    let texts = vocabulary.texts.iter().map(|it| unescaped(it));
    let wildcards = vocabulary
        .wildcards
        .iter()
        .flat_map(|it| it.split(['|', '&']));
    let filled = wildcards
        .clone()
        .map(|it| it.replace('*', "w").replace('?', "q"));
    let pieces = wildcards
        .flat_map(|it| it.split(['*', '?']))
        .map(str::to_owned);
    let written = templates.chain(texts).chain(filled).chain(pieces);
    let all = written
        .map(|it| (it, false))
        .chain(samples.map(|it| (it, true)));
    let is_part = |it: char| it.is_ascii_alphanumeric() || "._-/:@".contains(it);
    let mut found = BTreeMap::new();
    for (text, is_sample) in all {
        for word in text.split(|it| !is_part(it)) {
            let has_name = word.contains(|it: char| it.is_ascii_alphanumeric());
            if has_name && word.len() <= LONGEST {
                found.entry(word.to_owned()).or_insert(is_sample);
            }
        }
    }
    found
}
