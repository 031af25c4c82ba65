//! Makes one policy from rules that apply to the same Pods, and compares it with them image by
//! image.

use crate::answer::{self, answer, approves};
use crate::image::{Image, Spelling};
use crate::intent::{Effect, Intent, Vocabulary};
use crate::learn::{check, swap};
use crate::placed::placed;
use crate::probe::{Probe, probes};
use crate::report::Difference;
use crate::vocabulary::{MAX_WORDS, Named, patterns};
use imageswap_policy::Pattern;
use imageswap_policy::document::{Approval, Denial, Enforcement, ImagePullSecret, Rule, Spec};
use std::collections::BTreeSet;

mod compare;

pub(crate) use compare::{compare, compiled};

/// Rounds of search: images with wrong answers are added to the next round.
const ROUNDS: usize = 5;
/// In so many of them, images at odd places are added if the policy is only stricter about them.
const ODD_ROUNDS: usize = 2;
/// A policy, and its differences from the rules.
pub(crate) struct Made {
    pub(crate) spec: Spec,
    pub(crate) differences: Vec<(Difference, Vec<usize>)>,
}

/// Why there is no policy.
pub(crate) struct Failed {
    pub(crate) reason: String,
    /// An image that shows it.
    pub(crate) image: Option<String>,
}

impl Failed {
    fn new(reason: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
            image: None,
        }
    }
}

/// Makes one policy of the rules.
pub(crate) fn make(all: &[&Intent]) -> Result<Made, Failed> {
    let mut vocabulary = Vocabulary::default();
    for rule in all {
        vocabulary.add(&rule.vocabulary);
    }
    if Named::of(&vocabulary, 0).words.len() > MAX_WORDS {
        return Err(Failed::new(
            "it names more registries and images than are compared",
        ));
    }
    let first = probes(&vocabulary, 0);
    if let Some(image) = answer::differing_list(all, &first) {
        return Err(Failed {
            reason: "its lists of containers are treated differently, and here all containers are judged alike".to_owned(),
            image: Some(image),
        });
    }
    let rules = answer::of_one_list(all);
    let search = Search {
        placed: placed(&vocabulary),
        rules,
        all,
        patterns: patterns(&vocabulary),
        vocabulary,
    };
    let mut failed = None;
    for preferred in [Spelling::Bare, Spelling::Familiar, Spelling::Full] {
        match search.made(first.clone(), preferred) {
            Ok(made) => return Ok(made),
            Err(why) => failed = failed.or(Some(why)),
        }
        if !search
            .rules
            .iter()
            .any(|it| matches!(it.effect, Effect::Swap(_)))
        {
            break;
        }
    }
    Err(failed.unwrap_or_else(|| Failed::new("no rules say the same")))
}

/// The rules, and the inputs of the search.
struct Search<'a> {
    /// The rules for one list of containers.
    rules: Vec<&'a Intent>,
    all: &'a [&'a Intent],
    patterns: Vec<(String, Pattern)>,
    /// Images that are compared, and searched with only if the policy is wrong about them.
    placed: Vec<Probe>,
    vocabulary: Vocabulary,
}

impl Search<'_> {
    /// A policy that is right about all probes. If spellings are treated differently, it decides by
    /// this one.
    fn made(&self, mut known: Vec<Probe>, preferred: Spelling) -> Result<Made, Failed> {
        for round in 1..=ROUNDS {
            let spec = search(
                &self.rules,
                self.all,
                &known,
                &self.patterns,
                &self.vocabulary,
                preferred,
            )?;
            let have: BTreeSet<&Image> = known.iter().map(|it| &it.image).collect();
            let mut both = self.vocabulary.clone();
            both.add(&vocabulary_of(&spec));
            let fresh: Vec<Probe> = probes(&both, round)
                .into_iter()
                .chain(self.placed.iter().cloned())
                .filter(|it| !have.contains(&it.image))
                .collect();
            let outcome =
                compare(&self.rules, &spec, known.iter().chain(&fresh)).map_err(Failed::new)?;
            let wrong: BTreeSet<&Image> = outcome.wrong.iter().map(|it| &it.0.image).collect();
            let stricter: BTreeSet<&Image> = outcome.stricter.iter().map(|it| &it.image).collect();
            // At first the same answer is looked for at odd places, too.
            let is_missed = |it: &&Probe| {
                wrong.contains(&it.image) || (round <= ODD_ROUNDS && stricter.contains(&it.image))
            };
            let more: Vec<Probe> = fresh.iter().filter(is_missed).cloned().collect();
            match outcome.wrong.first() {
                None if more.is_empty() => {
                    let differences = outcome.differences.into_iter().map(|(it, text)| {
                        let concerned = concerned(self.all, &text, &it);
                        (it, concerned)
                    });
                    return Ok(Made {
                        differences: differences.collect(),
                        spec,
                    });
                }
                Some((_, difference)) if more.is_empty() || round == ROUNDS => {
                    return Err(Failed {
                        reason: difference.to_string(),
                        image: difference.example.as_ref().map(|it| it.image.clone()),
                    });
                }
                _ => known.extend(more),
            }
        }
        Err(Failed::new("no rules say the same"))
    }
}

/// The texts of the resulting policy, so that images near them are tried, too.
fn vocabulary_of(spec: &Spec) -> Vocabulary {
    let rules = spec
        .rules
        .iter()
        .flat_map(|it| [&it.keep, &it.from, &it.regex, &it.to])
        .flatten()
        .cloned();
    let approved = spec.approved.iter().flatten().map(|it| it.pattern.clone());
    let denied = spec.denied.iter().map(|it| it.pattern.clone());
    Vocabulary {
        texts: rules
            .chain(approved)
            .chain(denied)
            .map(|it| it.replace("**", "").replace('$', " "))
            .collect(),
        ..Vocabulary::default()
    }
}

/// The rules whose answer about the image is part of the difference.
fn concerned(all: &[&Intent], text: &str, difference: &Difference) -> Vec<usize> {
    let about_result = difference
        .example
        .as_ref()
        .is_some_and(|it| it.source.starts_with("becomes") || it.ours.starts_with("becomes"));
    let ours_approves = difference
        .example
        .as_ref()
        .is_some_and(|it| it.ours == "is approved");
    let differs = |at: &usize| match &all[*at].effect {
        Effect::Swap(swap) => about_result && swap(text).is_ok_and(|it| it != text),
        Effect::Check { holds, .. } => {
            !about_result && holds(text).is_ok_and(|it| it != ours_approves)
        }
    };
    // What the source approves as written may be refused because of another spelling.
    let refuses = |at: &usize| !about_result && !ours_approves && refuses(all[*at], text);
    let mut found: Vec<usize> = (0..all.len()).filter(refuses).collect();
    if found.is_empty() {
        found = (0..all.len()).filter(differs).collect();
    }
    if found.is_empty() {
        (0..all.len()).collect()
    } else {
        found
    }
}

/// Whether the rule's check refuses a spelling of the image.
fn refuses(rule: &Intent, text: &str) -> bool {
    let Effect::Check { holds, .. } = &rule.effect else {
        return false;
    };
    let spellings = Image::parse(text).map(|it| it.spellings());
    let mut texts = spellings.into_iter().flatten();
    texts.any(|it| holds(&it.0) == Ok(false))
}

fn search(
    rules: &[&Intent],
    all: &[&Intent],
    known: &[Probe],
    patterns: &[(String, Pattern)],
    vocabulary: &Vocabulary,
    preferred: Spelling,
) -> Result<Spec, Failed> {
    let mut spec = Spec::default();
    let unsayable = |what: &str, image: String| Failed {
        reason: format!("{what} cannot be said by rules and patterns"),
        image: Some(image),
    };
    let swaps = rules.iter().any(|it| matches!(it.effect, Effect::Swap(_)));
    let checks = rules
        .iter()
        .any(|it| matches!(it.effect, Effect::Check { .. }));
    if swaps {
        let mut examples = Vec::new();
        for probe in known {
            let wanted = wanted(rules, probe, preferred).map_err(Failed::new)?;
            examples.push(swap::Example {
                image: probe.image.clone(),
                text: probe.image.text(),
                name: probe.image.name(),
                wanted,
                may_stay: probe.odd,
            });
        }
        if rules.iter().any(|it| it.alternative) {
            may_stay_at_targets(&mut examples);
        }
        spec.rules = swap::rules(&examples, patterns, vocabulary)
            .map_err(|it| unsayable("what it makes of images", it.image))?;
        let keeps_rest = spec
            .rules
            .last()
            .is_some_and(|it| it.keep.as_deref() == Some("**"));
        if checks && keeps_rest {
            spec.rules.pop();
        }
        name_rules(&mut spec.rules, rules);
    }
    if checks {
        let mut texts: Vec<(Probe, bool)> = known.iter().map(|it| (it.clone(), it.odd)).collect();
        for probe in known {
            for (text, _) in &probe.texts {
                let result = answer(rules, text).map_err(Failed::new)?.result;
                if let Some(image) =
                    answer::runnable(&result, &probe.image).filter(|it| *it != probe.image)
                {
                    let texts_of = image.spellings();
                    texts.push((
                        Probe {
                            image,
                            texts: texts_of,
                            odd: probe.odd,
                        },
                        probe.odd,
                    ));
                }
            }
        }
        let stranger = approves(rules, "unheard-of.example.invalid/x/y:1").map_err(Failed::new)?;
        let mut seen = BTreeSet::new();
        let mut examples = Vec::new();
        for (probe, odd) in texts {
            if !seen.insert(probe.image.clone()) {
                continue;
            }
            let mut answers = Vec::new();
            for (text, spelling) in &probe.texts {
                answers.push((*spelling, approves(rules, text).map_err(Failed::new)?));
            }
            let values = answer::by_spelling(answers.into_iter());
            examples.push(check::Example {
                text: probe.image.text(),
                wanted: Some(match (values.contains(&true), values.contains(&false)) {
                    (true, true) => !stranger,
                    (is_approved, _) => is_approved,
                }),
                may_refuse: odd,
            });
        }
        let lists = check::lists(&examples, patterns)
            .map_err(|it| unsayable("what it approves", it.image))?;
        spec.approved = Some(lists.approved.into_iter().map(approval).collect());
        spec.denied = lists
            .denied
            .into_iter()
            .map(|pattern| denial(pattern, rules))
            .collect();
    }
    (spec.enforcement, spec.message) = enforcement(rules, swaps);
    spec.image_pull_secrets = secrets(all, &spec.rules);
    Ok(spec)
}

/// An image that lies where another rule moves images stays there, whatever the source does with it.
fn may_stay_at_targets(examples: &mut [swap::Example]) {
    let moved = examples.iter().filter_map(|it| match &it.wanted {
        swap::Wanted::Becomes(result) if result.host != it.image.host => Some(result.host.clone()),
        _ => None,
    });
    let hosts: BTreeSet<String> = moved.collect();
    for it in examples {
        it.may_stay |= hosts.contains(&it.image.host);
    }
}

/// The expected result: that of most spellings, with the preferred one counting most.
fn wanted(rules: &[&Intent], probe: &Probe, preferred: Spelling) -> Result<swap::Wanted, String> {
    let mut votes: Vec<(swap::Wanted, usize)> = Vec::new();
    let mut stays = false;
    for (text, spelling) in &probe.texts {
        let result = answer(rules, text)?.result;
        let wanted = match answer::runnable_with_digest(&result, &probe.image) {
            None => continue,
            Some(made) if made == probe.image => {
                stays = true;
                continue;
            }
            Some(made) => swap::Wanted::Becomes(made),
        };
        // Among equals, the result for the full name.
        let weight = match spelling {
            it if *it == preferred => 7,
            Spelling::Full => 3,
            Spelling::Familiar | Spelling::Library => 2,
            Spelling::Bare | Spelling::Index => 0,
        };
        match votes.iter_mut().find(|it| it.0 == wanted) {
            Some(vote) => vote.1 += weight,
            None => votes.push((wanted, weight)),
        }
    }
    Ok(match votes.into_iter().max_by_key(|it| it.1) {
        Some((wanted, _)) => wanted,
        None if stays => swap::Wanted::Stays,
        None => swap::Wanted::Any,
    })
}

fn approval(pattern: String) -> Approval {
    Approval {
        pattern,
        ..Approval::default()
    }
}

/// A denial with the message of the first check that refuses what the pattern matches.
fn denial(pattern: String, rules: &[&Intent]) -> Denial {
    let sample = pattern.replace("**", "x/y").replace('*', "z");
    let message = rules.iter().find_map(|it| match &it.effect {
        Effect::Check { holds, message, .. } if holds(&sample).is_ok_and(|it| !it) => {
            message.clone()
        }
        _ => None,
    });
    let one = rules
        .iter()
        .filter(|it| matches!(it.effect, Effect::Check { .. }))
        .count()
        == 1;
    Denial {
        pattern,
        message: message.filter(|_| !one),
        ..Denial::default()
    }
}

/// Names each rule after the source's rule that does the same.
fn name_rules(made: &mut [Rule], rules: &[&Intent]) {
    let mut used = BTreeSet::new();
    for rule in made {
        let what = [&rule.keep, &rule.from, &rule.regex]
            .into_iter()
            .flatten()
            .next()
            .cloned()
            .unwrap_or_default();
        let sample = format!(
            "{}:1",
            what.replace("/**", "/x/y")
                .replace("**", "q.example/x")
                .replace('*', "z")
        );
        let by = rules.iter().find(|it| match &it.effect {
            Effect::Swap(swap) => swap(&sample).is_ok_and(|it| it != sample),
            Effect::Check { .. } => false,
        });
        let by = by.or_else(|| rules.iter().find(|it| matches!(it.effect, Effect::Swap(_))));
        let base = format!("{}: {what}", by.map_or("rule", |it| &it.origin.rule));
        let mut name = base.clone();
        let mut count = 1;
        while !used.insert(name.clone()) {
            count += 1;
            name = format!("{base} ({count})");
        }
        rule.name = Some(name);
    }
}

fn enforcement(rules: &[&Intent], swaps: bool) -> (Enforcement, Option<String>) {
    let mut messages: Vec<&str> = Vec::new();
    let mut found = None;
    for rule in rules {
        if let Effect::Check {
            enforcement,
            message,
            ..
        } = &rule.effect
        {
            found = found.or(Some(*enforcement));
            let message = message.as_deref().filter(|it| !messages.contains(it));
            messages.extend(message);
        }
    }
    let enforcement = match found {
        // Under `audit` images would not be swapped.
        Some(Enforcement::Audit) if swaps => Enforcement::Warn,
        Some(it) => it,
        None => Enforcement::Warn,
    };
    (
        enforcement,
        (!messages.is_empty()).then(|| messages.join("; ")),
    )
}

fn secrets(rules: &[&Intent], made: &[Rule]) -> Vec<ImagePullSecret> {
    let mut registries: Vec<&str> = made
        .iter()
        .filter_map(|it| it.to.as_deref()?.split('/').next())
        .collect();
    registries.sort_unstable();
    registries.dedup();
    let mut names: Vec<&String> = rules.iter().flat_map(|it| &it.secrets).collect();
    names.dedup();
    let pairs = registries
        .iter()
        .flat_map(|registry| names.iter().map(move |name| (registry, name)));
    pairs
        .map(|(registry, name)| ImagePullSecret {
            registry: (*registry).to_owned(),
            name: (*name).clone(),
        })
        .collect()
}
