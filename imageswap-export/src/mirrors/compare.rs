//! Compares mirrors with the policy, image by image.

use super::Mirror;
use imageswap_policy::document::{LabelSelector, Operator};
use imageswap_policy::{
    Date, MatcherOutline, Outline, PodScope, Policies, Reference, Scope, ScopeOutline,
};
use std::collections::{BTreeMap, BTreeSet};

const DIGEST: &str = "@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// The policy's answers for images near its patterns, in a Pod that it applies to.
pub(super) struct Comparison<'a> {
    policies: &'a Policies,
    today: Date,
    namespace: String,
    namespace_labels: BTreeMap<String, String>,
    labels: BTreeMap<String, String>,
    images: BTreeSet<String>,
}

/// The policy's answer: the canonical image that should run, and the rule.
struct Answer {
    result: String,
    rule: Option<String>,
}

impl<'a> Comparison<'a> {
    pub(super) fn new(policies: &'a Policies, outline: &Outline<'_>, today: Date) -> Self {
        let scope = &outline.scope;
        Self {
            policies,
            today,
            namespace: namespace(scope),
            namespace_labels: labels(scope.namespace_selector),
            labels: labels(scope.object_selector),
            images: images(outline),
        }
    }

    /// How images that the mirror serves, or that its rule is for, differ; `None` if they do not.
    pub(super) fn of_mirror(&self, mirror: &Mirror, all: &[Mirror]) -> Option<String> {
        self.first(all, |image, answer| {
            is_served(mirror, all, image) || answer.rule.as_deref() == Some(&mirror.rule)
        })
    }

    /// How images that a rule decides about differ; `None` if they do not.
    pub(super) fn of_rule(&self, rule: &str, all: &[Mirror]) -> Option<String> {
        self.first(all, |_, answer| answer.rule.as_deref() == Some(rule))
    }

    fn first(&self, all: &[Mirror], wanted: impl Fn(&str, &Answer) -> bool) -> Option<String> {
        self.images.iter().find_map(|image| {
            let Some(answer) = self.answer(image) else {
                return Some(format!(
                    "`{image}` could not be compared: no Pod is known that the policy applies to"
                ));
            };
            if !wanted(image, &answer) {
                return None;
            }
            let pulled = pulled(all, image);
            (pulled != answer.result).then(|| {
                format!(
                    "`{image}` would come from `{pulled}` instead of `{}`",
                    answer.result
                )
            })
        })
    }

    fn answer(&self, image: &str) -> Option<Answer> {
        let scope = Scope::Pod(PodScope {
            namespace: Some(&self.namespace),
            namespace_labels: Some(&self.namespace_labels),
            labels: Some(&self.labels),
        });
        let selected = self.policies.select(scope, self.today);
        let selected = selected.in_container(Some("app"));
        let decision = selected.decide(image);
        decision.in_scope.then(|| Answer {
            result: canonical(&decision.result),
            rule: decision.rule.map(str::to_owned),
        })
    }
}

/// Where a runtime with these mirrors pulls an image from.
fn pulled(mirrors: &[Mirror], image: &str) -> String {
    match longest(mirrors, image) {
        Some(it) => canonical(&format!("{}{}", it.location, &image[it.prefix.len()..])),
        None => image.to_owned(),
    }
}

fn is_served(mirror: &Mirror, all: &[Mirror], image: &str) -> bool {
    longest(all, image) == Some(mirror)
}

fn longest<'m>(mirrors: &'m [Mirror], image: &str) -> Option<&'m Mirror> {
    let begins = |it: &&Mirror| {
        let rest = image.strip_prefix(&it.prefix);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', ':', '@']))
    };
    mirrors
        .iter()
        .filter(begins)
        .max_by_key(|it| it.prefix.len())
}

fn canonical(image: &str) -> String {
    Reference::parse(image).map_or_else(|_| image.to_owned(), |it| it.canonical())
}

/// Canonical images near all patterns.
fn images(outline: &Outline<'_>) -> BTreeSet<String> {
    let mut images = BTreeSet::new();
    let mut add = |text: &str| {
        if let Ok(reference) = Reference::parse(text) {
            images.insert(reference.canonical());
        }
    };
    for rule in &outline.rules {
        let MatcherOutline::Pattern(pattern) = rule.matcher else {
            continue;
        };
        let written = pattern.to_string();
        for (many, one) in [("a", "x"), ("a/b", "y"), ("team/app/x", "z")] {
            add(&written.replace("**", many).replace('*', one));
        }
        let (beginning, _) = pattern.beginning();
        let name = beginning.trim_end_matches('/');
        for rest in [
            "",
            ":1",
            "/a",
            "/a:1",
            "/a/b",
            "/team/app/x:latest",
            "x",
            "x/a",
            "/library/a",
        ] {
            add(&format!("{name}{rest}"));
            add(&format!("{name}{rest}{DIGEST}"));
        }
    }
    for image in ["nginx", "bitnami/redis:1", "quay.io/a/b", "example.net/a"] {
        add(image);
    }
    images
}

/// A namespace that the policy applies to, as far as names decide.
fn namespace(scope: &ScopeOutline<'_>) -> String {
    let names = scope.namespaces.as_deref().unwrap_or(&["default"]);
    let name = names.first().copied().unwrap_or("default");
    name.replace('*', "x")
}

/// Labels that a selector selects.
fn labels(selector: &LabelSelector) -> BTreeMap<String, String> {
    let mut labels = selector.match_labels.clone();
    for it in &selector.match_expressions {
        match it.operator {
            Operator::In => {
                let value = it.values.first().cloned().unwrap_or_default();
                labels.entry(it.key.clone()).or_insert(value);
            }
            Operator::Exists => {
                labels
                    .entry(it.key.clone())
                    .or_insert_with(|| "x".to_owned());
            }
            Operator::NotIn | Operator::DoesNotExist => {}
        }
    }
    labels
}
