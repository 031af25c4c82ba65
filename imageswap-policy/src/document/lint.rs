//! Messages of the linter alone: a valid document that likely does not mean what its author thinks.

use super::checks::{rule_path, source_key};
use super::compile::{Compiled, CompiledRule};
use super::{ImageSwapPolicy, LabelSelector, Operator};
use crate::Diagnostic;
use crate::Severity;
use crate::pattern::Pattern;
use crate::rules::Matcher;
use crate::yaml::Span;
use crate::yaml::places::{Messages, Step};
use serde_json::Value;
use std::collections::BTreeSet;
use time::Date;

mod selectors;

const SPEC: Step<'static> = Step::Key("spec");

/// Reports traps of one document. `today` is in UTC: exceptions end.
pub(super) fn document(
    document: &ImageSwapPolicy,
    compiled: &Compiled,
    today: Date,
    messages: &mut Messages<'_>,
) {
    // As written, without empty fields.
    let spec = serde_json::to_value(&document.spec).unwrap_or_default();
    let everywhere: Vec<_> = compiled
        .rules
        .iter()
        .filter(|it| !is_guarded(&spec, it.at))
        .collect();
    bypassed(&everywhere, messages);
    everything_kept(document, &spec, messages);
    exceptions(document, today, messages);
    official_only(&spec, messages);
    for rule in &compiled.rules {
        if let Matcher::Regex(expression) = &rule.matcher {
            unescaped_dot(rule, expression.as_str(), messages);
        }
    }
    let r#match = &document.spec.r#match;
    for (field, selector) in [
        ("namespaceSelector", &r#match.namespace_selector),
        ("objectSelector", &r#match.object_selector),
    ] {
        if let Some(selector) = selector {
            selectors::check(field, selector, messages);
        }
    }
}

/// Rules whose target a later rule matches: their images stay there, and the later rule does not
/// move them.
fn bypassed(rules: &[&CompiledRule], messages: &mut Messages<'_>) {
    for (position, rule) in rules.iter().enumerate() {
        let Some(swap) = &rule.swap else { continue };
        let Some(target) = swap.targets.first() else {
            continue;
        };
        let later = rules[position + 1..].iter().find_map(|later| {
            let (Matcher::Pattern(from), Some(swap)) = (&later.matcher, &later.swap) else {
                return None;
            };
            // A rule that spans registries is for the rest, so this is expected.
            let takes = from.registry().is_some() && from.covers(target);
            let rests = swap.targets.iter().any(|it| it.covers(target));
            (takes && !rests).then_some((later, from, swap))
        });
        let Some((later, from, onward)) = later else {
            continue;
        };
        let message = format!(
            "images that rule `{}` brings to `{target}` stay there, although rule `{}` moves `{from}`",
            rule.name, later.name
        );
        let rest: Vec<_> = target
            .fixed_path()
            .skip(from.fixed_path().count())
            .collect();
        let help = match &rest[..] {
            [] => format!(
                "let `{}` name the place that the images should be pulled from",
                rule.name
            ),
            rest => format!(
                "write `{}/{}` if they are to go on",
                onward.to,
                rest.join("/")
            ),
        };
        messages
            .warn(&rule_path(rule, "to"), "bypassed-rule", message)
            .help = Some(help);
    }
}

/// `keep: "**"` without anything that approves or denies.
fn everything_kept(document: &ImageSwapPolicy, written: &Value, messages: &mut Messages<'_>) {
    let spec = &document.spec;
    if spec.approved.is_some() || written.get("denied").is_some() {
        return;
    }
    let first = spec.rules.iter().position(|it| {
        let keeps = it.keep.as_deref().and_then(|it| Pattern::parse(it).ok());
        keeps.is_some_and(|it| it.is_everything())
    });
    if let Some(at) = first.filter(|at| !is_guarded(written, *at)) {
        let path = [SPEC, Step::Key("rules"), Step::Index(at), Step::Key("keep")];
        let message = "this keeps and approves images of any registry";
        messages.warn(&path, "keeps-everything", message).help = Some(
            "add `approved` with the registries that are yours, or keep only these".to_owned(),
        );
    }
}

/// Whether a rule holds only in some namespaces or for some containers.
fn is_guarded(spec: &Value, rule: usize) -> bool {
    let rule = &spec["rules"][rule];
    rule.get("namespaces").is_some() || rule.get("containers").is_some()
}

fn exceptions(document: &ImageSwapPolicy, today: Date, messages: &mut Messages<'_>) {
    for (at, it) in document.spec.exceptions.iter().enumerate() {
        let path = |key| {
            [
                SPEC,
                Step::Key("exceptions"),
                Step::Index(at),
                Step::Key(key),
            ]
        };
        if let Ok(pattern) = Pattern::parse(&it.pattern)
            && pattern.is_any_registry()
            && Pattern::parse("*/**").is_ok_and(|all| pattern.covers(&all))
        {
            let message = format!(
                "`{pattern}` approves images of any registry through {}",
                it.until
            );
            messages
                .warn(&path("pattern"), "excepts-everything", message)
                .help = Some("name the images that need the exception".to_owned());
        }
        if crate::parse_day(&it.until).is_ok_and(|until| until < today) {
            let message = format!("the exception has ended on {}", it.until);
            messages
                .warn(&path("until"), "ended-exception", message)
                .help = Some("remove it, or write a later day".to_owned());
        }
    }
}

/// `docker.io/*`, which is `docker.io/library/*`.
fn official_only(spec: &Value, messages: &mut Messages<'_>) {
    for (path, text) in patterns(spec) {
        let Ok(pattern) = Pattern::parse(text) else {
            continue;
        };
        if pattern.is_official_by_omission() {
            let host = text.split('/').next().unwrap_or_default();
            let message =
                format!("`{text}` matches only official images, such as `{host}/library/nginx`");
            messages.warn(&path, "official-only", message).help = Some(format!(
                "write `{host}/**` for all of {host}, or `{host}/library/*` to say so"
            ));
        }
    }
}

/// Every pattern of the document, with its path.
fn patterns(spec: &Value) -> Vec<(Vec<Step<'static>>, &str)> {
    let mut found = Vec::new();
    for list in ["rules", "approved", "denied", "exceptions"] {
        let items = spec.get(list).and_then(Value::as_array);
        for (at, item) in items.into_iter().flatten().enumerate() {
            let here = [SPEC, Step::Key(list), Step::Index(at)];
            found.extend(item.as_str().map(|it| (here.to_vec(), it)));
            for key in ["keep", "from", "pattern"] {
                let text = item.get(key).and_then(Value::as_str);
                let path = [&here[..], &[Step::Key(key)]].concat();
                found.extend(text.map(|it| (path, it)));
            }
        }
    }
    found
}

/// A `.` in the host of an expression, which matches any character.
fn unescaped_dot(rule: &CompiledRule, regex: &str, messages: &mut Messages<'_>) {
    let mut escaped = String::new();
    let mut found = false;
    let mut class = false;
    let mut chars = regex.chars().peekable();
    while let Some(char) = chars.next() {
        match char {
            '\\' => {
                escaped.push(char);
                escaped.extend(chars.next());
                continue;
            }
            '[' => class = true,
            ']' => class = false,
            '/' if !class => {
                escaped.push(char);
                break;
            }
            '.' if !class && !matches!(chars.peek(), None | Some('*' | '+' | '?' | '{')) => {
                found = true;
                escaped.push('\\');
            }
            _ => {}
        }
        escaped.push(char);
    }
    if !found {
        return;
    }
    escaped.extend(chars);
    let message = "a `.` in the host matches any character, so other registries match as well";
    messages
        .warn(&rule_path(rule, source_key(rule)), "unescaped-dot", message)
        .help = Some(format!("write `{escaped}`"));
}

/// Whether `earlier` applies to every Pod and container that `later` applies to. May return false
/// in doubt.
pub(super) fn applies_to_all_of(earlier: &ImageSwapPolicy, later: &ImageSwapPolicy) -> bool {
    let (earlier, later) = (&earlier.spec.r#match, &later.spec.r#match);
    let fields = |it: &super::Match| serde_json::to_value(it).unwrap_or_default();
    let (first, second) = (fields(earlier), fields(later));
    let conditions = first.as_object().into_iter().flatten();
    let mut conditions =
        conditions.filter(|(key, _)| !matches!(key.as_str(), "nodeLevel" | "allowOptOut"));
    (earlier.node_level || !later.node_level)
        && conditions.all(|(key, value)| second.get(key) == Some(value))
        // A named namespace may be one that other policies exclude.
        && second.get("namespaces") == first.get("namespaces")
}

/// The message that `later` is never chosen. `text` is its source and text, `name` the place of its
/// name.
pub(super) fn never_chosen(
    earlier: &ImageSwapPolicy,
    later: &ImageSwapPolicy,
    (source, text): (&str, &str),
    name: Span,
) -> Diagnostic {
    let (first, second) = (&earlier.metadata.name, &later.metadata.name);
    let message = format!(
        "policy `{second}` is never chosen: `{first}` applies to all its Pods and comes first"
    );
    let higher = earlier.spec.priority.saturating_add(10);
    Diagnostic {
        help: Some(format!(
            "write `priority: {higher}` in `{second}`, or narrow `match` of `{first}`"
        )),
        field: Some("metadata.name".to_owned()),
        ..name.diagnostic(source, text, Severity::Warning, "never-chosen", message)
    }
}
