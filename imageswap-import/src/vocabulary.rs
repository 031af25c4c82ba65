//! From the texts of a source: hosts, paths and tags to try, and possible patterns.

use crate::image::is_registry;
use crate::intent::Vocabulary;
use crate::sample;
use crate::text::unescaped;
use imageswap_policy::Pattern;
use std::collections::BTreeSet;

/// More of each kind are not tried.
const MAX: usize = 14;
/// More words are not compared, so a rule with more is left out.
pub(crate) const MAX_WORDS: usize = 160;
/// More texts are not tried in pairs.
const MAX_PAIRED: usize = 4;
/// Patterns that are tried.
const MAX_PATTERNS: usize = 3000;

/// A text with one of these may be a regular expression.
pub(crate) const REGEX_MARKS: [char; 7] = ['\\', '^', '$', '(', '[', '|', '+'];

/// The names in a source.
#[derive(Debug, Clone, Default)]
pub(crate) struct Named {
    pub(crate) hosts: Vec<String>,
    /// Paths on one of the hosts, or on any.
    pub(crate) paths: Vec<String>,
    pub(crate) tags: Vec<String>,
    /// Hosts that a wildcard matches, with something in place of its `*`.
    pub(crate) samples: Vec<String>,
    /// Every word as written, with something in place of its `*`.
    pub(crate) words: Vec<String>,
    /// Words that expressions match, which their author may not mean.
    pub(crate) sampled: Vec<String>,
    /// The hosts in them.
    sampled_hosts: Vec<String>,
}

impl Named {
    /// The parts of images in a vocabulary.
    pub(crate) fn of(vocabulary: &Vocabulary, round: usize) -> Self {
        let mut named = Self::default();
        let is_regex = |it: &&String| it.contains(REGEX_MARKS);
        let regexes = vocabulary
            .templates
            .iter()
            .map(|it| &it.0)
            .chain(vocabulary.texts.iter().filter(is_regex));
        let sampled: Vec<String> = regexes
            .flat_map(|it| sample::of_regex(it, round))
            .chain(
                vocabulary
                    .wildcards
                    .iter()
                    .flat_map(|it| sample::of_wildcard(it, round)),
            )
            .collect();
        let templates = vocabulary
            .templates
            .iter()
            .flat_map(|(regex, to)| [unescaped(regex), unescaped(to)]);
        let texts = vocabulary.texts.iter().map(|it| unescaped(it));
        let wildcards = vocabulary.wildcards.iter();
        let split = wildcards
            .flat_map(|it| it.split(['|', '&']))
            .map(str::to_owned);
        let is_part = |it: char| it.is_ascii_alphanumeric() || "._-/:*@".contains(it);
        let mut near = Self::default();
        for text in &sampled {
            for word in text.split(|it| !is_part(it)) {
                near.word(&word.replace('*', ""));
                named.sampled.push(word.replace('*', "w"));
            }
        }
        named.sampled_hosts = near.hosts;
        for text in texts.chain(split).chain(templates) {
            for word in text.split(|it| !is_part(it)) {
                named.words.push(word.replace('*', "w"));
                named.word(&word.replace('*', ""));
                if word.contains('*') {
                    let mut filled = Self::default();
                    filled.word(&word.replace('*', "w"));
                    named.samples.extend(filled.hosts);
                    named.paths.extend(filled.paths);
                    named.tags.extend(filled.tags);
                }
            }
        }
        for pair in pairs(vocabulary) {
            named.words.push(pair);
        }
        for list in [
            &mut named.hosts,
            &mut named.paths,
            &mut named.tags,
            &mut named.samples,
            &mut named.words,
            &mut named.sampled,
            &mut named.sampled_hosts,
        ] {
            let mut seen = BTreeSet::new();
            list.retain(|it| !it.is_empty() && seen.insert(it.clone()));
        }
        for list in [
            &mut named.hosts,
            &mut named.paths,
            &mut named.tags,
            &mut named.samples,
        ] {
            list.truncate(MAX);
        }
        named
    }

    fn word(&mut self, word: &str) {
        let word = word.split('@').next().unwrap_or_default();
        let fill = |it: &str| it.trim_matches(['.', '-', '_', ':']).to_owned();
        let word = word.trim_start_matches('/');
        let slash = word.rfind('/').map_or(0, |it| it + 1);
        let (name, tag) = match word[slash..].split_once(':') {
            Some((last, tag)) => (&word[..slash + last.len()], tag),
            None => (word, ""),
        };
        let port = !tag.is_empty() && tag.bytes().all(|it| it.is_ascii_digit());
        if !tag.is_empty() && !port {
            self.tags.push(fill(tag));
        }
        if port && slash == 0 {
            return self.hosts.push(fill(word));
        }
        let (first, rest) = name.split_once('/').unwrap_or((name, ""));
        let first = fill(first);
        let path = fill(rest.trim_matches('/'));
        if is_registry(&first) && first.len() > 2 {
            self.hosts.push(first);
        } else if !first.is_empty()
            && first != "w"
            && first.chars().any(|it| it.is_ascii_lowercase())
        {
            self.paths.push(fill(name.trim_matches('/')));
        }
        if !path.is_empty() && path != "w" {
            self.paths.push(path);
        }
    }
}

/// Hosts that contain two texts of a source, which it may ask for together, and one of them.
fn pairs(vocabulary: &Vocabulary) -> Vec<String> {
    let part = |it: char| it.is_ascii_alphanumeric() || "._-".contains(it);
    // Of wildcards only `*TEXT*`: a beginning or an end is not somewhere within.
    let wildcards = vocabulary
        .wildcards
        .iter()
        .flat_map(|it| it.split(['|', '&']));
    let inner = wildcards.filter_map(|it| {
        let it = it.trim().trim_start_matches('!');
        it.strip_prefix('*')?.strip_suffix('*')
    });
    let texts = vocabulary.texts.iter().map(String::as_str).chain(inner);
    let mut texts: Vec<&str> = texts
        .filter(|it| !it.is_empty() && it.chars().all(part))
        .collect();
    texts.dedup();
    texts.truncate(MAX_PAIRED);
    let mut pairs = Vec::new();
    for a in &texts {
        // One without the other.
        if texts.len() > 1 {
            pairs.push(format!("x{a}x.example/x"));
        }
        for b in texts.iter().filter(|b| a != *b) {
            pairs.push(format!("x{a}x{b}"));
            pairs.push(format!("x{a}x{b}x.example"));
        }
    }
    pairs
}

/// Candidate patterns for the vocabulary, most general first; all of them parse.
pub(crate) fn patterns(vocabulary: &Vocabulary) -> Vec<(String, Pattern)> {
    let mut texts = vec![
        "**".to_owned(),
        "docker.io/**".to_owned(),
        "docker.io/library/*".to_owned(),
    ];
    let parts = || vocabulary.texts.iter().chain(&vocabulary.wildcards);
    if parts().any(|it| it.contains(':')) {
        texts.push("**:latest".to_owned());
    }
    if parts().any(|it| it.contains('@')) {
        texts.push("**@sha256:*".to_owned());
    }
    let named = Named::of(vocabulary, 0);
    let digests = parts().any(|it| it.contains('@'));
    for host in &named.sampled_hosts {
        texts.push(format!("{host}/**"));
    }
    for host in &named.hosts {
        texts.push(format!("{host}/**"));
        if digests {
            texts.push(format!("{host}/**@sha256:*"));
        }
        for path in named.paths.iter().take(6) {
            texts.extend([format!("{host}/{path}/**"), format!("{host}/{path}")]);
            if digests {
                texts.push(format!("{host}/{path}@sha256:*"));
            }
        }
    }
    for wildcard in &vocabulary.wildcards {
        for part in wildcard.split(['|', '&']) {
            translate(part.trim().trim_start_matches('!'), &mut texts);
        }
    }
    for text in &vocabulary.texts {
        for part in [
            text.clone(),
            format!("{text}*"),
            format!("*{text}"),
            format!("*{text}*"),
        ] {
            translate(&part, &mut texts);
        }
    }
    let is_regex = |it: &&String| it.contains(REGEX_MARKS);
    let regexes = vocabulary.templates.iter().map(|it| &it.0);
    for regex in regexes.chain(vocabulary.texts.iter().filter(is_regex)) {
        for wildcard in sample::wildcards(regex) {
            translate(&wildcard, &mut texts);
        }
    }
    for (regex, _) in &vocabulary.templates {
        for word in unescaped(regex).split_whitespace() {
            let word = word.trim_end_matches(['.', '*']);
            translate(&format!("{word}*"), &mut texts);
        }
    }
    let mut seen = BTreeSet::new();
    texts.retain(|it| seen.insert(it.clone()));
    let parsed = texts
        .into_iter()
        .filter_map(|it| Some((Pattern::parse(&it).ok()?, it)));
    parsed
        .map(|(pattern, text)| (text, pattern))
        .take(MAX_PATTERNS)
        .collect()
}

/// Patterns for some of a wildcard's matches.
fn translate(wildcard: &str, into: &mut Vec<String>) {
    let mut text = wildcard.to_owned();
    while let Some(shorter) = ["?*", "*?", "**"]
        .iter()
        .find_map(|it| text.contains(it).then(|| text.replace(it, "*")))
    {
        text = shorter;
    }
    let usable = |it: char| it.is_ascii_alphanumeric() || "._-/:*@".contains(it);
    if text.is_empty() || text.contains("://") || !text.chars().all(usable) {
        return;
    }
    let (rest, digest) = match text.split_once('@') {
        Some((rest, digest)) => (rest, Some(digest)),
        None => (text.as_str(), None),
    };
    let slash = rest.rfind('/').map_or(0, |it| it + 1);
    let (name, tag) = match rest[slash..].split_once(':') {
        Some((last, tag)) => (&rest[..slash + last.len()], Some(tag)),
        None => (rest, None),
    };
    let mut names = Vec::new();
    whole(name, &mut names);
    if slash == 0 {
        // A colon without a slash may also belong to a registry.
        whole(rest, &mut names);
    }
    let digest = digest.map(|it| {
        if it.contains('*') || it.is_empty() {
            "sha256:*"
        } else {
            it
        }
    });
    for name in names {
        if let Some(digest) = digest {
            into.push(format!("{name}@{digest}"));
            continue;
        }
        match tag {
            Some("*") => into.push(name),
            Some(tag) => {
                into.push(format!("{name}:{tag}"));
                into.push(name);
            }
            None => {
                into.push(format!("{name}:latest"));
                into.push(name);
            }
        }
    }
}

/// Patterns for host and path of a wildcard.
fn whole(name: &str, into: &mut Vec<String>) {
    if name.is_empty() {
        return;
    }
    if name == "*" {
        return into.push("**".to_owned());
    }
    let segments: Vec<&str> = name.split('/').collect();
    let (first, rest) = (segments[0], &segments[1..]);
    if rest.is_empty() {
        // A wildcard without a slash: an official image, the beginning of a registry's name, or a
        // part of anything.
        into.push(format!("docker.io/library/{first}"));
        for host in hosts(first) {
            into.push(format!("{host}/**"));
        }
        if let Some(bare) = first.strip_suffix('*') {
            into.push(format!("{bare}/**"));
            into.push(format!("{bare}:*/**"));
            into.push(format!("docker.io/{first}/**"));
        }
        if first.starts_with('*') {
            into.push(format!("**/{first}"));
            into.push(format!("**/{first}/**"));
            // Within a label of a host, the first or another one, with and without a port.
            for host in [first.to_owned(), format!("**.{first}")] {
                into.push(format!("{host}:*/**"));
                into.push(format!("{host}.**/**"));
                into.push(format!("{host}.**:*/**"));
                into.push(format!("{host}/**"));
            }
            into.push(format!("**:{first}"));
        }
        return;
    }
    let tails = tails(rest);
    for tail in &tails {
        for host in hosts(first) {
            into.push(format!("{host}/{tail}"));
        }
        if !is_registry(first) {
            into.push(format!("docker.io/{first}/{tail}"));
            if first.is_empty() {
                into.push(format!("**/{tail}"));
            }
        }
        if first.starts_with('*') {
            into.push(format!("**/{tail}"));
            into.push(format!("**/{first}/{tail}"));
        }
    }
}

fn hosts(first: &str) -> Vec<String> {
    let mut hosts = vec![first.to_owned()];
    if let Some(domain) = first.strip_prefix("*.") {
        hosts.push(format!("**.{domain}"));
    } else if let Some(domain) = first.strip_prefix('*').filter(|it| !it.is_empty()) {
        hosts.extend([format!("**.*{domain}"), domain.to_owned()]);
    }
    if first.ends_with('*') {
        hosts.extend([
            format!("{first}:*"),
            format!("{first}.**"),
            format!("{first}.**:*"),
        ]);
    }
    hosts
}

/// Patterns for the path after the first segment.
fn tails(segments: &[&str]) -> Vec<String> {
    let mut tails: Vec<Vec<String>> = vec![Vec::new()];
    for (at, segment) in segments.iter().enumerate() {
        let last = at + 1 == segments.len();
        let one = |it: &str| vec![it.to_owned()];
        let choices: Vec<Vec<String>> = match *segment {
            "*" | "" if last => vec![one("**")],
            "*" => vec![one("*"), vec!["*".to_owned(), "**".to_owned()], one("**")],
            it if it.ends_with('*') && last => vec![one(it), vec![it.to_owned(), "**".to_owned()]],
            it if it.starts_with('*') => vec![one(it), vec!["**".to_owned(), it.to_owned()]],
            it => vec![one(it)],
        };
        let longer = tails.iter().flat_map(|before| {
            choices
                .iter()
                .map(move |it| [before.clone(), it.clone()].concat())
        });
        tails = longer.take(24).collect();
    }
    tails.into_iter().map(|it| it.join("/")).collect()
}
