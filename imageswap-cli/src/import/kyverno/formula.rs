//! What a Kyverno policy says of images, as a formula, and what of it an ImageSwapPolicy can say.

use super::note::Notes;
use imageswap_policy::yaml::Span;

/// A set of images.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Images {
    /// Every image.
    Everything,
    /// Those that a pattern of ours matches.
    Pattern { text: String, at: Span },
    /// Those that are not in the set.
    Not(Box<Images>),
    /// Those that are in one of the sets.
    Any(Vec<Images>),
    /// Those that are in all of the sets.
    All(Vec<Images>),
    /// Something that was not understood, or that patterns cannot say.
    Unknown(Problem),
}

/// Why a part of a policy is not carried over.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Problem {
    pub(super) code: &'static str,
    pub(super) at: Span,
    pub(super) message: String,
}

/// Images to which a change applies.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Sources {
    /// Only these; without the list, all.
    pub(super) only: Option<Vec<String>>,
    /// And not these.
    pub(super) except: Vec<String>,
}

impl Images {
    pub(super) fn unknown(at: Span, code: &'static str, message: impl Into<String>) -> Self {
        Self::Unknown(Problem {
            code,
            at,
            message: message.into(),
        })
    }

    pub(super) fn pattern(text: impl Into<String>, at: Span) -> Self {
        let text = text.into();
        if text == "**" {
            Self::Everything
        } else {
            Self::Pattern { text, at }
        }
    }

    /// Those that are not in this set, with `Not` before patterns only.
    pub(super) fn not(self) -> Self {
        match self {
            Self::Not(inner) => *inner,
            Self::Any(sets) => Self::All(sets.into_iter().map(Self::not).collect()),
            Self::All(sets) => Self::Any(sets.into_iter().map(Self::not).collect()),
            Self::Unknown(problem) => Self::Unknown(problem),
            set @ (Self::Everything | Self::Pattern { .. }) => Self::Not(Box::new(set)),
        }
    }

    pub(super) fn any(sets: impl IntoIterator<Item = Self>) -> Self {
        let sets: Vec<_> = sets.into_iter().collect();
        if sets.contains(&Self::Everything) {
            return Self::Everything;
        }
        let mut sets: Vec<_> = sets.into_iter().filter(|it| !it.is_nothing()).collect();
        if sets.len() == 1 {
            sets.remove(0)
        } else {
            Self::Any(sets)
        }
    }

    pub(super) fn all(sets: impl IntoIterator<Item = Self>) -> Self {
        let sets = sets.into_iter().filter(|it| *it != Self::Everything);
        let mut sets: Vec<_> = sets.collect();
        match sets.len() {
            0 => Self::Everything,
            1 => sets.remove(0),
            _ => Self::All(sets),
        }
    }

    fn is_nothing(&self) -> bool {
        match self {
            Self::Not(inner) => **inner == Self::Everything,
            Self::Any(sets) => sets.is_empty(),
            _ => false,
        }
    }

    /// The patterns of `approved` that come closest, or none if nothing of it can be said. What is left out is
    /// noted as lost.
    pub(super) fn approved(&self, notes: &mut Notes) -> Option<Vec<String>> {
        match self {
            Self::Everything => Some(vec!["**".to_owned()]),
            Self::Pattern { text, .. } => Some(vec![text.clone()]),
            Self::Not(inner) => {
                if let Self::Pattern { text, at } = &**inner {
                    let message = format!(
                        "refuses `{text}` and nothing else; `approved` says what is let in, not what is refused"
                    );
                    notes.lost(*at, "refuses-some", message);
                }
                None
            }
            Self::Any(sets) => {
                let mut all = Vec::new();
                for patterns in sets.iter().filter_map(|it| it.approved(notes)) {
                    add(&mut all, patterns);
                }
                (!all.is_empty()).then_some(all)
            }
            Self::All(sets) => {
                let sets: Vec<_> = sets
                    .iter()
                    .filter_map(|it| Some((it, it.approved(notes)?)))
                    .collect();
                let mut sets = sets.into_iter();
                let mut all = sets.next()?.1;
                for (set, patterns) in sets {
                    match intersect(&all, &patterns) {
                        Some(both) => all = both,
                        None => notes.lost(
                            set.place(),
                            "both-at-once",
                            format!(
                                "demands {} beside {}; one list cannot say both",
                                quote(&patterns),
                                quote(&all)
                            ),
                        ),
                    }
                }
                Some(all)
            }
            Self::Unknown(problem) => {
                notes.lost(problem.at, problem.code, problem.message.clone());
                None
            }
        }
    }

    /// The same set as what a change applies to.
    pub(super) fn sources(&self) -> Result<Sources, Problem> {
        let problem = |at, message: &str| {
            Err(Problem {
                code: "condition",
                at,
                message: message.to_owned(),
            })
        };
        match self {
            Self::Everything => Ok(Sources::default()),
            Self::Pattern { text, .. } => Ok(Sources {
                only: Some(vec![text.clone()]),
                except: Vec::new(),
            }),
            Self::Not(inner) => match &**inner {
                Self::Pattern { text, .. } => Ok(Sources {
                    only: None,
                    except: vec![text.clone()],
                }),
                _ => problem(self.place(), "a condition that never holds"),
            },
            Self::Any(sets) => {
                let mut all = Vec::new();
                for set in sets {
                    match set.sources()? {
                        Sources {
                            only: Some(only),
                            except,
                        } if except.is_empty() => add(&mut all, only),
                        _ => {
                            return problem(
                                self.place(),
                                "a condition that holds where another does not",
                            );
                        }
                    }
                }
                Ok(Sources {
                    only: Some(all),
                    except: Vec::new(),
                })
            }
            Self::All(sets) => {
                let mut all = Sources::default();
                for set in sets {
                    let one = set.sources()?;
                    add(&mut all.except, one.except);
                    all.only = match (all.only, one.only) {
                        (Some(a), Some(b)) => match intersect(&a, &b) {
                            Some(both) => Some(both),
                            None => {
                                return problem(
                                    set.place(),
                                    "two conditions of which none includes the other",
                                );
                            }
                        },
                        (a, b) => a.or(b),
                    };
                }
                Ok(all)
            }
            Self::Unknown(problem) => Err(problem.clone()),
        }
    }

    /// Where it is written.
    fn place(&self) -> Span {
        match self {
            Self::Pattern { at, .. } => *at,
            Self::Unknown(problem) => problem.at,
            Self::Not(inner) => inner.place(),
            Self::Any(sets) | Self::All(sets) => sets.first().map_or(NOWHERE, Self::place),
            Self::Everything => NOWHERE,
        }
    }
}

const NOWHERE: Span = Span {
    start: 0,
    end: 0,
    line: 1,
    column: 1,
};

/// Adds what is not there yet.
pub(super) fn add(all: &mut Vec<String>, more: impl IntoIterator<Item = String>) {
    for it in more {
        if !all.contains(&it) {
            all.push(it);
        }
    }
}

/// Patterns, as a sentence has them.
pub(super) fn quote(patterns: &[String]) -> String {
    let quoted: Vec<_> = patterns.iter().map(|it| format!("`{it}`")).collect();
    quoted.join(", ")
}

/// The patterns that both lists have in common; `None` where two of them overlap and none includes the other, or
/// where nothing is in common.
pub(super) fn intersect(a: &[String], b: &[String]) -> Option<Vec<String>> {
    let mut both = Vec::new();
    for one in a {
        for other in b {
            if covers(one, other) {
                add(&mut both, [other.clone()]);
            } else if covers(other, one) {
                add(&mut both, [one.clone()]);
            } else if let Some(within) = within(one, other).or_else(|| within(other, one)) {
                add(&mut both, [within]);
            } else if !apart(one, other) {
                return None;
            }
        }
    }
    (!both.is_empty()).then_some(both)
}

/// Whether every image of `other` is one of `pattern`. Errs on the side of no.
fn covers(pattern: &str, other: &str) -> bool {
    if pattern == "**" || pattern == other {
        return true;
    }
    let Some(place) = pattern.strip_suffix("/**") else {
        return false;
    };
    !place.contains('*')
        && other
            .strip_prefix(place)
            .is_some_and(|rest| rest.starts_with('/'))
}

/// The pattern of a path, of the one registry that the other pattern names.
fn within(registry: &str, path: &str) -> Option<String> {
    let host = registry.strip_suffix("/**")?;
    if host.contains(['*', '/']) || !super::image::is_registry(host) {
        return None;
    }
    if let Some(path) = path.strip_prefix("*/") {
        return Some(format!("{host}/{path}"));
    }
    path.starts_with("**/").then(|| format!("{host}/{path}"))
}

/// Whether no image is of both, which is plain where both name a registry, and not the same one.
fn apart(a: &str, b: &str) -> bool {
    let registry = |it: &str| {
        let first = it.split('/').next().unwrap_or_default().to_owned();
        (!first.contains('*') && super::image::is_registry(&first) && it.contains('/'))
            .then_some(first)
    };
    matches!((registry(a), registry(b)), (Some(a), Some(b)) if a != b)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> Images {
        Images::pattern(text, NOWHERE)
    }

    fn approved(images: &Images) -> (Option<Vec<String>>, Vec<&'static str>) {
        let mut notes = Notes::default();
        let approved = images.approved(&mut notes);
        (approved, notes.finish().iter().map(|it| it.code).collect())
    }

    fn list(patterns: &[&str]) -> Vec<String> {
        patterns.iter().map(|&it| it.to_owned()).collect()
    }

    #[test]
    fn alternatives_add_up_and_demands_meet() {
        let (a, b) = (pattern("a.io/**"), pattern("b.io/**"));
        assert_eq!(
            approved(&Images::any([a.clone(), b.clone(), a.clone()])),
            (Some(list(&["a.io/**", "b.io/**"])), vec![])
        );
        let both = Images::all([
            Images::any([a.clone(), b.clone()]),
            Images::any([pattern("a.io/team/**"), pattern("c.io/**")]),
        ]);
        assert_eq!(approved(&both), (Some(list(&["a.io/team/**"])), vec![]));
        for (registry, path, both) in [
            ("a.io/**", "*/team/**", "a.io/team/**"),
            ("a.io/**", "**/app", "a.io/**/app"),
            ("localhost:5000/**", "*/a/b:1", "localhost:5000/a/b:1"),
        ] {
            let (registry, path) = (pattern(registry), pattern(path));
            for of in [[registry.clone(), path.clone()], [path, registry]] {
                assert_eq!(approved(&Images::all(of)), (Some(list(&[both])), vec![]));
            }
        }
        let unclear = Images::all([pattern("a.io/x/**"), pattern("*/team/**")]);
        assert_eq!(
            approved(&unclear),
            (Some(list(&["a.io/x/**"])), vec!["both-at-once"])
        );
    }

    #[test]
    fn what_is_only_refused_cannot_be_said() {
        let refused = pattern("bad.io/**").not();
        assert_eq!(approved(&refused), (None, vec!["refuses-some"]));
        let beside = Images::all([pattern("a.io/**"), refused]);
        assert_eq!(
            approved(&beside),
            (Some(list(&["a.io/**"])), vec!["refuses-some"])
        );
        assert_eq!(pattern("a.io/**").not().not(), pattern("a.io/**"));
    }

    #[test]
    fn conditions_say_which_images_change() {
        let sources = Images::all([
            Images::any([pattern("docker.io/**"), pattern("quay.io/**")]),
            pattern("quay.io/keep/**").not(),
        ])
        .sources()
        .unwrap();
        assert_eq!(sources.only, Some(list(&["docker.io/**", "quay.io/**"])));
        assert_eq!(sources.except, ["quay.io/keep/**"]);
        let always = Images::any([pattern("a.io/**").not(), pattern("b.io/**").not()]);
        assert!(always.sources().is_err());
    }
}
