//! The images that both the source and the resulting policy are asked about.

use crate::image::{Image, Spelling};
use crate::intent::Vocabulary;
use crate::vocabulary::Named;
use std::collections::BTreeSet;

const DIGEST: &str = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
/// Registries that are tried even if the source does not name them.
const STRANGERS: [&str; 14] = [
    "quay.io",
    "ghcr.io",
    "one.example.net",
    "two-b.example.net",
    "docker.elastic.co",
    "registry-1.example.org",
    "us-docker.pkg.dev",
    "r3.x9.example.io",
    "10.0.0.1:5000",
    "localhost",
    "localhost:5000",
    "myreg:5000",
    "Upper.Example.com",
    "a.b-c.d.example",
];
const PATHS: [&str; 7] = [
    "app",
    "team/app",
    "a/b/c",
    "x-1/y_2/z.3/w__4",
    "library/redis",
    "0dig/1t",
    "p/q/r/s/t",
];
/// Most probes; those from the source come first.
const MAX: usize = 420;

/// One image in all of its spellings.
#[derive(Debug, Clone)]
pub(crate) struct Probe {
    pub(crate) image: Image,
    /// All ways to write it.
    pub(crate) texts: Vec<(String, Spelling)>,
    /// A text of the source occurs at an odd place: inside of a path, or at the end of another
    /// host's name.
    pub(crate) odd: bool,
}

/// Images of the named registries and paths, of their neighbours, and of strangers. `round` varies
/// the choice.
pub(crate) fn probes(vocabulary: &Vocabulary, round: usize) -> Vec<Probe> {
    let named = Named::of(vocabulary, round);
    let mut texts = Vec::new();
    let mut odd = BTreeSet::new();
    let tags = suffixes(&named);
    let mut turn = round * 3;
    let mut suffix = || {
        turn += 1;
        tags[turn % tags.len()].clone()
    };
    let mut hosts: Vec<String> = vec!["docker.io".to_owned()];
    hosts.extend(named.hosts.iter().chain(&named.samples).cloned());
    let near: Vec<String> = named
        .hosts
        .iter()
        .flat_map(|it| neighbours(it, round))
        .collect();
    let paths = paths(&named, round);
    // Each word alone, so that none of many words is missed.
    for word in &named.words {
        let word = word.trim_matches('/');
        texts.push(format!("{word}/x{}", suffix()));
        texts.push(format!("{word}/y/z:{}.2", round + 1));
        // A registry without a path would be an official image.
        if word.contains('/') || !word.contains('.') {
            texts.push(word.to_owned());
        }
    }
    let known: BTreeSet<Image> = texts.iter().filter_map(|it| Image::parse(it)).collect();
    for word in &named.sampled {
        let word = word.trim_matches('/');
        for text in [format!("{word}/x{}", suffix()), word.to_owned()] {
            if text.contains('/') {
                odd.extend(Image::parse(&text).filter(|it| !known.contains(it)));
                texts.push(text);
            }
        }
    }
    for host in &hosts {
        texts.push(format!("{host}/{}{}", paths[0], suffix()));
    }
    for host in near.iter().map(String::as_str).chain(STRANGERS) {
        let lookalike = named
            .hosts
            .iter()
            .any(|it| host != it && host.ends_with(it.as_str()));
        let count = if round == 0 { 3 } else { 4 };
        for at in 0..count {
            let path = &paths[(at * 5 + turn_of(host) + round) % paths.len()];
            let text = format!("{host}/{path}{}", suffix());
            if lookalike {
                odd.extend(Image::parse(&text));
            }
            texts.push(text);
        }
    }
    for tag in &tags {
        texts.push(format!("two-b.example.net/t/app{tag}"));
        texts.push(format!("10.0.0.1:5000/t/app{tag}"));
    }
    for text in embedded(&named, round) {
        texts.push(text.clone());
        odd.extend(Image::parse(&text));
    }
    for host in &hosts {
        for path in &paths {
            texts.push(format!("{host}/{path}{}", suffix()));
        }
        for tag in &tags {
            texts.push(format!("{host}/{}{tag}", paths[0]));
        }
    }
    let mut seen = BTreeSet::new();
    let images = texts.iter().filter_map(|it| Image::parse(it));
    images
        .filter(|it| seen.insert(it.clone()))
        .take(MAX + 3 * (named.words.len() + named.sampled.len()))
        .map(|image| Probe {
            texts: image.spellings(),
            odd: odd.contains(&image),
            image,
        })
        .collect()
}

fn turn_of(host: &str) -> usize {
    host.bytes().map(usize::from).sum()
}

fn suffixes(named: &Named) -> Vec<String> {
    let mut all = vec![
        ":1.25".to_owned(),
        String::new(),
        format!("@{DIGEST}"),
        ":v2-RC_1.x".to_owned(),
        format!(":1@{DIGEST}"),
        ":latest".to_owned(),
    ];
    for tag in &named.tags {
        all.push(format!(":{tag}"));
        all.push(format!(":{tag}-x"));
    }
    all
}

fn paths(named: &Named, round: usize) -> Vec<String> {
    let mut all: Vec<String> = PATHS.iter().map(|it| (*it).to_owned()).collect();
    let tail = if round == 0 { "x" } else { "n-7" };
    let forms: [fn(&str, &str) -> String; 8] = [
        |path, _| path.to_owned(),
        |path, tail| format!("{path}/{tail}"),
        |path, tail| format!("{path}{tail}"),
        |path, tail| format!("{path}{tail}/y"),
        |path, tail| format!("z/{path}/{tail}"),
        |path, tail| format!("{path}/d/{tail}"),
        |path, _| format!("e{path}"),
        |path, _| format!("g/{path}"),
    ];
    for form in forms {
        all.extend(named.paths.iter().map(|path| form(path, tail)));
    }
    all.truncate(60);
    if round > 0 {
        all.insert(0, format!("h-{round}/i{round}"));
    }
    all
}

/// Hosts of strangers that begin or end as a host does; each of them is the host of a reference.
pub(crate) fn lookalikes(host: &str) -> Vec<String> {
    let mut all = match host.split_once(':') {
        // A text that begins with the host and its port also begins with a longer port.
        Some((bare, _)) => vec![format!("{bare}.evil.example"), format!("{host}0")],
        None => vec![format!("{host}.evil.example")],
    };
    all.push(format!("evil{host}"));
    // `evillocalhost` is a path on docker.io.
    all.retain(|it| Image::parse(&format!("{it}/x")).is_some_and(|image| image.host == *it));
    all
}

/// Hosts that look like a host.
fn neighbours(host: &str, round: usize) -> Vec<String> {
    let mut all = lookalikes(host);
    all.extend([format!("sub.{host}"), format!("x-{host}")]);
    let upper = host.to_ascii_uppercase();
    if upper != host && host.contains(['.', ':']) {
        all.push(upper);
    }
    if let Some((bare, _)) = host.split_once(':') {
        all.push(bare.to_owned());
    } else {
        all.push(format!("{host}:5000"));
    }
    if round > 0 {
        all.push(format!("a.b2.{host}"));
    }
    all
}

/// The named texts inside a stranger's path, and with other characters at their dots.
fn embedded(named: &Named, round: usize) -> Vec<String> {
    let mut all = Vec::new();
    for host in &named.hosts {
        let bare = host.split(':').next().unwrap_or(host).to_ascii_lowercase();
        let path = named.paths.first().map_or("u", String::as_str);
        all.push(format!("evil.example.net/{bare}/{path}/v{round}:1"));
        all.push(format!("evil.example.net/m/{bare}/w"));
        if let Some((first, rest)) = bare.split_once('.') {
            all.push(format!("{first}x{rest}/{path}/v"));
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lookalikes_are_hosts_of_references() {
        for host in [
            "registry.corp",
            "registry:5000",
            "10.1.2.3:8080",
            "localhost",
        ] {
            for it in lookalikes(host) {
                let image = Image::parse(&format!("{it}/app:1"));
                let found = image.as_ref().map(|image| image.host.as_str());
                assert_eq!(found, Some(it.as_str()), "{host}");
                assert_ne!(it, host);
            }
        }
    }
}
