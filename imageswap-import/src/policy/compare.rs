//! Asks a source and a compiled policy about the same images, and classifies the differences.

use crate::answer::{self, Answer, answer, approves, runnable_with_digest};
use crate::image::Image;
use crate::intent::Intent;
use crate::probe::Probe;
use crate::report::{Difference, Example};
use imageswap_policy::document::{ImageSwapPolicy, Match, Spec, load};
use imageswap_policy::{Date, Policies, Reason, Scope};

/// Reasons that are reported once each.
const SPELLING: &str =
    "it depends on how the image is written, and here all spellings are one image";
const INVALID: &str = "the result is not an image that could run";
const DIGEST: &str = "a digest is lost or garbled there and kept here";
const TARGET: &str = "an image that lies under the target is moved once more there and stays here";
const OTHER_TARGET: &str =
    "an image that lies under another rule's target moves there and stays here";
const ODD: &str = "the text also matches at a place that nobody means";

/// How a policy differs.
pub(crate) struct Outcome<'p> {
    /// Acceptable differences, one for each reason, with an image each.
    pub(crate) differences: Vec<(Difference, String)>,
    /// Differences that are not acceptable.
    pub(crate) wrong: Vec<(&'p Probe, Difference)>,
    /// Images at odd places about which the policy is stricter.
    pub(crate) stricter: Vec<&'p Probe>,
}

/// Asks the compiled policy about every probe.
pub(crate) fn compare<'p>(
    rules: &[&Intent],
    spec: &Spec,
    probes: impl Iterator<Item = &'p Probe>,
) -> Result<Outcome<'p>, String> {
    let policies = compiled(spec)?;
    let selected = policies.select(Scope::Node, Date::MIN);
    let alternatives = rules.iter().any(|it| it.alternative);
    let mut outcome = Outcome {
        differences: Vec::new(),
        wrong: Vec::new(),
        stricter: Vec::new(),
    };
    for probe in probes {
        let mut answers = Vec::new();
        for (text, _) in &probe.texts {
            answers.push(answer(rules, text)?);
        }
        let results: Vec<Option<Image>> = answers
            .iter()
            .map(|it| answer::runnable(&it.result, &probe.image))
            .collect();
        for (at, (text, _)) in probe.texts.iter().enumerate() {
            let decision = selected.decide(text);
            let ours = Image::parse(&decision.result).unwrap_or_else(|| probe.image.clone());
            let theirs = &answers[at];
            let same_result = results[at].as_ref() == Some(&ours);
            if same_result && theirs.approved == decision.approved {
                continue;
            }
            let reason = if same_result {
                let of_probe = probe.texts.iter().zip(&answers).zip(&results);
                let of_probe = of_probe
                    .filter(|(_, result)| result.as_ref() == Some(&ours))
                    .map(|(((_, spelling), answer), _)| (*spelling, answer.approved));
                let spelled = answer::by_spelling(of_probe).contains(&decision.approved)
                    || spelling_of_result(rules, &ours, decision.approved);
                if spelled {
                    Some(SPELLING)
                } else if probe.odd && theirs.approved {
                    outcome.stricter.push(probe);
                    Some(ODD)
                } else {
                    None
                }
            } else {
                let reason = decision.reason;
                swap_reason(probe, &answers, &results, at, &ours, reason, alternatives)
            };
            let about_result = !same_result;
            let example = Example {
                image: text.clone(),
                source: told(theirs, text, about_result),
                ours: told(
                    &Answer {
                        result: decision.result.to_string(),
                        approved: decision.approved,
                    },
                    text,
                    about_result,
                ),
            };
            let difference = |message: &str| Difference {
                message: message.to_owned(),
                example: Some(example.clone()),
            };
            match reason {
                Some(reason) => {
                    let known = |it: &(Difference, String)| {
                        it.0.message == reason && same_kind(&it.0, &example)
                    };
                    if !outcome.differences.iter().any(known) {
                        outcome.differences.push((difference(reason), text.clone()));
                    }
                }
                None => outcome
                    .wrong
                    .push((probe, difference("no rules say the same"))),
            }
        }
    }
    Ok(outcome)
}

/// Whether some spelling of the image is approved as here.
fn spelling_of_result(rules: &[&Intent], image: &Image, approved: bool) -> bool {
    let spellings = image.spellings().into_iter();
    let answers = spellings.filter_map(|(text, it)| Some((it, approves(rules, &text).ok()?)));
    answer::by_spelling(answers).contains(&approved)
}

fn same_kind(difference: &Difference, example: &Example) -> bool {
    let kind = |it: &Example| {
        (
            it.source.starts_with("becomes"),
            it.ours.starts_with("becomes"),
            it.ours.clone() == "is approved",
        )
    };
    difference
        .example
        .as_ref()
        .is_some_and(|it| kind(it) == kind(example))
}

/// Why the results may differ; `None` if they may not.
fn swap_reason(
    probe: &Probe,
    answers: &[Answer],
    results: &[Option<Image>],
    at: usize,
    ours: &Image,
    why: Reason,
    alternatives: bool,
) -> Option<&'static str> {
    if results.iter().flatten().any(|it| it == ours) {
        return Some(SPELLING);
    }
    let kept = runnable_with_digest(&answers[at].result, &probe.image);
    if probe.image.digest.is_some() && kept.as_ref() == Some(ours) {
        return Some(DIGEST);
    }
    let with_digest = answers
        .iter()
        .map(|it| runnable_with_digest(&it.result, &probe.image));
    if probe.image.digest.is_some() && with_digest.flatten().any(|it| it == *ours) {
        return Some(DIGEST);
    }
    let Some(theirs) = &kept else {
        return Some(INVALID);
    };
    let stays = *ours == probe.image;
    if stays && why == Reason::AlreadyTarget && theirs.host == ours.host {
        return Some(TARGET);
    }
    if stays && why == Reason::AlreadyTarget && alternatives {
        return Some(OTHER_TARGET);
    }
    // At such a place it is left alone by one of both.
    if probe.odd && (stays || *theirs == probe.image) {
        return Some(ODD);
    }
    None
}

fn told(answer: &Answer, text: &str, about_result: bool) -> String {
    match (about_result, answer.approved) {
        (true, _) if answer.result == text => "stays".to_owned(),
        (true, _) => format!("becomes `{}`", answer.result),
        (false, true) => "is approved".to_owned(),
        (false, false) => "is refused".to_owned(),
    }
}

/// The policy as the services load it, for every Pod.
pub(crate) fn compiled(spec: &Spec) -> Result<Policies, String> {
    let everywhere = Spec {
        r#match: Match::default(),
        ..spec.clone()
    };
    let policy = ImageSwapPolicy::new("imported", everywhere);
    let text = serde_json::to_string(&policy).map_err(|it| it.to_string())?;
    match load("imported", &text) {
        Ok(loaded) => Ok(Policies::new(loaded.policies)),
        Err(errors) => {
            let first = errors.iter().next().map(|it| it.message.clone());
            Err(format!(
                "its rules make no valid policy: {}",
                first.unwrap_or_default()
            ))
        }
    }
}
