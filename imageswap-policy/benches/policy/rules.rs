//! Policies of any size, and images that their rules match.

use std::collections::BTreeMap;
use std::fmt::Write;

use regex::Regex;

/// Images for each kind of answer; enough to reach rules at the beginning, in the middle and at the
/// end of a list.
const IMAGES: usize = 24;
const DIGEST: &str = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
const TARGET: &str = "registry.example.com";

/// A policy's text, and images by the answer that they get.
pub(crate) struct Rules {
    pub(crate) text: String,
    pub(crate) images: BTreeMap<&'static str, Vec<String>>,
}

/// The kinds of pattern that people write, used in rotation.
#[derive(Clone, Copy)]
enum Kind {
    Host,
    Path,
    Wildcard,
    Regex,
}

/// One rule in all its spellings, and an image that no earlier rule matches.
struct Rule {
    /// In our language, or a regex.
    pattern: String,
    /// The same as a regex over the canonical reference.
    regex: String,
    image: String,
    kind: Kind,
    keeps: bool,
}

impl Rules {
    /// An ImageSwapPolicy with rules of all kinds; half of those that can keep do.
    pub(crate) fn policy(size: usize) -> Self {
        let mut text = document("rules");
        let mut images = BTreeMap::from([("keep", Vec::new()), ("swap", Vec::new())]);
        for (number, rule) in rules(size).into_iter().enumerate() {
            let Rule { pattern, keeps, .. } = &rule;
            let line = match rule.kind {
                Kind::Regex => format!("{{regex: '{pattern}', to: '{TARGET}/m{number}/$1'}}"),
                _ if *keeps => format!("{{keep: \"{pattern}\"}}"),
                _ => format!("{{from: \"{pattern}\", to: {TARGET}/m{number}}}"),
            };
            _ = writeln!(text, "  - {line}");
            images
                .entry(if *keeps { "keep" } else { "swap" })
                .or_default()
                .push(rule.image);
        }
        Self { text, images }
    }

    /// An ImageSwapPolicy that only approves.
    pub(crate) fn approved(size: usize) -> Self {
        let mut text = document("approved").replace("rules:", "approved:");
        let mut images = Vec::new();
        let without_regex = |rule: &Rule| !matches!(rule.kind, Kind::Regex);
        for rule in rules(size * 4 / 3 + 1)
            .into_iter()
            .filter(without_regex)
            .take(size)
        {
            _ = writeln!(text, "  - \"{}\"", rule.pattern);
            images.push(rule.image);
        }
        Self {
            text,
            images: BTreeMap::from([("keep", images)]),
        }
    }

    /// A maps file: registries, half of which stay, in the order in which people add them.
    pub(crate) fn maps(size: usize) -> Self {
        let mut text = format!("default::{TARGET}/rest\n");
        let mut images = BTreeMap::from([("keep", Vec::new()), ("swap", Vec::new())]);
        for number in 0..size - 1 {
            let (answer, value) = if number % 2 == 0 {
                ("keep", String::new())
            } else {
                ("swap", format!("{TARGET}/m{number}"))
            };
            _ = writeln!(text, "r{number}.example.org::{value}");
            images
                .entry(answer)
                .or_default()
                .push(format!("r{number}.example.org/team/app:1.{number}"));
        }
        Self { text, images }
    }

    /// Images with this answer, from all parts of the list.
    pub(crate) fn of(&self, answer: &str) -> Vec<&str> {
        let images = &self.images[answer];
        let count = images.len().min(IMAGES);
        // A constant step could hit one kind of rule again and again.
        let at = |number| number * images.len() / count;
        (0..count)
            .map(|number| images[at(number)].as_str())
            .collect()
    }
}

/// The same rules without an engine: the first regex that matches decides.
pub(crate) struct Naive {
    rules: Vec<(Regex, Option<String>)>,
}

impl Naive {
    /// With as many rules as [`Rules::policy`].
    pub(crate) fn new(size: usize) -> Self {
        let rules = rules(size).into_iter().enumerate().map(|(number, rule)| {
            let regex = Regex::new(&format!("^{}$", rule.regex)).expect("the regex is sound");
            let to = (!rule.keeps).then(|| format!("{TARGET}/m{number}/$1"));
            (regex, to)
        });
        Self {
            rules: rules.collect(),
        }
    }

    /// The result, if a rule moves the image.
    pub(crate) fn decide(&self, image: &str) -> Option<String> {
        let (regex, to) = self.rules.iter().find(|(regex, _)| regex.is_match(image))?;
        let captures = regex.captures(image)?;
        let mut result = String::new();
        captures.expand(to.as_ref()?, &mut result);
        Some(result)
    }
}

fn document(name: &str) -> String {
    format!(
        "apiVersion: imageswap.io/v1alpha1\nkind: ImageSwapPolicy\nmetadata:\n  name: {name}\nspec:\n  rules:\n"
    )
}

fn rules(size: usize) -> Vec<Rule> {
    (0..size).map(rule).collect()
}

fn rule(number: usize) -> Rule {
    let kind = [Kind::Host, Kind::Path, Kind::Wildcard, Kind::Regex][number % 4];
    let (pattern, regex, name) = match kind {
        Kind::Host => (
            format!("r{number}.example.org/**"),
            format!(r"r{number}\.example\.org/(.+)"),
            format!("r{number}.example.org/team/app"),
        ),
        Kind::Path => (
            format!("quay.io/team-{number}/**"),
            format!(r"quay\.io/team-{number}/(.+)"),
            format!("quay.io/team-{number}/app/server"),
        ),
        Kind::Wildcard => (
            format!("*.zone{number}.example.net/**"),
            format!(r"[^/.:]*\.zone{number}\.example\.net/(.+)"),
            format!("eu.zone{number}.example.net/team/app"),
        ),
        Kind::Regex => {
            let regex = format!(r"gcr{number}\.example\.org/([^/]+/.+)");
            (
                regex.clone(),
                regex,
                format!("gcr{number}.example.org/project/app"),
            )
        }
    };
    let image = if number.is_multiple_of(5) {
        format!("{name}@{DIGEST}")
    } else {
        format!("{name}:1.{number}")
    };
    let keeps = !matches!(kind, Kind::Regex) && (number / 4).is_multiple_of(2);
    Rule {
        pattern,
        regex,
        image,
        kind,
        keeps,
    }
}
