//! Conditions on images in CEL, and the results of the rules.

use super::captures::filled;
use super::{cel, expression};
use imageswap_policy::Pattern;
use imageswap_policy::{ActionOutline, GuardOutline, ListedPattern, MatcherOutline, RuleOutline};

/// Where expressions find what they need about an image: its canonical reference, and names that
/// guards are compared with.
pub(super) const FULL: &str = "x.full";
const CONTAINER: &str = "x.name";
const IS_CONTAINER: &str = "x.list != 'volumes'";
const NAMESPACE: &str = "request.namespace";

/// A reference that begins with a registry; the grammar of `docker pull`.
const REFERENCE: &str = concat!(
    r"^(?:(?:",
    // A registry: a name with an optional port, an IPv6 address, or what is a registry by a dot.
    r"[a-zA-Z0-9](?:[a-zA-Z0-9\-]*[a-zA-Z0-9])?(?:\.[a-zA-Z0-9](?:[a-zA-Z0-9\-]*[a-zA-Z0-9])?)*(?::[0-9]+)?",
    r"|\[[0-9a-fA-F:]+\]:[0-9]+|\[[0-9a-f]*[A-F:][0-9a-fA-F:]*\]",
    r"|[a-z0-9]+(?:(?:\.|__?|-+)[a-z0-9]+)*",
    r")/)?",
    r"[a-z0-9]+(?:(?:\.|__?|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|__?|-+)[a-z0-9]+)*)*",
    r"(?::[0-9A-Za-z_][0-9A-Za-z_.\-]{0,127})?(?:@sha256:[0-9a-f]{64})?$"
);
/// The first segment is a registry.
const WITH_REGISTRY: &str = r"^(?:localhost|[^/]*[.:A-Z][^/]*)/";
const ON_DOCKER_HUB: &str = r"^(?:index\.)?docker\.io/";
/// A path of one segment, after a registry.
const ONE_SEGMENT: &str = "^[^/]*/[^/]*$";
/// 64 digits alone are the id of an image.
const IMAGE_ID: &str = "^[0-9a-f]{64}$";
/// A path of at most 255 characters, after a registry.
const SHORT_PATH: &str = "^[^/]*/[^/:@][^:@]{0,254}(?:[:@].*)?$";

/// The canonical reference of `image`, which is the name of a variable; empty if it is not a
/// reference.
pub(super) fn canonical(image: &str) -> String {
    let regex = cel::regex;
    format!(
        "[!{image}.matches({reference}) || {image}.matches({id}) ? ''\n  \
         : !{image}.matches({registry}) ? ({image}.contains('/') ? 'docker.io/' : 'docker.io/library/') + {image}\n  \
         : !{image}.matches({hub}) ? {image}\n  \
         : ({image}.matches({one}) ? 'docker.io/library/' : 'docker.io/') + {image}.substring({image}.indexOf('/') + 1)\n\
         ].map(c, c.matches({short}) ? c : '')[0]",
        reference = regex(REFERENCE),
        id = regex(IMAGE_ID),
        registry = regex(WITH_REGISTRY),
        hub = regex(ON_DOCKER_HUB),
        one = regex(ONE_SEGMENT),
        short = regex(SHORT_PATH),
    )
}

/// The condition that an image matches a pattern; `None` if CEL cannot say it.
pub(super) fn pattern(pattern: &Pattern, full: &str) -> Option<String> {
    let (beginning, whole) = pattern.beginning();
    let begins = format!("{full}.startsWith({})", cel::text(&beginning));
    if whole {
        let everything = beginning.is_empty();
        return Some(if everything {
            "true".to_owned()
        } else {
            begins
        });
    }
    let matches = format!("{full}.matches({})", cel::regex(&pattern.expression()?));
    Some(if beginning.is_empty() {
        matches
    } else {
        format!("{begins} && {matches}")
    })
}

/// The conditions of a guard.
pub(super) fn guard(guard: &GuardOutline<'_>) -> Vec<String> {
    let mut all = Vec::new();
    if let Some(names) = &guard.namespaces {
        all.push(cel::named(NAMESPACE, names));
    }
    if let Some(names) = &guard.containers {
        all.push(IS_CONTAINER.to_owned());
        all.push(cel::named(CONTAINER, names));
    }
    all.retain(|it| it != "true");
    all
}

/// The condition that an item of a list matches and holds.
pub(super) fn listed(item: &ListedPattern<'_>, full: &str) -> Option<String> {
    let mut all = vec![pattern(item.pattern, full)?];
    all.extend(guard(&item.guard));
    Some(simplified(&all))
}

/// The condition that a rule matches and holds.
pub(super) fn rule(rule: &RuleOutline<'_>) -> Option<String> {
    let mut all = vec![match rule.matcher {
        MatcherOutline::Pattern(it) => pattern(it, FULL)?,
        MatcherOutline::Regex(_, hir) => {
            format!("{FULL}.matches({})", cel::regex(&expression::re2(hir)?))
        }
    }];
    all.extend(guard(&rule.guard));
    Some(simplified(&all))
}

/// The image that a rule returns for another; `None` if CEL cannot say it.
pub(super) fn moved(rule: &RuleOutline<'_>) -> Option<String> {
    match (&rule.action, rule.matcher) {
        (ActionOutline::Prefix { prefix, skip }, MatcherOutline::Pattern(pattern)) => {
            let (beginning, _) = pattern.beginning();
            let prefix = cel::text(&format!("{prefix}/"));
            // Everything that the pattern fixes is at the beginning, if it fixes the registry.
            Some(if beginning.is_empty() {
                let mut at = format!("{FULL}.indexOf('/') + 1");
                for _ in 0..*skip {
                    at = format!("{FULL}.indexOf('/', {at}) + 1");
                }
                format!("{prefix} + {FULL}.substring({at})")
            } else {
                format!("{prefix} + {FULL}.substring({})", beginning.len())
            })
        }
        (ActionOutline::Rename { name, tag, digest }, _) => {
            let version = match (tag, digest) {
                (true, _) => Some("[:@][^/]*$"),
                (false, true) => Some("@[^/]*$"),
                (false, false) => None,
            };
            let version = version.map(|it| format!(" + {FULL}.find({})", cel::regex(it)));
            Some(format!(
                "{}{}",
                cel::text(name),
                version.unwrap_or_default()
            ))
        }
        (ActionOutline::Fill(template), MatcherOutline::Regex(_, hir)) => {
            filled(hir, template, FULL)
        }
        _ => None,
    }
}

/// All conditions but those that always hold.
fn simplified(conditions: &[String]) -> String {
    let all: Vec<_> = conditions
        .iter()
        .filter(|it| *it != "true")
        .cloned()
        .collect();
    cel::all(&all)
}
