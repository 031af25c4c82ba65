//! Ordered rules.

use super::Unsayable;
use crate::image::Image;
use crate::intent::Vocabulary;
use crate::text;
use imageswap_policy::document::Rule;
use imageswap_policy::{Pattern, Reference};
use regex_automata::meta;
use std::collections::BTreeMap;

/// More rules than a person would write.
const MAX_RULES: usize = 40;
/// More candidates are not tried.
const MAX_CANDIDATES: usize = 600;

/// One image, and its expected result.
#[derive(Debug, Clone)]
pub(crate) struct Example {
    pub(crate) image: Image,
    /// The image in full.
    pub(crate) text: String,
    /// Its host and path.
    pub(crate) name: String,
    pub(crate) wanted: Wanted,
    /// Leaving the image alone is a difference that may be reported.
    pub(crate) may_stay: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Wanted {
    Stays,
    Becomes(Image),
    /// The source's result could not run.
    Any,
}

/// A possible rule.
struct Candidate {
    rule: Rule,
    /// For each example: not matched, right, or wrong.
    answers: Vec<Option<bool>>,
    /// Of candidates that decide equally many, the cheapest is taken.
    cost: usize,
}

/// The shortest list of rules that the search finds; the last one is for the rest.
pub(crate) fn rules(
    examples: &[Example],
    patterns: &[(String, Pattern)],
    vocabulary: &Vocabulary,
) -> Result<Vec<Rule>, Unsayable> {
    let candidates = candidates(examples, patterns, vocabulary);
    let mut open: Vec<usize> = (0..examples.len())
        .filter(|&it| examples[it].wanted != Wanted::Any)
        .collect();
    let mut taken = Vec::new();
    // Images that may stay are given up one kind after another, if nothing else helps.
    while !open.is_empty() {
        let score = |it: &Candidate| {
            let mut right = 0;
            for &at in &open {
                match it.answers[at] {
                    Some(true) => right += 1,
                    Some(false) => return None,
                    None => {}
                }
            }
            // Rules that keep images only serve to make room for rules that move others.
            (right > 0).then_some((it.rule.to.is_some(), right, usize::MAX - it.cost))
        };
        let best = (0..candidates.len())
            .filter_map(|at| Some((score(&candidates[at])?, at)))
            .max_by_key(|it| it.0);
        let Some((_, best)) = best else {
            let before = open.len();
            let odd = open
                .iter()
                .position(|&at| examples[at].may_stay && examples[at].wanted != Wanted::Stays);
            if let Some(odd) = odd {
                open.remove(odd);
            }
            if open.len() == before {
                return Err(Unsayable {
                    image: examples[open[0]].image.text(),
                });
            }
            continue;
        };
        open.retain(|&at| candidates[best].answers[at].is_none());
        taken.push(best);
        if taken.len() > MAX_RULES {
            let image = open
                .first()
                .map_or_else(String::new, |&at| examples[at].image.text());
            return Err(Unsayable { image });
        }
    }
    drop_needless(&mut taken, &candidates, examples);
    Ok(taken
        .into_iter()
        .map(|at| candidates[at].rule.clone())
        .collect())
}

/// Removes rules without which every answer is still right.
fn drop_needless(taken: &mut Vec<usize>, candidates: &[Candidate], examples: &[Example]) {
    let decided =
        |list: &[usize], image: usize| list.iter().find_map(|&at| candidates[at].answers[image]);
    let right: Vec<bool> = (0..examples.len())
        .map(|it| decided(taken, it) != Some(false))
        .collect();
    let mut at = 0;
    while at < taken.len() {
        let mut fewer = taken.clone();
        fewer.remove(at);
        let same = |image: usize| match decided(&fewer, image) {
            Some(answer) => answer || !right[image],
            None => decided(taken, image).is_none(),
        };
        if (0..examples.len()).all(same) {
            *taken = fewer;
        } else {
            at += 1;
        }
    }
}

/// A rule's pattern, regular expression and target; a pattern without a target keeps.
type Parts = (Option<String>, Option<String>, Option<String>);

fn candidates(
    examples: &[Example],
    patterns: &[(String, Pattern)],
    vocabulary: &Vocabulary,
) -> Vec<Candidate> {
    let mut rules: BTreeMap<Parts, usize> = BTreeMap::new();
    let mut cost = 0;
    let mut add = |rule: Parts| {
        cost += 1;
        if rules.len() < MAX_CANDIDATES {
            rules.entry(rule).or_insert(cost);
        }
    };
    let mut targets: Vec<String> = Vec::new();
    for example in examples {
        let Wanted::Becomes(result) = &example.wanted else {
            continue;
        };
        for dropped in 0..example.image.path.len() {
            let Some(to) = target(&example.image, result, dropped) else {
                continue;
            };
            // The registry of the image may be a part of the path.
            let host = format!("/{}", example.image.host);
            if let Some(base) = to.strip_suffix(&host)
                && !targets.iter().any(|it| it == base)
            {
                targets.insert(0, base.to_owned());
            }
            if !targets.contains(&to) && targets.len() < 40 {
                targets.push(to);
            }
        }
    }
    let references: Vec<_> = examples
        .iter()
        .map(|it| Reference::parse(&it.text).ok())
        .collect();
    for (text, pattern) in patterns {
        for (example, reference) in examples.iter().zip(&references) {
            let Wanted::Becomes(result) = &example.wanted else {
                continue;
            };
            if example.may_stay || !reference.as_ref().is_some_and(|it| pattern.matches(it)) {
                continue;
            }
            let fixed = fixed(text);
            let to = match fixed {
                Some(fixed) if fixed < example.image.path.len() => {
                    target(&example.image, result, fixed)
                }
                // The whole path is fixed, so the target names all of it.
                Some(_) if !text.starts_with("**") => Some(result.name()),
                _ => None,
            };
            if let Some(to) = to {
                add((Some(text.clone()), None, Some(to)));
            }
        }
    }
    for (text, _) in patterns {
        add((Some(text.clone()), None, None));
    }
    for (regex, to) in &vocabulary.templates {
        let open = regex.strip_suffix('$');
        let anchored = regex.strip_prefix('^');
        let begin = anchored.unwrap_or(regex);
        let body = begin.strip_suffix('$').unwrap_or(begin);
        if open.is_some() {
            add((None, Some(format!("^{body}$")), Some(to.clone())));
        } else {
            add((
                None,
                Some(format!("^{body}(?<rest>.*)$")),
                Some(format!("{to}${{rest}}")),
            ));
        }
    }
    for to in &targets {
        add((
            None,
            Some("^([^/:]+)/(.+)$".to_owned()),
            Some(format!("{to}/$1/$2")),
        ));
        add((
            None,
            Some("^.*/([^/]+)$".to_owned()),
            Some(format!("{to}/$1")),
        ));
    }
    let regexes = vocabulary
        .templates
        .iter()
        .map(|it| text::unescaped(&it.0).trim().to_owned());
    let written: Vec<String> = vocabulary
        .texts
        .iter()
        .cloned()
        .chain(regexes)
        .filter(|it| it.contains('/'))
        .collect();
    for example in examples {
        let Wanted::Becomes(result) = &example.wanted else {
            continue;
        };
        if example.may_stay {
            continue;
        }
        // A common beginning of image and result may be a coincidence, unless the source names what
        // precedes it.
        let replaced = replaced(&example.image, result);
        if let Some((from, to)) =
            replaced.filter(|it| written.iter().any(|text| it.0.ends_with(text.as_str())))
        {
            add((
                None,
                Some(format!("^{}(.*)$", regex_syntax::escape(&from))),
                Some(format!("{to}$1")),
            ));
        }
    }
    let built = rules.into_iter().map(|((from, regex, to), cost)| {
        let rule = match (&from, &to) {
            (Some(_), None) => Rule {
                keep: from,
                ..Rule::default()
            },
            _ => Rule {
                from,
                regex,
                to,
                ..Rule::default()
            },
        };
        // Patterns are easier to read than expressions.
        let cost = cost + if rule.regex.is_some() { 100_000 } else { 0 };
        let matcher = Matcher::new(&rule);
        let pairs = examples.iter().zip(&references);
        let answers = pairs
            .map(|(it, reference)| {
                matcher
                    .as_ref()
                    .and_then(|matcher| matcher.answer(it, reference.as_ref()))
            })
            .collect();
        Candidate {
            rule,
            answers,
            cost,
        }
    });
    built.collect()
}

/// The target of a rule that drops the host and this many segments: the part before the rest of the
/// path.
fn target(image: &Image, result: &Image, dropped: usize) -> Option<String> {
    let rest = image.path.get(dropped..)?;
    let before = result.path.strip_suffix_of(rest)?;
    let mut to = result.host.clone();
    for segment in before {
        to.push('/');
        to.push_str(segment);
    }
    Some(to)
}

/// A slice without the end that it shares with another.
trait StripSuffix {
    fn strip_suffix_of(&self, end: &[String]) -> Option<&[String]>;
}

impl StripSuffix for Vec<String> {
    fn strip_suffix_of(&self, end: &[String]) -> Option<&[String]> {
        self.strip_suffix(end)
    }
}

/// The differing texts at the beginning of image and result, if the result begins with a registry.
fn replaced(image: &Image, result: &Image) -> Option<(String, String)> {
    let (from, to) = (image.name(), result.name());
    let same = from
        .bytes()
        .rev()
        .zip(to.bytes().rev())
        .take_while(|(a, b)| a == b)
        .count();
    let (from, to) = (from.get(..from.len() - same)?, to.get(..to.len() - same)?);
    (from.contains('/') && to.contains('/')).then(|| (from.to_owned(), to.to_owned()))
}

/// The segments before a pattern's first wildcard; `None` if its depth is open from the beginning.
fn fixed(pattern: &str) -> Option<usize> {
    let name = pattern.split('@').next()?;
    let (_, path) = name.split_once('/').unwrap_or(("", ""));
    if name == "**" {
        return Some(0);
    }
    if name.starts_with("**/") || path.is_empty() {
        return None;
    }
    // A wildcard in the tag leaves the path fixed.
    let segments = path.split('/').map(|it| it.split(':').next().unwrap_or(it));
    let fixed = segments.take_while(|it| !it.contains('*')).count();
    // `docker.io/ubuntu` is `docker.io/library/ubuntu`.
    let official = name.starts_with("docker.io/") && !path.contains('/') && fixed == 1;
    Some(fixed + usize::from(official))
}

/// A rule and its target.
enum Matcher<'a> {
    Pattern {
        pattern: Pattern,
        fixed: usize,
        to: Option<&'a str>,
    },
    Regex {
        regex: meta::Regex,
        to: &'a str,
    },
}

impl<'a> Matcher<'a> {
    fn new(rule: &'a Rule) -> Option<Self> {
        if let Some(regex) = &rule.regex {
            return Some(Self::Regex {
                regex: text::regex(regex)?,
                to: rule.to.as_deref()?,
            });
        }
        let text = rule.from.as_ref().or(rule.keep.as_ref())?;
        Some(Self::Pattern {
            pattern: Pattern::parse(text).ok()?,
            fixed: match (fixed(text), &rule.to) {
                (Some(fixed), _) => fixed,
                (None, None) => 0,
                (None, Some(_)) => return None,
            },
            to: rule.to.as_deref(),
        })
    }

    /// Whether the rule gives the expected answer; `None` if it does not decide.
    fn answer(&self, example: &Example, reference: Option<&Reference<'_>>) -> Option<bool> {
        let image = &example.image;
        let result = match self {
            Self::Pattern { pattern, fixed, to } => {
                let matches = reference.is_some_and(|it| pattern.matches(it));
                match to {
                    None => {
                        return matches.then(|| {
                            example.wanted == Wanted::Stays || example.wanted == Wanted::Any
                        });
                    }
                    Some(to) if under(&example.name, to) => return Some(stays(example, to)),
                    Some(_) if !matches => return None,
                    Some(to) if *fixed < image.path.len() => {
                        format!("{to}/{}", image.path[*fixed..].join("/"))
                    }
                    Some(to) => (*to).to_owned(),
                }
            }
            Self::Regex { regex, to } => {
                // The target of a template is its fixed part before the first group.
                let fixed = to.split('$').next().unwrap_or(to);
                let rests = match fixed.strip_suffix('/') {
                    Some(base) => under(&example.name, base),
                    None => example.name.starts_with(fixed),
                };
                if rests {
                    return Some(stays(example, fixed.trim_end_matches('/')));
                }
                if !regex.is_match(example.text.as_str()) {
                    return None;
                }
                let made = text::replace_all(regex, &example.text, to, true);
                let Some(made) = Image::parse(&made) else {
                    return Some(example.wanted == Wanted::Any);
                };
                return Some(
                    example.wanted == Wanted::Becomes(made) || example.wanted == Wanted::Any,
                );
            }
        };
        let Some(made) = Image::parse(&image.named(&result)) else {
            return Some(example.wanted == Wanted::Any);
        };
        Some(match &example.wanted {
            Wanted::Any => true,
            Wanted::Stays => made == *image,
            Wanted::Becomes(wanted) => *wanted == made,
        })
    }
}

/// Whether the image lies under a rule's target, so that the rule leaves it there.
fn under(name: &str, to: &str) -> bool {
    name.strip_prefix(to)
        .is_some_and(|it| it.is_empty() || it.starts_with('/'))
}

/// Whether an image under a target may stay: it should, or the source only moves it further down.
fn stays(example: &Example, to: &str) -> bool {
    match &example.wanted {
        Wanted::Stays | Wanted::Any => true,
        Wanted::Becomes(result) => under(&result.name(), to),
    }
}
