//! The images of a request, and the results of the rules.

use super::objects::Variable;
use super::{cel, image, rule_names, scope, variable};
use crate::report::Parts;
use imageswap_policy::{ActionOutline, Date, MatcherOutline, Outline, RuleOutline};

/// Fields of an image, as a variable keeps it. `by` says which kind of rule decided last, and `to` is
/// the result of a rule that is not applied yet. All values are texts: a map has one type.
const FIELDS: [&str; 8] = [
    "list",
    "name",
    "image",
    "canonical",
    "now",
    "full",
    "by",
    "to",
];

/// The most cases of one chain: the API server's parser takes 250 expressions within each other.
const MAX_CASES: usize = 100;

/// No rule matches.
pub(super) const NO_RULE: &str = "''";
/// A rule keeps the image and approves it.
pub(super) const KEPT: &str = "'='";
/// A rule matches whose result cannot be said; the image stays and is refused.
pub(super) const REFUSED: &str = "'!'";
/// A rule would produce an invalid reference; the image stays.
const INVALID: &str = "'?'";
/// A rule moved the image to `now`.
const MOVED: &str = "'>'";

/// The variables up to the last of `moved1`, `moved2`, ...; its name is [`last`].
pub(super) fn write(
    outline: &Outline<'_>,
    today: Date,
    parts: &mut Parts<'_>,
) -> Result<Vec<Variable>, String> {
    let rules = rules(outline, parts)?;
    exceptions(outline, today, parts);
    let mut variables = vec![
        variable(
            "stored",
            format!(
                "request.operation == 'UPDATE' ?\n{}\n: []",
                images("oldObject")
            ),
        ),
        variable(
            "images",
            format!("({}).filter(x, !(x in variables.stored))", images("object")),
        ),
        variable(
            "start",
            format!(
                "variables.images.map(x, [\n{}\n].map(full, {})[0])",
                cel::indented(&image::canonical("x.image"), 0),
                entry(
                    "x",
                    &[
                        ("canonical", "full"),
                        ("now", "x.image"),
                        ("full", "full"),
                        ("by", NO_RULE),
                        ("to", NO_RULE),
                    ]
                )
            ),
        ),
    ];
    let opted_out = outline.scope.opt_out.map(scope::opted_out);
    if let Some(opted_out) = &opted_out {
        variables.push(variable("optedOut", opted_out.clone()));
    }
    for round in 1..=outline.moves.max(1) {
        let before = match round {
            1 => "start".to_owned(),
            _ => format!("moved{}", round - 1),
        };
        // An image that a rule has not moved stays, whatever other rules would do.
        let rules = match round {
            1 => rules.clone(),
            _ => format!("x.by != {MOVED} ? '' :\n{rules}"),
        };
        variables.push(variable(
            format!("rules{round}"),
            format!(
                "variables.{before}.map(x, {})",
                entry(
                    "x",
                    &[("to", &format!("\n  {}\n", cel::indented(&rules, 2)))]
                )
            ),
        ));
        variables.push(variable(
            format!("moved{round}"),
            moved(round, opted_out.is_some()),
        ));
    }
    Ok(variables)
}

/// The variable with the final answers of the rules.
pub(super) fn last(outline: &Outline<'_>) -> String {
    format!("variables.moved{}", outline.moves.max(1))
}

/// All images of an object that a request is about.
fn images(object: &str) -> String {
    let containers = |list: &str| {
        format!(
            "{object}.spec.?{list}.orValue([]).filter(c, has(c.image)).map(c, {{'list': '{list}', 'name': string(c.name), 'image': string(c.image)}})"
        )
    };
    format!(
        "{}\n+ (request.?subResource.orValue('') == 'ephemeralcontainers' ? [] :\n  {}\n  + {}\n  + {object}.spec.?volumes.orValue([]).filter(v, has(v.image) && has(v.image.reference)).map(v, {{'list': 'volumes', 'name': string(v.name), 'image': string(v.image.reference)}}))",
        containers("ephemeralContainers"),
        containers("containers"),
        containers("initContainers"),
    )
}

/// An image with some fields changed.
fn entry(of: &str, changed: &[(&str, &str)]) -> String {
    let fields: Vec<_> = FIELDS
        .iter()
        .map(|field| {
            let new = changed.iter().find(|it| it.0 == *field);
            match new {
                Some((_, value)) => format!("'{field}': {value}"),
                None => format!("'{field}': {of}.{field}"),
            }
        })
        .collect();
    format!("{{{}}}", fields.join(", "))
}

/// The result of the first rule that matches `x.full`, or a mark.
fn rules(outline: &Outline<'_>, parts: &mut Parts<'_>) -> Result<String, String> {
    let mut cases: Vec<String> = Vec::new();
    let mut written: Vec<String> = Vec::new();
    let mut last = "";
    let mut failed = Vec::new();
    for rule in &outline.rules {
        let condition = image::rule(rule).ok_or_else(|| inexpressible(rule))?;
        let result = match rule.action {
            ActionOutline::Keep | ActionOutline::Rest => KEPT.to_owned(),
            _ => image::moved(rule).unwrap_or_else(|| {
                failed.push(rule.name);
                REFUSED.to_owned()
            }),
        };
        // After a rule with the same condition nothing is left to match.
        if written.contains(&condition) {
            continue;
        }
        let head = if last == rule.name {
            String::new()
        } else {
            format!("{}\n", cel::comment(rule.name))
        };
        last = rule.name;
        cases.push(format!("{head}{condition} ? {result} :"));
        written.push(condition);
    }
    for name in rule_names(outline) {
        let part = format!("rule {name}");
        if failed.contains(&name) {
            parts.differs(
                part,
                "CEL has no groups, and their ends are not fixed by the text around them; its images are refused \
                 instead of swapped. Write rules with `from`",
            );
        } else if outline
            .rules
            .iter()
            .any(|it| it.name == name && it.conditional)
        {
            parts.differs(
                part,
                "CEL asks no registry: an image that the registry of the result lacks is swapped as well, and \
                 does not stay (`ifMissing: keep`)",
            );
        } else {
            parts.exported(part);
        }
    }
    let chains: Vec<_> = cases
        .chunks(MAX_CASES)
        .map(|it| format!("{}\n{NO_RULE}", it.join("\n")))
        .collect();
    Ok(match chains.as_slice() {
        [] => NO_RULE.to_owned(),
        [one] => format!("x.full == '' ? {NO_RULE} :\n{one}"),
        several => format!(
            "x.full == '' ? {NO_RULE} :\n([\n{}\n].filter(r, r != {NO_RULE}) + [{NO_RULE}])[0]",
            several.join(",\n")
        ),
    })
}

fn inexpressible(rule: &RuleOutline<'_>) -> String {
    match rule.matcher {
        MatcherOutline::Regex(regex, _) => format!(
            "rule {}: RE2 cannot say `{regex}`: it repeats more than 1000 times, or looks around",
            rule.name
        ),
        MatcherOutline::Pattern(pattern) => {
            format!("rule {}: {}", rule.name, unsaid(pattern))
        }
    }
}

/// Why a pattern cannot be said.
pub(super) fn unsaid(pattern: &imageswap_policy::Pattern) -> String {
    format!("the host of `{pattern}` may be an IPv6 address; write it with a dot or port")
}

/// Applies the results: an image becomes one that is a reference.
fn moved(round: usize, may_opt_out: bool) -> String {
    let stays = |by: &str| entry("x", &[("by", by)]);
    let invalid = entry(
        "x",
        &[("now", "x.image"), ("full", "x.canonical"), ("by", INVALID)],
    );
    let refused = entry(
        "x",
        &[("now", "x.image"), ("full", "x.canonical"), ("by", REFUSED)],
    );
    let becomes = entry("x", &[("now", "x.to"), ("full", "full"), ("by", MOVED)]);
    let first = match round {
        1 => format!("x.to in [{NO_RULE}, {KEPT}] ? {}\n", stays("x.to")),
        // It stays where earlier rules brought it.
        _ => format!("x.to in [{NO_RULE}, {KEPT}] ? x\n"),
    };
    let opted_out = if may_opt_out && round == 1 {
        format!(": variables.optedOut ? {}\n", stays(NO_RULE))
    } else {
        String::new()
    };
    format!(
        "variables.rules{round}.map(x,\n  {first}  : x.to == {REFUSED} ? {refused}\n  {opted_out}  : [\n{canonical}\n  ].map(full, full == '' ? {invalid} : {becomes})[0]\n)",
        canonical = image::canonical("x.to"),
    )
}

fn exceptions(outline: &Outline<'_>, today: Date, parts: &mut Parts<'_>) {
    for (at, exception) in outline.exceptions.iter().enumerate() {
        let part = format!("exceptions[{at}] {}", exception.listed.pattern);
        if today > exception.until {
            parts.exported(part);
        } else {
            parts.left_out(
                part,
                "CEL has no clock; its images are decided as after its last day",
            );
        }
    }
}
