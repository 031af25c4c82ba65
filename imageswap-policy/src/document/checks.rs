//! Likely mistakes in a valid document: rules that conflict, and effects that its author may not
//! expect.

mod likely;

use super::compile::{Compiled, CompiledRule};
use super::{ImageSwapPolicy, Match, Operator};
use crate::Check;
use crate::pattern::Pattern;
use crate::rules::{Guarded, Matcher};
use crate::scope::{EXCLUDED, NAMESPACE_NAME};
use crate::yaml::places::{Messages, Step};
use std::collections::HashMap;

pub(super) use likely::lint;

/// All messages about a document, to look one up.
pub const CHECKS: &[Check] = &[
    Check::error("yaml-syntax", "the text is not valid YAML or JSON"),
    Check::error("yaml-key", "the name of a field is a list or a mapping"),
    Check::error(
        "yaml-duplicate-key",
        "a field is given twice in one mapping",
    ),
    Check::error(
        "yaml-alias",
        "an alias (`*name`) is inside the value that it repeats",
    ),
    Check::error("yaml-merge", "`<<` merges something that is not a mapping"),
    Check::error("yaml-too-deep", "values are nested deeper than 128"),
    Check::error(
        "yaml-too-large",
        "the text has too many values, or its aliases copy too much",
    ),
    Check::error("unknown-kind", "a document is not an ImageSwapPolicy"),
    Check::error("unknown-field", "the format does not have this field"),
    Check::error("field", "a field has the wrong type or value"),
    Check::error(
        "duplicate-name",
        "two policies, or two rules, have one name",
    ),
    Check::error(
        "rule",
        "a rule is neither `keep`, nor `from` and `to`, nor `regex` and `to`",
    ),
    Check::error("pattern-syntax", "a text is not a pattern"),
    Check::error(
        "no-path",
        "a registry is given instead of a pattern of images",
    ),
    Check::error("scheme", "a reference has no scheme such as `https://`"),
    Check::error("never-matches", "no legal reference can match a pattern"),
    Check::error(
        "regex",
        "a regular expression or its template is wrong, or too large",
    ),
    Check::error(
        "to",
        "`to` does not begin an image reference, or its target is unknown",
    ),
    Check::error("trailing-slash", "a `/` ends `to`"),
    Check::error(
        "name",
        "no namespace or container can have a name that a pattern of names matches",
    ),
    Check::error(
        "label-wildcard",
        "a label's value holds a wildcard, which selectors do not have",
    ),
    Check::error(
        "label",
        "a selector names a key or value that no label can have",
    ),
    Check::error(
        "denied-target",
        "a rule moves images only to a place that `denied` lists",
    ),
    Check::error(
        "conflicting-rules",
        "a rule moves only images that an earlier rule has brought there, so the two do not converge",
    ),
    Check::warning(
        "chained-rules",
        "images that one rule moves are moved on by an earlier one",
    ),
    Check::warning(
        "target-not-approved",
        "a rule's target is not listed in `approved`",
    ),
    Check::warning(
        "always-denied",
        "`denied` matches every image that a rule keeps or an entry approves",
    ),
    Check::warning(
        "denied-tag",
        "`denied` names a tag where a pattern of images is expected",
    ),
    Check::warning(
        "excluded-namespace",
        "a selector names a namespace that no policy applies to unless `match.namespaces` names it",
    ),
    Check::warning("approves-nothing", "a policy approves no image at all"),
    Check::warning(
        "shadowed-rule",
        "an earlier rule matches all images of a rule",
    ),
    Check::warning("merged-registries", "images of two registries get one name"),
    Check::warning(
        "unanchored-regex",
        "a regular expression has to match the whole reference and does not say so",
    ),
    Check::warning(
        "shallow-pattern",
        "`host/*` matches only repositories of one segment",
    ),
    Check::warning("any-registry", "images of any registry are approved"),
    Check::warning(
        "bypassed-rule",
        "images that a rule moves stay where a later rule takes images from",
    ),
    Check::warning(
        "keeps-everything",
        "a rule keeps, and so approves, images of any registry",
    ),
    Check::warning(
        "excepts-everything",
        "an exception approves images of any registry",
    ),
    Check::warning("ended-exception", "an exception has ended"),
    Check::warning(
        "official-only",
        "`docker.io/*` matches only official images",
    ),
    Check::warning(
        "unescaped-dot",
        "a `.` in the host of a regular expression matches any character",
    ),
    Check::warning("never-selects", "a selector can match no labels"),
    Check::warning(
        "never-chosen",
        "another policy comes first for all Pods of a policy",
    ),
    Check::warning("key-case", "a registry is written in upper case"),
];

const SPEC: Step<'static> = Step::Key("spec");

pub(super) fn rule_path<'a>(rule: &CompiledRule, key: &'a str) -> [Step<'a>; 4] {
    [
        SPEC,
        Step::Key("rules"),
        Step::Index(rule.at),
        Step::Key(key),
    ]
}

/// The key of a rule that selects its images.
pub(super) fn source_key(rule: &CompiledRule) -> &'static str {
    match (&rule.matcher, &rule.swap) {
        (Matcher::Regex(_), _) => "regex",
        (_, Some(_)) => "from",
        _ => "keep",
    }
}

/// The targets of rules, by registry.
type Targets<'a> = HashMap<&'a str, Vec<(usize, &'a Pattern)>>;

/// Messages on loading.
pub(super) fn always(document: &ImageSwapPolicy, compiled: &Compiled, messages: &mut Messages<'_>) {
    conflicts(&compiled.rules, messages);
    denied_targets(compiled, messages);
    excluded_namespaces(&document.spec.r#match, messages);
    let path = [SPEC, Step::Key("approved")];
    match &compiled.approved {
        Some(approved) => {
            if document.spec.approved.as_ref().is_some_and(Vec::is_empty) {
                messages.warn(&path, "approves-nothing", "an empty list approves no image");
            }
            unapproved_targets(&compiled.rules, approved, messages);
        }
        None if document.spec.rules.is_empty() => {
            let message = "expected `rules` or `approved`: without them no image is approved";
            let found = messages.warn(&[SPEC], "approves-nothing", message);
            if !compiled.denied.is_empty() {
                found.help = Some(
                    "add `rules: [{keep: \"**\"}]` to approve what `denied` does not match"
                        .to_owned(),
                );
            }
        }
        None => {}
    }
}

/// Refuses rules whose images all lie under the target of an earlier rule, or of the rule itself:
/// those images stay, so the rule could never act, and otherwise the two would send images back and
/// forth. Also warns about chains.
fn conflicts(rules: &[CompiledRule], messages: &mut Messages<'_>) {
    let mut targets: Targets<'_> = HashMap::new();
    for (position, rule) in rules.iter().enumerate() {
        let Some(swap) = &rule.swap else { continue };
        for target in &swap.targets {
            let registry = target.registry().unwrap_or_default();
            targets
                .entry(registry)
                .or_default()
                .push((position, target));
        }
        let holds = |by: usize| rules[by].guard.covers(&rule.guard);
        let brought = match &rule.matcher {
            Matcher::Pattern(from) => from.registry().and_then(|registry| {
                let mut targets = targets.get(registry)?.iter();
                targets.find(|(by, target)| holds(*by) && target.covers(from))
            }),
            Matcher::Regex(expression) => {
                let prefixes = expression.prefixes();
                let registry = prefixes.first().and_then(|it| it.split_once('/'));
                let within = |target: &Pattern| {
                    let base = target.as_str().strip_suffix("**");
                    base.is_some_and(|base| prefixes.iter().all(|it| it.starts_with(base)))
                };
                registry.and_then(|(registry, _)| {
                    let mut targets = targets.get(registry)?.iter();
                    targets.find(|(by, target)| holds(*by) && within(target))
                })
            }
        };
        let Some((by, target)) = brought else {
            continue;
        };
        let message = if *by == position {
            format!(
                "rule `{}` matches only images under its own target `{}`",
                rule.name, swap.to
            )
        } else {
            format!(
                "rules `{}` and `{}` do not converge: the first brings images to `{target}`, where they stay, \
                 and the second matches only images there",
                rules[*by].name, rule.name
            )
        };
        let found = messages.error(
            &rule_path(rule, source_key(rule)),
            "conflicting-rules",
            message,
        );
        if *by == position {
            let help = format!(
                "images under `{}` stay anyway: write `keep` if they are meant",
                swap.to
            );
            found.help = Some(help);
        } else {
            let first = &rules[*by].name;
            let back = matches!(&rules[*by].matcher, Matcher::Pattern(from) if swap.targets.iter().any(|it| {
                from.may_meet(it.registry().unwrap_or_default(), &above(it))
            }));
            found.help = Some(if back {
                format!(
                    "`{}` moves images back to where `{first}` takes them from: drop one of the rules",
                    rule.name
                )
            } else {
                format!(
                    "let `{first}` move images to where they should stay, or put `{}` before it",
                    rule.name
                )
            });
        }
    }
    if messages
        .found
        .iter()
        .any(|it| it.code == "conflicting-rules")
    {
        return;
    }
    chains(rules, &targets, messages);
}

fn chains(rules: &[CompiledRule], targets: &Targets<'_>, messages: &mut Messages<'_>) {
    for earlier in rules.iter().enumerate() {
        let (position, rule) = earlier;
        let Matcher::Pattern(from) = &rule.matcher else {
            continue;
        };
        // A rule that spans registries is for the rest; its images may well be moved on.
        let Some(registry) = from.registry().filter(|_| rule.swap.is_some()) else {
            continue;
        };
        let met = targets
            .get(registry)
            .into_iter()
            .flatten()
            .find(|(by, target)| {
                *by > position
                    && rule.guard.meets(&rules[*by].guard)
                    && from.may_meet(registry, &above(target))
            });
        if let Some((by, target)) = met {
            let message = format!(
                "images that rule `{}` brings to `{target}` are moved on by rule `{}`",
                rules[*by].name, rule.name
            );
            messages.warn(&rule_path(&rules[*by], "to"), "chained-rules", message);
        }
    }
}

/// The path below which the images of a target pattern lie.
fn above(target: &Pattern) -> String {
    target.fixed_path().collect::<Vec<_>>().join("/")
}

fn unapproved_targets(
    rules: &[CompiledRule],
    approved: &[(usize, Guarded)],
    messages: &mut Messages<'_>,
) {
    for rule in rules {
        let Some(swap) = &rule.swap else { continue };
        let here = || {
            let all = approved.iter().map(|it| &it.1);
            all.filter(|it| it.guard.covers(&rule.guard))
                .map(|it| &it.pattern)
        };
        let Some(target) = swap
            .targets
            .iter()
            .find(|target| !here().any(|it| it.covers(target)))
        else {
            continue;
        };
        let pinned = here().any(|it| {
            it.demands_digest()
                && it.may_meet(target.registry().unwrap_or_default(), &above(target))
        });
        let (message, help) = if pinned {
            (
                format!("images that come to `{target}` are approved only with a digest"),
                None,
            )
        } else {
            (
                format!("images that come to `{target}` are not approved by this policy"),
                Some(format!("add `{target}` to `approved`")),
            )
        };
        messages
            .warn(&rule_path(rule, "to"), "target-not-approved", message)
            .help = help;
    }
}

/// Refuses rules that can only make denied images.
fn denied_targets(compiled: &Compiled, messages: &mut Messages<'_>) {
    for rule in &compiled.rules {
        let Some(swap) = &rule.swap else { continue };
        let denies = |target: &Pattern| {
            let mut all = compiled.denied.iter();
            all.find(|(_, it, _)| it.guard.covers(&rule.guard) && it.pattern.covers(target))
        };
        let excepted = |target: &Pattern| {
            let registry = target.registry().unwrap_or_default();
            let mut all = compiled.exceptions.iter();
            all.any(|it| it.pattern.may_meet(registry, &above(target)))
        };
        let mut by = swap
            .targets
            .iter()
            .map(|it| denies(it).filter(|_| !excepted(it)));
        let Some(Some((_, it, denial))) = by.next() else {
            continue;
        };
        if by.all(|it| it.is_some()) {
            let message = format!(
                "rule `{}` moves images to `{}`, where `{}` (`{}`) denies all of them",
                rule.name, swap.to, denial.name, it.pattern
            );
            messages
                .error(&rule_path(rule, "to"), "denied-target", message)
                .help = Some("move them elsewhere, or deny less".to_owned());
        }
    }
}

/// Warns about selectors that name a namespace which is excluded anyway.
fn excluded_namespaces(it: &Match, messages: &mut Messages<'_>) {
    let Some(selector) = it
        .namespace_selector
        .as_ref()
        .filter(|_| it.namespaces.is_none())
    else {
        return;
    };
    let path = [SPEC, Step::Key("match"), Step::Key("namespaceSelector")];
    let label = selector.match_labels.get(NAMESPACE_NAME).into_iter();
    let expressions = selector.match_expressions.iter();
    let values = expressions
        .filter(|it| it.key == NAMESPACE_NAME && it.operator == Operator::In)
        .flat_map(|it| &it.values);
    for name in label
        .chain(values)
        .filter(|it| EXCLUDED.contains(&it.as_str()))
    {
        let message = format!("no policy applies to `{name}` unless `match.namespaces` names it");
        messages.warn(&path, "excluded-namespace", message).help =
            Some(format!("write `namespaces: [{name}]` instead"));
    }
}
