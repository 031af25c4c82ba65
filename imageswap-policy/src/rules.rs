//! The compiled form that every policy format becomes, and the one engine that decides by it.
//!
//! A policy is an ordered list of rules, of which the first that matches speaks, and the places that its rules
//! lead to. Formats differ in the rules that they compile to, never in how rules are applied.

use crate::document::Enforcement;
use crate::pattern::Pattern;
use crate::reference::Reference;
use std::collections::BTreeSet;
use time::Date;

mod action;
mod decide;
mod glob;
mod index;
mod matcher;
mod patterns;
mod place;
mod regexes;
mod revision;
mod scope;

pub(crate) use action::{Action, Join, Target};
pub(crate) use decide::Asking;
pub(crate) use glob::Glob;
use index::Index;
pub(crate) use matcher::Matcher;
use patterns::PatternSet;
pub(crate) use place::Place;
use place::Places;
pub(crate) use regexes::{Expression, RegexError, Regexes, Template};
pub(crate) use scope::{NAMESPACE_NAME, ScopeRule};

/// One compiled rule.
#[derive(Debug, Clone)]
pub(crate) struct Rule {
    /// The name that its file gives it.
    pub(crate) name: String,
    pub(crate) matcher: Matcher,
    pub(crate) action: Action,
}

/// What is approved.
#[derive(Debug, Clone)]
pub(crate) enum Approval {
    /// Where rules lead to, and what rules keep as approved.
    ByRules {
        /// Whether an image that no rule speaks of is approved, too.
        rest: bool,
    },
    /// What one of these patterns means, and nothing else.
    Listed(Vec<Pattern>),
}

/// An image that stays and is approved through a day.
#[derive(Debug, Clone)]
pub(crate) struct Exception {
    /// For messages: where it is written, its end and its reason.
    pub(crate) name: String,
    pub(crate) pattern: Pattern,
    /// The last day, in UTC.
    pub(crate) until: Date,
}

/// A Secret that a Pod needs for images from a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PullSecret {
    registry: String,
    name: String,
}

/// What a format hands over to become a [`Policy`].
#[derive(Debug, Clone)]
pub(crate) struct Draft {
    pub(crate) name: String,
    pub(crate) priority: i32,
    pub(crate) scope: ScopeRule,
    /// First match wins.
    pub(crate) rules: Vec<Rule>,
    /// Where the rules lead to; what lies there is not moved there again.
    pub(crate) targets: Vec<Place>,
    pub(crate) approval: Approval,
    pub(crate) exceptions: Vec<Exception>,
    /// The expressions of the rules, by the rules' positions.
    pub(crate) regexes: Option<Regexes>,
    /// Registry hosts that the text names.
    pub(crate) registries: BTreeSet<String>,
    pub(crate) enforcement: Enforcement,
    /// Whether admission changes images, or only says what it would do.
    pub(crate) swaps: bool,
    pub(crate) message: Option<String>,
    pub(crate) pull_secrets: Vec<PullSecret>,
    /// Whether a result has to stay under ImageSwap too, which takes a registry without a dot for a path.
    pub(crate) as_imageswap: bool,
}

/// A compiled policy: immutable, cheap to share, and the only thing that decides.
#[derive(Debug, Clone)]
pub struct Policy {
    name: String,
    priority: i32,
    revision: String,
    scope: ScopeRule,
    rules: Vec<Rule>,
    index: Index,
    targets: Places,
    approval: Approved,
    exceptions: Vec<Exception>,
    registries: BTreeSet<String>,
    enforcement: Enforcement,
    swaps: bool,
    message: Option<String>,
    pull_secrets: Vec<PullSecret>,
    /// What is approved, for people.
    places: Vec<String>,
    as_imageswap: bool,
}

/// [`Approval`], compiled.
#[derive(Debug, Clone)]
enum Approved {
    ByRules { rest: bool },
    Listed(PatternSet),
}

impl Policy {
    pub(crate) fn compile(draft: Draft) -> Self {
        Self {
            places: places(&draft),
            revision: revision::of(&draft),
            index: Index::new(&draft.rules, draft.regexes),
            targets: Places::new(draft.targets),
            name: draft.name,
            priority: draft.priority,
            scope: draft.scope,
            rules: draft.rules,
            approval: match draft.approval {
                Approval::ByRules { rest } => Approved::ByRules { rest },
                Approval::Listed(patterns) => Approved::Listed(PatternSet::new(patterns)),
            },
            exceptions: draft.exceptions,
            registries: draft.registries,
            enforcement: draft.enforcement,
            swaps: draft.swaps,
            message: draft.message,
            pull_secrets: draft.pull_secrets,
            as_imageswap: draft.as_imageswap,
        }
    }

    /// Name of the policy, for findings and metrics.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Of the policies that match a Pod, the one with the highest priority decides; among equals, the first by name.
    pub fn priority(&self) -> i32 {
        self.priority
    }

    /// Short hash of the compiled policy; equal revisions decide alike, in every process.
    pub fn revision(&self) -> &str {
        &self.revision
    }

    /// What is to be done about an image that is not approved.
    pub fn enforcement(&self) -> Enforcement {
        self.enforcement
    }

    /// Whether admission is to change images. A policy under audit only says what it would change; ImageSwap's maps
    /// files never deny, and yet swap.
    pub fn swaps(&self) -> bool {
        self.swaps
    }

    /// What its author wants to be said about an image that is not approved.
    pub fn message(&self) -> Option<&str> {
        self.message.as_deref()
    }

    /// The Secrets that Pods need for images from certain registries, in the order of the document.
    pub fn pull_secrets(&self) -> &[PullSecret] {
        &self.pull_secrets
    }

    /// Patterns of what is approved, for messages; exceptions are left out.
    pub fn approved_places(&self) -> &[String] {
        &self.places
    }

    /// The pattern of each exception as written, and the last day on which it holds, in UTC.
    pub fn exceptions(&self) -> impl Iterator<Item = (&str, Date)> {
        self.exceptions
            .iter()
            .map(|it| (it.pattern.as_str(), it.until))
    }

    /// Registry hosts that the policy names, canonical; a bounded set for metric labels.
    pub fn registries(&self) -> impl Iterator<Item = &str> {
        self.registries.iter().map(String::as_str)
    }

    /// Whether `image` lies under a target: a place that the policy's own rules lead to.
    pub fn is_under_target(&self, image: &str) -> bool {
        Reference::parse(image).is_ok_and(|it| self.targets.cover(&it))
    }

    /// Names of the rules, in the order in which they are tried.
    pub fn rules(&self) -> impl Iterator<Item = &str> {
        self.rules.iter().map(|it| it.name.as_str())
    }

    pub(crate) fn rule_name(&self, at: usize) -> &str {
        &self.rules[at].name
    }

    pub(crate) fn scope(&self) -> &ScopeRule {
        &self.scope
    }
}

/// Patterns of what is approved, each once, in the order of the rules.
fn places(draft: &Draft) -> Vec<String> {
    let mut places = Vec::new();
    let mut add = |text: String| {
        if !places.contains(&text) {
            places.push(text);
        }
    };
    match &draft.approval {
        Approval::Listed(patterns) => patterns.iter().for_each(|it| add(it.as_str().to_owned())),
        Approval::ByRules { .. } => {
            draft.targets.iter().for_each(|it| add(it.to_string()));
            let kept = draft.rules.iter();
            kept.filter(|it| matches!(it.action, Action::Keep { approved: true }))
                .filter_map(|it| match &it.matcher {
                    Matcher::Pattern(pattern) => Some(pattern.as_str().to_owned()),
                    _ => None,
                })
                .for_each(add);
        }
    }
    places
}

impl PullSecret {
    pub(crate) fn new(registry: String, name: String) -> Self {
        Self { registry, name }
    }

    /// The registry: a canonical host, with its port where it has one.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// Name of the Secret, in the Pod's namespace.
    pub fn name(&self) -> &str {
        &self.name
    }
}
