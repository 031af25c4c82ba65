//! What the groups of an expression match, without groups: CEL has none.
//!
//! A group can be said if its ends are fixed by the text around it: the texts before it have fixed
//! lengths, and either all texts after it have, too, or it is followed by a character that it
//! cannot contain.

use super::cel;
use super::expression::{characters, parts};
use imageswap_policy::PartOutline;
use regex_syntax::hir::{Hir, HirKind};
use std::collections::BTreeMap;

/// A place in a text: a number of characters after a place that is computed.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    base: Option<String>,
    plus: usize,
}

impl Place {
    fn written(&self) -> String {
        match (&self.base, self.plus) {
            (None, plus) => plus.to_string(),
            (Some(base), 0) => base.clone(),
            (Some(base), plus) => format!("{base} + {plus}"),
        }
    }

    fn after(&self, count: usize) -> Self {
        Self {
            base: self.base.clone(),
            plus: self.plus + count,
        }
    }
}

/// The text that a template gives for a `subject` that the expression matches; `None` if CEL cannot
/// say it.
pub(super) fn filled(hir: &Hir, template: &[PartOutline<'_>], subject: &str) -> Option<String> {
    let groups = groups(hir, subject);
    let mut written = Vec::new();
    for part in template {
        written.push(match part {
            PartOutline::Text(text) => cel::text(text),
            PartOutline::Group(0) => subject.to_owned(),
            PartOutline::Group(at) => groups.get(at)?.clone(),
        });
    }
    Some(written.join(" + "))
}

/// The groups that can be said, by their numbers.
fn groups(hir: &Hir, subject: &str) -> BTreeMap<usize, String> {
    let parts = parts(hir);
    let mut groups = BTreeMap::new();
    let mut at = Place {
        base: None,
        plus: 0,
    };
    for (index, part) in parts.iter().enumerate() {
        let Some(end) = end(part, &parts[index + 1..], &at, subject) else {
            break;
        };
        if let HirKind::Capture(capture) = part.kind() {
            let number = usize::try_from(capture.index).unwrap_or(usize::MAX);
            let rest = end.base.is_none() && end.plus == usize::MAX;
            groups.insert(
                number,
                if rest {
                    format!("{subject}.substring({})", at.written())
                } else {
                    format!("{subject}.substring({}, {})", at.written(), end.written())
                },
            );
        }
        at = end;
    }
    groups
}

/// Where a part ends that begins at `at`. The end of the text is `usize::MAX`.
fn end(part: &Hir, after: &[&Hir], at: &Place, subject: &str) -> Option<Place> {
    if let Some(length) = length(part) {
        return Some(at.after(length));
    }
    let rest: Option<usize> = after.iter().map(|it| length(it)).sum();
    match rest {
        Some(0) => {
            return Some(Place {
                base: None,
                plus: usize::MAX,
            });
        }
        Some(rest) => {
            return Some(Place {
                base: Some(format!("size({subject}) - {rest}")),
                plus: 0,
            });
        }
        None => {}
    }
    let HirKind::Literal(next) = after.first()?.kind() else {
        return None;
    };
    let next = char::from(*next.0.first()?);
    if !next.is_ascii() || contents(part)?.contains(next) {
        return None;
    }
    let next = cel::text(&next.to_string());
    let found = match (&at.base, at.plus) {
        (None, 0) => format!("{subject}.indexOf({next})"),
        _ => format!("{subject}.indexOf({next}, {})", at.written()),
    };
    Some(Place {
        base: Some(found),
        plus: 0,
    })
}

/// The length of every text that a part matches, if there is only one.
fn length(hir: &Hir) -> Option<usize> {
    let properties = hir.properties();
    let (min, max) = (properties.minimum_len()?, properties.maximum_len()?);
    (min == max).then_some(min)
}

/// The characters that a part can contain; `None` if it looks around.
fn contents(hir: &Hir) -> Option<String> {
    let several = |parts: &[Hir]| {
        let parts: Option<Vec<_>> = parts.iter().map(contents).collect();
        parts.map(|it| it.concat())
    };
    match hir.kind() {
        HirKind::Empty => Some(String::new()),
        HirKind::Literal(literal) => str::from_utf8(&literal.0).ok().map(str::to_owned),
        HirKind::Class(class) => Some(characters(class)),
        HirKind::Look(_) => None,
        HirKind::Repetition(it) => contents(&it.sub),
        HirKind::Capture(it) => contents(&it.sub),
        HirKind::Concat(parts) | HirKind::Alternation(parts) => several(parts),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use regex_syntax::ParserBuilder;

    fn group(source: &str, number: usize) -> Option<String> {
        let mut parser = ParserBuilder::new().unicode(false).utf8(false).build();
        groups(&parser.parse(source).unwrap(), "t")
            .get(&number)
            .cloned()
    }

    #[test]
    fn groups_between_fixed_ends() {
        for (source, number, expected) in [
            (r"^quay\.io/(.*)$", 1, Some("t.substring(8)")),
            (
                r"(?<host>[a-z.]+)/(?<rest>.+)",
                1,
                Some("t.substring(0, t.indexOf('/'))"),
            ),
            (
                r"(?<host>[a-z.]+)/(?<rest>.+)",
                2,
                Some("t.substring(t.indexOf('/') + 1)"),
            ),
            (
                r"a/([^/]*)/b/(.*):1",
                1,
                Some("t.substring(2, t.indexOf('/', 2))"),
            ),
            (
                r"a/([^/]*)/b/(.*):1",
                2,
                Some("t.substring(t.indexOf('/', 2) + 3, size(t) - 2)"),
            ),
            (r"([a-z]{2})x.*", 1, Some("t.substring(0, 2)")),
            // It can contain what follows.
            (r"(.*)/(.*)", 1, None),
            (r"(a*)(b*)", 1, None),
            (r"(a?)b.*c", 1, Some("t.substring(0, t.indexOf('b'))")),
            (r"(a)?b.*c", 1, None),
            (r"((a*)/)b", 2, None),
            (r"(?:(a)|b)c", 1, None),
        ] {
            assert_eq!(
                group(source, number).as_deref(),
                expected,
                "{source} {number}"
            );
        }
    }

    #[test]
    fn templates() {
        let mut parser = ParserBuilder::new().unicode(false).utf8(false).build();
        let hir = parser.parse(r"quay\.io/(.*)").unwrap();
        let template = [PartOutline::Text("r.io/"), PartOutline::Group(1)];
        assert_eq!(
            filled(&hir, &template, "t").as_deref(),
            Some("'r.io/' + t.substring(8)")
        );
        let template = [PartOutline::Text("r.io/"), PartOutline::Group(2)];
        assert_eq!(filled(&hir, &template, "t"), None);
    }
}
