//! Likely mistakes in one document: it loads, but probably does not do what its author meant.

use super::super::compile::{Compiled, CompiledRule};
use super::{SPEC, rule_path, source_key};
use crate::guard::Guard;
use crate::pattern::Pattern;
use crate::rules::{Guarded, Matcher};
use crate::yaml::places::{Messages, Step};
use std::collections::HashMap;

/// Tags that people write where a pattern of images is expected.
const TAGS: [&str; 6] = ["latest", "dev", "edge", "main", "master", "nightly"];

/// Messages of the linter alone.
pub(in crate::document) fn lint(compiled: &Compiled, messages: &mut Messages<'_>) {
    shadowed(&compiled.rules, messages);
    merged(&compiled.rules, messages);
    for rule in &compiled.rules {
        let path = rule_path(rule, source_key(rule));
        match &rule.matcher {
            Matcher::Pattern(pattern) => shape(pattern, &path, messages),
            Matcher::Regex(expression) => {
                let text = expression.as_str();
                if !(text.starts_with('^') && text.ends_with('$')) {
                    let message = "the regex has to match the whole reference, not a part of it";
                    let help = format!("write `^{}$` to say so", text.trim_matches(['^', '$']));
                    messages.warn(&path, "unanchored-regex", message).help = Some(help);
                }
            }
        }
    }
    let denies = |pattern: &Pattern, guard: &Guard| {
        let mut all = compiled.denied.iter();
        let by = all.find(|(_, it, _)| it.guard.covers(guard) && it.pattern.covers(pattern));
        by.map(|(_, it, denial)| {
            format!(
                "`{}` (`{}`) denies everything that this matches",
                denial.name, it.pattern
            )
        })
    };
    for (at, Guarded { pattern, .. }, _) in &compiled.denied {
        let text = pattern.as_str();
        if TAGS.contains(&text) {
            let path = [SPEC, Step::Key("denied"), Step::Index(*at)];
            let message = format!("`{text}` is the image docker.io/library/{text}, not a tag");
            messages.warn(&path, "denied-tag", message).help =
                Some(format!("write `**:{text}` to deny the tag on any image"));
        }
    }
    for rule in compiled.rules.iter().filter(|it| it.swap.is_none()) {
        if let Matcher::Pattern(pattern) = &rule.matcher
            && let Some(message) = denies(pattern, &rule.guard)
        {
            messages.warn(&rule_path(rule, "keep"), "always-denied", message);
        }
    }
    for (at, Guarded { pattern, guard }) in compiled.approved.iter().flatten() {
        let path = [SPEC, Step::Key("approved"), Step::Index(*at)];
        shape(pattern, &path, messages);
        if let Some(message) = denies(pattern, guard) {
            messages.warn(&path, "always-denied", message);
        }
        if pattern.is_any_registry() {
            let message = format!("`{pattern}` approves images of any registry");
            messages.warn(&path, "any-registry", message).help =
                Some("name the registries".to_owned());
        }
    }
}

fn shadowed(rules: &[CompiledRule], messages: &mut Messages<'_>) {
    let mut by_registry: HashMap<Option<&str>, Vec<usize>> = HashMap::new();
    for (position, rule) in rules.iter().enumerate() {
        let pattern = |at: usize| match &rules[at].matcher {
            Matcher::Pattern(pattern) => Some(pattern),
            Matcher::Regex(_) => None,
        };
        let own = pattern(position);
        let registry = own.and_then(Pattern::registry);
        // A pattern of one registry is covered by one of the same registry, or by one that spans
        // registries.
        let candidates = [Some(registry), registry.map(|_| None)];
        let earlier = candidates
            .into_iter()
            .flatten()
            .filter_map(|it| by_registry.get(&it))
            .flatten();
        let by = earlier.copied().find(|&at| {
            let Some(by) = pattern(at) else { return false };
            rules[at].guard.covers(&rules[position].guard)
                && own.map_or(by.is_everything(), |own| by.covers(own))
        });
        if let Some(by) = by {
            let message = format!(
                "rule `{}` is never reached: `{}` before it matches all its images",
                rule.name, rules[by].name
            );
            messages.warn(&rule_path(rule, source_key(rule)), "shadowed-rule", message);
        }
        if own.is_some() {
            by_registry.entry(registry).or_default().push(position);
        }
    }
}

/// Rules that drop the difference between two registries.
fn merged(rules: &[CompiledRule], messages: &mut Messages<'_>) {
    let mut by_target: HashMap<&str, (&str, &str)> = HashMap::new();
    for rule in rules {
        let (Matcher::Pattern(from), Some(swap)) = (&rule.matcher, &rule.swap) else {
            continue;
        };
        if from.is_repository() {
            continue;
        }
        let path = rule_path(rule, "to");
        let help = "give each registry a path of its own, as in `registry.example.com/quay`";
        match from.registry() {
            // To its author, one host with any port is one registry.
            None if from.is_one_host() => {}
            None => {
                let message = format!(
                    "`{from}` spans registries, and the name of the registry is dropped: images of two get one name"
                );
                messages.warn(&path, "merged-registries", message).help = Some(help.to_owned());
            }
            Some(registry) => {
                let first = by_target.entry(&swap.to).or_insert((registry, &rule.name));
                if first.0 != registry {
                    let message = format!(
                        "images of `{}` (rule `{}`) and of `{registry}` get one name here",
                        first.0, first.1
                    );
                    messages.warn(&path, "merged-registries", message).help = Some(help.to_owned());
                }
            }
        }
    }
}

fn shape(pattern: &Pattern, path: &[Step<'_>], messages: &mut Messages<'_>) {
    if pattern.is_shallow() {
        let text = pattern.as_str();
        let message = format!("`{text}` matches only repositories of one segment");
        messages.warn(path, "shallow-pattern", message).help =
            Some(format!("write `{text}*` for all of them"));
    }
    if pattern
        .registry()
        .is_some_and(|it| it.bytes().any(|it| it.is_ascii_uppercase()))
    {
        let text = pattern.as_str();
        let message = format!("`{text}` matches only images that are written in this case");
        messages.warn(path, "key-case", message).help =
            Some(format!("write `{}`", text.to_lowercase()));
    }
}
