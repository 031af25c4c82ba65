//! Lists of approved and denied patterns.

use super::Unsayable;
use imageswap_policy::{Pattern, Reference};

/// One image, and whether it should be approved; `None` if either answer will do.
#[derive(Debug, Clone)]
pub(crate) struct Example {
    pub(crate) text: String,
    pub(crate) wanted: Option<bool>,
    /// Refusing it although it should be approved is a difference that may be reported.
    pub(crate) may_refuse: bool,
}

/// What to approve, and what to deny among that.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Lists {
    pub(crate) approved: Vec<String>,
    pub(crate) denied: Vec<String>,
}

/// The shortest lists that the search finds.
pub(crate) fn lists(
    examples: &[Example],
    patterns: &[(String, Pattern)],
) -> Result<Lists, Unsayable> {
    let references: Vec<_> = examples
        .iter()
        .filter_map(|it| Some((it, Reference::parse(&it.text).ok()?)))
        .collect();
    let wanted: Vec<_> = references.iter().map(|it| it.0.wanted).collect();
    let matches: Vec<Vec<bool>> = patterns
        .iter()
        .map(|(_, pattern)| {
            references
                .iter()
                .map(|(_, it)| pattern.matches(it))
                .collect()
        })
        .collect();
    let of = |row: &[bool], value: bool| {
        row.iter()
            .zip(&wanted)
            .filter(|(hit, it)| **hit && **it == Some(value))
            .count()
    };
    let refusing: Vec<usize> = (0..patterns.len())
        .filter(|&at| of(&matches[at], true) == 0 && of(&matches[at], false) > 0)
        .collect();
    let refused: Vec<bool> = (0..references.len())
        .map(|image| refusing.iter().any(|&at| matches[at][image]))
        .collect();
    // A pattern approves if everything that it matches wrongly can be denied.
    let approving: Vec<usize> = (0..patterns.len())
        .filter(|&at| {
            let wrong = |image: usize| {
                matches[at][image] && wanted[image] == Some(false) && !refused[image]
            };
            of(&matches[at], true) > 0 && !(0..references.len()).any(wrong)
        })
        .collect();
    let mut open: Vec<usize> = (0..references.len())
        .filter(|&it| wanted[it] == Some(true))
        .collect();
    let mut approved: Vec<usize> = Vec::new();
    loop {
        // Among equals, one that needs no denial, then the earlier one.
        let gain = |at: usize| open.iter().filter(|&&image| matches[at][image]).count();
        let best = approving.iter().copied().max_by_key(|&at| {
            (
                gain(at),
                usize::MAX - of(&matches[at], false),
                usize::MAX - at,
            )
        });
        match best.filter(|&at| gain(at) > 0) {
            Some(at) => {
                open.retain(|&image| !matches[at][image]);
                approved.push(at);
            }
            None => break,
        }
    }
    if let Some(&image) = open.iter().find(|&&it| !references[it].0.may_refuse) {
        return Err(Unsayable {
            image: references[image].0.text.clone(),
        });
    }
    // Without any, every image would be refused.
    if approved.is_empty()
        && let Some(image) = wanted.iter().position(|it| *it == Some(true))
    {
        return Err(Unsayable {
            image: references[image].0.text.clone(),
        });
    }
    drop_needless(&mut approved, &matches, &wanted, Some(true));
    let mut open: Vec<usize> = (0..references.len())
        .filter(|&image| {
            wanted[image] == Some(false) && approved.iter().any(|&at| matches[at][image])
        })
        .collect();
    let mut denied = Vec::new();
    while !open.is_empty() {
        let gain = |at: usize| open.iter().filter(|&&image| matches[at][image]).count();
        let best = refusing
            .iter()
            .copied()
            .max_by_key(|&at| (gain(at), usize::MAX - at));
        let Some(at) = best.filter(|&at| gain(at) > 0) else {
            break;
        };
        open.retain(|&image| !matches[at][image]);
        denied.push(at);
    }
    drop_needless(&mut denied, &matches, &wanted, Some(false));
    let text = |list: Vec<usize>| list.into_iter().map(|at| patterns[at].0.clone()).collect();
    Ok(Lists {
        approved: text(approved),
        denied: text(denied),
    })
}

/// Removes patterns that others in the list cover.
fn drop_needless(
    list: &mut Vec<usize>,
    matches: &[Vec<bool>],
    wanted: &[Option<bool>],
    value: Option<bool>,
) {
    let mut at = 0;
    while at < list.len() {
        let others: Vec<usize> = list.iter().copied().filter(|&it| it != list[at]).collect();
        let covered = (0..wanted.len())
            .filter(|&image| wanted[image] == value && matches[list[at]][image])
            .all(|image| others.iter().any(|&it| matches[it][image]));
        if covered {
            list.remove(at);
        } else {
            at += 1;
        }
    }
}
