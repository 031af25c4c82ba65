//! The combined effect of a source's rules on one image.

use crate::image::{Image, Spelling};
use crate::intent::{Effect, Intent, Lists};
use crate::probe::Probe;

/// The answer of a source about one image, as written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    /// The image that runs, as the source writes it.
    pub(crate) result: String,
    pub(crate) approved: bool,
}

/// Applies the rules in order: changes first, then checks of their results.
///
/// # Errors
/// A rule cannot be evaluated for this image.
pub(crate) fn answer(rules: &[&Intent], text: &str) -> Result<Answer, String> {
    let mut result = text.to_owned();
    let mut decided = false;
    for rule in rules {
        if let Effect::Swap(swap) = &rule.effect {
            if rule.alternative && decided {
                continue;
            }
            let next = swap(&result)?;
            decided |= rule.alternative && next != result;
            result = next;
        }
    }
    for rule in rules {
        if let Effect::Check { holds, .. } = &rule.effect {
            let judged = if rule.alternative { text } else { &result };
            if !holds(judged)? {
                return Ok(Answer {
                    result,
                    approved: false,
                });
            }
        }
    }
    Ok(Answer {
        result,
        approved: true,
    })
}

/// Whether every check lets the image in unchanged.
pub(crate) fn approves(rules: &[&Intent], text: &str) -> Result<bool, String> {
    for rule in rules {
        if let Effect::Check { holds, .. } = &rule.effect
            && !holds(text)?
        {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The answers about each spelling of a name. With and without `latest` it is one spelling, approved
/// only if it is approved both times.
pub(crate) fn by_spelling(answers: impl Iterator<Item = (Spelling, bool)>) -> Vec<bool> {
    let mut all: Vec<(Spelling, bool)> = Vec::new();
    for (spelling, approved) in answers {
        match all.iter_mut().find(|it| it.0 == spelling) {
            Some(known) => known.1 &= approved,
            None => all.push((spelling, approved)),
        }
    }
    all.into_iter().map(|it| it.1).collect()
}

/// An image that is treated differently in two lists of containers, if there is one.
///
/// Policies judge every container alike. Rules for a list that no rule reads do not count.
pub(crate) fn differing_list(rules: &[&Intent], probes: &[Probe]) -> Option<String> {
    let read = rules
        .iter()
        .fold(Lists::default(), |all, it| all.or(it.lists));
    let lists: Vec<_> = read
        .each()
        .map(|list| -> Vec<&Intent> {
            rules
                .iter()
                .copied()
                .filter(|it| it.lists.includes(list))
                .collect()
        })
        .collect();
    let (first, others) = lists.split_first()?;
    let same = |other: &Vec<&Intent>| {
        other.len() == first.len() && other.iter().zip(first).all(|(a, b)| std::ptr::eq(*a, *b))
    };
    if others.iter().all(same) {
        return None;
    }
    let texts = probes.iter().flat_map(|it| &it.texts).map(|it| &it.0);
    for text in texts {
        let expected = answer(first, text);
        if others.iter().any(|it| answer(it, text) != expected) {
            return Some(text.clone());
        }
    }
    None
}

/// The rules of one list that represents all: a second rule for another list would be applied
/// twice.
pub(crate) fn of_one_list<'a>(rules: &[&'a Intent]) -> Vec<&'a Intent> {
    let read = rules
        .iter()
        .fold(Lists::default(), |all, it| all.or(it.lists));
    match read.each().next() {
        Some(list) => rules
            .iter()
            .copied()
            .filter(|it| it.lists.includes(list))
            .collect(),
        None => rules.to_vec(),
    }
}

/// A result as an image; `None` if it could not run.
pub(crate) fn runnable(result: &str, image: &Image) -> Option<Image> {
    let made = Image::parse(result)?;
    // `registry.example.com` alone parses as an official image's name, which is never meant.
    let lost = !result.contains('/') && result.contains('.') && made.path != image.path;
    let digest = result
        .rsplit_once(':')
        .is_some_and(|(_, it)| it.len() == 64 && it.bytes().all(|it| it.is_ascii_hexdigit()));
    (!lost && (!digest || made.digest.is_some())).then_some(made)
}

/// The result, with the digest of the image if the source lost it.
pub(crate) fn runnable_with_digest(result: &str, image: &Image) -> Option<Image> {
    let made = runnable(result, image);
    if image.digest.is_none()
        || made
            .as_ref()
            .is_some_and(|it| it.digest == image.digest && it.tag == image.tag)
    {
        return made;
    }
    let slash = result.rfind('/').map_or(0, |it| it + 1);
    let end = result[slash..]
        .find([':', '@'])
        .map_or(result.len(), |it| slash + it);
    runnable(&image.named(&result[..end]), image)
}
